//! Floor 2: the use cases, one function each, over a connection. Imports auth, store and domain; knows nothing of HTTP.
//!
//! [`Office`] holds what they share and is the gate: [`Office::admit`] turns a token into a [`Caller`], and [`Office::read`] and [`Office::write`] run a use
//! case for one. A write asks again, inside its transaction and with the session's row locked, whether the caller's session still counts, so that nothing
//! commits under a session once the call that ended it has answered.

pub mod articles;
pub mod clients;
mod ending;
pub mod explain;
mod gate;
pub mod grants;
pub mod history;
pub mod impersonations;
pub mod keys;
pub mod login;
pub mod logout;
pub mod oauth;
mod office;
pub mod passwords;
pub mod policy;
pub mod sessions;
pub mod sweep;
pub mod undo;
pub mod users;

pub use gate::{Caller, Presented, Tx, run_command};
pub use office::{Client, Event, Observer, Office, Settings};

/// What the floors above may use of the store: opening the database and asking how it is.
pub mod database {
    pub use crate::store::migrate::{is_current, run as migrate};
    pub use crate::store::users::UserFilter;
    pub use crate::store::{Backend, Conn, Db, Lock, Options, PoolState};
}
