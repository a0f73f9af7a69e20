//! Bounded grants: an impersonation that was started for less than all that its subject may.

use serde_json::{Value, json};

use super::articles::{assign, draft, step};
use super::policy::set;
use crate::harness::{Acting, Answer, BILLING, Office, Person, claims_of};
use crate::oauth_exchange::narrowed;

api_tests! {
    editing_only_leaves_editing_and_nothing_else,
    one_article_only_leaves_that_article_and_nothing_else,
    both_bounds_hold_together,
    a_listing_shows_what_is_inside_and_pages_through_it,
    everything_shows_the_bounds,
    bounds_don_t_change_what_the_subject_is_seen_to_be,
    a_start_asks_for_less_and_never_for_more,
    bounds_that_are_none_are_told_by_their_place,
    bounds_can_t_be_written_by_any_call,
    a_narrower_token_stays_inside,
    a_start_at_the_token_endpoint_can_be_bound_too,
    details_that_are_none_are_refused_at_the_token_endpoint,
    bounds_survive_a_restart_and_the_loss_of_a_permission,
    logging_out_works_whatever_the_bounds,
}

fn id_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

fn resource(path: &str) -> String {
    format!("article:{}", id_of(path))
}

/// An article of the author's, under review by the editor.
fn under_review(admin: &Person, author: &Person, editor: &Person) -> String {
    let path = draft(author);
    step(author, &path, "submit");
    assign(admin, &path, editor);
    step(editor, &path, "start_review");
    path
}

#[track_caller]
fn outside(answer: Answer) {
    assert_eq!(answer.problem(403, "outside_grant").reasons(), ["outside_grant"]);
}

fn new() -> Value {
    json!({ "title": "New", "abstract": "", "body": "" })
}

fn editing_only_leaves_editing_and_nothing_else(office: &Office) {
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    let path = under_review(&admin, &author, &editor);
    let own = draft(&editor);
    let acting = office.impersonate_with(&admin, &editor, json!({ "permissions": ["articles:edit_assigned"] }));
    outside(acting.post("/v1/articles", new()));
    outside(acting.patch(&own, json!({ "title": "Mine" })));
    outside(acting.delete(&own));
    outside(acting.post(&format!("{own}/actions"), json!({ "action": "submit" })));
    // Looking takes no permission.
    for readable in ["/v1/articles", &own, &path, "/v1/me", "/v1/me/sessions", "/v1/me/impersonations"] {
        acting.get(readable).expect(200);
    }
    acting.patch(&path, json!({ "title": "Mended" })).expect(200);
    step(&acting, &path, "accept");
    let nothing = office.impersonate_with(&admin, &editor, json!({ "permissions": [] }));
    outside(nothing.post("/v1/articles", new()));
    outside(nothing.post(&format!("{path}/actions"), json!({ "action": "revert_decision" })));
    nothing.get(&path).expect(200);
}

fn one_article_only_leaves_that_article_and_nothing_else(office: &Office) {
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    let (inside, other) = (under_review(&admin, &author, &editor), under_review(&admin, &author, &editor));
    let foreign = draft(&author);
    let acting = office.impersonate_with(&admin, &editor, json!({ "resources": [resource(&inside)] }));
    for answer in [
        acting.get(&other),
        acting.get(&format!("{other}/history")),
        acting.patch(&other, json!({ "title": "Ebb" })),
        acting.delete(&other),
        acting.post(&format!("{other}/actions"), json!({ "action": "accept" })),
        acting.post("/v1/articles", new()),
        acting.get("/v1/me/sessions"),
        acting.get("/v1/me/impersonations"),
        acting.get(&format!("/v1/impersonations/{}", acting.id)),
    ] {
        outside(answer);
    }
    // What the subject may not know of does not exist, inside or outside.
    acting.get(&foreign).problem(404, "not_found");
    acting.get("/v1/me").expect(200);
    acting.get(&format!("{inside}/history")).expect(200);
    acting.patch(&inside, json!({ "title": "Mended" })).expect(200);
    step(&acting, &inside, "accept");
    assert_eq!(editor.get(&other).expect(200).value("version"), &json!(4), "nothing was changed");
}

fn both_bounds_hold_together(office: &Office) {
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    let (inside, own) = (under_review(&admin, &author, &editor), draft(&editor));
    let bounds = json!({ "permissions": ["articles:edit_assigned"], "resources": [resource(&inside), resource(&own)], "mode": "full" });
    let acting = office.impersonate_with(&admin, &editor, bounds);
    acting.patch(&inside, json!({ "title": "Mended" })).expect(200);
    outside(acting.patch(&own, json!({ "title": "Mine" })));
    let bounds = json!({ "resources": [resource(&inside)], "mode": "read_only" });
    let reading = office.impersonate_with(&admin, &editor, bounds);
    reading.get(&inside).expect(200);
    let refused = reading.patch(&inside, json!({ "title": "Ebb" })).problem(403, "read_only_impersonation");
    assert_eq!(refused.reasons(), ["outside_grant"], "which is a bound like any other");
}

fn a_listing_shows_what_is_inside_and_pages_through_it(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let paths: Vec<String> = (0..5).map(|_| draft(&editor)).collect();
    let inside: Vec<String> = [0, 2, 4].map(|index: usize| resource(&paths[index])).into();
    let acting = office.impersonate_with(&admin, &editor, json!({ "resources": inside }));
    let listed = acting.all_items("/v1/articles?limit=1");
    let ids: Vec<String> = listed.iter().map(|item| format!("article:{}", item["id"].as_str().unwrap())).collect();
    assert_eq!(ids, inside.iter().rev().cloned().collect::<Vec<_>>());
    assert_eq!(acting.get("/v1/articles?status=submitted").expect(200).items().len(), 0);
    assert_eq!(editor.all_items("/v1/articles").len(), 5);
}

fn everything_shows_the_bounds(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let path = draft(&editor);
    let (permissions, resources) = (json!(["articles:create"]), json!([resource(&path)]));
    // Given twice it is there once.
    let asked = json!({ "permissions": ["articles:create", "articles:create"], "resources": [resource(&path), resource(&path)] });
    let acting = office.impersonate_with(&admin, &editor, asked);
    let me = acting.get("/v1/me").expect(200);
    for terms in [&acting.grant["session"]["impersonation"], me.value("impersonation")] {
        assert_eq!((&terms["permissions"], &terms["resources"]), (&permissions, &resources));
        let withheld = terms["withheld"].as_array().unwrap();
        assert!(withheld.contains(&json!("permissions:other")) && withheld.contains(&json!("resources:other")), "{terms}");
    }
    let claims = claims_of(&acting.access_token);
    assert_eq!(claims["scope"], "articles:create");
    assert_eq!(claims["authorization_details"], json!([{ "type": "article", "identifier": id_of(&path) }]));
    for listed in [
        admin.get(&format!("/v1/impersonations/{}", acting.id)).expect(200).body,
        admin.get("/v1/impersonations?status=live").expect(200).items()[0].clone(),
        editor.get("/v1/me/impersonations").expect(200).items()[0].clone(),
    ] {
        assert_eq!((&listed["permissions"], &listed["resources"]), (&permissions, &resources));
    }
    let started = admin.get(&format!("/v1/history?resource_id={}", acting.id)).expect(200).items()[0].clone();
    assert_eq!(started["changes"]["permissions"], json!({ "from": null, "to": permissions }));
    assert_eq!(started["changes"]["resources"], json!({ "from": null, "to": resources }));
    // Without bounds nothing says that there are any.
    let whole = office.impersonate(&admin, &editor);
    let terms = whole.get("/v1/me").expect(200).value("impersonation").clone();
    assert_eq!((&terms["permissions"], &terms["resources"]), (&Value::Null, &Value::Null));
    let claims = claims_of(&whole.access_token);
    assert!(claims.get("scope").is_none() && claims.get("authorization_details").is_none(), "{claims}");
}

fn bounds_don_t_change_what_the_subject_is_seen_to_be(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let path = draft(&editor);
    let bounds = json!({ "permissions": ["articles:edit_assigned"], "resources": [resource(&path)] });
    let acting = office.impersonate_with(&admin, &editor, bounds);
    assert_eq!(acting.get("/v1/me").expect(200).value("permissions"), editor.get("/v1/me").expect(200).value("permissions"));
    assert_eq!(acting.get(&path).expect(200).body, editor.get(&path).expect(200).body);
}

fn a_start_asks_for_less_and_never_for_more(office: &Office) {
    let (admin, author, other) = (office.administrator(), office.author(), office.author());
    let (own, foreign) = (draft(&author), draft(&other));
    let start = |members: Value| {
        let mut body = json!({ "reason": "the author cannot act" });
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        admin.post(&format!("/v1/users/{}/impersonate", author.id), body)
    };
    let refused = start(json!({ "permissions": ["articles:create", "articles:edit_assigned", "users:write"] }));
    let refused = refused.problem(422, "invalid_request");
    assert_eq!(refused.pointers(), ["/permissions", "/permissions"]);
    assert!(refused.text.contains("articles:edit_assigned") && refused.text.contains("users:write"), "{refused}");
    let nothing = "article:019aa0f0-0000-7000-8000-0000000000aa".to_owned();
    let refused = start(json!({ "resources": [resource(&own), resource(&foreign), nothing] })).problem(422, "invalid_request");
    // One that the subject may not see and one that there is not look alike.
    let told: Vec<(&Value, &Value)> =
        refused.value("errors").as_array().unwrap().iter().map(|error| (&error["code"], &error["detail"])).collect();
    assert!(told.len() == 2 && told[0] == told[1], "{refused}");
    assert_eq!(admin.all_items("/v1/impersonations").len(), 0);
    start(json!({ "permissions": ["articles:create"], "resources": [resource(&own)] })).expect(201);
}

fn bounds_that_are_none_are_told_by_their_place(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let own = resource(&draft(&author));
    let many: Vec<String> = (0..21).map(|number| format!("article:019aa0f0-0000-7000-8000-0000000000{number:02}")).collect();
    for (members, pointers) in [
        (json!({ "permissions": ["articles:everything"] }), vec!["/permissions/0"]),
        (json!({ "permissions": "articles:create" }), vec!["/permissions"]),
        (json!({ "resources": [] }), vec!["/resources"]),
        (json!({ "resources": many }), vec!["/resources"]),
        (json!({ "resources": [own, "article:x", "user:019aa0f0-0000-7000-8000-0000000000aa"] }), vec!["/resources/1", "/resources/2"]),
        (json!({ "resources": [own.to_uppercase()] }), vec!["/resources/0"]),
    ] {
        let mut body = members.clone();
        body["reason"] = json!("the author cannot act");
        let answer = admin.post(&format!("/v1/users/{}/impersonate", author.id), body).problem(422, "invalid_request");
        assert_eq!(answer.pointers(), pointers, "{members}");
    }
}

fn bounds_can_t_be_written_by_any_call(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let path = draft(&editor);
    let acting = office.impersonate_with(&admin, &editor, json!({ "resources": [resource(&path)] }));
    for (method, path, body) in [
        ("PATCH", path.clone(), json!({ "title": "a", "resources": [] })),
        ("POST", "/v1/auth/logout".to_owned(), json!({ "resources": [] })),
        ("POST", format!("{path}/actions"), json!({ "action": "submit", "permissions": ["articles:create"] })),
    ] {
        acting.request(method, &path).json(&body).send().problem(400, "unknown_field");
    }
    for header in ["Actas-Resources", "X-Permissions"] {
        outside(acting.request("GET", "/v1/me/sessions").header(header, "*").send());
    }
    let of_it = format!("WHERE id = '{}'", acting.id);
    for change in ["bound_resources = NULL", "bound_permissions = 'articles:create'", "bound_resources = ''"] {
        assert!(office.db_execute(&format!("UPDATE sessions SET {change} {of_it}")).is_err(), "{change}");
    }
    let own = format!("UPDATE sessions SET bound_resources = 'article:x' WHERE id = '{}'", editor.session_id);
    assert!(office.db_execute(&own).is_err(), "only an impersonation has bounds");
}

fn a_narrower_token_stays_inside(office: &Office) {
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    let (inside, other) = (under_review(&admin, &author, &editor), under_review(&admin, &author, &editor));
    let bounds = json!({ "permissions": ["articles:edit_assigned"], "resources": [resource(&inside)] });
    let acting = office.impersonate_with(&admin, &editor, bounds);
    let client = office.presenter(json!({}));
    let whole = narrowed(&client, &acting.access_token, &[]);
    let claims = claims_of(&whole);
    assert_eq!(
        (&claims["scope"], &claims["authorization_details"]),
        (&json!("articles:edit_assigned"), &claims_of(&acting.access_token)["authorization_details"])
    );
    client.exchange(&acting.access_token, &[("scope", "articles:create")]).oauth(400, "invalid_scope");
    let narrower = office.anonymous().with_token(&whole);
    outside(narrower.get(&other));
    narrower.patch(&inside, json!({ "title": "Mended" })).expect(200);
    narrower.post("/v1/articles", new()).problem(403, "outside_grant");
    // Whoever asks about it is told the same.
    let billing = narrowed(&client, &acting.access_token, &[("audience", BILLING)]);
    let known = client.finds_active(&billing);
    assert_eq!((&known["scope"], &known["authorization_details"]), (&json!("articles:edit_assigned"), &claims["authorization_details"]));
    let known = client.finds_active(&acting.access_token);
    assert_eq!(known["scope"], "articles:edit_assigned");
}

fn a_start_at_the_token_endpoint_can_be_bound_too(office: &Office) {
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    let (inside, other) = (under_review(&admin, &author, &editor), under_review(&admin, &author, &editor));
    let client = office.presenter(json!({}));
    let details = json!([{ "type": "article", "identifier": id_of(&inside) }]);
    let more = [("authorization_details", &*details.to_string()), ("scope", "articles:edit_assigned")];
    let started = client.start(&admin.access_token, &editor.id, &more).expect(200);
    assert_eq!((started.value("authorization_details"), started.str("scope")), (&details, "articles:edit_assigned"));
    assert_eq!(claims_of(started.str("access_token"))["authorization_details"], details);
    let acting = office.anonymous().with_token(started.str("access_token"));
    acting.patch(&inside, json!({ "title": "Mended" })).expect(200);
    outside(acting.get(&other));
    let metadata = office.anonymous().get("/.well-known/oauth-authorization-server").expect(200);
    assert_eq!(metadata.value("authorization_details_types_supported"), &json!(["article"]));
}

fn details_that_are_none_are_refused_at_the_token_endpoint(office: &Office) {
    let (admin, editor, other) = (office.administrator(), office.editor(), office.author());
    let client = office.presenter(json!({}));
    let id = "019aa0f0-0000-7000-8000-0000000000aa";
    let foreign = format!(r#"[{{"type":"article","identifier":"{}"}}]"#, id_of(&draft(&other)));
    let many = format!("[{}]", vec![format!(r#"{{"type":"article","identifier":"{id}"}}"#); 21].join(","));
    for details in [
        "x",
        "{}",
        "[]",
        r#"["article"]"#,
        &format!(r#"[{{"type":"user","identifier":"{id}"}}]"#),
        r#"[{"type":"article","identifier":"x"}]"#,
        r#"[{"type":"article"}]"#,
        &format!(r#"[{{"type":"article","identifier":"{id}","actions":["edit"]}}]"#),
        &many,
        &foreign,
        &format!(r#"[{{"type":"article","identifier":"{id}"}}]"#),
    ] {
        client.start(&admin.access_token, &editor.id, &[("authorization_details", details)]).oauth(400, "invalid_authorization_details");
    }
    // A narrower token keeps what it was made from.
    let details = format!(r#"[{{"type":"article","identifier":"{}"}}]"#, id_of(&draft(&editor)));
    client.exchange(&editor.access_token, &[("authorization_details", &details)]).oauth(400, "invalid_request");
    assert_eq!(admin.all_items("/v1/impersonations").len(), 0);
}

fn bounds_survive_a_restart_and_the_loss_of_a_permission(office: &Office) {
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    let path = under_review(&admin, &author, &editor);
    let acting: Acting = office.impersonate_with(&admin, &editor, json!({ "permissions": ["articles:edit_assigned"] }));
    office.restart();
    outside(acting.post("/v1/articles", new()));
    admin.patch(&format!("/v1/users/{}", editor.id), json!({ "role": "author" })).expect(200);
    // A grant gives nothing: what the role does not hold any more, it never held here.
    let refused = acting.post(&format!("{path}/actions"), json!({ "action": "accept" })).problem(403, "action_refused");
    assert_eq!(refused.reasons(), ["missing_permission"]);
    outside(acting.post("/v1/articles", new()));
}

fn logging_out_works_whatever_the_bounds(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let path = draft(&editor);
    for bounds in [
        json!({ "permissions": [] }),
        json!({ "resources": [resource(&path)] }),
        json!({ "permissions": [], "resources": [resource(&path)], "mode": "read_only" }),
    ] {
        let acting = office.impersonate_with(&admin, &editor, bounds);
        assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
    }
    set(&admin, json!({ "default_mode": "read_only" }));
    let acting = office.impersonate_with(&admin, &editor, json!({ "permissions": [] }));
    admin.delete(&format!("/v1/impersonations/{}", acting.id)).expect(204);
}
