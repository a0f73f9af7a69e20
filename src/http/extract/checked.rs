//! Several invalid values at once.

use crate::domain::error::{Error, FieldError};
use crate::domain::text::TextError;
use crate::http::problem::Result;

/// Why one value is refused, before it is known where in the request it stands.
pub trait FieldRefusal {
    fn into_field_error(self, pointer: &str) -> FieldError;
}

impl FieldRefusal for TextError {
    fn into_field_error(self, pointer: &str) -> FieldError {
        FieldError::new(pointer, self.code, self.detail)
    }
}

/// A code and a sentence.
impl FieldRefusal for (&'static str, &'static str) {
    fn into_field_error(self, pointer: &str) -> FieldError {
        FieldError::new(pointer, self.0, self.1)
    }
}

/// Gathers what is wrong with a body's values, so that one answer names it all:
///
/// ```text
/// let mut checked = Checked::new();
/// let title = checked.field("/title", Title::parse(&body.title));
/// let ticket = checked.optional("/ticket", body.ticket.as_deref().map(Ticket::parse));
/// let request = checked.finish(|| Some(Request { title: title?, ticket }))?;
/// ```
#[derive(Debug, Default)]
pub struct Checked {
    errors: Vec<FieldError>,
}

impl Checked {
    pub fn new() -> Self {
        Self::default()
    }

    /// The value, or nothing: then [`Checked::finish`] will refuse.
    pub fn field<T>(&mut self, pointer: &str, parsed: Result<T, impl FieldRefusal>) -> Option<T> {
        parsed.map_err(|refusal| self.errors.push(refusal.into_field_error(pointer))).ok()
    }

    /// As [`Checked::field`], for a value that may be left out: `None` is as good as any.
    pub fn optional<T>(&mut self, pointer: &str, parsed: Option<Result<T, impl FieldRefusal>>) -> Option<T> {
        parsed.and_then(|parsed| self.field(pointer, parsed))
    }

    /// Notes that something is wrong with what stands at `pointer`.
    pub fn refuse(&mut self, pointer: &str, refusal: impl FieldRefusal) {
        self.errors.push(refusal.into_field_error(pointer));
    }

    /// The whole, put together if all its parts were taken.
    ///
    /// # Errors
    /// 422 `invalid_request` with everything that was refused.
    pub fn finish<T>(self, whole: impl FnOnce() -> Option<T>) -> Result<T> {
        if !self.errors.is_empty() {
            return Err(Error::invalid(self.errors).into());
        }
        whole().ok_or_else(|| Error::internal("a value is missing that nobody refused").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::error::Code;
    use crate::domain::text::{Email, Title};

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let mut checked = Checked::new();
        let title = checked.field("/title", Title::parse(""));
        let email = checked.field("/email", Email::parse("nobody"));
        let none: Option<Title> = checked.optional("/ticket", None::<Result<Title, TextError>>);
        let problem = checked.finish(|| title.zip(email)).unwrap_err();
        assert!(none.is_none());
        assert_eq!(problem.error().code(), Code::InvalidRequest);
        let told: Vec<_> = problem.error().errors().iter().map(|e| (e.pointer.as_str(), e.code.as_str())).collect();
        assert_eq!(told, [("/title", "too_short"), ("/email", "invalid_email")]);
    }

    #[test]
    fn a_refused_option_is_no_absent_one() {
        let mut checked = Checked::new();
        let ticket = checked.optional("/ticket", Some(Title::parse("")));
        assert!(checked.finish(|| Some(ticket)).is_err());
    }
}
