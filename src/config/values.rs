//! What a setting's value is, once it was found to be one.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use super::parse::is_host_name;

/// Something that no log may show. `Debug` doesn't; there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The secret itself, for the one place that uses it.
    pub fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Which database, by the scheme of its URL. Nothing but a known scheme is one: a misspelt `postgress:x` must never become
/// an SQLite file of that name.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    Sqlite(PathBuf),
    /// The URL as libpq takes it.
    Postgres(Secret<String>),
}

impl DatabaseUrl {
    /// Accepts `sqlite://PATH`, `postgres://…` and `postgresql://…`, or says what is allowed, without repeating `text`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains('\0') {
            return Err("must not contain NUL".to_owned());
        }
        if let Some(path) = text.strip_prefix("sqlite://") {
            if path.is_empty() || path.ends_with('/') {
                return Err("must name a file: `sqlite://PATH`, or `sqlite:///PATH` from the root".to_owned());
            }
            if path.contains(['?', '#']) || path.starts_with(":memory:") {
                return Err("must name a plain file after `sqlite://`: parameters and in-memory databases are not possible".to_owned());
            }
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        match rest {
            Some(rest) if !rest.is_empty() => Ok(Self::Postgres(Secret::new(text.to_owned()))),
            _ => Err("must begin with `sqlite://`, `postgres://` or `postgresql://` and say which database".to_owned()),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    /// The URL without its user, password and parameters. Where it is written so oddly that those can't be told from the
    /// rest, only the scheme.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(url) => {
                let place = postgres_place(url.reveal()).unwrap_or("…");
                write!(f, "postgres://{place}")
            }
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Host, port and database of a Postgres URL, if it is beyond doubt that they hold no part of a password.
fn postgres_place(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (user, place) = rest.split_once('@').unwrap_or(("", rest));
    let (place, parameters) = place.split_once('?').unwrap_or((place, ""));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/' | '[' | ']' | ',');
    let beyond_doubt = !user.contains(['/', '?']) && place.chars().all(plain) && !parameters.contains('@');
    beyond_doubt.then_some(place)
}

/// A host and a port to listen on, kept as written: names are looked up when the server binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort(String);

impl HostPort {
    /// Accepts `HOST:PORT`, `ADDRESS:PORT` and `[ADDRESS]:PORT`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "must be `HOST:PORT`, such as `127.0.0.1:8080`, `[::]:8080` or `localhost:0`".to_owned();
        if text.parse::<SocketAddr>().is_ok() {
            return Ok(Self(text.to_owned()));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        // What looks like an address must be one, or a mistyped address would be asked of the DNS.
        let is_name = is_host_name(host) && host.chars().any(|c| c.is_ascii_alphabetic());
        if !is_name || port.parse::<u16>().is_err() {
            return Err(wrong());
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The addresses to bind.
    ///
    /// # Errors
    /// Where the host's name can't be resolved.
    pub fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        self.0.to_socket_addrs().map(Iterator::collect)
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.resolve().is_ok_and(|addresses| !addresses.is_empty() && addresses.iter().all(|address| address.ip().is_loopback()))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose pages may call Actas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CorsOrigins {
    /// Written as browsers write them.
    pub exact: Vec<String>,
    /// Whether every origin on this machine may, whatever its port. For the demo.
    pub any_localhost: bool,
}

impl CorsOrigins {
    /// Whether a page of `origin` may call.
    pub fn allows(&self, origin: &str) -> bool {
        self.exact.iter().any(|exact| exact == origin) || (self.any_localhost && is_localhost(origin))
    }
}

fn is_localhost(origin: &str) -> bool {
    let Some(authority) = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) else { return false };
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|host| {
        authority
            .strip_prefix(host)
            .is_some_and(|port| port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok()))
    })
}
