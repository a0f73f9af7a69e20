//! Look-ups that wait at the same moment share a select. Each is as fresh as one of its own: its select begins after it was asked for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::articles;
use super::conn::Conn;
use super::db::Db;
use super::sessions::{self, Presented};
use super::users;
use crate::domain::article::Article;
use crate::domain::error::{Code, Error, Result};
use crate::domain::ids::{ArticleId, SessionId, UserId};
use crate::domain::user::User;

/// How many selects of a kind run at once: while one is answered, the next can begin.
const MOST_SELECTS: usize = 2;

/// How many look-ups share a select at most.
const MOST_AT_ONCE: usize = 64;

/// The look-ups that nearly every request makes, on Postgres, where each select is a round trip.
pub(super) struct Lookups {
    pub sessions: Arc<Shared<(SessionId, String), Arc<Presented>>>,
    pub articles: Arc<Shared<ArticleId, Arc<Article>>>,
    pub users: Arc<Shared<UserId, User>>,
}

impl Lookups {
    pub fn new() -> Self {
        Self {
            sessions: Arc::new(Shared::new(sessions::find_presented_many)),
            articles: Arc::new(Shared::new(articles::find_many)),
            users: Arc::new(Shared::new(users::find_many)),
        }
    }
}

/// What one look-up finds. A row that can't be read is the misfortune of those who ask for it, and not of those who share the select.
pub(super) type Found<V> = Result<Option<V>>;

/// Finds many at once, in the order in which they were asked for.
type FindMany<K, V> = fn(&mut Conn, &[K]) -> Result<Vec<Found<V>>>;

/// After how many selects a connection goes back to the pool, where others wait for one.
const MOST_SELECTS_IN_A_ROW: usize = 16;

/// One kind of look-up.
pub(super) struct Shared<K, V> {
    find: FindMany<K, V>,
    queue: Mutex<Queue<K, V>>,
}

struct Queue<K, V> {
    waiting: Vec<(K, Reply<V>)>,
    /// Those that run, or are about to.
    selects: usize,
}

type Reply<V> = oneshot::Sender<Found<V>>;

impl<K: Send + 'static, V: Send + 'static> Shared<K, V> {
    fn new(find: FindMany<K, V>) -> Self {
        Self { find, queue: Mutex::new(Queue { waiting: Vec::new(), selects: 0 }) }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<K, V>> {
        // Nothing panics while it is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for `key`, and waits for `patience` at most.
    ///
    /// # Errors
    /// 503 where the database can't be asked in time.
    pub async fn ask(self: &Arc<Self>, db: &Db, key: K, patience: Duration) -> Result<Option<V>> {
        let (reply, answer) = oneshot::channel();
        let is_needed = {
            let mut queue = self.queue();
            queue.waiting.push((key, reply));
            let is_needed = queue.selects < MOST_SELECTS;
            queue.selects += usize::from(is_needed);
            is_needed
        };
        if is_needed {
            let (shared, db) = (Arc::clone(self), db.clone());
            tokio::task::spawn_blocking(move || shared.answer_all(&db));
        }
        match tokio::time::timeout(patience, answer).await {
            Ok(answered) => answered.unwrap_or_else(|_| Err(Error::internal("a look-up panicked"))),
            Err(_) => Err(Error::overloaded()),
        }
    }

    /// Answers whoever waits, until nobody does.
    fn answer_all(&self, db: &Db) {
        let mut running = Running { shared: self, counts: true };
        let mut conn = db.lend();
        for round in 1.. {
            if round % MOST_SELECTS_IN_A_ROW == 0 {
                // In this order, or a pool of one would wait for itself.
                drop(conn);
                conn = db.lend();
            }
            let (keys, replies): (Vec<K>, Vec<Reply<V>>) = {
                let mut queue = self.queue();
                if queue.waiting.is_empty() {
                    // In the same breath, so that whoever asks next knows that nobody looks any more.
                    queue.selects -= 1;
                    running.counts = false;
                    return;
                }
                let most = queue.waiting.len().min(MOST_AT_ONCE);
                queue.waiting.drain(..most).filter(|(_, reply)| !reply.is_closed()).unzip()
            };
            let found = match &mut conn {
                Ok(conn) => match (self.find)(conn, &keys) {
                    // It may have died with the server since it was last used.
                    Err(error) if error.code() == Code::DatabaseUnavailable => db.reconnect(conn).and_then(|()| (self.find)(conn, &keys)),
                    found => found,
                },
                Err(error) => Err(error.clone()),
            };
            match found {
                Ok(found) => replies.into_iter().zip(found).for_each(|(reply, found)| drop(reply.send(found))),
                Err(error) => replies.into_iter().for_each(|reply| drop(reply.send(Err(error.clone())))),
            }
        }
    }
}

/// Counts as a select until it says otherwise, or panics.
struct Running<'a, K, V> {
    shared: &'a Shared<K, V>,
    counts: bool,
}

impl<K, V> Drop for Running<'_, K, V> {
    fn drop(&mut self) {
        if self.counts {
            self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).selects -= 1;
        }
    }
}
