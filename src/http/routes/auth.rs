//! Logging in and out, and staying logged in.

use actix_web::{HttpResponse, post, web};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::domain::error::Error;
use crate::domain::text::NewPassword;
use crate::http::answer::nothing;
use crate::http::caller::{Bearer, Sender, State};
use crate::http::extract::{Body, Checked};
use crate::http::problem::Result;
use crate::http::wire::{Grant, LoginGrant};
use crate::service::grants;
use crate::service::logout::LoggedOut;

/// Who logs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    #[schema(examples("ada@newsroom.example"), pattern = r"^[^\u0000]*$")]
    email: String,
    #[schema(format = Password, pattern = r"^[^\u0000]*$")]
    password: String,
}

/// Log in
///
/// Opens an own session. A wrong e-mail address, a wrong password and a disabled account answer alike.
#[utoipa::path(tag = "auth", request_body = LoginRequest, responses((status = 200, description = "An own session", body = LoginGrant)))]
#[post("/v1/auth/login")]
pub async fn log_in(state: web::Data<State>, sender: Sender, body: Body<LoginRequest>) -> Result<HttpResponse> {
    let LoginRequest { email, password } = body.read().await?;
    let now = state.clock.now();
    let grant = state.office.log_in(&email, password, sender.0, now).await?;
    login_grant(grant, now)
}

fn login_grant(grant: grants::Grant, now: crate::domain::Time) -> Result<HttpResponse> {
    let grant = LoginGrant::new(grant, now).ok_or_else(|| Error::internal("a login gave no refresh token"))?;
    Ok(HttpResponse::Ok().json(grant))
}

/// The refresh token of an own session.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshRequest {
    #[schema(pattern = r"^[^\u0000]*$")]
    refresh_token: String,
}

/// Refresh the access token
///
/// Answers a new access token and the refresh token's successor. The direct predecessor is accepted again for some seconds, as long as its successor is
/// unused, and gives the same successor. An older one ends the session: somebody else has a copy.
#[utoipa::path(tag = "auth", request_body = RefreshRequest, responses((status = 200, description = "The same session, with new tokens", body = LoginGrant)))]
#[post("/v1/auth/refresh")]
pub async fn refresh(state: web::Data<State>, sender: Sender, body: Body<RefreshRequest>) -> Result<HttpResponse> {
    let RefreshRequest { refresh_token } = body.read().await?;
    let now = state.clock.now();
    let grant = state.office.refresh(&refresh_token, sender.0, now).await?;
    login_grant(grant, now)
}

/// What proves that one started the impersonation.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogoutRequest {
    /// The verifier whose `restore_challenge` the start carried (RFC 7636 §4.1).
    #[serde(default)]
    #[schema(pattern = r"^[^\u0000]*$")]
    restore_verifier: Option<String>,
}

/// Log out
///
/// Ends an own session, its tokens and its impersonations: 204. Ends an impersonation and gives the original token back, byte for byte and once: 200. Works
/// until the original token's expiry also for an impersonation that ended by itself. Whatever the answer, the impersonation is over.
#[utoipa::path(
    tag = "auth",
    request_body(content = Option<LogoutRequest>, content_type = "application/json"),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The impersonation is over; this is the original token", body = Grant),
        (status = 204, description = "The own session is over"),
    ),
)]
#[post("/v1/auth/logout")]
pub async fn log_out(bearer: Bearer, body: Body<LogoutRequest>) -> Result<HttpResponse> {
    let verifier = body.read_optional().await?.and_then(|body| body.restore_verifier);
    let Bearer { state, presented, client } = bearer;
    // After the body has arrived.
    let now = state.clock.now();
    match state.office.log_out(presented, verifier, client, now).await? {
        LoggedOut::Own => Ok(nothing()),
        LoggedOut::Restored(grant) => Ok(HttpResponse::Ok().json(Grant::new(*grant, now))),
    }
}

/// A password for a new or reset account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPasswordRequest {
    #[schema(pattern = r"^[^\u0000]*$")]
    setup_token: String,
    /// 8 characters to 72 bytes.
    #[schema(format = Password, min_length = 8, max_length = 72, pattern = r"^[^\u0000]*$")]
    new_password: String,
}

/// Set the password of a new or reset account
///
/// The setup token is good once, for 72 hours. All sessions of the user end.
#[utoipa::path(tag = "auth", request_body = SetPasswordRequest, responses((status = 204, description = "The password is set; log in")))]
#[post("/v1/auth/password")]
pub async fn set_password(state: web::Data<State>, sender: Sender, body: Body<SetPasswordRequest>) -> Result<HttpResponse> {
    let SetPasswordRequest { setup_token, new_password } = body.read().await?;
    let mut checked = Checked::new();
    let password = checked.field("/new_password", NewPassword::parse(&new_password));
    let password = checked.finish(|| password)?;
    state.office.set_password(&setup_token, password, sender.0, state.clock.now()).await?;
    Ok(nothing())
}
