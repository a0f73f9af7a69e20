//! Articles and their workflow.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, delete, get, patch, post};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::domain;
use crate::domain::article::{ArticleChange, ArticleStatus, WorkflowStep};
use crate::domain::identity::Ctx;
use crate::domain::ids::{ArticleId, UserId};
use crate::domain::operation::{ActOnArticle, CreateArticle, DeleteArticle, GetArticle, ListArticles, UpdateArticle};
use crate::domain::text::{Abstract, Body as Text, Comment, SearchText, Title};
use crate::http::answer::{listed, nothing, page_request, versioned};
use crate::http::caller::{Authorized, PathsArticle};
use crate::http::extract::{Body, Checked, IfMatch, Patch, PathId, Query};
use crate::http::problem::Result;
use crate::http::wire::{Article, ArticlePage};
use crate::service::articles::{self, Draft, Filter, Step};

fn shown(ctx: &Ctx, article: domain::article::Article) -> Result<Article> {
    let assessments = articles::assess(ctx, &article)?;
    Ok(Article::new(article, assessments))
}

/// Which articles.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ArticleQuery {
    /// Those in this status.
    status: Option<ArticleStatus>,
    /// Those of this author.
    #[param(value_type = Option<uuid::Uuid>)]
    author: Option<UserId>,
    /// Those given to this editor.
    #[param(value_type = Option<uuid::Uuid>)]
    editor: Option<UserId>,
    /// Part of the title or of the abstract, in any case.
    #[param(max_length = 200)]
    q: Option<String>,
    /// How many items at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
}

/// List articles
///
/// Those that the caller's subject may see, newest first.
#[utoipa::path(
    tag = "articles",
    params(ArticleQuery),
    security(("bearer" = [])),
    responses((status = 200, description = "Articles, newest first", body = ArticlePage)),
)]
#[get("/v1/articles")]
pub async fn list_articles(auth: Authorized<ListArticles>, query: Query<ArticleQuery>, request: HttpRequest) -> Result<HttpResponse> {
    let query = query.parse()?;
    let page = page_request(query.limit, query.cursor.as_deref())?;
    let mut checked = Checked::new();
    let q = checked.optional("q", query.q.as_deref().map(SearchText::parse));
    let filter = checked.finish(|| Some(Filter { status: query.status, author: query.author, editor: query.editor, q }))?;
    let found = auth.read(move |conn, ctx| articles::list(conn, ctx, filter, &page)).await?;
    let items = found.items.into_iter().map(|article| shown(&auth.caller.ctx, article)).collect::<Result<_>>()?;
    Ok(listed(&ArticlePage { items, next_cursor: found.next_cursor }, request.query_string()))
}

/// A new article.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateArticleRequest {
    /// One line of 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$", examples("On tides"))]
    title: String,
    #[schema(max_length = 5000, pattern = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$", examples("Why the sea moves."))]
    r#abstract: String,
    #[schema(max_length = 100_000, pattern = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$", examples("It just does."))]
    body: String,
}

/// Create an article
///
/// A draft, whose author is the caller's subject.
#[utoipa::path(
    tag = "articles",
    request_body = CreateArticleRequest,
    security(("bearer" = [])),
    responses((status = 201, description = "The draft", body = Article, headers(
        ("Location" = String, description = "The article"),
        ("ETag" = String, description = "The version, quoted"),
    ))),
)]
#[post("/v1/articles")]
pub async fn create_article(auth: Authorized<CreateArticle>, body: Body<CreateArticleRequest>) -> Result<HttpResponse> {
    let body = body.read().await?;
    let mut checked = Checked::new();
    let title = checked.field("/title", Title::parse(&body.title));
    let r#abstract = checked.field("/abstract", Abstract::parse(&body.r#abstract));
    let text = checked.field("/body", Text::parse(&body.body));
    let id = ArticleId::new(auth.now());
    let draft = checked.finish(|| Some(Draft { id, title: title?, r#abstract: r#abstract?, body: text? }))?;
    let article = auth.write(move |tx| articles::create(tx, &draft)).await?;
    let location = auth.state.location(format_args!("articles/{id}"));
    let mut answer = HttpResponse::Created();
    answer.insert_header((header::LOCATION, location)).insert_header((header::ETAG, format!("\"{}\"", article.version)));
    Ok(answer.json(shown(&auth.caller.ctx, article)?))
}

/// Show an article
///
/// With what the caller's subject may do with it, and why not. To who may not see it, it does not exist.
#[utoipa::path(
    tag = "articles",
    params(("id" = uuid::Uuid, Path, description = "The article")),
    security(("bearer" = [])),
    responses((status = 200, description = "The article", body = Article, headers(("ETag" = String, description = "The version, quoted")))),
)]
#[get("/v1/articles/{id}")]
pub async fn get_article(mut auth: Authorized<GetArticle, PathsArticle>, id: PathId<ArticleId>) -> Result<HttpResponse> {
    let id = id.parse()?;
    let article = auth.state.office.article(&mut auth.caller, id).await?;
    let version = article.version;
    Ok(versioned(&shown(&auth.caller.ctx, article)?, version))
}

/// A change of an article's text, as a JSON merge patch: what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateArticleRequest {
    #[serde(default)]
    #[schema(value_type = String, required = false, min_length = 1, max_length = 200, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$", examples("On the tides"))]
    title: Patch<String>,
    #[serde(default)]
    #[schema(value_type = String, required = false, max_length = 5000, pattern = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$", examples("Why the sea moves twice a day."))]
    r#abstract: Patch<String>,
    /// The author's alone to change.
    #[serde(default)]
    #[schema(value_type = String, required = false, max_length = 100_000, pattern = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$", examples("It is the moon."))]
    body: Patch<String>,
}

/// Change an article's text
///
/// Its author changes it in `draft` and `revision_requested`; its editor changes title and abstract in `submitted` and `under_review`.
#[utoipa::path(
    tag = "articles",
    params(
        ("id" = uuid::Uuid, Path, description = "The article"),
        ("If-Match" = Option<String>, Header, description = "Change only this version"),
    ),
    request_body(content(
        (UpdateArticleRequest = "application/merge-patch+json"),
        (UpdateArticleRequest = "application/json"),
    )),
    security(("bearer" = [])),
    responses((status = 200, description = "The article as it is now", body = Article, headers(("ETag" = String, description = "The version, quoted")))),
)]
#[patch("/v1/articles/{id}")]
pub async fn update_article(
    auth: Authorized<UpdateArticle, PathsArticle>,
    id: PathId<ArticleId>,
    if_match: IfMatch,
    body: Body<UpdateArticleRequest>,
) -> Result<HttpResponse> {
    let (id, expected) = (id.parse()?, if_match.expected()?);
    let body = body.read_merge_patch().await?;
    let mut checked = Checked::new();
    let title = checked.optional("/title", body.title.as_ref().map(|title| Title::parse(title)));
    let r#abstract = checked.optional("/abstract", body.r#abstract.as_ref().map(|text| Abstract::parse(text)));
    let text = checked.optional("/body", body.body.as_ref().map(|text| Text::parse(text)));
    let change = checked.finish(|| Some(ArticleChange { title, r#abstract, body: text }))?;
    let mut caller = auth.caller_now();
    let article = auth.state.office.edit_article(&mut caller, id, change, move |version| expected.check(version)).await?;
    let version = article.version;
    Ok(versioned(&shown(&auth.caller.ctx, Arc::unwrap_or_clone(article))?, version))
}

/// Delete a draft
///
/// By its author. Its history stays.
#[utoipa::path(
    tag = "articles",
    params(
        ("id" = uuid::Uuid, Path, description = "The article"),
        ("If-Match" = Option<String>, Header, description = "Delete only this version"),
    ),
    security(("bearer" = [])),
    responses((status = 204, description = "The article is gone")),
)]
#[delete("/v1/articles/{id}")]
pub async fn delete_article(auth: Authorized<DeleteArticle>, id: PathId<ArticleId>, if_match: IfMatch) -> Result<HttpResponse> {
    let (id, expected) = (id.parse()?, if_match.expected()?);
    auth.write(move |tx| articles::delete(tx, id, |version| expected.check(version))).await?;
    Ok(nothing())
}

/// A step of the editorial workflow.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionRequest {
    action: WorkflowStep,
    /// Whom to assign; with `assign_editor` and nothing else.
    #[serde(default)]
    #[schema(value_type = Option<uuid::Uuid>)]
    editor_id: Option<String>,
    /// A remark for the history.
    #[serde(default)]
    #[schema(max_length = 2000, pattern = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$", examples("A fine piece."))]
    comment: Option<String>,
}

/// Take a step of the workflow
///
/// What the person may not do is 403 `action_refused`, what only the status forbids is 409 `status_forbids`; `reasons` has all that hold.
#[utoipa::path(
    tag = "articles",
    params(
        ("id" = uuid::Uuid, Path, description = "The article"),
        ("If-Match" = Option<String>, Header, description = "Act only on this version"),
    ),
    request_body = ActionRequest,
    security(("bearer" = [])),
    responses((status = 200, description = "The article as it is now", body = Article, headers(("ETag" = String, description = "The version, quoted")))),
)]
#[post("/v1/articles/{id}/actions")]
pub async fn act_on_article(
    auth: Authorized<ActOnArticle>,
    id: PathId<ArticleId>,
    if_match: IfMatch,
    body: Body<ActionRequest>,
) -> Result<HttpResponse> {
    let (id, expected) = (id.parse()?, if_match.expected()?);
    let body = body.read().await?;
    let mut checked = Checked::new();
    let editor = body.editor_id.as_deref().map(|id| UserId::parse(id).ok_or(("invalid_id", "must be a UUID in lower case with hyphens")));
    let editor = checked.optional("/editor_id", editor);
    let comment = checked.optional("/comment", body.comment.as_deref().map(Comment::parse));
    let step = checked.finish(|| Some(Step { step: body.action, editor, comment }))?;
    let article = auth.write(move |tx| articles::act(tx, id, &step, |version| expected.check(version))).await?;
    let version = article.version;
    Ok(versioned(&shown(&auth.caller.ctx, article)?, version))
}
