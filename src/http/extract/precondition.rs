//! `If-Match` (RFC 9110 §13.1.1).

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest};

use crate::domain::error::{self, Code, Error};
use crate::http::problem::{Problem, Result};

/// The request's `If-Match`, not looked at yet.
pub struct IfMatch {
    /// Every such header, in order; `None` for one that is not text.
    lines: Vec<Option<String>>,
}

impl IfMatch {
    /// The versions that the caller has seen.
    ///
    /// # Errors
    /// 400 `malformed_request` for what is neither `*` nor a list of entity tags.
    pub fn expected(&self) -> Result<Expected> {
        let malformed = || Problem::malformed_at("If-Match", r#"must be * or a list of entity tags such as "3""#);
        if self.lines.is_empty() {
            return Ok(Expected::Any);
        }
        let lines: Option<Vec<&str>> = self.lines.iter().map(Option::as_deref).collect();
        let list = lines.ok_or_else(malformed)?.join(",");
        if list.trim() == "*" {
            return Ok(Expected::Any);
        }
        parse_tags(&list).map(Expected::OneOf).ok_or_else(malformed)
    }
}

impl FromRequest for IfMatch {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let lines = request.headers().get_all(header::IF_MATCH).map(|value| value.to_str().ok().map(str::to_owned)).collect();
        ready(Ok(Self { lines }))
    }
}

/// The version that a change expects to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Whatever is there: no `If-Match`, or `*`.
    Any,
    /// One of these. May be empty: a list of tags that we never gave out.
    OneOf(Vec<i64>),
}

impl Expected {
    /// Checks the version that is there.
    ///
    /// # Errors
    /// 412 `version_mismatch`.
    pub fn check(&self, current: i64) -> error::Result<()> {
        match self {
            Self::Any => Ok(()),
            Self::OneOf(versions) if versions.contains(&current) => Ok(()),
            Self::OneOf(_) => {
                Err(Error::new(Code::VersionMismatch, format!("this has changed since you read it: it is at version {current} now")))
            }
        }
    }
}

/// The versions in a list of entity tags (RFC 9110 §8.8.3), empty elements allowed (§5.6.1); nothing if it is not one. Weak
/// tags and those that are no version of ours are well-formed and match nothing.
fn parse_tags(list: &str) -> Option<Vec<i64>> {
    let mut versions = Vec::new();
    let mut any = false;
    let mut rest = list.trim_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let (weak, tag) = rest.strip_prefix("W/").map_or((false, rest), |tag| (true, tag));
        let (tag, after) = tag.strip_prefix('"')?.split_once('"')?;
        if !tag.bytes().all(|b| b == 0x21 || (0x23..=0x7e).contains(&b) || b >= 0x80) {
            return None;
        }
        // Only our own spelling of a version: "03" is another tag.
        versions.extend(tag.parse::<i64>().ok().filter(|version| !weak && version.to_string() == tag));
        any = true;
        let after = after.trim_start_matches([' ', '\t']);
        rest = match after.strip_prefix(',') {
            Some(next) => next.trim_start_matches([' ', '\t', ',']),
            None if after.is_empty() => after,
            None => return None,
        };
    }
    any.then_some(versions)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    async fn expected(lines: &[&str]) -> Result<Expected> {
        let request = lines.iter().fold(TestRequest::patch(), |request, line| request.append_header((header::IF_MATCH, *line)));
        IfMatch::extract(&request.to_http_request()).await.unwrap().expected()
    }

    #[actix_web::test]
    async fn a_list_of_strong_tags_names_versions() {
        assert_eq!(expected(&[]).await.unwrap(), Expected::Any);
        assert_eq!(expected(&[" * "]).await.unwrap(), Expected::Any);
        for (lines, versions) in [
            (&[r#""3""#][..], vec![3]),
            (&[r#""3", "4""#], vec![3, 4]),
            (&[r#""3""#, r#""4""#], vec![3, 4]),
            (&[r#"W/"3", "x,y", "03", "+3", ,"#], vec![]),
        ] {
            assert_eq!(expected(lines).await.unwrap(), Expected::OneOf(versions), "{lines:?}");
        }
    }

    #[actix_web::test]
    async fn what_is_no_tag_is_refused() {
        for line in ["3", r#""3"#, r#""3" "4""#, r#"w/"3""#, "", ",", r#"*, "3""#, r#""a b""#] {
            let problem = expected(&[line]).await.unwrap_err();
            assert_eq!(problem.error().code(), Code::MalformedRequest, "{line}");
        }
    }

    #[test]
    fn a_stale_version_is_refused() {
        assert!(Expected::Any.check(7).is_ok());
        assert!(Expected::OneOf(vec![6, 7]).check(7).is_ok());
        assert_eq!(Expected::OneOf(vec![]).check(7).unwrap_err().code(), Code::VersionMismatch);
    }
}
