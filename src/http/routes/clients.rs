//! The programs that may ask for tokens.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, get, patch, post};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::domain::client::{Audience, ClientChange, ClientGrant, ClientId, ClientStatus, ClientTerms};
use crate::domain::operation::{CreateClient, GetClient, ListClients, RotateClientSecret, UpdateClient};
use crate::domain::scope::Scope;
use crate::domain::text::DisplayName;
use crate::http::answer::{listed, page_request, versioned};
use crate::http::caller::{Authorized, State};
use crate::http::extract::{Body, Checked, IfMatch, Patch, PathId, Query};
use crate::http::problem::Result;
use crate::http::wire::{Client, ClientPage, ClientWithSecret};
use crate::service::clients::{self, ClientSecret, MAX_OVERLAP_SECONDS, WithSecret};

/// How much of the listing.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ClientQuery {
    /// How many items at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
}

/// List clients
///
/// Newest first; the first-party client is before all of them.
#[utoipa::path(
    tag = "clients",
    params(ClientQuery),
    security(("bearer" = [])),
    responses((status = 200, description = "Clients, newest first", body = ClientPage)),
)]
#[get("/v1/clients")]
pub async fn list_clients(auth: Authorized<ListClients>, query: Query<ClientQuery>, request: HttpRequest) -> Result<HttpResponse> {
    let query = query.parse()?;
    let page = page_request(query.limit, query.cursor.as_deref())?;
    let found = auth.read(move |conn, _| clients::list(conn, &page)).await?;
    Ok(listed(&ClientPage::from(found.map(Client::from)), request.query_string()))
}

/// Show a client
#[utoipa::path(
    tag = "clients",
    params(("id" = ClientId, Path, description = "The client")),
    security(("bearer" = [])),
    responses((status = 200, description = "The client", body = Client, headers(("ETag" = String, description = "The version, quoted")))),
)]
#[get("/v1/clients/{id}")]
pub async fn get_client(auth: Authorized<GetClient>, id: PathId<ClientId>) -> Result<HttpResponse> {
    let id = id.parse()?;
    let client = auth.read(move |conn, _| clients::get(conn, id)).await?;
    Ok(shown(client))
}

fn shown(client: crate::domain::client::Client) -> HttpResponse {
    let version = client.version;
    versioned(&Client::from(client), version)
}

/// A new client.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateClientRequest {
    /// One line of 1 to 100 characters, without control, bidirectional or invisible ones.
    #[schema(min_length = 1, max_length = 100, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$", examples("Archive"))]
    name: String,
    /// What it may ask the token endpoint for. `refresh_token` is the first-party client's alone.
    #[serde(default)]
    grants: Vec<ClientGrant>,
    /// The most that its tokens reach: permissions with one space between them.
    #[serde(default)]
    #[schema(pattern = "^([a-z_]+:[a-z_]+( [a-z_]+:[a-z_]+)*)?$", examples("articles:read_all users:read"))]
    scope: String,
    /// For whom it may ask tokens, and whose tokens it may introspect.
    #[serde(default)]
    #[schema(value_type = Vec<Audience>, max_items = 50)]
    audiences: Vec<String>,
    /// The clients that may present this one's tokens for an exchange.
    #[serde(default)]
    #[schema(max_items = 50)]
    presenters: Vec<ClientId>,
}

fn parse_scope(text: &str) -> Result<Scope, (&'static str, &'static str)> {
    Scope::parse(text).map_err(|_| ("unknown_scope", "must be permissions with one space between them"))
}

fn parse_audiences(checked: &mut Checked, texts: &[String]) -> Option<Vec<Audience>> {
    checked.field("/audiences", ClientTerms::check_count(texts.len()))?;
    let parsed = texts.iter().enumerate().map(|(index, text)| checked.field(&format!("/audiences/{index}"), Audience::parse(text)));
    // Each is looked at, so that all that is wrong is told.
    parsed.collect::<Vec<_>>().into_iter().collect()
}

/// Create a client
///
/// It is confidential: the answer holds its secret, of which only a hash is kept.
#[utoipa::path(
    tag = "clients",
    request_body = CreateClientRequest,
    security(("bearer" = [])),
    responses((status = 201, description = "The client, and its secret", body = ClientWithSecret, headers(
        ("Location" = String, description = "The client"),
        ("ETag" = String, description = "The version, quoted"),
    ))),
)]
#[post("/v1/clients")]
pub async fn create_client(auth: Authorized<CreateClient>, body: Body<CreateClientRequest>) -> Result<HttpResponse> {
    let body = body.read().await?;
    let mut checked = Checked::new();
    let name = checked.field("/name", DisplayName::parse(&body.name));
    let scope = checked.field("/scope", parse_scope(&body.scope));
    let audiences = parse_audiences(&mut checked, &body.audiences);
    let few = checked.field("/presenters", ClientTerms::check_count(body.presenters.len()));
    let (grants, presenters) = (body.grants, few.map(|()| body.presenters));
    let terms = checked.finish(|| {
        Some(ClientTerms {
            name: name?,
            status: ClientStatus::Active,
            grants,
            scope: scope?,
            audiences: audiences?,
            presenters: presenters?,
        })
    })?;
    let (id, secret) = (ClientId::new(auth.now()), ClientSecret::generate()?);
    let made = auth.write(move |tx| clients::create(tx, id, &terms, &secret)).await?;
    Ok(with_secret(&auth.state, made))
}

fn with_secret(state: &State, made: WithSecret) -> HttpResponse {
    let location = state.location(format_args!("clients/{}", made.client.id));
    let mut answer = HttpResponse::Created();
    answer.insert_header((header::LOCATION, location)).insert_header((header::ETAG, format!("\"{}\"", made.client.version)));
    answer.json(ClientWithSecret::from(made))
}

/// A change of a client, as a JSON merge patch: what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateClientRequest {
    #[serde(default)]
    #[schema(value_type = String, required = false, min_length = 1, max_length = 100, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$", examples("Archive"))]
    name: Patch<String>,
    #[serde(default)]
    #[schema(value_type = ClientStatus, required = false)]
    status: Patch<ClientStatus>,
    /// All of them.
    #[serde(default)]
    #[schema(value_type = Vec<ClientGrant>, required = false)]
    grants: Patch<Vec<ClientGrant>>,
    #[serde(default)]
    #[schema(value_type = String, required = false, pattern = "^([a-z_]+:[a-z_]+( [a-z_]+:[a-z_]+)*)?$", examples("articles:read_all users:read"))]
    scope: Patch<String>,
    /// All of them.
    #[serde(default)]
    #[schema(value_type = Vec<Audience>, required = false, max_items = 50)]
    audiences: Patch<Vec<String>>,
    /// All of them.
    #[serde(default)]
    #[schema(value_type = Vec<ClientId>, required = false, max_items = 50)]
    presenters: Patch<Vec<ClientId>>,
}

/// Change a client
///
/// Tokens that it has keep what they were given. Disabling it ends them at once, and the impersonations that were started through it. The first-party client can't
/// be disabled, and has no scope of its own.
#[utoipa::path(
    tag = "clients",
    params(
        ("id" = ClientId, Path, description = "The client"),
        ("If-Match" = Option<String>, Header, description = "Change only this version"),
    ),
    request_body(content(
        (UpdateClientRequest = "application/merge-patch+json"),
        (UpdateClientRequest = "application/json"),
    )),
    security(("bearer" = [])),
    responses((status = 200, description = "The client as it is now", body = Client, headers(("ETag" = String, description = "The version, quoted")))),
)]
#[patch("/v1/clients/{id}")]
pub async fn update_client(
    auth: Authorized<UpdateClient>,
    id: PathId<ClientId>,
    if_match: IfMatch,
    body: Body<UpdateClientRequest>,
) -> Result<HttpResponse> {
    let (id, expected) = (id.parse()?, if_match.expected()?);
    let body = body.read_merge_patch().await?;
    let mut checked = Checked::new();
    let name = checked.optional("/name", body.name.as_ref().map(|name| DisplayName::parse(name)));
    let scope = checked.optional("/scope", body.scope.as_ref().map(|scope| parse_scope(scope)));
    let audiences = body.audiences.as_ref().and_then(|audiences| parse_audiences(&mut checked, audiences));
    checked.optional("/presenters", body.presenters.as_ref().map(|presenters| ClientTerms::check_count(presenters.len())));
    let (status, grants, presenters) = (body.status.into_option(), body.grants.into_option(), body.presenters.into_option());
    let change = checked.finish(|| Some(ClientChange { name, status, grants, scope, audiences, presenters }))?;
    let client = auth.write(move |tx| clients::update(tx, id, &change, |version| expected.check(version))).await?;
    Ok(shown(client))
}

/// What becomes of the old secret.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateClientSecretRequest {
    /// How long the old secret still counts beside the new one, so that a service with many instances can be moved over: a week at most. Without it, not at all.
    #[serde(default)]
    #[schema(maximum = 604_800, examples(3600))]
    overlap_seconds: u32,
}

/// Give a client a new secret
///
/// An older secret that still counted no longer does. Tokens that were given stay.
#[utoipa::path(
    tag = "clients",
    params(
        ("id" = ClientId, Path, description = "The client"),
        ("If-Match" = Option<String>, Header, description = "Change only this version"),
    ),
    request_body(content = Option<RotateClientSecretRequest>, content_type = "application/json"),
    security(("bearer" = [])),
    responses((status = 201, description = "The client, and its new secret", body = ClientWithSecret, headers(
        ("Location" = String, description = "The client"),
        ("ETag" = String, description = "The version, quoted"),
    ))),
)]
#[post("/v1/clients/{id}/secret")]
pub async fn rotate_client_secret(
    auth: Authorized<RotateClientSecret>,
    id: PathId<ClientId>,
    if_match: IfMatch,
    body: Body<RotateClientSecretRequest>,
) -> Result<HttpResponse> {
    let (id, expected) = (id.parse()?, if_match.expected()?);
    let overlap = body.read_optional().await?.unwrap_or_default().overlap_seconds;
    let mut checked = Checked::new();
    let in_range = if overlap <= MAX_OVERLAP_SECONDS { Ok(overlap) } else { Err(("out_of_range", "must be at most 604800, a week")) };
    let overlap = checked.field("/overlap_seconds", in_range);
    let overlap = checked.finish(|| overlap)?;
    let secret = ClientSecret::generate()?;
    let made = auth.write(move |tx| clients::rotate_secret(tx, id, &secret, overlap, |version| expected.check(version))).await?;
    Ok(with_secret(&auth.state, made))
}
