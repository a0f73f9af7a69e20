//! Passwords: bcrypt, on threads of its own.
//!
//! One hash keeps a core busy for a quarter of a second by design. On the server's own threads a storm of logins would stop
//! every other request, and an unbounded queue would let it grow for ever: so there is a fixed number of threads, a bounded
//! queue in front of them, and beyond it a refusal at once.
//!
//! Those threads are of low priority, so that hashing takes what else nobody needs: with a core to themselves they lose nothing, and without one a read doesn't
//! wait for a hash. Where a thread's priority is not enough for that, each has a process that hashes ([`super::hashing`]).
//!
//! **Time tells nothing.** A failed verification costs what one hash of the configured cost does, whether there is such a user
//! or not, and whatever the cost of the user's stored hash: what a cheaper hash leaves over is spent (`hashing`, `remaining_costs`).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::hashing::{self, Hasher, Outcome, Program, Work};
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
    hash_by(&mut Hasher::new(None), password, cost)
}

fn hash_by(hasher: &mut Hasher, password: &NewPassword, cost: u32) -> Result<PasswordHash> {
    let password = password.reveal();
    // `NewPassword` ends where bcrypt's input does. `bcrypt::non_truncating_hash` would refuse 72 bytes, because it counts the NUL that
    // ends a shorter one; nothing is cut off at 72 and two passwords of 72 bytes differ, so `hash` it is, behind the same bound.
    if password.len() > NewPassword::MAX_BYTES {
        return Err(Error::internal("a password longer than bcrypt reads"));
    }
    match hasher.run(&Work::Hash { password: password.to_owned(), cost }) {
        Outcome::Hash(hash) => Ok(PasswordHash(hash)),
        Outcome::Failure(why) => Err(Error::internal(format!("hashing a password: {why}"))),
        Outcome::Matches(_) => Err(Error::internal("hashing a password: that is no hash")),
    }
}

type Job = Box<dyn FnOnce(&mut Hasher) + Send>;

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
    /// for them. Each does the work itself, or has a process of `program` do it.
    ///
    /// # Errors
    /// What the operating system says if it can't start a thread.
    pub fn new(cost: u32, threads: usize, queue: usize, program: Option<Program>) -> std::io::Result<Self> {
        let (jobs, waiting) = sync_channel(queue.max(1));
        let waiting = Arc::new(Mutex::new(waiting));
        let shared = Arc::new(Shared { queued: AtomicUsize::new(0), running: AtomicUsize::new(0), ceiling: AtomicU32::new(cost) });
        for number in 0..threads.max(1) {
            let (waiting, shared) = (Arc::clone(&waiting), Arc::clone(&shared));
            std::thread::Builder::new().name(format!("password-{number}")).spawn(move || {
                if let Err(error) = hashing::step_back() {
                    tracing::warn!(%error, "the threads that hash passwords have the priority of all others");
                }
                run_jobs(&waiting, &shared, Hasher::new(program));
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
        self.run(move |hasher| hash_by(hasher, &password, cost)).await?
    }

    /// Whether `password` is the one of `hash`. Give `None` for an unknown user, one without a password, and one who may not log in: the
    /// answer is no, and takes as long as any other no. So does that for a password over 72 bytes or with NUL, which nobody has.
    ///
    /// # Errors
    /// 503 `overloaded` at once if the queue is full.
    pub async fn verify(&self, password: String, hash: Option<PasswordHash>) -> Result<Verdict> {
        let (cost, shared) = (self.cost, Arc::clone(&self.shared));
        self.run(move |hasher| verify_by(hasher, password, hash, cost, &shared.ceiling)).await?
    }

    /// How many passwords wait for a thread.
    pub fn queued(&self) -> usize {
        self.shared.queued.load(Ordering::Relaxed)
    }

    /// How many passwords are being worked on.
    pub fn running(&self) -> usize {
        self.shared.running.load(Ordering::Relaxed)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&mut Hasher) -> T + Send + 'static) -> Result<T> {
        self.submit(work)?.await.map_err(|_| Error::internal("a password thread panicked"))
    }

    fn submit<T: Send + 'static>(&self, work: impl FnOnce(&mut Hasher) -> T + Send + 'static) -> Result<oneshot::Receiver<T>> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |hasher| {
            // Whoever has given up waiting (a closed connection, a time limit) leaves the thread to the others.
            if !reply.is_closed() {
                let _ = reply.send(work(hasher));
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

fn run_jobs(waiting: &Mutex<Receiver<Job>>, shared: &Shared, mut hasher: Hasher) {
    loop {
        // One idle thread waits for the channel, the others for the lock; it is free again as soon as a job is taken.
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        shared.running.fetch_add(1, Ordering::Relaxed);
        shared.queued.fetch_sub(1, Ordering::Relaxed);
        // A panic costs its own caller an error, and not everybody a thread.
        if catch_unwind(AssertUnwindSafe(|| job(&mut hasher))).is_err() {
            tracing::error!("hashing a password panicked");
        }
        shared.running.fetch_sub(1, Ordering::Relaxed);
    }
}

fn verify_by(hasher: &mut Hasher, password: String, hash: Option<PasswordHash>, cost: u32, ceiling: &AtomicU32) -> Result<Verdict> {
    let stored_cost = hash.as_ref().and_then(|hash| hashing::cost_of(hash.as_str()));
    if hash.is_some() && stored_cost.is_none() {
        tracing::error!("a stored password hash is damaged; its user can't log in");
    }
    let stored_cost = stored_cost.unwrap_or(0);
    let ceiling = ceiling.fetch_max(stored_cost, Ordering::Relaxed).max(stored_cost);
    match hasher.run(&Work::Verify { password, hash: hash.map(|hash| hash.0), ceiling }) {
        Outcome::Matches(true) => Ok(Verdict { matches: true, needs_rehash: stored_cost != cost }),
        Outcome::Matches(false) => Ok(Verdict::NO_MATCH),
        Outcome::Failure(why) => Err(Error::internal(format!("verifying a password: {why}"))),
        Outcome::Hash(_) => Err(Error::internal("verifying a password: that is no verdict")),
    }
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
        let pool = Passwords::new(4, 1, 1, None).unwrap();
        let theirs = block_on(pool.run(move |_| niceness())).unwrap();
        assert_eq!((theirs, niceness()), (hashing::NICENESS, ours));
    }

    /// Keeps the pool's only thread busy until the returned sender is used or dropped.
    fn block(pool: &Passwords) -> mpsc::Sender<()> {
        let (release, gate) = mpsc::channel::<()>();
        let (started, has_started) = mpsc::channel();
        let answer = pool.submit(move |_| {
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
        let pool = Passwords::new(4, 2, 8, None).unwrap();
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
        let pool = Passwords::new(4, 1, 8, None).unwrap();
        let longest = "x".repeat(72);
        let hash = block_on(pool.hash(password(&longest))).unwrap();
        assert!(verify(&pool, &longest, &hash).matches);
        assert!(!verify(&pool, &"x".repeat(71), &hash).matches);
        assert!(!verify(&pool, &"x".repeat(73), &hash).matches, "nothing is cut off");
        assert!(!verify(&pool, &format!("{longest}\0"), &hash).matches);
    }

    #[test]
    fn a_hash_of_another_cost_is_to_be_renewed_once_it_matched() {
        let pool = Passwords::new(5, 1, 8, None).unwrap();
        for (cost, needs_rehash) in [(4, true), (5, false), (6, true)] {
            let hash = hash_blocking(&password("correct horse"), cost).unwrap();
            assert_eq!(verify(&pool, "correct horse", &hash), Verdict { matches: true, needs_rehash }, "{cost}");
            assert_eq!(verify(&pool, "wrong", &hash), Verdict::NO_MATCH);
        }
        assert_eq!(pool.shared.ceiling.load(Ordering::Relaxed), 6, "unknown users now answer as slowly as the slowest hash");
    }

    #[test]
    fn beyond_its_bound_the_pool_refuses_at_once() {
        let pool = Passwords::new(4, 1, 2, None).unwrap();
        let release = block(&pool);
        let waiting = [pool.submit(|_| 1).unwrap(), pool.submit(|_| 2).unwrap()];
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
        let pool = Passwords::new(4, 1, 2, None).unwrap();
        let release = block(&pool);
        let (done, was_done) = mpsc::channel();
        drop(pool.submit(move |_| done.send(())).unwrap());
        let last = pool.submit(|_| ()).unwrap();
        drop(release);
        block_on(last).unwrap();
        assert!(was_done.recv().is_err(), "the job in between was dropped without being run");
    }

    #[test]
    fn a_panic_costs_one_caller_and_no_thread() {
        let pool = Passwords::new(4, 1, 2, None).unwrap();
        assert_eq!(block_on(pool.run(|_| panic!("on purpose"))).map(|(): ()| ()).unwrap_err().code(), Code::Internal);
        assert_eq!(block_on(pool.run(|_| 7)).unwrap(), 7);
    }

    #[test]
    fn the_threads_end_with_the_pool() {
        let pool = Passwords::new(4, 3, 2, None).unwrap();
        let shared = Arc::downgrade(&pool.shared);
        drop(pool);
        // Only the threads hold it now; without an end of theirs this would not return.
        while shared.strong_count() > 0 {
            std::thread::yield_now();
        }
    }
}
