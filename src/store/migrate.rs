//! The migrations, embedded in the binary, the same story on both databases.

use diesel::backend::Backend;
use diesel::connection::{AnsiTransactionManager, SimpleConnection as _, TransactionManager as _};
use diesel::dsl::sql;
use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel::sqlite::Sqlite;
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
            // A migration may sort a large table, which has no place in memory.
            conn.batch_execute("PRAGMA temp_store = DEFAULT").or_domain()?;
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

diesel::table! {
    #[sql_name = "__diesel_schema_migrations"]
    applied_migrations (version) {
        version -> Text,
    }
}

/// Whether the database can be reached and has every migration of this binary. Only looks: diesel's own question begins with a CREATE TABLE, which a
/// connection for reading refuses.
///
/// # Errors
/// Where it can't be asked.
pub fn is_current(conn: &mut Conn) -> Result<bool> {
    let (known, is_begun) = match conn {
        Conn::Sqlite(_) => {
            let is_begun = "EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '__diesel_schema_migrations')";
            (versions::<Sqlite>(&SQLITE), is_begun)
        }
        Conn::Postgres(_) => (versions::<Pg>(&POSTGRES), "to_regclass('__diesel_schema_migrations') IS NOT NULL"),
    };
    if !diesel::select(sql::<Bool>(is_begun)).get_result::<bool>(conn).map_err(Error::database_unavailable)? {
        return Ok(false);
    }
    let known = known.map_err(|error| Error::internal(format!("the embedded migrations can't be read: {error}")))?;
    let applied: Vec<String> =
        applied_migrations::table.select(applied_migrations::version).load(conn).map_err(Error::database_unavailable)?;
    Ok(known.iter().all(|version| applied.contains(version)))
}

fn versions<B: Backend>(embedded: &EmbeddedMigrations) -> diesel::migration::Result<Vec<String>>
where
    EmbeddedMigrations: MigrationSource<B>,
{
    let migrations = MigrationSource::<B>::migrations(embedded)?;
    Ok(migrations.iter().map(|migration| migration.name().version().to_string()).collect())
}
