//! The OpenAPI document, made from the same routes that are served.

use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

/// Completes the document that the routes made.
pub fn complete(mut document: OpenApi) -> OpenApi {
    document.info.title = "Actas".to_owned();
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    document.info.description = Some(env!("CARGO_PKG_DESCRIPTION").to_owned());
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    document.components.get_or_insert_default().add_security_scheme("bearer", SecurityScheme::Http(bearer));
    document
}

/// The document as it is committed and served.
///
/// # Errors
/// What the serializer says; none is known.
pub fn to_json(document: &OpenApi) -> serde_json::Result<String> {
    serde_json::to_string_pretty(document).map(|json| json + "\n")
}
