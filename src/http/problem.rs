//! Refusals and failures on the wire: RFC 9457 problem documents.
//!
//! A handler or an extractor fails with a [`Problem`]. Its response carries the status, the headers and, as an extension,
//! the problem itself; the outermost middleware then writes the document, because only there the request's path and id
//! are at hand, and because there it also catches what was never a `Problem`: actix's own errors and bare statuses.

use std::fmt;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::error::{Code, Error, FieldError, Reason, ReasonCode};
use crate::domain::impersonation::EndCause;

/// The media type of every error answer (RFC 9457 §6.1).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What precedes a code in a problem's `type`.
const TYPE_PREFIX: &str = "urn:actas:problem:";

/// The result of everything in this floor that can be refused.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

/// A domain error on its way to the wire, with the headers that only HTTP knows of (`Allow`, `Accept`).
#[derive(Debug, Clone)]
pub struct Problem {
    error: Error,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Error::new(code, detail).into()
    }

    /// 400 `malformed_request`, at a place in the body, or in the parameter of this name.
    pub fn malformed_at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let errors = vec![FieldError::new(pointer, "malformed", detail.clone())];
        Error::new(Code::MalformedRequest, detail).with_errors(errors).into()
    }

    /// Adds a response header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub fn error(&self) -> &Error {
        &self.error
    }

    /// What the problem is when a response has an error's status and nobody said more: actix's own errors, the CORS
    /// layer's refusals. A status that no code stands for becomes the general one of its class.
    pub(super) fn of_bare_status(status: StatusCode) -> Self {
        let error = match status {
            StatusCode::UNAUTHORIZED => Error::new(Code::CredentialsMissing, "this needs an access token"),
            StatusCode::FORBIDDEN => Error::new(Code::MissingPermission, "you may not do this"),
            StatusCode::NOT_FOUND => Error::not_found(),
            StatusCode::METHOD_NOT_ALLOWED => Error::new(Code::MethodNotAllowed, "this address does not know that method"),
            StatusCode::REQUEST_TIMEOUT => Error::new(Code::RequestTimeout, "the request took too long to arrive"),
            StatusCode::PAYLOAD_TOO_LARGE => Error::new(Code::PayloadTooLarge, "the request is too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Error::new(Code::UnsupportedMediaType, "this media type is not understood here"),
            StatusCode::SERVICE_UNAVAILABLE => Error::overloaded(),
            other if other.is_server_error() => Error::internal(format!("a bare {other}")),
            _ => Error::new(Code::MalformedRequest, "the request can't be understood"),
        };
        error.into()
    }

    /// Tells the log what the caller must not see. Call it once a request.
    pub(super) fn report(&self, request_id: &str) {
        let code = self.error.code();
        match self.error.internal_detail() {
            Some(internal) if code == Code::Internal => tracing::error!(request_id, %code, internal, "a request failed"),
            Some(internal) => tracing::warn!(request_id, %code, internal, "a request failed"),
            None => {}
        }
    }

    /// The document of this problem, in the answer to the request for `path` with this id.
    pub fn document(&self, path: &str, request_id: &str) -> ProblemDocument {
        let code = self.error.code();
        ProblemDocument {
            r#type: format!("{TYPE_PREFIX}{code}"),
            title: title(code).to_owned(),
            status: status(code).as_u16(),
            detail: self.error.detail().to_owned(),
            instance: path.to_owned(),
            code,
            request_id: request_id.to_owned(),
            errors: self.error.errors().iter().map(FieldProblem::from).collect(),
            reasons: self.error.reasons().iter().cloned().map(ReasonDocument::from).collect(),
            cause: self.error.cause(),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self { error, headers: Vec::new() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        status(self.error.code())
    }

    /// Status and headers, without the document, which the middleware writes.
    fn error_response(&self) -> HttpResponse<BoxBody> {
        let code = self.error.code();
        let status = status(code);
        let mut response = HttpResponseBuilder::new(status);
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        if let Some(challenge) = challenge(code) {
            response.insert_header((header::WWW_AUTHENTICATE, challenge));
        }
        if code == Code::InsufficientScope {
            // RFC 6750 §3.1: a 403 that says which scope would do. None would where the user's own token is needed.
            let scope = self.error.scope().map_or(String::new(), |scope| format!(r#", scope="{scope}""#));
            response.insert_header((header::WWW_AUTHENTICATE, format!(r#"Bearer error="insufficient_scope"{scope}"#)));
        }
        if let Some(seconds) = self.error.retry_after_seconds().or(default_retry_after(status)) {
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        if matches!(code, Code::PayloadTooLarge | Code::RequestTimeout) {
            // The rest of the body is still on its way; what follows on this connection would have to wait for it.
            response.force_close();
        }
        for header in &self.headers {
            response.insert_header(header.clone());
        }
        response.extensions_mut().insert(self.clone());
        response.finish()
    }
}

/// The one match from a code to what HTTP makes of it.
const fn status_and_title(code: Code) -> (StatusCode, &'static str) {
    match code {
        Code::MalformedRequest => (StatusCode::BAD_REQUEST, "Malformed request"),
        Code::UnknownField => (StatusCode::BAD_REQUEST, "Unknown field"),
        Code::UnknownParameter => (StatusCode::BAD_REQUEST, "Unknown parameter"),
        Code::CredentialsMissing => (StatusCode::UNAUTHORIZED, "Credentials missing"),
        Code::InvalidCredentials => (StatusCode::UNAUTHORIZED, "Invalid credentials"),
        Code::InvalidToken => (StatusCode::UNAUTHORIZED, "Invalid token"),
        Code::TokenExpired => (StatusCode::UNAUTHORIZED, "Token expired"),
        Code::SessionEnded => (StatusCode::UNAUTHORIZED, "Session ended"),
        Code::ImpersonationEnded => (StatusCode::UNAUTHORIZED, "Impersonation ended"),
        Code::OriginalSessionEnded => (StatusCode::UNAUTHORIZED, "Original session ended"),
        Code::RestoreProofRequired => (StatusCode::UNAUTHORIZED, "Restore proof required"),
        Code::RefreshTokenInvalid => (StatusCode::UNAUTHORIZED, "Invalid refresh token"),
        Code::RefreshTokenReused => (StatusCode::UNAUTHORIZED, "Refresh token reused"),
        Code::MissingPermission => (StatusCode::FORBIDDEN, "Missing permission"),
        Code::InsufficientScope => (StatusCode::FORBIDDEN, "Insufficient scope"),
        Code::UserRequired => (StatusCode::FORBIDDEN, "User required"),
        Code::ForbiddenUnderImpersonation => (StatusCode::FORBIDDEN, "Forbidden under impersonation"),
        Code::ReadOnlyImpersonation => (StatusCode::FORBIDDEN, "Read-only impersonation"),
        Code::ImpersonationRefused => (StatusCode::FORBIDDEN, "Impersonation refused"),
        Code::OutsideGrant => (StatusCode::FORBIDDEN, "Outside of the grant"),
        Code::ActionRefused => (StatusCode::FORBIDDEN, "Action refused"),
        Code::NotFound => (StatusCode::NOT_FOUND, "Not found"),
        Code::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"),
        Code::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, "Request timeout"),
        Code::StatusForbids => (StatusCode::CONFLICT, "Status forbids"),
        Code::SettingPinned => (StatusCode::CONFLICT, "Setting pinned"),
        Code::ImpersonationLive => (StatusCode::CONFLICT, "Impersonation live"),
        Code::EmailTaken => (StatusCode::CONFLICT, "E-mail address taken"),
        Code::LastAdministrator => (StatusCode::CONFLICT, "Last administrator"),
        Code::VersionMismatch => (StatusCode::PRECONDITION_FAILED, "Version mismatch"),
        Code::PayloadTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Payload too large"),
        Code::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type"),
        Code::InvalidRequest => (StatusCode::UNPROCESSABLE_ENTITY, "Invalid request"),
        Code::TooManyAttempts => (StatusCode::TOO_MANY_REQUESTS, "Too many attempts"),
        Code::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
        Code::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "Overloaded"),
        Code::DatabaseUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "Database unavailable"),
    }
}

/// The status that answers carry with this code.
pub const fn status(code: Code) -> StatusCode {
    status_and_title(code).0
}

/// The `title` of problems with this code: the same for every occurrence (RFC 9457 §3.1.3).
pub const fn title(code: Code) -> &'static str {
    status_and_title(code).1
}

/// The `WWW-Authenticate` that every 401 must have (RFC 9110 §15.5.2). An `error` is for a request whose token is of no
/// (more) use, and is left out where no token took part (RFC 6750 §3.1): none was sent, or the credentials were in the
/// body.
fn challenge(code: Code) -> Option<&'static str> {
    if status(code) != StatusCode::UNAUTHORIZED {
        return None;
    }
    match code {
        Code::CredentialsMissing | Code::InvalidCredentials | Code::RefreshTokenInvalid | Code::RefreshTokenReused => Some("Bearer"),
        _ => Some(r#"Bearer error="invalid_token""#),
    }
}

/// Seconds to wait where an answer must say so and the error doesn't know.
fn default_retry_after(status: StatusCode) -> Option<u32> {
    matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS).then_some(1)
}

/// An RFC 9457 problem: what every error answers with, as `application/problem+json`.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDocument {
    /// `urn:actas:problem:` and the code.
    #[schema(example = "urn:actas:problem:not_found")]
    pub r#type: String,
    /// What the code means, in a few words; the same for every occurrence.
    #[schema(example = "Not found")]
    pub title: String,
    /// The answer's status.
    #[schema(example = 404)]
    pub status: u16,
    /// What went wrong this time, for people.
    #[schema(example = "there is nothing here that you may know of")]
    pub detail: String,
    /// The path of the request.
    #[schema(example = "/v1/articles/019aa0f0-0000-7000-8000-0000000000aa")]
    pub instance: String,
    /// What went wrong, for programs. Treat a code that you don't know by its status.
    pub code: Code,
    /// The `X-Request-Id` of the answer, by which the log can be searched.
    #[schema(example = "019aa0f0-0000-7000-8000-0000000000bb")]
    pub request_id: String,
    /// What is wrong with which values, where the request's values are to blame.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<FieldProblem>,
    /// Why an action is refused: all the reasons that hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub reasons: Vec<ReasonDocument>,
    /// Why the impersonation ended, with `impersonation_ended`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub cause: Option<EndCause>,
}

/// What is wrong with one value of a request.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FieldProblem {
    /// A JSON Pointer (RFC 6901) into the body, or the name of a parameter.
    #[schema(example = "/title")]
    pub pointer: String,
    /// What is wrong, for programs.
    #[schema(example = "too_long")]
    pub code: String,
    /// What is wrong, for people.
    #[schema(example = "must have at most 200 characters")]
    pub detail: String,
}

impl From<&FieldError> for FieldProblem {
    fn from(error: &FieldError) -> Self {
        Self { pointer: error.pointer.clone(), code: error.code.clone(), detail: error.detail.clone() }
    }
}

/// One reason why something is refused.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Reason)]
pub struct ReasonDocument {
    /// The reason, for programs.
    pub code: ReasonCode,
    /// The reason, for people.
    #[schema(example = "the article's editor is Eve Editor, and not Ed Editor")]
    pub detail: String,
}

impl From<Reason> for ReasonDocument {
    fn from(reason: Reason) -> Self {
        Self { code: reason.code, detail: reason.detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::role::Permission;

    fn header(code: Code, name: HeaderName) -> Option<String> {
        let response = Problem::new(code, "x").error_response();
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn every_401_challenges_and_of_the_rest_only_a_scope_that_is_too_narrow() {
        for code in Code::ALL {
            let challenged = header(*code, header::WWW_AUTHENTICATE).is_some();
            assert_eq!(challenged, status(*code) == StatusCode::UNAUTHORIZED || *code == Code::InsufficientScope, "{code}");
        }
        let narrow = Problem::from(Error::insufficient_scope(Permission::UsersRead)).error_response();
        let challenge = narrow.headers().get(header::WWW_AUTHENTICATE).unwrap();
        assert_eq!(challenge, r#"Bearer error="insufficient_scope", scope="users:read""#);
        assert_eq!(header(Code::CredentialsMissing, header::WWW_AUTHENTICATE).unwrap(), "Bearer");
        assert_eq!(header(Code::TokenExpired, header::WWW_AUTHENTICATE).unwrap(), r#"Bearer error="invalid_token""#);
    }

    #[test]
    fn every_429_and_503_says_when_to_come_back() {
        for code in Code::ALL {
            let says = header(*code, header::RETRY_AFTER).is_some();
            assert_eq!(says, matches!(status(*code).as_u16(), 429 | 503), "{code}");
        }
    }

    #[test]
    fn a_document_has_only_the_members_that_apply_and_no_internals() {
        let problem = Problem::from(Error::internal("SELECT secret FROM users"));
        let document = serde_json::to_value(problem.document("/v1/me", "r-1")).unwrap();
        let mut members: Vec<_> = document.as_object().unwrap().keys().map(String::as_str).collect();
        members.sort_unstable();
        assert_eq!(members, ["code", "detail", "instance", "request_id", "status", "title", "type"]);
        assert_eq!(document["type"], "urn:actas:problem:internal");
        assert_eq!(document["instance"], "/v1/me");
        assert!(!document.to_string().contains("SELECT"));

        let ended = Problem::from(Error::impersonation_ended(EndCause::Idle));
        assert_eq!(serde_json::to_value(ended.document("/v1/me", "r-1")).unwrap()["cause"], "idle");
    }

    #[test]
    fn the_schema_keeps_optional_members_out_of_null() {
        let schema = serde_json::to_value(<ProblemDocument as utoipa::PartialSchema>::schema()).unwrap();
        let required = schema["required"].as_array().unwrap();
        assert_eq!(required.len(), 7, "{schema:#}");
        assert_eq!(schema["properties"]["cause"]["oneOf"], serde_json::Value::Null, "{schema:#}");
    }
}
