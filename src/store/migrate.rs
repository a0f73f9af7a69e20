//! The migrations, embedded in the binary, the same story on both databases.

use diesel::RunQueryDsl as _;
use diesel::connection::{AnsiTransactionManager, SimpleConnection as _, TransactionManager as _};
use diesel::dsl::sql;
use diesel::sql_types::Bool;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};

use super::conn::Conn;
use super::db::Db;
use super::error::OrDomain as _;
use crate::domain::error::{Error, Result};

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Any number, the same in every instance: who holds it migrates.
const ADVISORY_LOCK: i64 = 0x41_43_54_41_53;

/// Brings the database to this binary's schema and answers the names of the migrations that it ran. Many instances may start at once: one migrates, the
/// others wait and find nothing to do.
///
/// # Errors
/// Where the database can't be reached, or a migration fails; then nothing of that migration stays.
pub fn run(db: &Db) -> Result<Vec<String>> {
    let mut conn = db.dedicated()?;
    match &mut conn {
        Conn::Sqlite(conn) => {
            // Each migration's own transaction becomes a savepoint in this one.
            AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN EXCLUSIVE").or_domain()?;
            match conn.run_pending_migrations(SQLITE).map(|ran| ran.iter().map(ToString::to_string).collect()) {
                Ok(ran) => AnsiTransactionManager::commit_transaction(conn).or_domain().map(|()| ran),
                // The connection is dropped, and with it the transaction.
                Err(error) => Err(Error::internal(format!("a migration failed: {error}"))),
            }
        }
        Conn::Postgres(conn) => {
            // A migration may take longer than a request may. The lock goes with the connection.
            conn.batch_execute(&format!("SET lock_timeout = 0; SET statement_timeout = 0; SELECT pg_advisory_lock({ADVISORY_LOCK})"))
                .or_domain()?;
            let ran = conn.run_pending_migrations(POSTGRES).map(|ran| ran.iter().map(ToString::to_string).collect());
            ran.map_err(|error| Error::internal(format!("a migration failed: {error}")))
        }
    }
}

/// Whether the database can be reached and has every migration of this binary.
///
/// # Errors
/// Where it can't be asked.
pub fn is_current(conn: &mut Conn) -> Result<bool> {
    let pending = match conn {
        Conn::Sqlite(conn) => {
            // To look for migrations makes the table of them where it seems to be missing. A connection that only reads can't, and
            // one that was opened before the migrations takes the table for missing until it has read anything.
            let is_begun = sql::<Bool>("EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '__diesel_schema_migrations')");
            if !diesel::select(is_begun).get_result::<bool>(conn).or_domain()? {
                return Ok(false);
            }
            conn.has_pending_migration(SQLITE)
        }
        Conn::Postgres(conn) => conn.has_pending_migration(POSTGRES),
    };
    pending.map(|pending| !pending).map_err(Error::database_unavailable)
}
