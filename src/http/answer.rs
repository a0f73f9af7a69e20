//! Answers: what their headers say of what their bodies hold.

use actix_web::error::JsonPayloadError;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde::Serialize;

use super::extract::Checked;
use super::problem::Result;
use crate::domain::page::{Key, Limit, PageRequest, decode_cursor};

/// A page of a listing.
pub trait Listing: Serialize {
    fn next_cursor(&self) -> Option<&str>;
}

/// 200 with a page, and a `Link` to the next one (RFC 8288). The link holds the query alone, so that a proxy's path prefix does no harm; `query` is the
/// request's, whose filters go on.
pub fn listed(page: &impl Listing, query: &str) -> HttpResponse {
    let mut answer = HttpResponse::Ok();
    if let Some(cursor) = page.next_cursor() {
        let kept = query.split('&').filter(|pair| !pair.is_empty() && pair.split('=').next() != Some("cursor"));
        let pairs: Vec<String> = kept.map(str::to_owned).chain([format!("cursor={cursor}")]).collect();
        answer.insert_header((header::LINK, format!("<?{}>; rel=\"next\"", pairs.join("&"))));
    }
    json(&mut answer, page)
}

/// Ends an answer with a body. As actix's `json`, without growing a small buffer again and again, and without writing the media type anew.
pub fn json(answer: &mut HttpResponseBuilder, body: &impl Serialize) -> HttpResponse {
    let mut text = Vec::with_capacity(1024);
    match serde_json::to_writer(&mut text, body) {
        Ok(()) => answer.insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json"))).body(text),
        Err(error) => HttpResponse::from_error(JsonPayloadError::Serialize(error)),
    }
}

/// 200 with a body.
pub fn shown(body: &impl Serialize) -> HttpResponse {
    json(&mut HttpResponse::Ok(), body)
}

/// 200 with something that has a version.
pub fn versioned(body: &impl Serialize, version: i64) -> HttpResponse {
    json(HttpResponse::Ok().insert_header((header::ETAG, format!("\"{version}\""))), body)
}

/// 201 with something new, and where it is from now on.
pub fn created(body: &impl Serialize, location: String) -> HttpResponse {
    json(HttpResponse::Created().insert_header((header::LOCATION, location)), body)
}

/// 204.
pub fn nothing() -> HttpResponse {
    HttpResponse::NoContent().finish()
}

/// How much of a listing is asked for.
///
/// # Errors
/// 422 for a limit that is not 1 to 200, and for a cursor of another listing or of none.
pub fn page_request<K: Key>(limit: Option<u32>, cursor: Option<&str>) -> Result<PageRequest<K>> {
    let mut checked = Checked::new();
    let limit = limit.map_or(Ok(Limit::DEFAULT), |limit| Limit::new(limit).ok_or(("out_of_range", "must be 1 to 200")));
    let limit = checked.field("limit", limit);
    let after = cursor.map(|cursor| decode_cursor(cursor).ok_or(("invalid_cursor", "is no cursor that this listing gave out")));
    let after = checked.optional("cursor", after);
    checked.finish(|| Some(PageRequest { limit: limit?, after }))
}
