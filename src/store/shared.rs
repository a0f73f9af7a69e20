//! Postgres: what waits at the same moment shares a statement, which is a round trip, and for a write a commit with its flush. A look-up is as fresh as one of its
//! own: its select begins after it was asked for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use diesel::r2d2::PooledConnection;
use tokio::sync::oneshot;

use super::articles;
use super::at_once::{self, Departure, Leave, Save, Start};
use super::conn::{Conn, Manager};
use super::db::Db;
use super::sessions::{self, Presented, Scene};
use super::users;
use crate::domain::article::Article;
use crate::domain::error::{Code, Error, Result};
use crate::domain::ids::{ArticleId, SessionId, UserId};
use crate::domain::user::User;

/// How many statements of a kind run at once at most. As many as are usual, as long as nobody waits long for them and no more wait than share one: what runs beside
/// another is shared by fewer, and a statement costs the server nearly as much for few as for many.
const MOST_STATEMENTS: usize = 4;

/// How long to wait for the statement that runs before another is begun beside it.
const LONG: Duration = Duration::from_millis(100);

/// How many share a statement at most.
const MOST_AT_ONCE: usize = 64;

/// What is asked of the database most often.
pub(super) struct Sharing {
    pub sessions: Arc<Shared<(SessionId, String), Arc<Presented>>>,
    pub articles: Arc<Shared<ArticleId, Arc<Article>>>,
    pub scenes: Arc<Shared<(SessionId, String, ArticleId), Scene>>,
    pub users: Arc<Shared<UserId, Arc<User>>>,
    pub saves: Arc<Shared<Save, ()>>,
    /// Answers the kid of the key that signs the token.
    pub starts: Arc<Shared<Start, String>>,
    pub leaves: Arc<Shared<Leave, Departure>>,
}

impl Sharing {
    pub fn new() -> Self {
        Self {
            sessions: Shared::look_up(sessions::find_presented_many),
            articles: Shared::look_up(articles::find_many),
            scenes: Shared::look_up(sessions::find_scenes),
            users: Shared::look_up(users::find_many),
            // While one is flushed, the next can begin.
            saves: Shared::write(at_once::save_many, 2),
            // A start is flushed beside a logout.
            starts: Shared::write(at_once::start_many, 1),
            leaves: Shared::write(at_once::leave_many, 1),
        }
    }
}

/// What comes of one's asking; nothing where nothing is found, or was done. A row that can't be read is the misfortune of those who ask for it, and not of those who
/// share the statement.
pub(super) type Found<V> = Result<Option<V>>;

/// Answers many at once, in the order in which they asked.
type AnswerMany<K, V> = fn(&mut Conn, &[K]) -> Result<Vec<Found<V>>>;

/// After how many statements a connection goes back to the pool, where others wait for one.
const MOST_STATEMENTS_IN_A_ROW: usize = 16;

/// One kind of thing that is asked for.
pub(super) struct Shared<K, V> {
    answer: AnswerMany<K, V>,
    /// A write isn't sent twice, and whoever waits for one that has begun waits for its end.
    is_write: bool,
    /// How many statements usually run at once.
    usual: usize,
    queue: Mutex<Queue<K, V>>,
}

struct Queue<K, V> {
    waiting: Vec<Asked<K, V>>,
    /// How many have asked so far.
    asked: u64,
    /// Those that run, or are about to.
    statements: usize,
}

struct Asked<K, V> {
    number: u64,
    key: K,
    reply: Reply<V>,
}

type Reply<V> = oneshot::Sender<Found<V>>;

impl<K: Send + 'static, V: Send + 'static> Shared<K, V> {
    fn look_up(answer: AnswerMany<K, V>) -> Arc<Self> {
        Self::new(answer, false, 1)
    }

    fn write(answer: AnswerMany<K, V>, usual: usize) -> Arc<Self> {
        Self::new(answer, true, usual)
    }

    fn new(answer: AnswerMany<K, V>, is_write: bool, usual: usize) -> Arc<Self> {
        Arc::new(Self { answer, is_write, usual, queue: Mutex::new(Queue { waiting: Vec::new(), asked: 0, statements: 0 }) })
    }

    fn queue(&self) -> MutexGuard<'_, Queue<K, V>> {
        // Nothing panics while it is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for `key`, and waits for `patience` at most until it is taken up, and a look-up no longer than that for its answer.
    ///
    /// # Errors
    /// 503 where the database can't be asked in time.
    pub async fn ask(self: &Arc<Self>, db: &Db, key: K, patience: Duration) -> Result<Option<V>> {
        let (reply, answer) = oneshot::channel();
        let number = {
            let mut queue = self.queue();
            queue.asked += 1;
            let number = queue.asked;
            queue.waiting.push(Asked { number, key, reply });
            if self.is_needed(&queue) {
                self.begin(&mut queue, db);
            }
            number
        };
        let mut answer = std::pin::pin!(answer);
        let mut answered = tokio::time::timeout(LONG.min(patience), &mut answer).await;
        if answered.is_err() {
            self.insist(db, number);
            answered = tokio::time::timeout(patience.saturating_sub(LONG), &mut answer).await;
        }
        let answered = match answered {
            Ok(answered) => answered,
            Err(_) if !self.is_write || self.withdraw(number) => return Err(Error::overloaded()),
            Err(_) => answer.await,
        };
        answered.unwrap_or_else(|_| Err(Error::internal("what is asked at once panicked")))
    }

    /// Whether those who wait need a statement more than those that run.
    fn is_needed(&self, queue: &Queue<K, V>) -> bool {
        queue.statements < self.usual || queue.waiting.len() > MOST_AT_ONCE * queue.statements
    }

    /// Begins a statement, if there may be one more.
    fn begin(self: &Arc<Self>, queue: &mut Queue<K, V>, db: &Db) {
        if queue.statements < MOST_STATEMENTS {
            queue.statements += 1;
            let (shared, db) = (Arc::clone(self), db.clone());
            tokio::task::spawn_blocking(move || shared.answer_all(&db));
        }
    }

    /// Doesn't wait any longer for the statements that run, if what was asked was not taken up yet: the server may have forgotten them.
    fn insist(self: &Arc<Self>, db: &Db, number: u64) {
        let mut queue = self.queue();
        if queue.waiting.iter().any(|asked| asked.number == number) {
            self.begin(&mut queue, db);
        }
    }

    /// Takes back what was asked; whether that was in time.
    fn withdraw(&self, number: u64) -> bool {
        let mut queue = self.queue();
        let before = queue.waiting.len();
        queue.waiting.retain(|asked| asked.number != number);
        queue.waiting.len() < before
    }

    /// A connection. What is asked on one that died is asked again on another; but a write can't be, so it begins with one that is known to live.
    fn lend(&self, db: &Db) -> Result<PooledConnection<Manager>> {
        let mut conn = db.lend()?;
        if self.is_write && conn.ping().is_err() {
            db.reconnect(&mut conn)?;
        }
        Ok(conn)
    }

    /// Answers whoever waits, until nobody does.
    fn answer_all(&self, db: &Db) {
        let mut running = Running { shared: self, counts: true };
        let mut conn = self.lend(db);
        for round in 1.. {
            if round % MOST_STATEMENTS_IN_A_ROW == 0 {
                // In this order, or a pool of one would wait for itself.
                drop(conn);
                conn = self.lend(db);
            }
            let (keys, replies): (Vec<K>, Vec<Reply<V>>) = {
                let mut queue = self.queue();
                if queue.waiting.is_empty() {
                    // In the same breath, so that whoever asks next knows that nobody looks any more.
                    queue.statements -= 1;
                    running.counts = false;
                    return;
                }
                let most = queue.waiting.len().min(MOST_AT_ONCE);
                let taken = queue.waiting.drain(..most).filter(|asked| !asked.reply.is_closed());
                taken.map(|asked| (asked.key, asked.reply)).unzip()
            };
            if keys.is_empty() {
                continue;
            }
            let answered = match &mut conn {
                Ok(conn) => match db.by_itself(conn, |conn| (self.answer)(conn, &keys)) {
                    // It may have died with the server since it was last used.
                    Err(error) if error.code() == Code::DatabaseUnavailable => db.reconnect(conn).and_then(|()| {
                        // Nobody knows whether a write was done.
                        if self.is_write { Err(error) } else { db.by_itself(conn, |conn| (self.answer)(conn, &keys)) }
                    }),
                    answered => answered,
                },
                Err(error) => Err(error.clone()),
            };
            match answered {
                Ok(answers) => replies.into_iter().zip(answers).for_each(|(reply, answer)| drop(reply.send(answer))),
                Err(error) => replies.into_iter().for_each(|reply| drop(reply.send(Err(error.clone())))),
            }
        }
    }
}

/// Counts as a statement until it says otherwise, or panics.
struct Running<'a, K, V> {
    shared: &'a Shared<K, V>,
    counts: bool,
}

impl<K, V> Drop for Running<'_, K, V> {
    fn drop(&mut self) {
        if self.counts {
            self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).statements -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{LazyLock, Mutex};

    use super::*;
    use crate::store::Options;

    /// Of the statement that is asked for 0: that it has begun, and that it may go on.
    static BEGUN: LazyLock<(Sender<()>, Mutex<Receiver<()>>)> = LazyLock::new(pair);
    static GO_ON: LazyLock<(Sender<()>, Mutex<Receiver<()>>)> = LazyLock::new(pair);

    fn pair() -> (Sender<()>, Mutex<Receiver<()>>) {
        let (sender, receiver) = channel();
        (sender, Mutex::new(receiver))
    }

    /// Answers each key by itself.
    fn answer(_: &mut Conn, keys: &[u32]) -> Result<Vec<Found<u32>>> {
        if keys.contains(&0) {
            BEGUN.0.send(()).unwrap();
            GO_ON.1.lock().unwrap().recv_timeout(Duration::from_secs(60)).unwrap();
        }
        Ok(keys.iter().map(|key| Ok(Some(*key))).collect())
    }

    #[test]
    fn nobody_waits_for_a_statement_that_does_not_come_back() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("actas.db").display());
        let patience = Duration::from_secs(60);
        let db = Db::open(&Options { url, pool_size: 2, patience, is_pooled: false }).unwrap();
        db.write_blocking(|_| Ok(())).unwrap();
        let shared = Shared::look_up(answer);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let stuck = shared.ask(&db, 0, patience);
            let others = async {
                BEGUN.1.lock().unwrap().recv_timeout(Duration::from_secs(60)).unwrap();
                for key in [1, 2] {
                    assert_eq!(shared.ask(&db, key, patience).await.unwrap(), Some(key));
                }
                GO_ON.0.send(()).unwrap();
            };
            let (stuck, ()) = tokio::join!(stuck, others);
            assert_eq!(stuck.unwrap(), Some(0));
        });
    }

    #[test]
    fn more_than_share_a_statement_do_not_wait_for_the_one_that_runs() {
        let statements = |usual| {
            // One that runs, and never ends.
            let shared = Shared::new(answer, false, usual);
            shared.queue().statements = 1;
            let mut queue = shared.queue();
            let begun = (0..MOST_AT_ONCE as u64 + 2).map(|number| {
                queue.waiting.push(Asked { number, key: 1, reply: oneshot::channel().0 });
                shared.is_needed(&queue)
            });
            begun.collect::<Vec<_>>()
        };
        let is_begun = statements(1);
        assert_eq!(is_begun.iter().position(|is_needed| *is_needed), Some(MOST_AT_ONCE));
        assert!(statements(2).iter().all(|is_needed| *is_needed), "two are usual");
    }
}
