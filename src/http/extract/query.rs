//! Query parameters, strictly: `application/x-www-form-urlencoded` pairs, each name once, all of them known.

use std::borrow::Cow;
use std::collections::HashSet;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::str::FromStr;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::fault::{Fault, unknown_parameter};
use crate::domain::error::Code;
use crate::http::problem::{Problem, Result};
use crate::http::routing::Routes;

/// The request's query, not looked at yet.
///
/// `T` carries `#[serde(deny_unknown_fields)]` and has one field a parameter: strings, numbers, booleans, enums of names,
/// and options of them. `#[serde(flatten)]` would hide the numbers' text from serde: repeat the fields instead.
pub struct Query<T> {
    text: String,
    of: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Query<T> {
    /// Reads the parameters.
    ///
    /// # Errors
    /// 400 `malformed_request` for a parameter given twice, broken percent-encoding, what is not UTF-8, and NUL; 400
    /// `unknown_parameter`; 422 `invalid_request` for a value that can't be, naming the parameter.
    pub fn parse(self) -> Result<T> {
        let mut seen = HashSet::new();
        let pairs: Vec<_> = pairs(&self.text).collect::<Result<_>>()?;
        if let Some((name, _)) = pairs.iter().find(|(name, _)| !seen.insert(name.as_ref())) {
            return Err(Problem::malformed_at(name.as_ref(), "is given twice"));
        }
        let parameters = Parameters { pairs: pairs.into_iter(), current: None };
        T::deserialize(MapAccessDeserializer::new(parameters)).map_err(Fault::in_query)
    }
}

impl<T: 'static> FromRequest for Query<T> {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self { text: request.query_string().to_owned(), of: PhantomData }))
    }
}

/// Refuses parameters that the document doesn't name for this operation, so that one that reads no query at all doesn't
/// ignore one in silence. Asked for every operation: by [`crate::http::middleware::Guards`] where the document requires no
/// token, and by the extractor of the caller, after permission, where it does.
///
/// # Errors
/// 400 `unknown_parameter`; `malformed_request` as [`Query::parse`].
pub fn check_query(request: &HttpRequest) -> Result<()> {
    // Most requests have none, and finding the operation costs more than all that they do here.
    if request.query_string().is_empty() {
        return Ok(());
    }
    let operation = request.app_data::<Routes>().and_then(|routes| routes.operation(request.method(), request.path()));
    match operation {
        Some(operation) => check_declared(request.query_string(), &operation.parameters),
        None => Ok(()),
    }
}

pub(in crate::http) fn check_declared(query: &str, declared: &HashSet<String>) -> Result<()> {
    for pair in pairs(query) {
        let (name, _) = pair?;
        if !declared.contains(name.as_ref()) {
            return Err(unknown_parameter(name.into_owned()));
        }
    }
    Ok(())
}

pub(super) fn pairs(query: &str) -> impl Iterator<Item = Result<Pair<'_>>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name).ok_or_else(|| malformed("the query"))?;
        let value = decode(value).ok_or_else(|| malformed(&name))?;
        Ok((name, value))
    })
}

fn malformed(place: &str) -> Problem {
    let detail = format!("{place}: must be percent-encoded UTF-8 without NUL");
    Problem::new(Code::MalformedRequest, detail)
}

/// Undoes percent-encoding, with `+` for a space; nothing if it is broken, is not UTF-8, or holds NUL.
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => 16 * hex(bytes.next()?)? + hex(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(decoded).ok().filter(|text| !text.contains('\0')).map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

pub(super) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The pairs as serde reads them, whose errors know the parameter in which they arose.
struct Parameters<'a> {
    pairs: std::vec::IntoIter<Pair<'a>>,
    current: Option<Pair<'a>>,
}

impl<'de> MapAccess<'de> for Parameters<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> std::result::Result<Option<K::Value>, Fault> {
        self.current = self.pairs.next();
        let Some((name, _)) = &self.current else { return Ok(None) };
        seed.deserialize(name.as_ref().into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> std::result::Result<V::Value, Fault> {
        let Some((name, value)) = self.current.take() else { return Err(de::Error::custom("a value was read before its name")) };
        seed.deserialize(Parameter(value)).map_err(|fault| fault.inside(name))
    }
}

/// One value as serde reads it: a text that is also whatever it spells.
struct Parameter<'a>(Cow<'a, str>);

impl Parameter<'_> {
    fn read<'de, V: Visitor<'de>, N: FromStr>(
        self,
        visitor: V,
        visit: impl FnOnce(V, N) -> std::result::Result<V::Value, Fault>,
    ) -> std::result::Result<V::Value, Fault> {
        match self.0.parse() {
            Ok(value) => visit(visitor, value),
            Err(_) => Err(de::Error::invalid_type(de::Unexpected::Str(""), &visitor)),
        }
    }
}

macro_rules! spelled {
    ($($method:ident => $visit:ident: $type:ty),+ $(,)?) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Fault> {
            self.read(visitor, |visitor, value: $type| visitor.$visit(value))
        }
    )+ };
}

impl<'de> Deserializer<'de> for Parameter<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Fault> {
        visitor.visit_str(&self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> std::result::Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> std::result::Result<V::Value, Fault> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    spelled! {
        deserialize_bool => visit_bool: bool,
        deserialize_i32 => visit_i32: i32,
        deserialize_i64 => visit_i64: i64,
        deserialize_u8 => visit_u8: u8,
        deserialize_u16 => visit_u16: u16,
        deserialize_u32 => visit_u32: u32,
        deserialize_u64 => visit_u64: u64,
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::domain::ids::UserId;
    use crate::domain::impersonation::ImpersonationStatus;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct List {
        limit: Option<u32>,
        q: Option<String>,
        status: Option<ImpersonationStatus>,
        impersonated: Option<bool>,

        actor: Option<UserId>,
    }

    fn parse(text: &str) -> Result<List> {
        Query { text: text.to_owned(), of: PhantomData }.parse()
    }

    #[test]
    fn parameters_are_read_by_their_names() {
        assert_eq!(parse("").unwrap(), List::default());
        let list = parse("limit=20&q=Zo%C3%AB+%26+co&status=live&impersonated=true&").unwrap();
        assert_eq!(list.q.as_deref(), Some("Zoë & co"));
        assert!(parse("actor=019aa0f0-0000-7000-8000-0000000000aa").unwrap().actor.is_some());
        assert_eq!((list.limit, list.status, list.impersonated), (Some(20), Some(ImpersonationStatus::Live), Some(true)));
    }

    #[test]
    fn what_is_wrong_has_a_code_and_names_the_parameter() {
        for (query, code, name) in [
            ("page=2", Code::UnknownParameter, Some("page")),
            ("limit=1&limit=2", Code::MalformedRequest, Some("limit")),
            ("limit=1&%6Cimit=2", Code::MalformedRequest, Some("limit")),
            ("q=%", Code::MalformedRequest, None),
            ("q=%+1", Code::MalformedRequest, None),
            ("q=%ff", Code::MalformedRequest, None),
            ("q=a%00", Code::MalformedRequest, None),
            ("limit=", Code::InvalidRequest, Some("limit")),
            ("limit=-1", Code::InvalidRequest, Some("limit")),
            ("limit=4294967296", Code::InvalidRequest, Some("limit")),
            ("limit=ten", Code::InvalidRequest, Some("limit")),
            ("status=Live", Code::InvalidRequest, Some("status")),
            ("actor=019AA0F0-0000-7000-8000-0000000000AA", Code::InvalidRequest, Some("actor")),
            ("impersonated=1", Code::InvalidRequest, Some("impersonated")),
        ] {
            let problem = parse(query).unwrap_err();
            let told = problem.error().errors().first().map(|error| error.pointer.as_str());
            assert_eq!((problem.error().code(), told), (code, name), "{query}");
        }
    }
}
