//! Scopes are permissions: what a narrower token may do at every operation of the document, and what a client may by itself.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::articles::{assign, draft, step};
use crate::harness::document::operations;
use crate::harness::{Answer, Caller, Client, Office, Person, form};
use crate::oauth_exchange::narrowed;

api_tests! {
    every_operation_asks_a_narrower_token_for_the_scope_that_the_table_says,
    every_operation_asks_a_client_by_itself_for_what_the_table_says,
    [sqlite] every_operation_that_needs_a_token_has_a_row,
    every_step_of_the_workflow_asks_for_its_scope,
    an_article_shows_what_the_token_may_do_with_it,
    a_missing_right_is_not_taken_for_a_missing_scope,
    rights_are_what_the_role_the_scope_and_the_impersonation_all_allow,
}

/// What a narrower token needs for a call that the user may make.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Any token of the user's will do.
    Nothing,
    /// This scope, and without it 403 `insufficient_scope`.
    Scope(&'static str),
    /// This scope to see that it exists.
    Sight(&'static str),
    /// The user's own token.
    Own,
    /// Refused whatever the scope, because it was exchanged; and recorded.
    NoStart,
}

use Needs::{NoStart, Nothing, Own, Scope, Sight};

/// Whose token is made narrower.
#[derive(Clone, Copy)]
enum Who {
    Admin,
    Author,
    Editor,
}

use Who::{Admin, Author, Editor};

/// Method, path, by whom, what is needed, the status of success; and what a client by itself needs.
type Row = (&'static str, &'static str, Who, Needs, u16, Option<&'static str>);

/// The article is the author's, under review by the editor. The impersonation in a path is somebody else's, and so is the session.
#[rustfmt::skip]
const TABLE: [Row; 43] = [
    ("GET",    "/v1/me",                             Admin,  Nothing,                        200, None),
    ("GET",    "/v1/me/sessions",                    Admin,  Own,                            200, None),
    ("GET",    "/v1/me/impersonations",              Editor, Own,                            200, None),
    ("DELETE", "/v1/me/sessions/{session}",          Admin,  Own,                            204, None),
    ("PUT",    "/v1/me/password",                    Editor, Own,                            204, None),
    ("GET",    "/v1/impersonations",                 Admin,  Scope("impersonations:read"),   200, Some("impersonations:read")),
    ("GET",    "/v1/impersonations/{impersonation}", Admin,  Sight("impersonations:read"),   200, Some("impersonations:read")),
    ("DELETE", "/v1/impersonations/{impersonation}", Admin,  Own,                            204, None),
    ("POST",   "/v1/users/{user}/impersonate",       Admin,  NoStart,                        201, None),
    ("POST",   "/v1/impersonations/{over}/undo",     Admin,  Scope("impersonations:undo"),   200, None),
    ("GET",    "/v1/policy",                         Admin,  Scope("policy:read"),           200, None),
    ("PATCH",  "/v1/policy",                         Admin,  Scope("policy:write"),          200, None),
    ("DELETE", "/v1/policy/freeze",                  Admin,  Scope("policy:write"),          200, None),
    ("GET",    "/v1/me/explain",                     Author, Nothing,                        200, None),
    ("GET",    "/v1/me/explain",                     Admin,  Sight("articles:read_all"),     200, None),
    ("GET",    "/v1/users/{user}/explain",           Admin,  Scope("users:read"),            200, Some("users:read")),
    ("GET",    "/v1/users",                          Admin,  Scope("users:read"),            200, Some("users:read")),
    ("POST",   "/v1/users",                          Admin,  Scope("users:write"),           201, None),
    ("GET",    "/v1/users/{user}",                   Admin,  Scope("users:read"),            200, Some("users:read")),
    ("PATCH",  "/v1/users/{user}",                   Admin,  Scope("users:write"),           200, None),
    ("POST",   "/v1/users/{user}/setup-token",       Admin,  Own,                            201, None),
    ("DELETE", "/v1/users/{user}/sessions",          Admin,  Scope("sessions:end"),          204, None),
    ("GET",    "/v1/clients",                        Admin,  Scope("clients:read"),          200, None),
    ("POST",   "/v1/clients",                        Admin,  Own,                            201, None),
    ("GET",    "/v1/clients/{client}",               Admin,  Scope("clients:read"),          200, None),
    ("PATCH",  "/v1/clients/{client}",               Admin,  Own,                            200, None),
    ("POST",   "/v1/clients/{client}/secret",        Admin,  Own,                            201, None),
    ("GET",    "/v1/articles",                       Author, Nothing,                        200, Some("articles:read_all")),
    ("POST",   "/v1/articles",                       Author, Scope("articles:create"),       201, None),
    ("GET",    "/v1/articles/{article}",             Author, Nothing,                        200, Some("articles:read_all")),
    ("GET",    "/v1/articles/{article}",             Admin,  Sight("articles:read_all"),     200, Some("articles:read_all")),
    ("PATCH",  "/v1/articles/{draft}",               Author, Scope("articles:create"),       200, None),
    ("PATCH",  "/v1/articles/{article}",             Editor, Scope("articles:edit_assigned"), 200, None),
    ("DELETE", "/v1/articles/{draft}",               Author, Scope("articles:create"),       204, None),
    ("POST",   "/v1/articles/{draft}/actions",       Author, Scope("articles:create"),       200, None),
    ("POST",   "/v1/articles/{article}/actions",     Editor, Scope("articles:edit_assigned"), 200, None),
    ("POST",   "/v1/articles/{accepted}/actions",    Admin,  Scope("articles:publish"),      200, None),
    ("GET",    "/v1/articles/{article}/history",     Author, Nothing,                        200, Some("articles:read_all")),
    ("GET",    "/v1/articles/{article}/history",     Editor, Nothing,                        200, Some("articles:read_all")),
    ("GET",    "/v1/articles/{article}/history",     Admin,  Sight("articles:read_all"),     200, Some("articles:read_all")),
    ("GET",    "/v1/history",                        Admin,  Scope("history:read"),          200, Some("history:read")),
    ("POST",   "/v1/auth/logout",                    Admin,  Nothing,                        204, None),
    // The last: nothing starts any more.
    ("POST",   "/v1/policy/freeze",                  Admin,  Scope("policy:write"),          200, None),
];

const ALL: &str = "articles:assign_editor articles:create articles:edit_assigned articles:publish articles:read_all clients:read clients:write \
                   history:read impersonations:end impersonations:read impersonations:undo policy:read policy:write sessions:end users:impersonate users:read users:write";

/// Every scope but `left_out`, and but those beside it without which the call could not find what it is about.
fn all_but(left_out: &str) -> String {
    ALL.split_whitespace().filter(|scope| *scope != left_out).collect::<Vec<_>>().join(" ")
}

/// `scope` as far as `whose` role holds it.
fn within(scope: &str, whose: &Person) -> String {
    let held = whose.get("/v1/me").expect(200).value("permissions").clone();
    let held: Vec<&str> = held.as_array().unwrap().iter().map(|permission| permission.as_str().unwrap()).collect();
    scope.split_whitespace().filter(|word| held.contains(word)).collect::<Vec<_>>().join(" ")
}

/// The people and things that the paths are about, new for every row.
struct Scene {
    admin: Person,
    author: Person,
    editor: Person,
    user: Person,
    impersonation: String,
    over: String,
    session: String,
    article: String,
    draft: String,
    accepted: String,
    client: String,
}

impl Scene {
    fn set(office: &Office) -> Self {
        let (admin, author, editor, user) = (office.administrator(), office.author(), office.editor(), office.author());
        let under_review = || {
            let path = draft(&author);
            step(&author, &path, "submit");
            assign(&admin, &path, &editor);
            step(&editor, &path, "start_review");
            path
        };
        let accepted = under_review();
        step(&editor, &accepted, "accept");
        let id = |path: String| path.rsplit('/').next().unwrap().to_owned();
        let over = office.impersonate(&office.administrator(), &user);
        over.log_out().expect(200);
        Self {
            over: over.id,
            impersonation: office.impersonate(&office.administrator(), &user).id,
            session: admin.log_in_again().session_id,
            article: id(under_review()),
            draft: id(draft(&author)),
            accepted: id(accepted),
            client: office.client(json!({})).id,
            admin,
            author,
            editor,
            user,
        }
    }

    fn who(&self, who: Who) -> &Person {
        match who {
            Admin => &self.admin,
            Author => &self.author,
            Editor => &self.editor,
        }
    }

    /// Makes the call of a row.
    fn call(&self, caller: &Caller, method: &str, template: &str, who: Who) -> Answer {
        let path = template
            .replace("{session}", &self.session)
            .replace("{over}", &self.over)
            .replace("{impersonation}", &self.impersonation)
            .replace("{user}", &self.user.id)
            .replace("{client}", &self.client)
            .replace("{article}", &self.article)
            .replace("{draft}", &self.draft)
            .replace("{accepted}", &self.accepted);
        let password = &self.who(who).password;
        let body = match (method, template) {
            ("PUT", _) => json!({ "current_password": password, "new_password": "another correct horse" }),
            ("POST", "/v1/users") => {
                json!({ "email": format!("new.{}@example.org", self.user.id), "display_name": "New", "role": "author" })
            }
            ("POST", "/v1/clients") => json!({ "name": "New" }),
            ("PATCH", "/v1/policy") => json!({ "reason_min_length": 2 }),
            ("POST", "/v1/policy/freeze") => json!({ "reason": "the table" }),
            ("POST", "/v1/articles") => json!({ "title": "New", "abstract": "", "body": "" }),
            ("POST", path) if path.ends_with("/impersonate") => json!({ "reason": "the table" }),
            ("POST", path) if path.starts_with("/v1/articles/{draft}") => json!({ "action": "submit" }),
            ("POST", path) if path.starts_with("/v1/articles/{article}") => json!({ "action": "request_revision" }),
            ("POST", path) if path.starts_with("/v1/articles/{accepted}") => json!({ "action": "publish" }),
            ("POST", path) if path.ends_with("/secret") => json!({}),
            ("PATCH", path) if path.starts_with("/v1/users/") => json!({ "display_name": "Renamed" }),
            ("PATCH", path) if path.starts_with("/v1/clients/") => json!({ "name": "Renamed" }),
            ("PATCH", _) => json!({ "title": "Edited" }),
            _ => Value::Null,
        };
        // About no article that is there, where the caller needs none to see.
        let query = match (template, who) {
            ("/v1/users/{user}/explain", _) => "?action=article.create".to_owned(),
            ("/v1/me/explain", _) => format!("?resource=article:{}", self.article),
            _ => String::new(),
        };
        let request = caller.request(method, &format!("{path}{query}"));
        if body.is_null() { request.send() } else { request.json(&body).send() }
    }
}

/// Demands 403 with the scope that would do in its challenge, if one would.
#[track_caller]
fn lacks(answer: Answer, scope: Option<&str>) {
    let answer = answer.problem(403, "insufficient_scope");
    let scope = scope.map_or(String::new(), |scope| format!(r#", scope="{scope}""#));
    assert_eq!(answer.header("www-authenticate"), Some(format!(r#"Bearer error="insufficient_scope"{scope}"#).as_str()), "{answer}");
}

fn every_operation_asks_a_narrower_token_for_the_scope_that_the_table_says(office: &Office) {
    // A scope can't be asked for that is empty, but be left by a client that may nothing.
    let (client, powerless) = (office.presenter(json!({})), office.presenter(json!({ "scope": "" })));
    for (method, template, who, needs, success, _) in TABLE {
        let scene = Scene::set(office);
        let person = scene.who(who);
        let with = |scope: &str| {
            let scope = within(scope, person);
            let by = if scope.is_empty() { &powerless } else { &client };
            office.anonymous().with_token(&narrowed(by, &person.access_token, &[("scope", &scope)]))
        };
        let call = |caller: &Caller| scene.call(caller, method, template, who);
        let name = format!("{method} {template}");
        match needs {
            Nothing => drop(call(&with("")).expect(success)),
            Scope(scope) => {
                // An article is seen by its author and its editor anyhow; whoever is neither has to see it, too.
                let sight = if template.contains("{accepted}") { "articles:read_all" } else { "" };
                lacks(call(&with(&all_but(scope))), Some(scope));
                lacks(call(&with(sight)), Some(scope));
                call(&with(&format!("{scope} {sight}"))).expect(success);
            }
            Sight(scope) => {
                call(&with(&all_but(scope))).problem(404, "not_found");
                call(&with("")).problem(404, "not_found");
                call(&with(scope)).expect(success);
            }
            Own => {
                lacks(call(&with(ALL)), None);
                lacks(call(&with("")), None);
                call(person).expect(success);
            }
            NoStart => {
                assert_eq!(call(&with(ALL)).problem(403, "impersonation_refused").reasons(), ["exchanged_token"], "{name}");
                let without = with(&all_but("users:impersonate"));
                let reasons = call(&without).problem(403, "impersonation_refused");
                assert_eq!(reasons.reasons(), ["insufficient_scope", "exchanged_token"], "{name}");
                call(person).expect(success);
            }
        }
    }
}

fn own_token(office: &Office, client: &Client) -> Caller {
    office.anonymous().with_token(client.credentials(&[]).expect(200).str("access_token"))
}

fn every_operation_asks_a_client_by_itself_for_what_the_table_says(office: &Office) {
    let all = own_token(office, &office.client(json!({})));
    let none = own_token(office, &office.client(json!({ "scope": "" })));
    let scene = Scene::set(office);
    let before = office.db_count("SELECT count(*) FROM entries");
    let mut made = 0;
    for (method, template, who, _, success, needs) in TABLE {
        let call = |caller: &Caller| scene.call(caller, method, template, who);
        let Some(scope) = needs else {
            for caller in [&all, &none] {
                let answer = call(caller).problem(403, "user_required");
                assert_eq!(answer.header("www-authenticate"), None, "no other scope would do: {answer}");
            }
            continue;
        };
        call(&all).expect(success);
        lacks(call(&none), Some(scope));
        let (alone, but_one) = (office.client(json!({ "scope": scope })), office.client(json!({ "scope": all_but(scope) })));
        call(&own_token(office, &alone)).expect(success);
        lacks(call(&own_token(office, &but_one)), Some(scope));
        made += 4;
    }
    assert_eq!(office.db_count("SELECT count(*) FROM entries"), before + made, "nothing but what made those clients and their tokens");
}

fn every_operation_that_needs_a_token_has_a_row(_office: &Office) {
    let needing = operations().filter(|(_, _, operation)| operation["security"] == json!([{ "bearer": [] }]));
    let needing: BTreeSet<(String, String)> = needing.map(|(method, path, _)| (method, path.to_owned())).collect();
    let named = |template: &str| {
        let names = ["{session}", "{impersonation}", "{over}", "{user}", "{client}", "{article}", "{draft}", "{accepted}"];
        names.iter().fold(template.to_owned(), |path, name| path.replace(name, "{id}"))
    };
    let tried: BTreeSet<_> = TABLE.iter().map(|(method, path, ..)| ((*method).to_owned(), named(path))).collect();
    assert_eq!(tried, needing);
}

fn every_step_of_the_workflow_asks_for_its_scope(office: &Office) {
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    let client = office.presenter(json!({}));
    let powerless = office.presenter(json!({ "scope": "" }));
    let assigning = json!({ "action": "assign_editor", "editor_id": editor.id });
    let plain = |action: &str| json!({ "action": action });
    let path = draft(&author);
    let withdrawn = draft(&author);
    step(&author, &withdrawn, "submit");
    // Every step once, one after the other.
    for (who, path, scope, body) in [
        (&author, &path, "articles:create", plain("submit")),
        (&admin, &path, "articles:assign_editor", assigning),
        (&editor, &path, "articles:edit_assigned", plain("start_review")),
        (&editor, &path, "articles:edit_assigned", plain("request_revision")),
        (&author, &path, "articles:create", plain("submit")),
        (&editor, &path, "articles:edit_assigned", plain("reject")),
        (&editor, &path, "articles:edit_assigned", plain("revert_decision")),
        (&editor, &path, "articles:edit_assigned", plain("accept")),
        (&admin, &path, "articles:publish", plain("publish")),
        (&author, &withdrawn, "articles:create", plain("withdraw")),
    ] {
        let with = |scope: &str| {
            let scope = within(scope, who);
            let by = if scope.is_empty() { &powerless } else { &client };
            office.anonymous().with_token(&narrowed(by, &who.access_token, &[("scope", &scope)]))
        };
        let actions = format!("{path}/actions");
        lacks(with(&all_but(scope)).post(&actions, body.clone()), Some(scope));
        with(&format!("{scope} articles:read_all")).post(&actions, body).expect(200);
    }
}

fn an_article_shows_what_the_token_may_do_with_it(office: &Office) {
    let author = office.author();
    let (client, powerless) = (office.presenter(json!({})), office.presenter(json!({ "scope": "" })));
    let path = draft(&author);
    let allowed = |caller: &Caller| -> Vec<(String, bool, Vec<String>)> {
        let answer = caller.get(&path).expect(200);
        let actions = answer.value("actions").as_array().unwrap().clone();
        let codes = |action: &Value| {
            action["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap().to_owned()).collect()
        };
        actions
            .iter()
            .map(|action| (action["action"].as_str().unwrap().to_owned(), action["allowed"].as_bool().unwrap(), codes(action)))
            .collect()
    };
    let bearer = |by: &Client| office.anonymous().with_token(&narrowed(by, &author.access_token, &[]));
    assert_eq!(allowed(&bearer(&client)), allowed(&author), "what the role does not permit, no scope lacks");
    let acting = client.impersonate(&office.administrator(), &author, &[]);
    assert_eq!(allowed(&acting), allowed(&author), "the actions are the subject's, exactly as the subject sees them");
    for (action, is_allowed, reasons) in allowed(&bearer(&powerless)) {
        let is_the_authors = ["edit", "delete", "submit", "withdraw"].contains(&action.as_str());
        assert!(!is_allowed && reasons.contains(&"insufficient_scope".to_owned()) == is_the_authors, "{action}: {reasons:?}");
    }
}

fn a_missing_right_is_not_taken_for_a_missing_scope(office: &Office) {
    let (author, editor) = (office.author(), office.editor());
    let client = office.presenter(json!({}));
    let narrower = office.anonymous().with_token(&narrowed(&client, &author.access_token, &[]));
    for answer in [
        narrower.get("/v1/users"),
        narrower.get("/v1/history"),
        narrower.get("/v1/impersonations"),
        narrower.post("/v1/users", json!({ "email": "x@example.org", "display_name": "X", "role": "author" })),
    ] {
        assert_eq!(answer.problem(403, "missing_permission").header("www-authenticate"), None);
    }
    let path = draft(&editor);
    narrower.get(&path).problem(404, "not_found");
    let own = draft(&author);
    narrower.post(&format!("{own}/actions"), json!({ "action": "publish" })).problem(403, "action_refused");
}

fn rights_are_what_the_role_the_scope_and_the_impersonation_all_allow(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let article = || json!({ "title": "New", "abstract": "", "body": "" });
    let acting = client.impersonate(&admin, &editor, &[("scope", "articles:create")]);
    let reading = client.impersonate(&admin, &editor, &[("mode", "read_only")]);
    // The role and the scope, but not the impersonation.
    reading.post("/v1/articles", article()).problem(403, "read_only_impersonation");
    reading
        .with_token(&narrowed(&client, &reading.access_token, &[]))
        .post("/v1/articles", article())
        .problem(403, "read_only_impersonation");
    // The role and the impersonation, but not the scope.
    let path = draft(&office.author());
    acting.get(&path).problem(404, "not_found");
    acting.post("/v1/articles", article()).expect(201);
    client.exchange(&acting.access_token, &[("scope", "articles:edit_assigned")]).oauth(400, "invalid_scope");
    // The scope, but not the role.
    acting.get("/v1/users").problem(403, "missing_permission");
    // What an impersonation withholds, no scope gives back.
    let body = json!({ "current_password": editor.password, "new_password": "another correct horse" });
    acting.put("/v1/me/password", body).problem(403, "forbidden_under_impersonation");
    // And no form carries a right into a call.
    let form = form(&[("scope", ALL)]);
    let request = acting.request("POST", "/v1/auth/logout").body("application/x-www-form-urlencoded", form);
    assert!(request.send().status >= 400);
    let listed = admin.all_items("/v1/impersonations?status=live").len();
    assert!(listed >= 1);
}
