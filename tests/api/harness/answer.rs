//! What came back, and what must hold of it.

use serde_json::Value;
use ureq::http;

use super::document::demand_as_documented;

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub text: String,
    /// The body where it is JSON, null where there is none or it is something else.
    pub body: Value,
    /// The request's method and path, for the message of a failed test.
    pub request: String,
}

impl Answer {
    pub(super) fn new(request: String, parts: &http::response::Parts, text: String) -> Self {
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        let answer = Self { status: parts.status.as_u16(), headers: parts.headers.clone(), text, body, request };
        answer.keeps_the_conventions();
        answer
    }

    /// What the contract says of every answer, checked at every one that any test gets.
    fn keeps_the_conventions(&self) {
        assert!(self.header("x-request-id").is_some(), "no X-Request-Id: {self}");
        if self.path().starts_with("/v1/") || self.path().starts_with("/oauth/") {
            assert_eq!(self.header("cache-control"), Some("no-store"), "{self}");
        }
        assert!(!self.text.contains("$2b$"), "a password's hash: {self}");
        demand_as_documented(self.request.split(' ').next().unwrap_or_default(), self.path(), self);
    }

    fn path(&self) -> &str {
        let target = self.request.split(' ').nth(1).unwrap_or_default();
        target.split('?').next().unwrap_or_default()
    }

    /// A header's value, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A string in the body, by its JSON pointer without the leading slash: `session/subject/id`.
    pub fn str(&self, pointer: &str) -> &str {
        self.value(pointer).as_str().unwrap_or_else(|| panic!("`{pointer}` is no string: {self}"))
    }

    /// A value in the body, by its JSON pointer without the leading slash.
    pub fn value(&self, pointer: &str) -> &Value {
        self.body.pointer(&format!("/{pointer}")).unwrap_or_else(|| panic!("there is no `{pointer}`: {self}"))
    }

    /// The `items` of a listing.
    pub fn items(&self) -> &[Value] {
        self.value("items").as_array().unwrap_or_else(|| panic!("`items` is no list: {self}"))
    }

    /// Demands a status. Panics with the whole answer where it is another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert!(self.status == status, "expected {status}: {self}");
        self
    }

    /// Demands a problem with this status and code, in the whole shape of the contract.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Self {
        assert!(self.status == status && self.body["code"] == code, "expected {status} `{code}`: {self}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self}");
        assert_eq!(self.body["type"], format!("urn:actas:problem:{code}"), "{self}");
        assert_eq!(self.body["status"], status, "{self}");
        assert_eq!(self.body["instance"], self.path(), "{self}");
        assert_eq!(self.body["request_id"].as_str(), self.header("x-request-id"), "{self}");
        for member in ["title", "detail"] {
            assert!(self.body[member].as_str().is_some_and(|text| !text.is_empty()), "no `{member}`: {self}");
        }
        match status {
            401 => assert!(self.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")), "{self}"),
            405 => assert!(self.header("allow").is_some(), "{self}"),
            429 | 503 => assert!(self.header("retry-after").is_some_and(|value| value.parse::<u32>().is_ok()), "{self}"),
            _ => {}
        }
        self
    }

    /// Demands a refusal of an OAuth endpoint with this status and code, in the whole shape of RFC 6749 §5.2.
    #[track_caller]
    pub fn oauth(self, status: u16, error: &str) -> Self {
        assert!(self.status == status && self.body["error"] == error, "expected {status} `{error}`: {self}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self}");
        assert_eq!((self.header("cache-control"), self.header("pragma")), (Some("no-store"), Some("no-cache")), "{self}");
        let members: Vec<&str> = self.body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["error", "error_description"], "{self}");
        let is_allowed = |c: char| matches!(c, ' '..='!' | '#'..='[' | ']'..='~');
        assert!(!self.str("error_description").is_empty() && self.str("error_description").chars().all(is_allowed), "{self}");
        let challenge = self.header("www-authenticate");
        assert_eq!(challenge.is_some_and(|challenge| challenge.starts_with("Basic ")), status == 401, "{self}");
        self
    }

    /// What a refusal of an OAuth endpoint tells people.
    pub fn description(&self) -> &str {
        self.str("error_description")
    }

    /// The codes of a problem's `reasons`, in order.
    pub fn reasons(&self) -> Vec<&str> {
        self.codes_in("reasons", "code")
    }

    /// The pointers of a problem's `errors`, in order.
    pub fn pointers(&self) -> Vec<&str> {
        self.codes_in("errors", "pointer")
    }

    fn codes_in(&self, list: &str, member: &str) -> Vec<&str> {
        let items = self.body[list].as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().map(|item| item[member].as_str().unwrap_or_else(|| panic!("no `{member}` in `{list}`: {self}"))).collect()
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} answered {}", self.request, self.status)?;
        for (name, value) in &self.headers {
            write!(f, "\n{name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
        }
        write!(f, "\n\n{}", self.text)
    }
}
