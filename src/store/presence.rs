//! Who is here, and what they look at: sessions as their tokens' bearers find them, and articles.
//!
//! On SQLite they are remembered, and what is remembered is as exact as a select would be. Three things see to it:
//!
//! - One process serves a file, by one connection that writes. Temporary triggers on that connection tell which rows changed of those that [`find_presented`]
//!   and [`articles::find`] read, and after the commit, before anybody is told of it, what was remembered of them is forgotten.
//! - Every commit, by whichever process, changes the head of the WAL index (<https://sqlite.org/walformat.html#the_wal_index_header>). It is looked at whenever
//!   somebody asks: if it isn't the one of the last commit that was taken note of, nothing that is remembered counts, and the database is asked.
//! - What a select found is remembered only if nothing was forgotten since before it began.
//!
//! The writer itself, inside its transaction, believes the same, except of what that transaction changed; and of an article that it wrote it knows what it wrote.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::articles;
use super::at_once::Ground;
use super::conn::{Conn, Lock};
use super::db::Db;
use super::sessions::{Presented, Scene, Sought, find_presented};
use super::users;
use crate::domain::article::Article;
use crate::domain::error::{Error, Result};
use crate::domain::ids::{ArticleId, SessionId, UserId};
use crate::domain::session::Session;
use crate::domain::user::User;

/// How many sessions are remembered, of about 1 KB each.
const MOST_SESSIONS: usize = 8192;

/// How many articles are remembered, if they are short.
const MOST_ARTICLES: usize = 4096;

/// How much of articles is remembered.
const MOST_ARTICLE_BYTES: u64 = 8 * 1024 * 1024;

/// How many users are remembered, of about 300 bytes each.
const MOST_USERS: usize = 4096;

/// Of how many kinds of keys the newest is remembered: more than there are.
const MOST_KINDS_OF_KEYS: usize = 16;

/// What an article takes besides its texts.
const ARTICLE_BYTES: usize = 512;

/// How large an article is.
#[derive(Clone)]
struct Bytes;

impl Weighter<ArticleId, Arc<Article>> for Bytes {
    fn weight(&self, _: &ArticleId, article: &Arc<Article>) -> u64 {
        let texts = article.title.as_str().len() + article.r#abstract.as_str().len() + article.body.as_str().len();
        (texts + ARTICLE_BYTES) as u64
    }
}

/// The first copy of the WAL index's head.
const HEAD_BYTES: usize = 48;

type Head = [u8; HEAD_BYTES];

/// What is remembered.
pub(super) struct Presence {
    /// The database's file.
    file: PathBuf,
    sessions: Cache<SessionId, Arc<Presented>>,
    articles: Cache<ArticleId, Arc<Article>, Bytes>,
    /// Whom a start is to act as.
    users: Cache<UserId, Arc<User>>,
    /// The kid of the newest key, by purpose and algorithm: for the writer alone, which asks in every start.
    newest_keys: Cache<(String, String), Arc<str>>,
    noted: RwLock<Noted>,
    changes: Arc<Mutex<Changes>>,
}

/// The state of the database up to which changes were taken note of.
#[derive(Default)]
struct Noted {
    /// The WAL index, once it was found. **It stays open** as long as the database is: a process that closes a file loses all the locks that it has on it (POSIX),
    /// and SQLite's locks are on this one (<https://sqlite.org/howtocorrupt.html>, section 2.2).
    index: Option<File>,
    /// Whether the writer's connection tells what it changes.
    is_attended: bool,
    /// Nothing where nothing that is remembered counts.
    head: Option<Head>,
    /// What `PRAGMA data_version` said: another number if another connection changed anything.
    data_version: i64,
    /// Raised whenever something is forgotten.
    generation: u64,
}

/// What the writer's transaction changed.
#[derive(Default)]
struct Changes {
    sessions: Vec<String>,
    /// Impersonations that began, as they will be found.
    begun: Vec<Arc<Presented>>,
    /// Where it is known, what was written.
    articles: HashMap<String, Option<Arc<Article>>>,
    /// Own sessions that ended, and with them whatever was started from them.
    bases: Vec<String>,
    /// Something on which anything may depend that is remembered.
    others: bool,
}

/// The right to remember what a select finds that begins now.
#[derive(Debug, Clone, Copy)]
struct Ticket(u64);

enum Recalled<T> {
    Known(Arc<T>),
    Unknown(Option<Ticket>),
}

impl Presence {
    /// For the database in this file.
    pub fn of_file(path: &str) -> Self {
        Self {
            file: PathBuf::from(path),
            sessions: Cache::new(MOST_SESSIONS),
            articles: Cache::with_weighter(MOST_ARTICLES, MOST_ARTICLE_BYTES, Bytes),
            users: Cache::new(MOST_USERS),
            newest_keys: Cache::new(MOST_KINDS_OF_KEYS),
            noted: RwLock::default(),
            changes: Arc::default(),
        }
    }

    /// What `get` gets from one of the caches, if that counts.
    fn recall<T>(&self, get: impl FnOnce() -> Option<Arc<T>>) -> Recalled<T> {
        let noted = self.noted.read().unwrap_or_else(PoisonError::into_inner);
        let head = noted.index.as_ref().and_then(read_head);
        if head.is_none() || head != noted.head {
            return Recalled::Unknown(None);
        }
        match get() {
            Some(known) => Recalled::Known(known),
            None => Recalled::Unknown(Some(Ticket(noted.generation))),
        }
    }

    /// Lets `insert` put something into one of the caches, if nothing was forgotten since the ticket was given.
    fn remember(&self, ticket: Ticket, insert: impl FnOnce()) {
        // Held to the end, so that nothing is forgotten between the look and the insertion.
        let noted = self.noted.read().unwrap_or_else(PoisonError::into_inner);
        if noted.generation == ticket.0 {
            insert();
        }
    }

    /// Forgets everything, until [`Presence::attend`] has seen the writer's connection.
    pub fn forget(&self) {
        let mut noted = self.noted.write().unwrap_or_else(PoisonError::into_inner);
        noted.is_attended = false;
        noted.head = None;
        noted.generation += 1;
        self.clear();
    }

    /// Makes the writer's connection tell what it changes, if it doesn't yet. Outside of a transaction, which might take the triggers back.
    pub fn attend(&self, conn: &mut Conn) {
        if self.noted.read().unwrap_or_else(PoisonError::into_inner).is_attended {
            return;
        }
        let Conn::Sqlite(conn) = conn else { return };
        match self.watch(conn) {
            Ok(()) => {}
            // A database without its tables yet. Until it has them, nothing is remembered.
            Err(error) => tracing::debug!(%error, "nothing is remembered yet"),
        }
    }

    fn watch(&self, conn: &mut SqliteConnection) -> Result<()> {
        let changes = Arc::clone(&self.changes);
        let note_session = move |id: String, is_basis: bool| {
            let mut changes = lock(&changes);
            if is_basis {
                changes.bases.push(id.clone());
            }
            changes.sessions.push(id);
            0
        };
        actas_session_changes_utils::register_nondeterministic_impl(conn, note_session).map_err(Error::internal)?;
        let changes = Arc::clone(&self.changes);
        let note_article = move |id: String| {
            lock(&changes).articles.insert(id, None);
            0
        };
        actas_article_changes_utils::register_nondeterministic_impl(conn, note_article).map_err(Error::internal)?;
        let changes = Arc::clone(&self.changes);
        let note_others = move || {
            lock(&changes).others = true;
            0
        };
        actas_others_change_utils::register_nondeterministic_impl(conn, note_others).map_err(Error::internal)?;
        conn.batch_execute(WATCH).map_err(Error::internal)?;
        let data_version = data_version(conn)?;
        let mut noted = self.noted.write().unwrap_or_else(PoisonError::into_inner);
        // Another file than before means that every connection was closed at once, and the file went with the last of them: nobody has locks on that one.
        if !self.is_the_index(noted.index.as_ref())? {
            noted.index = Some(File::open(self.index_path()?).map_err(Error::internal)?);
        }
        noted.is_attended = true;
        noted.head = None;
        noted.data_version = data_version;
        noted.generation += 1;
        // While nobody attended, nothing was told of.
        self.clear();
        Ok(())
    }

    /// SQLite names it after the file to which links lead.
    fn index_path(&self) -> Result<PathBuf> {
        let mut path = std::fs::canonicalize(&self.file).map_err(Error::internal)?.into_os_string();
        path.push("-shm");
        Ok(path.into())
    }

    fn is_the_index(&self, open: Option<&File>) -> Result<bool> {
        let now = std::fs::metadata(self.index_path()?).map_err(Error::internal)?;
        let then = open.map(File::metadata).transpose().map_err(Error::internal)?;
        Ok(then.is_some_and(|then| (then.dev(), then.ino()) == (now.dev(), now.ino())))
    }

    /// Takes note of what the writer has just committed, or rolled back, and of what others did.
    pub fn note_end(&self, conn: &mut Conn, is_committed: bool) {
        HERE.with_borrow_mut(|here| here.iter_mut().for_each(|here| here.counts = false));
        let mut changes = std::mem::take(&mut *lock(&self.changes));
        if !is_committed {
            changes.disbelieve();
        }
        self.note(conn, changes);
    }

    /// Takes note of what others changed.
    pub fn look(&self, conn: &mut Conn) {
        self.attend(conn);
        self.note(conn, Changes::default());
    }

    fn clear(&self) {
        self.sessions.clear();
        self.articles.clear();
        self.users.clear();
        self.newest_keys.clear();
    }

    fn note(&self, conn: &mut Conn, changes: Changes) {
        let Conn::Sqlite(conn) = conn else { return };
        let mut noted = self.noted.write().unwrap_or_else(PoisonError::into_inner);
        // The head before the version: what another process commits in between is told by the version, and what it commits later by the head.
        noted.head = noted.index.as_ref().filter(|_| noted.is_attended).and_then(read_head);
        let others = match data_version(conn) {
            Ok(version) => std::mem::replace(&mut noted.data_version, version) != version,
            Err(_) => true,
        };
        if changes.others || others {
            self.clear();
            noted.generation += 1;
        } else if !changes.sessions.is_empty() || !changes.begun.is_empty() || !changes.articles.is_empty() {
            noted.generation += 1;
            // Before what changed is forgotten, which may be one of these.
            for begun in changes.begun {
                self.sessions.insert(begun.session.id, begun);
            }
            let parsed = |ids: &[String]| -> Vec<SessionId> { ids.iter().filter_map(|id| SessionId::parse(id)).collect() };
            for id in parsed(&changes.sessions) {
                self.sessions.remove(&id);
            }
            for (id, written) in changes.articles {
                match (ArticleId::parse(&id), written) {
                    (Some(id), Some(written)) => self.articles.insert(id, written),
                    (Some(id), None) => drop(self.articles.remove(&id)),
                    (None, _) => {}
                }
            }
            let bases = parsed(&changes.bases);
            if !bases.is_empty() {
                let basis = |presented: &Presented| presented.session.acting_as().map(|acting| acting.original_session);
                self.sessions.retain(|_, presented| basis(presented).is_none_or(|basis| !bases.contains(&basis)));
            }
        }
    }
}

impl Changes {
    /// Forgets what was written, though not that something was: some of it is undone.
    fn disbelieve(&mut self) {
        self.begun.clear();
        self.articles.values_mut().for_each(|written| *written = None);
    }
}

thread_local! {
    /// What the connection keeps exact on which this thread writes. The writer's thread has it, and no other connection.
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

struct Here {
    presence: Arc<Presence>,
    /// Whether this thread is inside a transaction of which all is remembered that was committed before it.
    counts: bool,
}

/// Makes this thread the writer's.
pub(super) fn keep_here(presence: &Arc<Presence>) {
    HERE.set(Some(Here { presence: Arc::clone(presence), counts: false }));
}

/// Takes note that a transaction of this thread has begun, which nobody else's commit can come into. If none did before it, since the last look, then what is
/// remembered is what it would read.
pub(super) fn begin_here() {
    HERE.with_borrow_mut(|here| {
        if let Some(Here { presence, counts }) = here {
            let noted = presence.noted.read().unwrap_or_else(PoisonError::into_inner);
            let head = noted.index.as_ref().and_then(read_head);
            *counts = head.is_some() && head == noted.head;
        }
    });
}

/// What `look` finds by what is remembered and by what the transaction of this thread changed so far. Nothing where this is not the writer's thread, or what is
/// remembered doesn't count.
fn look_here<T>(look: impl FnOnce(&Presence, &Changes) -> Option<T>) -> Option<T> {
    HERE.with_borrow(|here| {
        let Here { presence, .. } = here.as_ref().filter(|here| here.counts)?;
        let changes = lock(&presence.changes);
        if changes.others { None } else { look(presence, &changes) }
    })
}

/// A session as [`find_presented`] finds it inside the writer's transaction, if that is known; of a token that this key signed, where one is given.
pub(super) fn session_here(id: SessionId, kid: Option<&str>) -> Option<Arc<Presented>> {
    look_here(|presence, changes| {
        if !changes.bases.is_empty() || (!changes.sessions.is_empty() && changes.sessions.contains(&id.to_string())) {
            return None;
        }
        presence.sessions.get(&id).filter(|presented| kid.is_none_or(|kid| presented.ground.kid == kid))
    })
}

/// An article as [`articles::find`] finds it inside the writer's transaction, if that is known.
pub(super) fn article_here(id: ArticleId) -> Option<Arc<Article>> {
    look_here(|presence, changes| {
        let changed = if changes.articles.is_empty() { None } else { changes.articles.get(&id.to_string()) };
        changed.map_or_else(|| presence.articles.get(&id), Clone::clone)
    })
}

/// A user's row as the writer's transaction reads it, if that is known.
pub(super) fn user_here(id: UserId) -> Option<Arc<User>> {
    look_here(|presence, _| presence.users.get(&id))
}

/// Takes note of a user's row that this thread has just read, if it is the writer: unless its transaction changed any, it stays so until another does.
pub(super) fn read_user_here(user: &User) {
    look_here(|presence, _| {
        presence.users.insert(user.id, Arc::new(user.clone()));
        Some(())
    });
}

/// The kid of the newest key of a kind as the writer's transaction finds it, if that is known.
pub(super) fn newest_key_here(purpose: &str, algorithm: &str) -> Option<Arc<str>> {
    look_here(|presence, _| presence.newest_keys.get(&(purpose.to_owned(), algorithm.to_owned())))
}

/// As [`read_user_here`], of the newest key of a kind.
pub(super) fn read_newest_key_here(purpose: &str, algorithm: &str, kid: &str) {
    look_here(|presence, _| {
        presence.newest_keys.insert((purpose.to_owned(), algorithm.to_owned()), kid.into());
        Some(())
    });
}

/// Takes note of an article that the writer's transaction has just written.
pub(super) fn wrote_here(article: &Arc<Article>) {
    HERE.with_borrow(|here| {
        if let Some(Here { presence, .. }) = here {
            lock(&presence.changes).articles.insert(article.id.to_string(), Some(Arc::clone(article)));
        }
    });
}

/// Takes note of an impersonation that the writer's transaction has just begun: its session, the key that signs its token, and the version of its subject's row. What
/// else its bearer would find is known of the session that it was started from, if that is remembered.
pub(super) fn began_here(session: &Arc<Session>, kid: &str, subject_version: i64) {
    let Some(acting) = session.acting_as() else { return };
    let Some(original) = session_here(acting.original_session, None) else { return };
    let ground = Ground {
        session: session.id,
        kid: kid.to_owned(),
        subject_version,
        actor_version: Some(original.ground.subject_version),
        policy_version: original.ground.policy_version,
    };
    let begun = Arc::new(Presented { session: Arc::clone(session), ground, key_counts: true });
    HERE.with_borrow(|here| {
        if let Some(Here { presence, .. }) = here {
            lock(&presence.changes).begun.push(begun);
        }
    });
}

/// Takes note that some of what the writer's transaction did is undone.
pub(super) fn disbelieve() {
    HERE.with_borrow(|here| {
        if let Some(Here { presence, .. }) = here {
            lock(&presence.changes).disbelieve();
        }
    });
}

fn lock(changes: &Mutex<Changes>) -> MutexGuard<'_, Changes> {
    // Nothing in it can be half changed.
    changes.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_head(index: &File) -> Option<Head> {
    let mut head = [0; HEAD_BYTES];
    index.read_exact_at(&mut head, 0).ok().map(|()| head)
}

#[derive(QueryableByName)]
struct DataVersion {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    data_version: i64,
}

fn data_version(conn: &mut SqliteConnection) -> Result<i64> {
    let found: DataVersion = diesel::sql_query("PRAGMA data_version").get_result(conn).map_err(Error::internal)?;
    Ok(found.data_version)
}

diesel::define_sql_function! {
    /// Told of each session whose row changed, and whether impersonations hang on what changed.
    fn actas_session_changes(id: diesel::sql_types::Text, is_basis: diesel::sql_types::Bool) -> diesel::sql_types::Integer;
}
diesel::define_sql_function! {
    /// Told of each article whose row changed.
    fn actas_article_changes(id: diesel::sql_types::Text) -> diesel::sql_types::Integer;
}
diesel::define_sql_function! {
    /// Told that something changed on which anything may depend that is remembered.
    fn actas_others_change() -> diesel::sql_types::Integer;
}

/// Every change of a row that [`find_presented`] and [`articles::find`] read, and of users' and keys'. What begins was not remembered before, and is noted by
/// [`began_here`].
const WATCH: &str = "
CREATE TEMP TRIGGER IF NOT EXISTS watch_sessions AFTER UPDATE ON main.sessions
BEGIN SELECT actas_session_changes(OLD.id, OLD.actor_id IS NULL AND NEW.ended_at IS NOT OLD.ended_at); END;
CREATE TEMP TRIGGER IF NOT EXISTS watch_sessions_gone AFTER DELETE ON main.sessions BEGIN SELECT actas_others_change(); END;
CREATE TEMP TRIGGER IF NOT EXISTS watch_articles AFTER UPDATE ON main.articles BEGIN SELECT actas_article_changes(OLD.id); END;
CREATE TEMP TRIGGER IF NOT EXISTS watch_articles_gone AFTER DELETE ON main.articles BEGIN SELECT actas_article_changes(OLD.id); END;
CREATE TEMP TRIGGER IF NOT EXISTS watch_users AFTER UPDATE ON main.users BEGIN SELECT actas_others_change(); END;
CREATE TEMP TRIGGER IF NOT EXISTS watch_keys_new AFTER INSERT ON main.keys BEGIN SELECT actas_others_change(); END;
CREATE TEMP TRIGGER IF NOT EXISTS watch_keys AFTER UPDATE ON main.keys BEGIN SELECT actas_others_change(); END;
CREATE TEMP TRIGGER IF NOT EXISTS watch_keys_gone AFTER DELETE ON main.keys BEGIN SELECT actas_others_change(); END;
CREATE TEMP TRIGGER IF NOT EXISTS watch_policies_new AFTER INSERT ON main.policies BEGIN SELECT actas_others_change(); END;
CREATE TEMP TRIGGER IF NOT EXISTS watch_policies AFTER UPDATE ON main.policies BEGIN SELECT actas_others_change(); END;
";

impl Db {
    /// The session that a token names which `kid` signed, as [`find_presented`] finds it.
    ///
    /// # Errors
    /// 503 where the database can't be asked in time.
    pub async fn present(&self, id: SessionId, kid: &str) -> Result<Option<Arc<Presented>>> {
        if let Some(sharing) = self.sharing() {
            return sharing.sessions.ask(self, (id, kid.to_owned()), self.patience()).await;
        }
        let kid: Arc<str> = kid.into();
        let signed = Arc::clone(&kid);
        let remembered = move |presence: &Presence| presence.sessions.get(&id).filter(|presented| *presented.ground.kid == *signed);
        let find = move |conn: &mut Conn| find_presented(conn, id, &kid, Lock::None);
        self.recall_or_find(remembered, find, move |presence, found| presence.sessions.insert(id, found)).await
    }

    /// As [`Db::present`], and the article `about` with it where one select finds both.
    ///
    /// # Errors
    /// 503 where the database can't be asked in time.
    pub async fn present_with(&self, id: SessionId, kid: &str, about: Option<ArticleId>) -> Result<Option<Scene>> {
        if let (Some(sharing), Some(article)) = (self.sharing(), about) {
            return sharing.scenes.ask(self, (id, kid.to_owned(), article), self.patience()).await;
        }
        Ok(self.present(id, kid).await?.map(|presented| (presented, Sought::Unknown)))
    }

    /// The article with this id.
    ///
    /// # Errors
    /// 503 where the database can't be asked in time.
    pub async fn article(&self, id: ArticleId) -> Result<Option<Arc<Article>>> {
        if let Some(sharing) = self.sharing() {
            return sharing.articles.ask(self, id, self.patience()).await;
        }
        let find = move |conn: &mut Conn| articles::find(conn, id, Lock::None);
        self.recall_or_find(move |presence| presence.articles.get(&id), find, move |presence, found| presence.articles.insert(id, found))
            .await
    }

    /// The user with this id.
    ///
    /// # Errors
    /// 503 where the database can't be asked in time.
    pub async fn user(&self, id: UserId) -> Result<Option<Arc<User>>> {
        if let Some(sharing) = self.sharing() {
            return sharing.users.ask(self, id, self.patience()).await;
        }
        let find = move |conn: &mut Conn| users::find(conn, id, Lock::None);
        self.recall_or_find(move |presence| presence.users.get(&id), find, move |presence, found| presence.users.insert(id, found)).await
    }

    async fn recall_or_find<T: Send + Sync + 'static>(
        &self,
        get: impl FnOnce(&Presence) -> Option<Arc<T>>,
        find: impl FnOnce(&mut Conn) -> Result<Option<T>> + Send + 'static,
        insert: impl FnOnce(&Presence, Arc<T>) + Send + 'static,
    ) -> Result<Option<Arc<T>>> {
        let ticket = match self.presence().map(|presence| presence.recall(|| get(presence))) {
            Some(Recalled::Known(known)) => return Ok(Some(known)),
            Some(Recalled::Unknown(ticket)) => ticket,
            None => None,
        };
        let presence = self.presence().cloned();
        self.glance(move |conn| {
            let found = find(conn)?.map(Arc::new);
            if let (Some(presence), Some(ticket), Some(found)) = (&presence, ticket, &found) {
                presence.remember(ticket, || insert(presence, Arc::clone(found)));
            }
            Ok(found)
        })
        .await
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::domain::role::Role;
    use crate::domain::session::Kind;
    use crate::domain::text::{DisplayName, Email};
    use crate::domain::user::{Principal, UserRef, UserStatus};
    use crate::store::{Options, migrate};

    /// How many locks this process has on the WAL index. The list is read in pieces, and one of ours is passed over where others change it meanwhile: so it is looked
    /// at until it is seen, or often enough.
    fn locks(index: &std::path::Path) -> usize {
        let inode = format!(":{} ", fs::metadata(index).unwrap().ino());
        let is_ours = |line: &&str| line.contains(" POSIX ") && line.contains(&inode);
        let look = || fs::read_to_string("/proc/locks").unwrap().lines().filter(is_ours).count();
        (0..50).map(|_| look()).find(|locks| *locks > 0).unwrap_or_default()
    }

    /// What happens otherwise: the next process that opens the database believes to be the first, and empties the index under this one.
    #[test]
    fn sqlite_keeps_its_locks_although_everything_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("actas.db");
        let options =
            Options { url: format!("sqlite://{}", file.display()), pool_size: 1, patience: Duration::from_secs(10), is_pooled: false };
        let db = Db::open_for_serving(&options).unwrap();
        migrate::run(&db).unwrap();
        // A reader stays open, as while a server runs: the index goes with the last connection.
        assert!(db.read_blocking(migrate::is_current).unwrap());
        let index = directory.path().join("actas.db-shm");
        let write = |sql: &'static str| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(db.write(move |conn| conn.batch_execute(sql).map_err(Error::internal)))
        };
        write(
            "CREATE TABLE parents (id TEXT PRIMARY KEY); CREATE TABLE children (id TEXT REFERENCES parents DEFERRABLE INITIALLY DEFERRED)",
        )
        .unwrap();
        let generation = || db.presence().unwrap().noted.read().unwrap().generation;
        let before = generation();
        assert!(locks(&index) > 0);
        // The writer's connection goes with what it could not commit. It may have come back already when this looks.
        write("INSERT INTO children VALUES ('nobody')").unwrap_err();
        assert!(generation() > before, "nothing was forgotten");
        assert!(locks(&index) > 0, "after everything was forgotten");
        write("INSERT INTO parents VALUES ('somebody')").unwrap();
        assert!(db.presence().unwrap().noted.read().unwrap().is_attended && locks(&index) > 0);
    }

    /// An article and its author, as another client of the database would write them.
    const ROWS: &str = "
        INSERT INTO entries (id, occurred_at, origin, action, resource_type, resource_id, resource_version, note, changes) VALUES
            ('019aa0f0-0000-7000-8000-000000000001', '2026-11-23 10:00:00', 'cli', 'user.created', 'user', '019aa0f0-0000-7000-8000-00000000000a', 1, 'by hand', '{}'),
            ('019aa0f0-0000-7000-8000-000000000002', '2026-11-23 10:00:00', 'cli', 'article.created', 'article', '019aa0f0-0000-7000-8000-00000000000b', 1, 'by hand', '{}');
        INSERT INTO users VALUES ('019aa0f0-0000-7000-8000-00000000000a', 'ann@example.org', 'ann@example.org', 'Ann', 'ann', 'author', 'active', 1,
            '2026-11-23 10:00:00', '2026-11-23 10:00:00');
        INSERT INTO articles VALUES ('019aa0f0-0000-7000-8000-00000000000b', 'Stored', '', '', '', 'draft', '019aa0f0-0000-7000-8000-00000000000a', NULL, 1,
            '2026-11-23 10:00:00', '2026-11-23 10:00:00')";

    #[test]
    fn what_a_transaction_wrote_is_believed_until_it_is_undone() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("actas.db").display());
        let db = Db::open_for_serving(&Options { url, pool_size: 1, patience: Duration::from_secs(10), is_pooled: false }).unwrap();
        migrate::run(&db).unwrap();
        db.write_blocking(|conn| conn.batch_execute(ROWS).map_err(Error::internal)).unwrap();
        let id = ArticleId::parse("019aa0f0-0000-7000-8000-00000000000b").unwrap();
        let title = move |conn: &mut Conn| articles::find(conn, id, Lock::Update).map(|article| article.unwrap().title.to_string());
        // Says that a row was written that wasn't, so that what is believed can be told from what is stored.
        let pretend = move |conn: &mut Conn, title: &str| {
            let article = articles::find(conn, id, Lock::Update).unwrap().unwrap();
            wrote_here(&Arc::new(Article { title: crate::domain::text::Title::from_stored(title.to_owned()), ..article }));
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            assert_eq!(db.write(title).await.unwrap(), "Stored");
            let undone = db.write(move |conn| {
                pretend(conn, "Undone");
                assert_eq!(title(conn).unwrap(), "Undone");
                Err::<(), _>(Error::not_found())
            });
            undone.await.unwrap_err();
            assert_eq!(db.write(title).await.unwrap(), "Stored");
            let kept = move |conn: &mut Conn| {
                pretend(conn, "Kept");
                title(conn)
            };
            assert_eq!(db.write(kept).await.unwrap(), "Kept");
            assert_eq!(db.write(title).await.unwrap(), "Kept");
            assert_eq!(db.article(id).await.unwrap().unwrap().title.as_str(), "Kept");
            // Not here, where another connection writes.
            assert_eq!(db.write_blocking(title).unwrap(), "Stored");
            // What the transaction changes by itself is not what was known before.
            let changed = move |conn: &mut Conn| {
                let entry = "INSERT INTO entries (id, occurred_at, origin, action, resource_type, resource_id, resource_version, note, changes) VALUES
                    ('019aa0f0-0000-7000-8000-000000000003', '2026-11-23 10:00:00', 'cli', 'article.updated', 'article', '019aa0f0-0000-7000-8000-00000000000b', 2, '-', '{}');
                    UPDATE articles SET title = 'Changed', version = 2";
                conn.batch_execute(entry).map_err(Error::internal)?;
                title(conn)
            };
            assert_eq!(db.write(changed).await.unwrap(), "Changed");
            assert_eq!(db.write(title).await.unwrap(), "Changed");
            // What another connection changed neither, though nothing has told of it yet.
            let elsewhere = |conn: &mut Conn| {
                let change = "INSERT INTO entries (id, occurred_at, origin, action, resource_type, resource_id, resource_version, note, changes) VALUES
                    ('019aa0f0-0000-7000-8000-000000000004', '2026-11-23 10:00:00', 'cli', 'article.updated', 'article', '019aa0f0-0000-7000-8000-00000000000b', 3, '-', '{}');
                    UPDATE articles SET title = 'Elsewhere', version = 3";
                conn.batch_execute(change).map_err(Error::internal)
            };
            assert_eq!(db.article(id).await.unwrap().unwrap().title.as_str(), "Changed");
            db.write_blocking(elsewhere).unwrap();
            assert_eq!(db.write(title).await.unwrap(), "Elsewhere");
        });
    }

    #[test]
    fn what_a_transaction_began_is_remembered_unless_it_is_undone_or_ended() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("actas.db").display());
        let db = Db::open_for_serving(&Options { url, pool_size: 1, patience: Duration::from_secs(10), is_pooled: false }).unwrap();
        migrate::run(&db).unwrap();
        let ann = Principal {
            user: UserRef {
                id: UserId::NOBODY,
                email: Email::from_stored("ann@example.org".to_owned()),
                display_name: DisplayName::from_stored("Ann".to_owned()),
            },
            role: Role::Author,
            status: UserStatus::Active,
            scope: None,
        };
        let now = chrono::DateTime::UNIX_EPOCH;
        let begun = move || {
            let session = Session {
                id: SessionId::new(now),
                subject: ann.clone(),
                kind: Kind::Own,
                started_at: now,
                expires_at: now,
                last_used_at: now,
                ended: None,
                terms: None,
            };
            let ground =
                Ground { session: session.id, kid: "kid".to_owned(), subject_version: 1, actor_version: None, policy_version: None };
            Arc::new(Presented { session: Arc::new(session), ground, key_counts: true })
        };
        let presence = Arc::clone(db.presence().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let begin = |is_kept: bool, is_ended: bool| {
            let (noted, presence) = (begun(), Arc::clone(&presence));
            let id = noted.session.id;
            let work = move |conn: &mut Conn| {
                let mut changes = lock(&presence.changes);
                changes.begun.push(Arc::clone(&noted));
                if is_ended {
                    changes.sessions.push(id.to_string());
                }
                drop(changes);
                // So that there is something to commit.
                conn.batch_execute("CREATE TABLE IF NOT EXISTS anything (x)").map_err(Error::internal)?;
                if is_kept { Ok(()) } else { Err(Error::not_found()) }
            };
            assert_eq!(runtime.block_on(db.write(work)).is_ok(), is_kept);
            id
        };
        // The first write finds a connection that is not attended yet.
        begin(false, false);
        let is_remembered = |id: SessionId| presence.sessions.get(&id).is_some();
        assert!(is_remembered(begin(true, false)));
        assert!(!is_remembered(begin(false, false)));
        assert!(!is_remembered(begin(true, true)));
    }
}
