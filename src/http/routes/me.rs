//! Oneself: who am I, and as whom; my sessions; who was in my account.

use actix_web::{HttpRequest, HttpResponse, delete, get, put};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::domain::Time;
use crate::domain::error::Error;
use crate::domain::ids::SessionId;
use crate::domain::operation::{ChangeMyPassword, EndMySession, GetMe, ListMyImpersonations, ListMySessions};
use crate::domain::text::NewPassword;
use crate::http::answer::{listed, nothing, page_request, shown};
use crate::http::caller::{Authorized, Sender};
use crate::http::extract::{Body, Checked, PathId, Query};
use crate::http::problem::Result;
use crate::http::wire::{Impersonation, ImpersonationPage, Session, SessionPage, SessionSummary, Timestamp};
use crate::service::{impersonations, sessions};

/// Show who one is, and as whom
///
/// Under impersonation `subject` is the impersonated user and `actor` who is really there: show it as a banner.
#[utoipa::path(tag = "me", security(("bearer" = [])), responses((status = 200, description = "The session of the request", body = Session)))]
#[get("/v1/me")]
pub async fn get_me(auth: Authorized<GetMe>) -> Result<HttpResponse> {
    let identity = auth.caller.identity()?;
    let expires_at = match (identity.exchange(), identity.actor()) {
        // The rows are exact; the token counts whole seconds.
        (Some(exchange), _) => exchange.expires_at,
        (None, Some(_)) => identity.session().expires_at,
        (None, None) => {
            Time::from_timestamp(auth.caller.token.claims.exp, 0).ok_or_else(|| Error::internal("a token's expiry is no time"))?
        }
    };
    Ok(shown(&Session::new(identity, expires_at, auth.now())))
}

/// How much of a listing.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// How many items at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]+$")]
    pub cursor: Option<String>,
}

/// List one's own live sessions
///
/// Newest first; `current` is the one of the request. Under impersonation they are the subject's.
#[utoipa::path(
    tag = "me",
    params(Paging),
    security(("bearer" = [])),
    responses((status = 200, description = "Own sessions, newest first", body = SessionPage)),
)]
#[get("/v1/me/sessions")]
pub async fn list_my_sessions(auth: Authorized<ListMySessions>, query: Query<Paging>, request: HttpRequest) -> Result<HttpResponse> {
    let Paging { limit, cursor } = query.parse()?;
    let page = page_request(limit, cursor.as_deref())?;
    let found = auth.read(move |conn, ctx| sessions::list_mine(conn, ctx, &page)).await?;
    let current = auth.caller.identity()?.session().id;
    let found = found.map(|session| SessionSummary {
        id: session.id,
        current: session.id == current,
        started_at: Timestamp(session.started_at),
        expires_at: Timestamp(session.expires_at),
        last_used_at: Timestamp(session.last_used_at),
        client_ip: session.client_ip,
        user_agent: session.user_agent,
    });
    Ok(listed(&SessionPage::from(found), request.query_string()))
}

/// End one of one's own sessions
///
/// The impersonations that were started from it end too.
#[utoipa::path(
    tag = "me",
    params(("id" = uuid::Uuid, Path, description = "The session")),
    security(("bearer" = [])),
    responses((status = 204, description = "The session is over")),
)]
#[delete("/v1/me/sessions/{id}")]
pub async fn end_my_session(auth: Authorized<EndMySession>, id: PathId<SessionId>) -> Result<HttpResponse> {
    let id = id.parse()?;
    auth.write(move |tx| sessions::end_mine(tx, id)).await?;
    Ok(nothing())
}

/// List the impersonations in which one was the subject
///
/// Who was in my account, when, why, and how many entries of the history they wrote.
#[utoipa::path(
    tag = "me",
    params(Paging),
    security(("bearer" = [])),
    responses((status = 200, description = "Impersonations of oneself, newest first", body = ImpersonationPage)),
)]
#[get("/v1/me/impersonations")]
pub async fn list_my_impersonations(
    auth: Authorized<ListMyImpersonations>,
    query: Query<Paging>,
    request: HttpRequest,
) -> Result<HttpResponse> {
    let Paging { limit, cursor } = query.parse()?;
    let page = page_request(limit, cursor.as_deref())?;
    let found = auth.read(move |conn, ctx| impersonations::list_mine(conn, ctx, &page)).await?;
    Ok(listed(&ImpersonationPage::from(found.map(Impersonation::from)), request.query_string()))
}

/// Another password for oneself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePasswordRequest {
    #[schema(format = Password, pattern = r"^[^\u0000]*$")]
    current_password: String,
    /// 8 characters to 72 bytes.
    #[schema(format = Password, min_length = 8, max_length = 72, pattern = r"^[^\u0000]*$")]
    new_password: String,
}

/// Change one's own password
///
/// One's other sessions end, and the impersonations of and by oneself.
#[utoipa::path(
    tag = "me",
    request_body = ChangePasswordRequest,
    security(("bearer" = [])),
    responses((status = 204, description = "The password is changed")),
)]
#[put("/v1/me/password")]
pub async fn change_my_password(
    auth: Authorized<ChangeMyPassword>,
    sender: Sender,
    body: Body<ChangePasswordRequest>,
) -> Result<HttpResponse> {
    let ChangePasswordRequest { current_password, new_password } = body.read().await?;
    let mut checked = Checked::new();
    let new = checked.field("/new_password", NewPassword::parse(&new_password));
    let new = checked.finish(|| new)?;
    auth.state.office.change_password(&auth.caller_now(), current_password, new, sender.0).await?;
    Ok(nothing())
}
