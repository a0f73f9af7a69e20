//! Undoing what was done to an article under one impersonation: newest first, and only what nobody touched since.
//!
//! A plan is made of the article's history alone, by walking it backwards. What stands (somebody else's change, or one that can't be undone) is left alone, and
//! so is what it touched. What was undone before, and the entry that undid it, cancel each other.

use std::collections::BTreeSet;

use super::Time;
use super::article::{Article, ArticleStatus};
use super::history::{Changes, Entry, EntryAction, UNDOES};
use super::ids::{ArticleId, EntryId, SessionId};
use super::string_enum;
use super::text::{Abstract, Body, Title};
use super::user::UserRef;

string_enum! {
    /// What becomes of a change that is to be undone; in a dry run, what would.
    pub enum UndoOutcome {
        Undone => "undone",
        /// It was undone before.
        AlreadyUndone => "already_undone",
        /// It is left alone.
        Conflict => "conflict",
    }
}

string_enum! {
    /// Why a change is left alone.
    pub enum ConflictCode {
        /// What it changed was changed again.
        ChangedSince => "changed_since",
        /// What it changed can't be changed any more in the article's status.
        WorkflowForbids => "workflow_forbids",
    }
}

/// Why a change is left alone, in a code and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub code: ConflictCode,
    pub detail: String,
}

/// How a change is undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compensation {
    /// The article becomes this; its version is not raised yet.
    Change(Box<Article>),
    /// It was created, and goes.
    Delete,
    /// It was deleted, and comes back as this.
    Restore(Box<Article>),
}

/// What is to become of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Undo(Compensation),
    AlreadyUndone,
    Leave(Conflict),
}

/// Walks an article's entries from the newest down to the first of the impersonation, and says of each that was made under it what is to become of it. Keeps
/// the article as it is after what was undone so far, and of the entries no more than the names of what they touched.
#[derive(Debug, Clone)]
pub struct Walk {
    impersonation: SessionId,
    article: Option<Article>,
    /// What its entries don't say of an article that comes back: who wrote it, and when.
    author: UserRef,
    created_at: Time,
    standing: Standing,
    cancelled: BTreeSet<EntryId>,
}

impl Walk {
    /// Begins at `article`, which is as its newest entry left it; `None` where it was deleted.
    pub fn new(impersonation: SessionId, article: Option<Article>, author: UserRef, created_at: Time) -> Self {
        Self { impersonation, article, author, created_at, standing: Standing::default(), cancelled: BTreeSet::new() }
    }

    /// The article as it is after what was undone so far.
    pub fn article(&self) -> Option<&Article> {
        self.article.as_ref()
    }

    /// Looks at the next older entry; nothing where it was not made under the impersonation.
    pub fn next(&mut self, entry: &Entry) -> Option<Verdict> {
        if let Some(undone) = undone_by(entry) {
            self.cancelled.insert(undone);
            return None;
        }
        let is_cancelled = self.cancelled.contains(&entry.written.id);
        if entry.written.impersonation_id != Some(self.impersonation) {
            if !is_cancelled {
                self.standing.add(entry);
            }
            return None;
        }
        if is_cancelled {
            return Some(Verdict::AlreadyUndone);
        }
        Some(match self.compensate(entry) {
            Ok(compensation) => {
                self.article = match &compensation {
                    Compensation::Change(after) | Compensation::Restore(after) => Some((**after).clone()),
                    Compensation::Delete => None,
                };
                Verdict::Undo(compensation)
            }
            Err(conflict) => {
                self.standing.add(entry);
                Verdict::Leave(conflict)
            }
        })
    }
}

/// The entry that this one undoes, if it undoes one.
fn undone_by(entry: &Entry) -> Option<EntryId> {
    entry.written.changes.0.get(UNDOES).and_then(|change| change.to.as_str()).and_then(EntryId::parse)
}

/// What has changed since, and stays.
#[derive(Debug, Clone, Default)]
struct Standing {
    fields: BTreeSet<String>,
    /// Whether the article itself came or went.
    whole: bool,
}

impl Standing {
    fn add(&mut self, entry: &Entry) {
        self.fields.extend(fields(&entry.written.changes).map(str::to_owned));
        self.whole |=
            matches!(entry.written.action, EntryAction::ArticleCreated | EntryAction::ArticleDeleted | EntryAction::ArticleRestored);
    }

    fn touches(&self, changes: &Changes) -> bool {
        self.whole || fields(changes).any(|field| self.fields.contains(field))
    }
}

/// The article's own fields, without the remark on a step.
fn fields(changes: &Changes) -> impl Iterator<Item = &str> {
    changes.0.keys().map(String::as_str).filter(|field| !matches!(*field, "comment" | UNDOES))
}

fn changed_since(detail: &str) -> Conflict {
    Conflict { code: ConflictCode::ChangedSince, detail: detail.to_owned() }
}

fn forbidden(detail: impl Into<String>) -> Conflict {
    Conflict { code: ConflictCode::WorkflowForbids, detail: detail.into() }
}

impl Walk {
    fn compensate(&self, entry: &Entry) -> Result<Compensation, Conflict> {
        let (changes, standing) = (&entry.written.changes, &self.standing);
        match (entry.written.action, &self.article) {
            (EntryAction::ArticleCreated, Some(article)) => {
                if standing.whole || !standing.fields.is_empty() {
                    return Err(changed_since("the article was changed since it was created"));
                }
                if article.status != ArticleStatus::Draft {
                    return Err(forbidden(format!("the article is `{}`, and only a draft is deleted", article.status)));
                }
                Ok(Compensation::Delete)
            }
            (EntryAction::ArticleDeleted, None) if !standing.whole && standing.fields.is_empty() => self.restore(entry),
            (EntryAction::ArticleDeleted, _) => Err(changed_since("the article came back since")),
            (_, None) => Err(changed_since("the article is gone")),
            (_, Some(article)) => {
                if standing.touches(changes) {
                    return Err(changed_since("what it changed was changed again since"));
                }
                self.change_back(changes, article).map(|after| Compensation::Change(Box::new(after)))
            }
        }
    }

    fn restore(&self, entry: &Entry) -> Result<Compensation, Conflict> {
        let text = |field: &str| entry.written.changes.0.get(field).and_then(|change| change.from.as_str()).unwrap_or_default().to_owned();
        Ok(Compensation::Restore(Box::new(Article {
            id: ArticleId::parse(&entry.written.resource.id).ok_or_else(|| changed_since("the entry names no article"))?,
            title: Title::from_stored(text("title")),
            r#abstract: Abstract::from_stored(text("abstract")),
            body: Body::from_stored(text("body")),
            status: ArticleStatus::Draft,
            author: self.author.clone(),
            editor: None,
            version: entry.written.resource.version.unwrap_or_default(),
            created_at: self.created_at,
            updated_at: self.created_at,
        })))
    }

    fn change_back(&self, changes: &Changes, article: &Article) -> Result<Article, Conflict> {
        let mut after = article.clone();
        for field in fields(changes) {
            let Some(change) = changes.0.get(field) else { continue };
            let from = change.from.as_str().unwrap_or_default().to_owned();
            let current = match field {
                "title" => article.title.as_str(),
                "abstract" => article.r#abstract.as_str(),
                "body" => article.body.as_str(),
                "status" => article.status.as_str(),
                // Who edits an article is nobody's to change who can be acted as.
                _ => continue,
            };
            if change.to.as_str() != Some(current) {
                return Err(changed_since("what it changed was changed again since"));
            }
            if field != "status" && !is_edited_in(field, article.status) {
                return Err(forbidden(format!("the article is `{}`, and its {field} is not changed in that status", article.status)));
            }
            match field {
                "title" => after.title = Title::from_stored(from),
                "abstract" => after.r#abstract = Abstract::from_stored(from),
                "body" => after.body = Body::from_stored(from),
                _ => after.status = self.status_before(&from, article)?,
            }
        }
        Ok(after)
    }

    /// The status to go back to, if nobody has done since what it would not have allowed: given a draft an editor, or worked on the text.
    fn status_before(&self, from: &str, article: &Article) -> Result<ArticleStatus, Conflict> {
        let status = ArticleStatus::parse(from).ok_or_else(|| forbidden("it names no status to go back to"))?;
        if status == ArticleStatus::Draft && article.editor.is_some() {
            return Err(forbidden("the article has an editor by now, and a draft has none"));
        }
        let is_text = |field: &&String| ["title", "abstract", "body"].contains(&field.as_str());
        match self.standing.fields.iter().filter(is_text).find(|field| !is_edited_in(field, status)) {
            Some(field) => Err(forbidden(format!("the article's {field} was changed since, which `{status}` would not have allowed"))),
            None => Ok(status),
        }
    }
}

/// Whether somebody edits that part of an article in this status.
fn is_edited_in(field: &str, status: ArticleStatus) -> bool {
    use ArticleStatus::{Draft, RevisionRequested, Submitted, UnderReview};
    match status {
        Draft | RevisionRequested => true,
        Submitted | UnderReview => field != "body",
        _ => false,
    }
}
