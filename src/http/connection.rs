//! Connections that do nothing.
//!
//! actix-http limits the time of a connection's first request head, and how long it may rest between two requests. A client
//! that begins a second head and stalls, or never reads its answer, falls between: nothing ever ends it (actix-http 3.20).
//! So every connection has a watch that ends it when no request has been handled for longer than an honest client needs.

use std::any::Any;
use std::cell::Cell;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::rc::{Rc, Weak};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use actix_web::rt;
use tokio::time::Instant;

/// The watch of one connection, dropped with it.
pub(super) struct Watch {
    /// A second hand on the socket, to end it by.
    socket: TcpStream,
    /// How long the connection may be without a request in handling.
    patience: Duration,
    in_handling: Cell<usize>,
    due: Cell<Instant>,
}

impl Watch {
    /// Begins to watch a connection as it opens. Connections of another kind, if ever there are any, go unwatched.
    pub(super) fn begin(connection: &dyn Any, data: &mut Extensions, patience: Duration) {
        let Some(stream) = connection.downcast_ref::<rt::net::TcpStream>() else { return };
        let socket = match stream.as_fd().try_clone_to_owned() {
            Ok(socket) => TcpStream::from(socket),
            Err(error) => return tracing::warn!(%error, "a connection can't be watched"),
        };
        let watch = Rc::new(Self { socket, patience, in_handling: Cell::new(0), due: Cell::new(Instant::now() + patience) });
        rt::spawn(Self::keep(Rc::downgrade(&watch), watch.due.get()));
        data.insert(watch);
    }

    async fn keep(watch: Weak<Self>, mut due: Instant) {
        loop {
            tokio::time::sleep_until(due).await;
            let Some(watch) = watch.upgrade() else { return };
            due = watch.due.get();
            if watch.in_handling.get() > 0 {
                // Handling has limits of its own, and sets the next date when it ends.
                due = Instant::now() + watch.patience;
            } else if due <= Instant::now() {
                // An error means that the other side was quicker.
                let _ = watch.socket.shutdown(Shutdown::Both);
                return;
            }
        }
    }

    /// Notes that a request of its connection is in handling, until the result is dropped.
    pub(super) fn handling(request: &HttpRequest) -> Option<Handling> {
        let watch = request.conn_data::<Rc<Self>>()?;
        watch.in_handling.set(watch.in_handling.get() + 1);
        Some(Handling(Rc::downgrade(watch)))
    }
}

/// A request in handling.
pub(super) struct Handling(Weak<Watch>);

impl Drop for Handling {
    fn drop(&mut self) {
        if let Some(watch) = self.0.upgrade() {
            watch.in_handling.set(watch.in_handling.get().saturating_sub(1));
            watch.due.set(Instant::now() + watch.patience);
        }
    }
}
