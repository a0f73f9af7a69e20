//! Passwords: bcrypt, on threads of its own.
//!
//! One hash keeps a core busy for a quarter of a second by design. On the server's own threads a storm of logins would stop
//! every other request, and an unbounded queue would let it grow for ever: so there is a fixed number of threads, a bounded
//! queue in front of them, and beyond it a refusal at once.
//!
//! Those threads are of low priority, so that hashing takes what else nobody needs: with a core to themselves they lose nothing, and without one a read doesn't
//! wait for a hash.
//!
//! **Time tells nothing.** A failed verification costs what one hash of the configured cost does, whether there is such a user
//! or not, and whatever the cost of the user's stored hash: what a cheaper hash leaves over is spent (`remaining_costs`).

use std::fmt;
use std::hint::black_box;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::domain::error::{Error, Result};
use crate::domain::text::NewPassword;

/// A bcrypt hash. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Takes a hash that was made here before it was stored.
    pub fn from_stored(hash: String) -> Self {
        Self(hash)
    }

    /// The hash itself, for keeping it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// What came of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is the user's.
    pub matches: bool,
    /// Whether it is, and its stored hash has another cost than the configured one: time to keep a new hash.
    pub needs_rehash: bool,
}

impl Verdict {
    const NO_MATCH: Self = Self { matches: false, needs_rehash: false };
}

/// Hashes `password` on the calling thread: for the command line. `cost` is bcrypt's, 4 to 31; each step doubles the time.
///
/// # Errors
/// An internal error if `cost` is out of range or the random number generator fails.
pub fn hash_blocking(password: &NewPassword, cost: u32) -> Result<PasswordHash> {
    let password = password.reveal();
    // `NewPassword` ends where bcrypt's input does. `bcrypt::non_truncating_hash` would refuse 72 bytes, because it counts the NUL that
    // ends a shorter one; nothing is cut off at 72 and two passwords of 72 bytes differ, so `hash` it is, behind the same bound.
    if password.len() > NewPassword::MAX_BYTES {
        return Err(Error::internal("a password longer than bcrypt reads"));
    }
    bcrypt::hash(password, cost).map(PasswordHash).map_err(|error| Error::internal(format!("hashing a password: {error}")))
}

type Job = Box<dyn FnOnce() + Send>;

/// The pool. Its threads end when it is dropped.
pub struct Passwords {
    jobs: SyncSender<Job>,
    shared: Arc<Shared>,
    cost: u32,
}

struct Shared {
    queued: AtomicUsize,
    running: AtomicUsize,
    /// The cost that a failed verification is brought up to: the configured one, or the highest that a stored hash was found to have. After
    /// the setting has been lowered, accounts with an old hash would else answer more slowly than unknown ones.
    ceiling: AtomicU32,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("cost", &self.cost).field("queued", &self.queued()).field("running", &self.running()).finish()
    }
}

impl Passwords {
    /// Starts `threads` threads (at least one) that hash with `cost` (4 to 31), and lets up to `queue` passwords (at least one) wait
    /// for them.
    ///
    /// # Errors
    /// What the operating system says if it can't start a thread.
    pub fn new(cost: u32, threads: usize, queue: usize) -> std::io::Result<Self> {
        let (jobs, waiting) = sync_channel(queue.max(1));
        let waiting = Arc::new(Mutex::new(waiting));
        let shared = Arc::new(Shared { queued: AtomicUsize::new(0), running: AtomicUsize::new(0), ceiling: AtomicU32::new(cost) });
        for number in 0..threads.max(1) {
            let (waiting, shared) = (Arc::clone(&waiting), Arc::clone(&shared));
            std::thread::Builder::new().name(format!("password-{number}")).spawn(move || {
                step_back();
                run_jobs(&waiting, &shared);
            })?;
        }
        Ok(Self { jobs, shared, cost })
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// 503 `overloaded` at once if the queue is full; an internal error if hashing fails.
    pub async fn hash(&self, password: NewPassword) -> Result<PasswordHash> {
        let cost = self.cost;
        self.run(move || hash_blocking(&password, cost)).await?
    }

    /// Whether `password` is the one of `hash`. Give `None` for an unknown user, one without a password, and one who may not log in: the
    /// answer is no, and takes as long as any other no. So does that for a password over 72 bytes or with NUL, which nobody has.
    ///
    /// # Errors
    /// 503 `overloaded` at once if the queue is full.
    pub async fn verify(&self, password: String, hash: Option<PasswordHash>) -> Result<Verdict> {
        let (cost, shared) = (self.cost, Arc::clone(&self.shared));
        self.run(move || verify_blocking(&password, hash.as_ref(), cost, &shared.ceiling)).await
    }

    /// How many passwords wait for a thread.
    pub fn queued(&self) -> usize {
        self.shared.queued.load(Ordering::Relaxed)
    }

    /// How many passwords are being worked on.
    pub fn running(&self) -> usize {
        self.shared.running.load(Ordering::Relaxed)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        self.submit(work)?.await.map_err(|_| Error::internal("a password thread panicked"))
    }

    fn submit<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<oneshot::Receiver<T>> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move || {
            // Whoever has given up waiting (a closed connection, a time limit) leaves the thread to the others.
            if !reply.is_closed() {
                let _ = reply.send(work());
            }
        });
        // Counted first, so that the thread that takes the job at once never counts below zero.
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        self.jobs.try_send(job).map_err(|error| {
            self.shared.queued.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => Error::overloaded(),
                TrySendError::Disconnected(_) => Error::internal("there is no password thread any more"),
            }
        })?;
        Ok(answer)
    }
}

/// How far the threads step back behind the others, from 0 to 19: a busy one gets a sixtieth of what another one gets beside it.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 19;

/// Lowers the calling thread's priority. Elsewhere than on Linux the system knows priorities of whole processes only.
fn step_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::warn!(%error, "the threads that hash passwords have the priority of all others");
    }
}

fn run_jobs(waiting: &Mutex<Receiver<Job>>, shared: &Shared) {
    loop {
        // One idle thread waits for the channel, the others for the lock; it is free again as soon as a job is taken.
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        shared.running.fetch_add(1, Ordering::Relaxed);
        shared.queued.fetch_sub(1, Ordering::Relaxed);
        // A panic costs its own caller an error, and not everybody a thread.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("hashing a password panicked");
        }
        shared.running.fetch_sub(1, Ordering::Relaxed);
    }
}

fn verify_blocking(password: &str, hash: Option<&PasswordHash>, cost: u32, ceiling: &AtomicU32) -> Verdict {
    // bcrypt reads 72 bytes and takes a NUL for the end: beyond that, another password than the user's would do.
    let can_match = password.len() <= NewPassword::MAX_BYTES && !password.contains('\0');
    let stored = hash.and_then(|hash| {
        let parts = hash.as_str().parse::<bcrypt::HashParts>();
        if parts.is_err() {
            tracing::error!("a stored password hash is damaged; its user can't log in");
        }
        parts.ok().map(|parts| (hash, parts.get_cost()))
    });
    let Some((hash, stored_cost)) = stored else {
        spend(password, ceiling.load(Ordering::Relaxed));
        return Verdict::NO_MATCH;
    };
    let ceiling = ceiling.fetch_max(stored_cost, Ordering::Relaxed).max(stored_cost);
    // Verified even if it can't match: to do the same work.
    let equal = bcrypt::verify(password, hash.as_str()).unwrap_or(false);
    if equal && can_match {
        return Verdict { matches: true, needs_rehash: stored_cost != cost };
    }
    for cost in remaining_costs(stored_cost, ceiling) {
        spend(password, cost);
    }
    Verdict::NO_MATCH
}

/// The costs of further hashes which, with one of cost `done`, take as long as a single one of cost `ceiling`: each step of cost doubles the
/// time, and 2ᵈ + (2ᵈ + 2ᵈ⁺¹ + … + 2ᶜ⁻¹) = 2ᶜ.
const fn remaining_costs(done: u32, ceiling: u32) -> Range<u32> {
    done..ceiling
}

/// Does the work of one verification at `cost`, for nothing. Needs no stored dummy: bcrypt takes the same time for every password and salt.
fn spend(password: &str, cost: u32) {
    let _ = black_box(bcrypt::hash_with_salt(black_box(password), cost, [0; 16]));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::domain::error::Code;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn password(text: &str) -> NewPassword {
        NewPassword::parse(text).unwrap()
    }

    fn verify(pool: &Passwords, text: &str, hash: &PasswordHash) -> Verdict {
        block_on(pool.verify(text.to_owned(), Some(hash.clone()))).unwrap()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn who_hashes_steps_back_behind_the_others() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let ours = niceness();
        let pool = Passwords::new(4, 1, 1).unwrap();
        let theirs = block_on(pool.run(niceness)).unwrap();
        assert_eq!((theirs, niceness()), (NICENESS, ours));
    }

    /// Keeps the pool's only thread busy until the returned sender is used or dropped.
    fn block(pool: &Passwords) -> mpsc::Sender<()> {
        let (release, gate) = mpsc::channel::<()>();
        let (started, has_started) = mpsc::channel();
        let answer = pool.submit(move || {
            started.send(()).unwrap();
            let _ = gate.recv();
        });
        has_started.recv().unwrap();
        // A job under way is not stopped by its caller's leaving.
        drop(answer);
        release
    }

    #[test]
    fn a_password_matches_itself_only() {
        let pool = Passwords::new(4, 2, 8).unwrap();
        let hash = block_on(pool.hash(password("correct horse"))).unwrap();
        assert_eq!(verify(&pool, "correct horse", &hash), Verdict { matches: true, needs_rehash: false });
        for wrong in ["", "correct horsf", "Correct horse", "correct horse\0", "correct horse\0correct horse"] {
            assert_eq!(verify(&pool, wrong, &hash), Verdict::NO_MATCH, "{wrong:?}");
        }
        assert_eq!(block_on(pool.verify("correct horse".to_owned(), None)).unwrap(), Verdict::NO_MATCH);
        assert_eq!(verify(&pool, "correct horse", &PasswordHash::from_stored("damaged".to_owned())), Verdict::NO_MATCH);
        assert!(!format!("{hash:?}").contains(hash.as_str()));
    }

    #[test]
    fn seventy_two_bytes_are_a_password_and_seventy_three_are_none() {
        let pool = Passwords::new(4, 1, 8).unwrap();
        let longest = "x".repeat(72);
        let hash = block_on(pool.hash(password(&longest))).unwrap();
        assert!(verify(&pool, &longest, &hash).matches);
        assert!(!verify(&pool, &"x".repeat(71), &hash).matches);
        assert!(!verify(&pool, &"x".repeat(73), &hash).matches, "nothing is cut off");
        assert!(!verify(&pool, &format!("{longest}\0"), &hash).matches);
    }

    #[test]
    fn a_hash_of_another_cost_is_to_be_renewed_once_it_matched() {
        let pool = Passwords::new(5, 1, 8).unwrap();
        for (cost, needs_rehash) in [(4, true), (5, false), (6, true)] {
            let hash = hash_blocking(&password("correct horse"), cost).unwrap();
            assert_eq!(verify(&pool, "correct horse", &hash), Verdict { matches: true, needs_rehash }, "{cost}");
            assert_eq!(verify(&pool, "wrong", &hash), Verdict::NO_MATCH);
        }
        assert_eq!(pool.shared.ceiling.load(Ordering::Relaxed), 6, "unknown users now answer as slowly as the slowest hash");
    }

    #[test]
    fn a_failure_costs_the_same_whatever_the_stored_cost() {
        for done in 4..=14 {
            let spent: u64 = (1 << done) + remaining_costs(done, 14).map(|cost| 1 << cost).sum::<u64>();
            assert_eq!(spent, 1 << 14, "{done}");
        }
    }

    #[test]
    fn beyond_its_bound_the_pool_refuses_at_once() {
        let pool = Passwords::new(4, 1, 2).unwrap();
        let release = block(&pool);
        let waiting = [pool.submit(|| 1).unwrap(), pool.submit(|| 2).unwrap()];
        assert_eq!((pool.running(), pool.queued()), (1, 2));
        let error = block_on(pool.verify("password".to_owned(), None)).unwrap_err();
        assert_eq!((error.code(), error.retry_after_seconds()), (Code::Overloaded, Some(1)));
        assert_eq!(block_on(pool.hash(password("password"))).unwrap_err().code(), Code::Overloaded);
        assert_eq!(pool.queued(), 2);

        drop(release);
        assert_eq!(waiting.map(|answer| block_on(answer).unwrap()), [1, 2]);
        assert!(block_on(pool.hash(password("password"))).is_ok());
        assert_eq!(pool.queued(), 0);
    }

    #[test]
    fn nobody_hashes_for_a_caller_who_left() {
        let pool = Passwords::new(4, 1, 2).unwrap();
        let release = block(&pool);
        let (done, was_done) = mpsc::channel();
        drop(pool.submit(move || done.send(())).unwrap());
        let last = pool.submit(|| ()).unwrap();
        drop(release);
        block_on(last).unwrap();
        assert!(was_done.recv().is_err(), "the job in between was dropped without being run");
    }

    #[test]
    fn a_panic_costs_one_caller_and_no_thread() {
        let pool = Passwords::new(4, 1, 2).unwrap();
        assert_eq!(block_on(pool.run(|| panic!("on purpose"))).map(|(): ()| ()).unwrap_err().code(), Code::Internal);
        assert_eq!(block_on(pool.run(|| 7)).unwrap(), 7);
    }

    #[test]
    fn the_threads_end_with_the_pool() {
        let pool = Passwords::new(4, 3, 2).unwrap();
        let shared = Arc::downgrade(&pool.shared);
        drop(pool);
        // Only the threads hold it now; without an end of theirs this would not return.
        while shared.strong_count() > 0 {
            std::thread::yield_now();
        }
    }
}
