//! Beginning to act as a user through a client, at the token endpoint (RFC 8693).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{
    ACCESS_TOKEN, BILLING, Caller, Client, Forger, JWT, Office, Person, Setup, USER_ID, at_once, claims_of, header_of, restore_challenge,
};

api_tests! {
    a_start_through_a_client_grants_a_token_that_names_all_three,
    a_start_is_for_whom_and_as_far_as_was_asked,
    a_start_reaches_as_far_as_subject_and_client_do,
    a_start_lasts_as_long_as_it_asks_for_and_never_longer_than_the_actors_token,
    a_start_needs_the_grant,
    a_service_that_merely_received_a_bearer_starts_nothing,
    only_a_live_own_token_for_actas_is_an_actor_token,
    an_exchanged_token_starts_nothing_and_the_attempt_is_recorded,
    a_missing_or_blank_subject_never_falls_back_to_the_caller,
    every_wrong_parameter_of_a_start_is_refused_and_leaves_nothing,
    targets_are_named_once_or_several_times,
    a_target_or_scope_that_the_client_may_not_have_is_refused,
    the_policy_is_the_one_of_the_plain_start_and_every_refusal_is_recorded,
    a_refused_start_through_a_client_counts_with_the_plain_ones,
    who_may_not_see_users_cannot_tell_a_forbidden_one_from_none,
    the_settings_bound_a_start_through_a_client,
    a_reason_may_be_optional_through_a_client_too,
    a_restore_proof_may_be_mandatory_through_a_client_too,
    logging_out_gives_the_actors_token_back_byte_for_byte_and_once,
    only_the_right_proof_brings_the_actors_token_back,
    a_read_only_start_reads_and_nothing_else,
    the_ceiling_holds_however_narrow_the_scope,
    an_unused_impersonation_of_a_client_ends,
    a_disabled_client_takes_its_impersonations_with_it_and_gives_nothing_back,
    the_original_sessions_end_ends_what_a_client_started,
    what_a_client_started_is_listed_and_ended_like_any_other,
    what_a_client_started_survives_a_restart_and_what_it_ended_does_not,
    no_start_outlives_the_disabling_of_its_client,
    [postgres] what_a_client_started_dies_on_every_instance,
}

const NOBODY: &str = "019aa0f0-0000-7000-8000-000000000001";

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The entries with this action about this thing.
fn entries(reader: &Caller, action: &str, resource_id: &str) -> Vec<Value> {
    reader.all_items(&format!("/v1/history?action={action}&resource_id={resource_id}"))
}

fn begin_a_minute(office: &Office) {
    office.advance(60 - office.now().timestamp().rem_euclid(60));
}

fn draft() -> Value {
    json!({ "title": "On tides", "abstract": "", "body": "" })
}

/// Demands that nobody acts as anybody, and that nobody ever did.
#[track_caller]
fn nothing_started(office: &Office) {
    assert_eq!(office.db_count("SELECT count(*) FROM sessions WHERE actor_id IS NOT NULL"), 0);
    assert_eq!(office.db_count("SELECT count(*) FROM entries WHERE action = 'impersonation.started'"), 0);
    assert_eq!(office.db_count("SELECT count(*) FROM ways_back"), 0);
}

fn a_start_through_a_client_grants_a_token_that_names_all_three(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let answer = client.start(&admin.access_token, &editor.id, &[("ticket", "HELP-7"), ("mode", "full")]).expect(200);
    assert_eq!(keys(&answer.body), ["access_token", "expires_in", "issued_token_type", "scope", "token_type"], "no refresh token");
    assert_eq!((answer.str("token_type"), answer.str("issued_token_type")), ("Bearer", ACCESS_TOKEN));
    assert_eq!(answer.str("scope"), "articles:create articles:edit_assigned");
    assert!((1795..=1800).contains(&answer.value("expires_in").as_i64().unwrap()), "{answer}");
    assert_eq!((answer.header("cache-control"), answer.header("pragma")), (Some("no-store"), Some("no-cache")));
    assert_eq!(answer.header("content-type"), Some("application/json"));

    let token = answer.str("access_token");
    let (header, claims) = (header_of(token), claims_of(token));
    assert_eq!((keys(&header), &header["typ"], &header["alg"]), (vec!["alg", "kid", "typ"], &json!("at+jwt"), &json!("EdDSA")));
    assert_eq!(header["kid"], header_of(&admin.access_token)["kid"]);
    assert_eq!(keys(&claims), ["act", "aud", "client_id", "exp", "iat", "iss", "jti", "nbf", "scope", "sid", "sub"]);
    assert_eq!((&claims["sub"], &claims["act"]), (&json!(editor.id), &json!({ "sub": admin.id })));
    assert_eq!((&claims["aud"], &claims["client_id"]), (&json!("actas"), &json!(client.id)));
    assert_eq!((&claims["iss"], &claims["scope"]), (&json!("http://localhost:8080"), answer.value("scope")));
    assert!(claims["exp"].as_i64().unwrap() <= claims_of(&admin.access_token)["exp"].as_i64().unwrap());
    assert_ne!(claims["jti"], claims_of(&admin.access_token)["jti"]);

    let acting = office.anonymous().with_token(token);
    let me = acting.get("/v1/me").expect(200);
    assert_eq!((me.str("kind"), me.value("subject"), me.value("actor")), ("impersonation", &editor.user_ref(), &admin.user_ref()));
    assert_eq!((me.header("actas-subject"), me.header("actas-actor")), (Some(editor.id.as_str()), Some(admin.id.as_str())));
    assert_eq!((me.value("id"), me.str("impersonation/ticket")), (&claims["sid"], "HELP-7"));
    acting.post("/v1/articles", draft()).expect(201);

    let entry = &entries(&admin, "impersonation.started", claims["sid"].as_str().unwrap())[0];
    assert_eq!((&entry["subject"], &entry["actor"]), (&admin.user_ref(), &Value::Null));
    let to = |field: &str| &entry["changes"][field]["to"];
    assert_eq!((to("reason"), to("ticket"), to("mode")), (&json!("the editor cannot act"), &json!("HELP-7"), &json!("full")));
    assert_eq!((to("subject_id"), to("client_id"), to("scope")), (&json!(editor.id), &json!(client.id), answer.value("scope")));
    let history = Value::from(admin.all_items("/v1/history?limit=200")).to_string();
    for secret in [token, &admin.access_token, &client.secret] {
        assert!(!history.contains(secret) && !history.contains(secret.rsplit('.').next().unwrap()));
    }
}

fn a_start_is_for_whom_and_as_far_as_was_asked(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let asked = [("scope", "articles:edit_assigned"), ("audience", BILLING), ("audience", "actas"), ("requested_token_type", JWT)];
    let answer = client.start(&admin.access_token, &editor.id, &asked).expect(200);
    assert_eq!((answer.str("scope"), answer.str("issued_token_type")), ("articles:edit_assigned", JWT));
    let claims = claims_of(answer.str("access_token"));
    assert_eq!((&claims["aud"], &claims["scope"]), (&json!([BILLING, "actas"]), &json!("articles:edit_assigned")));
    let acting = office.anonymous().with_token(answer.str("access_token"));
    assert_eq!(acting.get("/v1/me").expect(200).value("permissions"), &json!(["articles:edit_assigned"]));
    let refused = acting.post("/v1/articles", draft()).problem(403, "insufficient_scope");
    assert_eq!(refused.header("www-authenticate"), Some(r#"Bearer error="insufficient_scope", scope="articles:create""#));

    // For others alone: Actas itself does not take it.
    let answer = client.start(&admin.access_token, &editor.id, &[("resource", BILLING)]).expect(200);
    let elsewhere = office.anonymous().with_token(answer.str("access_token"));
    elsewhere.get("/v1/me").problem(401, "invalid_token");
    elsewhere.post("/v1/articles", draft()).problem(401, "invalid_token");
    let found = client.finds_active(answer.str("access_token"));
    assert_eq!((&found["aud"], &found["act"]), (&json!(BILLING), &json!({ "sub": admin.id })));
}

fn a_start_reaches_as_far_as_subject_and_client_do(office: &Office) {
    let (admin, editor, author) = (office.administrator(), office.editor(), office.author());
    let wide = office.presenter(json!({}));
    let narrow = office.presenter(json!({ "scope": "articles:edit_assigned users:read" }));
    for (client, subject, scope) in [
        (&wide, &editor, "articles:create articles:edit_assigned"),
        (&wide, &author, "articles:create"),
        (&narrow, &editor, "articles:edit_assigned"),
        (&narrow, &author, ""),
    ] {
        let answer = client.start(&admin.access_token, &subject.id, &[]).expect(200);
        assert_eq!(answer.str("scope"), scope);
        let acting = office.anonymous().with_token(answer.str("access_token"));
        let permissions: Vec<&str> = scope.split_whitespace().collect();
        assert_eq!(acting.get("/v1/me").expect(200).value("permissions"), &json!(permissions));
        let status = if permissions.contains(&"articles:create") { 201 } else { 403 };
        acting.post("/v1/articles", draft()).expect(status);
        // Whatever the scope, the rights are the subject's.
        acting.get("/v1/users").problem(403, "missing_permission");
    }
}

fn a_start_lasts_as_long_as_it_asks_for_and_never_longer_than_the_actors_token(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    for (asked, expected) in [("1", 1), ("60", 60), ("3600", 3600), ("", 1800)] {
        let admin = admin.log_in_again();
        let answer = client.start(&admin.access_token, &editor.id, &[("requested_duration", asked)]).expect(200);
        let claims = claims_of(answer.str("access_token"));
        let lasts = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert!((expected..=expected + 1).contains(&lasts), "{asked}: {lasts}");
        assert!(claims["exp"].as_i64() <= claims_of(&admin.access_token)["exp"].as_i64());
    }
    let original = claims_of(&admin.access_token)["exp"].as_i64().unwrap();
    office.advance(3000);
    let answer = client.start(&admin.access_token, &editor.id, &[("requested_duration", "3600")]).expect(200);
    assert_eq!(claims_of(answer.str("access_token"))["exp"], original);
    assert!((590..=600).contains(&answer.value("expires_in").as_i64().unwrap()), "{answer}");
    office.advance(601);
    let late = office.anonymous().with_token(answer.str("access_token"));
    assert_eq!(late.get("/v1/me").problem(401, "impersonation_ended").str("cause"), "expired");
}

fn a_start_needs_the_grant(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({ "grants": ["client_credentials", "token_exchange"] }));
    client.start(&admin.access_token, &editor.id, &[]).oauth(400, "unauthorized_client");
    office.first_party().start(&admin.access_token, &editor.id, &[]).oauth(400, "unauthorized_client");
    nothing_started(office);
    // It is asked for before anything is refused and recorded.
    client.start(&admin.access_token, &admin.id, &[]).oauth(400, "unauthorized_client");
    assert_eq!(office.db_count("SELECT count(*) FROM entries WHERE action = 'impersonation.refused'"), 0);
    office.change_client(&client.id, json!({ "grants": ["impersonate"] }));
    client.start(&admin.access_token, &editor.id, &[]).expect(200);
}

fn a_service_that_merely_received_a_bearer_starts_nothing(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let listed = office.presenter(json!({}));
    let stranger = office.client(json!({}));
    let refused = stranger.start(&admin.access_token, &editor.id, &[]).oauth(400, "invalid_request");
    assert!(refused.description().starts_with("actor_token: ") && refused.description().contains("presenter"), "{refused}");
    // That a client lists itself, or another that may present, is of no use.
    office.change_client(&stranger.id, json!({ "presenters": [stranger.id, listed.id] }));
    stranger.start(&admin.access_token, &editor.id, &[]).oauth(400, "invalid_request");
    office.change_client(&listed.id, json!({ "presenters": [stranger.id] }));
    stranger.start(&admin.access_token, &editor.id, &[]).oauth(400, "invalid_request");
    // Nor is anything recorded against somebody whose token was merely lying about.
    stranger.start(&admin.access_token, &admin.id, &[]).oauth(400, "invalid_request");
    assert_eq!(office.db_count("SELECT count(*) FROM entries WHERE action = 'impersonation.refused'"), 0);
    nothing_started(office);
    listed.start(&admin.access_token, &editor.id, &[]).expect(200);

    office.change_client("actas", json!({ "presenters": [] }));
    listed.start(&admin.access_token, &editor.id, &[]).oauth(400, "invalid_request");
}

fn only_a_live_own_token_for_actas_is_an_actor_token(office: &Office) {
    let (admin, editor, author) = (office.administrator(), office.editor(), office.author());
    let client = office.presenter(json!({}));
    let gone = admin.log_in_again();
    gone.log_out().expect(204);
    let own = client.credentials(&[]).expect(200);
    let for_others = Forger::of(office).with_claims(&admin.access_token, |claims| claims["aud"] = json!(BILLING));
    let expired = Forger::of(office).with_claims(&admin.access_token, |claims| claims["exp"] = json!(1));
    for token in [
        gone.access_token.as_str(),
        own.str("access_token"),
        &for_others,
        &expired,
        &admin.refresh_token,
        &admin.session_id,
        &admin.id,
        &format!("{}x", admin.access_token),
        "nonsense",
        " ",
    ] {
        let refused = client.start(token, &editor.id, &[]).oauth(400, "invalid_request");
        assert!(refused.description().starts_with("actor_token: "), "{refused}");
        assert!(!refused.text.contains(token) || token == " ", "{refused}");
    }
    // Nobody acts as anyone under impersonation, whoever started it.
    let (plain, through) = (office.impersonate(&admin, &editor), client.impersonate(&admin, &editor, &[]));
    for acting in [&plain, &through] {
        let refused = client.start(&acting.access_token, &author.id, &[]).oauth(400, "invalid_request");
        assert!(refused.description().contains("log out of that impersonation first"), "{refused}");
        assert_eq!(entries(&admin, "impersonation.refused", &author.id)[0]["impersonation_id"], acting.id);
    }
    assert_eq!(office.db_count("SELECT count(*) FROM sessions WHERE actor_id IS NOT NULL"), 2);
}

fn an_exchanged_token_starts_nothing_and_the_attempt_is_recorded(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let narrower = client.exchange(&admin.access_token, &[]).expect(200);
    assert!(narrower.str("scope").contains("users:impersonate"));
    let without = client.exchange(&admin.access_token, &[("scope", "users:read articles:read_all")]).expect(200);
    begin_a_minute(office);
    for (token, reasons) in [(&narrower, json!(["exchanged_token"])), (&without, json!(["insufficient_scope", "exchanged_token"]))] {
        begin_a_minute(office);
        let token = token.str("access_token");
        client.start(token, &editor.id, &[]).oauth(400, "invalid_request");
        let plain = office.anonymous().with_token(token).post(&format!("/v1/users/{}/impersonate", editor.id), json!({ "reason": "x" }));
        assert_eq!(json!(plain.problem(403, "impersonation_refused").reasons()), reasons);
        let entry = &entries(&admin, "impersonation.refused", &editor.id)[0];
        assert_eq!((&entry["changes"]["reasons"]["to"], &entry["count"]), (&reasons, &json!(2)), "{entry}");
        assert_eq!((&entry["subject"], &entry["actor"]), (&admin.user_ref(), &Value::Null));
    }
    nothing_started(office);
}

fn a_missing_or_blank_subject_never_falls_back_to_the_caller(office: &Office) {
    let admin = office.administrator();
    let client = office.presenter(json!({}));
    let start = |subject: &str, more: &[(&str, &str)]| client.start(&admin.access_token, subject, more);
    for subject in ["", " ", "%20", "null", "me", "\u{feff}", "00000000-0000-0000-0000-000000000000x"] {
        start(subject, &[]).oauth(400, "invalid_request");
    }
    for kind in ["", " ", "urn:ietf:params:oauth:token-type:user_id", "user_id", "urn:ietf:params:oauth:token-type:refresh_token"] {
        start(&admin.id, &[("subject_token_type", kind)]).oauth(400, "invalid_request");
    }
    // An id has one spelling.
    start(&office.editor().id.to_uppercase(), &[]).oauth(400, "invalid_request");
    nothing_started(office);
    assert_eq!(office.db_count("SELECT count(*) FROM exchanged_sessions"), 0);
}

fn every_wrong_parameter_of_a_start_is_refused_and_leaves_nothing(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let long = |length: usize| "x".repeat(length);
    let (reason, ticket, challenge) = (long(501), long(101), long(44));
    for (name, value) in [
        ("reason", ""),
        ("reason", "   "),
        ("reason", &reason),
        ("reason", "two\nlines"),
        ("reason", "turned \u{202E}dnuora"),
        ("ticket", "   "),
        ("ticket", &ticket),
        ("ticket", "HELP-1\r\nforged: line"),
        ("requested_duration", "0"),
        ("requested_duration", "-1"),
        ("requested_duration", "3601"),
        ("requested_duration", "1.5"),
        ("requested_duration", "1e3"),
        ("requested_duration", " 60"),
        ("requested_duration", "99999999999999999999"),
        ("mode", "write"),
        ("mode", "Full"),
        ("restore_challenge", "short"),
        ("restore_challenge", &challenge),
        ("actor_token", ""),
        ("actor_token_type", ""),
        ("actor_token_type", USER_ID),
        ("actor_token_type", "urn:ietf:params:oauth:token-type:id_token"),
        ("actor_token_type", "urn:ietf:params:oauth:token-type:refresh_token"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"),
        ("requested_token_type", USER_ID),
        ("subject_token_type", ACCESS_TOKEN),
        ("subject_token_type", JWT),
    ] {
        client.start(&admin.access_token, &editor.id, &[(name, value)]).oauth(400, "invalid_request");
    }
    for name in
        ["grant_type", "subject_token", "subject_token_type", "actor_token", "actor_token_type", "reason", "mode", "scope", "unknown"]
    {
        client.start(&admin.access_token, &editor.id, &[("mode", "full"), (name, "x"), (name, "x")]).oauth(400, "invalid_request");
        client.start(&admin.access_token, &editor.id, &[("mode", "full"), (name, "x"), (name, "")]).oauth(400, "invalid_request");
    }
    for scope in ["users:Read", "openid", "articles:create  users:read", " articles:create", "*", "articles:create\tusers:read"] {
        client.start(&admin.access_token, &editor.id, &[("scope", scope)]).oauth(400, "invalid_scope");
    }
    nothing_started(office);

    // What is unknown is ignored, and what is empty is absent.
    let spare = [
        ("reaſon", "x"),
        ("act", r#"{"sub":"x"}"#),
        ("sub", NOBODY),
        ("client_assertion", "x"),
        ("mode", ""),
        ("scope", ""),
        ("ticket", ""),
    ];
    let answer = client.start(&admin.access_token, &editor.id, &spare).expect(200);
    let claims = claims_of(answer.str("access_token"));
    assert_eq!((&claims["sub"], &claims["act"]), (&json!(editor.id), &json!({ "sub": admin.id })));
}

fn targets_are_named_once_or_several_times(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let names: Vec<String> = (0..11).map(|number| format!("https://{number}.example")).collect();
    let mut audiences = vec!["actas", "urn:example:stock", BILLING];
    audiences.extend(names.iter().map(String::as_str));
    let client = office.presenter(json!({ "audiences": audiences }));
    for (asked, expected) in [
        (vec![], json!("actas")),
        (vec![("audience", "")], json!("actas")),
        (vec![("audience", BILLING)], json!(BILLING)),
        (vec![("resource", "urn:example:stock")], json!("urn:example:stock")),
        (vec![("audience", BILLING), ("audience", BILLING), ("resource", BILLING)], json!(BILLING)),
        (
            vec![("audience", BILLING), ("resource", "urn:example:stock"), ("audience", "actas")],
            json!([BILLING, "actas", "urn:example:stock"]),
        ),
        (vec![("audience", client.id.as_str())], json!(client.id)),
    ] {
        let answer = client.start(&admin.access_token, &editor.id, &asked).expect(200);
        assert_eq!(claims_of(answer.str("access_token"))["aud"], expected, "{asked:?}");
    }
    let many: Vec<(&str, &str)> = names.iter().map(|name| ("audience", name.as_str())).collect();
    client.start(&admin.access_token, &editor.id, &many).oauth(400, "invalid_target");
    let answer = client.start(&admin.access_token, &editor.id, &many[..10]).expect(200);
    assert_eq!(claims_of(answer.str("access_token"))["aud"].as_array().unwrap().len(), 10);
}

fn a_target_or_scope_that_the_client_may_not_have_is_refused(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({ "audiences": [BILLING], "scope": "articles:create" }));
    let stranger = office.client(json!({}));
    for (name, value) in [
        ("audience", "https://other.example"),
        ("audience", "https://billing.example/"),
        ("audience", "HTTPS://BILLING.EXAMPLE"),
        ("audience", "two words"),
        ("audience", &format!("x{}", "y".repeat(200))),
        ("audience", "\"quoted\""),
        ("audience", stranger.id.as_str()),
        ("audience", "actas"),
        ("resource", "actas"),
        ("resource", "/path"),
        ("resource", "https://billing.example#part"),
        ("resource", "https://other.example"),
        // Left out it would be Actas, which this client may not address.
        ("audience", ""),
    ] {
        client.start(&admin.access_token, &editor.id, &[(name, value)]).oauth(400, "invalid_target");
    }
    let one_wrong = [("audience", BILLING), ("audience", "https://other.example")];
    client.start(&admin.access_token, &editor.id, &one_wrong).oauth(400, "invalid_target");
    for scope in ["articles:edit_assigned", "articles:create users:read", "users:impersonate", "articles:create articles:edit_assigned"] {
        client.start(&admin.access_token, &editor.id, &[("audience", BILLING), ("scope", scope)]).oauth(400, "invalid_scope");
    }
    nothing_started(office);
    let asked = [("audience", BILLING), ("scope", "articles:create")];
    assert_eq!(client.start(&admin.access_token, &editor.id, &asked).expect(200).str("scope"), "articles:create");
}

fn the_policy_is_the_one_of_the_plain_start_and_every_refusal_is_recorded(office: &Office) {
    let chief = office.administrator();
    let client = office.presenter(json!({}));
    let mut subjects = Vec::new();
    for role in ["administrator", "support", "editor", "author"] {
        for is_disabled in [false, true] {
            let person = office.person(role, "Pat");
            if is_disabled {
                chief.patch(&format!("/v1/users/{}", person.id), json!({ "status": "disabled" })).expect(200);
            }
            subjects.push(person);
        }
    }
    let mut allowed = BTreeSet::new();
    for role in ["administrator", "support", "editor", "author"] {
        let caller = office.person(role, "Cal");
        for subject in subjects.iter().chain([&caller]) {
            begin_a_minute(office);
            let caller = caller.log_in_again();
            let plain = caller.post(&format!("/v1/users/{}/impersonate", subject.id), json!({ "reason": "x" }));
            let through = client.start(&caller.access_token, &subject.id, &[]);
            if plain.status == 201 {
                through.expect(200);
                allowed.insert((role, subject.role.clone()));
                continue;
            }
            let plain = plain.problem(403, "impersonation_refused");
            let through = through.oauth(400, "invalid_request");
            for reason in plain.value("reasons").as_array().unwrap() {
                assert!(through.description().contains(reason["detail"].as_str().unwrap()), "{plain}\n{through}");
            }
            let recorded = entries(&chief, "impersonation.refused", &subject.id);
            let recorded: Vec<_> = recorded.iter().filter(|entry| entry["subject"]["id"] == caller.id).collect();
            assert_eq!(recorded.len(), 1, "{recorded:#?}");
            assert_eq!((&recorded[0]["count"], &recorded[0]["changes"]["reasons"]["to"]), (&json!(2), &json!(plain.reasons())));
        }
    }
    let may = ["administrator", "support"].into_iter().flat_map(|role| [(role, "editor".to_owned()), (role, "author".to_owned())]);
    assert_eq!(allowed, may.collect());

    let admin = chief.log_in_again();
    client.start(&admin.access_token, NOBODY, &[]).oauth(400, "invalid_request");
    assert_eq!(entries(&chief, "impersonation.refused", NOBODY).len(), 0);
}

fn a_refused_start_through_a_client_counts_with_the_plain_ones(office: &Office) {
    let (admin, sue) = (office.administrator(), office.support());
    let client = office.presenter(json!({}));
    begin_a_minute(office);
    for _ in 0..3 {
        client.start(&sue.access_token, &admin.id, &[]).oauth(400, "invalid_request");
    }
    sue.post(&format!("/v1/users/{}/impersonate", admin.id), json!({ "reason": "x" })).problem(403, "impersonation_refused");
    let found = entries(&admin, "impersonation.refused", &admin.id);
    assert_eq!((found.len(), &found[0]["count"], &found[0]["subject"]), (1, &json!(4), &sue.user_ref()));
    let answers = at_once(10, |_| client.start(&sue.access_token, &admin.id, &[]));
    answers.into_iter().for_each(|answer| drop(answer.oauth(400, "invalid_request")));
    assert_eq!(entries(&admin, "impersonation.refused", &admin.id)[0]["count"], 14);
}

fn who_may_not_see_users_cannot_tell_a_forbidden_one_from_none(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let client = office.presenter(json!({}));
    let answer = |subject: &str| client.start(&author.access_token, subject, &[]).oauth(400, "invalid_request");
    assert_eq!(answer(&admin.id).body, answer(NOBODY).body);
    assert_eq!(entries(&admin, "impersonation.refused", NOBODY).len(), 1);
    assert_eq!(entries(&admin, "impersonation.refused", &admin.id).len(), 1);
}

fn the_settings_bound_a_start_through_a_client(setup: Setup) {
    let office = setup.with("IMPERSONATION_TTL_SECONDS", 60).with("IMPERSONATION_MAX_SECONDS", 120).open();
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let usual = client.start(&admin.access_token, &editor.id, &[]).expect(200);
    assert!((55..=60).contains(&usual.value("expires_in").as_i64().unwrap()), "{usual}");
    client.start(&admin.access_token, &editor.id, &[("requested_duration", "120")]).expect(200);
    let refused = client.start(&admin.access_token, &editor.id, &[("requested_duration", "121")]).oauth(400, "invalid_request");
    assert!(refused.description().contains("1 to 120"), "{refused}");
}

fn a_reason_may_be_optional_through_a_client_too(setup: Setup) {
    let office = setup.with("IMPERSONATION_REASON", "optional").open();
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let answer = client.start(&admin.access_token, &editor.id, &[("reason", "")]).expect(200);
    let me = office.anonymous().with_token(answer.str("access_token")).get("/v1/me").expect(200);
    assert_eq!(me.value("impersonation/reason"), &Value::Null);
}

fn a_restore_proof_may_be_mandatory_through_a_client_too(setup: Setup) {
    let office = setup.with("REQUIRE_RESTORE_PROOF", true).open();
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let refused = client.start(&admin.access_token, &editor.id, &[]).oauth(400, "invalid_request");
    assert!(refused.description().contains("restore_challenge"), "{refused}");
    nothing_started(&office);
    let acting = client.impersonate(&admin, &editor, &[]);
    assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
}

fn logging_out_gives_the_actors_token_back_byte_for_byte_and_once(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let acting = client.impersonate(&admin, &editor, &[]);
    let answers = at_once(20, |_| acting.log_out());
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!((won.len(), won[0].str("access_token")), (1, admin.access_token.as_str()));
    assert_eq!(won[0].value("session/subject"), &admin.user_ref());
    assert_eq!((won[0].body.get("refresh_token"), won[0].value("session/actor")), (None, &Value::Null));
    lost.into_iter().for_each(|answer| drop(answer.problem(401, "impersonation_ended")));
    admin.get("/v1/me").expect(200);
    let entry = &entries(&admin, "impersonation.ended", &acting.id)[..];
    assert_eq!(entry.len(), 1);
    assert_eq!((&entry[0]["subject"], &entry[0]["actor"]), (&editor.user_ref(), &admin.user_ref()));

    // As after any other end by itself.
    let expired = client.impersonate(&admin, &editor, &[("requested_duration", "60")]);
    office.advance(61);
    assert_eq!(expired.log_out().expect(200).str("access_token"), admin.access_token);
    expired.log_out().problem(401, "impersonation_ended");
}

fn only_the_right_proof_brings_the_actors_token_back(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let other = "another-verifier-that-nobody-ever-hashed-into-it";
    for body in [json!({}), json!({ "restore_verifier": other }), json!({ "restore_verifier": restore_challenge(other) })] {
        let acting = client.impersonate(&admin, &editor, &[]);
        acting.post("/v1/auth/logout", body).problem(401, "restore_proof_required");
        acting.log_out().problem(401, "impersonation_ended");
    }
    // Where none was asked for, none brings it back.
    let acting = client.impersonate(&admin, &editor, &[("restore_challenge", "")]);
    acting.log_out().problem(401, "restore_proof_required");
    let acting = client.impersonate(&admin, &editor, &[("restore_challenge", "")]);
    assert_eq!(acting.post_empty("/v1/auth/logout").expect(200).str("access_token"), admin.access_token);
    admin.get("/v1/me").expect(200);
}

fn a_read_only_start_reads_and_nothing_else(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let acting = client.impersonate(&admin, &editor, &[("mode", "read_only")]);
    acting.get("/v1/articles").expect(200);
    acting.post("/v1/articles", draft()).problem(403, "read_only_impersonation");
    assert_eq!(client.finds_active(&acting.access_token)["mode"], "read_only");
    // No exchange widens it.
    let narrower = client.exchange(&acting.access_token, &[]).expect(200);
    assert_eq!(client.finds_active(narrower.str("access_token"))["mode"], "read_only");
    acting.with_token(narrower.str("access_token")).post("/v1/articles", draft()).problem(403, "read_only_impersonation");
    assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
}

fn the_ceiling_holds_however_narrow_the_scope(office: &Office) {
    let chief = office.administrator();
    let client = office.presenter(json!({}));
    let narrow = office.presenter(json!({ "scope": "articles:create" }));
    let set = |user: &Person, change: Value| drop(chief.patch(&format!("/v1/users/{}", user.id), change).expect(200));
    for (changes_the_actor, change, cause) in [
        (false, json!({ "role": "support" }), "subject_changed"),
        (false, json!({ "role": "administrator" }), "subject_changed"),
        (false, json!({ "status": "disabled" }), "subject_changed"),
        (true, json!({ "role": "author" }), "actor_demoted"),
        (true, json!({ "status": "disabled" }), "actor_disabled"),
    ] {
        let (admin, editor) = (office.administrator(), office.editor());
        let started = [
            client.impersonate(&admin, &editor, &[]),
            client.impersonate(&admin, &editor, &[("scope", "articles:create")]),
            narrow.impersonate(&admin, &editor, &[]),
        ];
        let narrower = client.exchange(&started[0].access_token, &[("scope", "articles:create")]).expect(200);
        set(if changes_the_actor { &admin } else { &editor }, change.clone());
        for acting in &started {
            assert_eq!(acting.get("/v1/me").problem(401, "impersonation_ended").str("cause"), cause, "{change}");
            client.finds_inactive(&acting.access_token);
        }
        chief.with_token(narrower.str("access_token")).get("/v1/me").problem(401, "impersonation_ended");
    }
}

fn an_unused_impersonation_of_a_client_ends(setup: Setup) {
    let office = setup.with("IMPERSONATION_IDLE_SECONDS", 100).open();
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let acting = client.impersonate(&admin, &editor, &[]);
    office.advance(80);
    acting.get("/v1/me").expect(200);
    // To be looked at is not to be used.
    office.advance(80);
    client.finds_active(&acting.access_token);
    office.advance(21);
    client.finds_inactive(&acting.access_token);
    client.exchange(&acting.access_token, &[]).oauth(400, "invalid_request");
    assert_eq!(acting.get("/v1/me").problem(401, "impersonation_ended").str("cause"), "idle");
    assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
}

fn a_disabled_client_takes_its_impersonations_with_it_and_gives_nothing_back(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let (client, other) = (office.presenter(json!({})), office.presenter(json!({})));
    let (acting, asleep) = (client.impersonate(&admin, &editor, &[]), client.impersonate(&admin, &editor, &[("requested_duration", "1")]));
    let (of_other, plain) = (other.impersonate(&admin, &editor, &[]), office.impersonate(&admin, &editor));
    let of_acting = other.exchange(&acting.access_token, &[]);
    of_acting.oauth(400, "invalid_request");
    office.advance(2);
    office.disable_client(&client);
    assert_eq!(acting.get("/v1/me").problem(401, "impersonation_ended").str("cause"), "client_disabled");
    assert_eq!(acting.log_out().problem(401, "impersonation_ended").str("cause"), "client_disabled");
    assert_eq!(asleep.log_out().problem(401, "impersonation_ended").str("cause"), "expired", "no way back is left open");
    other.finds_inactive(&acting.access_token);
    for alive in [&of_other, &plain] {
        alive.get("/v1/me").expect(200);
    }
    let listed = admin.get(&format!("/v1/impersonations/{}", acting.id)).expect(200);
    assert_eq!((listed.str("status"), listed.str("cause"), listed.value("ended_by")), ("ended", "client_disabled", &Value::Null));
    assert_eq!(entries(&admin, "impersonation.ended", &acting.id).len(), 1);
    client.start(&admin.access_token, &editor.id, &[]).oauth(401, "invalid_client");
    // Letting it in again opens nothing that was closed.
    office.change_client(&client.id, json!({ "status": "active" }));
    acting.get("/v1/me").problem(401, "impersonation_ended");
    acting.log_out().problem(401, "impersonation_ended");
    admin.get("/v1/me").expect(200);
    client.impersonate(&admin, &editor, &[]).get("/v1/me").expect(200);
}

fn the_original_sessions_end_ends_what_a_client_started(office: &Office) {
    let (chief, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let first_party = office.first_party();
    type End<'a> = Box<dyn Fn(&Person) + 'a>;
    let ends: [End<'_>; 4] = [
        Box::new(|admin| drop(admin.log_out().expect(204))),
        Box::new(|admin| drop(chief.delete(&format!("/v1/users/{}/sessions", admin.id)).expect(204))),
        Box::new(|admin| drop(first_party.revoke(&admin.access_token).expect(200))),
        Box::new(|admin| drop(first_party.revoke(&admin.refresh_token).expect(200))),
    ];
    for end in ends {
        let admin = office.administrator();
        let acting = client.impersonate(&admin, &editor, &[]);
        let narrower = client.exchange(&acting.access_token, &[]).expect(200);
        end(&admin);
        assert_eq!(acting.get("/v1/me").problem(401, "impersonation_ended").str("cause"), "original_session_ended");
        chief.with_token(narrower.str("access_token")).get("/v1/me").problem(401, "impersonation_ended");
        acting.log_out().problem(401, "original_session_ended");
        client.finds_inactive(&acting.access_token);
        client.finds_inactive(narrower.str("access_token"));
        assert_eq!(entries(&chief, "impersonation.ended", &acting.id).len(), 1);
    }
}

fn what_a_client_started_is_listed_and_ended_like_any_other(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    for person in [&admin, &editor] {
        let acting = client.impersonate(&admin, &editor, &[]);
        let listed = admin.get(&format!("/v1/impersonations/{}", acting.id)).expect(200);
        assert_eq!((listed.str("status"), listed.value("actor"), listed.str("ticket")), ("live", &admin.user_ref(), "HELP-1"));
        assert!(editor.all_items("/v1/me/impersonations").iter().any(|seen| seen["id"] == acting.id));
        person.delete(&format!("/v1/impersonations/{}", acting.id)).expect(204);
        assert_eq!(acting.log_out().problem(401, "impersonation_ended").str("cause"), "ended_by_person");
    }
}

fn what_a_client_started_survives_a_restart_and_what_it_ended_does_not(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let (live, revoked) = (client.impersonate(&admin, &editor, &[]), client.impersonate(&admin, &editor, &[]));
    client.revoke(&revoked.access_token).expect(200);
    office.restart();
    assert_eq!(live.get("/v1/me").expect(200).value("actor"), &admin.user_ref());
    assert_eq!(live.log_out().expect(200).str("access_token"), admin.access_token);
    for acting in [&live, &revoked] {
        acting.get("/v1/me").problem(401, "impersonation_ended");
        acting.log_out().problem(401, "impersonation_ended");
        client.finds_inactive(&acting.access_token);
        client.exchange(&acting.access_token, &[]).oauth(400, "invalid_request");
        client.revoke(&acting.access_token).expect(200);
    }
}

fn no_start_outlives_the_disabling_of_its_client(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    for _ in 0..3 {
        let client = office.presenter(json!({}));
        let started = at_once(9, |number| {
            if number == 4 {
                office.disable_client(&client);
                return None;
            }
            let answer = client.start(&admin.access_token, &editor.id, &[]);
            if answer.status == 200 {
                return Some(answer.str("access_token").to_owned());
            }
            answer.oauth(401, "invalid_client");
            None
        });
        for token in started.into_iter().flatten() {
            let answer = admin.with_token(&token).get("/v1/me").problem(401, "impersonation_ended");
            assert_eq!(answer.str("cause"), "client_disabled");
        }
    }
    assert_eq!(admin.all_items("/v1/impersonations?status=live").len(), 0);
}

fn what_a_client_started_dies_on_every_instance(office: &Office) {
    let second = office.second_instance().unwrap();
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let there: Client = client.at(&second);
    for number in 0..3 {
        let acting = client.impersonate(&admin, &editor, &[]);
        acting.at(&second).get("/v1/me").expect(200);
        there.finds_active(&acting.access_token);
        match number {
            0 => drop(acting.log_out().expect(200)),
            1 => drop(client.revoke(&acting.access_token).expect(200)),
            _ => office.disable_client(&client),
        }
        acting.at(&second).get("/v1/me").problem(401, "impersonation_ended");
        acting.at(&second).post("/v1/articles", draft()).problem(401, "impersonation_ended");
        if number < 2 {
            there.finds_inactive(&acting.access_token);
        } else {
            there.introspect(&acting.access_token).oauth(401, "invalid_client");
        }
    }
}
