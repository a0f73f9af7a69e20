//! Looking at a token (RFC 7662): what is told of one that counts, and that nothing is of any other.

use serde_json::{Value, json};

use crate::harness::{BILLING, Caller, Forger, Office, Person, Setup, basic, claims_of};
use crate::oauth_exchange::narrowed;

api_tests! {
    a_live_token_of_every_kind_is_described_by_what_it_is,
    an_impersonation_is_told_with_its_actor_and_its_mode,
    what_is_told_of_rights_is_what_holds_now,
    nothing_is_told_of_a_token_for_somebody_else,
    of_several_audiences_each_may_look,
    nothing_is_told_of_what_is_no_live_access_token,
    an_end_is_seen_at_once,
    an_end_is_seen_by_the_token_of_every_service,
    a_token_is_looked_at_and_not_used,
    whoever_looks_has_to_say_who_they_are,
    a_hint_is_of_no_consequence,
    every_wrong_request_is_refused,
    a_moved_clock_ends_every_token_to_the_second,
    what_is_asked_leaves_no_trace_in_the_history,
    [postgres] an_end_on_one_instance_is_seen_on_the_other,
}

const ALWAYS: [&str; 11] = ["active", "aud", "client_id", "exp", "iat", "iss", "jti", "nbf", "scope", "sid", "sub"];

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// What is always told, and these beside it.
fn always_and(more: &[&'static str]) -> Vec<&'static str> {
    let mut all = [&ALWAYS[..], &["token_type"], more].concat();
    all.sort_unstable();
    all
}

fn bearer(office: &Office, token: &str) -> Caller {
    office.anonymous().with_token(token)
}

fn a_live_token_of_every_kind_is_described_by_what_it_is(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let acting = office.impersonate(&admin, &editor);
    let through = client.impersonate(&admin, &editor, &[("audience", "actas"), ("audience", BILLING)]);
    let of_own = narrowed(&client, &editor.access_token, &[("scope", "articles:create")]);
    let of_acting = narrowed(&client, &through.access_token, &[("audience", BILLING)]);
    let own = client.credentials(&[("scope", "users:read")]).expect(200).str("access_token").to_owned();
    for (token, members) in [
        (&editor.access_token, always_and(&[])),
        (&acting.access_token, always_and(&["act", "mode"])),
        (&through.access_token, always_and(&["act", "mode"])),
        (&of_own, always_and(&["root_sid"])),
        (&of_acting, always_and(&["act", "mode", "root_sid"])),
        (&own, always_and(&[])),
    ] {
        let answer = client.introspect(token).expect(200);
        assert_eq!((answer.header("cache-control"), answer.header("pragma")), (Some("no-store"), Some("no-cache")));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(keys(&answer.body), members);
        assert_eq!((answer.value("active"), answer.str("token_type")), (&json!(true), "Bearer"));
        let claims = claims_of(token);
        for (name, claim) in claims.as_object().unwrap() {
            assert_eq!(answer.value(name), claim, "{name}");
        }
        assert!(!answer.text.contains(token.rsplit('.').next().unwrap()));
    }
}

fn an_impersonation_is_told_with_its_actor_and_its_mode(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    for mode in ["full", "read_only"] {
        let plain = office.impersonate_with(&admin, &editor, json!({ "mode": mode }));
        let through = client.impersonate(&admin, &editor, &[("mode", mode)]);
        let narrower = narrowed(&client, &plain.access_token, &[("audience", BILLING)]);
        for token in [&plain.access_token, &through.access_token, &narrower] {
            let found = client.finds_active(token);
            assert_eq!((&found["act"], &found["sub"]), (&json!({ "sub": admin.id }), &json!(editor.id)));
            assert_eq!((&found["mode"], &found["sid"]), (&json!(mode), &claims_of(token)["sid"]));
        }
    }
    for token in [&admin.access_token, client.credentials(&[]).expect(200).str("access_token")] {
        let found = client.finds_active(token);
        assert_eq!((found.get("act"), found.get("mode"), found.get("root_sid")), (None, None, None));
    }
}

fn what_is_told_of_rights_is_what_holds_now(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let of_own = narrowed(&client, &editor.access_token, &[("scope", "articles:edit_assigned")]);
    let acting = office.impersonate(&admin, &editor);
    let scopes = || [&editor.access_token, &acting.access_token, &of_own].map(|token| client.finds_active(token)["scope"].clone());
    let all = json!("articles:create articles:edit_assigned");
    assert_eq!(scopes(), [all.clone(), all, json!("articles:edit_assigned")]);
    admin.patch(&format!("/v1/users/{}", editor.id), json!({ "role": "author" })).expect(200);
    assert_eq!(scopes(), [json!("articles:create"), json!("articles:create"), json!("")]);
}

fn nothing_is_told_of_a_token_for_somebody_else(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({ "audiences": ["actas", BILLING, "https://stock.example"] }));
    let billing = office.client(json!({ "audiences": [BILLING] }));
    let stock = office.client(json!({ "audiences": ["https://stock.example"] }));
    let nobodys = office.client(json!({ "audiences": [] }));
    let acting = office.impersonate(&admin, &editor);
    let to_billing = narrowed(&client, &acting.access_token, &[("audience", BILLING)]);
    billing.finds_active(&to_billing);
    for stranger in [&stock, &nobodys] {
        stranger.finds_inactive(&to_billing);
    }
    for stranger in [&billing, &stock, &nobodys] {
        for token in [&admin.access_token, &acting.access_token] {
            stranger.finds_inactive(token);
        }
        stranger.finds_inactive(client.credentials(&[]).expect(200).str("access_token"));
    }
    // Not even of one that was given to the client itself, if it is for others.
    let given = office.client(json!({ "audiences": [BILLING] })).credentials(&[]).expect(200).str("access_token").to_owned();
    stock.finds_inactive(&given);
    // A client is the audience that its id names.
    office.change_client(&client.id, json!({ "audiences": ["actas", nobodys.id] }));
    let to_id = narrowed(&client, &editor.access_token, &[("audience", &nobodys.id)]);
    nobodys.finds_active(&to_id);
    billing.finds_inactive(&to_id);
}

fn of_several_audiences_each_may_look(office: &Office) {
    let editor = office.editor();
    let client = office.presenter(json!({}));
    let (billing, ours) = (office.client(json!({ "audiences": [BILLING] })), office.client(json!({ "audiences": ["actas"] })));
    let both = narrowed(&client, &editor.access_token, &[("audience", BILLING), ("audience", "actas")]);
    for each in [&billing, &ours, &client] {
        assert_eq!(each.finds_active(&both)["aud"], json!([BILLING, "actas"]));
    }
    office.change_client(&billing.id, json!({ "audiences": [] }));
    billing.finds_inactive(&both);
}

fn nothing_is_told_of_what_is_no_live_access_token(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let forger = Forger::of(office);
    let token = &editor.access_token;
    let setup = admin.post_empty(&format!("/v1/users/{}/setup-token", office.author().id)).expect(201).str("setup_token").to_owned();
    for other in [
        editor.refresh_token.as_str(),
        &setup,
        &client.secret,
        &editor.session_id,
        &editor.id,
        "nonsense",
        "..",
        " ",
        &"a".repeat(20_000),
        &format!("{token}x"),
        &format!(" {token}"),
        &format!("Bearer {token}"),
        &forger.with_claims(token, |claims| claims["iss"] = json!("https://example.org")),
        &forger.with_claims(token, |claims| claims["exp"] = json!(1)),
        &forger.with_claims(token, |claims| claims["nbf"] = json!(claims["nbf"].as_i64().unwrap() + 600)),
        &forger.with_claims(token, |claims| claims["sub"] = json!(admin.id)),
        &forger.with_claims(token, |claims| claims["act"] = json!({ "sub": admin.id })),
        &forger.with_claims(token, |claims| claims["client_id"] = json!(client.id)),
        &forger.with_header(token, |header| header["typ"] = json!("JWT")),
    ] {
        client.finds_inactive(other);
    }
    client.finds_active(token);
}

fn an_end_is_seen_at_once(office: &Office) {
    let chief = office.administrator();
    let client = office.presenter(json!({}));
    let first_party = office.first_party();
    type End<'a> = Box<dyn Fn(&Person, &Person, &crate::harness::Acting) + 'a>;
    let ends: [End<'_>; 6] = [
        Box::new(|_, _, acting| drop(acting.log_out().expect(200))),
        Box::new(|_, editor, acting| drop(editor.delete(&format!("/v1/impersonations/{}", acting.id)).expect(204))),
        Box::new(|admin, _, _| drop(admin.log_out().expect(204))),
        Box::new(|_, _, acting| drop(first_party.revoke(&acting.access_token).expect(200))),
        Box::new(|_, editor, _| drop(chief.patch(&format!("/v1/users/{}", editor.id), json!({ "status": "disabled" })).expect(200))),
        Box::new(|admin, _, _| drop(chief.patch(&format!("/v1/users/{}", admin.id), json!({ "role": "author" })).expect(200))),
    ];
    for end in ends {
        let (admin, editor) = (office.administrator(), office.editor());
        let acting = office.impersonate(&admin, &editor);
        client.finds_active(&acting.access_token);
        end(&admin, &editor, &acting);
        client.finds_inactive(&acting.access_token);
    }
    let editor = office.editor();
    client.finds_active(&editor.access_token);
    editor.log_out().expect(204);
    client.finds_inactive(&editor.access_token);
    let own = client.credentials(&[]).expect(200).str("access_token").to_owned();
    client.revoke(&own).expect(200);
    client.finds_inactive(&own);
}

fn an_end_is_seen_by_the_token_of_every_service(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let billing = office.client(json!({ "audiences": [BILLING] }));
    for _ in 0..2 {
        let acting = client.impersonate(&admin, &editor, &[]);
        let at_billing = narrowed(&client, &acting.access_token, &[("audience", BILLING)]);
        let deeper = narrowed(&billing, &at_billing, &[]);
        for token in [&at_billing, &deeper] {
            assert_eq!(billing.finds_active(token)["act"], json!({ "sub": admin.id }));
        }
        acting.log_out().expect(200);
        for token in [&at_billing, &deeper] {
            billing.finds_inactive(token);
        }
    }
}

fn a_token_is_looked_at_and_not_used(setup: Setup) {
    let office = setup.with("IMPERSONATION_IDLE_SECONDS", 100).open();
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let acting = office.impersonate(&admin, &editor);
    for _ in 0..3 {
        office.advance(30);
        client.finds_active(&acting.access_token);
    }
    office.advance(30);
    client.finds_inactive(&acting.access_token);
    // Nor is its end written down by somebody who only looks.
    assert_eq!(acting.get("/v1/me").problem(401, "impersonation_ended").str("cause"), "idle");
    assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
}

fn whoever_looks_has_to_say_who_they_are(office: &Office) {
    let editor = office.editor();
    let client = office.client(json!({}));
    let fields = [("token", editor.access_token.as_str())];
    client.bare("/oauth/introspect", &fields).send().oauth(401, "invalid_client");
    client.with_secret("wrong").introspect(&editor.access_token).oauth(401, "invalid_client");
    office.first_party().introspect(&editor.access_token).oauth(401, "invalid_client");
    // Not by the very token either.
    let by_itself = client.bare("/oauth/introspect", &fields).header("Authorization", &format!("Bearer {}", editor.access_token)).send();
    by_itself.oauth(401, "invalid_client");
    client.finds_active(&editor.access_token);
    office.disable_client(&client);
    client.introspect(&editor.access_token).oauth(401, "invalid_client");
}

fn a_hint_is_of_no_consequence(office: &Office) {
    let editor = office.editor();
    let client = office.client(json!({}));
    for hint in ["", "access_token", "refresh_token", "nonsense", "\u{e9}"] {
        let look = |token: &str| {
            client.post("/oauth/introspect", &[("token", token), ("token_type_hint", hint)]).expect(200).body["active"].clone()
        };
        assert_eq!(look(&editor.access_token), true, "{hint}");
        assert_eq!(look(&editor.refresh_token), false, "{hint}");
    }
}

fn every_wrong_request_is_refused(office: &Office) {
    let editor = office.editor();
    let client = office.client(json!({}));
    let token = editor.access_token.as_str();
    for fields in [
        vec![],
        vec![("token", "")],
        vec![("Token", token)],
        vec![("token", token), ("token", token)],
        vec![("token", token), ("token", "")],
        vec![("token", token), ("token_type_hint", "a"), ("token_type_hint", "a")],
    ] {
        client.post("/oauth/introspect", &fields).oauth(400, "invalid_request");
    }
    client.post("/oauth/introspect", &[("token", token), ("nonsense", "x")]).expect(200);
    let header = basic(&client.id, &client.secret);
    let nobody = office.anonymous();
    nobody
        .request("GET", &format!("/oauth/introspect?token={token}"))
        .header("Authorization", &header)
        .send()
        .problem(405, "method_not_allowed");
    nobody
        .request("POST", "/oauth/introspect")
        .header("Authorization", &header)
        .json(&json!({ "token": token }))
        .send()
        .oauth(400, "invalid_request");
}

fn a_moved_clock_ends_every_token_to_the_second(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let acting = office.impersonate_with(&admin, &editor, json!({ "duration_seconds": 600 }));
    let narrower = narrowed(&client, &editor.access_token, &[("requested_duration", "600")]);
    for token in [&acting.access_token, &narrower] {
        client.finds_active(token);
    }
    office.advance(598);
    for token in [&acting.access_token, &narrower] {
        client.finds_active(token);
    }
    office.advance(3);
    for token in [&acting.access_token, &narrower] {
        client.finds_inactive(token);
    }
    client.finds_active(&editor.access_token);
    office.advance(3000);
    client.finds_inactive(&editor.access_token);
    bearer(office, &editor.access_token).get("/v1/me").problem(401, "token_expired");
}

fn what_is_asked_leaves_no_trace_in_the_history(office: &Office) {
    let editor = office.editor();
    let client = office.client(json!({}));
    let before = office.db_count("SELECT count(*) FROM entries");
    client.finds_active(&editor.access_token);
    client.finds_inactive("nonsense");
    office.first_party().introspect("x").oauth(401, "invalid_client");
    assert_eq!(office.db_count("SELECT count(*) FROM entries"), before);
}

fn an_end_on_one_instance_is_seen_on_the_other(office: &Office) {
    let second = office.second_instance().unwrap();
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    for _ in 0..3 {
        let acting = office.impersonate(&admin, &editor);
        let narrower = narrowed(&client, &acting.access_token, &[("audience", BILLING)]);
        for token in [&acting.access_token, &narrower] {
            client.at(&second).finds_active(token);
        }
        acting.log_out().expect(200);
        for token in [&acting.access_token, &narrower] {
            client.at(&second).finds_inactive(token);
        }
    }
}
