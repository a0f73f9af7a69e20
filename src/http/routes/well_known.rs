//! What clients and resource servers look up for themselves, at addresses that RFC 8615 keeps free for it.

use actix_web::http::header::{self, EntityTag, Header as _, IfNoneMatch};
use actix_web::{HttpRequest, HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::caller::State;
use crate::http::problem::Result;
use crate::service::keys::{PublicHalf, PublicKey};

/// For how long whoever has looked need not look again. A rotation is quicker than that: who meets an unknown `kid` looks again (OpenID Connect Core §10.1.1).
const CACHE_CONTROL: &str = "public, max-age=60";

/// A JSON Web Key Set (RFC 7517 §5).
#[derive(Debug, Serialize, ToSchema)]
pub struct JsonWebKeySet {
    /// Newest first.
    pub keys: Vec<JsonWebKey>,
}

/// The public half of a signing key (RFC 7517 §4).
#[derive(Debug, Serialize, ToSchema)]
pub struct JsonWebKey {
    pub kty: JsonWebKeyType,
    /// The key's name in a token's header: its RFC 7638 thumbprint.
    #[schema(examples("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"))]
    pub kid: String,
    /// The one algorithm that it signs with.
    #[schema(examples("EdDSA"))]
    pub alg: &'static str,
    #[serde(rename = "use")]
    pub r#use: JsonWebKeyUse,
    /// The curve, of an `OKP` key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("Ed25519"))]
    pub crv: Option<&'static str>,
    /// The public key, of an `OKP` key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    /// The modulus, of an `RSA` key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    /// The public exponent, of an `RSA` key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("AQAB"))]
    pub e: Option<String>,
}

/// A family of keys (RFC 7518 §6.1, RFC 8037 §2).
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub enum JsonWebKeyType {
    #[serde(rename = "OKP")]
    Okp,
    #[serde(rename = "RSA")]
    Rsa,
}

/// What a key is for (RFC 7517 §4.2).
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub enum JsonWebKeyUse {
    #[serde(rename = "sig")]
    Signature,
}

impl From<PublicKey> for JsonWebKey {
    fn from(key: PublicKey) -> Self {
        let (kty, crv, x, n, e) = match key.half {
            PublicHalf::Ed25519 { x } => (JsonWebKeyType::Okp, Some("Ed25519"), Some(x), None, None),
            PublicHalf::Rsa { n, e } => (JsonWebKeyType::Rsa, None, None, Some(n), Some(e)),
        };
        Self { kty, kid: key.kid, alg: key.algorithm.as_str(), r#use: JsonWebKeyUse::Signature, crv, x, n, e }
    }
}

/// Get the public keys
///
/// The public half of every key whose access tokens count, so that others can check them: those of both algorithms, newest first. May be kept for a minute; a
/// token with an unknown `kid` is a reason to look again. `If-None-Match` is honoured.
#[utoipa::path(tag = "oauth", responses(
    (status = 200, description = "The keys", body = JsonWebKeySet, headers(
        ("Cache-Control" = String, description = "For how long they may be kept"), ("ETag" = String, description = "Names this set of keys"))),
    (status = 304, description = "They are what `If-None-Match` names", headers(
        ("Cache-Control" = String, description = "For how long they may be kept"), ("ETag" = String, description = "Names this set of keys"))),
))]
#[get("/.well-known/jwks.json")]
pub async fn get_public_keys(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse> {
    let public = state.office.public_keys().await?;
    let tag = EntityTag::new_strong(public.tag);
    let is_known = match IfNoneMatch::parse(&request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        // What can't be read names nothing.
        Err(_) => false,
    };
    let mut answer = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer.insert_header((header::CACHE_CONTROL, CACHE_CONTROL)).insert_header(header::ETag(tag));
    if is_known {
        return Ok(answer.finish());
    }
    Ok(answer.json(JsonWebKeySet { keys: public.keys.into_iter().map(JsonWebKey::from).collect() }))
}
