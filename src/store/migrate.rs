//! The migrations, embedded in the binary, the same story on both databases.

use diesel::backend::Backend;
use diesel::connection::{AnsiTransactionManager, SimpleConnection as _, TransactionManager as _};
use diesel::dsl::sql;
use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel::sqlite::Sqlite;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

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
/// Where the database can't be reached, or a migration fails; then nothing stays of any that was pending: they are one transaction, in which none can be that
/// refuses to be in one (`CREATE INDEX CONCURRENTLY`).
pub fn run(db: &Db) -> Result<Vec<String>> {
    let mut conn = db.dedicated()?;
    // Each migration's own transaction becomes a savepoint in one around all of them.
    match &mut conn {
        Conn::Sqlite(conn) => {
            // A migration may sort a large table, which has no place in memory.
            conn.batch_execute("PRAGMA temp_store = DEFAULT").or_domain()?;
            run_within(conn, "BEGIN EXCLUSIVE", SQLITE)
        }
        Conn::Postgres(conn) => {
            // A migration may take longer than a request may. The lock is the transaction's: behind a pooler a connection's would soon be somebody else's.
            let begin = format!(
                "BEGIN; SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0; SET LOCAL TIME ZONE 'UTC';
                 SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"
            );
            run_within(conn, &begin, POSTGRES)
        }
    }
}

fn run_within<C>(conn: &mut C, begin: &str, migrations: EmbeddedMigrations) -> Result<Vec<String>>
where
    C: MigrationHarness<C::Backend> + Connection<TransactionManager = AnsiTransactionManager>,
    EmbeddedMigrations: MigrationSource<C::Backend>,
{
    AnsiTransactionManager::begin_transaction_sql(conn, begin).or_domain()?;
    match conn.run_pending_migrations(migrations).map(|ran| ran.iter().map(ToString::to_string).collect()) {
        Ok(ran) => AnsiTransactionManager::commit_transaction(conn).or_domain().map(|()| ran),
        // The connection is dropped, and with it the transaction.
        Err(error) => Err(Error::internal(format!("a migration failed: {error}"))),
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
