//! Floor 1: rows. The only place that names diesel, and the only one that knows there are two databases.
//!
//! [`Db::read`] and [`Db::write`] are the two ways in; how writes reach the database can change behind them. Everything else takes a [`Conn`], one file a
//! group of tables, and speaks in domain values: row structs stay here.
//!
//! **Architecture Invariant:** a function that changes an article or a user takes the entry of that change and writes it first; the database refuses a row
//! without the entry of its version. Imports [`crate::domain`] alone.

pub mod articles;
mod at_once;
pub mod clients;
mod columns;
mod conn;
mod db;
pub mod entries;
mod error;
pub mod keys;
pub mod migrate;
pub mod policies;
mod presence;
mod schema;
pub mod sessions;
mod shared;
mod statement;
pub mod token_sessions;
pub mod users;
mod writer;

pub use at_once::{DecidedChange, DecidedLeave, DecidedStart, Departure, Ground};
pub use conn::{Backend, Conn, Lock};
pub use db::{Db, Options, PoolState};
