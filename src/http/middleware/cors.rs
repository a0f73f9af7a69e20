//! Which pages of other origins may call.

use actix_cors::Cors;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};

/// How long, in seconds, a browser may keep a preflight's answer. Chromium keeps none for longer than two hours.
const MAX_AGE: usize = 7200;

/// The origins whose pages may read our answers.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    /// Exact origins, as browsers write them: `https://app.example.org`, with a port unless it is the scheme's own.
    pub exact: Vec<String>,
    /// Any page of the browser's own machine: `localhost`, `127.0.0.1` and `[::1]`, on any port. For the demo.
    pub any_localhost: bool,
}

/// The CORS layer for these origins. Other origins are served, for a server can't tell a page from a script, but without
/// the headers that would let a page read the answer.
///
/// Credentials are not allowed: tokens travel in `Authorization`, and there are no cookies to send.
pub fn cors(origins: &Origins) -> Cors {
    let cors = Cors::default()
        .allowed_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allowed_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::IF_MATCH])
        .allowed_header("x-request-id")
        // By name: `*` covers neither an `Actas-*` nor, in requests with credentials, anything.
        .expose_headers(["etag", "link", "location", "x-request-id", "retry-after", "www-authenticate", "actas-subject", "actas-actor"])
        .max_age(MAX_AGE)
        .block_on_origin_mismatch(false);
    let cors = origins.exact.iter().fold(cors, |cors, origin| cors.allowed_origin(origin));
    if origins.any_localhost { cors.allowed_origin_fn(|origin, _| is_localhost(origin)) } else { cors }
}

fn is_localhost(origin: &HeaderValue) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let Some(rest) = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) else { return false };
    let port = ["localhost", "127.0.0.1", "[::1]"].iter().find_map(|host| rest.strip_prefix(host));
    port.is_some_and(|port| port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_no_prefix() {
        for origin in ["http://localhost", "http://localhost:5173", "https://127.0.0.1:8443", "http://[::1]:3000"] {
            assert!(is_localhost(&HeaderValue::from_static(origin)), "{origin}");
        }
        for origin in [
            "http://localhost.evil.org",
            "http://localhost:80.evil.org",
            "http://evil.org",
            "null",
            "http://127.0.0.10",
            "file://localhost",
        ] {
            assert!(!is_localhost(&HeaderValue::from_static(origin)), "{origin}");
        }
    }
}
