//! The only place where the harness calls into Actas. Everything else speaks HTTP or SQL.

#![expect(clippy::todo, reason = "the server is not there yet")]

use std::net::SocketAddr;

use actas::config::Config;

use super::office::Clock;

/// A server that runs in this process.
pub struct Server {
    pub address: SocketAddr,
    /// Where `ACTAS_OPS_BIND` is set.
    pub ops_address: Option<SocketAddr>,
    /// Shuts it down gracefully, waits until its threads and connections are gone, and frees its lock on the database.
    pub stop: Box<dyn FnOnce() + Send>,
}

/// A user to be made without HTTP, active and with a password.
pub struct NewUser<'a> {
    pub email: &'a str,
    pub display_name: &'a str,
    /// A role's spelling, such as `editor`.
    pub role: &'a str,
    pub password: &'a str,
}

/// Starts a server as `actas serve` does, migrations included, in a thread of its own with an actix `System` of its own. It
/// asks `clock` for every instant. Returns when it accepts connections.
///
/// # Errors
/// What `actas serve` would print when it can't start.
pub fn start_server(config: Config, clock: &Clock) -> Result<Server, String> {
    let _ = (config, clock);
    todo!("start the server")
}

/// Makes a user as `actas user create` does, beside a running server, and answers the id.
///
/// # Errors
/// What `actas user create` would print.
pub fn create_user(config: &Config, clock: &Clock, user: &NewUser<'_>) -> Result<String, String> {
    let _ = (config, clock, user.email, user.display_name, user.role, user.password);
    todo!("create the user")
}

/// Migrates the database as `actas migrate` does, and closes every connection to it.
///
/// # Errors
/// What `actas migrate` would print.
pub fn migrate(url: &str) -> Result<(), String> {
    let _ = url;
    todo!("migrate the database")
}
