//! Undoing what was done to an article under one impersonation: newest first, and only what nobody touched since.
//!
//! A plan is made of the article's history alone, by walking it backwards. What stands (somebody else's change, or one that can't be undone) is left alone, and
//! so is what it touched. What was undone before, and the entry that undid it, cancel each other.

use std::collections::BTreeSet;

use super::Time;
use super::article::{Article, ArticleStatus};
use super::history::{Changes, Entry, EntryAction, UNDOES};
use super::ids::{EntryId, SessionId};
use super::string_enum;
use super::text::{Abstract, Body, Title};
use super::user::UserRef;

string_enum! {
    /// What becomes of a change that is to be undone.
    pub enum UndoOutcome {
        Undone => "undone",
        AlreadyUndone => "already_undone",
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

/// An article's past, from the newest entry down to the first of the impersonation.
#[derive(Debug)]
pub struct Past<'a> {
    /// Newest first.
    pub entries: &'a [Entry],
    /// The article as it is; `None` where it was deleted.
    pub article: Option<&'a Article>,
    /// What its entries don't say of an article that comes back: who wrote it, and when.
    pub author: &'a UserRef,
    pub created_at: Time,
}

/// What is to become of each change that was made under `impersonation`, newest first.
pub fn plan<'a>(past: &Past<'a>, impersonation: SessionId) -> Vec<(&'a Entry, Verdict)> {
    let mut state = past.article.cloned();
    let mut standing = Standing::default();
    let mut cancelled: BTreeSet<EntryId> = BTreeSet::new();
    let mut verdicts = Vec::new();
    for entry in past.entries {
        if let Some(undone) = undone_by(entry) {
            cancelled.insert(undone);
            continue;
        }
        let is_cancelled = cancelled.contains(&entry.written.id);
        if entry.written.impersonation_id != Some(impersonation) {
            if !is_cancelled {
                standing.add(entry);
            }
            continue;
        }
        let verdict = match compensate(entry, state.as_ref(), &standing, past) {
            _ if is_cancelled => Verdict::AlreadyUndone,
            Ok(compensation) => {
                state = match &compensation {
                    Compensation::Change(after) | Compensation::Restore(after) => Some((**after).clone()),
                    Compensation::Delete => None,
                };
                Verdict::Undo(compensation)
            }
            Err(conflict) => {
                standing.add(entry);
                Verdict::Leave(conflict)
            }
        };
        verdicts.push((entry, verdict));
    }
    verdicts
}

/// The entry that this one undoes, if it undoes one.
fn undone_by(entry: &Entry) -> Option<EntryId> {
    entry.written.changes.0.get(UNDOES).and_then(|change| change.to.as_str()).and_then(EntryId::parse)
}

/// What has changed since, and stays.
#[derive(Default)]
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

fn compensate(entry: &Entry, state: Option<&Article>, standing: &Standing, past: &Past<'_>) -> Result<Compensation, Conflict> {
    let changes = &entry.written.changes;
    match (entry.written.action, state) {
        (EntryAction::ArticleCreated, Some(article)) => {
            if standing.whole || !standing.fields.is_empty() {
                return Err(changed_since("the article was changed since it was created"));
            }
            if article.status != ArticleStatus::Draft {
                return Err(forbidden(format!("the article is `{}`, and only a draft is deleted", article.status)));
            }
            Ok(Compensation::Delete)
        }
        (EntryAction::ArticleDeleted, None) => {
            if standing.whole || !standing.fields.is_empty() {
                return Err(changed_since("the article came back since"));
            }
            let text = |field: &str| changes.0.get(field).and_then(|change| change.from.as_str()).unwrap_or_default().to_owned();
            let version = entry.written.resource.version.unwrap_or_default();
            Ok(Compensation::Restore(Box::new(Article {
                id: super::ids::ArticleId::parse(&entry.written.resource.id).ok_or_else(|| changed_since("the entry names no article"))?,
                title: Title::from_stored(text("title")),
                r#abstract: Abstract::from_stored(text("abstract")),
                body: Body::from_stored(text("body")),
                status: ArticleStatus::Draft,
                author: past.author.clone(),
                editor: None,
                version,
                created_at: past.created_at,
                updated_at: past.created_at,
            })))
        }
        (_, None) => Err(changed_since("the article is gone")),
        (_, Some(article)) => {
            if standing.touches(changes) {
                return Err(changed_since("what it changed was changed again since"));
            }
            change_back(changes, article).map(|after| Compensation::Change(Box::new(after)))
        }
    }
}

fn change_back(changes: &Changes, article: &Article) -> Result<Article, Conflict> {
    use ArticleStatus::{Draft, RevisionRequested, Submitted, UnderReview};
    let mut after = article.clone();
    for field in fields(changes) {
        let Some(change) = changes.0.get(field) else { continue };
        let from = change.from.as_str().unwrap_or_default().to_owned();
        let is = |value: &str| change.to.as_str() == Some(value);
        let (is_as_it_was_left, is_possible) = match field {
            "title" => (is(article.title.as_str()), matches!(article.status, Draft | RevisionRequested | Submitted | UnderReview)),
            "abstract" => (is(article.r#abstract.as_str()), matches!(article.status, Draft | RevisionRequested | Submitted | UnderReview)),
            "body" => (is(article.body.as_str()), matches!(article.status, Draft | RevisionRequested)),
            // A draft has no editor yet.
            "status" => {
                (is(article.status.as_str()), ArticleStatus::parse(&from).is_some_and(|to| to != Draft || article.editor.is_none()))
            }
            // Who edits an article is nobody's to change who can be acted as.
            _ => (true, false),
        };
        if !is_as_it_was_left {
            return Err(changed_since("what it changed was changed again since"));
        }
        if !is_possible {
            return Err(match field {
                "status" => forbidden("the article has an editor by now, and a draft has none"),
                _ => forbidden(format!("the article is `{}`, and its {field} is not changed in that status", article.status)),
            });
        }
        match field {
            "title" => after.title = Title::from_stored(from),
            "abstract" => after.r#abstract = Abstract::from_stored(from),
            "body" => after.body = Body::from_stored(from),
            _ => after.status = ArticleStatus::parse(&from).unwrap_or(after.status),
        }
    }
    Ok(after)
}
