//! The document: fresh, complete, true. That every answer is as it says is checked at every answer that any test gets.

use std::collections::BTreeSet;

use actas::domain::error::Code;
use actas::domain::operation;
use actas::http::app::api_document;
use actas::http::document::to_json;
use actas::http::problem::status;
use serde_json::{Value, json};

use crate::harness::document::{COMMITTED, document, faults, operations, resolved};
use crate::harness::{Answer, Office, Setup};

api_tests! {
    [sqlite] the_committed_document_is_the_one_that_the_routes_make,
    [sqlite] the_served_document_is_the_committed_one,
    [sqlite] the_document_is_only_read,
    [sqlite] without_its_operations_the_served_document_lacks_only_them,
    [sqlite] every_operation_says_what_it_is,
    [sqlite] an_operation_needs_a_token_if_it_has_requirements,
    [sqlite] every_code_appears_with_its_status,
    [sqlite] every_example_is_valid,
    [sqlite] example_problems_are_what_the_server_answers,
    [sqlite] the_pages_of_the_documentation_need_nothing_from_elsewhere,
}

fn the_committed_document_is_the_one_that_the_routes_make(_: Setup) {
    let made = to_json(&api_document()).unwrap();
    assert!(made == COMMITTED, "openapi/openapi.json is stale: cargo run -- openapi > openapi/openapi.json");
}

fn the_served_document_is_the_committed_one(office: &Office) {
    let served = office.anonymous().get("/openapi.json").expect(200);
    assert_eq!(served.header("content-type"), Some("application/json"));
    assert!(served.text == COMMITTED, "served is another document");
}

fn the_document_is_only_read(office: &Office) {
    let refused = office.anonymous().post_empty("/openapi.json").problem(405, "method_not_allowed");
    assert_eq!(refused.header("allow"), Some("GET, HEAD"));
    let head = office.anonymous().request("HEAD", "/openapi.json").send().expect(200);
    assert_eq!((head.text.as_str(), head.header("content-length")), ("", Some(COMMITTED.len().to_string().as_str())));
}

fn without_its_operations_the_served_document_lacks_only_them(setup: Setup) {
    let office = setup.with("OPS_BIND", "127.0.0.1:0").open();
    let served = office.anonymous().get("/openapi.json").expect(200);
    let mut expected = document()["paths"].clone();
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert!(expected.as_object_mut().unwrap().remove(path).is_some(), "{path}");
    }
    assert_eq!(served.body["paths"], expected);
}

fn every_operation_says_what_it_is(_: Setup) {
    let tags: Vec<&Value> = document()["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations() {
        let text = |member: &str| {
            operation[member].as_str().filter(|text| !text.is_empty()).unwrap_or_else(|| panic!("{method} {path}: no {member}"))
        };
        let summary = text("summary");
        assert!(!summary.contains('\n') && !summary.ends_with('.'), "{summary}");
        assert!(text("description").ends_with('.'), "{summary}");
        assert!(ids.insert(text("operationId")), "{summary}: its name is taken");
        let its_tags = operation["tags"].as_array().unwrap();
        assert!(its_tags.len() == 1 && tags.contains(&&its_tags[0]), "{summary}: {its_tags:?}");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["description"].is_string(), "{summary}: {parameter}");
        }
    }
    assert_eq!(ids.len(), operations().count());
}

fn an_operation_needs_a_token_if_it_has_requirements(_: Setup) {
    let secured = operations().filter(|(_, _, operation)| operation["security"] == json!([{ "bearer": [] }]));
    let secured: BTreeSet<_> = secured.map(|(_, _, operation)| operation["operationId"].as_str().unwrap()).collect();
    let required: BTreeSet<_> = operation::ALL.iter().map(|requirements| requirements.id).collect();
    assert_eq!(secured, required);
}

/// The codes of a problem response.
fn codes_of(response: &Value) -> Vec<&str> {
    let codes = &response["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]["code"]["enum"];
    codes.as_array().unwrap_or_else(|| panic!("no codes: {response}")).iter().map(|code| code.as_str().unwrap()).collect()
}

fn every_code_appears_with_its_status(_: Setup) {
    let mut seen = BTreeSet::new();
    for (method, path, operation) in operations() {
        for (documented, response) in operation["responses"].as_object().unwrap() {
            if documented.as_str() < "400" {
                continue;
            }
            let response = resolved(response);
            if path.starts_with("/oauth/") && response["content"].get("application/problem+json").is_none() {
                // A refusal as RFC 6749 has it, which is no problem.
                assert!(response["content"]["application/json"].is_object(), "{method} {path}: {response}");
                continue;
            }
            for code in codes_of(response) {
                let known = Code::parse(code).unwrap_or_else(|| panic!("{method} {path}: {code}"));
                assert_eq!(status(known).as_str(), documented, "{method} {path}: {code}");
                seen.insert(known);
            }
        }
    }
    // What an address answers that does not know the method is no operation's answer.
    seen.insert(Code::MethodNotAllowed);
    assert_eq!(seen, Code::ALL.iter().copied().collect());
}

fn every_example_is_valid(_: Setup) {
    let mut count = 0;
    check_examples(document(), "", &mut count);
    assert!(count > 50, "only {count}");
}

/// Judges the examples of every schema, and of everything that has one.
fn check_examples(value: &Value, at: &str, count: &mut usize) {
    if let Some(object) = value.as_object() {
        let schema = object.get("schema").unwrap_or(value);
        let many = object.get("examples");
        let listed = many.and_then(Value::as_array).into_iter().flatten();
        let named = many.and_then(Value::as_object).into_iter().flat_map(|named| named.values()).map(|example| &example["value"]);
        for example in listed.chain(named).chain(object.get("example")) {
            let faults = faults(schema, example);
            assert!(faults.is_empty(), "{at}: {faults:#?}");
            *count += 1;
        }
        for (name, member) in object.iter().filter(|(name, _)| !matches!(name.as_str(), "example" | "examples")) {
            check_examples(member, &format!("{at}/{name}"), count);
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check_examples(item, &format!("{at}/{index}"), count);
    }
}

/// The example of a problem with this code, without what is of one request.
fn example_of(code: &str) -> Value {
    let responses = document()["components"]["responses"].as_object().unwrap();
    let mut examples = responses.values().map(|response| &response["content"]["application/problem+json"]["examples"][code]["value"]);
    without_the_request(examples.find(|example| !example.is_null()).unwrap_or_else(|| panic!("no example of {code}")).clone())
}

fn without_the_request(mut problem: Value) -> Value {
    for member in ["instance", "request_id"] {
        assert!(problem.as_object_mut().unwrap().remove(member).is_some(), "{problem}");
    }
    problem
}

fn example_problems_are_what_the_server_answers(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let gone = office.author();
    gone.log_out().expect(204);
    let article = |title: &str| json!({ "title": title, "abstract": "", "body": "" });
    let draft = editor.post("/v1/articles", article("On tides")).expect(201);
    let draft = format!("/v1/articles/{}", draft.str("id"));
    for comment in 0..3 {
        editor.patch(&draft, json!({ "body": comment.to_string() })).expect(200);
    }
    let (acting, looking) = (office.impersonate(&admin, &editor), office.impersonate_with(&admin, &editor, json!({ "mode": "read_only" })));
    let unproven = office.impersonate(&admin, &editor);
    let nobody = office.anonymous();
    let mut other = article("x");
    other["colour"] = json!("blue");
    let answers = [
        ("credentials_missing", nobody.get("/v1/articles")),
        ("invalid_credentials", nobody.post("/v1/auth/login", json!({ "email": editor.email, "password": "wrong" }))),
        ("invalid_token", nobody.with_token("a.b.c").get("/v1/me")),
        ("session_ended", gone.get("/v1/me")),
        ("restore_proof_required", unproven.post("/v1/auth/logout", json!({}))),
        ("refresh_token_invalid", nobody.post("/v1/auth/refresh", json!({ "refresh_token": "x" }))),
        ("unknown_parameter", editor.get("/v1/articles?page=2")),
        ("unknown_field", editor.post("/v1/articles", other)),
        ("malformed_request", editor.request("POST", "/v1/articles").body("application/json", r#"{"title":x"#).send()),
        ("unsupported_media_type", editor.request("POST", "/v1/articles").body("text/plain", "x").send()),
        ("payload_too_large", editor.request("POST", "/v1/articles").body("application/json", vec![b' '; 2 << 20]).send()),
        ("invalid_request", editor.post("/v1/articles", article(&"x".repeat(201)))),
        ("not_found", editor.get("/v1/articles/019aa0f0-0000-7000-8000-0000000000aa")),
        ("version_mismatch", editor.request("PATCH", &draft).header("If-Match", "\"3\"").json(&json!({ "body": "x" })).send()),
        ("missing_permission", editor.get("/v1/users")),
        ("forbidden_under_impersonation", acting.put("/v1/me/password", json!({}))),
        ("read_only_impersonation", looking.post("/v1/articles", article("x"))),
        ("email_taken", admin.post("/v1/users", json!({ "email": editor.email, "display_name": "Ed", "role": "author" }))),
    ];
    for (code, answer) in answers {
        let answered: Answer = answer.problem(status(Code::parse(code).unwrap()).as_u16(), code);
        assert_eq!(example_of(code), without_the_request(answered.body), "{code}");
    }
}

fn the_pages_of_the_documentation_need_nothing_from_elsewhere(office: &Office) {
    let nobody = office.anonymous();
    let moved = nobody.get("/docs").expect(308);
    assert_eq!(moved.header("location"), Some("docs/"));

    let page = nobody.get("/docs/").expect(200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"), "{page}");
    let policy = page.header("content-security-policy").unwrap();
    for part in
        ["default-src 'none'", "script-src 'self'", "style-src 'self' 'unsafe-inline'", "img-src 'self' data:", "connect-src 'self'"]
    {
        assert!(policy.contains(part), "{part}: {policy}");
    }
    assert!(!page.text.contains("http:") && !page.text.contains("https:"), "{page}");
    for script in page.text.split("<script").skip(1) {
        assert!(script.trim_start().starts_with("src="), "the policy forbids inline scripts: {page}");
    }
    let parts: Vec<&str> = page.text.split("src=\"").skip(1).chain(page.text.split("href=\"").skip(1)).collect();
    assert!(parts.len() >= 5, "{page}");
    let names = parts.iter().map(|part| part.split('"').next().unwrap().trim_start_matches("./"));
    for name in names.filter(|name| !name.ends_with(".png")) {
        nobody.get(&format!("/docs/{name}")).expect(200);
    }
    let start = nobody.get("/docs/swagger-initializer.js").expect(200);
    assert!(start.text.contains("\"../openapi.json\"") && !start.text.contains("http"), "{start}");
}
