//! Undoing what was done to articles in one impersonation that is over.
//!
//! In many short transactions, so that nobody waits for a long impersonation to be undone, least of all a logout or a freeze: where one ends, the next goes on,
//! as long as nobody changed the article in between. What is undone stays so if a later one fails, and calling again goes on from there.

use std::sync::Arc;

use super::ending;
use super::gate::{Caller, Tx};
use super::office::Office;
use crate::domain::Time;
use crate::domain::article::Article;
use crate::domain::error::{Code, Error, Result};
use crate::domain::history::{Entry, EntryAction, NewEntry};
use crate::domain::ids::{ArticleId, EntryId, SessionId, UserId};
use crate::domain::page::Seq;
use crate::domain::session::{Session, Standing};
use crate::domain::undo::{Compensation, Conflict, UndoOutcome, Verdict, Walk};
use crate::store::{Conn, Lock, articles, entries, sessions, users};

/// How many changes one transaction takes back.
const BATCH: usize = 20;

/// How many changes one call tells of, and how far back it looks in one article.
const MOST: usize = 1000;

/// What became of one change, or would.
#[derive(Debug, Clone)]
pub struct Undone {
    /// The change's entry.
    pub entry: EntryId,
    pub seq: i64,
    pub action: EntryAction,
    pub article: ArticleId,
    pub outcome: UndoOutcome,
    /// The entry that undoes it; nothing in a dry run.
    pub undone_by: Option<EntryId>,
    pub conflict: Option<Conflict>,
}

/// What became of an impersonation's changes.
#[derive(Debug, Default)]
pub struct Undoing {
    /// Newest first.
    pub changes: Vec<Undone>,
    /// Whether these are all of them.
    pub is_complete: bool,
}

/// How far one article is undone.
#[derive(Debug, Clone)]
struct Progress {
    walk: Walk,
    /// The article's version as it was left: whoever finds another begins anew.
    version: i64,
    /// What is looked at next is of an older version than this.
    before: Option<i64>,
    seen: usize,
    done: Vec<Undone>,
    is_at_end: bool,
}

impl Office {
    /// Undoes the changes of articles that were made in an impersonation, newest first, each by a mutation with an entry that names what it undoes. What others
    /// changed since, or what the workflow no longer allows, is left alone and told. A dry run tells the same and changes nothing.
    ///
    /// # Errors
    /// 404 where there is no such impersonation; 409 `impersonation_live` while it runs.
    pub async fn undo(&self, caller: &Caller, id: SessionId, dry_run: bool) -> Result<Undoing> {
        let now = caller.ctx.now;
        let changed = if dry_run {
            let changed = move |conn: &mut Conn| {
                require_over(sessions::find(conn, id, Lock::None)?, now)?;
                entries::articles_changed_under(conn, id)
            };
            self.read(caller, move |conn, _| changed(conn)).await?
        } else {
            self.write(caller, move |tx| {
                end_if_overdue(tx, id)?;
                entries::articles_changed_under(tx.conn, id)
            })
            .await?
        };
        let mut undoing = Undoing { changes: Vec::new(), is_complete: true };
        for (article, first) in changed {
            if undoing.changes.len() >= MOST {
                undoing.is_complete = false;
                break;
            }
            let progress = if dry_run {
                self.read(caller, move |conn, _| try_article(conn, id, article, first, now)).await?
            } else {
                self.undo_article(caller, id, article, first).await?
            };
            undoing.is_complete &= progress.seen < MOST;
            undoing.changes.extend(progress.done);
        }
        undoing.changes.sort_unstable_by_key(|one| std::cmp::Reverse(one.seq));
        Ok(undoing)
    }

    async fn undo_article(&self, caller: &Caller, impersonation: SessionId, article: ArticleId, first: Seq) -> Result<Progress> {
        let mut progress: Option<Progress> = None;
        loop {
            let so_far = progress.take();
            let next = self.write(caller, move |tx| undo_some(tx, impersonation, article, first, so_far.as_ref())).await?;
            if next.is_at_end {
                return Ok(next);
            }
            progress = Some(next);
        }
    }
}

/// # Errors
/// 404, 409 `impersonation_live`.
fn require_over(session: Option<Arc<Session>>, now: Time) -> Result<Arc<Session>> {
    let session = session.filter(|session| session.acting_as().is_some()).ok_or_else(Error::not_found)?;
    if session.ended.is_none() && session.expires_at > now {
        return Err(Error::new(Code::ImpersonationLive, "the impersonation still runs; end it first"));
    }
    Ok(session)
}

/// Waits for what was still being written in the impersonation, and says that it is over if its row doesn't yet.
fn end_if_overdue(tx: &mut Tx<'_>, id: SessionId) -> Result<()> {
    let session = require_over(sessions::find(tx.conn, id, Lock::Update)?, tx.ctx.now)?;
    match session.standing(tx.ctx.now, &tx.policy) {
        Standing::MustEnd(cause) => ending::end_overdue(tx, &session, cause),
        Standing::Live | Standing::Over(_) => Ok(()),
    }
}

/// Undoes up to [`BATCH`] changes of an article, from where `so_far` stopped unless the article was changed since.
fn undo_some(tx: &mut Tx<'_>, impersonation: SessionId, id: ArticleId, first: Seq, so_far: Option<&Progress>) -> Result<Progress> {
    // By its id, because one that was deleted has no row to lock.
    articles::lock(tx.conn, id)?;
    let article = articles::find(tx.conn, id, Lock::Update)?;
    let version = entries::version_of(tx.conn, id)?;
    let mut progress = match so_far {
        Some(progress) if progress.version == version => progress.clone(),
        _ => begin(tx.conn, impersonation, id, article, version, tx.ctx.now)?,
    };
    // What this call undid before somebody changed the article in between.
    let earlier: Vec<Undone> = so_far.iter().flat_map(|progress| &progress.done).filter(|one| one.undone_by.is_some()).cloned().collect();
    let mut undone = 0;
    while undone < BATCH {
        let Some(entry) = progress.next_entry(tx.conn, id, first)? else { break };
        let before = progress.walk.article().cloned();
        let Some(verdict) = progress.walk.next(&entry) else { continue };
        let mut one = told(&entry, id, &verdict);
        if let Verdict::Undo(compensation) = verdict {
            undone += 1;
            progress.version += 1;
            one.undone_by = Some(compensate(tx, &entry.written, before, progress.version, compensation)?);
        }
        let is_known = |known: &&Undone| one.outcome == UndoOutcome::AlreadyUndone && known.entry == one.entry;
        progress.done.push(earlier.iter().find(is_known).cloned().unwrap_or(one));
    }
    Ok(progress)
}

/// What [`undo_some`] would do in the end.
fn try_article(conn: &mut Conn, impersonation: SessionId, id: ArticleId, first: Seq, now: Time) -> Result<Progress> {
    let article = articles::find(conn, id, Lock::None)?;
    let version = entries::version_of(conn, id)?;
    let mut progress = begin(conn, impersonation, id, article, version, now)?;
    while let Some(entry) = progress.next_entry(conn, id, first)? {
        if let Some(verdict) = progress.walk.next(&entry) {
            progress.done.push(told(&entry, id, &verdict));
        }
    }
    Ok(progress)
}

fn begin(conn: &mut Conn, impersonation: SessionId, id: ArticleId, article: Option<Article>, version: i64, now: Time) -> Result<Progress> {
    let created_at = entries::article_created_at(conn, id)?.unwrap_or(now);
    let author = match &article {
        Some(article) => article.author.clone(),
        None => {
            let author = entries::author_of_deleted(conn, id)?.as_deref().and_then(UserId::parse);
            let author = author.map(|author| users::find(conn, author, Lock::None)).transpose()?.flatten();
            author.map(|user| user.to_ref()).ok_or_else(|| Error::internal("a deleted article's author is not known"))?
        }
    };
    let walk = Walk::new(impersonation, article, author, created_at);
    Ok(Progress { walk, version, before: None, seen: 0, done: Vec::new(), is_at_end: false })
}

fn told(entry: &Entry, article: ArticleId, verdict: &Verdict) -> Undone {
    let (outcome, conflict) = match verdict {
        Verdict::Undo(_) => (UndoOutcome::Undone, None),
        Verdict::AlreadyUndone => (UndoOutcome::AlreadyUndone, None),
        Verdict::Leave(conflict) => (UndoOutcome::Conflict, Some(conflict.clone())),
    };
    Undone { entry: entry.written.id, seq: entry.seq, action: entry.written.action, article, outcome, undone_by: None, conflict }
}

impl Progress {
    /// The next older entry down to `first`; nothing where there is none, or it has looked far enough.
    fn next_entry(&mut self, conn: &mut Conn, id: ArticleId, first: Seq) -> Result<Option<Entry>> {
        let found = if self.seen < MOST { entries::of_article_before(conn, id, first, self.before)? } else { None };
        match &found {
            Some(entry) => (self.before, self.seen) = (entry.written.resource.version, self.seen + 1),
            None => self.is_at_end = true,
        }
        Ok(found)
    }
}

/// Writes one compensation, and answers its entry. `before` is the article as it is.
fn compensate(tx: &mut Tx<'_>, undone: &NewEntry, before: Option<Article>, version: i64, compensation: Compensation) -> Result<EntryId> {
    // As it stands in its row now.
    let before = before.map(|article| Article { version: version - 1, ..article });
    let gone = || Error::internal("an article is gone that was to be changed");
    match compensation {
        Compensation::Change(after) => {
            let after = Article { version, updated_at: tx.ctx.now, ..*after };
            let entry = NewEntry::article_change_undone(&tx.ctx, undone, &before.ok_or_else(gone)?, &after);
            articles::update(tx.conn, &after, &entry)?;
            Ok(entry.id)
        }
        Compensation::Delete => {
            let before = before.ok_or_else(gone)?;
            let entry = NewEntry::article_creation_undone(&tx.ctx, undone, &before);
            articles::delete(tx.conn, &before, &entry)?;
            Ok(entry.id)
        }
        Compensation::Restore(after) => {
            let after = Article { version, updated_at: tx.ctx.now, ..*after };
            let entry = NewEntry::article_restored(&tx.ctx, undone, &after);
            articles::insert(tx.conn, &after, &entry)?;
            Ok(entry.id)
        }
    }
}
