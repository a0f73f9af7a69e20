//! Form bodies of the OAuth endpoints, as RFC 6749 §3.2 wants them: a parameter once, an empty one is absent, an unknown one is ignored.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest};

use super::body::read_bytes;
use super::query::pairs;
use crate::domain::error::Error;
use crate::domain::oauth::OAuthCode;
use crate::http::problem::{Problem, Result};

const FORM: &str = "application/x-www-form-urlencoded";

/// How many parameters are read.
const MAX_PARAMETERS: usize = 100;

/// The parameters that may be there several times (RFC 8693 §2.1).
const REPEATABLE: [&str; 2] = ["audience", "resource"];

/// A form that has not been read yet.
pub struct Form {
    request: HttpRequest,
    payload: Payload,
}

/// The parameters of a form.
pub struct Parameters(Vec<(String, String)>);

fn invalid(detail: impl Into<String>) -> Problem {
    Error::oauth(OAuthCode::InvalidRequest, detail).into()
}

impl Form {
    /// Reads the form.
    ///
    /// # Errors
    /// `invalid_request` for another media type, broken percent-encoding, NUL, and a parameter that is there twice; 408 and 413 as for every body.
    pub async fn read(self) -> Result<Parameters> {
        let Self { request, payload } = self;
        let given = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = given.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case(FORM) || request.headers().contains_key(header::CONTENT_ENCODING) {
            return Err(invalid(format!("the body must be {FORM}, not compressed")));
        }
        let bytes = read_bytes(&request, payload).await?;
        let text = std::str::from_utf8(&bytes).map_err(|_| invalid("the body must be percent-encoded UTF-8"))?;
        let mut parameters: Vec<(String, String)> = Vec::new();
        for pair in pairs(text) {
            // No request has so many; and each is compared with all before it, for a stranger.
            if parameters.len() == MAX_PARAMETERS {
                return Err(invalid(format!("a request has at most {MAX_PARAMETERS} parameters")));
            }
            // The name is left out: what is broken may be a secret.
            let (name, value) = pair.map_err(|_| invalid("the body must be percent-encoded UTF-8 without NUL"))?;
            if parameters.iter().any(|(known, _)| *known == name) && !REPEATABLE.contains(&name.as_ref()) {
                return Err(invalid("a parameter is there twice"));
            }
            parameters.push((name.into_owned(), value.into_owned()));
        }
        parameters.retain(|(_, value)| !value.is_empty());
        Ok(Parameters(parameters))
    }
}

impl Parameters {
    /// The value of a parameter that may be left out.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that must be there.
    ///
    /// # Errors
    /// `invalid_request`, naming it.
    pub fn require(&self, name: &'static str) -> Result<&str> {
        self.get(name).ok_or_else(|| invalid(format!("{name}: must be given")))
    }

    /// Every value of a parameter that may be there several times.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect()
    }
}

impl FromRequest for Form {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(Ok(Self { request: request.clone(), payload: payload.take() }))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    async fn read(body: &str) -> Result<Parameters> {
        let request = TestRequest::post().insert_header((header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=UTF-8"));
        let (request, mut payload) = request.set_payload(body.to_owned()).to_http_parts();
        Form::from_request(&request, &mut payload).await.unwrap().read().await
    }

    #[actix_web::test]
    async fn empty_is_absent_and_only_targets_come_several_times() {
        let form = read("a=1&b=&audience=x&audience=y&unknown=z&c=%41+%2B").await.unwrap();
        assert_eq!((form.get("a"), form.get("b"), form.get("c")), (Some("1"), None, Some("A +")));
        assert_eq!(form.all("audience"), ["x", "y"]);
        assert!(form.require("b").is_err());
        let many = (0..=MAX_PARAMETERS).map(|number| format!("{number}=")).collect::<Vec<_>>().join("&");
        for bad in ["a=1&a=1", &many, "a=1&a=", "a=%", "a=%00", "a=%FF"] {
            let problem = read(bad).await.err().unwrap();
            assert_eq!(problem.error().oauth_code(), Some(OAuthCode::InvalidRequest), "{bad}");
        }
    }

    #[actix_web::test]
    async fn only_a_form_is_one() {
        for other in ["application/json", "", "text/plain", "application/x-www-form-urlencodedx"] {
            let request = TestRequest::post().insert_header((header::CONTENT_TYPE, other)).set_payload("a=1");
            let (request, mut payload) = request.to_http_parts();
            assert!(Form::from_request(&request, &mut payload).await.unwrap().read().await.is_err(), "{other}");
        }
    }
}
