//! What clients have to know of us: authorization server metadata (RFC 8414).

use actix_web::http::header;
use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::oauth::TOKEN_EXCHANGE;
use crate::domain::error::Error;
use crate::domain::role::Permission;
use crate::http::caller::State;
use crate::http::problem::Result;

/// Where the metadata stands, below the issuer's host.
pub const PATH: &str = "/.well-known/oauth-authorization-server";

/// How long it may be kept.
const CACHE: &str = "public, max-age=300";

/// Authorization server metadata (RFC 8414 §2).
#[derive(Serialize, ToSchema)]
pub struct Metadata {
    /// The claim `iss`, exactly.
    #[schema(examples("http://localhost:8080"))]
    pub issuer: String,
    #[schema(examples("http://localhost:8080/oauth/token"))]
    pub token_endpoint: String,
    #[schema(examples("http://localhost:8080/.well-known/jwks.json"))]
    pub jwks_uri: String,
    #[schema(examples("http://localhost:8080/oauth/introspect"))]
    pub introspection_endpoint: String,
    #[schema(examples("http://localhost:8080/oauth/revoke"))]
    pub revocation_endpoint: String,
    #[schema(examples("http://localhost:8080/docs/"))]
    pub service_documentation: String,
    /// None: there is no authorization endpoint.
    pub response_types_supported: Vec<String>,
    pub grant_types_supported: Vec<&'static str>,
    pub token_endpoint_auth_methods_supported: Vec<&'static str>,
    pub introspection_endpoint_auth_methods_supported: Vec<&'static str>,
    pub revocation_endpoint_auth_methods_supported: Vec<&'static str>,
    pub scopes_supported: Vec<Permission>,
    /// RFC 9396 §10.
    pub authorization_details_types_supported: Vec<&'static str>,
    /// The algorithms of the keys whose access tokens count, the newest key's first. No standard name tells them, so this one follows the others' pattern.
    #[schema(examples("EdDSA"))]
    pub access_token_signing_alg_values_supported: Vec<&'static str>,
}

impl Metadata {
    async fn of(state: &State) -> Result<Self> {
        let mut algorithms: Vec<&'static str> = Vec::new();
        for key in state.office.public_keys().await?.keys {
            if !algorithms.contains(&key.algorithm.as_str()) {
                algorithms.push(key.algorithm.as_str());
            }
        }
        let at = |path: &str| format!("{}{path}", state.public_url);
        let confidential = vec!["client_secret_basic", "client_secret_post"];
        let all = vec!["client_secret_basic", "client_secret_post", "none"];
        Ok(Self {
            issuer: state.office.settings.issuer.clone(),
            token_endpoint: at("/oauth/token"),
            jwks_uri: at("/.well-known/jwks.json"),
            introspection_endpoint: at("/oauth/introspect"),
            revocation_endpoint: at("/oauth/revoke"),
            service_documentation: at("/docs/"),
            response_types_supported: Vec::new(),
            grant_types_supported: vec!["client_credentials", "refresh_token", TOKEN_EXCHANGE],
            token_endpoint_auth_methods_supported: all.clone(),
            introspection_endpoint_auth_methods_supported: confidential,
            revocation_endpoint_auth_methods_supported: all,
            scopes_supported: Permission::ALL.to_vec(),
            authorization_details_types_supported: vec!["article"],
            access_token_signing_alg_values_supported: algorithms,
        })
    }
}

/// Describe the authorization server
///
/// Issuer, endpoints, grants, ways to authenticate, algorithms (RFC 8414).
#[utoipa::path(tag = "oauth", responses((status = 200, description = "The metadata", body = Metadata)))]
#[get("/.well-known/oauth-authorization-server")]
pub async fn get_metadata(state: web::Data<State>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, CACHE)).json(Metadata::of(&state).await?))
}

/// The same for an issuer with a path, which RFC 8414 §3.1 puts behind: `/.well-known/oauth-authorization-server/path`. Nothing for another path.
pub async fn get_metadata_of_path(state: web::Data<State>, path: web::Path<String>) -> Result<HttpResponse> {
    let issuer = &state.office.settings.issuer;
    let own = issuer.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, path)| path.trim_end_matches('/'));
    if own.is_some_and(|own| !own.is_empty() && own == path.as_str()) {
        Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, CACHE)).json(Metadata::of(&state).await?))
    } else {
        Err(Error::not_found().into())
    }
}
