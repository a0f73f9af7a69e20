//! A database for each test, and a client of it that is not Actas.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use diesel::connection::SimpleConnection as _;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{Connection as _, PgConnection, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_query};
use tempfile::TempDir;

use super::{pooler, postgres};

/// Which kind of database a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    pub const ALL: [Self; 2] = [Self::Sqlite, Self::Postgres];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One test's database. Gone when it is dropped.
pub struct Database {
    url: String,
    place: Place,
}

enum Place {
    File(TempDir),
    Postgres { name: String },
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Nullable<Text>)]
    value: Option<String>,
}

#[derive(QueryableByName)]
struct Step {
    #[diesel(sql_type = Text)]
    detail: String,
}

/// Runs `$query` on a connection of its own, of the kind that the database needs.
macro_rules! on_connection {
    ($database:expr, |$connection:ident| $query:expr) => {
        match &$database.place {
            Place::File(directory) => {
                let path = directory.path().join(FILE);
                let mut $connection = SqliteConnection::establish(&path.to_string_lossy()).map_err(|error| error.to_string())?;
                // The server may be writing.
                $connection.batch_execute("PRAGMA busy_timeout = 10000").map_err(|error| error.to_string())?;
                $query.map_err(|error| error.to_string())
            }
            Place::Postgres { .. } => {
                let mut $connection = PgConnection::establish(&$database.url).map_err(|error| error.to_string())?;
                $query.map_err(|error| error.to_string())
            }
        }
    };
}

const FILE: &str = "actas.db";

impl Database {
    /// A database in which a server finds everything in place, or, on SQLite, will have put it there in two milliseconds.
    pub fn migrated(backend: Backend) -> Self {
        Self::create(backend, postgres::Server::create_migrated)
    }

    /// An empty database.
    pub fn bare(backend: Backend) -> Self {
        Self::create(backend, postgres::Server::create_bare)
    }

    fn create(backend: Backend, on_postgres: fn(&postgres::Server, &str) -> Result<(), String>) -> Self {
        match backend {
            Backend::Sqlite => {
                let directory = tempfile::Builder::new().prefix("actas-test-").tempdir().unwrap();
                Self { url: format!("sqlite://{}", directory.path().join(FILE).display()), place: Place::File(directory) }
            }
            Backend::Postgres => {
                static MADE: AtomicU32 = AtomicU32::new(0);
                let name = format!("actas_test_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
                let server = postgres::server();
                on_postgres(server, &name).unwrap_or_else(|why| panic!("the database could not be made: {why}"));
                Self { url: server.url_of(&name), place: Place::Postgres { name } }
            }
        }
    }

    pub fn backend(&self) -> Backend {
        match self.place {
            Place::File(_) => Backend::Sqlite,
            Place::Postgres { .. } => Backend::Postgres,
        }
    }

    /// What `ACTAS_DATABASE_URL` is for it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// [`Database::url`] through PgBouncer.
    pub fn pooled_url(&self) -> String {
        match &self.place {
            Place::Postgres { name } => pooler::url_of(name),
            Place::File(_) => panic!("there is no pooler for files"),
        }
    }

    /// Ends every connection to it and lets no other in.
    pub fn close(&self) {
        match &self.place {
            Place::Postgres { name } => postgres::server().close(name).unwrap(),
            Place::File(_) => panic!("a file can't be closed"),
        }
    }

    /// Runs one statement as any client might that is not Actas, and tells how many rows it changed.
    pub fn execute(&self, sql: &str) -> Result<usize, String> {
        on_connection!(self, |connection| sql_query(sql).execute(&mut connection))
    }

    /// Runs statements one after the other on one connection, and stops at the first that is refused.
    pub fn script(&self, sql: &str) -> Result<(), String> {
        on_connection!(self, |connection| connection.batch_execute(sql))
    }

    /// The first column of every row that `sql` answers, as text.
    pub fn lines(&self, sql: &str) -> Vec<String> {
        let ask = || on_connection!(self, |connection| sql_query(sql).load::<Line>(&mut connection));
        let lines = ask().unwrap_or_else(|why| panic!("{sql}: {why}"));
        lines.into_iter().map(|line| line.value.unwrap_or_default()).collect()
    }

    /// Does `what` while another client holds a lock on a whole table of Postgres that keeps off reads and writes alike. What then waits for ever fails the test.
    pub fn while_locked(&self, table: &str, what: impl FnOnce() + Send) {
        let mut holder = PgConnection::establish(&self.url).unwrap();
        holder.batch_execute(&format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).unwrap();
        std::thread::scope(|scope| {
            let (done, wait) = std::sync::mpsc::channel();
            let doing = scope.spawn(move || {
                what();
                let _ = done.send(());
            });
            let waited = wait.recv_timeout(std::time::Duration::from_secs(20));
            holder.batch_execute("COMMIT").unwrap();
            doing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            waited.expect("it waited as long as the lock was held");
        });
    }

    /// [`Database::lines`] by somebody to whom the pooler lends a connection that Actas has had.
    pub fn pooled_lines(&self, sql: &str) -> Vec<String> {
        let mut connection = PgConnection::establish(&self.pooled_url()).unwrap();
        let lines = connection.transaction(|connection| sql_query(sql).load::<Line>(connection));
        lines.unwrap_or_else(|why| panic!("{sql}: {why}")).into_iter().map(|line| line.value.unwrap_or_default()).collect()
    }

    /// How the database would answer `sql`, whose parameters may stay open: a line a step.
    pub fn plan(&self, sql: &str) -> Vec<String> {
        match &self.place {
            Place::File(directory) => {
                let mut connection = SqliteConnection::establish(&directory.path().join(FILE).to_string_lossy()).unwrap();
                let steps: Vec<Step> = sql_query(format!("EXPLAIN QUERY PLAN {sql}")).load(&mut connection).unwrap();
                steps.into_iter().map(|step| step.detail).collect()
            }
            Place::Postgres { .. } => {
                let mut connection = PgConnection::establish(&self.url).unwrap();
                let open = (1..20).take_while(|number| sql.contains(&format!("${number}"))).map(|_| "NULL");
                let arguments = open.collect::<Vec<_>>().join(", ");
                let arguments = if arguments.is_empty() { String::new() } else { format!("({arguments})") };
                let setup = format!(
                    "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; SET plan_cache_mode = force_generic_plan;
                     PREPARE asked AS {sql};
                     CREATE FUNCTION pg_temp.plan() RETURNS SETOF text LANGUAGE plpgsql
                     AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) EXECUTE asked{arguments}'; END $$"
                );
                connection.batch_execute(&setup).unwrap_or_else(|why| panic!("{sql}: {why}"));
                let steps = sql_query("SELECT plan AS value FROM pg_temp.plan() AS plan").load::<Line>(&mut connection);
                steps.unwrap_or_else(|why| panic!("{sql}: {why}")).into_iter().filter_map(|line| line.value).collect()
            }
        }
    }

    /// The number that `sql`, such as `SELECT count(*) FROM users`, answers.
    pub fn number(&self, sql: &str) -> i64 {
        let ask = || {
            on_connection!(self, |connection| sql_query(format!("SELECT CAST(({sql}) AS BIGINT) AS value"))
                .get_result::<Number>(&mut connection))
        };
        ask().map(|number| number.value).unwrap_or_else(|why| panic!("{sql}: {why}"))
    }

    /// The one value that `sql` answers, as text; `None` where it is null or there is no row.
    pub fn text(&self, sql: &str) -> Option<String> {
        let ask = || {
            let sql = format!("SELECT CAST(({sql}) AS TEXT) AS value");
            on_connection!(self, |connection| sql_query(sql).get_result::<Line>(&mut connection))
        };
        ask().map(|line| line.value).unwrap_or_else(|why| panic!("{sql}: {why}"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Place::Postgres { name } = &self.place {
            // The run's end removes the whole server, so a failure here costs only space.
            let _ = postgres::server().drop(name);
        }
    }
}
