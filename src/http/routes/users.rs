//! Accounts.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, delete, get, patch, post};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::domain::identity::Ctx;
use crate::domain::ids::UserId;
use crate::domain::impersonation::Usage;
use crate::domain::operation::{CreateUser, EndUserSessions, GetUser, ListUsers, RenewSetupToken, UpdateUser};
use crate::domain::role::Role;
use crate::domain::text::{DisplayName, Email, SearchText};
use crate::domain::user::{UserChange, UserStatus};
use crate::http::answer::{listed, nothing, page_request, versioned};
use crate::http::caller::Authorized;
use crate::http::extract::{Body, Checked, IfMatch, Patch, PathId, Query};
use crate::http::problem::Result;
use crate::http::wire::{Timestamp, User, UserPage};
use crate::service::users::{self, Filter, NewUser, Setup, SetupToken};
use crate::service::{impersonations, sessions};

/// Which users.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct UserQuery {
    /// Part of the e-mail address or of the name, in any case.
    #[param(max_length = 200)]
    q: Option<String>,
    /// The whole e-mail address, in any case.
    email: Option<String>,
    /// Those with this role.
    role: Option<Role>,
    /// Those who may log in, or those who may not.
    status: Option<UserStatus>,
    /// How many items at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
}

/// List users
///
/// Newest first. For a caller who may impersonate, each says whether the caller may act as them, and if not, why.
#[utoipa::path(
    tag = "users",
    params(UserQuery),
    security(("bearer" = [])),
    responses((status = 200, description = "Users, newest first", body = UserPage)),
)]
#[get("/v1/users")]
pub async fn list_users(auth: Authorized<ListUsers>, query: Query<UserQuery>, request: HttpRequest) -> Result<HttpResponse> {
    let query = query.parse()?;
    let page = page_request(query.limit, query.cursor.as_deref())?;
    let mut checked = Checked::new();
    let email = checked.optional("email", query.email.as_deref().map(Email::parse));
    let q = checked.optional("q", query.q.as_deref().map(SearchText::parse));
    let filter = checked.finish(|| Some(Filter { q, email, role: query.role, status: query.status }))?;
    let (found, used) = auth.read(move |conn, ctx| Ok((users::list(conn, &filter, &page)?, impersonations::used(conn, ctx)?))).await?;
    let ctx = &auth.caller.ctx;
    let mut items = Vec::with_capacity(found.items.len());
    for user in found.items {
        let button = impersonations::button(ctx, &user.to_principal(), used)?;
        items.push(User::new(user, button));
    }
    Ok(listed(&UserPage { items, next_cursor: found.next_cursor }, request.query_string()))
}

/// Show a user
///
/// For a caller who may impersonate, `impersonation` says whether the caller may act as them, and if not, why.
#[utoipa::path(
    tag = "users",
    params(("id" = uuid::Uuid, Path, description = "The user")),
    security(("bearer" = [])),
    responses((status = 200, description = "The user", body = User, headers(("ETag" = String, description = "The version, quoted")))),
)]
#[get("/v1/users/{id}")]
pub async fn get_user(auth: Authorized<GetUser>, id: PathId<UserId>) -> Result<HttpResponse> {
    let id = id.parse()?;
    let (user, used) = auth.read(move |conn, ctx| Ok((users::get(conn, id)?, impersonations::used(conn, ctx)?))).await?;
    shown(&auth.caller.ctx, user, used)
}

fn shown(ctx: &Ctx, user: crate::domain::user::User, used: Usage) -> Result<HttpResponse> {
    let (version, button) = (user.version, impersonations::button(ctx, &user.to_principal(), used)?);
    Ok(versioned(&User::new(user, button), version))
}

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUserRequest {
    /// ASCII, at most 254 characters.
    #[schema(format = Email, max_length = 254, pattern = r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$", examples("eve@newsroom.example"))]
    email: String,
    /// One line of 1 to 100 characters, without control, bidirectional or invisible ones.
    #[schema(min_length = 1, max_length = 100, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$", examples("Eve Editor"))]
    display_name: String,
    role: Role,
}

/// A user, and the one-time token with which they set a password.
#[derive(Serialize, ToSchema)]
pub struct UserWithSetupToken {
    #[serde(flatten)]
    user: User,
    /// For `POST /v1/auth/password`, once. Told here and nowhere else. A secret.
    setup_token: String,
    setup_expires_at: Timestamp,
}

fn set_up(ctx: &Ctx, location: String, (setup, used): (Setup, Usage)) -> Result<HttpResponse> {
    let button = impersonations::button(ctx, &setup.user.to_principal(), used)?;
    let version = setup.user.version;
    let body = UserWithSetupToken {
        user: User::new(setup.user, button),
        setup_token: setup.token.reveal().to_owned(),
        setup_expires_at: Timestamp(setup.expires_at),
    };
    let mut answer = HttpResponse::Created();
    answer.insert_header((header::LOCATION, location)).insert_header((header::ETAG, format!("\"{version}\"")));
    Ok(answer.json(body))
}

/// Create a user
///
/// The user sets a password with the setup token, within 72 hours.
#[utoipa::path(
    tag = "users",
    request_body = CreateUserRequest,
    security(("bearer" = [])),
    responses((status = 201, description = "The user, who has no password yet", body = UserWithSetupToken, headers(
        ("Location" = String, description = "The user"),
        ("ETag" = String, description = "The version, quoted"),
    ))),
)]
#[post("/v1/users")]
pub async fn create_user(auth: Authorized<CreateUser>, body: Body<CreateUserRequest>) -> Result<HttpResponse> {
    let body = body.read().await?;
    let mut checked = Checked::new();
    let email = checked.field("/email", Email::parse(&body.email));
    let display_name = checked.field("/display_name", DisplayName::parse(&body.display_name));
    let id = UserId::new(auth.now());
    let new = checked.finish(|| Some(NewUser { id, email: email?, display_name: display_name?, role: body.role }))?;
    let token = SetupToken::generate()?;
    let setup = auth.write(move |tx| Ok((users::create(tx, &new, &token)?, impersonations::used(tx.conn, &tx.ctx)?))).await?;
    let location = auth.state.location(format_args!("users/{id}"));
    set_up(&auth.caller.ctx, location, setup)
}

/// Issue a new setup token for a forgotten password
///
/// The old password and older setup tokens are void, and the user's sessions end.
#[utoipa::path(
    tag = "users",
    params(("id" = uuid::Uuid, Path, description = "The user")),
    security(("bearer" = [])),
    responses((status = 201, description = "The user, who has no password now", body = UserWithSetupToken, headers(
        ("Location" = String, description = "The user"),
        ("ETag" = String, description = "The version, quoted"),
    ))),
)]
#[post("/v1/users/{id}/setup-token")]
pub async fn renew_setup_token(auth: Authorized<RenewSetupToken>, id: PathId<UserId>) -> Result<HttpResponse> {
    let id = id.parse()?;
    let token = SetupToken::generate()?;
    let setup = auth.write(move |tx| Ok((users::renew_setup_token(tx, id, &token)?, impersonations::used(tx.conn, &tx.ctx)?))).await?;
    let location = auth.state.location(format_args!("users/{id}"));
    set_up(&auth.caller.ctx, location, setup)
}

/// A change of an account, as a JSON merge patch: what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateUserRequest {
    #[serde(default)]
    #[schema(value_type = String, required = false, format = Email, max_length = 254, pattern = r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$", examples("ed@newsroom.example"))]
    email: Patch<String>,
    #[serde(default)]
    #[schema(value_type = String, required = false, min_length = 1, max_length = 100, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$", examples("Ed Editor"))]
    display_name: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Role, required = false)]
    role: Patch<Role>,
    #[serde(default)]
    #[schema(value_type = UserStatus, required = false)]
    status: Patch<UserStatus>,
}

/// Change a user
///
/// Nobody changes an account above their own, grants a role beyond it, or changes their own role or status. Sessions and impersonations that the change makes
/// impossible end with it.
#[utoipa::path(
    tag = "users",
    params(
        ("id" = uuid::Uuid, Path, description = "The user"),
        ("If-Match" = Option<String>, Header, description = "Change only this version"),
    ),
    request_body(content(
        (UpdateUserRequest = "application/merge-patch+json"),
        (UpdateUserRequest = "application/json"),
    )),
    security(("bearer" = [])),
    responses((status = 200, description = "The user as they are now", body = User, headers(("ETag" = String, description = "The version, quoted")))),
)]
#[patch("/v1/users/{id}")]
pub async fn update_user(
    auth: Authorized<UpdateUser>,
    id: PathId<UserId>,
    if_match: IfMatch,
    body: Body<UpdateUserRequest>,
) -> Result<HttpResponse> {
    let (id, expected) = (id.parse()?, if_match.expected()?);
    let body = body.read_merge_patch().await?;
    let mut checked = Checked::new();
    let email = checked.optional("/email", body.email.as_ref().map(|email| Email::parse(email)));
    let display_name = checked.optional("/display_name", body.display_name.as_ref().map(|name| DisplayName::parse(name)));
    let (role, status) = (body.role.into_option(), body.status.into_option());
    let change = checked.finish(|| Some(UserChange { email, display_name, role, status }))?;
    let updated = auth.write(move |tx| {
        let user = users::update(tx, id, &change, |version| expected.check(version))?;
        Ok((user, impersonations::used(tx.conn, &tx.ctx)?))
    });
    let (user, used) = updated.await?;
    shown(&auth.caller.ctx, user, used)
}

/// End all sessions of a user
///
/// The impersonations that were started from them end too; those of the user, by others, go on.
#[utoipa::path(
    tag = "users",
    params(("id" = uuid::Uuid, Path, description = "The user")),
    security(("bearer" = [])),
    responses((status = 204, description = "The user has no own session any more")),
)]
#[delete("/v1/users/{id}/sessions")]
pub async fn end_user_sessions(auth: Authorized<EndUserSessions>, id: PathId<UserId>) -> Result<HttpResponse> {
    let id = id.parse()?;
    auth.write(move |tx| sessions::end_all_of(tx, id)).await?;
    Ok(nothing())
}
