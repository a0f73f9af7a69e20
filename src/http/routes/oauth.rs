//! The token endpoint and its neighbours: for standard OAuth clients, with the forms and the errors of RFC 6749.

use actix_web::{HttpRequest, HttpResponse, post, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::Time;
use crate::domain::client::Client;
use crate::domain::error::Error;
use crate::domain::ids::{ArticleId, SessionId, UserId};
use crate::domain::impersonation::{Bounds, Mode, StartRequest};
use crate::domain::oauth::OAuthCode;
use crate::domain::scope::Scope;
use crate::domain::text::{Reason, RestoreChallenge, TextError, Ticket};
use crate::http::caller::{Sender, State};
use crate::http::extract::{Form, Parameters};
use crate::http::oauth::{OAuthError, answer, authenticate, done, refused};
use crate::http::problem::{Problem, Result};
use crate::http::request::{LoggedIdentity, RequestInfo};
use crate::http::wire::TokenType;
use crate::service::oauth::{Introspection, Issued, Narrowing, StartByExchange, Targets, Whose};

/// The grant of a token exchange (RFC 8693 §2.1).
pub const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// An access token of ours (RFC 8693 §3).
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A JWT (RFC 8693 §3), which our access tokens are.
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// A user's id, as whom an administrator wants to act.
const USER_ID: &str = "urn:actas:params:oauth:token-type:user_id";

/// What the token endpoint is asked for. Which parameters apply follows from the first.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "the document's alone: the form is read by name, because RFC 6749 has rules of its own")]
pub struct TokenRequest {
    /// `client_credentials`, `refresh_token` or `urn:ietf:params:oauth:grant-type:token-exchange`.
    #[schema(examples("urn:ietf:params:oauth:grant-type:token-exchange"))]
    grant_type: String,
    /// The client, unless the `Authorization` header names it.
    #[schema(nullable = false)]
    client_id: Option<String>,
    /// The client's secret, unless the `Authorization` header has it.
    #[schema(nullable = false, format = Password)]
    client_secret: Option<String>,
    /// Permissions with spaces between. Everything that can be given, if left out.
    #[schema(nullable = false, examples("articles:create"))]
    scope: Option<String>,
    /// For whom the token is to be. May be there several times.
    #[schema(nullable = false, examples("https://billing.example"))]
    audience: Option<Vec<String>>,
    /// The same as an absolute URI (RFC 8707). May be there several times.
    #[schema(nullable = false)]
    resource: Option<Vec<String>>,
    /// `refresh_token`: an own session's.
    #[schema(nullable = false)]
    refresh_token: Option<String>,
    /// Token exchange: the token to make a narrower one of; or the id of the user to act as.
    #[schema(nullable = false)]
    subject_token: Option<String>,
    /// `urn:ietf:params:oauth:token-type:access_token`, or `urn:actas:params:oauth:token-type:user_id` to act as that user.
    #[schema(nullable = false)]
    subject_token_type: Option<String>,
    /// To act as a user: the administrator's access token.
    #[schema(nullable = false)]
    actor_token: Option<String>,
    /// `urn:ietf:params:oauth:token-type:access_token`.
    #[schema(nullable = false)]
    actor_token_type: Option<String>,
    /// `urn:ietf:params:oauth:token-type:access_token`, if anything.
    #[schema(nullable = false)]
    requested_token_type: Option<String>,
    /// Seconds. Cut to the remaining life of the token that is presented.
    #[schema(nullable = false)]
    requested_duration: Option<String>,
    /// To act as a user: why.
    #[schema(nullable = false)]
    reason: Option<String>,
    /// To act as a user: the support ticket.
    #[schema(nullable = false)]
    ticket: Option<String>,
    /// To act as a user: `full` or `read_only`.
    #[schema(nullable = false)]
    mode: Option<String>,
    /// To act as a user: see and change these articles alone (RFC 9396). A JSON array of objects with `type`, which is `article`, and `identifier`.
    #[schema(nullable = false, examples(r#"[{"type":"article","identifier":"019aa0f0-0000-7000-8000-0000000000aa"}]"#))]
    authorization_details: Option<String>,
    /// To act as a user: the restore proof's challenge (RFC 7636 §4.2).
    #[schema(nullable = false)]
    restore_challenge: Option<String>,
}

/// A token (RFC 6749 §5.1, RFC 8693 §2.2.1).
#[derive(Serialize, ToSchema)]
pub struct TokenAnswer {
    /// A secret.
    pub access_token: String,
    /// What an exchange gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, examples("urn:ietf:params:oauth:token-type:access_token"))]
    pub issued_token_type: Option<&'static str>,
    pub token_type: TokenType,
    /// Whole seconds that the token has left.
    #[schema(examples(1800))]
    pub expires_in: i64,
    /// The refresh token's successor; with `refresh_token` only. A secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub refresh_token: Option<String>,
    /// How far the token reaches.
    #[schema(examples("articles:create articles:edit_assigned"))]
    pub scope: String,
    /// The resources to which it reaches, where that is not all that its user sees (RFC 9396 §7).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub authorization_details: Option<Vec<AuthorizationDetail>>,
}

/// One resource to which a token reaches (RFC 9396 §2).
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationDetail {
    /// `article`.
    #[schema(examples("article"))]
    r#type: String,
    #[schema(value_type = uuid::Uuid)]
    identifier: ArticleId,
}

impl AuthorizationDetail {
    const ARTICLE: &'static str = "article";

    fn article(identifier: ArticleId) -> Self {
        Self { r#type: Self::ARTICLE.to_owned(), identifier }
    }
}

fn invalid_request(detail: impl Into<String>) -> Problem {
    Error::oauth(OAuthCode::InvalidRequest, detail).into()
}

/// Ask for a token
///
/// `client_credentials` gives a client a token for itself. `refresh_token` renews an own session. A token exchange (RFC 8693) makes a narrower token of an access
/// token; or begins to act as the user whose id is the `subject_token`, with an administrator's access token as `actor_token`. Going back from an impersonation is
/// no exchange: `POST /v1/auth/logout` gives the original token.
#[utoipa::path(
    tag = "oauth",
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    security(("client" = []), ()),
    responses(
        (status = 200, description = "A token", body = TokenAnswer),
        (status = 400, description = "The request is refused", body = OAuthError),
        (status = 401, description = "The client did not prove who it is", body = OAuthError),
    ),
)]
#[post("/oauth/token")]
pub async fn issue_token(state: web::Data<State>, sender: Sender, request: HttpRequest, form: Form) -> Result<HttpResponse> {
    refused(issue(&state, sender, &request, form).await)
}

async fn issue(state: &State, sender: Sender, request: &HttpRequest, form: Form) -> Result<HttpResponse> {
    let form = form.read().await?;
    let client = authenticate(request, &form, state).await?;
    let now = state.clock.now();
    let body = match form.require("grant_type")? {
        "client_credentials" => {
            let issued = state.office.client_credentials(&client, scope(&form)?, targets(&form), &sender.0, now).await?;
            token_answer(issued, None, now)
        }
        "refresh_token" => {
            let refresh_token = form.require("refresh_token")?;
            let asked = Narrowing { scope: scope(&form)?, targets: targets(&form), duration_seconds: None };
            let mut grant = state.office.refresh_by_client(&client, refresh_token, asked, sender.0, now).await?;
            let refresh_token = grant.refresh.take().map(|(token, _)| token.reveal().to_owned());
            let issued = Issued {
                access_token: grant.access_token,
                expires_at: grant.expires_at,
                scope: grant.session.subject.rights(),
                articles: None,
                whose: Some(Whose::of(&grant.session)),
            };
            note(request, &client, &issued);
            TokenAnswer { refresh_token, ..token_answer(issued, None, now) }
        }
        TOKEN_EXCHANGE => {
            let (issued, issued_type) = exchange(state, &client, &form, &sender, now).await?;
            note(request, &client, &issued);
            token_answer(issued, Some(issued_type), now)
        }
        _ => return Err(Error::oauth(OAuthCode::UnsupportedGrantType, "this grant is not known here").into()),
    };
    Ok(answer(&body))
}

fn token_answer(issued: Issued, issued_token_type: Option<&'static str>, now: Time) -> TokenAnswer {
    TokenAnswer {
        access_token: issued.access_token,
        issued_token_type,
        token_type: TokenType::Bearer,
        expires_in: (issued.expires_at - now).num_seconds().max(0),
        refresh_token: None,
        scope: issued.scope.to_string(),
        authorization_details: issued.articles.map(|articles| articles.into_iter().map(AuthorizationDetail::article).collect()),
    }
}

/// Tells the log whose token was given, beside to which client.
fn note(request: &HttpRequest, client: &Client, issued: &Issued) {
    let Some(Whose { subject, actor, impersonation }) = issued.whose else { return };
    let client = Some(client.id).filter(|client| !client.is_first_party());
    let identity = LoggedIdentity { subject: Some(subject), client, actor, impersonation_id: impersonation };
    RequestInfo::of(request).identify(identity);
}

async fn exchange(state: &State, client: &Client, form: &Parameters, sender: &Sender, now: Time) -> Result<(Issued, &'static str)> {
    let subject_token = form.require("subject_token")?;
    let subject_type = form.require("subject_token_type")?;
    let actor_token = match (form.get("actor_token"), form.get("actor_token_type")) {
        (None, None) => None,
        (Some(token), Some(ACCESS_TOKEN | JWT)) => Some(token),
        (Some(_), Some(_)) => return Err(invalid_request(format!("actor_token_type: must be {ACCESS_TOKEN}"))),
        (Some(_), None) => return Err(invalid_request("actor_token_type: must be given with actor_token")),
        (None, Some(_)) => return Err(invalid_request("actor_token: must be given with actor_token_type")),
    };
    let issued_type = match form.get("requested_token_type") {
        None | Some(ACCESS_TOKEN) => ACCESS_TOKEN,
        Some(JWT) => JWT,
        Some(_) => {
            let detail = "requested_token_type: only access tokens are given; an impersonation's original token comes back by logging out: POST /v1/auth/logout";
            return Err(invalid_request(detail));
        }
    };
    let asked = Narrowing { scope: scope(form)?, targets: targets(form), duration_seconds: duration(form)? };
    let issued = match (subject_type, actor_token) {
        (USER_ID, Some(actor_token)) => {
            let subject = UserId::parse(subject_token).ok_or_else(|| invalid_request("subject_token: is no user's id"))?;
            let start = StartByExchange { actor_token, subject, request: start_request(form, asked.duration_seconds)? };
            state.office.start_by_exchange(client, start, asked, &sender.0, now).await?
        }
        (USER_ID, None) => {
            return Err(invalid_request("actor_token: must be given, with the access token of whoever is to act as the user"));
        }
        (ACCESS_TOKEN | JWT, None) => {
            if let Some(name) =
                ["reason", "ticket", "mode", "restore_challenge", "authorization_details"].into_iter().find(|name| form.get(name).is_some())
            {
                return Err(invalid_request(format!("{name}: is for acting as a user; a narrower token keeps what it was made from")));
            }
            state.office.exchange(client, subject_token, asked, &sender.0, now).await?
        }
        (ACCESS_TOKEN | JWT, Some(_)) => {
            let detail =
                "actor_token: goes with a user's id alone; a token that is exchanged keeps the actor that it has, and takes no other";
            return Err(invalid_request(detail));
        }
        _ => return Err(invalid_request(format!("subject_token_type: must be {ACCESS_TOKEN} or {USER_ID}"))),
    };
    Ok((issued, issued_type))
}

fn scope(form: &Parameters) -> Result<Option<Scope>> {
    let scope = form.get("scope").map(Scope::parse).transpose();
    scope.map_err(|error| Error::oauth(OAuthCode::InvalidScope, error.to_string()).into())
}

fn targets(form: &Parameters) -> Targets {
    Targets { audience: form.all("audience"), resource: form.all("resource") }
}

fn duration(form: &Parameters) -> Result<Option<u32>> {
    let parse = |text: &str| text.parse().ok().filter(|seconds| *seconds > 0 && text.bytes().all(|b| b.is_ascii_digit()));
    let seconds = form.get("requested_duration").map(parse);
    seconds.map(|seconds| seconds.ok_or_else(|| invalid_request("requested_duration: must be whole seconds, 1 or more"))).transpose()
}

fn articles(form: &Parameters) -> Result<Option<Vec<ArticleId>>> {
    let Some(text) = form.get("authorization_details") else { return Ok(None) };
    let wrong = || {
        let detail =
            "authorization_details: must be a JSON array of 1 to 20 objects, each with `type`, which is `article`, and `identifier`";
        Problem::from(Error::oauth(OAuthCode::InvalidAuthorizationDetails, detail))
    };
    let details: Vec<AuthorizationDetail> = serde_json::from_str(text).map_err(|_| wrong())?;
    let is_known = details.iter().all(|detail| detail.r#type == AuthorizationDetail::ARTICLE);
    if !is_known || !(1..=Bounds::MAX_RESOURCES).contains(&details.len()) {
        return Err(wrong());
    }
    let mut articles: Vec<ArticleId> = details.into_iter().map(|detail| detail.identifier).collect();
    articles.sort_unstable();
    articles.dedup();
    Ok(Some(articles))
}

fn start_request(form: &Parameters, duration_seconds: Option<u32>) -> Result<StartRequest> {
    let parsed = |name: &str, error: TextError| invalid_request(format!("{name}: {}", error.detail));
    let mode = form.get("mode").map(|mode| Mode::parse(mode).ok_or_else(|| invalid_request("mode: must be full or read_only")));
    Ok(StartRequest {
        reason: form.get("reason").map(Reason::parse).transpose().map_err(|error| parsed("reason", error))?,
        ticket: form.get("ticket").map(Ticket::parse).transpose().map_err(|error| parsed("ticket", error))?,
        duration_seconds,
        mode: mode.transpose()?,
        bounds: Bounds { permissions: None, articles: articles(form)? },
        restore_challenge: form
            .get("restore_challenge")
            .map(RestoreChallenge::parse)
            .transpose()
            .map_err(|error| parsed("restore_challenge", error))?,
    })
}

/// A token to look at or to end.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "the document's alone, as above")]
pub struct TokenParameter {
    token: String,
    /// What kind of token it is; of no consequence, because the tokens themselves tell.
    #[schema(nullable = false)]
    token_type_hint: Option<String>,
    /// The client, unless the `Authorization` header names it.
    #[schema(nullable = false)]
    client_id: Option<String>,
    /// The client's secret, unless the `Authorization` header has it.
    #[schema(nullable = false, format = Password)]
    client_secret: Option<String>,
}

/// A discriminator: one of the two booleans.
macro_rules! constant {
    ($(#[$meta:meta])* $name:ident, $value:literal) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bool($value)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                let only = Some([serde_json::Value::Bool($value)]);
                utoipa::openapi::ObjectBuilder::new().schema_type(utoipa::openapi::Type::Boolean).enum_values(only).into()
            }
        }

        impl ToSchema for $name {}
    };
}
constant!(
    /// `true`, and nothing else.
    Yes, true
);
constant!(
    /// `false`, and nothing else.
    No, false
);

/// What is known of a token (RFC 7662 §2.2).
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum IntrospectionAnswer {
    Active(Box<ActiveToken>),
    Inactive(InactiveToken),
}

/// A token that does not count, or is not for the caller's audience. Nothing else is said of it.
#[derive(Serialize, ToSchema)]
pub struct InactiveToken {
    #[schema(inline)]
    pub active: No,
}

/// A token that counts now.
#[derive(Serialize, ToSchema)]
pub struct ActiveToken {
    #[schema(inline)]
    pub active: Yes,
    /// What may be done with it now: what the user's role permits and the token's scope names.
    #[schema(examples("articles:create articles:edit_assigned"))]
    pub scope: String,
    /// The client that it was given to.
    #[schema(examples("actas"))]
    pub client_id: String,
    pub token_type: TokenType,
    /// Seconds since 1970.
    #[schema(examples(1795428000))]
    pub exp: i64,
    #[schema(examples(1795424400))]
    pub iat: i64,
    #[schema(examples(1795424400))]
    pub nbf: i64,
    /// The user as whom it acts; a client's id where a client has it for itself.
    #[schema(examples("019aa0f0-0000-7000-8000-0000000000cc"))]
    pub sub: String,
    /// For whom it is: one, or several.
    pub aud: AudienceClaim,
    #[schema(examples("http://localhost:8080"))]
    pub iss: String,
    pub jti: String,
    /// Its session.
    #[schema(value_type = uuid::Uuid)]
    pub sid: SessionId,
    /// Of a narrower token: the own session or the impersonation on which it hangs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = uuid::Uuid, required = false, nullable = false)]
    pub root_sid: Option<SessionId>,
    /// Who really is there, under impersonation and only then (RFC 8693 §4.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub act: Option<ActClaim>,
    /// How far the impersonation goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub mode: Option<Mode>,
    /// The resources to which it reaches, where that is not all that its user sees (RFC 9396 §9.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub authorization_details: Option<Vec<AuthorizationDetail>>,
}

/// One audience, or several.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum AudienceClaim {
    One(String),
    Several(Vec<String>),
}

/// The claim `act`.
#[derive(Serialize, ToSchema)]
pub struct ActClaim {
    #[schema(value_type = uuid::Uuid)]
    pub sub: UserId,
}

impl From<Option<Introspection>> for IntrospectionAnswer {
    fn from(known: Option<Introspection>) -> Self {
        let Some(Introspection { claims, scope, mode, articles }) = known else { return Self::Inactive(InactiveToken { active: No }) };
        let mut audiences: Vec<String> = claims.aud.iter().map(ToString::to_string).collect();
        Self::Active(Box::new(ActiveToken {
            active: Yes,
            scope: scope.to_string(),
            client_id: claims.client_id.to_string(),
            token_type: TokenType::Bearer,
            exp: claims.exp,
            iat: claims.iat,
            nbf: claims.nbf,
            sub: claims.sub.to_string(),
            aud: match audiences.pop() {
                Some(one) if audiences.is_empty() => AudienceClaim::One(one),
                last => AudienceClaim::Several(audiences.into_iter().chain(last).collect()),
            },
            iss: claims.iss,
            jti: claims.jti,
            sid: claims.sid,
            root_sid: claims.root_sid,
            act: claims.act.map(|act| ActClaim { sub: act.sub }),
            mode,
            authorization_details: articles.map(|articles| articles.into_iter().map(AuthorizationDetail::article).collect()),
        }))
    }
}

/// Look at a token
///
/// Whether it counts now, which its signature can't tell: its session may be over. For confidential clients; a token that is for none of the client's audiences is
/// inactive to it.
#[utoipa::path(
    tag = "oauth",
    request_body(content = TokenParameter, content_type = "application/x-www-form-urlencoded"),
    security(("client" = []), ()),
    responses(
        (status = 200, description = "What is known of it", body = IntrospectionAnswer),
        (status = 400, description = "The request is refused", body = OAuthError),
        (status = 401, description = "The client did not prove who it is", body = OAuthError),
    ),
)]
#[post("/oauth/introspect")]
pub async fn introspect_token(state: web::Data<State>, request: HttpRequest, form: Form) -> Result<HttpResponse> {
    let introspected = async {
        let form = form.read().await?;
        let client = authenticate(&request, &form, &state).await?;
        let known = state.office.introspect(&client, form.require("token")?, state.clock.now()).await?;
        Ok(answer(&IntrospectionAnswer::from(known)))
    };
    refused(introspected.await)
}

/// Revoke a token
///
/// Ends what the token stands for: an own session, an impersonation without giving the original token back, a narrower token alone. By the client that it was given
/// to. A token that is unknown or over already is 200 too.
#[utoipa::path(
    tag = "oauth",
    request_body(content = TokenParameter, content_type = "application/x-www-form-urlencoded"),
    security(("client" = []), ()),
    responses(
        (status = 200, description = "It is over"),
        (status = 400, description = "The request is refused", body = OAuthError),
        (status = 401, description = "The client did not prove who it is", body = OAuthError),
    ),
)]
#[post("/oauth/revoke")]
pub async fn revoke_token(state: web::Data<State>, sender: Sender, request: HttpRequest, form: Form) -> Result<HttpResponse> {
    let revoked = async {
        let form = form.read().await?;
        let client = authenticate(&request, &form, &state).await?;
        state.office.revoke(&client, form.require("token")?, &sender.0, state.clock.now()).await?;
        Ok(done())
    };
    refused(revoked.await)
}
