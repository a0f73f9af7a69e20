//! One connection, to either database, and how it is opened.

use std::time::Duration;

use diesel::connection::{AnsiTransactionManager, CacheSize, SimpleConnection as _, TransactionManager as _};
use diesel::pg::PgConnection;
use diesel::r2d2::{ManageConnection, R2D2Connection as _};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sqlite::SqliteConnection;
use diesel::{Connection as _, ConnectionError, RunQueryDsl as _};

use super::error::OrDomain as _;
use crate::domain::error::{Error, Result};

/// A connection to the one database that this process uses.
#[derive(diesel::MultiConnection)]
pub enum Conn {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

/// Which database this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Postgres,
    Sqlite,
}

/// Whether the rows that are read stay as they are until the transaction ends.
///
/// SQLite has one writer at a time, so inside a write every row does. On Postgres they are locked, in the order of their ids, so that two transactions that
/// need the same rows wait for each other rather than block each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// For reading only.
    None,
    /// Others may read them, and lock them so too.
    Share,
    /// They are about to change.
    Update,
}

impl Conn {
    pub(super) fn begin(&mut self) -> Result<()> {
        match self {
            // A plain BEGIN lets two writers read before one writes, and then fails the other.
            Self::Sqlite(conn) => AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN IMMEDIATE").or_domain(),
            Self::Postgres(conn) => AnsiTransactionManager::begin_transaction(conn).or_domain(),
        }
    }

    pub(super) fn commit(&mut self) -> Result<()> {
        self.end_well().or_domain()
    }

    /// As [`commit`](Self::commit), and whether it was taken: `false` where a row refers to one that isn't there, and the transaction is still to be rolled back. (SQLite's
    /// foreign keys of sessions are deferred.)
    pub(super) fn commit_unless_refused(&mut self) -> Result<bool> {
        match self.end_well() {
            Err(DieselError::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _)) => Ok(false),
            committed => committed.or_domain().map(|()| true),
        }
    }

    fn end_well(&mut self) -> diesel::QueryResult<()> {
        match self {
            Self::Sqlite(conn) => AnsiTransactionManager::commit_transaction(conn),
            Self::Postgres(conn) => AnsiTransactionManager::commit_transaction(conn),
        }
    }

    /// Whether the server is still there; a file doesn't go away.
    pub(super) fn ping(&mut self) -> Result<()> {
        match self {
            Self::Postgres(conn) => conn.ping().or_domain(),
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// Whether what a write has read stays as it is until it commits, without a lock.
    pub fn stands_still(&self) -> bool {
        match self {
            Self::Postgres(_) => false,
            // One writer at a time, and nobody else's commit is seen inside its transaction.
            Self::Sqlite(_) => true,
        }
    }

    /// Makes whoever locks the same name of the same kind wait until this transaction ends. Two names may be taken for one, which costs a wait and nothing else.
    pub(super) fn lock_name(&mut self, kind: i32, name: &str) -> Result<()> {
        match self {
            Self::Postgres(conn) => {
                let lock = diesel::select(pg_advisory_xact_lock(kind, hashtext(name)));
                lock.execute(conn).or_domain().map(drop)
            }
            // One writer at a time anyway.
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// How many rows of SQLite's were changed through this connection since it was opened.
    pub(super) fn changes(&mut self) -> Result<i64> {
        match self {
            Self::Sqlite(conn) => diesel::select(total_changes()).get_result(conn).or_domain(),
            Self::Postgres(_) => Err(Error::internal("Postgres doesn't count changes")),
        }
    }

    /// Whether SQLite's transaction is still there. A trigger may have rolled it back (`RAISE(ROLLBACK)`), of which diesel doesn't know; then another one has begun
    /// now, for whoever ends it.
    pub(super) fn is_still_in_transaction(&mut self) -> bool {
        self.batch_execute("BEGIN").is_err()
    }

    /// Best effort, and whether it was done: a connection that can't roll back is thrown away by the pool.
    pub(super) fn roll_back(&mut self) -> bool {
        let rolled_back = match self {
            Self::Sqlite(conn) => AnsiTransactionManager::rollback_transaction(conn),
            Self::Postgres(conn) => AnsiTransactionManager::rollback_transaction(conn),
        };
        if let Err(error) = &rolled_back {
            tracing::debug!(%error, "a transaction could not be rolled back");
        }
        rolled_back.is_ok()
    }

    fn is_in_transaction(&mut self) -> bool {
        let status = match self {
            Self::Sqlite(conn) => AnsiTransactionManager::transaction_manager_status_mut(conn),
            Self::Postgres(conn) => AnsiTransactionManager::transaction_manager_status_mut(conn),
        };
        !matches!(status.transaction_depth(), Ok(None))
    }
}

diesel::define_sql_function! {
    /// SQLite's own.
    fn total_changes() -> diesel::sql_types::BigInt;
}
diesel::define_sql_function! {
    /// Postgres' own: held to the end of the transaction.
    fn pg_advisory_xact_lock(kind: diesel::sql_types::Integer, name: diesel::sql_types::Integer) -> diesel::sql_types::Text;
}
diesel::define_sql_function! {
    /// Postgres' own: a number made of a text, the same on every connection.
    fn hashtext(text: diesel::sql_types::Text) -> diesel::sql_types::Integer;
}

/// What a connection to SQLite is set to that writes:
///
/// - What undoes a statement is kept in memory. It would go to a file from 64 KB on, and that is three quarters of all that is written. (In one
///   piece, by `STMTJRNL_SPILL`, and not in pieces of 1 KB, it was no faster that could be told.)
/// - The WAL goes back into the database every 16 MiB and not every 4, because that takes two flushes, and the pages that change most go back once instead of four times.
/// - A long history's indexes are entered at places far apart, so 16 MiB of them stay in memory and not 2.
const WRITING: &str = "PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 4096; PRAGMA cache_size = -16384";

/// Opens connections for a pool.
#[derive(Debug, Clone)]
pub(super) struct Manager {
    pub url: String,
    pub backend: Backend,
    /// Refuses every write (SQLite; on Postgres a read shares its pool with the writes).
    pub query_only: bool,
    /// Between this process and Postgres something lends connections by the transaction. What is set on a connection, or prepared on it, is somebody else's after the
    /// transaction, so nothing is sent outside of one; but a `SELECT 1`, and what diesel sets at first: time zone and encoding, of which poolers keep track.
    pub is_pooled: bool,
    /// How long a statement may wait for another writer.
    pub lock_timeout: Duration,
}

impl Manager {
    /// Begins a transaction.
    pub fn begin(&self, conn: &mut Conn) -> Result<()> {
        match conn {
            Conn::Postgres(conn) if self.is_pooled => {
                let begun = AnsiTransactionManager::begin_transaction_sql(conn, &format!("BEGIN; {}", self.setup("SET LOCAL")));
                if begun.is_err() {
                    // It may have failed halfway, and diesel knows of no transaction then.
                    let _ = conn.batch_execute("ROLLBACK");
                }
                begun.or_domain()
            }
            conn => conn.begin(),
        }
    }

    /// What a connection to Postgres is set to. It bounds what a statement may take, so that a stuck server gives an answer. Naive times are UTC on both sides. Which
    /// index finds something follows from what is asked and not from the values, so a statement is planned once: to plan it at every use takes longer than to run it,
    /// as to compile it does. And there is an index for everything that is looked for: a plan that reads a table whole while it is small would be kept when it has grown.
    fn setup(&self, set: &str) -> String {
        let lock_ms = self.lock_timeout.as_millis();
        format!(
            "{set} lock_timeout = {lock_ms}; {set} statement_timeout = {}; {set} idle_in_transaction_session_timeout = 60000; {set} TIME ZONE 'UTC';
             {set} plan_cache_mode = force_generic_plan; {set} jit = off;
             {set} enable_seqscan = off; {set} enable_hashjoin = off; {set} enable_mergejoin = off",
            lock_ms * 2
        )
    }

    fn open(&self) -> Result<Conn, ConnectionError> {
        let lock_ms = self.lock_timeout.as_millis();
        match self.backend {
            Backend::Sqlite => {
                let mut conn = SqliteConnection::establish(&self.url)?;
                // WAL lets readers go on beside the writer; FULL makes every acknowledged commit durable. `recursive_triggers` makes REPLACE fire
                // delete triggers on our own connections; elsewhere an insert trigger stands in its way.
                conn.batch_execute(&format!("PRAGMA busy_timeout = {lock_ms}")).map_err(ConnectionError::CouldntSetupConfiguration)?;
                enter_wal(&mut conn).map_err(ConnectionError::CouldntSetupConfiguration)?;
                conn.batch_execute(
                    "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA recursive_triggers = ON; PRAGMA trusted_schema = OFF",
                )
                .map_err(ConnectionError::CouldntSetupConfiguration)?;
                conn.batch_execute(if self.query_only { "PRAGMA query_only = ON" } else { WRITING })
                    .map_err(ConnectionError::CouldntSetupConfiguration)?;
                Ok(Conn::Sqlite(conn))
            }
            Backend::Postgres => {
                let mut conn = PgConnection::establish(&self.url)?;
                if self.is_pooled {
                    conn.set_prepared_statement_cache_size(CacheSize::Disabled);
                } else {
                    conn.batch_execute(&self.setup("SET")).map_err(ConnectionError::CouldntSetupConfiguration)?;
                }
                Ok(Conn::Postgres(conn))
            }
        }
    }

    /// A connection of its own, outside every pool.
    pub(super) fn open_one(&self) -> Result<Conn> {
        self.open().map_err(Error::database_unavailable)
    }
}

/// Two connections that enter WAL on a new file at once would wait for each other, so SQLite refuses one of them at once whatever its busy timeout. That one
/// waits for the write lock, which knows the timeout, and tries again.
fn enter_wal(conn: &mut SqliteConnection) -> diesel::QueryResult<()> {
    const ATTEMPTS: u32 = 10;
    let mut result = conn.batch_execute("PRAGMA journal_mode = WAL");
    for _ in 1..ATTEMPTS {
        if result.is_ok() {
            break;
        }
        conn.batch_execute("BEGIN IMMEDIATE; COMMIT")?;
        result = conn.batch_execute("PRAGMA journal_mode = WAL");
    }
    result
}

impl ManageConnection for Manager {
    type Connection = Conn;
    type Error = diesel::r2d2::Error;

    fn connect(&self) -> Result<Conn, Self::Error> {
        self.open().map_err(diesel::r2d2::Error::ConnectionError)
    }

    fn is_valid(&self, conn: &mut Conn) -> Result<(), Self::Error> {
        conn.ping().map_err(|error| diesel::r2d2::Error::QueryError(diesel::result::Error::QueryBuilderError(Box::new(error))))
    }

    fn has_broken(&self, conn: &mut Conn) -> bool {
        // A panic leaves the transaction open, and with it its locks.
        std::thread::panicking() || conn.is_in_transaction()
    }
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;
    use diesel::sql_types::Text;

    diesel::define_sql_function! {
        fn sqlite_compileoption_used(option: Text) -> Integer;
    }

    /// What it costs otherwise: ARCHITECTURE.md, "Where the time goes".
    #[test]
    fn sqlite_is_compiled_as_the_configuration_says() {
        let mut conn = SqliteConnection::establish(":memory:").unwrap();
        for (option, expected) in [("ENABLE_QPSG", 1), ("DEFAULT_MEMSTATUS=0", 1), ("ENABLE_MEMORY_MANAGEMENT", 0)] {
            let used: i32 = diesel::select(sqlite_compileoption_used(option)).get_result(&mut conn).unwrap();
            assert_eq!(used, expected, "{option}; is .cargo/config.toml read?");
        }
    }
}
