//! What is known of a request besides what it says itself: its id, where it comes from, whose it is, and how long it may
//! still take.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::Duration;

use actix_web::{HttpMessage, HttpRequest};
use tokio::time::Instant;

use crate::domain::client::ClientId;
use crate::domain::ids::{SessionId, UserId};

/// How much a request may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest body, in bytes. Beyond it: 413.
    pub body_bytes: usize,
    /// How long a whole body may take to arrive. Beyond it: 408. Counted apart from `handling_time`.
    pub body_time: Duration,
    /// How long an answer may take, reading the body aside. Beyond it: 503.
    pub handling_time: Duration,
}

impl Default for Limits {
    /// 1 MiB, 30 s, 30 s.
    fn default() -> Self {
        Self { body_bytes: 1024 * 1024, body_time: Duration::from_secs(30), handling_time: Duration::from_secs(30) }
    }
}

/// Whose request it is, for the log and for the headers `Actas-Subject` and `Actas-Actor` of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggedIdentity {
    /// Nobody where a client is there by itself.
    pub subject: Option<UserId>,
    /// The client, unless it is the first-party one.
    pub client: Option<ClientId>,
    pub actor: Option<UserId>,
    pub impersonation_id: Option<SessionId>,
}

/// Kept with every request by the outermost middleware, and outlives it there: a request that panics or times out is
/// lost with its extensions, and must be logged all the same.
#[derive(Debug)]
pub struct RequestInfo {
    id: String,
    client_ip: IpAddr,
    identity: Cell<Option<LoggedIdentity>>,
    deadline: RefCell<Option<Deadline>>,
}

impl RequestInfo {
    pub(super) fn new(id: String, client_ip: IpAddr) -> Self {
        Self { id, client_ip, identity: Cell::new(None), deadline: RefCell::new(None) }
    }

    /// The info of a request. Outside the middleware (in a unit test) a request has none, and gets one that says nothing.
    pub fn of(request: &HttpRequest) -> Rc<Self> {
        let known = request.extensions().get::<Rc<Self>>().cloned();
        known.unwrap_or_else(|| Rc::new(Self::new(String::new(), IpAddr::V4(Ipv4Addr::UNSPECIFIED))))
    }

    /// The `X-Request-Id` of the answer: the caller's, if it sent a sane one, else a new UUIDv7.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the request comes from: see [`super::extract::ClientIp`].
    pub fn client_ip(&self) -> IpAddr {
        self.client_ip
    }

    /// Notes whose request this is. Called as soon as it is known, before anything is permitted, so that refusals name
    /// their people too.
    pub fn identify(&self, identity: LoggedIdentity) {
        self.identity.set(Some(identity));
    }

    pub(super) fn identity(&self) -> Option<LoggedIdentity> {
        self.identity.get()
    }

    pub(super) fn start_clock(&self, limit: Duration) -> Deadline {
        let deadline = Deadline(Rc::new(Cell::new(Instant::now() + limit)));
        self.deadline.replace(Some(deadline.clone()));
        deadline
    }

    /// Runs `reading` without letting its time count as handling time. It must bound itself by `limit`.
    pub(super) async fn off_the_clock<T>(&self, limit: Duration, reading: impl Future<Output = T>) -> T {
        let Some(deadline) = self.deadline.borrow().clone() else { return reading.await };
        let (started, before) = (Instant::now(), deadline.0.get());
        deadline.0.set(before + limit);
        let result = reading.await;
        deadline.0.set(before + started.elapsed());
        result
    }
}

/// When an answer is overdue. It may move while the answer is being made.
#[derive(Debug, Clone)]
pub(super) struct Deadline(Rc<Cell<Instant>>);

impl Deadline {
    /// The output of `work`, or nothing if it is not there in time.
    pub(super) async fn bound<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            let due = self.0.get();
            match tokio::time::timeout_at(due, &mut work).await {
                Ok(output) => return Some(output),
                Err(_) if self.0.get() > due => {}
                Err(_) => return None,
            }
        }
    }
}
