//! The sockets: listening, the limits of a connection, and stopping.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Server, ServerHandle, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::KeepAlive;
use actix_web::{App, Error, HttpServer};
use futures_util::future::{Either, join_all, select, try_join_all};
use tokio::signal::unix::{SignalKind, signal};

use super::connection::Watch;

/// How connections are treated.
#[derive(Debug, Clone, Copy)]
pub struct ServerSettings {
    /// Threads that serve connections.
    pub workers: usize,
    /// How long a connection's first request head may take to arrive. Beyond it: 408. A later one has `keep_alive` more,
    /// and no answer.
    pub head_time: Duration,
    /// How long a connection may stay open between two requests.
    pub keep_alive: Duration,
    /// How long stopping waits for requests in flight.
    pub shutdown_time: Duration,
}

impl Default for ServerSettings {
    /// As many workers as cores, 10 s, 75 s, 30 s.
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            head_time: Duration::from_secs(10),
            // Longer than the 60 s after which common proxies close idle connections, so that they do it first and never
            // send a request into a closing one.
            keep_alive: Duration::from_secs(75),
            shutdown_time: Duration::from_secs(30),
        }
    }
}

/// Takes an address, and says which it is: port 0 becomes a free one. Connections wait until [`start`].
///
/// # Errors
/// What the system says: in use, not ours, not permitted.
pub fn listen(address: impl ToSocketAddrs) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves what `factory` makes, once a worker, on `listener`. The server runs when it is awaited, best by [`run`].
///
/// # Errors
/// What the system says about the socket.
pub fn start<F, T, B>(listener: TcpListener, settings: ServerSettings, factory: F) -> io::Result<Server>
where
    F: Fn() -> App<T> + Send + Clone + 'static,
    T: ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse<B>, Error = Error, InitError = ()> + 'static,
    B: MessageBody + 'static,
{
    let patience = settings.keep_alive + settings.head_time;
    let server = HttpServer::new(factory)
        .on_connect(move |connection, data| Watch::begin(connection, data, patience))
        .workers(settings.workers)
        .client_request_timeout(settings.head_time)
        .keep_alive(KeepAlive::Timeout(settings.keep_alive))
        .shutdown_timeout(settings.shutdown_time.as_secs())
        // Two servers (see `OPS_BIND`) stop together, so neither listens to signals by itself.
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

/// Runs `servers` until `stop` is there, then refuses new connections, finishes the requests in flight within their
/// `shutdown_time`, and returns.
///
/// # Errors
/// What a server says that could not go on.
pub async fn run(servers: Vec<Server>, stop: impl Future<Output = ()>) -> io::Result<()> {
    let handles: Vec<ServerHandle> = servers.iter().map(Server::handle).collect();
    let stopping = async {
        stop.await;
        tracing::info!("stopping: finishing the requests in flight");
        join_all(handles.iter().map(|handle| handle.stop(true))).await;
    };
    // A server that fails takes the others along: half a service looks alive and is not.
    let (running, stopping) = (std::pin::pin!(try_join_all(servers)), std::pin::pin!(stopping));
    match select(running, stopping).await {
        Either::Left((outcome, _)) => outcome.map(|_| ()),
        Either::Right((_, running)) => running.await.map(|_| ()),
    }
}

/// Waits for SIGTERM or SIGINT, whichever comes first.
///
/// # Errors
/// Where a signal can't be listened to.
pub fn termination() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        select(std::pin::pin!(terminate.recv()), std::pin::pin!(interrupt.recv())).await;
    })
}
