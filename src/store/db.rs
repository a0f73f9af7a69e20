//! The two ways in: `read` and `write`.

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::r2d2::{Pool, PooledConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::conn::{Backend, Conn, Manager};
use super::presence::Presence;
use super::shared::Sharing;
use super::writer::Writer;
use crate::domain::error::{Error, Result};

/// How often a write that lost a race is tried in all.
pub(super) const ATTEMPTS: u32 = 8;

/// How to reach the database.
#[derive(Debug, Clone)]
pub struct Options {
    /// `sqlite://<path>`, or a libpq URL `postgres://…`.
    pub url: String,
    /// Connections for reading (SQLite), or in all (Postgres).
    pub pool_size: u32,
    /// How long to wait for a connection, or for another writer, before the answer is 503.
    pub patience: Duration,
    /// Whether something between here and Postgres lends connections by the transaction.
    pub is_pooled: bool,
}

/// The database, shared by everything that needs it.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

struct Inner {
    backend: Backend,
    readers: Lane,
    /// SQLite has one writer, and its callers queue for it in order; on Postgres whoever writes takes a connection.
    writer: Option<Writer>,
    /// Where this process serves an SQLite file. Dropped after the connections, whose locks would go with it.
    presence: Option<Arc<Presence>>,
    /// On Postgres.
    sharing: Option<Sharing>,
    manager: Manager,
    /// Held while a server runs on the file, so that a second one is refused.
    server_lock: Option<File>,
    patience: Duration,
}

/// How long a connection may rest before it is asked whether it is still there.
const REST: Duration = Duration::from_secs(1);

/// When a connection was last taken out of the pool.
struct LastLent(Instant);

/// A pool, and a queue in front of it: who waits holds no thread.
struct Lane {
    pool: Pool<Manager>,
    gate: Arc<Semaphore>,
}

/// What a pool is doing, for the metrics.
#[derive(Debug, Clone, Copy)]
pub struct PoolState {
    pub idle: u32,
    pub in_use: u32,
}

impl Lane {
    fn new(manager: Manager, size: u32, patience: Duration) -> Self {
        let pool = Pool::builder()
            .max_size(size)
            .min_idle(Some(1))
            .connection_timeout(patience)
            // [`Db::lend`] does that.
            .test_on_check_out(false)
            .error_handler(Box::new(LogErrors))
            .build_unchecked(manager);
        Self { pool, gate: Arc::new(Semaphore::new(size as usize)) }
    }

    async fn enter(&self, patience: Duration) -> Result<OwnedSemaphorePermit> {
        match tokio::time::timeout(patience, Arc::clone(&self.gate).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(closed)) => Err(Error::internal(closed)),
            Err(_) => Err(Error::overloaded()),
        }
    }

    fn connection(&self) -> Result<PooledConnection<Manager>> {
        self.pool.get().map_err(Error::database_unavailable)
    }
}

#[derive(Debug)]
struct LogErrors;

impl diesel::r2d2::HandleError<diesel::r2d2::Error> for LogErrors {
    fn handle_error(&self, error: diesel::r2d2::Error) {
        tracing::warn!(%error, "no connection to the database");
    }
}

impl Db {
    /// Gets ready to reach the database at `options.url`; connects when first needed.
    ///
    /// # Errors
    /// Where the URL's scheme is unknown.
    pub fn open(options: &Options) -> Result<Self> {
        Self::open_with(options, None)
    }

    fn open_with(options: &Options, server_lock: Option<File>) -> Result<Self> {
        let (backend, url) = locate(&options.url)?;
        let presence = server_lock.is_some().then(|| Arc::new(Presence::of_file(&url)));
        let manager = Manager { url, backend, query_only: false, is_pooled: options.is_pooled, lock_timeout: options.patience };
        let (readers, writer) = match backend {
            Backend::Sqlite => {
                let reading = Manager { query_only: true, ..manager.clone() };
                (Lane::new(reading, options.pool_size, options.patience), Some(Writer::start(manager.clone(), presence.clone())?))
            }
            Backend::Postgres => (Lane::new(manager.clone(), options.pool_size, options.patience), None),
        };
        let sharing = (backend == Backend::Postgres).then(Sharing::new);
        Ok(Self(Arc::new(Inner { backend, readers, writer, presence, sharing, manager, server_lock, patience: options.patience })))
    }

    /// As [`Db::open`], for the one process that serves. On SQLite a lock beside the file refuses a second one; the command line doesn't take it.
    ///
    /// # Errors
    /// Also where another server has the file.
    pub fn open_for_serving(options: &Options) -> Result<Self> {
        let lock = match locate(&options.url)? {
            (Backend::Sqlite, path) if path != ":memory:" => Some(lock_file(&path)?),
            _ => None,
        };
        Self::open_with(options, lock)
    }

    /// Lets another server have the database: this one has finished its last request. Waiting for the file to be closed would not do: a thread may still hold it
    /// for a moment, and so may a child process until it runs its program.
    pub fn release(&self) {
        if let Some(Err(error)) = self.0.server_lock.as_ref().map(File::unlock) {
            tracing::warn!(%error, "the lock on the database could not be freed; the end of the process frees it");
        }
    }

    pub fn backend(&self) -> Backend {
        self.0.backend
    }

    /// Runs `work`, which only reads, away from the async workers.
    ///
    /// # Errors
    /// What `work` answers; 503 where no connection is to be had in time.
    pub async fn read<T: Send + 'static>(&self, work: impl FnOnce(&mut Conn) -> Result<T> + Send + 'static) -> Result<T> {
        let permit = self.enter().await?;
        let db = self.clone();
        run(move || {
            let _permit = permit;
            db.read_blocking(work)
        })
        .await
    }

    /// [`Db::read`] for looking up a few rows by an index, which SQLite does within microseconds: less than it takes to get to another thread and back. So it is
    /// done here and now, if a connection is idle; and as any read otherwise, and on Postgres.
    ///
    /// # Errors
    /// As [`Db::read`].
    pub async fn glance<T: Send + 'static>(&self, work: impl FnOnce(&mut Conn) -> Result<T> + Send + 'static) -> Result<T> {
        if self.0.backend == Backend::Sqlite
            && let Ok(_permit) = self.0.readers.gate.try_acquire()
            && let Some(mut conn) = self.0.readers.pool.try_get()
        {
            return work(&mut conn);
        }
        self.read(work).await
    }

    /// Runs `work` in one transaction, away from the async workers. It commits if `work` answers `Ok`, and what was answered is durable then. Work that lost a
    /// race is tried again, a bounded number of times, so it may run more than once.
    ///
    /// # Errors
    /// What `work` answers; 503 where no connection is to be had in time or every try lost a race.
    pub async fn write<T: Send + 'static>(&self, work: impl Fn(&mut Conn) -> Result<T> + Send + 'static) -> Result<T> {
        if let Some(writer) = &self.0.writer {
            return writer.write(work, self.0.patience).await;
        }
        let permit = self.enter().await?;
        let db = self.clone();
        run(move || {
            let _permit = permit;
            db.write_blocking(work)
        })
        .await
    }

    /// [`Db::read`] for callers that may block.
    pub fn read_blocking<T>(&self, work: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        let mut conn = self.lend()?;
        self.by_itself(&mut conn, work)
    }

    /// Runs `work`, which needs no transaction: it only reads, or is one statement. Behind a pooler it has one nevertheless.
    pub(super) fn by_itself<T>(&self, conn: &mut Conn, work: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        if !self.0.manager.is_pooled {
            return work(conn);
        }
        self.0.manager.begin(conn)?;
        end_transaction(conn, work)
    }

    /// [`Db::write`] for callers that may block.
    pub fn write_blocking<T>(&self, work: impl Fn(&mut Conn) -> Result<T>) -> Result<T> {
        let mut attempt = 1;
        loop {
            let written = match self.0.backend {
                // Beside the writer, for which the database makes it wait.
                Backend::Sqlite => {
                    let mut conn = self.dedicated()?;
                    self.0.manager.begin(&mut conn)?;
                    end_transaction(&mut conn, &work)
                }
                Backend::Postgres => {
                    let mut conn = self.lend()?;
                    // What died since it was last used has begun with nothing.
                    if self.0.manager.begin(&mut conn).is_err() {
                        self.reconnect(&mut conn)?;
                        self.0.manager.begin(&mut conn)?;
                    }
                    end_transaction(&mut conn, &work)
                }
            };
            match written {
                Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                    tracing::debug!(%error, attempt, "a write lost a race and is tried again");
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// A connection outside the pools, for what holds one for long or needs to set it up.
    pub(super) fn dedicated(&self) -> Result<Conn> {
        self.0.manager.open_one()
    }

    /// What the connections are doing.
    pub fn pool_state(&self) -> PoolState {
        let readers = self.0.readers.pool.state();
        let writer = self.0.writer.as_ref().map_or(PoolState { idle: 0, in_use: 0 }, Writer::state);
        PoolState {
            idle: readers.idle_connections + writer.idle,
            in_use: readers.connections.saturating_sub(readers.idle_connections) + writer.in_use,
        }
    }

    /// The right to take a connection of the pool.
    pub(super) async fn enter(&self) -> Result<OwnedSemaphorePermit> {
        self.0.readers.enter(self.0.patience).await
    }

    /// A connection of the pool. One that rested may have died with the server, so it is asked; to ask at every checkout would cost a round trip.
    pub(super) fn lend(&self) -> Result<PooledConnection<Manager>> {
        let mut conn = self.0.readers.connection()?;
        let has_rested = PooledConnection::extensions(&conn).get::<LastLent>().is_none_or(|last| last.0.elapsed() > REST);
        if has_rested && conn.ping().is_err() {
            self.reconnect(&mut conn)?;
        }
        PooledConnection::extensions_mut(&mut conn).insert(LastLent(Instant::now()));
        Ok(conn)
    }

    /// Puts a new connection in the place of one that died.
    pub(super) fn reconnect(&self, conn: &mut Conn) -> Result<()> {
        *conn = self.dedicated()?;
        Ok(())
    }

    pub(super) fn patience(&self) -> Duration {
        self.0.patience
    }

    pub(super) fn sharing(&self) -> Option<&Sharing> {
        self.0.sharing.as_ref()
    }

    pub(super) fn presence(&self) -> Option<&Arc<Presence>> {
        self.0.presence.as_ref()
    }
}

/// Runs `work` in the transaction that has begun, and ends it.
fn end_transaction<T>(conn: &mut Conn, work: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
    match work(conn) {
        Ok(value) => match conn.commit() {
            Ok(()) => Ok(value),
            Err(error) => {
                conn.roll_back();
                Err(error)
            }
        },
        Err(error) => {
            conn.roll_back();
            Err(error)
        }
    }
}

/// Runs `work` on the blocking pool. It goes on to its end even if nobody waits for it any more.
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(Error::internal(panic)))
}

/// Dispatches on the scheme alone; whatever is unknown is refused, because SQLite would take a typo for a file's name.
fn locate(url: &str) -> Result<(Backend, String)> {
    if let Some(path) = url.strip_prefix("sqlite://") {
        return match path {
            "" => Err(Error::internal("the database URL `sqlite://` lacks the file's path")),
            path => Ok((Backend::Sqlite, path.to_owned())),
        };
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok((Backend::Postgres, with_connect_timeout(url)));
    }
    Err(Error::internal("the database URL must begin with sqlite://, postgres:// or postgresql://"))
}

/// libpq waits for an unreachable server for minutes unless told otherwise.
fn with_connect_timeout(url: &str) -> String {
    let mut url = url.to_owned();
    for (name, value) in [("connect_timeout", "3"), ("tcp_user_timeout", "10000"), ("application_name", "actas")] {
        if !url.contains(&format!("{name}=")) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&format!("{name}={value}"));
        }
    }
    url
}

fn lock_file(database: &str) -> Result<File> {
    let path = PathBuf::from(format!("{database}.lock"));
    let open = File::options().create(true).truncate(false).write(true).open(&path);
    let file = open.map_err(|error| Error::internal(format!("can't open the lock file {}: {error}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::internal(format!(
            "another actas server is using {database}; SQLite serves one at a time (use Postgres to run several)"
        ))),
        Err(TryLockError::Error(error)) => Err(Error::internal(format!("can't lock {}: {error}", path.display()))),
    }
}
