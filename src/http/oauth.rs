//! How the OAuth endpoints take credentials and answer: RFC 6749 §2.3 and §5, not problem documents.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::State;
use super::extract::{Parameters, decode_form};
use super::problem::{Problem, Result};
use super::request::{LoggedIdentity, RequestInfo};
use crate::domain::client::Client;
use crate::domain::error::Error;
use crate::domain::oauth::OAuthCode;

/// What a 401 asks for.
const CHALLENGE: &str = r#"Basic realm="actas", charset="UTF-8""#;

/// Marks a response that has its final body, so that no layer makes a problem document of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written;

/// A refusal of an OAuth endpoint (RFC 6749 §5.2).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OAuthError)]
pub struct OAuthError {
    /// What went wrong, for programs.
    pub error: OAuthCode,
    /// What went wrong, for people; ASCII.
    #[schema(examples("subject_token: the access token is not valid"))]
    pub error_description: String,
}

/// 200 with a body that nobody may keep (RFC 6749 §5.1).
pub fn answer(body: &impl Serialize) -> HttpResponse {
    uncached(StatusCode::OK).json(body)
}

/// 200 without a body (RFC 7009 §2.2).
pub fn done() -> HttpResponse {
    uncached(StatusCode::OK).finish()
}

fn uncached(status: StatusCode) -> HttpResponseBuilder {
    let mut response = HttpResponseBuilder::new(status);
    response.insert_header((header::CACHE_CONTROL, "no-store")).insert_header((header::PRAGMA, "no-cache"));
    response
}

/// Lets an OAuth refusal be an answer of its own kind. What is nobody's request's fault stays a problem.
pub fn refused(result: Result<HttpResponse>) -> Result<HttpResponse> {
    let problem = match result {
        Err(problem) if problem.error().oauth_code().is_some() => problem,
        result => return result,
    };
    let Some(code) = problem.error().oauth_code() else { return Err(problem) };
    let status = if code == OAuthCode::InvalidClient { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
    let mut response = uncached(status);
    if status == StatusCode::UNAUTHORIZED {
        response.insert_header((header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE)));
    }
    let mut response = response.json(OAuthError { error: code, error_description: plain(problem.error().detail()) });
    response.extensions_mut().insert(Written);
    Ok(response)
}

/// The characters that a description may have (RFC 6749 §5.2): ASCII without quotation marks and backslashes.
fn plain(text: &str) -> String {
    let allowed = |c: char| if matches!(c, ' '..='!' | '#'..='[' | ']'..='~') { c } else { '\'' };
    text.chars().map(allowed).collect()
}

fn invalid_request(detail: &str) -> Problem {
    Error::oauth(OAuthCode::InvalidRequest, detail).into()
}

fn invalid_client(detail: &str) -> Problem {
    Error::oauth(OAuthCode::InvalidClient, detail).into()
}

/// The client of a request, by `client_secret_basic`, `client_secret_post`, or, for the public client, its id alone: by one of them and not two.
///
/// # Errors
/// 401 `invalid_client`; 400 `invalid_request` for two ways at once.
pub async fn authenticate(request: &HttpRequest, form: &Parameters, state: &State) -> Result<Client> {
    let (id, secret) = (form.get("client_id"), form.get("client_secret"));
    let now = state.clock.now();
    let authenticated = match basic(request)? {
        Some(_) if secret.is_some() => return Err(invalid_request("the client proves who it is in two ways at once")),
        Some((basic_id, _)) if id.is_some_and(|id| id != basic_id) => {
            return Err(invalid_request("client_id: is another one than in the Authorization header"));
        }
        Some((id, secret)) => {
            // The public client has no secret, and some libraries send an empty one.
            let secret = Some(secret).filter(|secret| !secret.is_empty());
            state.office.authenticate_client(&id, secret.as_deref(), now).await?
        }
        None => {
            let id = id.ok_or_else(|| invalid_client("the client must say and prove who it is"))?;
            state.office.authenticate_client(id, secret, now).await?
        }
    };
    let client = Some(authenticated.id).filter(|client| !client.is_first_party());
    RequestInfo::of(request).identify(LoggedIdentity { subject: None, client, actor: None, impersonation_id: None });
    Ok(authenticated)
}

/// Id and secret of the `Authorization` header (RFC 6749 §2.3.1: each form-encoded before they are joined), if there is one.
fn basic(request: &HttpRequest) -> Result<Option<(String, String)>> {
    let mut lines = request.headers().get_all(header::AUTHORIZATION);
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(invalid_request("there are two Authorization headers"));
    }
    let wrong = || invalid_client("the Authorization header must be Basic, with the client's id and secret");
    let (scheme, credentials) = line.to_str().ok().and_then(|line| line.trim().split_once(' ')).ok_or_else(wrong)?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return Err(wrong());
    }
    let decoded = STANDARD.decode(credentials.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)?;
    let (id, secret) = decoded.split_once(':').ok_or_else(wrong)?;
    let decode = |text| decode_form(text).map(std::borrow::Cow::into_owned).ok_or_else(wrong);
    Ok(Some((decode(id)?, decode(secret)?)))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn basic_of(lines: &[&str]) -> Result<Option<(String, String)>> {
        let request = lines.iter().fold(TestRequest::post(), |request, line| request.append_header((header::AUTHORIZATION, *line)));
        basic(&request.to_http_request())
    }

    #[test]
    fn basic_credentials_are_form_encoded_and_come_once() {
        let line = format!("Basic {}", STANDARD.encode("019a%2D1:a%20b+c%3A"));
        assert_eq!(basic_of(&[&line]).unwrap(), Some(("019a-1".to_owned(), "a b c:".to_owned())));
        assert_eq!(basic_of(&[]).unwrap(), None);
        assert_eq!(basic_of(&[&line, &line]).unwrap_err().error().oauth_code(), Some(OAuthCode::InvalidRequest));
        for bad in ["Bearer abc", "Basic", "Basic !", "Basic YWJj", &format!("Basic {}", STANDARD.encode("a:%"))] {
            assert_eq!(basic_of(&[bad]).unwrap_err().error().oauth_code(), Some(OAuthCode::InvalidClient), "{bad}");
        }
    }

    #[test]
    fn a_description_has_no_character_that_it_may_not_have() {
        assert_eq!(plain("say \"why\" … C:\\"), "say 'why' ' C:'");
    }
}
