//! JSON bodies.

use std::future::{Ready, ready};
use std::marker::PhantomData;

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::web::BytesMut;
use actix_web::{FromRequest, HttpRequest};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::json;
use crate::domain::error::Code;
use crate::http::problem::{Problem, Result};
use crate::http::request::{Limits, RequestInfo};

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// A JSON body that has not been read yet.
///
/// The wire struct `T` carries `#[serde(deny_unknown_fields)]`. Reading fails, in this order, with 413
/// `payload_too_large` (by the declared length, before a byte is read), 415 `unsupported_media_type`, 408
/// `request_timeout`, 413 (by what arrived), 400 `malformed_request` (an empty body too), 400 `unknown_field`, 422
/// `invalid_request`.
pub struct Body<T> {
    request: HttpRequest,
    payload: Payload,
    of: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Body<T> {
    /// Reads a body of the type `application/json`.
    pub async fn read(self) -> Result<T> {
        self.read_as(&[JSON], header::ACCEPT).await
    }

    /// Reads a JSON merge patch (RFC 7396), of its own type or `application/json`.
    pub async fn read_merge_patch(self) -> Result<T> {
        // RFC 5789 §3.1 names the types for PATCH in a header of its own.
        self.read_as(&[MERGE_PATCH, JSON], HeaderName::from_static("accept-patch")).await
    }

    /// Reads a body that may be left out: empty, of whatever type.
    pub async fn read_optional(self) -> Result<Option<T>> {
        let Self { request, payload, .. } = self;
        let bytes = read_bytes(&request, payload).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        check_type(request.headers(), &[JSON], header::ACCEPT)?;
        json::from_slice(&bytes).map(Some)
    }

    async fn read_as(self, types: &'static [&'static str], hint: HeaderName) -> Result<T> {
        let Self { request, payload, .. } = self;
        check_length(&request)?;
        check_type(request.headers(), types, hint)?;
        let bytes = read_bytes(&request, payload).await?;
        if bytes.is_empty() {
            return Err(Problem::new(Code::MalformedRequest, "this call needs a JSON body"));
        }
        json::from_slice(&bytes)
    }
}

impl<T: 'static> FromRequest for Body<T> {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(Ok(Self { request: request.clone(), payload: payload.take(), of: PhantomData }))
    }
}

fn limits(request: &HttpRequest) -> Limits {
    request.app_data::<Limits>().copied().unwrap_or_default()
}

/// The body's length as its header declares it. A chunked body declares none.
pub(in crate::http) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// 413 `payload_too_large`.
pub(in crate::http) fn too_large(limit: usize) -> Problem {
    Problem::new(Code::PayloadTooLarge, format!("a body may have at most {limit} bytes"))
}

fn check_length(request: &HttpRequest) -> Result<()> {
    let limit = limits(request).body_bytes;
    match declared_length(request.headers()) {
        Some(length) if usize::try_from(length).map_or(true, |length| length > limit) => Err(too_large(limit)),
        _ => Ok(()),
    }
}

fn check_type(headers: &HeaderMap, types: &'static [&'static str], hint: HeaderName) -> Result<()> {
    if let Some(coding) = headers.get(header::CONTENT_ENCODING)
        && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        let problem = Problem::new(Code::UnsupportedMediaType, "the body must not be compressed");
        return Err(problem.with_header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity")));
    }
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (essence, parameters) = given.split_once(';').unwrap_or((given, ""));
    let known = types.iter().any(|known| essence.trim().eq_ignore_ascii_case(known));
    if known && is_utf8_if_said(parameters) {
        return Ok(());
    }
    let types = types.join(", ");
    let problem = Problem::new(Code::UnsupportedMediaType, format!("the body must be one of these, in UTF-8: {types}"));
    Err(match HeaderValue::from_str(&types) {
        Ok(types) => problem.with_header(hint, types),
        Err(_) => problem,
    })
}

/// JSON is always UTF-8 (RFC 8259 §8.1); a `charset` that says something else is a body that we would misread.
fn is_utf8_if_said(parameters: &str) -> bool {
    parameters
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .all(|(name, value)| !name.trim().eq_ignore_ascii_case("charset") || value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8"))
}

pub(super) async fn read_bytes(request: &HttpRequest, mut payload: Payload) -> Result<BytesMut> {
    check_length(request)?;
    let limits = limits(request);
    let reading = async {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| Problem::new(Code::MalformedRequest, "the body ended before it was complete"))?;
            if bytes.len() + chunk.len() > limits.body_bytes {
                return Err(too_large(limits.body_bytes));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    let info = RequestInfo::of(request);
    info.off_the_clock(limits.body_time, tokio::time::timeout(limits.body_time, reading))
        .await
        .unwrap_or_else(|_| Err(Problem::new(Code::RequestTimeout, "the body took too long to arrive")))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Login {
        email: String,
    }

    async fn body(request: TestRequest) -> Body<Login> {
        let (request, mut payload) = request.to_http_parts();
        Body::from_request(&request, &mut payload).await.unwrap()
    }

    fn typed(content_type: &str) -> TestRequest {
        TestRequest::post().insert_header((header::CONTENT_TYPE, content_type)).set_payload(r#"{"email":"a@b.org"}"#)
    }

    #[actix_web::test]
    async fn only_json_in_utf_8_is_read() {
        for good in ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json;charset=\"UTF-8\""] {
            assert_eq!(body(typed(good)).await.read().await.unwrap().email, "a@b.org", "{good}");
        }
        for bad in ["", "text/plain", "application/jsonp", "application/json; charset=latin1", "application/merge-patch+json"] {
            assert_eq!(body(typed(bad)).await.read().await.unwrap_err().error().code(), Code::UnsupportedMediaType, "{bad}");
        }
        assert!(body(typed("application/merge-patch+json")).await.read_merge_patch().await.is_ok());
        let compressed = typed("application/json").insert_header((header::CONTENT_ENCODING, "gzip"));
        assert_eq!(body(compressed).await.read().await.unwrap_err().error().code(), Code::UnsupportedMediaType);
    }

    #[actix_web::test]
    async fn a_body_that_may_be_left_out_may_have_any_type() {
        let empty = TestRequest::post().insert_header((header::CONTENT_TYPE, "text/plain"));
        assert!(body(empty).await.read_optional().await.unwrap().is_none());
        assert!(body(typed("application/json")).await.read_optional().await.unwrap().is_some());
        assert_eq!(body(typed("text/plain")).await.read_optional().await.unwrap_err().error().code(), Code::UnsupportedMediaType);
        let empty = TestRequest::post().insert_header((header::CONTENT_TYPE, "application/json"));
        assert_eq!(body(empty).await.read().await.unwrap_err().error().code(), Code::MalformedRequest);
    }

    #[actix_web::test]
    async fn more_than_the_limit_is_refused_declared_or_not() {
        let small = Limits { body_bytes: 8, ..Limits::default() };
        assert_eq!(body(typed("application/json").app_data(small)).await.read().await.unwrap_err().error().code(), Code::PayloadTooLarge);
        let declared = TestRequest::post().insert_header((header::CONTENT_LENGTH, "99999999999999999999"));
        // What is no number is no declaration; actix refuses such a request before it gets here.
        assert!(declared_length(declared.to_http_request().headers()).is_none());
    }
}
