//! What the databases say, in the words of the domain. SQL goes to the log, never to a caller.

use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error as DieselError};

use crate::domain::error::{Code, Error, Result};

/// Turns a query's result into the domain's.
pub(super) trait OrDomain<T> {
    fn or_domain(self) -> Result<T>;
}

impl<T> OrDomain<T> for diesel::QueryResult<T> {
    fn or_domain(self) -> Result<T> {
        self.map_err(from_diesel)
    }
}

pub(super) fn from_diesel(error: DieselError) -> Error {
    match error {
        DieselError::DatabaseError(kind, info) => from_database(&kind, info.as_ref()),
        DieselError::BrokenTransactionManager => Error::database_unavailable("the connection broke inside a transaction"),
        other => Error::internal(other),
    }
}

fn from_database(kind: &DatabaseErrorKind, info: &(dyn DatabaseErrorInformation + Send + Sync)) -> Error {
    let message = info.message();
    match kind {
        DatabaseErrorKind::SerializationFailure => Error::lost_race(message),
        DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand => Error::database_unavailable(message),
        // Postgres names the constraint, SQLite the column.
        DatabaseErrorKind::UniqueViolation if info.constraint_name().unwrap_or(message).contains("email_key") => email_taken(),
        // Two writers that saw the same state, and would both write what follows it.
        DatabaseErrorKind::UniqueViolation => Error::lost_race(message),
        // diesel has no kind for a deadlock (SQLSTATE 40P01), for a server that goes away (57P) or for SQLite's SQLITE_BUSY.
        _ if message.contains("deadlock detected") => Error::lost_race(message),
        // SQLite waited for the other writer as long as it may.
        _ if message.contains("database is locked") => Error::overloaded(),
        _ if UNAVAILABLE.iter().any(|part| message.contains(part)) => Error::database_unavailable(message),
        _ => Error::internal(message),
    }
}

/// 409: the address is somebody's.
pub(super) fn email_taken() -> Error {
    Error::new(Code::EmailTaken, "another account has this e-mail address")
}

/// How libpq and Postgres say that the server went away, is starting, or took longer than it may.
const UNAVAILABLE: &[&str] = &[
    "terminating connection",
    "server closed the connection",
    "the database system is",
    "connection to server",
    "no connection to the server",
    "could not receive data",
    "could not send data",
    "SSL connection has been closed",
    "SSL SYSCALL error",
    "statement timeout",
    "lock timeout",
    "too many clients",
    "read-only transaction",
];
