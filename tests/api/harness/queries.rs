//! How many statements a server sends to its database.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};

use super::office::Office;

/// Statements by the URL of the connection that sent them.
static SENT: Mutex<Option<HashMap<String, usize>>> = Mutex::new(None);

/// Counts for one connection.
#[derive(Default)]
struct Counter {
    url: String,
}

impl Instrumentation for Counter {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartEstablishConnection { url, .. } => url.clone_into(&mut self.url),
            InstrumentationEvent::StartQuery { query, .. } => {
                let text = query.to_string();
                let is_counted = ["SELECT ", "INSERT ", "UPDATE ", "DELETE "].iter().any(|kind| text.starts_with(kind));
                // The pool asks a connection to Postgres whether it is alive, and SQLite's writer what it has changed.
                let is_housekeeping = ["SELECT 1", "SELECT total_changes("].iter().any(|kind| text.starts_with(kind));
                if is_counted && !is_housekeeping {
                    let mut sent = SENT.lock().unwrap_or_else(PoisonError::into_inner);
                    *sent.get_or_insert_default().entry(self.url.clone()).or_default() += 1;
                }
            }
            _ => {}
        }
    }
}

/// Begins to count, for every connection that is opened from now on in this process.
pub(super) fn count() {
    set_default_instrumentation(|| Some(Box::new(Counter::default()))).unwrap();
}

impl Office {
    /// How many statements were sent to this test's database so far.
    fn db_statements(&self) -> usize {
        let url = self.database_url();
        let place = url.strip_prefix("sqlite://").unwrap_or(&url);
        let sent = SENT.lock().unwrap_or_else(PoisonError::into_inner);
        sent.iter().flatten().filter(|(other, _)| other.starts_with(place)).map(|(_, count)| count).sum()
    }

    /// How many statements `what` sends to the database. The fewest of several times, because the server sweeps meanwhile.
    pub fn statements_of(&self, what: impl Fn()) -> usize {
        let once = || {
            let before = self.db_statements();
            what();
            self.db_statements() - before
        };
        (0..5).map(|_| once()).min().unwrap_or_default()
    }
}
