//! SQLite's one writer. What waits for it at the same moment shares a commit, because it is the flush of a commit that takes the time.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::conn::{Conn, Manager};
use super::db::{ATTEMPTS, PoolState};
use super::presence::{self, Presence};
use crate::domain::error::{Error, Result};

/// How many writes share a commit at most, so that the first of a crowd doesn't wait for all of it.
const MOST_AT_ONCE: usize = 64;

/// How many of those that wait share the next commit: half of the crowd, which is who waits and who was just answered. While one half is written the other takes its
/// answers and comes back; all at once would leave the writer and the rest of the server waiting for each other. Where a commit takes far longer than the work of all,
/// there is nothing to be gained by that, and all share one: ARCHITECTURE.md, "Where the time goes".
fn share(waiting: usize, answered: usize, is_flush_slow: bool) -> usize {
    let crowd = if is_flush_slow { waiting } else { (waiting + answered).div_ceil(2) };
    crowd.min(waiting).min(MOST_AT_ONCE)
}

/// How long a commit takes, and the work of all of the crowd: of the last few of them, so that a checkpoint now and then changes nothing.
#[derive(Default)]
struct Pace {
    commit: Duration,
    round: Duration,
}

impl Pace {
    /// Takes note of a commit of what `done` of the crowd wanted, which took `work` before.
    fn note(&mut self, work: Duration, commit: Duration, done: usize, crowd: usize) {
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let average = |of: Duration, new| (of * 7 + new) / 8;
        self.commit = average(self.commit, commit);
        self.round = average(self.round, work / count(done.max(1)) * count(crowd));
    }

    /// Whether it is the flush that takes the time. Of a commit that takes as long as the work much is writing pages, which takes the longer the more share it.
    fn is_flush_slow(&self) -> bool {
        self.commit > self.round * 2
    }
}

/// How often the writer looks whether another process changed the database, while it has nothing to do.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// The thread that writes, and the queue in front of it.
pub(super) struct Writer {
    /// Nothing once it stops.
    queue: Option<Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    is_connected: AtomicBool,
    is_busy: AtomicBool,
}

impl Writer {
    /// Starts the thread. It connects when it first has something to do.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(manager: Manager, presence: Option<Arc<Presence>>) -> Result<Self> {
        let (queue, jobs) = mpsc::channel();
        let state = Arc::new(State::default());
        let working = Working {
            manager,
            presence,
            conn: None,
            waiting: VecDeque::new(),
            pace: Pace::default(),
            took: None,
            state: Arc::clone(&state),
        };
        let thread = thread::Builder::new().name("actas-writer".to_owned()).spawn(move || working.run(&jobs)).map_err(Error::internal)?;
        Ok(Self { queue: Some(queue), thread: Some(thread), state })
    }

    /// Runs `work` in the next transaction, and answers once that transaction is durable. Whoever isn't begun with within `patience`
    /// is told so, and nobody begins with what nobody waits for.
    pub async fn write<T: Send + 'static>(&self, work: impl Fn(&mut Conn) -> Result<T> + Send + 'static, patience: Duration) -> Result<T> {
        let call = Call(Arc::new(AtomicU8::new(WAITING)));
        let (reply, answer) = oneshot::channel();
        let task = Task { work, outcome: None, call: Arc::clone(&call.0), reply };
        let stopped = || Error::internal("the writer has stopped");
        self.queue.as_ref().ok_or_else(stopped)?.send(Box::new(task)).map_err(|_| stopped())?;
        let mut answer = std::pin::pin!(answer);
        let answered = match tokio::time::timeout(patience, &mut answer).await {
            Ok(answered) => answered,
            Err(_) if call.call_off() => return Err(Error::overloaded()),
            Err(_) => answer.await,
        };
        answered.unwrap_or_else(|_| Err(stopped()))
    }

    pub fn state(&self) -> PoolState {
        let is = |flag: &AtomicBool| u32::from(flag.load(Ordering::Relaxed));
        let in_use = is(&self.state.is_busy);
        PoolState { idle: is(&self.state.is_connected).saturating_sub(in_use), in_use }
    }
}

impl Drop for Writer {
    /// Waits for what is queued, so that the connection is closed afterwards.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }
}

const WAITING: u8 = 0;
const TAKEN_UP: u8 = 1;
const CALLED_OFF: u8 = 2;

/// The caller's end of a write. Dropped, it calls off what was not begun with.
struct Call(Arc<AtomicU8>);

impl Call {
    /// Whether that was in time.
    fn call_off(&self) -> bool {
        self.0.compare_exchange(WAITING, CALLED_OFF, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.call_off();
    }
}

/// One write.
trait Job: Send {
    /// Whether anybody still waits for it. From then on it can't be called off.
    fn take_up(&self) -> bool;
    /// Does it, inside a transaction, and remembers what came out; whether that is to stay.
    fn run(&mut self, conn: &mut Conn) -> Result<()>;
    /// Tells the caller what came out, or why that did not become durable.
    fn answer(self: Box<Self>, committed: Result<()>);
}

struct Task<T, W> {
    work: W,
    outcome: Option<Result<T>>,
    call: Arc<AtomicU8>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T: Send, W: Fn(&mut Conn) -> Result<T> + Send> Job for Task<T, W> {
    fn take_up(&self) -> bool {
        self.call.compare_exchange(WAITING, TAKEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn run(&mut self, conn: &mut Conn) -> Result<()> {
        // What a panic leaves behind is rolled back.
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.work)(conn)));
        let outcome = outcome.unwrap_or_else(|_| Err(Error::internal("a write panicked")));
        let stays = outcome.as_ref().map(drop).map_err(Clone::clone);
        self.outcome = Some(outcome);
        stays
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let outcome = match (self.outcome, committed) {
            // Whoever failed by itself may have done so for what is lost now too.
            (_, Err(error)) => Err(error),
            (Some(outcome), Ok(())) => outcome,
            (None, Ok(())) => Err(Error::internal("a write was not run")),
        };
        let _ = self.reply.send(outcome);
    }
}

/// The thread's own.
struct Working {
    manager: Manager,
    presence: Option<Arc<Presence>>,
    conn: Option<Conn>,
    /// What came out of the queue and was not begun with.
    waiting: VecDeque<Box<dyn Job>>,
    pace: Pace,
    /// How long the last transaction worked, and committed; nothing where it wasn't, or where each had one of its own after all.
    took: Option<(Duration, Duration)>,
    state: Arc<State>,
}

impl Working {
    fn run(mut self, jobs: &Receiver<Box<dyn Job>>) {
        if let Some(presence) = &self.presence {
            presence::keep_here(presence);
        }
        let mut answered = 0;
        loop {
            self.waiting.extend(jobs.try_iter());
            if self.waiting.is_empty() {
                match jobs.recv_timeout(LOOK_INTERVAL) {
                    Ok(job) => self.waiting.push_back(job),
                    Err(RecvTimeoutError::Timeout) => {
                        answered = 0;
                        self.look();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            let crowd = self.waiting.len() + answered;
            let together = self.waiting.drain(..share(self.waiting.len(), answered, self.pace.is_flush_slow())).collect();
            self.state.is_busy.store(true, Ordering::Relaxed);
            answered = self.commit_together(together, jobs);
            if let Some((work, commit)) = self.took.take() {
                self.pace.note(work, commit, answered, crowd.max(answered));
            }
            self.state.is_busy.store(false, Ordering::Relaxed);
        }
    }

    /// Notes what other processes changed.
    fn look(&mut self) {
        if let Some(presence) = self.presence.clone()
            && let Ok(conn) = self.connection()
        {
            presence.look(conn);
        }
    }

    fn connection(&mut self) -> Result<&mut Conn> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => {
                let conn = self.manager.open_one()?;
                if let Some(presence) = &self.presence {
                    presence.forget();
                }
                self.state.is_connected.store(true, Ordering::Relaxed);
                conn
            }
        };
        Ok(self.conn.insert(conn))
    }

    fn disconnect(&mut self) {
        self.conn = None;
        self.state.is_connected.store(false, Ordering::Relaxed);
        if let Some(presence) = &self.presence {
            presence.forget();
        }
    }

    /// Runs these in one transaction, on a slow disk along with what comes meanwhile, answers them all when it is durable, and says how many that were. Where one of them
    /// fails after it has changed something, nothing of that stays, and each has a transaction of its own: to be able to undo one alone, SQLite would keep a copy of
    /// whatever each of them changes.
    fn commit_together(&mut self, mut together: VecDeque<Box<dyn Job>>, jobs: &Receiver<Box<dyn Job>>) -> usize {
        let mut done = Vec::with_capacity(together.len());
        let more = self.pace.is_flush_slow().then_some(jobs);
        let ended = self.transact(|conn| run_together(conn, &mut together, more, &mut done));
        let count = done.len();
        match ended {
            Ok(Ended::Undone) => {
                tracing::debug!(writes = count, "writes that shared a transaction are done one by one");
                done.into_iter().for_each(|job| self.commit_alone(job));
                // Nothing of what one took follows for the next crowd.
                self.took = None;
                together.into_iter().rev().for_each(|job| self.waiting.push_front(job));
            }
            committed => {
                let committed = committed.map(drop);
                // Some are left where it could not even begin.
                done.into_iter().chain(together).for_each(|job| job.answer(committed.clone()));
            }
        }
        count
    }

    /// Runs a job in a transaction of its own, again where it lost a race, and answers it. It has been tried once.
    fn commit_alone(&mut self, mut job: Box<dyn Job>) {
        for attempt in 2.. {
            let mut outcome = Ok(());
            let ended = self.transact(|conn| {
                outcome = job.run(conn);
                Ok(if outcome.is_ok() { Ended::Done } else { Ended::Undone })
            });
            match outcome {
                Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                    tracing::debug!(%error, attempt, "a write lost a race and is tried again");
                }
                Ok(()) => return job.answer(ended.and_then(Ended::or_refused)),
                Err(_) => return job.answer(ended.map(drop)),
            }
        }
    }

    /// Runs `work` in a transaction, which is committed if it is done.
    fn transact(&mut self, work: impl FnOnce(&mut Conn) -> Result<Ended>) -> Result<Ended> {
        let presence = self.presence.clone();
        let conn = self.connection()?;
        // Outside of the transaction, with which it might be rolled back.
        if let Some(presence) = &presence {
            presence.attend(conn);
        }
        conn.begin()?;
        presence::begin_here();
        let begun = Instant::now();
        let ended = work(conn);
        let worked = Instant::now();
        let ended = ended.and_then(|ended| match ended {
            Ended::Done => conn.commit_unless_refused().map(|is_taken| if is_taken { Ended::Done } else { Ended::Undone }),
            Ended::Undone => Ok(Ended::Undone),
        });
        let is_committed = matches!(ended, Ok(Ended::Done));
        let took = (worked - begun, worked.elapsed());
        let is_over = is_committed || conn.roll_back();
        // Before anyone is told: whoever was told of an end must not find the session alive.
        if let Some(presence) = &presence {
            presence.note_end(conn, is_committed);
        }
        if let Err(error) = &ended {
            tracing::warn!(%error, "the writes of a transaction were lost with it");
        }
        if ended.is_err() || !is_over {
            self.disconnect();
        }
        self.took = is_committed.then_some(took);
        ended
    }
}

/// What is to become of a transaction.
enum Ended {
    /// It is committed.
    Done,
    /// It is rolled back, whatever it changed: somebody failed, or a row refers to one that isn't there.
    Undone,
}

impl Ended {
    /// Of a transaction in which nobody failed.
    fn or_refused(self) -> Result<()> {
        match self {
            Self::Done => Ok(()),
            Self::Undone => Err(Error::internal("a row refers to one that isn't there")),
        }
    }
}

/// Runs these one after the other, and then what comes in as `more`. Done is what did what it does, and what was refused and had changed nothing.
fn run_together(
    conn: &mut Conn,
    together: &mut VecDeque<Box<dyn Job>>,
    more: Option<&Receiver<Box<dyn Job>>>,
    done: &mut Vec<Box<dyn Job>>,
) -> Result<Ended> {
    let mut changed = conn.changes()?;
    loop {
        let comes = || more.filter(|_| done.len() < MOST_AT_ONCE).and_then(|more| more.try_recv().ok());
        let Some(mut job) = together.pop_front().or_else(comes) else { return Ok(Ended::Done) };
        if !job.take_up() {
            continue;
        }
        let outcome = job.run(conn);
        done.push(job);
        let changed_before = std::mem::replace(&mut changed, conn.changes()?);
        if let Err(error) = outcome {
            // What it took note of.
            presence::disbelieve();
            if error.is_transient() || changed != changed_before || !conn.is_still_in_transaction() {
                return Ok(Ended::Undone);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::sync::Mutex;
    use std::sync::mpsc::channel;
    use std::task::Poll;

    use diesel::RunQueryDsl as _;
    use diesel::connection::SimpleConnection as _;
    use tempfile::TempDir;

    use super::*;
    use crate::domain::error::Code;
    use crate::store::{Backend, Db, Options};

    const PATIENCE: Duration = Duration::from_secs(10);

    fn database() -> (TempDir, Db) {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("actas.db").display());
        let db = Db::open(&Options { url, pool_size: 2, patience: PATIENCE, is_pooled: false }).unwrap();
        db.write_blocking(|conn| execute(conn, "CREATE TABLE words (word TEXT UNIQUE)")).unwrap();
        (directory, db)
    }

    fn execute(conn: &mut Conn, sql: &str) -> Result<()> {
        conn.batch_execute(sql).map_err(Error::internal)
    }

    fn add(conn: &mut Conn, word: &str) -> Result<()> {
        execute(conn, &format!("INSERT INTO words VALUES ('{word}')"))
    }

    #[derive(diesel::QueryableByName)]
    struct Word {
        #[diesel(sql_type = diesel::sql_types::Text)]
        word: String,
    }

    fn words(conn: &mut Conn) -> Vec<String> {
        let words: Vec<Word> = diesel::sql_query("SELECT word FROM words ORDER BY word").load(conn).unwrap();
        words.into_iter().map(|row| row.word).collect()
    }

    fn run(work: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work);
    }

    /// Lets the writer begin with a write that goes on until told, and queues `others` behind it, which are polled in their order.
    async fn behind_one_that_waits<T>(db: &Db, others: impl Future<Output = T>) -> (Result<()>, T) {
        let (begun, has_begun) = channel();
        let (go_on, wait) = channel::<()>();
        let wait = Mutex::new(wait);
        let first = db.write(move |conn| {
            begun.send(()).unwrap();
            // Until the other end is gone; no longer where this is run again.
            wait.lock().unwrap().recv().unwrap_err();
            add(conn, "first")
        });
        let release = async {
            has_begun.recv().unwrap();
            // The others have been queued by now, because this is polled after them.
            tokio::task::yield_now().await;
            drop(go_on);
        };
        let (first, others, ()) = tokio::join!(first, others, release);
        (first, others)
    }

    #[test]
    fn half_of_the_crowd_shares_a_commit_and_all_where_the_flush_takes_long() {
        for ((waiting, answered), half, all) in [
            ((1, 0), 1, 1),
            ((1, 1), 1, 1),
            ((1, 63), 1, 1),
            ((3, 1), 2, 3),
            ((32, 0), 16, 32),
            ((16, 16), 16, 16),
            ((20, 12), 16, 20),
            ((128, 0), 64, 64),
            ((5000, 64), 64, 64),
        ] {
            assert_eq!(share(waiting, answered, false), half, "{waiting} wait, {answered} were answered");
            assert_eq!(share(waiting, answered, true), all, "{waiting} wait, {answered} were answered, slowly");
        }
    }

    #[test]
    fn a_flush_is_slow_if_commits_take_longer_than_the_work_of_all() {
        let paced = |commits: &[(u64, u64, usize, usize)]| {
            let mut pace = Pace::default();
            for &(work, commit, done, crowd) in commits {
                pace.note(Duration::from_micros(work), Duration::from_micros(commit), done, crowd);
            }
            pace.is_flush_slow()
        };
        let (usual, slow) = ((800, 1000, 16, 32), (800, 6000, 16, 32));
        assert!(!paced(&[]));
        assert!(!paced(&[usual]));
        assert!(paced(&[slow]));
        // Of a crowd of which few happened to be done.
        assert!(!paced(&[(100, 400, 2, 32)]));
        // One alone, for whom it makes no difference.
        assert!(paced(&[(50, 250, 1, 1)]));
        // A checkpoint.
        assert!(!paced(&[usual, usual, usual, slow]));
        assert!(paced(&[usual, slow, slow, slow, slow]));
        assert!(!paced(&[(0, 0, 0, 1), usual]));
    }

    #[test]
    fn who_comes_meanwhile_shares_a_slow_flush_up_to_a_bound() {
        let (_directory, db) = database();
        let mut conn = db.dedicated().unwrap();
        let job = || -> Box<dyn Job> {
            let (reply, _) = oneshot::channel();
            Box::new(Task { work: |_: &mut Conn| Ok(()), outcome: None, call: Arc::new(AtomicU8::new(WAITING)), reply })
        };
        let (queue, jobs) = channel();
        (0..MOST_AT_ONCE + 5).for_each(|_| queue.send(job()).unwrap());
        for (more, expected) in [(None, 2), (Some(&jobs), MOST_AT_ONCE)] {
            let mut done = Vec::new();
            conn.begin().unwrap();
            let ended = run_together(&mut conn, &mut VecDeque::from([job(), job()]), more, &mut done);
            assert!(matches!(ended, Ok(Ended::Done)) && conn.roll_back());
            assert_eq!(done.len(), expected);
        }
        assert_eq!(jobs.try_iter().count(), 7, "wait for the next commit");
    }

    #[test]
    fn how_long_a_commit_took_is_known_where_it_was_shared() {
        fn job(work: impl Fn(&mut Conn) -> Result<()> + Send + 'static) -> Box<dyn Job> {
            let (reply, _) = oneshot::channel();
            Box::new(Task { work, outcome: None, call: Arc::new(AtomicU8::new(WAITING)), reply })
        }
        let (directory, _db) = database();
        let url = directory.path().join("actas.db").display().to_string();
        let manager = Manager { url, backend: Backend::Sqlite, query_only: false, is_pooled: false, lock_timeout: PATIENCE };
        let (pace, state) = (Pace::default(), Arc::default());
        let mut working = Working { manager, presence: None, conn: None, waiting: VecDeque::new(), pace, took: None, state };
        let (_queue, jobs) = channel();

        let good = [job(|conn| add(conn, "one")), job(|conn| add(conn, "two"))];
        assert_eq!(working.commit_together(good.into(), &jobs), 2);
        assert!(working.took.take().is_some());

        let has_failed = AtomicBool::new(false);
        let fails_once = job(move |conn| {
            add(conn, "four")?;
            if has_failed.swap(true, Ordering::Relaxed) { Ok(()) } else { Err(Error::not_found()) }
        });
        assert_eq!(working.commit_together([job(|conn| add(conn, "three")), fails_once].into(), &jobs), 2);
        assert!(working.took.is_none(), "each had a commit of its own");
        assert_eq!(words(working.connection().unwrap()), ["four", "one", "three", "two"]);
    }

    #[test]
    fn what_waits_at_the_same_moment_shares_a_transaction() {
        let (_directory, db) = database();
        run(async {
            let reader = db.clone();
            let others = async {
                tokio::join!(
                    // It has changed nothing, so there is nothing to undo.
                    db.write(|_| Err::<(), _>(Error::not_found())),
                    db.write(|conn| add(conn, "second")),
                    db.write(move |conn| {
                        add(conn, "last")?;
                        // Nobody else has seen those that share it yet.
                        assert_eq!(words(conn), ["first", "last", "second"]);
                        let seen = reader.read_blocking(|conn| Ok(words(conn)))?;
                        assert!(!seen.contains(&"second".to_owned()), "{seen:?}");
                        Ok(())
                    }),
                    // These fill the other half.
                    db.write(|_| Ok(())),
                    db.write(|_| Ok(())),
                )
            };
            let (first, (refused, second, last, other, another)) = behind_one_that_waits(&db, others).await;
            assert_eq!(refused.unwrap_err().code(), Code::NotFound);
            for stays in [first, second, last, other, another] {
                stays.unwrap();
            }
            assert_eq!(db.read_blocking(|conn| Ok(words(conn))).unwrap(), ["first", "last", "second"]);
        });
    }

    #[test]
    fn what_fails_after_it_changed_something_is_undone_alone() {
        let (_directory, db) = database();
        run(async {
            let others = async {
                tokio::join!(
                    db.write(|conn| add(conn, "second")),
                    db.write(|conn| {
                        add(conn, "refused")?;
                        Err::<(), _>(Error::not_found())
                    }),
                    db.write(|conn| add(conn, "third")),
                    db.write(|conn| {
                        add(conn, "panicked")?;
                        if true {
                            panic!("on purpose");
                        }
                        Ok(())
                    }),
                    db.write(|conn| add(conn, "last")),
                )
            };
            let (first, (second, refused, third, panicked, last)) = behind_one_that_waits(&db, others).await;
            for stays in [first, second, third, last] {
                stays.unwrap();
            }
            assert_eq!(refused.unwrap_err().code(), Code::NotFound);
            assert_eq!(panicked.unwrap_err().code(), Code::Internal);
            assert_eq!(db.read_blocking(|conn| Ok(words(conn))).unwrap(), ["first", "last", "second", "third"]);
        });
    }

    #[test]
    fn a_transaction_that_the_database_rolled_back_takes_nobody_else_along() {
        let (_directory, db) = database();
        let forbid =
            "CREATE TRIGGER forbid BEFORE INSERT ON words WHEN NEW.word = 'forbidden' BEGIN SELECT RAISE(ROLLBACK, 'forbidden'); END";
        db.write_blocking(|conn| execute(conn, forbid)).unwrap();
        run(async {
            let others = async {
                tokio::join!(
                    db.write(|conn| add(conn, "second")),
                    db.write(|conn| add(conn, "forbidden")),
                    // Each word or none: it would stay although the second of its changes fails, were it in no transaction.
                    db.write(|conn| {
                        add(conn, "half")?;
                        add(conn, "second")
                    }),
                    db.write(|conn| add(conn, "last")),
                )
            };
            let (first, (second, forbidden, half, last)) = behind_one_that_waits(&db, others).await;
            for stays in [first, second, last] {
                stays.unwrap();
            }
            assert_eq!(forbidden.unwrap_err().code(), Code::Internal);
            half.unwrap_err();
            assert_eq!(db.read_blocking(|conn| Ok(words(conn))).unwrap(), ["first", "last", "second"]);
        });
    }

    #[test]
    fn what_lost_a_race_is_tried_again_and_a_bounded_number_of_times() {
        let (_directory, db) = database();
        run(async {
            let tries = Arc::new(AtomicU8::new(0));
            let counted = Arc::clone(&tries);
            let third =
                db.write(move |_| if counted.fetch_add(1, Ordering::Relaxed) < 2 { Err(Error::lost_race("a race")) } else { Ok(()) });
            third.await.unwrap();
            assert_eq!(tries.load(Ordering::Relaxed), 3);
            let (all, counted) = (Arc::new(AtomicU8::new(0)), Arc::clone(&tries));
            counted.store(0, Ordering::Relaxed);
            let counting = Arc::clone(&all);
            let never = db.write(move |_| {
                counting.fetch_add(1, Ordering::Relaxed);
                Err::<(), _>(Error::lost_race("a race"))
            });
            assert!(never.await.unwrap_err().is_transient());
            assert_eq!(u32::from(all.load(Ordering::Relaxed)), ATTEMPTS);
        });
    }

    #[test]
    fn what_nobody_waits_for_is_not_begun() {
        let (_directory, db) = database();
        run(async {
            let others = async {
                let mut gone = Box::pin(db.write(|conn| add(conn, "nobody's")));
                // Queued by being polled once, and then let go.
                assert!(poll_fn(|context| Poll::Ready(gone.as_mut().poll(context).is_pending())).await);
                drop(gone);
            };
            let (first, ()) = behind_one_that_waits(&db, others).await;
            first.unwrap();
            db.write(|conn| add(conn, "second")).await.unwrap();
            assert_eq!(db.read_blocking(|conn| Ok(words(conn))).unwrap(), ["first", "second"]);
        });
    }

    #[test]
    fn what_keeps_a_commit_from_being_taken_takes_nobody_else_along() {
        let (_directory, db) = database();
        let setup = "CREATE TABLE children (word TEXT REFERENCES words (word) DEFERRABLE INITIALLY DEFERRED)";
        db.write_blocking(|conn| execute(conn, setup)).unwrap();
        run(async {
            let others = async {
                tokio::join!(
                    db.write(|conn| add(conn, "second")),
                    db.write(|conn| execute(conn, "INSERT INTO children VALUES ('nobody')")),
                    db.write(|conn| add(conn, "last")),
                )
            };
            let (first, (second, orphan, last)) = behind_one_that_waits(&db, others).await;
            for stays in [first, second, last] {
                stays.unwrap();
            }
            assert_eq!(orphan.unwrap_err().code(), Code::Internal);
            db.write(|conn| add(conn, "again")).await.unwrap();
            assert_eq!(db.read_blocking(|conn| Ok(words(conn))).unwrap(), ["again", "first", "last", "second"]);
        });
    }

    #[test]
    fn a_commit_that_fails_is_nobodys_success() {
        let (_directory, db) = database();
        run(async {
            // There is nothing to commit when it comes to that.
            let others = async { tokio::join!(db.write(|conn| execute(conn, "COMMIT")), db.write(|conn| add(conn, "last"))) };
            let (_, (ended, last)) = behind_one_that_waits(&db, others).await;
            assert!(ended.is_err() && last.is_err());
            db.write(|conn| add(conn, "again")).await.unwrap();
        });
    }
}
