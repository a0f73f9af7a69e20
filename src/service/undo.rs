//! Undoing what was done to articles in one impersonation that is over.

use super::gate::Tx;
use crate::domain::article::Article;
use crate::domain::error::{Code, Error, Result};
use crate::domain::history::{Entry, EntryAction, NewEntry};
use crate::domain::ids::{ArticleId, EntryId, SessionId, UserId};
use crate::domain::page::Seq;
use crate::domain::undo::{Compensation, Conflict, Past, UndoOutcome, Verdict, plan};
use crate::domain::user::UserRef;
use crate::store::{Conn, Lock, articles, entries, sessions, users};

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

/// Undoes the changes of articles that were made in an impersonation, newest first, each by a mutation with an entry that names what it undoes. What others
/// changed since, or what the workflow no longer allows, is left alone and told. A dry run tells the same and changes nothing.
///
/// # Errors
/// 404 where there is no such impersonation; 409 `impersonation_live` while it runs.
pub fn undo(tx: &mut Tx<'_>, id: SessionId, dry_run: bool) -> Result<Vec<Undone>> {
    let session = sessions::find(tx.conn, id, Lock::None)?.filter(|session| session.acting_as().is_some()).ok_or_else(Error::not_found)?;
    if session.ended.is_none() && session.expires_at > tx.ctx.now {
        return Err(Error::new(Code::ImpersonationLive, "the impersonation still runs; end it first"));
    }
    let mut undone = Vec::new();
    // Article by article in the order of their ids, which is the order in which rows are locked; within one, newest first.
    for (article, first) in entries::articles_changed_under(tx.conn, id)? {
        undone.extend(undo_article(tx, id, article, first, dry_run)?);
    }
    undone.sort_unstable_by_key(|one| std::cmp::Reverse(one.seq));
    Ok(undone)
}

fn undo_article(tx: &mut Tx<'_>, impersonation: SessionId, id: ArticleId, first: Seq, dry_run: bool) -> Result<Vec<Undone>> {
    let found = articles::find(tx.conn, id, Lock::Update)?;
    // Read under the article's lock, so that nothing is added meanwhile.
    let history = entries::of_article_since(tx.conn, id, first)?;
    let created_at = entries::article_created_at(tx.conn, id)?.unwrap_or(tx.ctx.now);
    let author = match &found {
        Some(article) => article.author.clone(),
        None => author_of_deleted(tx.conn, &history)?,
    };
    let past = Past { entries: &history, article: found.as_ref(), author: &author, created_at };
    let mut article = found.clone();
    let mut version = history.iter().find_map(|entry| entry.written.resource.version).unwrap_or_default();
    let mut done = Vec::new();
    let plan = plan(&past, impersonation);
    for (entry, verdict) in plan {
        let mut one = Undone {
            entry: entry.written.id,
            seq: entry.seq,
            action: entry.written.action,
            article: id,
            outcome: UndoOutcome::Undone,
            undone_by: None,
            conflict: None,
        };
        match verdict {
            Verdict::AlreadyUndone => one.outcome = UndoOutcome::AlreadyUndone,
            Verdict::Leave(conflict) => (one.outcome, one.conflict) = (UndoOutcome::Conflict, Some(conflict)),
            Verdict::Undo(_) if dry_run => {}
            Verdict::Undo(compensation) => {
                version += 1;
                one.undone_by = Some(compensate(tx, &entry.written, &mut article, version, compensation)?);
            }
        }
        done.push(one);
    }
    Ok(done)
}

/// Writes one compensation, and answers its entry. `article` is the article before, and then after.
fn compensate(
    tx: &mut Tx<'_>,
    undone: &NewEntry,
    article: &mut Option<Article>,
    version: i64,
    compensation: Compensation,
) -> Result<EntryId> {
    let gone = || Error::internal("an article is gone that was to be changed");
    match compensation {
        Compensation::Change(after) => {
            let before = article.take().ok_or_else(gone)?;
            let after = Article { version, updated_at: tx.ctx.now, ..*after };
            let entry = NewEntry::article_change_undone(&tx.ctx, undone, &before, &after);
            articles::update(tx.conn, &after, &entry)?;
            *article = Some(after);
            Ok(entry.id)
        }
        Compensation::Delete => {
            let before = article.take().ok_or_else(gone)?;
            let entry = NewEntry::article_creation_undone(&tx.ctx, undone, &before);
            articles::delete(tx.conn, &before, &entry)?;
            Ok(entry.id)
        }
        Compensation::Restore(after) => {
            let after = Article { version, updated_at: tx.ctx.now, ..*after };
            let entry = NewEntry::article_restored(&tx.ctx, undone, &after);
            articles::insert(tx.conn, &after, &entry)?;
            *article = Some(after);
            Ok(entry.id)
        }
    }
}

/// Who wrote an article that is gone: its deletion's entry says so.
fn author_of_deleted(conn: &mut Conn, history: &[Entry]) -> Result<UserRef> {
    let author = history.iter().find_map(|entry| entry.written.changes.0.get("author_id")?.from.as_str().and_then(UserId::parse));
    let author = author.map(|id| users::find(conn, id, Lock::None)).transpose()?.flatten();
    author.map(|user| user.to_ref()).ok_or_else(|| Error::internal("a deleted article's author is not known"))
}
