//! The authorization matrix: every operation of the document, by everyone.

use std::collections::BTreeSet;

use actas::http::app::api_document;
use serde_json::{Value, json};

use super::articles::{assign, draft, step};
use crate::harness::{Acting, Answer, Caller, Office, Person};

api_tests! {
    every_operation_answers_everyone_as_the_table_says,
    [sqlite] every_operation_of_the_document_has_a_row,
}

/// How an answer is written in the table: a status where it is a success, a code where it is a refusal.
type Row = (&'static str, &'static str, [&'static str; 10]);

/// Who asks: the columns of the table.
const COLUMNS: [&str; 10] =
    ["anonymous", "author", "other author", "editor", "other editor", "support", "administrator", "impersonating", "read-only", "ended"];

const NONE: &str = "credentials_missing";
const PERM: &str = "missing_permission";
const WITHHELD: &str = "forbidden_under_impersonation";
const READ: &str = "read_only_impersonation";
const ENDED: &str = "session_ended";
const FROZEN: &str = "impersonation_ended";
const HIDDEN: &str = "not_found";
const REFUSED: &str = "action_refused";
const NO_START: &str = "impersonation_refused";

/// The article is the author's, under review by the editor; whoever impersonates acts as that editor, and the user in a path is the other author.
/// The session and the impersonation in a path belong to nobody who asks, but for the administrator who started it.
#[rustfmt::skip]
const TABLE: [Row; 47] = [
    // method and path                              anonymous  author    other     editor    other     support   admin     acting    reading   ended
    ("GET",    "/healthz",                         ["200",     "200",    "200",    "200",    "200",    "200",    "200",    "200",    "200",    "200"]),
    ("GET",    "/readyz",                          ["200",     "200",    "200",    "200",    "200",    "200",    "200",    "200",    "200",    "200"]),
    ("GET",    "/metrics",                         ["200",     "200",    "200",    "200",    "200",    "200",    "200",    "200",    "200",    "200"]),
    ("GET",    "/.well-known/jwks.json",           ["200",     "200",    "200",    "200",    "200",    "200",    "200",    "200",    "200",    "200"]),
    ("GET",    "/.well-known/oauth-authorization-server", ["200"; 10]),
    ("POST",   "/oauth/token",                     ["invalid_client"; 10]),
    ("POST",   "/oauth/introspect",                ["invalid_client"; 10]),
    ("POST",   "/oauth/revoke",                    ["invalid_client"; 10]),
    ("POST",   "/v1/auth/login",                   ["200",     "200",    "200",    "200",    "200",    "200",    "200",    "200",    "200",    "200"]),
    ("POST",   "/v1/auth/refresh",                 ["refresh_token_invalid"; 10]),
    ("POST",   "/v1/auth/password",                ["invalid_credentials"; 10]),
    ("GET",    "/v1/me",                           [NONE,      "200",    "200",    "200",    "200",    "200",    "200",    "200",    "200",    ENDED]),
    ("GET",    "/v1/me/sessions",                  [NONE,      "200",    "200",    "200",    "200",    "200",    "200",    "200",    "200",    ENDED]),
    ("GET",    "/v1/me/impersonations",            [NONE,      "200",    "200",    "200",    "200",    "200",    "200",    "200",    "200",    ENDED]),
    ("DELETE", "/v1/me/sessions/{session}",        [NONE,      HIDDEN,   HIDDEN,   HIDDEN,   HIDDEN,   HIDDEN,   HIDDEN,   WITHHELD, WITHHELD, ENDED]),
    ("PUT",    "/v1/me/password",                  [NONE,      "invalid_credentials", "invalid_credentials", "invalid_credentials", "invalid_credentials",
                                                    "invalid_credentials", "invalid_credentials",                          WITHHELD, WITHHELD, ENDED]),
    ("GET",    "/v1/impersonations",               [NONE,      PERM,     PERM,     PERM,     PERM,     "200",    "200",    PERM,     PERM,     ENDED]),
    ("GET",    "/v1/impersonations/{impersonation}", [NONE,    HIDDEN,   "200",    HIDDEN,   HIDDEN,   "200",    "200",    HIDDEN,   HIDDEN,   ENDED]),
    ("DELETE", "/v1/impersonations/{impersonation}", [NONE,    HIDDEN,   "204",    HIDDEN,   HIDDEN,   PERM,     "204",    WITHHELD, WITHHELD, ENDED]),
    ("POST",   "/v1/users/{user}/impersonate",     [NONE,      NO_START, NO_START, NO_START, NO_START, "201",    "201",    NO_START, NO_START, ENDED]),
    ("POST",   "/v1/impersonations/{over}/undo",   [NONE,      PERM,     PERM,     PERM,     PERM,     PERM,     "200",    WITHHELD, WITHHELD, ENDED]),
    ("GET",    "/v1/policy",                       [NONE,      PERM,     PERM,     PERM,     PERM,     PERM,     "200",    WITHHELD, WITHHELD, ENDED]),
    ("PATCH",  "/v1/policy",                       [NONE,      PERM,     PERM,     PERM,     PERM,     PERM,     "200",    WITHHELD, WITHHELD, ENDED]),
    ("DELETE", "/v1/policy/freeze",                [NONE,      PERM,     PERM,     PERM,     PERM,     PERM,     "200",    WITHHELD, WITHHELD, ENDED]),
    ("GET",    "/v1/me/explain",                   [NONE,      "200",    HIDDEN,   "200",    HIDDEN,   "200",    "200",    "200",    "200",    ENDED]),
    ("GET",    "/v1/users/{user}/explain",         [NONE,      PERM,     PERM,     PERM,     PERM,     "200",    "200",    PERM,     PERM,     ENDED]),
    ("GET",    "/v1/users",                        [NONE,      PERM,     PERM,     PERM,     PERM,     "200",    "200",    PERM,     PERM,     ENDED]),
    ("POST",   "/v1/users",                        [NONE,      PERM,     PERM,     PERM,     PERM,     PERM,     "201",    WITHHELD, WITHHELD, ENDED]),
    ("GET",    "/v1/users/{user}",                 [NONE,      PERM,     PERM,     PERM,     PERM,     "200",    "200",    PERM,     PERM,     ENDED]),
    ("PATCH",  "/v1/users/{user}",                 [NONE,      PERM,     PERM,     PERM,     PERM,     PERM,     "200",    WITHHELD, WITHHELD, ENDED]),
    ("POST",   "/v1/users/{bystander}/setup-token", [NONE,     PERM,     PERM,     PERM,     PERM,     PERM,     "201",    WITHHELD, WITHHELD, ENDED]),
    ("DELETE", "/v1/users/{bystander}/sessions",   [NONE,      PERM,     PERM,     PERM,     PERM,     PERM,     "204",    WITHHELD, WITHHELD, ENDED]),
    ("GET",    "/v1/clients",                      [NONE,      PERM,     PERM,     PERM,     PERM,     PERM,     "200",    WITHHELD, WITHHELD, ENDED]),
    ("POST",   "/v1/clients",                      [NONE,      PERM,     PERM,     PERM,     PERM,     PERM,     "201",    WITHHELD, WITHHELD, ENDED]),
    ("GET",    "/v1/clients/{client}",             [NONE,      PERM,     PERM,     PERM,     PERM,     PERM,     "200",    WITHHELD, WITHHELD, ENDED]),
    ("PATCH",  "/v1/clients/{client}",             [NONE,      PERM,     PERM,     PERM,     PERM,     PERM,     "200",    WITHHELD, WITHHELD, ENDED]),
    ("POST",   "/v1/clients/{client}/secret",      [NONE,      PERM,     PERM,     PERM,     PERM,     PERM,     "201",    WITHHELD, WITHHELD, ENDED]),
    ("GET",    "/v1/articles",                     [NONE,      "200",    "200",    "200",    "200",    "200",    "200",    "200",    "200",    ENDED]),
    ("POST",   "/v1/articles",                     [NONE,      "201",    "201",    "201",    "201",    PERM,     PERM,     "201",    READ,     ENDED]),
    ("GET",    "/v1/articles/{article}",           [NONE,      "200",    HIDDEN,   "200",    HIDDEN,   "200",    "200",    "200",    "200",    ENDED]),
    ("PATCH",  "/v1/articles/{article}",           [NONE,      "status_forbids", HIDDEN, "200", HIDDEN, REFUSED, REFUSED,  "200",    READ,     ENDED]),
    ("DELETE", "/v1/articles/{article}",           [NONE,      "status_forbids", HIDDEN, REFUSED, HIDDEN, REFUSED, REFUSED, REFUSED, READ,    ENDED]),
    ("POST",   "/v1/articles/{article}/actions",   [NONE,      REFUSED,  HIDDEN,   "200",    HIDDEN,   REFUSED,  REFUSED,  "200",    READ,     ENDED]),
    ("GET",    "/v1/articles/{article}/history",   [NONE,      "200",    HIDDEN,   "200",    HIDDEN,   "200",    "200",    "200",    "200",    ENDED]),
    ("GET",    "/v1/history",                      [NONE,      PERM,     PERM,     PERM,     PERM,     PERM,     "200",    PERM,     PERM,     ENDED]),
    ("POST",   "/v1/auth/logout",                  [NONE,      "204",    "204",    "204",    "204",    "204",    "204",    "200",    "200",    ENDED]),
    // The last, because it ends what the impersonating ones have; the administrator freezes before they ask.
    ("POST",   "/v1/policy/freeze",                [NONE,      PERM,     PERM,     PERM,     PERM,     PERM,     "200",    FROZEN,   FROZEN,   ENDED]),
];

struct Cast {
    admin: Person,
    author: Person,
    other_author: Person,
    editor: Person,
    other_editor: Person,
    support: Person,
    bystander: Person,
    ended: Person,
}

impl Cast {
    fn arrive(office: &Office) -> Self {
        let ended = office.administrator();
        ended.log_out().expect(204);
        Self {
            admin: office.administrator(),
            author: office.author(),
            other_author: office.author(),
            editor: office.editor(),
            other_editor: office.editor(),
            support: office.support(),
            bystander: office.author(),
            ended,
        }
    }

    /// An article of the author's, under review by the editor.
    fn article(&self) -> String {
        let path = draft(&self.author);
        step(&self.author, &path, "submit");
        assign(&self.admin, &path, &self.editor);
        step(&self.editor, &path, "start_review");
        path.rsplit('/').next().unwrap().to_owned()
    }
}

fn body_of(method: &str, path: &str, cast: &Cast, number: usize) -> Value {
    match (method, path) {
        ("POST", "/v1/auth/login") => json!({ "email": cast.bystander.email, "password": cast.bystander.password }),
        ("POST", "/v1/auth/refresh") => json!({ "refresh_token": "x" }),
        ("POST", "/v1/auth/password") => json!({ "setup_token": "x", "new_password": "a good password" }),
        ("PUT", "/v1/me/password") => json!({ "current_password": "wrong wrong", "new_password": "a good password" }),
        ("POST", "/v1/users") => json!({ "email": format!("new.{number}@example.org"), "display_name": "New", "role": "author" }),
        ("POST", path) if path.ends_with("/impersonate") => json!({ "reason": "the matrix" }),
        ("PATCH", path) if path.starts_with("/v1/users/") => json!({ "display_name": format!("Renamed {number}") }),
        ("POST", "/v1/clients") => json!({ "name": format!("Client {number}") }),
        ("PATCH", path) if path.starts_with("/v1/clients/") => json!({ "name": format!("Renamed {number}") }),
        ("PATCH", "/v1/policy") => json!({ "reason_min_length": 1 + number % 2 }),
        ("POST", "/v1/policy/freeze") => json!({ "reason": "the matrix" }),
        ("POST", "/v1/articles") => json!({ "title": "New", "abstract": "", "body": "" }),
        ("PATCH", path) if path.starts_with("/v1/articles/") => json!({ "title": format!("Edited {number}") }),
        ("POST", path) if path.ends_with("/actions") => json!({ "action": "request_revision" }),
        _ => Value::Null,
    }
}

fn every_operation_answers_everyone_as_the_table_says(office: &Office) {
    let cast = Cast::arrive(office);
    let acting = office.impersonate(&cast.admin, &cast.editor);
    let reading = office.impersonate_with(&cast.admin, &cast.editor, json!({ "mode": "read_only" }));
    let of_other = office.impersonate(&cast.admin, &cast.other_author);
    let anonymous = office.anonymous();
    let callers: [&Caller; 10] = [
        &anonymous,
        &cast.author,
        &cast.other_author,
        &cast.editor,
        &cast.other_editor,
        &cast.support,
        &cast.admin,
        &acting,
        &reading,
        &cast.ended,
    ];
    let session = cast.bystander.session_id.clone();
    let client = cast.admin.post("/v1/clients", json!({ "name": "Archive" })).expect(201).str("id").to_owned();
    let mut article = cast.article();
    let over = office.impersonate(&cast.admin, &cast.other_author);
    over.log_out().expect(200);
    let mut number = 0;
    let mut wrong = Vec::new();
    for (method, template, expected) in TABLE {
        // Logging out and ending are the last that anyone does: each on a session and an impersonation of its own.
        for ((caller, column), expected) in callers.iter().zip(COLUMNS).zip(expected) {
            number += 1;
            let mut caller: Caller = (*caller).clone();
            let mut impersonation = of_other.id.clone();
            if template == "/v1/auth/logout" && !["anonymous", "ended"].contains(&column) {
                caller = a_session_more(office, &cast, column);
            }
            if method == "DELETE" && template.starts_with("/v1/impersonations/") {
                impersonation = office.impersonate(&cast.admin, &cast.other_author).id;
            }
            let path = template
                .replace("{session}", &session)
                .replace("{impersonation}", &impersonation)
                .replace("{over}", &over.id)
                .replace("{user}", &cast.other_author.id)
                .replace("{bystander}", &cast.bystander.id)
                .replace("{client}", &client)
                .replace("{article}", &article);
            let body = body_of(method, template, &cast, number);
            let query = if template.ends_with("/explain") { format!("?resource=article:{article}") } else { String::new() };
            let request = caller.request(method, &format!("{path}{query}"));
            let is_problem = !template.starts_with("/oauth/");
            let answer = match body {
                // Whose token it is makes nobody a client.
                _ if !is_problem => request.body("application/x-www-form-urlencoded", "grant_type=client_credentials&token=x").send(),
                Value::Null => request.send(),
                body => request.json(&body).send(),
            };
            let told = told(&answer);
            if told != expected {
                wrong.push(format!("{method} {template} by {column}: expected {expected}, got {told}"));
            }
            if is_problem && answer.status >= 400 && answer.status != 404 {
                answer.clone().problem(answer.status, &told);
            }
            if answer.status == 200 && template.ends_with("/actions") {
                article = cast.article();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The same person with a session more, to be ended.
fn a_session_more(office: &Office, cast: &Cast, column: &str) -> Caller {
    let acting =
        |mode: &str| -> Acting { office.impersonate_with(&cast.admin, &cast.editor, json!({ "mode": mode, "restore_challenge": null })) };
    match column {
        "author" => (*cast.author.log_in_again()).clone(),
        "other author" => (*cast.other_author.log_in_again()).clone(),
        "editor" => (*cast.editor.log_in_again()).clone(),
        "other editor" => (*cast.other_editor.log_in_again()).clone(),
        "support" => (*cast.support.log_in_again()).clone(),
        "administrator" => (*cast.admin.log_in_again()).clone(),
        "impersonating" => (*acting("full")).clone(),
        "read-only" => (*acting("read_only")).clone(),
        other => panic!("{other}"),
    }
}

fn told(answer: &Answer) -> String {
    match answer.status {
        ..400 => answer.status.to_string(),
        // The refusals of the OAuth endpoints are no problems.
        _ => answer.body["error"].as_str().unwrap_or_else(|| answer.str("code")).to_owned(),
    }
}

fn every_operation_of_the_document_has_a_row(_office: &Office) {
    let document = serde_json::to_value(api_document()).unwrap();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "post", "put", "patch", "delete", "head", "options", "trace"] {
            if item.get(method).is_some() {
                documented.insert((method.to_uppercase(), path.clone()));
            }
        }
    }
    let named = |template: &str| {
        let names = ["{session}", "{impersonation}", "{over}", "{user}", "{bystander}", "{client}", "{article}"];
        names.iter().fold(template.to_owned(), |path, name| path.replace(name, "{id}"))
    };
    let tried: BTreeSet<_> = TABLE.iter().map(|(method, path, _)| ((*method).to_owned(), named(path))).collect();
    assert_eq!(tried, documented);
}
