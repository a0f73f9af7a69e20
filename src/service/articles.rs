//! Articles and the steps of their workflow.

use super::gate::Tx;
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
use crate::store::{Conn, Lock, articles, users};

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

/// # Errors
/// 404 where there is none, or none that the caller may know of; 403 `outside_grant` where the impersonation was started for others alone.
pub fn get(conn: &mut Conn, ctx: &Ctx, id: ArticleId) -> Result<Article> {
    let article = articles::find(conn, id, Lock::None)?.ok_or_else(Error::not_found)?;
    require_visible(ctx, &article)?;
    Ok(article)
}

/// # Errors
/// As [`get`].
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
    let identity = tx.ctx.identity()?;
    let asked = question(Question::of_user(identity.subject(), Action::Read, Some(&article)).under(identity.hold()));
    let allowed = decide(asked).require()?;
    Ok((article, allowed))
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

/// Changes an article's text. A change that changes nothing leaves no entry and no new version. What would be refused anyway is refused first: a
/// precondition counts only for what would succeed (RFC 9110 §13.2.1).
///
/// # Errors
/// 404; 403 and 409 as [`crate::domain::decision::Decision::require`]; what `precondition` says of the row's version.
pub fn update(tx: &mut Tx<'_>, id: ArticleId, change: &ArticleChange, precondition: impl FnOnce(i64) -> Result<()>) -> Result<Article> {
    let part = if change.body.is_some() { Part::Body } else { Part::Any };
    let (before, allowed) = decide_on(tx, id, |question| Question { action: Action::Edit, part, ..question })?;
    precondition(before.version)?;
    let after = Article {
        title: change.title.clone().unwrap_or_else(|| before.title.clone()),
        r#abstract: change.r#abstract.clone().unwrap_or_else(|| before.r#abstract.clone()),
        body: change.body.clone().unwrap_or_else(|| before.body.clone()),
        ..before.clone()
    };
    if after == before {
        return Ok(before);
    }
    save(tx, &allowed, ArticleAction::Edit, &before, after, None)
}

/// Deletes a draft. Its history stays.
///
/// # Errors
/// As [`update`].
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
/// As [`update`]; 422 where `editor_id` is missing, not wanted, or nobody who may edit.
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
    save(tx, &allowed, step.step.action(), &before, after, step.comment.as_ref())
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

/// Takes what was decided, so that nothing is saved that was not.
fn save(
    tx: &mut Tx<'_>,
    _allowed: &Allowed,
    action: ArticleAction,
    before: &Article,
    mut after: Article,
    comment: Option<&Comment>,
) -> Result<Article> {
    after.version = before.version + 1;
    after.updated_at = tx.ctx.now;
    let entry = NewEntry::article_changed(&tx.ctx, action, before, &after, comment);
    articles::update(tx.conn, &after, &entry)?;
    Ok(after)
}
