//! Articles and the steps of their workflow.

use std::sync::Arc;

use super::gate::{Caller, Tx};
use super::office::Office;
use crate::domain::article::{Article, ArticleAction, ArticleChange, ArticleStatus, WorkflowStep};
use crate::domain::decision::{Action, Allowed, Part, Question, decide};
use crate::domain::error::{Code, Error, Reason, Result};
use crate::domain::history::NewEntry;
use crate::domain::identity::{Ctx, Identity, Viewer};
use crate::domain::ids::{ArticleId, UserId};
use crate::domain::page::{Page, PageRequest};
use crate::domain::role::Permission;
use crate::domain::text::{Abstract, Body, Comment, SearchText, Title};
use crate::domain::user::{Principal, UserRef};
use crate::store::sessions::Sought;
use crate::store::{Conn, DecidedChange, Lock, articles, users};

/// What a new article is made of.
#[derive(Debug, Clone)]
pub struct Draft {
    pub id: ArticleId,
    pub title: Title,
    pub r#abstract: Abstract,
    pub body: Body,
}

/// Which articles a listing shows, of those that the caller may see.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub status: Option<ArticleStatus>,
    pub author: Option<UserId>,
    pub editor: Option<UserId>,
    pub q: Option<SearchText>,
}

/// One page of the articles that the caller's subject may see, newest first; of an impersonation that was started for some, of those alone.
pub fn list(conn: &mut Conn, ctx: &Ctx, filter: Filter, page: &PageRequest<ArticleId>) -> Result<Page<Article>> {
    let caller = ctx.viewer()?;
    // A client by itself was let in only with `articles:read_all`.
    let visible_to = caller.user().filter(|user| !user.holds(Permission::ArticlesReadAll)).map(Principal::id);
    let only = ctx.identity().ok().and_then(Identity::hold).and_then(|hold| hold.bounds.articles.clone());
    let Filter { status, author, editor, q } = filter;
    articles::list(conn, &articles::ArticleFilter { only, visible_to, status, author, editor, q }, page)
}

impl Office {
    /// The article with this id.
    ///
    /// # Errors
    /// 404 where there is none, or none that the caller may know of; 403 `outside_grant` where the impersonation was started for others alone.
    pub async fn article(&self, caller: &mut Caller, id: ArticleId) -> Result<Article> {
        let article = self.article_for(caller, id).await?.ok_or_else(Error::not_found)?;
        require_visible(&caller.ctx, &article)?;
        Ok(Arc::unwrap_or_clone(article))
    }

    /// As it is, or was when the caller was admitted.
    async fn article_for(&self, caller: &mut Caller, id: ArticleId) -> Result<Option<Arc<Article>>> {
        match caller.take_sight_of(id) {
            Sought::Found(article) => Ok(Some(article)),
            Sought::Missing => Ok(None),
            Sought::Unknown => self.db.article(id).await,
        }
    }
}

/// # Errors
/// As [`Office::article`].
pub(super) fn require_visible(ctx: &Ctx, article: &Article) -> Result<()> {
    match ctx.viewer()? {
        Viewer::User(_) => require_sight(ctx.identity()?, article),
        caller @ Viewer::Client(_) if article.is_visible_to(caller) => Ok(()),
        Viewer::Client(_) => Err(Error::not_found()),
    }
}

/// As [`require_visible`], for a user.
pub(super) fn require_sight(identity: &Identity, article: &Article) -> Result<()> {
    decide(Question::of_user(identity.subject(), Action::Read, Some(article)).under(identity.hold())).require_sight()
}

/// The article that is to be changed, and whether its caller may do `action` with it: the user, and the impersonation in which they act.
fn decide_on(tx: &mut Tx<'_>, id: ArticleId, question: impl FnOnce(Question<'_>) -> Question<'_>) -> Result<(Article, Allowed)> {
    let article = articles::find(tx.conn, id, Lock::Update)?.ok_or_else(Error::not_found)?;
    let allowed = decide_about(&tx.ctx, &article, question)?;
    Ok((article, allowed))
}

fn decide_about(ctx: &Ctx, article: &Article, question: impl FnOnce(Question<'_>) -> Question<'_>) -> Result<Allowed> {
    let identity = ctx.identity()?;
    let asked = question(Question::of_user(identity.subject(), Action::Read, Some(article)).under(identity.hold()));
    decide(asked).require()
}

/// Everything that can be done with an article, and for each every reason why the caller's subject may not. Nothing for a client by itself: all of it is done as
/// a user. What an impersonation withholds stands elsewhere: an article looks as its subject sees it.
///
/// # Errors
/// None in practice: somebody looks.
pub fn assess(ctx: &Ctx, article: &Article) -> Result<Vec<(ArticleAction, Vec<Reason>)>> {
    let Some(caller) = ctx.viewer()?.user() else { return Ok(Vec::new()) };
    let reasons = |action| decide(Question::of_user(caller, action, Some(article))).reasons_of_user();
    Ok(ArticleAction::ALL.iter().map(|&action| (action, reasons(action))).collect())
}

/// Creates a draft whose author is the caller's subject.
pub fn create(tx: &mut Tx<'_>, draft: &Draft) -> Result<Article> {
    let article = Article {
        id: draft.id,
        title: draft.title.clone(),
        r#abstract: draft.r#abstract.clone(),
        body: draft.body.clone(),
        status: ArticleStatus::Draft,
        author: tx.ctx.subject()?.user.clone(),
        editor: None,
        version: 1,
        created_at: tx.ctx.now,
        updated_at: tx.ctx.now,
    };
    articles::insert(tx.conn, &article, &NewEntry::article_created(&tx.ctx, &article))?;
    Ok(article)
}

impl Office {
    /// Changes an article's text. A change that changes nothing leaves no entry and no new version. What would be refused anyway is refused first: a
    /// precondition counts only for what would succeed (RFC 9110 §13.2.1).
    ///
    /// # Errors
    /// 404; 403 and 409 as [`crate::domain::decision::Decision::require`]; what `precondition` says of the row's version.
    pub async fn edit_article(
        &self,
        caller: &mut Caller,
        id: ArticleId,
        change: ArticleChange,
        precondition: impl Fn(i64) -> Result<()> + Send + 'static,
    ) -> Result<Arc<Article>> {
        let decided = self.decide_edit(caller, id, &change, &precondition).await?.map(Arc::new);
        if let Some(decided) = &decided
            && self.db.save_article(decided).await?
        {
            return Ok(Arc::clone(&decided.article));
        }
        let save = move |tx: &mut Tx<'_>| match &decided {
            Some(decided) if decided.apply(tx.conn)? => Ok(Some(Arc::clone(&decided.article))),
            _ => Ok(None),
        };
        self.write_decided(caller, save, move |tx| update(tx, id, &change, &precondition)).await
    }

    /// Decides before it is written, by what was read when the caller was admitted. Nothing where that can't be, and for everything that is refused.
    async fn decide_edit(
        &self,
        caller: &mut Caller,
        id: ArticleId,
        change: &ArticleChange,
        precondition: &(impl Fn(i64) -> Result<()> + Send),
    ) -> Result<Option<DecidedChange>> {
        let Some(ground) = caller.standing_ground() else { return Ok(None) };
        let Some(before) = self.article_for(caller, id).await? else { return Ok(None) };
        let Ok(Edited::As(article, entry)) = edited(&caller.ctx, &before, change, precondition) else { return Ok(None) };
        Ok(Some(DecidedChange { ground, article, entry: *entry }))
    }
}

/// [`Office::edit_article`] in a transaction.
pub fn update(
    tx: &mut Tx<'_>,
    id: ArticleId,
    change: &ArticleChange,
    precondition: impl FnOnce(i64) -> Result<()>,
) -> Result<Arc<Article>> {
    let before = articles::find(tx.conn, id, Lock::Update)?.ok_or_else(Error::not_found)?;
    match edited(&tx.ctx, &before, change, precondition)? {
        Edited::Not => Ok(Arc::new(before)),
        Edited::As(after, entry) => {
            articles::update_text(tx.conn, &after, &entry)?;
            Ok(after)
        }
    }
}

/// What a change makes of an article.
enum Edited {
    Not,
    As(Arc<Article>, Box<NewEntry>),
}

/// Decides on a change of an article's text.
fn edited(ctx: &Ctx, before: &Article, change: &ArticleChange, precondition: impl FnOnce(i64) -> Result<()>) -> Result<Edited> {
    let part = if change.body.is_some() { Part::Body } else { Part::Any };
    let allowed = decide_about(ctx, before, |question| Question { action: Action::Edit, part, ..question })?;
    precondition(before.version)?;
    let after = Article {
        title: change.title.clone().unwrap_or_else(|| before.title.clone()),
        r#abstract: change.r#abstract.clone().unwrap_or_else(|| before.r#abstract.clone()),
        body: change.body.clone().unwrap_or_else(|| before.body.clone()),
        ..before.clone()
    };
    if after == *before {
        return Ok(Edited::Not);
    }
    let (after, entry) = next(ctx, &allowed, ArticleAction::Edit, before, after, None);
    Ok(Edited::As(Arc::new(after), Box::new(entry)))
}

/// Deletes a draft. Its history stays.
///
/// # Errors
/// As [`Office::edit_article`].
pub fn delete(tx: &mut Tx<'_>, id: ArticleId, precondition: impl FnOnce(i64) -> Result<()>) -> Result<()> {
    let (article, _allowed) = decide_on(tx, id, |question| Question { action: Action::Delete, ..question })?;
    precondition(article.version)?;
    articles::delete(tx.conn, &article, &NewEntry::article_deleted(&tx.ctx, &article))
}

/// A step of the workflow, as it is asked for.
#[derive(Debug, Clone)]
pub struct Step {
    pub step: WorkflowStep,
    /// Whom to assign; for `assign_editor` and nothing else.
    pub editor: Option<UserId>,
    pub comment: Option<Comment>,
}

/// Takes a step of the workflow.
///
/// # Errors
/// As [`Office::edit_article`]; 422 where `editor_id` is missing, not wanted, or nobody who may edit.
pub fn act(tx: &mut Tx<'_>, id: ArticleId, step: &Step, precondition: impl FnOnce(i64) -> Result<()>) -> Result<Article> {
    let editor = step.editor.filter(|_| step.step == WorkflowStep::AssignEditor);
    let (before, allowed) = decide_on(tx, id, |question| Question { action: step.step.action().into(), editor, ..question })?;
    precondition(before.version)?;
    let status = step.step.leads_to(before.status).ok_or_else(|| Error::new(Code::StatusForbids, "the status changed meanwhile"))?;
    let editor = match (step.step, step.editor) {
        (WorkflowStep::AssignEditor, Some(editor)) => Some(find_editor(tx.conn, editor)?),
        (WorkflowStep::AssignEditor, None) => return Err(Error::invalid_field("/editor_id", "required", "say who is to edit the article")),
        (_, Some(_)) => return Err(Error::invalid_field("/editor_id", "not_applicable", "only `assign_editor` takes an editor")),
        (_, None) => before.editor.clone(),
    };
    let after = Article { status, editor, ..before.clone() };
    let (after, entry) = next(&tx.ctx, &allowed, step.step.action(), &before, after, step.comment.as_ref());
    articles::update(tx.conn, &after, &entry)?;
    Ok(after)
}

fn find_editor(conn: &mut Conn, id: UserId) -> Result<UserRef> {
    let refused = |code, detail| Error::invalid_field("/editor_id", code, detail);
    let user = users::find(conn, id, Lock::Share)?.ok_or_else(|| refused("unknown_user", "there is no such user"))?;
    if !user.to_principal().is_active() {
        return Err(refused("inactive", "the user is disabled"));
    }
    if !user.role.holds(Permission::ArticlesEditAssigned) {
        return Err(refused("not_an_editor", "the user does not hold `articles:edit_assigned`"));
    }
    Ok(user.to_ref())
}

/// An article's next version, and the entry of it. Takes what was decided, so that nothing is saved that was not.
fn next(
    ctx: &Ctx,
    _allowed: &Allowed,
    action: ArticleAction,
    before: &Article,
    mut after: Article,
    comment: Option<&Comment>,
) -> (Article, NewEntry) {
    after.version = before.version + 1;
    after.updated_at = ctx.now;
    let entry = NewEntry::article_changed(ctx, action, before, &after, comment);
    (after, entry)
}
