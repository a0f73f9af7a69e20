//! What is known of a request besides what it says itself: its id, where it comes from, whose it is, and how long it may
//! still take.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::{HttpMessage, HttpRequest};
use pin_project_lite::pin_project;
use tokio::task::coop::{Unconstrained, unconstrained};
use tokio::time::{Instant, Sleep, sleep_until};
use uuid::Builder;
use uuid::fmt::Hyphenated;

use crate::domain::Time;
use crate::domain::client::ClientId;
use crate::domain::ids::{SessionId, UserId};
use crate::domain::text::is_sane_request_id;

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

/// The id of a request.
#[derive(Clone)]
pub(super) enum RequestId {
    /// What the caller called it.
    Given(Box<str>),
    /// A UUIDv7.
    Own([u8; Hyphenated::LENGTH]),
}

impl RequestId {
    /// The caller's own, if it is one that a log can bear.
    pub(super) fn given(id: &str) -> Option<Self> {
        is_sane_request_id(id).then(|| Self::Given(id.into()))
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Given(id) => id,
            Self::Own(id) => str::from_utf8(id).unwrap_or_default(),
        }
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// Makes the ids of one thread's requests: UUIDv7, so that they sort by time in the log.
///
/// Their random bits are a keyed hash of a counter and not the system's: asking that costs a request more than all else
/// that is done for its id. The key is random and of 128 bits, another one in every thread; nothing relies on ids that can't be guessed.
#[derive(Debug, Default)]
pub(super) struct RequestIds {
    keys: RandomState,
    count: Cell<u64>,
}

impl RequestIds {
    pub(super) fn next(&self, now: Time) -> RequestId {
        let count = self.count.get();
        self.count.set(count.wrapping_add(1));
        let high = self.keys.hash_one((count, false)).to_le_bytes();
        let low = self.keys.hash_one((count, true)).to_le_bytes();
        let mut random = [0; 10];
        random[..8].copy_from_slice(&high);
        random[8..].copy_from_slice(&low[..2]);
        let millis = u64::try_from(now.timestamp_millis()).unwrap_or_default();
        let mut id = [0; Hyphenated::LENGTH];
        Builder::from_unix_timestamp_millis(millis, &random).into_uuid().hyphenated().encode_lower(&mut id);
        RequestId::Own(id)
    }
}

/// Kept with every request by the outermost middleware, and outlives it there: a request that panics or times out is
/// lost with its extensions, and must be logged all the same.
#[derive(Debug)]
pub struct RequestInfo {
    id: RequestId,
    client_ip: IpAddr,
    identity: Cell<Option<LoggedIdentity>>,
    /// When the answer is overdue. It moves while a body is read.
    deadline: Cell<Option<Instant>>,
}

impl RequestInfo {
    pub(super) fn new(id: RequestId, client_ip: IpAddr) -> Self {
        Self { id, client_ip, identity: Cell::new(None), deadline: Cell::new(None) }
    }

    /// The info of a request. Outside the middleware (in a unit test) a request has none, and gets one that says nothing.
    pub fn of(request: &HttpRequest) -> Rc<Self> {
        let known = request.extensions().get::<Rc<Self>>().cloned();
        known.unwrap_or_else(|| Rc::new(Self::new(RequestId::Given(Box::default()), IpAddr::V4(Ipv4Addr::UNSPECIFIED))))
    }

    /// The `X-Request-Id` of the answer: the caller's, if it sent a sane one, else a new UUIDv7.
    pub fn id(&self) -> &str {
        self.id.as_str()
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

    /// Runs `work`, which has `limit` from now on. Gives nothing if its output is not there in time.
    pub(super) fn bound<F: Future>(self: Rc<Self>, limit: Duration, work: F) -> Bounded<F> {
        self.deadline.set(Some(Instant::now() + limit));
        Bounded { work, info: self, timer: None }
    }

    /// Runs `reading` without letting its time count as handling time. It must bound itself by `limit`.
    pub(super) async fn off_the_clock<T>(&self, limit: Duration, reading: impl Future<Output = T>) -> T {
        let Some(before) = self.deadline.get() else { return reading.await };
        let started = Instant::now();
        self.deadline.set(Some(before + limit));
        let result = reading.await;
        self.deadline.set(Some(before + started.elapsed()));
        result
    }
}

pin_project! {
    /// Work that must be done before its request's deadline.
    pub struct Bounded<F> {
        #[pin]
        work: F,
        info: Rc<RequestInfo>,
        // Set only once the work has to wait, which most of it never does.
        timer: Option<(Instant, Pin<Box<Unconstrained<Sleep>>>)>,
    }
}

impl<F: Future> Future for Bounded<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.work.poll(context) {
            return Poll::Ready(Some(output));
        }
        loop {
            let Some(due) = this.info.deadline.get() else { return Poll::Pending };
            // A timer that goes off too early looks again; one that would go off too late is of no use.
            let timer = this.timer.take().filter(|(set_to, _)| *set_to <= due);
            // Work that always has something to do must not keep the timer from its turn.
            let (set_to, timer) = this.timer.insert(timer.unwrap_or_else(|| (due, Box::pin(unconstrained(sleep_until(due))))));
            ready!(timer.as_mut().poll(context));
            if *set_to == due {
                return Poll::Ready(None);
            }
            *this.timer = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[actix_web::test]
    async fn time_off_the_clock_neither_counts_nor_remains() {
        let info = Rc::new(RequestInfo::new(RequestId::Given("r".into()), IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        let (reader, started, part) = (Rc::clone(&info), Instant::now(), Duration::from_millis(50));
        let work = async move {
            reader.off_the_clock(Duration::from_secs(3600), tokio::time::sleep(part)).await;
            std::future::pending::<()>().await;
        };
        assert_eq!(info.bound(part, work).await, None);
        assert!((2 * part..Duration::from_secs(60)).contains(&started.elapsed()), "{:?}", started.elapsed());
    }

    #[test]
    fn ids_of_requests_are_uuids_that_sort_by_time_and_differ() {
        let now = chrono::DateTime::from_timestamp(1_700_000_000, 123_456_000).unwrap();
        let (one, other) = (RequestIds::default(), RequestIds::default());
        let ids: HashSet<_> = (0..1000).flat_map(|_| [one.next(now), other.next(now)]).map(|id| id.as_str().to_owned()).collect();
        assert_eq!(ids.len(), 2000);
        for id in ids {
            let parsed = uuid::Uuid::parse_str(&id).unwrap();
            assert_eq!((parsed.get_version_num(), parsed.get_variant()), (7, uuid::Variant::RFC4122), "{id}");
            assert_eq!(parsed.get_timestamp().unwrap().to_unix(), (1_700_000_000, 123_000_000));
            assert_eq!(parsed.hyphenated().to_string(), id);
        }
    }
}
