//! `actas healthcheck`: whether the server on this machine can serve, for containers without curl.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::output::{Failure, Outcome, print};
use super::{ABOUT_SETTINGS, Format};
use crate::config::{Environment, ListenSettings};

/// How long each of connecting, sending and receiving may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Ask the server on this machine whether it is ready
///
/// Asks /readyz where the same settings make a server listen: at ACTAS_OPS_BIND where it is set, else at ACTAS_BIND. Gives up after three
/// seconds.
#[derive(Args)]
#[command(after_long_help = help![
    "Examples:
  actas healthcheck
  actas healthcheck --bind 127.0.0.1:9000 --json",
    ABOUT_SETTINGS,
])]
pub struct Healthcheck {
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    settings: ListenSettings,
}

impl Healthcheck {
    pub fn run(self) -> Outcome {
        let listen = self.settings.check(&Environment::of_process())?;
        let bind = listen.ops_bind.unwrap_or(listen.bind);
        let addresses = bind.resolve().map_err(|error| Failure::failed(format!("{bind}: {error}")))?;
        let mut why = format!("{bind} has no address");
        for address in addresses.into_iter().map(reachable) {
            if address.port() == 0 {
                return Err(Failure::usage(format!("{bind} does not say at which port the server is")));
            }
            match ask(address) {
                Ok(200) if self.format.json => return print(json!({ "ready": true, "url": format!("http://{address}") })),
                Ok(200) => return print("ready"),
                Ok(status) => why = format!("http://{address}/readyz answered {status}"),
                Err(error) => why = format!("http://{address}/readyz: {error}"),
            }
        }
        if self.format.json {
            print(json!({ "ready": false, "reason": why }))?;
        }
        Err(Failure::failed(format!("not ready: {why}")))
    }
}

/// Where a server is reached that listens at `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The status that `/readyz` at `address` answers with.
fn ask(address: SocketAddr) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nUser-Agent: actas-healthcheck\r\nConnection: close\r\n\r\n")?;
    let mut start = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut start)?;
    let status = std::str::from_utf8(&start).ok().and_then(|line| line.strip_prefix("HTTP/1.1 ")).and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::Error::other("what answers there does not speak HTTP"))
}
