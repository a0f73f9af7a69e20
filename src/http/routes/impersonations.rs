//! Acting as a user: starting, watching, ending.

use actix_web::{HttpRequest, HttpResponse, delete, get, post};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::domain::ids::{SessionId, UserId};
use crate::domain::impersonation::{Bounds, ImpersonationStatus, Mode, StartRequest};
use crate::domain::operation::{EndImpersonation, GetImpersonation, ListImpersonations, StartImpersonation, UndoImpersonation};
use crate::domain::role::Permission;
use crate::domain::text::{Reason, RestoreChallenge, Ticket};
use crate::http::answer::{created, listed, nothing, page_request};
use crate::http::caller::Authorized;
use crate::http::extract::{Body, Checked, PathId, Query};
use crate::http::problem::Result;
use crate::http::wire::{Grant, Impersonation, ImpersonationPage, ImpersonationTrial, ResourceName, Undo};
use crate::service::impersonations::{self, Filter};

/// Why, for how long and how far.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImpersonateRequest {
    /// One line of 1 to 500 characters. Required unless the policy says otherwise.
    #[serde(default)]
    #[schema(
        min_length = 1,
        max_length = 500,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$",
        examples("Ed can't accept the article about tides")
    )]
    reason: Option<String>,
    /// The support ticket that this belongs to. The policy may require one, and say what it looks like.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 100, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$", examples("HELP-42"))]
    ticket: Option<String>,
    /// Cut to the remaining life of the token that starts it.
    #[serde(default)]
    #[schema(minimum = 1, examples(900))]
    duration_seconds: Option<u32>,
    /// The policy's default unless said otherwise, which is `full` at first.
    #[serde(default)]
    mode: Option<Mode>,
    /// Use these of the user's permissions alone; all of them if left out.
    #[serde(default)]
    permissions: Option<Vec<Permission>>,
    /// See and change these articles alone, each `article:<id>`; everything that the user sees if left out.
    #[serde(default)]
    #[schema(value_type = Option<Vec<ResourceName>>, min_items = 1, max_items = 20)]
    resources: Option<Vec<String>>,
    /// base64url(SHA-256(verifier)) without padding (RFC 7636 §4.2): logging out then gives the original token back only with the verifier.
    #[serde(default)]
    #[schema(min_length = 43, max_length = 43, pattern = "^[A-Za-z0-9_-]*$", examples("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"))]
    restore_challenge: Option<String>,
}

/// Whether to try it only.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct DryRunQuery {
    /// With `true` the answer is what it would be, and nothing is done.
    dry_run: bool,
}

fn parse_resources(checked: &mut Checked, texts: &[String]) -> Option<Vec<crate::domain::ids::ArticleId>> {
    let in_range =
        if (1..=Bounds::MAX_RESOURCES).contains(&texts.len()) { Ok(()) } else { Err(("out_of_range", "must name 1 to 20 resources")) };
    checked.field("/resources", in_range)?;
    let refused = ("invalid_resource", "must be such as `article:019aa0f0-0000-7000-8000-0000000000aa`");
    let parse = |(index, text): (usize, &String)| checked.field(&format!("/resources/{index}"), Bounds::read_article(text).ok_or(refused));
    // Each is looked at, so that all that is wrong is told.
    let parsed: Vec<_> = texts.iter().enumerate().map(parse).collect();
    let mut articles: Vec<_> = parsed.into_iter().collect::<Option<_>>()?;
    articles.sort_unstable();
    articles.dedup();
    Some(articles)
}

/// Act as a user
///
/// Answers a token that carries both identities: `sub`, the user, and `act`, the caller. Refusals name every reason that holds, and are recorded. With `dry_run`
/// nothing is started and nothing recorded, and the answer is 200 with what the start would give, or the refusal that it would meet.
#[utoipa::path(
    tag = "impersonations",
    params(("id" = uuid::Uuid, Path, description = "The user to act as"), DryRunQuery),
    request_body = ImpersonateRequest,
    security(("bearer" = [])),
    responses((status = 200, description = "With `dry_run`: what the start would give", body = ImpersonationTrial), (status = 201, description = "The impersonation runs", body = Grant, headers(("Location" = String, description = "The impersonation")))),
)]
#[post("/v1/users/{id}/impersonate")]
pub async fn start_impersonation(
    auth: Authorized<StartImpersonation>,
    id: PathId<UserId>,
    query: Query<DryRunQuery>,
    body: Body<ImpersonateRequest>,
) -> Result<HttpResponse> {
    let (subject, DryRunQuery { dry_run }) = (id.parse()?, query.parse()?);
    let body = body.read().await?;
    let mut checked = Checked::new();
    let reason = checked.optional("/reason", body.reason.as_deref().map(Reason::parse));
    let ticket = checked.optional("/ticket", body.ticket.as_deref().map(Ticket::parse));
    let restore_challenge = checked.optional("/restore_challenge", body.restore_challenge.as_deref().map(RestoreChallenge::parse));
    let articles = body.resources.as_ref().and_then(|resources| parse_resources(&mut checked, resources));
    let bounds = Bounds { permissions: body.permissions.map(|permissions| permissions.into_iter().collect()), articles };
    let request = StartRequest { reason, ticket, duration_seconds: body.duration_seconds, mode: body.mode, bounds, restore_challenge };
    let request = checked.finish(|| Some(request))?;
    if dry_run {
        let trial = auth.state.office.try_impersonation(&auth.caller_now(), subject, request).await?;
        return Ok(HttpResponse::Ok().json(ImpersonationTrial::from(trial)));
    }
    let grant = auth.state.office.start_impersonation(&auth.caller_now(), subject, request).await?;
    let location = auth.state.location(format_args!("impersonations/{}", grant.session.id));
    Ok(created(&Grant::new(grant, auth.now()), location))
}

/// Which impersonations.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ImpersonationQuery {
    /// Those that still run, or those that are over.
    status: Option<ImpersonationStatus>,
    /// Who acted.
    #[param(value_type = Option<uuid::Uuid>)]
    actor: Option<UserId>,
    /// As whom.
    #[param(value_type = Option<uuid::Uuid>)]
    subject: Option<UserId>,
    /// How many items at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
}

/// List impersonations
///
/// Live and past ones, newest first.
#[utoipa::path(
    tag = "impersonations",
    params(ImpersonationQuery),
    security(("bearer" = [])),
    responses((status = 200, description = "Impersonations, newest first", body = ImpersonationPage)),
)]
#[get("/v1/impersonations")]
pub async fn list_impersonations(
    auth: Authorized<ListImpersonations>,
    query: Query<ImpersonationQuery>,
    request: HttpRequest,
) -> Result<HttpResponse> {
    let query = query.parse()?;
    let page = page_request(query.limit, query.cursor.as_deref())?;
    let filter = Filter { id: None, status: query.status, actor: query.actor, subject: query.subject };
    let found = auth.read(move |conn, ctx| impersonations::list(conn, ctx, &filter, &page)).await?;
    Ok(listed(&ImpersonationPage::from(found.map(Impersonation::from)), request.query_string()))
}

/// Show an impersonation
///
/// For its actor, its subject, and holders of `impersonations:read`.
#[utoipa::path(
    tag = "impersonations",
    params(("id" = uuid::Uuid, Path, description = "The impersonation")),
    security(("bearer" = [])),
    responses((status = 200, description = "The impersonation", body = Impersonation)),
)]
#[get("/v1/impersonations/{id}")]
pub async fn get_impersonation(auth: Authorized<GetImpersonation>, id: PathId<SessionId>) -> Result<HttpResponse> {
    let id = id.parse()?;
    let found = auth.read(move |conn, ctx| impersonations::get(conn, ctx, id)).await?;
    Ok(HttpResponse::Ok().json(Impersonation::from(found)))
}

/// End an impersonation
///
/// At once and for good: its token is dead, and gives no original token back. By its actor, its subject, or a holder of `impersonations:end`.
#[utoipa::path(
    tag = "impersonations",
    params(("id" = uuid::Uuid, Path, description = "The impersonation")),
    security(("bearer" = [])),
    responses((status = 204, description = "The impersonation is over")),
)]
#[delete("/v1/impersonations/{id}")]
pub async fn end_impersonation(auth: Authorized<EndImpersonation>, id: PathId<SessionId>) -> Result<HttpResponse> {
    let id = id.parse()?;
    auth.write(move |tx| impersonations::end(tx, id)).await?;
    Ok(nothing())
}

/// Undo what was done in an impersonation
///
/// Reverts the changes of articles that were made in it, newest first, each by a mutation of its own whose entry names what it undoes. What others changed since,
/// or what the workflow no longer allows, is left alone and reported as a conflict. The impersonation must be over. With `dry_run` the answer is the same, and
/// nothing is changed. Calling it again undoes nothing twice. It looks at the newest 1,000 changes of each article.
#[utoipa::path(
    tag = "impersonations",
    params(("id" = uuid::Uuid, Path, description = "The impersonation"), DryRunQuery),
    security(("bearer" = [])),
    responses((status = 200, description = "What became of each change", body = Undo)),
)]
#[post("/v1/impersonations/{id}/undo")]
pub async fn undo_impersonation(
    auth: Authorized<UndoImpersonation>,
    id: PathId<SessionId>,
    query: Query<DryRunQuery>,
) -> Result<HttpResponse> {
    let (id, DryRunQuery { dry_run }) = (id.parse()?, query.parse()?);
    let undoing = auth.state.office.undo(&auth.caller_now(), id, dry_run).await?;
    Ok(HttpResponse::Ok().json(Undo::new(id, dry_run, undoing)))
}
