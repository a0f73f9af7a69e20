//! What can be wrong with decoded input, exactly: serde's complaints kept as values instead of sentences, with the place
//! where each arose.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use crate::domain::error::{Code, Error, FieldError};
use crate::http::problem::Problem;

/// Why a value could not be taken, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    kind: Kind,
    /// The members and indexes that lead to the value, innermost first.
    path: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Unknown,
    Missing,
    Duplicate,
    Invalid { code: &'static str, detail: String },
}

impl Fault {
    fn invalid(code: &'static str, detail: impl Into<String>) -> Self {
        Self { kind: Kind::Invalid { code, detail: detail.into() }, path: Vec::new() }
    }

    /// The same, one level further out: inside `member`.
    #[must_use]
    pub(super) fn inside(mut self, member: impl Into<String>) -> Self {
        self.path.push(member.into());
        self
    }

    /// The problem of a JSON body, naming the place as a JSON Pointer.
    pub(super) fn in_body(self) -> Problem {
        let place = pointer(self.path.iter().rev().map(String::as_str));
        match self.kind {
            Kind::Unknown => {
                let detail = "this body has no such member";
                let errors = vec![FieldError::new(place, Code::UnknownField.as_str(), detail)];
                Error::new(Code::UnknownField, "the body has a member that is not known here; see `errors`").with_errors(errors).into()
            }
            Kind::Missing => Error::invalid_field(place, "required", "must be given").into(),
            Kind::Duplicate => Problem::malformed_at(place, "is given twice"),
            Kind::Invalid { code, detail } => Error::invalid_field(place, code, detail).into(),
        }
    }

    /// The problem of a query, naming the parameter.
    pub(super) fn in_query(self) -> Problem {
        let place = self.path.last().cloned().unwrap_or_default();
        match self.kind {
            Kind::Unknown => unknown_parameter(place),
            Kind::Missing => Error::invalid_field(place, "required", "must be given").into(),
            Kind::Duplicate => Problem::malformed_at(place, "is given twice"),
            Kind::Invalid { code, detail } => Error::invalid_field(place, code, detail).into(),
        }
    }
}

/// 400 `unknown_parameter`, naming it.
pub(super) fn unknown_parameter(name: String) -> Problem {
    let errors = vec![FieldError::new(name, Code::UnknownParameter.as_str(), "there is no such parameter here")];
    Error::new(Code::UnknownParameter, "the query has a parameter that is not known here; see `errors`").with_errors(errors).into()
}

/// A JSON Pointer (RFC 6901) of these members, outermost first.
pub(super) fn pointer<'a>(members: impl Iterator<Item = &'a str>) -> String {
    members.fold(String::new(), |pointer, member| pointer + "/" + &member.replace('~', "~0").replace('/', "~1"))
}

/// What is expected, in the words of JSON and not of Rust.
fn in_plain_words(expected: &dyn Expected) -> String {
    let expected = expected.to_string();
    match expected.as_str() {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, not negative".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        text if text.starts_with("struct ") => "an object".to_owned(),
        text if text.starts_with("a sequence") => "an array".to_owned(),
        text if text.starts_with("a map") => "an object".to_owned(),
        _ => expected,
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}", self.kind, pointer(self.path.iter().rev().map(String::as_str)))
    }
}

impl std::error::Error for Fault {}

/// Never repeats the value itself: it may be a password in the wrong place.
impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::invalid("invalid_value", message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid("wrong_type", format!("must be {}", in_plain_words(expected)))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid("invalid_value", format!("must be {} within its range", in_plain_words(expected)))
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::invalid("invalid_value", format!("must be {}", in_plain_words(expected)))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::invalid("invalid_value", format!("must be one of: {}", expected.join(", ")))
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        Self { kind: Kind::Unknown, path: vec![field.to_owned()] }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { kind: Kind::Missing, path: vec![field.to_owned()] }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self { kind: Kind::Duplicate, path: vec![field.to_owned()] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_escapes_as_rfc_6901_says() {
        assert_eq!(pointer([].into_iter()), "");
        assert_eq!(pointer(["a/b", "m~n", "", "0"].into_iter()), "/a~1b/m~0n//0");
    }
}
