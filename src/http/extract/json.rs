//! JSON, strictly: one value, no duplicate members, no NUL, and a place for every complaint.
//!
//! Two steps. The text becomes a tree, and what no tree can show (duplicates, rubbish behind the value) is refused on the
//! way: 400. Then the tree becomes a wire struct through a deserializer that remembers where it is: 400 for a member that
//! is not known, 422 for one that is missing or of the wrong kind.

use std::cell::RefCell;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Number, Value};

use super::fault::{Fault, pointer};
use crate::domain::error::Code;
use crate::http::problem::{Problem, Result};

/// Reads the one JSON value that `bytes` hold as a `T`.
///
/// # Errors
/// 400 `malformed_request` for what is not JSON in UTF-8 (RFC 8259), nests deeper than 128 levels, holds NUL, or says a
/// member twice; 400 `unknown_field`; 422 `invalid_request` for a missing member and for a value of the wrong type, the
/// body itself included: a body that is no object has the pointer `""`.
pub(super) fn from_slice<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T> {
    let tree = parse(bytes)?;
    T::deserialize(Node(tree)).map_err(Fault::in_body)
}

fn parse(bytes: &[u8]) -> Result<Value> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Problem::new(Code::MalformedRequest, format!("the body is not UTF-8, from byte {} on", error.valid_up_to())))?;
    let place = Place::default();
    let mut json = serde_json::Deserializer::from_str(text);
    let value = Tree(&place).deserialize(&mut json).and_then(|value| json.end().map(|()| value));
    value.map_err(|error| match place.refused.into_inner() {
        Some(refusal) => Problem::malformed_at(refusal.pointer, refusal.detail),
        // Only the position: the text itself may hold a password.
        None => {
            let at = format!("line {}, column {}", error.line(), error.column());
            let what = if error.is_eof() { "the body ends too early" } else { "the body is not well-formed JSON" };
            Problem::new(Code::MalformedRequest, format!("{what}: {at}"))
        }
    })
}

/// Where the parser is, and what it refused there that is well-formed JSON.
#[derive(Default)]
struct Place {
    path: RefCell<Vec<String>>,
    refused: RefCell<Option<Refusal>>,
}

struct Refusal {
    pointer: String,
    detail: &'static str,
}

impl Place {
    fn refuse<E: de::Error>(&self, detail: &'static str) -> E {
        let pointer = pointer(self.path.borrow().iter().map(String::as_str));
        self.refused.replace(Some(Refusal { pointer, detail }));
        E::custom(detail)
    }

    fn check_text<E: de::Error>(&self, text: &str) -> std::result::Result<(), E> {
        if text.contains('\0') { Err(self.refuse("must not contain NUL")) } else { Ok(()) }
    }

    /// Runs `read` one level further in.
    fn within<T, E>(&self, member: String, read: impl FnOnce() -> std::result::Result<T, E>) -> std::result::Result<T, E> {
        self.path.borrow_mut().push(member);
        let result = read();
        self.path.borrow_mut().pop();
        result
    }
}

/// Reads any value.
#[derive(Clone, Copy)]
struct Tree<'a>(&'a Place);

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Value, E> {
        self.0.check_text(text)?;
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = self.0.within(values.len().to_string(), || items.next_element_seed(self))? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> std::result::Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = self.0.within(name.clone(), || {
                self.0.check_text(&name)?;
                if object.contains_key(&name) {
                    return Err(self.0.refuse("is given twice"));
                }
                members.next_value_seed(self)
            })?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// A tree as serde reads it, whose errors know where they arose.
struct Node(Value);

impl<'de> Deserializer<'de> for Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Fault> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => visit_number(&number, visitor),
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => visitor.visit_seq(Items { items: items.into_iter().enumerate() }),
            Value::Object(members) => visitor.visit_map(Members { members: members.into_iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Fault> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> std::result::Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    /// A struct is an object: serde would take an array of the members' values too.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> std::result::Result<V::Value, Fault> {
        match self.0 {
            Value::Object(_) => self.deserialize_any(visitor),
            _ => Err(de::Error::invalid_type(de::Unexpected::Other("no object"), &"an object")),
        }
    }

    /// The names of an enum without data, which is all that our bodies have.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> std::result::Result<V::Value, Fault> {
        match self.0 {
            Value::String(name) => visitor.visit_enum(name.into_deserializer()),
            _ => Err(de::Error::invalid_type(de::Unexpected::Other("no string"), &"a string")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

/// JSON knows no integers: `1.0` is 1 (JSON Schema 2020-12 §6.1.1), up to where floating point is exact.
fn visit_number<'de, V: Visitor<'de>>(number: &Number, visitor: V) -> std::result::Result<V::Value, Fault> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match (number.as_u64(), number.as_i64(), number.as_f64()) {
        (Some(value), _, _) => visitor.visit_u64(value),
        (_, Some(value), _) => visitor.visit_i64(value),
        #[expect(clippy::cast_possible_truncation, reason = "a whole number within 2^53")]
        (_, _, Some(value)) if value.fract() == 0.0 && value.abs() <= EXACT => visit_number(&Number::from(value as i64), visitor),
        (_, _, value) => visitor.visit_f64(value.unwrap_or(f64::NAN)),
    }
}

struct Items {
    items: std::iter::Enumerate<std::vec::IntoIter<Value>>,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> std::result::Result<Option<T::Value>, Fault> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        seed.deserialize(Node(value)).map(Some).map_err(|fault| fault.inside(index.to_string()))
    }
}

struct Members {
    members: serde_json::map::IntoIter,
    value: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Members {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> std::result::Result<Option<K::Value>, Fault> {
        let Some((name, value)) = self.members.next() else { return Ok(None) };
        let key = seed.deserialize(name.as_str().into_deserializer()).map(Some);
        self.value = Some((name, value));
        key
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> std::result::Result<T::Value, Fault> {
        let Some((name, value)) = self.value.take() else { return Err(de::Error::custom("a value was read before its name")) };
        seed.deserialize(Node(value)).map_err(|fault| fault.inside(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::extract::Patch;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        title: String,
        #[serde(default)]
        count: Option<u32>,
        #[serde(default)]
        inner: Vec<Inner>,
        #[serde(default)]
        mode: Option<crate::domain::impersonation::Mode>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        name: String,
    }

    fn refusal(json: &str) -> (Code, String) {
        let problem = from_slice::<Outer>(json.as_bytes()).unwrap_err();
        let pointer = problem.error().errors().first().map_or("-".to_owned(), |error| error.pointer.clone());
        (problem.error().code(), pointer)
    }

    #[test]
    fn what_is_wrong_has_a_code_and_a_place() {
        for (json, code, pointer) in [
            (r#"{"title":"a","#, Code::MalformedRequest, "-"),
            (r#"{"title":"a"} x"#, Code::MalformedRequest, "-"),
            (r#"{"title":"a"}{}"#, Code::MalformedRequest, "-"),
            ("{\"title\":\"\u{0}\"}", Code::MalformedRequest, "-"),
            (r#"{"title":"\u0000"}"#, Code::MalformedRequest, "/title"),
            (r#"{"title":"\ud800"}"#, Code::MalformedRequest, "-"),
            (r#"{"title":"a","title":"b"}"#, Code::MalformedRequest, "/title"),
            (r#"{"title":"a","inner":[{"name":"a","name":"b"}]}"#, Code::MalformedRequest, "/inner/0/name"),
            (r#"{"title":"a","count":1e999}"#, Code::MalformedRequest, "-"),
            (r#"{"title":"a","x/y":1}"#, Code::UnknownField, "/x~1y"),
            (r#"{"title":"a","inner":[{"name":"a"},{"nom":"a"}]}"#, Code::UnknownField, "/inner/1/nom"),
            (r#"{"count":1}"#, Code::InvalidRequest, "/title"),
            (r#"{"title":"a","inner":[{}]}"#, Code::InvalidRequest, "/inner/0/name"),
            (r#"{"title":null}"#, Code::InvalidRequest, "/title"),
            (r#"{"title":5}"#, Code::InvalidRequest, "/title"),
            (r#"{"title":"a","count":-1}"#, Code::InvalidRequest, "/count"),
            (r#"{"title":"a","count":1.5}"#, Code::InvalidRequest, "/count"),
            (r#"{"title":"a","count":4294967296}"#, Code::InvalidRequest, "/count"),
            (r#"{"title":"a","count":"1"}"#, Code::InvalidRequest, "/count"),
            (r#"{"title":"a","inner":["x"]}"#, Code::InvalidRequest, "/inner/0"),
            (r#"{"title":"a","mode":"none"}"#, Code::InvalidRequest, "/mode"),
            (r#"{"title":"a","mode":{"full":null}}"#, Code::InvalidRequest, "/mode"),
            (r#"["a"]"#, Code::InvalidRequest, ""),
            (r#""a""#, Code::InvalidRequest, ""),
            ("null", Code::InvalidRequest, ""),
        ] {
            assert_eq!(refusal(json), (code, pointer.to_owned()), "{json}");
        }
    }

    #[test]
    fn a_bottomless_body_is_refused_and_does_no_harm() {
        let problem = from_slice::<Outer>("[".repeat(100_000).as_bytes()).unwrap_err();
        assert_eq!(problem.error().code(), Code::MalformedRequest);
    }

    #[test]
    fn a_value_in_the_wrong_place_is_not_repeated() {
        let problem = from_slice::<Outer>(br#"{"title":"a","count":"hunter2","mode":"hunter2"}"#).unwrap_err();
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
        let problem = from_slice::<Outer>(br#"{"title":"hunter2","#).unwrap_err();
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_point() {
        assert_eq!(from_slice::<Outer>(br#"{"title":"a","count":3.0}"#).unwrap().count, Some(3));
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Change {
        #[serde(default)]
        title: Patch<String>,
        #[serde(default)]
        editor: Patch<Option<String>>,
    }

    #[test]
    fn a_patch_tells_absent_from_null() {
        let change: Change = from_slice(b"{}").unwrap();
        assert_eq!((change.title, change.editor), (Patch::Absent, Patch::Absent));
        let change: Change = from_slice(br#"{"title":"a","editor":null}"#).unwrap();
        assert_eq!((change.title, change.editor), (Patch::Value("a".to_owned()), Patch::Value(None)));
        let problem = from_slice::<Change>(br#"{"title":null}"#).unwrap_err();
        assert_eq!((problem.error().code(), problem.error().errors()[0].pointer.as_str()), (Code::InvalidRequest, "/title"));
    }
}
