//! The committed OpenAPI document, and whether a value or an answer is what it says.

use std::sync::OnceLock;

use serde_json::Value;

use super::answer::Answer;

/// `openapi/openapi.json` as it is committed.
pub const COMMITTED: &str = include_str!("../../../openapi/openapi.json");

/// The committed document.
pub fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| serde_json::from_str(COMMITTED).unwrap())
}

/// What stands behind a `$ref`; anything else is itself.
pub fn resolved(value: &Value) -> &Value {
    match value["$ref"].as_str() {
        Some(reference) => {
            let target = document().pointer(reference.trim_start_matches('#'));
            resolved(target.unwrap_or_else(|| panic!("`{reference}` leads nowhere")))
        }
        None => value,
    }
}

/// Every operation: method, path, and what the document says of it.
pub fn operations() -> impl Iterator<Item = (String, &'static str, &'static Value)> {
    let paths = document()["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (method.to_uppercase(), path.as_str(), operation))
    })
}

fn matches(template: &str, path: &str) -> bool {
    let (mut given, mut wanted) = (path.split('/'), template.split('/'));
    loop {
        match (given.next(), wanted.next()) {
            (None, None) => return true,
            (Some(given), Some(wanted)) if wanted == given || (wanted == "{id}" && !given.is_empty()) => {}
            _ => return false,
        }
    }
}

/// Demands that an answer to an operation of the document is one that the document tells of: its status, its code, its type, its shape, its headers.
pub fn demand_as_documented(method: &str, path: &str, answer: &Answer) {
    let Some((_, _, operation)) = operations().find(|(known, template, _)| known == method && matches(template, path)) else {
        return;
    };
    if answer.status == 413 && operation["requestBody"].is_null() {
        // Of a body that nobody asked for.
        return;
    }
    let response = resolved(&operation["responses"][answer.status.to_string()]);
    if answer.status == 404 && response.is_null() {
        // With `ACTAS_OPS_BIND`, each of the two ports serves a part of the document.
        return;
    }
    assert!(!response.is_null(), "the document does not know this status here: {answer}");
    for name in response["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
        let is_conditional = name == "Link" || name.starts_with("Actas-") || (name == "WWW-Authenticate" && answer.status == 403);
        assert!(is_conditional || answer.header(name).is_some(), "the document promises `{name}`: {answer}");
    }
    // RFC 6750 §3.1: a 403 asks for another token only where another scope would do.
    let asks = answer.status == 403 && answer.header("www-authenticate").is_some();
    assert_eq!(asks, answer.status == 403 && answer.body["code"] == "insufficient_scope", "{answer}");
    match response["content"].as_object() {
        None => assert!(answer.text.is_empty(), "the document knows no body here: {answer}"),
        Some(content) => {
            let essence = answer.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
            let media = content.get(essence).unwrap_or_else(|| panic!("the document does not know this type here: {answer}"));
            let value = if essence.ends_with("json") { answer.body.clone() } else { Value::String(answer.text.clone()) };
            let faults = faults(&media["schema"], &value);
            assert!(faults.is_empty(), "not as documented: {faults:#?}: {answer}");
        }
    }
}

/// What is wrong with `value` by `schema`. Knows the keywords that the document uses, and panics at others.
pub fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    judge(schema, value, "", &mut faults);
    faults
}

fn judge(schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    let keywords = schema.as_object().unwrap_or_else(|| panic!("no schema: {schema}"));
    for (keyword, wanted) in keywords {
        let holds = match keyword.as_str() {
            "$ref" => {
                judge(resolved(schema), value, at, faults);
                true
            }
            "type" => match wanted {
                Value::Array(types) => types.iter().any(|wanted| is_a(wanted, value)),
                one => is_a(one, value),
            },
            "enum" => wanted.as_array().unwrap().contains(value),
            "required" => value
                .as_object()
                .is_none_or(|object| wanted.as_array().unwrap().iter().all(|name| object.contains_key(name.as_str().unwrap()))),
            "properties" => {
                for (name, schema) in wanted.as_object().unwrap() {
                    if let Some(member) = value.get(name) {
                        judge(schema, member, &format!("{at}/{name}"), faults);
                    }
                }
                true
            }
            "additionalProperties" => additional_are(wanted, keywords.get("properties"), value, at, faults),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    judge(wanted, item, &format!("{at}/{index}"), faults);
                }
                true
            }
            "allOf" => {
                wanted.as_array().unwrap().iter().for_each(|schema| judge(schema, value, at, faults));
                true
            }
            "oneOf" => wanted.as_array().unwrap().iter().filter(|schema| self::faults(schema, value).is_empty()).count() == 1,
            "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= wanted.as_f64().unwrap()),
            "minLength" => length(value).is_none_or(|length| length >= wanted.as_u64().unwrap()),
            "maxLength" => length(value).is_none_or(|length| length <= wanted.as_u64().unwrap()),
            "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= wanted.as_u64().unwrap()),
            "format" => value.as_str().is_none_or(|text| has_format(wanted.as_str().unwrap(), text)),
            // Patterns are for clients; what they forbid is tested where it is refused.
            "pattern" | "description" | "example" | "examples" | "default" | "discriminator" | "propertyNames" => true,
            other => panic!("what does `{other}` mean? {schema}"),
        };
        if !holds {
            faults.push(format!("`{at}`: {keyword} {wanted}: {value}"));
        }
    }
}

fn additional_are(wanted: &Value, properties: Option<&Value>, value: &Value, at: &str, faults: &mut Vec<String>) -> bool {
    let is_known = |name: &str| properties.is_some_and(|known| known.get(name).is_some());
    let others: Vec<_> = value.as_object().into_iter().flatten().filter(|(name, _)| !is_known(name)).collect();
    if wanted == &Value::Bool(false) {
        return others.is_empty();
    }
    for (name, member) in others {
        judge(wanted, member, &format!("{at}/{name}"), faults);
    }
    true
}

fn is_a(wanted: &Value, value: &Value) -> bool {
    match wanted.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("what is `{other}`?"),
    }
}

fn length(value: &Value) -> Option<u64> {
    value.as_str().map(|text| text.chars().count() as u64)
}

fn has_format(format: &str, text: &str) -> bool {
    match format {
        "uuid" => uuid::Uuid::try_parse(text).is_ok_and(|id| id.hyphenated().to_string() == text),
        "date-time" => text.ends_with('Z') && chrono::DateTime::parse_from_rfc3339(text).is_ok(),
        "email" => text.contains('@'),
        "password" | "int32" | "int64" => true,
        other => panic!("what is the format `{other}`?"),
    }
}
