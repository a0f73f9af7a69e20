//! Exchanging a token for a narrower one (RFC 8693): fewer scopes, another audience, a shorter life, and nothing else.

use serde_json::{Value, json};

use crate::harness::{
    ACCESS_TOKEN, BILLING, Caller, Client, Forger, JWT, Office, Person, Setup, TOKEN_EXCHANGE, USER_ID, at_once, claims_of, header_of,
};

api_tests! {
    an_exchange_gives_a_narrower_token_of_the_same_user,
    an_exchange_keeps_the_actor_whatever_the_request_says,
    a_narrower_token_does_less_and_the_presented_one_as_much_as_before,
    a_wider_scope_is_refused_however_it_is_asked_for,
    a_narrower_token_ends_no_later_than_the_presented_one,
    a_narrower_impersonation_ends_no_later_than_the_impersonation,
    another_audience_is_another_services_alone,
    an_exchange_needs_the_grant_and_the_right_to_present_the_token,
    whoever_a_token_is_addressed_to_may_exchange_it,
    no_dead_or_foreign_token_is_exchanged,
    every_wrong_parameter_of_an_exchange_is_refused_and_leaves_nothing,
    the_original_token_is_logouts_to_give_back_and_a_hint_says_so,
    a_narrower_token_never_restores_refreshes_or_starts,
    logging_out_of_a_narrower_token_ends_it_alone,
    what_is_the_users_own_affair_needs_the_users_own_token,
    what_ends_the_presented_tokens_session_ends_the_narrower_token,
    what_ends_an_impersonation_ends_its_narrower_tokens,
    ending_one_in_the_middle_ends_what_was_made_from_it,
    a_disabled_client_takes_its_narrower_tokens_and_theirs_with_it,
    a_narrower_token_is_recorded_with_the_right_people_and_no_secret,
    a_narrower_token_is_no_session_that_anyone_lists,
    narrower_tokens_survive_a_restart_and_dead_ones_stay_dead,
    rows_past_their_time_are_swept_without_an_entry,
    use_of_a_narrower_token_keeps_an_impersonation_alive,
    parallel_exchanges_are_all_sessions_of_their_own,
    no_narrower_token_outlives_the_session_that_it_hangs_on,
    no_narrower_token_outlives_the_disabling_of_its_client,
    [postgres] what_ends_on_one_instance_is_dead_on_the_other,
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn entries(reader: &Caller, action: &str, resource_id: &str) -> Vec<Value> {
    reader.all_items(&format!("/v1/history?action={action}&resource_id={resource_id}"))
}

fn draft() -> Value {
    json!({ "title": "On tides", "abstract": "", "body": "" })
}

/// The token of an exchange that must succeed.
#[track_caller]
pub fn narrowed(client: &Client, token: &str, more: &[(&str, &str)]) -> String {
    client.exchange(token, more).expect(200).str("access_token").to_owned()
}

fn bearer(office: &Office, token: &str) -> Caller {
    office.anonymous().with_token(token)
}

fn sid(token: &str) -> String {
    claims_of(token)["sid"].as_str().unwrap().to_owned()
}

/// Demands that a token is over, whoever is asked and whatever it tries.
#[track_caller]
fn is_dead(office: &Office, client: &Client, token: &str, code: &str) {
    bearer(office, token).get("/v1/me").problem(401, code);
    bearer(office, token).post("/v1/articles", draft()).problem(401, code);
    client.finds_inactive(token);
    client.exchange(token, &[]).oauth(400, "invalid_request");
}

fn an_exchange_gives_a_narrower_token_of_the_same_user(office: &Office) {
    let editor = office.editor();
    let client = office.presenter(json!({}));
    let answer = client.exchange(&editor.access_token, &[]).expect(200);
    assert_eq!(keys(&answer.body), ["access_token", "expires_in", "issued_token_type", "scope", "token_type"], "no refresh token");
    assert_eq!((answer.str("token_type"), answer.str("issued_token_type")), ("Bearer", ACCESS_TOKEN));
    assert_eq!(answer.str("scope"), "articles:create articles:edit_assigned");
    assert_eq!((answer.header("cache-control"), answer.header("pragma")), (Some("no-store"), Some("no-cache")));
    assert_eq!(answer.header("content-type"), Some("application/json"));

    let token = answer.str("access_token");
    let (header, claims, source) = (header_of(token), claims_of(token), claims_of(&editor.access_token));
    assert_eq!(header, header_of(&editor.access_token));
    assert_eq!(keys(&claims), ["aud", "client_id", "exp", "iat", "iss", "jti", "nbf", "root_sid", "scope", "sid", "sub"]);
    assert_eq!((&claims["sub"], &claims["aud"], &claims["iss"]), (&source["sub"], &source["aud"], &source["iss"]));
    assert_eq!((&claims["client_id"], &claims["root_sid"]), (&json!(client.id), &source["sid"]));
    assert_eq!(&claims["scope"], answer.value("scope"));
    for own in ["sid", "jti"] {
        assert_ne!(claims[own], source[own]);
    }
    let left = claims["exp"].as_i64().unwrap() - office.now().timestamp();
    assert!((left - 1..=left).contains(&answer.value("expires_in").as_i64().unwrap()), "{answer}");

    let me = bearer(office, token).get("/v1/me").expect(200);
    assert_eq!((me.str("kind"), me.value("subject"), me.value("actor")), ("own", &editor.user_ref(), &Value::Null));
    assert_eq!(
        client.exchange(&editor.access_token, &[("subject_token_type", JWT), ("requested_token_type", JWT)]).str("issued_token_type"),
        JWT
    );
}

fn an_exchange_keeps_the_actor_whatever_the_request_says(office: &Office) {
    let (admin, chief, editor) = (office.administrator(), office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let (plain, through) = (office.impersonate(&admin, &editor), client.impersonate(&admin, &editor, &[]));
    for acting in [&plain, &through] {
        let act = format!(r#"{{"sub":"{}"}}"#, chief.id);
        let spare =
            [("act", act.as_str()), ("sub", &chief.id), ("may_act", &act), ("sid", &chief.session_id), ("root_sid", &chief.session_id)];
        let token = narrowed(&client, &acting.access_token, &spare);
        let (claims, source) = (claims_of(&token), claims_of(&acting.access_token));
        assert_eq!(keys(&claims), ["act", "aud", "client_id", "exp", "iat", "iss", "jti", "nbf", "root_sid", "scope", "sid", "sub"]);
        assert_eq!((&claims["act"], &claims["sub"]), (&json!({ "sub": admin.id }), &json!(editor.id)));
        assert_eq!(claims["root_sid"], source["sid"]);
        let me = bearer(office, &token).get("/v1/me").expect(200);
        assert_eq!((me.str("kind"), me.value("subject"), me.value("actor")), ("impersonation", &editor.user_ref(), &admin.user_ref()));
        assert_eq!((me.header("actas-subject"), me.header("actas-actor")), (Some(editor.id.as_str()), Some(admin.id.as_str())));

        // What is written with it is written by both.
        let article = bearer(office, &token).post("/v1/articles", draft()).expect(201);
        let entry = &entries(&admin, "article.created", article.str("id"))[0];
        assert_eq!(
            (&entry["subject"], &entry["actor"], &entry["impersonation_id"]),
            (&editor.user_ref(), &admin.user_ref(), &json!(acting.id))
        );

        // And with the token of the token.
        let third = narrowed(&client, &token, &[]);
        assert_eq!((&claims_of(&third)["act"], &claims_of(&third)["root_sid"]), (&claims["act"], &claims["root_sid"]));
        // No actor is added to it.
        let actor = [("actor_token", chief.access_token.as_str()), ("actor_token_type", ACCESS_TOKEN)];
        client.exchange(&acting.access_token, &actor).oauth(400, "invalid_request");
    }
    let actor = [("actor_token", chief.access_token.as_str()), ("actor_token_type", ACCESS_TOKEN)];
    client.exchange(&editor.access_token, &actor).oauth(400, "invalid_request");
}

fn a_narrower_token_does_less_and_the_presented_one_as_much_as_before(office: &Office) {
    let admin = office.administrator();
    let client = office.presenter(json!({}));
    let token = narrowed(&client, &admin.access_token, &[("scope", "users:read articles:read_all")]);
    let narrower = bearer(office, &token);
    narrower.get("/v1/users").expect(200);
    narrower.get("/v1/articles").expect(200);
    assert_eq!(narrower.get("/v1/me").expect(200).value("permissions"), &json!(["articles:read_all", "users:read"]));
    let refused = narrower.get("/v1/history").problem(403, "insufficient_scope");
    assert_eq!(refused.header("www-authenticate"), Some(r#"Bearer error="insufficient_scope", scope="history:read""#));
    let refused = narrower.post("/v1/users", json!({ "email": "x@example.org", "display_name": "X", "role": "author" }));
    assert_eq!(
        refused.problem(403, "insufficient_scope").header("www-authenticate"),
        Some(r#"Bearer error="insufficient_scope", scope="users:write""#)
    );
    admin.get("/v1/history").expect(200);

    // The role counts as it is now, and the scope gives back nothing.
    let editor = office.editor();
    let token = narrowed(&client, &editor.access_token, &[]);
    admin.patch(&format!("/v1/users/{}", editor.id), json!({ "role": "author" })).expect(200);
    assert_eq!(bearer(office, &token).get("/v1/me").expect(200).value("permissions"), &json!(["articles:create"]));
    assert_eq!(client.finds_active(&token)["scope"], "articles:create");
    admin.patch(&format!("/v1/users/{}", editor.id), json!({ "role": "support" })).expect(200);
    assert_eq!(bearer(office, &token).get("/v1/me").expect(200).value("permissions"), &json!([]));
    bearer(office, &token).get("/v1/users").problem(403, "insufficient_scope");
}

fn a_wider_scope_is_refused_however_it_is_asked_for(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let small = office.presenter(json!({ "scope": "users:read", "audiences": ["actas", BILLING] }));
    let narrow = narrowed(&client, &admin.access_token, &[("scope", "users:read")]);
    for (client, token, scope) in [
        (&client, narrow.as_str(), "users:read history:read"),
        (&client, &narrow, "users:write"),
        (&client, &editor.access_token, "users:read"),
        (&client, &editor.access_token, "articles:create users:impersonate"),
        (&small, &admin.access_token, "history:read"),
        (&small, &admin.access_token, "users:read users:write"),
        (&client, &admin.access_token, "everything"),
        (&client, &admin.access_token, "users:read,history:read"),
        (&client, &admin.access_token, " "),
    ] {
        client.exchange(token, &[("scope", scope)]).oauth(400, "invalid_scope");
    }
    // Left out it is as wide as the presented one, and the client, are: never wider.
    assert_eq!(client.exchange(&narrow, &[]).expect(200).str("scope"), "users:read");
    assert_eq!(small.exchange(&admin.access_token, &[]).expect(200).str("scope"), "users:read");
    let none = office.presenter(json!({ "scope": "" }));
    let answer = none.exchange(&admin.access_token, &[]).expect(200);
    assert_eq!(answer.str("scope"), "");
    bearer(office, answer.str("access_token")).get("/v1/me").expect(200);
    bearer(office, answer.str("access_token")).get("/v1/users").problem(403, "insufficient_scope");
}

fn a_narrower_token_ends_no_later_than_the_presented_one(office: &Office) {
    let editor = office.editor();
    let client = office.presenter(json!({}));
    let exp = |token: &str| claims_of(token)["exp"].as_i64().unwrap();
    let short = narrowed(&client, &editor.access_token, &[("requested_duration", "60")]);
    assert!((60..=61).contains(&(exp(&short) - claims_of(&short)["iat"].as_i64().unwrap())));
    for duration in ["", "3600", "86400", "4294967295"] {
        let token = narrowed(&client, &editor.access_token, &[("requested_duration", duration)]);
        assert!(exp(&token) <= exp(&editor.access_token), "{duration}");
        let of_short = narrowed(&client, &short, &[("requested_duration", duration)]);
        assert!(exp(&of_short) <= exp(&short), "{duration}");
    }
    let of_short = narrowed(&client, &short, &[("requested_duration", "4294967295")]);
    let long = narrowed(&client, &editor.access_token, &[]);
    office.advance(61);
    is_dead(office, &client, &short, "token_expired");
    is_dead(office, &client, &of_short, "token_expired");
    bearer(office, &long).get("/v1/me").expect(200);
    // The presented token's own time, not its session's, which goes on.
    office.advance(3540);
    is_dead(office, &client, &long, "token_expired");
    editor.get("/v1/me").problem(401, "token_expired");
    editor.refresh().expect(200);
    bearer(office, &long).get("/v1/me").problem(401, "token_expired");
    client.exchange(&editor.access_token, &[]).oauth(400, "invalid_request");
}

fn a_narrower_impersonation_ends_no_later_than_the_impersonation(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let acting = office.impersonate_with(&admin, &editor, json!({ "duration_seconds": 60 }));
    let token = narrowed(&client, &acting.access_token, &[("requested_duration", "3600")]);
    assert!(claims_of(&token)["exp"].as_i64() <= claims_of(&acting.access_token)["exp"].as_i64());
    // However long a token says that it lasts.
    let forged = Forger::of(office).with_claims(&token, |claims| claims["exp"] = json!(office.now().timestamp() + 3000));
    office.advance(61);
    for token in [&token, &forged] {
        is_dead(office, &client, token, "impersonation_ended");
        bearer(office, token).post_empty("/v1/auth/logout").problem(401, "impersonation_ended");
    }
    assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
}

fn another_audience_is_another_services_alone(office: &Office) {
    let editor = office.editor();
    let client = office.presenter(json!({}));
    for target in ["audience", "resource"] {
        let token = narrowed(&client, &editor.access_token, &[(target, BILLING)]);
        assert_eq!(claims_of(&token)["aud"], BILLING);
        bearer(office, &token).get("/v1/me").problem(401, "invalid_token");
        bearer(office, &token).post("/v1/articles", draft()).problem(401, "invalid_token");
        bearer(office, &token).post_empty("/v1/auth/logout").problem(401, "invalid_token");
        assert_eq!(client.finds_active(&token)["aud"], BILLING);
    }
    let both = narrowed(&client, &editor.access_token, &[("audience", "actas"), ("audience", BILLING)]);
    assert_eq!(claims_of(&both)["aud"], json!(["actas", BILLING]));
    bearer(office, &both).get("/v1/me").expect(200);
    // Left out, it is for whom the presented one is.
    let token = narrowed(&client, &narrowed(&client, &editor.access_token, &[("audience", BILLING)]), &[]);
    assert_eq!(claims_of(&token)["aud"], BILLING);

    let refused =
        |client: &Client, token: &str, audience: &str| drop(client.exchange(token, &[("audience", audience)]).oauth(400, "invalid_target"));
    refused(&client, &editor.access_token, "https://other.example");
    let elsewhere = office.presenter(json!({ "audiences": [BILLING] }));
    refused(&elsewhere, &editor.access_token, "actas");
    // That a token is for Actas gives nobody another one for Actas.
    refused(&elsewhere, &editor.access_token, "");
    narrowed(&elsewhere, &editor.access_token, &[("audience", BILLING)]);
}

fn an_exchange_needs_the_grant_and_the_right_to_present_the_token(office: &Office) {
    let editor = office.editor();
    let without = office.presenter(json!({ "grants": ["client_credentials", "impersonate"] }));
    without.exchange(&editor.access_token, &[]).oauth(400, "unauthorized_client");
    let (stranger, client) = (office.client(json!({ "audiences": ["actas"] })), office.presenter(json!({})));
    // It is for Actas, and a client that may address Actas is not Actas.
    let refused = stranger.exchange(&editor.access_token, &[]).oauth(400, "invalid_request");
    assert!(refused.description().contains("presenter"), "{refused}");
    let token = narrowed(&client, &editor.access_token, &[]);
    stranger.exchange(&token, &[]).oauth(400, "invalid_request");
    assert_eq!(office.db_count("SELECT count(*) FROM exchanged_sessions"), 1);

    office.change_client(&client.id, json!({ "presenters": [stranger.id] }));
    narrowed(&stranger, &token, &[]);
    stranger.exchange(&editor.access_token, &[]).oauth(400, "invalid_request");
    office.change_client(&client.id, json!({ "presenters": [] }));
    stranger.exchange(&token, &[]).oauth(400, "invalid_request");
    // The first-party client exchanges its own.
    let answer = office.first_party().exchange(&editor.access_token, &[("scope", "articles:create")]).expect(200);
    assert_eq!((claims_of(answer.str("access_token"))["client_id"].as_str(), answer.str("scope")), (Some("actas"), "articles:create"));
}

fn whoever_a_token_is_addressed_to_may_exchange_it(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let front = office.presenter(json!({}));
    let billing = office.client(json!({ "audiences": [BILLING, "https://ledger.example"], "scope": "articles:create" }));
    let acting = front.impersonate(&admin, &editor, &[]);
    let to_billing = narrowed(&front, &acting.access_token, &[("audience", BILLING)]);
    let to_ledger = narrowed(&billing, &to_billing, &[("audience", "https://ledger.example")]);
    let claims = claims_of(&to_ledger);
    assert_eq!(
        (&claims["client_id"], &claims["aud"], &claims["scope"]),
        (&json!(billing.id), &json!("https://ledger.example"), &json!("articles:create"))
    );
    assert_eq!((&claims["sub"], &claims["act"], &claims["root_sid"]), (&json!(editor.id), &json!({ "sub": admin.id }), &json!(acting.id)));
    // By its own id as well.
    let to_id = office.client(json!({ "audiences": [] }));
    office.change_client(&front.id, json!({ "audiences": ["actas", BILLING, to_id.id] }));
    let token = narrowed(&front, &editor.access_token, &[("audience", &to_id.id)]);
    assert_eq!(claims_of(&narrowed(&to_id, &token, &[]))["aud"], to_id.id);
    // But it can't be turned back into one for Actas by who may not address Actas.
    billing.exchange(&to_billing, &[("audience", "actas")]).oauth(400, "invalid_target");
    to_id.exchange(&to_billing, &[]).oauth(400, "invalid_request");
}

fn no_dead_or_foreign_token_is_exchanged(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let gone = editor.log_in_again();
    gone.log_out().expect(204);
    let left = office.impersonate(&admin, &editor);
    left.log_out().expect(200);
    let revoked = narrowed(&client, &editor.access_token, &[]);
    client.revoke(&revoked).expect(200);
    let own = client.credentials(&[]).expect(200).str("access_token").to_owned();
    let forger = Forger::of(office);
    let foreign = forger.with_claims(&editor.access_token, |claims| claims["iss"] = json!("https://example.org"));
    let swapped = forger.with_claims(&editor.access_token, |claims| claims["sub"] = json!(admin.id));
    for token in [
        gone.access_token.as_str(),
        &left.access_token,
        &revoked,
        &own,
        &foreign,
        &swapped,
        &editor.refresh_token,
        &client.secret,
        &editor.id,
        &format!("{}x", editor.access_token),
        "nonsense",
    ] {
        let refused = client.exchange(token, &[]).oauth(400, "invalid_request");
        assert!(refused.description().starts_with("subject_token: ") && !refused.text.contains(token), "{refused}");
    }
    assert_eq!(office.db_count("SELECT count(*) FROM exchanged_sessions"), 1);
}

fn every_wrong_parameter_of_an_exchange_is_refused_and_leaves_nothing(office: &Office) {
    let editor = office.editor();
    let client = office.presenter(json!({}));
    for (name, value) in [
        ("subject_token", ""),
        ("subject_token", " "),
        ("subject_token_type", ""),
        ("subject_token_type", "access_token"),
        ("subject_token_type", USER_ID),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:refresh_token"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:saml2"),
        ("actor_token", "x"),
        ("actor_token_type", ACCESS_TOKEN),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:id_token"),
        ("requested_duration", "0"),
        ("requested_duration", "-60"),
        ("requested_duration", "sixty"),
        ("requested_duration", "4294967296"),
        ("reason", "x"),
        ("ticket", "x"),
        ("mode", "full"),
        ("mode", "read_only"),
        ("restore_challenge", "x"),
        ("grant_type", ""),
    ] {
        client.exchange(&editor.access_token, &[(name, value)]).oauth(400, "invalid_request");
    }
    for name in ["grant_type", "subject_token", "subject_token_type", "scope", "requested_duration", "requested_token_type", "nonsense"] {
        client.exchange(&editor.access_token, &[(name, "x"), (name, "x")]).oauth(400, "invalid_request");
    }
    for grant in
        ["token-exchange", "urn:ietf:params:oauth:grant-type:jwt-bearer", "password", "authorization_code", "Client_Credentials", " "]
    {
        client.exchange(&editor.access_token, &[("grant_type", grant)]).oauth(400, "unsupported_grant_type");
    }
    assert_eq!(office.db_count("SELECT count(*) FROM exchanged_sessions"), 0);
    assert_eq!(office.db_count("SELECT count(*) FROM entries WHERE action = 'session.exchanged'"), 0);
    let spare = [
        ("nonsense", "x"),
        ("scope", ""),
        ("audience", ""),
        ("resource", ""),
        ("actor_token", ""),
        ("actor_token_type", ""),
        ("reason", ""),
    ];
    client.exchange(&editor.access_token, &spare).expect(200);

    // Nor is anything else than a form one.
    let fields = json!({ "grant_type": TOKEN_EXCHANGE, "subject_token": editor.access_token, "subject_token_type": ACCESS_TOKEN });
    let basic = crate::harness::basic(&client.id, &client.secret);
    let nobody = office.anonymous();
    for path in ["/oauth/token", "/oauth/introspect", "/oauth/revoke"] {
        nobody.request("POST", path).header("Authorization", &basic).json(&fields).send().oauth(400, "invalid_request");
        nobody.request("POST", path).header("Authorization", &basic).send().oauth(400, "invalid_request");
        for broken in ["token=%", "token=%ff", "token=a%00b", "\u{e9}=%E9"] {
            let request = nobody.request("POST", path).header("Authorization", &basic);
            request.body("application/x-www-form-urlencoded", broken).send().oauth(400, "invalid_request");
        }
        // What stands in the address is no parameter.
        let address = format!("{path}?grant_type=client_credentials&token=x");
        let answer =
            nobody.request("POST", &address).header("Authorization", &basic).body("application/x-www-form-urlencoded", "a=b").send();
        assert!(answer.status == 400, "{answer}");
        nobody.request("GET", path).header("Authorization", &basic).send().problem(405, "method_not_allowed");
    }
}

fn the_original_token_is_logouts_to_give_back_and_a_hint_says_so(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    for acting in [office.impersonate(&admin, &editor), client.impersonate(&admin, &editor, &[])] {
        for asked in [
            vec![("scope", "users:impersonate")],
            vec![("scope", "users:read users:impersonate")],
            vec![("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token")],
            vec![("requested_token_type", USER_ID)],
        ] {
            let refused = client.exchange(&acting.access_token, &asked);
            assert_eq!(refused.status, 400, "{refused}");
            assert!(refused.description().contains("POST /v1/auth/logout"), "{refused}");
            assert!(!refused.text.contains(&admin.access_token));
        }
        // Whatever is asked for, it is never the administrator's.
        let token = narrowed(&client, &acting.access_token, &[]);
        assert_eq!(claims_of(&token)["sub"], editor.id);
        assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
    }
}

fn a_narrower_token_never_restores_refreshes_or_starts(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let acting = office.impersonate(&admin, &editor);
    let narrower = bearer(office, &narrowed(&client, &acting.access_token, &[]));
    let body = json!({ "restore_verifier": acting.restore_verifier });
    assert_eq!(narrower.post("/v1/auth/logout", body.clone()).expect(204).text, "");
    narrower.post("/v1/auth/logout", body.clone()).problem(401, "session_ended");
    acting.get("/v1/me").expect(200);

    // Not after the impersonation has ended by itself either.
    let short = office.impersonate_with(&admin, &editor, json!({ "duration_seconds": 60 }));
    let late = bearer(office, &narrowed(&client, &short.access_token, &[]));
    office.advance(61);
    late.post("/v1/auth/logout", json!({ "restore_verifier": short.restore_verifier })).problem(401, "impersonation_ended");
    assert_eq!(short.log_out().expect(200).str("access_token"), admin.access_token);

    let token = narrowed(&client, &admin.access_token, &[]);
    let start = bearer(office, &token).post(&format!("/v1/users/{}/impersonate", editor.id), json!({ "reason": "x" }));
    assert_eq!(start.problem(403, "impersonation_refused").reasons(), ["exchanged_token"]);
    for presented in [&token, &acting.access_token] {
        let body = json!({ "refresh_token": presented });
        office.anonymous().post("/v1/auth/refresh", body).problem(401, "refresh_token_invalid");
        office.first_party().token(&[("grant_type", "refresh_token"), ("refresh_token", presented)]).oauth(400, "invalid_grant");
    }
    assert_eq!(office.db_count("SELECT count(*) FROM refresh_tokens"), 2, "one a login");
}

fn logging_out_of_a_narrower_token_ends_it_alone(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let acting = office.impersonate(&admin, &editor);
    for source in [&editor.access_token, &acting.access_token] {
        let (one, other) = (narrowed(&client, source, &[]), narrowed(&client, source, &[]));
        assert_eq!(bearer(office, &one).post_empty("/v1/auth/logout").expect(204).text, "");
        is_dead(office, &client, &one, "session_ended");
        bearer(office, &other).get("/v1/me").expect(200);
        bearer(office, source).get("/v1/me").expect(200);
        let ended = &entries(&admin, "session.ended", &sid(&one))[..];
        assert_eq!((ended.len(), &ended[0]["changes"]["cause"]["to"]), (1, &json!("logout")));
        assert_eq!(ended[0]["subject"], editor.user_ref());
    }
    let answers = at_once(20, {
        let token = narrowed(&client, &editor.access_token, &[]);
        let caller = bearer(office, &token);
        move |_| caller.post_empty("/v1/auth/logout")
    });
    assert_eq!(answers.iter().filter(|answer| answer.status == 204).count(), 1);
    answers.into_iter().filter(|answer| answer.status != 204).for_each(|answer| drop(answer.problem(401, "session_ended")));
    editor.get("/v1/me").expect(200);
}

fn what_is_the_users_own_affair_needs_the_users_own_token(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let acting = office.impersonate(&admin, &office.author());
    for person in [&admin, &editor] {
        let narrower = bearer(office, &narrowed(&client, &person.access_token, &[]));
        let password = json!({ "current_password": person.password, "new_password": "another correct horse" });
        for answer in [
            narrower.put("/v1/me/password", password),
            narrower.get("/v1/me/sessions"),
            narrower.delete(&format!("/v1/me/sessions/{}", person.session_id)),
            narrower.get("/v1/me/impersonations"),
            narrower.delete(&format!("/v1/impersonations/{}", acting.id)),
        ] {
            let answer = answer.problem(403, "insufficient_scope");
            assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer error="insufficient_scope""#), "no scope would do");
        }
        person.log_in_again();
        person.get("/v1/me").expect(200);
    }
    acting.get("/v1/me").expect(200);
}

fn what_ends_the_presented_tokens_session_ends_the_narrower_token(office: &Office) {
    let chief = office.administrator();
    let client = office.presenter(json!({}));
    let first_party = office.first_party();
    type End<'a> = Box<dyn Fn(&Person) + 'a>;
    let disable = |user: &Person| drop(chief.patch(&format!("/v1/users/{}", user.id), json!({ "status": "disabled" })).expect(200));
    let ends: [End<'_>; 7] = [
        Box::new(|user| drop(user.log_out().expect(204))),
        Box::new(|user| drop(user.log_in_again().delete(&format!("/v1/me/sessions/{}", user.session_id)).expect(204))),
        Box::new(|user| drop(chief.delete(&format!("/v1/users/{}/sessions", user.id)).expect(204))),
        Box::new(|user| {
            let body = json!({ "current_password": user.password, "new_password": "another correct horse" });
            user.log_in_again().put("/v1/me/password", body).expect(204);
        }),
        Box::new(disable),
        Box::new(|user| drop(first_party.revoke(&user.access_token).expect(200))),
        Box::new(|user| {
            user.refresh().expect(200);
            office.advance(11);
            user.refresh().problem(401, "refresh_token_reused");
        }),
    ];
    for end in ends {
        let editor = office.editor();
        let (first, elsewhere) =
            (narrowed(&client, &editor.access_token, &[]), narrowed(&client, &editor.access_token, &[("audience", BILLING)]));
        let second = narrowed(&client, &first, &[]);
        for token in [&first, &second, &elsewhere] {
            client.finds_active(token);
        }
        end(&editor);
        for token in [&first, &second] {
            is_dead(office, &client, token, "session_ended");
        }
        client.finds_inactive(&elsewhere);
        client.exchange(&elsewhere, &[]).oauth(400, "invalid_request");
    }
}

fn what_ends_an_impersonation_ends_its_narrower_tokens(office: &Office) {
    let chief = office.administrator();
    let client = office.presenter(json!({}));
    let first_party = office.first_party();
    for how in ["logout", "deletion", "revocation", "the actor's logout", "demotion", "promotion", "time"] {
        let (admin, editor) = (office.administrator(), office.editor());
        let acting = office.impersonate_with(&admin, &editor, json!({ "duration_seconds": 600 }));
        let first = narrowed(&client, &acting.access_token, &[]);
        let second = narrowed(&client, &first, &[("scope", "articles:create")]);
        let set = |user: &Person, role: &str| drop(chief.patch(&format!("/v1/users/{}", user.id), json!({ "role": role })).expect(200));
        match how {
            "logout" => assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token),
            "deletion" => drop(editor.delete(&format!("/v1/impersonations/{}", acting.id)).expect(204)),
            "revocation" => drop(first_party.revoke(&acting.access_token).expect(200)),
            "the actor's logout" => drop(admin.log_out().expect(204)),
            "demotion" => set(&admin, "author"),
            "promotion" => set(&editor, "administrator"),
            _ => office.advance(601),
        }
        for token in [&first, &second] {
            is_dead(office, &client, token, "impersonation_ended");
        }
        // The subject's own session is none the worse for it.
        editor.get("/v1/me").expect(200);
    }
}

fn ending_one_in_the_middle_ends_what_was_made_from_it(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let (client, other) = (office.presenter(json!({})), office.client(json!({})));
    office.change_client(&client.id, json!({ "presenters": [other.id] }));
    let acting = office.impersonate(&admin, &editor);
    for (source, how) in [(&editor.access_token, "revocation"), (&acting.access_token, "revocation"), (&acting.access_token, "logout")] {
        let first = narrowed(&client, source, &[]);
        let middle = narrowed(&client, &first, &[]);
        let last = narrowed(&other, &middle, &[]);
        let very_last = narrowed(&other, &last, &[("scope", "articles:create")]);
        let sibling = narrowed(&other, &first, &[]);
        if how == "logout" {
            bearer(office, &middle).post_empty("/v1/auth/logout").expect(204);
        } else {
            client.revoke(&middle).expect(200);
        }
        for token in [&middle, &last, &very_last] {
            is_dead(office, &client, token, "session_ended");
        }
        for token in [source, &first, &sibling] {
            bearer(office, token).get("/v1/me").expect(200);
        }
    }
}

fn a_disabled_client_takes_its_narrower_tokens_and_theirs_with_it(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let (client, other) = (office.presenter(json!({})), office.presenter(json!({})));
    office.change_client(&client.id, json!({ "presenters": [other.id] }));
    let acting = office.impersonate(&admin, &editor);
    for source in [&editor.access_token, &acting.access_token] {
        let first = narrowed(&client, source, &[]);
        let of_others = narrowed(&other, &first, &[]);
        let spared = narrowed(&other, source, &[]);
        let own = client.credentials(&[]).expect(200).str("access_token").to_owned();
        office.disable_client(&client);
        for token in [&first, &of_others] {
            is_dead(office, &other, token, "session_ended");
        }
        bearer(office, &own).get("/v1/users").problem(401, "session_ended");
        other.finds_inactive(&own);
        for token in [source, &spared] {
            bearer(office, token).get("/v1/me").expect(200);
        }
        for answer in [client.exchange(source, &[]), client.introspect(&spared), client.revoke(&first), client.credentials(&[])] {
            answer.oauth(401, "invalid_client");
        }
        // Letting it in again brings nothing back.
        office.change_client(&client.id, json!({ "status": "active" }));
        for token in [&first, &of_others] {
            is_dead(office, &other, token, "session_ended");
        }
        bearer(office, &own).get("/v1/users").problem(401, "session_ended");
    }
}

fn a_narrower_token_is_recorded_with_the_right_people_and_no_secret(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let acting = office.impersonate(&admin, &editor);
    let of_own = narrowed(&client, &editor.access_token, &[("scope", "articles:create"), ("audience", BILLING)]);
    let of_acting = narrowed(&client, &acting.access_token, &[]);
    let of_exchanged = narrowed(&client, &of_acting, &[]);
    for (token, from, actor) in [
        (&of_own, editor.session_id.clone(), Value::Null),
        (&of_acting, acting.id.clone(), admin.user_ref()),
        (&of_exchanged, sid(&of_acting), admin.user_ref()),
    ] {
        let found = entries(&admin, "session.exchanged", &sid(token));
        assert_eq!(found.len(), 1);
        let entry = &found[0];
        assert_eq!((&entry["subject"], &entry["actor"], &entry["resource"]["type"]), (&editor.user_ref(), &actor, &json!("session")));
        assert_eq!(entry["impersonation_id"], if actor.is_null() { Value::Null } else { json!(acting.id) });
        let to = |field: &str| &entry["changes"][field]["to"];
        assert_eq!((to("from_session_id"), to("client_id"), to("scope")), (&json!(from), &json!(client.id), &claims_of(token)["scope"]));
    }
    client.revoke(&of_acting).expect(200);
    let ended = entries(&admin, "session.ended", &sid(&of_acting));
    assert_eq!((ended.len(), &ended[0]["changes"]["cause"]["to"]), (1, &json!("revoked")));
    assert_eq!((&ended[0]["subject"], &ended[0]["actor"]), (&editor.user_ref(), &admin.user_ref()));

    let (history, dump) = (Value::from(admin.all_items("/v1/history?limit=200")).to_string(), office.db_dump());
    for secret in [&of_own, &of_acting, &of_exchanged, &editor.access_token, &acting.access_token, &client.secret] {
        let end = &secret[secret.len() - 43..];
        assert!(!history.contains(end) && !dump.contains(end), "{secret}");
    }
}

fn a_narrower_token_is_no_session_that_anyone_lists(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let acting = office.impersonate(&admin, &editor);
    for source in [&editor.access_token, &acting.access_token] {
        narrowed(&client, source, &[]);
    }
    assert_eq!(editor.get("/v1/me/sessions").expect(200).items().len(), 1);
    assert_eq!(admin.get("/v1/impersonations").expect(200).items().len(), 1);
    assert_eq!(editor.get("/v1/me/impersonations").expect(200).items().len(), 1);
    let token = narrowed(&client, &editor.access_token, &[]);
    editor.delete(&format!("/v1/me/sessions/{}", sid(&token))).problem(404, "not_found");
    admin.delete(&format!("/v1/impersonations/{}", sid(&token))).problem(404, "not_found");
}

fn narrower_tokens_survive_a_restart_and_dead_ones_stay_dead(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let acting = office.impersonate(&admin, &editor);
    let (live, dead) = (narrowed(&client, &acting.access_token, &[]), narrowed(&client, &acting.access_token, &[]));
    let of_dead = narrowed(&client, &dead, &[]);
    let (own, dead_own) = (client.credentials(&[]).expect(200), client.credentials(&[]).expect(200));
    client.revoke(&dead).expect(200);
    client.revoke(dead_own.str("access_token")).expect(200);
    office.restart();
    for (method, path) in crate::ending::CALLS {
        for token in [&dead, &of_dead] {
            bearer(office, token).request(method, path).send().problem(401, "session_ended");
        }
        let expected = if path == "/v1/auth/logout" { (403, "user_required") } else { (401, "session_ended") };
        bearer(office, dead_own.str("access_token")).request(method, path).send().problem(expected.0, expected.1);
    }
    for token in [&dead, &of_dead, dead_own.str("access_token")] {
        client.finds_inactive(token);
    }
    bearer(office, &live).get("/v1/me").expect(200);
    bearer(office, own.str("access_token")).get("/v1/users").expect(200);
    client.finds_active(&live);
    acting.log_out().expect(200);
    is_dead(office, &client, &live, "impersonation_ended");
}

fn rows_past_their_time_are_swept_without_an_entry(office: &Office) {
    let editor = office.editor();
    let client = office.presenter(json!({}));
    let short = narrowed(&client, &editor.access_token, &[("requested_duration", "60")]);
    let of_short = narrowed(&client, &short, &[]);
    let long = narrowed(&client, &editor.access_token, &[]);
    let own = client.credentials(&[]).expect(200).str("access_token").to_owned();
    let entries = || office.db_count("SELECT count(*) FROM entries");
    let rows = || office.db_count("SELECT (SELECT count(*) FROM exchanged_sessions) + (SELECT count(*) FROM client_sessions) AS value");
    let wait_for = |left: i64| {
        // A server sweeps as it starts, beside its first requests.
        let is_swept = (0..10_000).any(|_| {
            office.anonymous().get("/healthz").expect(200);
            rows() == left
        });
        assert!(is_swept, "{} rows are left", rows());
    };
    let before = entries();
    assert_eq!(rows(), 4);
    office.advance(61);
    office.restart();
    wait_for(2);
    client.finds_active(&long);
    client.finds_active(&own);
    for token in [&short, &of_short] {
        let answer = bearer(office, token).get("/v1/me");
        assert_eq!(answer.status, 401, "{answer}");
        client.finds_inactive(token);
        client.revoke(token).expect(200);
    }
    office.advance(3541);
    office.restart();
    wait_for(0);
    assert_eq!(entries(), before, "what time ends by itself is no mutation here");
    client.finds_inactive(&own);
    assert_eq!(bearer(office, &own).get("/v1/users").status, 401);
}

fn use_of_a_narrower_token_keeps_an_impersonation_alive(setup: Setup) {
    let office = setup.with("IMPERSONATION_IDLE_SECONDS", 100).open();
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let acting = office.impersonate(&admin, &editor);
    let narrower = bearer(&office, &narrowed(&client, &acting.access_token, &[]));
    for _ in 0..3 {
        office.advance(80);
        narrower.get("/v1/me").expect(200);
    }
    acting.get("/v1/me").expect(200);
    office.advance(101);
    assert_eq!(narrower.get("/v1/me").problem(401, "impersonation_ended").str("cause"), "idle");
    narrower.post_empty("/v1/auth/logout").problem(401, "impersonation_ended");
    assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
}

fn parallel_exchanges_are_all_sessions_of_their_own(office: &Office) {
    let editor = office.editor();
    let client = office.presenter(json!({}));
    let tokens = at_once(20, |_| narrowed(&client, &editor.access_token, &[]));
    let ids: std::collections::BTreeSet<String> = tokens.iter().map(|token| sid(token)).collect();
    assert_eq!(ids.len(), 20);
    at_once(20, |number| bearer(office, &tokens[number]).post("/v1/articles", draft()).expect(201));
}

fn no_narrower_token_outlives_the_session_that_it_hangs_on(office: &Office) {
    let (admin, client) = (office.administrator(), office.presenter(json!({})));
    for round in 0..4 {
        let editor = office.editor();
        let acting = office.impersonate(&admin, &editor);
        let parent = narrowed(&client, &editor.access_token, &[]);
        let source = match round {
            0 => &editor.access_token,
            1 => &acting.access_token,
            _ => &parent,
        };
        let made = at_once(9, |number| {
            if number == 4 {
                match round {
                    0 => drop(editor.log_out().expect(204)),
                    1 => drop(acting.log_out().expect(200)),
                    _ => drop(client.revoke(&parent).expect(200)),
                }
                return None;
            }
            let answer = client.exchange(source, &[]);
            if answer.status == 200 {
                return Some(answer.str("access_token").to_owned());
            }
            answer.oauth(400, "invalid_request");
            None
        });
        for token in made.into_iter().flatten() {
            assert_eq!(bearer(office, &token).get("/v1/me").status, 401, "{round}");
            client.finds_inactive(&token);
        }
    }
}

fn no_narrower_token_outlives_the_disabling_of_its_client(office: &Office) {
    let editor = office.editor();
    for _ in 0..3 {
        let (client, watcher) = (office.presenter(json!({})), office.client(json!({})));
        let made = at_once(9, |number| {
            if number == 4 {
                office.disable_client(&client);
                return None;
            }
            let answer = if number % 2 == 0 { client.exchange(&editor.access_token, &[]) } else { client.credentials(&[]) };
            if answer.status == 200 {
                return Some(answer.str("access_token").to_owned());
            }
            answer.oauth(401, "invalid_client");
            None
        });
        for token in made.into_iter().flatten() {
            bearer(office, &token).get("/v1/articles").problem(401, "session_ended");
            watcher.finds_inactive(&token);
        }
    }
}

fn what_ends_on_one_instance_is_dead_on_the_other(office: &Office) {
    let second = office.second_instance().unwrap();
    let (admin, client) = (office.administrator(), office.presenter(json!({})));
    for how in ["logout", "revocation of the parent", "revocation", "the session's end", "the user's", "the client's"] {
        let editor = office.editor();
        let acting = office.impersonate(&admin, &editor);
        let source = if how == "logout" { &acting.access_token } else { &editor.access_token };
        let parent = narrowed(&client, source, &[]);
        let token = narrowed(&client.at(&second), &parent, &[]);
        let there = office.anonymous().with_token(&token).at(&second);
        there.get("/v1/me").expect(200);
        match how {
            "logout" => drop(acting.log_out().expect(200)),
            "revocation of the parent" => drop(client.revoke(&parent).expect(200)),
            "revocation" => drop(client.revoke(&token).expect(200)),
            "the session's end" => drop(editor.log_out().expect(204)),
            "the user's" => drop(admin.patch(&format!("/v1/users/{}", editor.id), json!({ "status": "disabled" })).expect(200)),
            _ => office.disable_client(&client),
        }
        assert_eq!(there.get("/v1/me").status, 401, "{how}");
        assert_eq!(there.post("/v1/articles", draft()).status, 401, "{how}");
    }
}
