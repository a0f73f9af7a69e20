//! The limit of failed logins: in memory, bounded.
//!
//! Only failures count. Each is charged to the account that was tried, known or not, and to the address that it came from. Either may
//! fail N times in a row and then once every 60/N seconds: a bucket of N allowances that refills at N a minute (GCRA, kept as the one
//! instant at which the bucket is full again). An attempt that is refused is not evaluated and not charged, so a limit that has
//! tripped lets the next one through after 60/N seconds, and is forgotten a minute after the last failure.
//!
//! **A stranger can't lock a user out.** From an address from which this account has logged in before, the account's bucket does not
//! apply but one of its own for account and address. Elsewhere the account's owner waits at most 60/N seconds for a chance of
//! her own, and shares it with whoever guesses.
//!
//! **Guessing in parallel gains nothing.** At most as many attempts are evaluated at a time as may still fail; the others wait for their
//! outcome. So a hundred right passwords at once all get in, and of a hundred wrong ones N are evaluated:
//!
//! ```text
//! N = 2     A begins   B begins   C waits        A fails    B fails → limit trips    C is refused
//!           A begins   B begins   C waits        A succeeds → C begins
//! ```
//!
//! Each process counts for itself; behind a load balancer the limit is that of one process times their number.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::Time;
use crate::domain::error::{Error, Result};

/// How many buckets are kept. At most 5 MB; a full bucket is forgotten, so it takes this many failures in a minute to get here.
const MAX_BUCKETS: usize = 100_000;

/// How many attempts may wait for the outcome of others.
const MAX_WAITING: usize = 256;

const MINUTE: i64 = 60_000_000;

/// The limit of failed logins, shared by its clones.
#[derive(Clone)]
pub struct Limiter(Arc<Shared>);

struct Shared {
    /// What one failure costs in microseconds of refilling; 0 if the limit is off.
    interval: i64,
    /// The refilling time of an empty bucket, in microseconds.
    burst: i64,
    max_buckets: usize,
    /// Keys are kept as keyed hashes: of fixed size whatever a stranger sends, and nobody can aim at another's.
    hasher: RandomState,
    state: Mutex<State>,
    /// Rung whenever an outcome is known.
    settled: Notify,
}

#[derive(Default)]
struct State {
    buckets: HashMap<u64, Bucket>,
    waiting: usize,
}

#[derive(Default)]
struct Bucket {
    /// When all that was charged is refilled, in microseconds since 1970.
    full_at: i64,
    /// How many attempts are being evaluated.
    pending: i64,
    /// Whether the last allowance was used up since the bucket was last full.
    tripped: bool,
}

/// What an allowance is charged to.
#[derive(Hash)]
enum Key<'a> {
    Account(&'a str),
    Address(IpAddr),
    AccountAtAddress(&'a str, IpAddr),
}

/// What one look at the buckets says.
enum Chance {
    Now,
    /// Others are being evaluated, and there would be an allowance if they succeeded.
    AfterOthers,
    /// In this many microseconds.
    Later(i64),
}

/// What a failure did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tripped {
    /// Whether it used up the account's last allowance, for the first time since the account's bucket was last full. So one entry written
    /// for it is at most one a minute, however long the guessing goes on.
    pub account: bool,
}

/// Leave for one attempt. Dropped without [`Ticket::fail`], the attempt is not charged: it succeeded, or was never evaluated.
#[must_use = "a ticket that is dropped at once lets everyone guess"]
pub struct Ticket {
    shared: Arc<Shared>,
    /// The bucket of the account, or of account and address, and that of the address. `None` once settled, or if the limit is off.
    keys: Option<[u64; 2]>,
}

/// The addresses that count as one: an IPv4 address alone, and an IPv6 address with its /64, which is what one customer has at least
/// (RFC 6177). What is remembered as an account's known address should be this.
pub fn origin_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

impl Limiter {
    /// A limit of `failures_per_minute` per account and per address; 0 is no limit.
    pub fn new(failures_per_minute: u32) -> Self {
        Self::with_max_buckets(failures_per_minute, MAX_BUCKETS)
    }

    fn with_max_buckets(failures_per_minute: u32, max_buckets: usize) -> Self {
        let allowances = i64::from(failures_per_minute);
        // More than a failure a microsecond is no limit either.
        let interval = MINUTE.checked_div(allowances).unwrap_or(0);
        Self(Arc::new(Shared {
            interval,
            burst: interval * allowances,
            max_buckets,
            hasher: RandomState::new(),
            state: Mutex::new(State::default()),
            settled: Notify::new(),
        }))
    }

    /// Asks leave for one attempt to log in to the account `account_key` from `address`. `known_address` says whether this account has
    /// logged in before from [`origin_of`] this address. Waits while others are being evaluated that may use up what is left.
    ///
    /// # Errors
    /// 429 `too_many_attempts` with the seconds to wait; 503 `overloaded` if too many wait already.
    pub async fn begin(&self, account_key: &str, address: IpAddr, known_address: bool, now: Time) -> Result<Ticket> {
        let shared = &self.0;
        if shared.interval == 0 {
            return Ok(Ticket { shared: Arc::clone(shared), keys: None });
        }
        let origin = origin_of(address);
        let account = if known_address { Key::AccountAtAddress(account_key, origin) } else { Key::Account(account_key) };
        let keys = [account, Key::Address(origin)].map(|key| shared.hasher.hash_one(key));
        let now = now.timestamp_micros();
        let mut place = None;
        loop {
            // Made before looking: what is settled after the look wakes it, whether it is polled by then or not.
            let settled = shared.settled.notified();
            match shared.reserve(keys, now) {
                Chance::Now => return Ok(Ticket { shared: Arc::clone(shared), keys: Some(keys) }),
                Chance::Later(micros) => {
                    let seconds = u32::try_from((micros + 999_999) / 1_000_000).unwrap_or(60);
                    return Err(Error::too_many_attempts(seconds.max(1)));
                }
                Chance::AfterOthers if place.is_none() => place = Some(Place::take(shared)?),
                Chance::AfterOthers => {}
            }
            settled.await;
        }
    }
}

impl Ticket {
    /// Charges the attempt: it was evaluated at `now`, and failed.
    pub fn fail(mut self, now: Time) -> Tripped {
        let Some(keys) = self.keys.take() else { return Tripped { account: false } };
        let now = now.timestamp_micros();
        let mut state = self.shared.lock();
        let [account, _address] = keys.map(|key| {
            let bucket = state.buckets.entry(key).or_default();
            bucket.pending -= 1;
            bucket.charge(now, self.shared.interval, self.shared.burst)
        });
        drop(state);
        self.shared.settled.notify_waiters();
        Tripped { account }
    }

    /// Gives the allowance back: the attempt succeeded. What failed before stays charged, or one right password would buy any number
    /// of wrong ones.
    pub fn succeed(self) {
        drop(self);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(keys) = self.keys.take() else { return };
        let mut state = self.shared.lock();
        for key in keys {
            if let Entry::Occupied(mut bucket) = state.buckets.entry(key) {
                bucket.get_mut().pending -= 1;
                // Never charged: those who only succeed leave nothing behind.
                if bucket.get().pending == 0 && bucket.get().full_at == 0 {
                    bucket.remove();
                }
            }
        }
        drop(state);
        self.shared.settled.notify_waiters();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one allowance from each of the buckets, or from none.
    fn reserve(&self, keys: [u64; 2], now: i64) -> Chance {
        let mut state = self.lock();
        let mut wait = 0;
        let mut after_others = false;
        for key in keys {
            let Some(bucket) = state.buckets.get(&key) else { continue };
            let left = bucket.left(now, self.interval, self.burst);
            if left == 0 {
                wait = wait.max(bucket.debt(now, self.burst) + self.interval - self.burst);
            }
            after_others |= bucket.pending >= left;
        }
        if wait > 0 {
            return Chance::Later(wait);
        }
        if after_others {
            return Chance::AfterOthers;
        }
        if state.buckets.len() + keys.len() > self.max_buckets {
            state.make_room(now, self.max_buckets);
        }
        for key in keys {
            state.buckets.entry(key).or_default().pending += 1;
        }
        Chance::Now
    }
}

impl State {
    /// Forgets the buckets that are full and, if that is not enough, an eighth of them all: those that are soonest full. Many at a time, so
    /// that the work of looking through all of them is spread over as many attempts.
    fn make_room(&mut self, now: i64, max_buckets: usize) {
        self.buckets.retain(|_, bucket| bucket.pending > 0 || bucket.full_at > now);
        if self.buckets.len() + 2 <= max_buckets {
            return;
        }
        let mut soonest: Vec<i64> = self.buckets.values().filter(|bucket| bucket.pending == 0).map(|bucket| bucket.full_at).collect();
        if soonest.is_empty() {
            return;
        }
        let nth = (max_buckets / 8).min(soonest.len() - 1);
        let (_, &mut bound, _) = soonest.select_nth_unstable(nth);
        self.buckets.retain(|_, bucket| bucket.pending > 0 || bucket.full_at > bound);
    }
}

impl Bucket {
    /// How long the bucket takes to be full. Never more than an empty one, even if `now` is a little old or the clock was set back.
    fn debt(&self, now: i64, burst: i64) -> i64 {
        (self.full_at - now).clamp(0, burst)
    }

    /// How many more may fail.
    fn left(&self, now: i64, interval: i64, burst: i64) -> i64 {
        (burst - self.debt(now, burst)) / interval
    }

    /// Charges one failure, and says whether it tripped the limit.
    fn charge(&mut self, now: i64, interval: i64, burst: i64) -> bool {
        if self.full_at <= now {
            self.tripped = false;
        }
        self.full_at = (self.full_at.max(now) + interval).min(now + burst);
        let trips = !self.tripped && self.left(now, interval, burst) == 0;
        self.tripped |= trips;
        trips
    }
}

/// A place among those who wait; left when dropped, also by a caller who goes away while waiting.
struct Place<'a>(&'a Shared);

impl<'a> Place<'a> {
    fn take(shared: &'a Shared) -> Result<Self> {
        let mut state = shared.lock();
        if state.waiting >= MAX_WAITING {
            return Err(Error::overloaded());
        }
        state.waiting += 1;
        Ok(Self(shared))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::domain::error::Code;

    fn at(seconds: i64) -> Time {
        chrono::DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// What `begin` says without waiting; `None` if it waits.
    fn begin(limiter: &Limiter, account: &str, address: &str, now: Time) -> Option<Result<Ticket>> {
        limiter.begin(account, ip(address), false, now).now_or_never()
    }

    fn fail(limiter: &Limiter, account: &str, address: &str, now: Time) -> Tripped {
        begin(limiter, account, address, now).unwrap().unwrap().fail(now)
    }

    /// Seconds to wait, or `None` if the attempt may be made.
    fn retry_after(limiter: &Limiter, account: &str, address: &str, now: Time) -> Option<u32> {
        let error = begin(limiter, account, address, now).unwrap().err()?;
        assert_eq!(error.code(), Code::TooManyAttempts);
        error.retry_after_seconds()
    }

    #[test]
    fn an_account_may_fail_n_times_and_then_once_every_nth_of_a_minute() {
        let limiter = Limiter::new(3);
        for attempt in 0..3 {
            let tripped = fail(&limiter, "ed", &format!("192.0.2.{attempt}"), at(0));
            assert_eq!(tripped.account, attempt == 2, "attempt {attempt}");
        }
        assert_eq!(retry_after(&limiter, "ed", "192.0.2.9", at(0)), Some(20));
        assert_eq!(retry_after(&limiter, "ed", "192.0.2.9", at(19)), Some(1));
        assert_eq!(retry_after(&limiter, "ada", "192.0.2.9", at(0)), None, "another account is not concerned");
        assert_eq!(retry_after(&limiter, "ed", "192.0.2.9", at(20)), None);
        fail(&limiter, "ed", "192.0.2.9", at(20));
        assert_eq!(retry_after(&limiter, "ed", "192.0.2.9", at(20)), Some(20));
        // Refused attempts were not charged: a minute after the last failure all is as before.
        for _ in 0..3 {
            fail(&limiter, "ed", "192.0.2.10", at(100));
        }
    }

    #[test]
    fn a_limit_trips_once_until_it_was_quiet_for_a_minute() {
        let limiter = Limiter::new(2);
        let mut trips = 0;
        // A guesser who takes every chance for ten minutes.
        for second in (0..600).step_by(30) {
            while retry_after(&limiter, "ed", "192.0.2.1", at(second)).is_none() {
                trips += u32::from(fail(&limiter, "ed", &format!("198.51.100.{}", second / 30), at(second)).account);
            }
        }
        assert_eq!(trips, 1);
        fail(&limiter, "ed", "192.0.2.2", at(700));
        assert!(fail(&limiter, "ed", "192.0.2.2", at(700)).account);
    }

    #[test]
    fn an_address_may_fail_n_times_whatever_the_account() {
        let limiter = Limiter::new(2);
        assert!(!fail(&limiter, "a", "192.0.2.1", at(0)).account);
        assert!(!fail(&limiter, "b", "192.0.2.1", at(0)).account, "no account's limit tripped");
        assert_eq!(retry_after(&limiter, "c", "192.0.2.1", at(0)), Some(30));
        assert_eq!(retry_after(&limiter, "c", "192.0.2.2", at(0)), None);
        assert_eq!(retry_after(&limiter, "c", "::ffff:192.0.2.1", at(0)), Some(30), "the same address in other clothes");
    }

    #[test]
    fn ipv6_addresses_are_counted_by_network() {
        let limiter = Limiter::new(1);
        fail(&limiter, "a", "2001:db8:0:1::1", at(0));
        assert_eq!(retry_after(&limiter, "b", "2001:db8:0:1:ffff::2", at(0)), Some(60));
        assert_eq!(retry_after(&limiter, "b", "2001:db8:0:2::1", at(0)), None);
        assert_eq!(origin_of(ip("2001:db8:0:1:2:3:4:5")), ip("2001:db8:0:1::"));
        assert_eq!(origin_of(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }

    #[test]
    fn a_stranger_does_not_lock_a_known_address_out() {
        let limiter = Limiter::new(2);
        fail(&limiter, "ed", "198.51.100.1", at(0));
        assert!(fail(&limiter, "ed", "198.51.100.2", at(0)).account);
        assert!(retry_after(&limiter, "ed", "192.0.2.1", at(0)).is_some());

        let known = || limiter.begin("ed", ip("192.0.2.1"), true, at(0)).now_or_never().unwrap();
        known().unwrap().succeed();
        // It has a limit of its own, though.
        assert!(!known().unwrap().fail(at(0)).account);
        assert!(known().unwrap().fail(at(0)).account);
        assert_eq!(known().err().unwrap().retry_after_seconds(), Some(30));
    }

    #[test]
    fn only_failures_count() {
        let limiter = Limiter::new(2);
        for _ in 0..100 {
            begin(&limiter, "ed", "192.0.2.1", at(0)).unwrap().unwrap().succeed();
            drop(begin(&limiter, "ed", "192.0.2.1", at(0)).unwrap().unwrap());
        }
        assert!(limiter.0.lock().buckets.is_empty());
        fail(&limiter, "ed", "192.0.2.1", at(0));
        begin(&limiter, "ed", "192.0.2.1", at(0)).unwrap().unwrap().succeed();
        fail(&limiter, "ed", "192.0.2.1", at(0));
        assert_eq!(retry_after(&limiter, "ed", "192.0.2.1", at(0)), Some(30), "a success buys no further failures");
    }

    #[test]
    fn parallel_guesses_wait_for_each_others_outcome() {
        let limiter = Limiter::new(2);
        let first = begin(&limiter, "ed", "192.0.2.1", at(0)).unwrap().unwrap();
        let second = begin(&limiter, "ed", "192.0.2.2", at(0)).unwrap().unwrap();
        assert!(begin(&limiter, "ed", "192.0.2.3", at(0)).is_none(), "the third waits");
        assert_eq!(limiter.0.lock().waiting, 0, "and leaves its place when it goes away");

        let mut third = Box::pin(limiter.begin("ed", ip("192.0.2.3"), false, at(0)));
        assert!(third.as_mut().now_or_never().is_none());
        first.succeed();
        let third = third.now_or_never().expect("woken by the first's success").unwrap();

        let mut fourth = Box::pin(limiter.begin("ed", ip("192.0.2.4"), false, at(0)));
        assert!(fourth.as_mut().now_or_never().is_none());
        assert!(!second.fail(at(0)).account);
        assert!(fourth.as_mut().now_or_never().is_none(), "the one allowance left is the third's");
        assert!(third.fail(at(0)).account);
        assert_eq!(fourth.now_or_never().unwrap().err().unwrap().code(), Code::TooManyAttempts);
    }

    #[test]
    fn of_many_parallel_guesses_n_are_evaluated() {
        let limiter = Limiter::new(5);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let guess = |succeeds: bool| {
            let limiter = limiter.clone();
            async move {
                let ticket = limiter.begin("ed", ip("192.0.2.1"), false, at(0)).await?;
                tokio::task::yield_now().await;
                if succeeds {
                    ticket.succeed()
                } else {
                    ticket.fail(at(0));
                }
                Ok::<_, Error>(())
            }
        };
        let all = |succeeds| runtime.block_on(futures_util::future::join_all((0..100).map(|_| guess(succeeds))));
        assert_eq!(all(true).iter().filter(|outcome| outcome.is_ok()).count(), 100, "right passwords all get in");
        assert_eq!(all(false).iter().filter(|outcome| outcome.is_ok()).count(), 5);
    }

    #[test]
    fn waiting_is_bounded() {
        let limiter = Limiter::new(1);
        let ticket = begin(&limiter, "ed", "192.0.2.1", at(0)).unwrap().unwrap();
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(limiter.begin("ed", ip("192.0.2.1"), false, at(0)))).collect();
        assert!(waiting.iter_mut().all(|attempt| attempt.as_mut().now_or_never().is_none()));
        assert_eq!(begin(&limiter, "ed", "192.0.2.1", at(0)).unwrap().err().unwrap().code(), Code::Overloaded);
        drop(waiting);
        assert_eq!(limiter.0.lock().waiting, 0);
        drop(ticket);
    }

    #[test]
    fn memory_is_bounded_and_the_emptiest_buckets_are_remembered() {
        let limiter = Limiter::with_max_buckets(4, 100);
        for _ in 0..4 {
            fail(&limiter, "ed", "192.0.2.1", at(0));
        }
        let ticket = begin(&limiter, "pending", "192.0.2.2", at(0)).unwrap().unwrap();
        for guess in 0..1000 {
            fail(&limiter, &format!("account {guess}"), &format!("2001:db8:0:{guess}::1"), at(0));
            assert!(limiter.0.lock().buckets.len() <= 100);
        }
        assert_eq!(retry_after(&limiter, "ed", "192.0.2.9", at(0)), Some(15), "the tripped account is still remembered");
        let key = limiter.0.hasher.hash_one(Key::Account("pending"));
        assert_eq!(limiter.0.lock().buckets[&key].pending, 1, "what is being evaluated is never forgotten");
        drop(ticket);

        // A minute later nothing of it is left.
        for guess in 0..1000 {
            begin(&limiter, &format!("account {guess}"), "192.0.2.3", at(61)).unwrap().unwrap().succeed();
        }
        assert!(limiter.0.lock().buckets.values().all(|bucket| bucket.full_at <= at(61).timestamp_micros()));
    }

    #[test]
    fn zero_is_off() {
        let limiter = Limiter::new(0);
        for _ in 0..1000 {
            assert!(!fail(&limiter, "ed", "192.0.2.1", at(0)).account);
        }
        assert!(limiter.0.lock().buckets.is_empty());
    }
}
