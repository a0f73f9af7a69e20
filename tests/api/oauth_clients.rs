//! Who a client is, and what it gets for itself: authentication at the OAuth endpoints, `client_credentials`, and the first-party client's `refresh_token`.

use serde_json::{Value, json};

use crate::harness::{Answer, BILLING, Client, Forger, Office, Setup, TOKEN_EXCHANGE, at_once, basic, claims_of, form, header_of};

api_tests! {
    a_client_proves_who_it_is_in_the_header_or_in_the_form,
    credentials_are_form_encoded_before_they_are_joined,
    whoever_does_not_prove_who_they_are_is_an_invalid_client_and_learns_no_more,
    two_ways_at_once_are_refused,
    the_public_client_has_no_secret_and_takes_none,
    a_bearer_is_no_clients_credential,
    a_secret_has_one_spelling,
    an_old_secret_counts_until_its_overlap_is_over,
    a_disabled_client_is_an_unknown_one,
    a_client_is_asked_for_before_anything_else_is_looked_at,
    a_token_of_a_clients_own_names_nobody_else,
    a_client_gets_what_it_may_have_and_no_more,
    a_clients_own_token_lasts_as_long_as_any,
    a_clients_own_token_needs_the_grant,
    a_clients_own_token_is_for_its_audience,
    a_clients_own_token_is_recorded_and_names_nobody,
    a_clients_own_token_is_refused_where_a_user_is_needed,
    a_clients_own_token_and_its_rows_must_agree,
    the_first_party_client_refreshes_own_sessions,
    a_refresh_by_form_has_the_rules_of_any_other,
    no_other_client_refreshes_anything,
}

const NOBODY: &str = "019aa0f0-0000-7000-8000-000000000001";

const ENDPOINTS: [&str; 3] = ["/oauth/token", "/oauth/introspect", "/oauth/revoke"];

/// A form that every one of the endpoints would take from a client.
const WELCOME: [(&str, &str); 2] = [("grant_type", "client_credentials"), ("token", "x")];

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The welcome form and these parameters, with these `Authorization` headers, at one of the endpoints.
fn asked(office: &Office, path: &str, authorization: &[&str], more: &[(&str, &str)]) -> Answer {
    let nobody = office.anonymous();
    let fields = [&WELCOME[..], more].concat();
    let request = nobody.request("POST", path).body("application/x-www-form-urlencoded", form(&fields));
    authorization.iter().fold(request, |request, line| request.header("Authorization", line)).send()
}

#[track_caller]
fn is_welcome(office: &Office, authorization: &[&str], more: &[(&str, &str)]) {
    for path in ENDPOINTS {
        asked(office, path, authorization, more).expect(200);
    }
}

#[track_caller]
fn is_refused(office: &Office, authorization: &[&str], more: &[(&str, &str)], status: u16, error: &str) {
    for path in ENDPOINTS {
        asked(office, path, authorization, more).oauth(status, error);
    }
}

fn a_client_proves_who_it_is_in_the_header_or_in_the_form(office: &Office) {
    let client = office.client(json!({}));
    let (id, secret) = (client.id.as_str(), client.secret.as_str());
    let header = basic(id, secret);
    is_welcome(office, &[&header], &[]);
    is_welcome(office, &[], &[("client_id", id), ("client_secret", secret)]);
    // Its id beside the header is the same id said twice.
    is_welcome(office, &[&header], &[("client_id", id)]);
    is_welcome(office, &[&header], &[("client_id", ""), ("client_secret", "")]);
    for scheme in ["basic", "BASIC"] {
        is_welcome(office, &[&header.replace("Basic", scheme)], &[]);
    }
    for path in ENDPOINTS {
        let answer = asked(office, path, &[&header], &[]);
        assert_eq!((answer.header("cache-control"), answer.header("pragma")), (Some("no-store"), Some("no-cache")), "{answer}");
        assert_eq!(answer.header("www-authenticate"), None);
    }
}

fn credentials_are_form_encoded_before_they_are_joined(office: &Office) {
    let client = office.client(json!({}));
    let encoded = |text: &str| text.bytes().map(|b| format!("%{b:02x}")).collect::<String>();
    let line = |id: &str, secret: &str| {
        use base64::Engine as _;
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{id}:{secret}")))
    };
    is_welcome(office, &[&line(&client.id, &client.secret)], &[]);
    is_welcome(office, &[&line(&encoded(&client.id), &encoded(&client.secret))], &[]);
    for (id, secret) in [
        (encoded(&encoded(&client.id)), client.secret.clone()),
        (client.id.clone(), encoded(&encoded(&client.secret))),
        (format!("{}%", client.id), client.secret.clone()),
        (client.id.clone(), format!("{}+", client.secret)),
        (client.id.clone(), format!("{}%00", client.secret)),
        (client.id.clone(), format!("{}%ff", client.secret)),
        (client.id.clone(), format!("{}:{}", client.secret, client.secret)),
        (String::new(), client.secret.clone()),
    ] {
        is_refused(office, &[&line(&id, &secret)], &[], 401, "invalid_client");
    }
}

fn whoever_does_not_prove_who_they_are_is_an_invalid_client_and_learns_no_more(office: &Office) {
    let (client, other, disabled) = (office.client(json!({})), office.client(json!({})), office.client(json!({})));
    office.disable_client(&disabled);
    let wrong = "actas_cs_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let mut told = Vec::new();
    for (id, secret) in [
        (client.id.as_str(), wrong),
        (client.id.as_str(), other.secret.as_str()),
        (client.id.as_str(), "hunter2"),
        (NOBODY, client.secret.as_str()),
        (NOBODY, wrong),
        ("nobody", wrong),
        ("' OR 1=1 --", wrong),
        ("../actas", wrong),
        (disabled.id.as_str(), disabled.secret.as_str()),
        ("actas", client.secret.as_str()),
        ("actas", wrong),
        (&client.id.to_uppercase(), client.secret.as_str()),
    ] {
        is_refused(office, &[&basic(id, secret)], &[], 401, "invalid_client");
        is_refused(office, &[], &[("client_id", id), ("client_secret", secret)], 401, "invalid_client");
        told.push(asked(office, "/oauth/token", &[&basic(id, secret)], &[]).text);
        told.push(asked(office, "/oauth/token", &[], &[("client_id", id), ("client_secret", secret)]).text);
    }
    told.dedup();
    assert_eq!(told.len(), 1, "an unknown client, a disabled one and a wrong secret look alike: {told:?}");

    // Its id alone proves nothing of a client that has a secret.
    is_refused(office, &[], &[("client_id", &client.id)], 401, "invalid_client");
    is_refused(office, &[&basic(&client.id, "")], &[], 401, "invalid_client");
    is_refused(office, &[], &[("client_secret", &client.secret)], 401, "invalid_client");
    is_refused(office, &[], &[], 401, "invalid_client");
    let refused = asked(office, "/oauth/token", &[&basic(&client.id, wrong)], &[]);
    assert_eq!(refused.header("www-authenticate"), Some(r#"Basic realm="actas", charset="UTF-8""#));
}

fn two_ways_at_once_are_refused(office: &Office) {
    let (client, other) = (office.client(json!({})), office.client(json!({})));
    let header = basic(&client.id, &client.secret);
    is_refused(office, &[&header], &[("client_id", &client.id), ("client_secret", &client.secret)], 400, "invalid_request");
    is_refused(office, &[&header], &[("client_secret", &client.secret)], 400, "invalid_request");
    is_refused(office, &[&header], &[("client_id", &other.id)], 400, "invalid_request");
    is_refused(office, &[&header], &[("client_id", "actas")], 400, "invalid_request");
    is_refused(office, &[&header, &header], &[], 400, "invalid_request");
    is_refused(office, &[&header, &basic(&other.id, &other.secret)], &[], 400, "invalid_request");
    is_refused(office, &[&header, "Bearer x"], &[], 400, "invalid_request");
    is_refused(
        office,
        &[],
        &[("client_id", &client.id), ("client_id", &client.id), ("client_secret", &client.secret)],
        400,
        "invalid_request",
    );
}

fn the_public_client_has_no_secret_and_takes_none(office: &Office) {
    let client = office.client(json!({}));
    let editor = office.editor();
    let exchange = |authorization: &[&str], more: &[(&str, &str)]| {
        let subject = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", editor.access_token.as_str()),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ];
        let nobody = office.anonymous();
        let request =
            nobody.request("POST", "/oauth/token").body("application/x-www-form-urlencoded", form(&[&subject[..], more].concat()));
        authorization.iter().fold(request, |request, line| request.header("Authorization", line)).send()
    };
    exchange(&[], &[("client_id", "actas")]).expect(200);
    // Some libraries send an empty secret.
    exchange(&[], &[("client_id", "actas"), ("client_secret", "")]).expect(200);
    exchange(&[&basic("actas", "")], &[]).expect(200);
    for secret in ["x", " ", client.secret.as_str()] {
        exchange(&[], &[("client_id", "actas"), ("client_secret", secret)]).oauth(401, "invalid_client");
        exchange(&[&basic("actas", secret)], &[]).oauth(401, "invalid_client");
    }
    for name in ["ACTAS", "Actas", "actas ", "acta"] {
        exchange(&[], &[("client_id", name)]).oauth(401, "invalid_client");
    }
    // Whoever proves nothing looks at no token, and has none of its own.
    asked(office, "/oauth/introspect", &[], &[("client_id", "actas")]).oauth(401, "invalid_client");
    asked(office, "/oauth/token", &[], &[("client_id", "actas")]).oauth(400, "unauthorized_client");
}

fn a_bearer_is_no_clients_credential(office: &Office) {
    let admin = office.administrator();
    let client = office.client(json!({}));
    let own = client.credentials(&[]).expect(200).str("access_token").to_owned();
    for line in [
        format!("Bearer {}", admin.access_token),
        format!("Bearer {own}"),
        "Bearer".to_owned(),
        "DPoP x".to_owned(),
        "Basic".to_owned(),
        "x".to_owned(),
    ] {
        is_refused(office, &[&line], &[], 401, "invalid_client");
        // Nor does it go with what would be one.
        is_refused(office, &[&line], &[("client_id", "actas")], 401, "invalid_client");
    }
    for broken in ["Basic !", "Basic YWJj", "Basic Og==", "Basic"] {
        is_refused(office, &[broken], &[], 401, "invalid_client");
    }
    let line = format!("Bearer {own}");
    let refused = asked(office, "/oauth/token", &[&line], &[("client_id", &client.id), ("client_secret", &client.secret)]);
    assert!(matches!(refused.status, 400 | 401), "{refused}");
    // And a client's secret is nobody's bearer.
    office.anonymous().with_token(&client.secret).get("/v1/me").problem(401, "invalid_token");
}

fn a_secret_has_one_spelling(office: &Office) {
    let client = office.client(json!({}));
    let secret = &client.secret;
    let last = secret.chars().last().unwrap();
    let other_last = if last == 'A' { 'B' } else { 'A' };
    let changed = |from: &str, to: &str| secret.replacen(from, to, 1);
    for wrong in [
        secret.to_uppercase(),
        secret.to_lowercase(),
        format!("{secret}="),
        format!("{secret} "),
        format!(" {secret}"),
        format!("{secret}A"),
        secret[..secret.len() - 1].to_owned(),
        format!("{}{other_last}", &secret[..secret.len() - 1]),
        changed("actas_cs_", "actas_rt_"),
        changed("actas_cs_", ""),
        "x".repeat(10_000),
    ] {
        client.with_secret(&wrong).credentials(&[]).oauth(401, "invalid_client");
    }
    client.credentials(&[]).expect(200);
}

fn an_old_secret_counts_until_its_overlap_is_over(office: &Office) {
    let first = office.client(json!({}));
    let second = office.renew_client_secret(&first, 60);
    for client in [&first, &second] {
        client.credentials(&[]).expect(200);
    }
    // Exact to the second, and for both ways to send it.
    office.advance(59);
    first.introspect("x").expect(200);
    office.advance(1);
    first.credentials(&[]).oauth(401, "invalid_client");
    is_refused(office, &[], &[("client_id", &first.id), ("client_secret", &first.secret)], 401, "invalid_client");
    second.credentials(&[]).expect(200);

    // Without an overlap it is over at once; with a third, the first is, whatever it was promised.
    let third = office.renew_client_secret(&second, 3600);
    let fourth = office.renew_client_secret(&third, 3600);
    second.credentials(&[]).oauth(401, "invalid_client");
    third.credentials(&[]).expect(200);
    let fifth = office.renew_client_secret(&fourth, 0);
    for old in [&first, &second, &third, &fourth] {
        old.credentials(&[]).oauth(401, "invalid_client");
    }
    // Its tokens don't hang on the secret.
    let token = fifth.credentials(&[]).expect(200).str("access_token").to_owned();
    let sixth = office.renew_client_secret(&fifth, 0);
    sixth.finds_active(&token);
    let dump = office.db_dump();
    for client in [&first, &fourth, &fifth, &sixth] {
        assert!(!dump.contains(&client.secret[9..]));
    }
}

fn a_disabled_client_is_an_unknown_one(office: &Office) {
    let client = office.client(json!({}));
    office.disable_client(&client);
    is_refused(office, &[&basic(&client.id, &client.secret)], &[], 401, "invalid_client");
    office.change_client(&client.id, json!({ "status": "active" }));
    is_welcome(office, &[&basic(&client.id, &client.secret)], &[]);
}

fn a_client_is_asked_for_before_anything_else_is_looked_at(office: &Office) {
    let nobody = office.anonymous();
    for path in ENDPOINTS {
        for fields in ["a=b", "grant_type=nonsense", "grant_type=password&scope=nonsense", "token=x&client_id=nobody", "client_secret=x"] {
            nobody.request("POST", path).body("application/x-www-form-urlencoded", fields).send().oauth(401, "invalid_client");
        }
        let long = "x".repeat(2 << 20);
        nobody
            .request("POST", path)
            .body("application/x-www-form-urlencoded", format!("token={long}"))
            .send()
            .problem(413, "payload_too_large");
    }
    let client = office.client(json!({}));
    client.token(&[("scope", "nonsense")]).oauth(400, "invalid_request");
    client.token(&[("grant_type", "nonsense"), ("scope", "nonsense")]).oauth(400, "unsupported_grant_type");
    client.post("/oauth/introspect", &[("token_type_hint", "access_token")]).oauth(400, "invalid_request");
    client.post("/oauth/revoke", &[("token_type_hint", "access_token")]).oauth(400, "invalid_request");
}

fn a_token_of_a_clients_own_names_nobody_else(office: &Office) {
    let client = office.client(json!({}));
    let answer = client.credentials(&[]).expect(200);
    assert_eq!(
        keys(&answer.body),
        ["access_token", "expires_in", "scope", "token_type"],
        "neither a refresh token nor a type of an exchange"
    );
    assert_eq!((answer.str("token_type"), answer.value("expires_in")), ("Bearer", &json!(3600)), "{answer}");
    assert_eq!((answer.header("cache-control"), answer.header("pragma")), (Some("no-store"), Some("no-cache")));
    let (header, claims) = (header_of(answer.str("access_token")), claims_of(answer.str("access_token")));
    assert_eq!((&header["typ"], &header["alg"], keys(&header)), (&json!("at+jwt"), &json!("EdDSA"), vec!["alg", "kid", "typ"]));
    assert_eq!(keys(&claims), ["aud", "client_id", "exp", "iat", "iss", "jti", "nbf", "scope", "sid", "sub"]);
    assert_eq!((&claims["sub"], &claims["client_id"], &claims["aud"]), (&json!(client.id), &json!(client.id), &json!("actas")));
    assert_eq!((&claims["iss"], &claims["scope"]), (&json!("http://localhost:8080"), answer.value("scope")));
    // Nothing of the request gets into it.
    let admin = office.administrator();
    let spare = [
        ("act", admin.id.as_str()),
        ("sub", &admin.id),
        ("subject_token", &admin.access_token),
        ("actor_token", &admin.access_token),
        ("username", &admin.email),
    ];
    let claims = claims_of(client.credentials(&spare).expect(200).str("access_token"));
    assert_eq!((&claims["sub"], claims.get("act")), (&json!(client.id), None));
}

fn a_client_gets_what_it_may_have_and_no_more(office: &Office) {
    let client = office.client(json!({ "scope": "users:read history:read articles:read_all" }));
    for (asked, got) in [
        ("", "articles:read_all history:read users:read"),
        ("users:read", "users:read"),
        ("users:read history:read users:read", "history:read users:read"),
    ] {
        let answer = client.credentials(&[("scope", asked)]).expect(200);
        assert_eq!(answer.str("scope"), got);
        assert_eq!(claims_of(answer.str("access_token"))["scope"], got);
    }
    for scope in ["users:write", "users:read users:write", "openid", "Users:read", " ", "users:read,history:read", "*"] {
        client.credentials(&[("scope", scope)]).oauth(400, "invalid_scope");
    }
    let token = client.credentials(&[("scope", "users:read")]).expect(200).str("access_token").to_owned();
    let caller = office.anonymous().with_token(&token);
    caller.get("/v1/users").expect(200);
    let refused = caller.get("/v1/history").problem(403, "insufficient_scope");
    assert_eq!(refused.header("www-authenticate"), Some(r#"Bearer error="insufficient_scope", scope="history:read""#));
    // What it was given it keeps, and a later token gets what it may then.
    office.change_client(&client.id, json!({ "scope": "history:read" }));
    caller.get("/v1/users").expect(200);
    client.credentials(&[("scope", "users:read")]).oauth(400, "invalid_scope");

    let none = office.client(json!({ "scope": "" }));
    let answer = none.credentials(&[]).expect(200);
    assert_eq!((answer.str("scope"), &claims_of(answer.str("access_token"))["scope"]), ("", &json!("")));
    office.anonymous().with_token(answer.str("access_token")).get("/v1/users").problem(403, "insufficient_scope");
    assert_eq!(client.finds_active(answer.str("access_token"))["scope"], "");
}

fn a_clients_own_token_lasts_as_long_as_any(setup: Setup) {
    let office = setup.with("ACCESS_TOKEN_TTL_SECONDS", 60).open();
    let client = office.client(json!({}));
    let token = client.credentials(&[]).expect(200).str("access_token").to_owned();
    let claims = claims_of(&token);
    assert!((60..=61).contains(&(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap())), "{claims}");
    let caller = office.anonymous().with_token(&token);
    caller.get("/v1/users").expect(200);
    // By its row, however long a token says that it lasts.
    let longer = Forger::of(&office).with_claims(&token, |claims| claims["exp"] = json!(office.now().timestamp() + 3000));
    office.advance(61);
    for token in [&token, &longer] {
        caller.with_token(token).get("/v1/users").problem(401, "token_expired");
        client.finds_inactive(token);
        client.revoke(token).expect(200);
    }
    assert_eq!(office.db_count("SELECT count(*) FROM entries WHERE action = 'session.ended'"), 0);
}

fn a_clients_own_token_needs_the_grant(office: &Office) {
    let client = office.client(json!({ "grants": ["impersonate", "token_exchange"] }));
    client.credentials(&[]).oauth(400, "unauthorized_client");
    assert_eq!(office.db_count("SELECT count(*) FROM client_sessions"), 0);
    office.change_client(&client.id, json!({ "grants": ["client_credentials"] }));
    client.credentials(&[]).expect(200);
}

fn a_clients_own_token_is_for_its_audience(office: &Office) {
    let aud = |client: &Client, more: &[(&str, &str)]| claims_of(client.credentials(more).expect(200).str("access_token"))["aud"].clone();
    let both = office.client(json!({}));
    assert_eq!(aud(&both, &[]), "actas");
    assert_eq!(aud(&both, &[("audience", BILLING)]), BILLING);
    assert_eq!(aud(&both, &[("audience", BILLING), ("resource", BILLING), ("audience", "actas")]), json!([BILLING, "actas"]));
    assert_eq!(aud(&both, &[("audience", &both.id)]), both.id);
    let one = office.client(json!({ "audiences": [BILLING] }));
    assert_eq!(aud(&one, &[]), BILLING);
    one.credentials(&[("audience", "actas")]).oauth(400, "invalid_target");
    one.credentials(&[("audience", &both.id)]).oauth(400, "invalid_target");
    let token = one.credentials(&[]).expect(200).str("access_token").to_owned();
    office.anonymous().with_token(&token).get("/v1/users").problem(401, "invalid_token");
    both.finds_active(&token);
    // Where nobody says for whom, and it is not clear, nobody guesses.
    for audiences in [json!([]), json!([BILLING, "https://other.example"])] {
        office.client(json!({ "audiences": audiences })).credentials(&[]).oauth(400, "invalid_target");
    }
    for (name, value) in
        [("resource", "actas"), ("resource", "https://billing.example#x"), ("audience", "https://other.example"), ("audience", "two words")]
    {
        both.credentials(&[(name, value)]).oauth(400, "invalid_target");
    }
}

fn a_clients_own_token_is_recorded_and_names_nobody(office: &Office) {
    let admin = office.administrator();
    let client = office.client(json!({}));
    let token = client.credentials(&[("scope", "users:read"), ("audience", BILLING)]).expect(200).str("access_token").to_owned();
    let id = claims_of(&token)["sid"].as_str().unwrap().to_owned();
    client.revoke(&token).expect(200);
    for (action, member, value) in [("session.started", "scope", "users:read"), ("session.ended", "cause", "revoked")] {
        let found = admin.all_items(&format!("/v1/history?action={action}&resource_id={id}"));
        assert_eq!(found.len(), 1, "{action}");
        let entry = &found[0];
        for nobody in ["subject", "actor", "impersonation_id"] {
            assert_eq!(entry[nobody], Value::Null, "{entry}");
        }
        assert_eq!((&entry["origin"], &entry["changes"]["client_id"]["to"]), (&json!("api"), &json!(client.id)), "{entry}");
        assert_eq!(entry["changes"][member]["to"], value, "{entry}");
        assert!(entry["request_id"].is_string(), "{entry}");
    }
    let (history, dump) = (Value::from(admin.all_items("/v1/history?limit=200")).to_string(), office.db_dump());
    for secret in [token.rsplit('.').next().unwrap(), &client.secret[9..]] {
        assert!(!history.contains(secret) && !dump.contains(secret));
    }
}

fn a_clients_own_token_is_refused_where_a_user_is_needed(office: &Office) {
    let editor = office.editor();
    let client = office.presenter(json!({}));
    let own = client.credentials(&[]).expect(200).str("access_token").to_owned();
    let caller = office.anonymous().with_token(&own);
    for answer in [
        caller.get("/v1/me"),
        caller.post("/v1/articles", json!({ "title": "x", "abstract": "", "body": "" })),
        caller.post(&format!("/v1/users/{}/impersonate", editor.id), json!({ "reason": "x" })),
        caller.post("/v1/users", json!({ "email": "x@example.org", "display_name": "X", "role": "administrator" })),
        caller.patch(&format!("/v1/users/{}", editor.id), json!({ "role": "administrator" })),
        caller.post_empty("/v1/auth/logout"),
    ] {
        let answer = answer.problem(403, "user_required");
        assert_eq!((answer.header("www-authenticate"), answer.header("actas-subject")), (None, None), "{answer}");
    }
    client.start(&own, &editor.id, &[]).oauth(400, "invalid_request");
    client.exchange(&own, &[]).oauth(400, "invalid_request");
    assert_eq!(office.db_count("SELECT count(*) FROM entries WHERE action LIKE 'impersonation.%'"), 0);
    // It was not ended by any of this.
    caller.get("/v1/users").expect(200);
}

fn a_clients_own_token_and_its_rows_must_agree(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let (client, other) = (office.presenter(json!({})), office.presenter(json!({})));
    let own = client.credentials(&[]).expect(200).str("access_token").to_owned();
    let exchanged = client.exchange(&editor.access_token, &[]).expect(200).str("access_token").to_owned();
    let others = other.credentials(&[]).expect(200).str("access_token").to_owned();
    let forger = Forger::of(office);
    let set = |token: &str, members: Value| {
        forger.with_claims(token, |claims| claims.as_object_mut().unwrap().extend(members.as_object().unwrap().clone()))
    };
    for (what, forged) in [
        ("a user in a client's session", set(&own, json!({ "sub": admin.id }))),
        ("a client in a user's session", set(&admin.access_token, json!({ "sub": client.id, "client_id": client.id }))),
        ("a client in an exchanged session", set(&exchanged, json!({ "sub": client.id }))),
        ("an actor behind a client", set(&own, json!({ "act": { "sub": admin.id } }))),
        ("another client", set(&own, json!({ "sub": other.id, "client_id": other.id }))),
        ("another client's name", set(&own, json!({ "client_id": other.id }))),
        ("another client's session", set(&own, json!({ "sid": claims_of(&others)["sid"] }))),
        ("the first-party client by itself", set(&own, json!({ "sub": "actas", "client_id": "actas" }))),
        ("a root in a client's session", set(&own, json!({ "root_sid": editor.session_id, "sub": editor.id }))),
        ("a user's session", set(&own, json!({ "sid": editor.session_id }))),
    ] {
        for answer in [office.anonymous().with_token(&forged).get("/v1/users"), office.anonymous().with_token(&forged).get("/v1/me")] {
            assert!(answer.status == 401 && answer.body["code"] == "invalid_token", "{what}: {answer}");
        }
        client.finds_inactive(&forged);
        other.finds_inactive(&forged);
    }
    // The forger's signature is the server's: what is unchanged is the same token.
    assert_eq!(set(&own, json!({})).len(), own.len());
    client.finds_active(&set(&own, json!({})));
}

fn the_first_party_client_refreshes_own_sessions(office: &Office) {
    let editor = office.editor();
    let client = office.first_party();
    let refresh = |token: &str| client.token(&[("grant_type", "refresh_token"), ("refresh_token", token)]);
    let answer = refresh(&editor.refresh_token).expect(200);
    assert_eq!(keys(&answer.body), ["access_token", "expires_in", "refresh_token", "scope", "token_type"]);
    assert_eq!((answer.str("token_type"), answer.str("scope")), ("Bearer", "articles:create articles:edit_assigned"));
    assert_eq!((answer.header("cache-control"), answer.header("pragma")), (Some("no-store"), Some("no-cache")));
    let claims = claims_of(answer.str("access_token"));
    assert_eq!((&claims["sid"], &claims["sub"], &claims["client_id"]), (&json!(editor.session_id), &json!(editor.id), &json!("actas")));
    assert_eq!(
        (claims.get("scope"), claims.get("act"), claims.get("root_sid")),
        (None, None, None),
        "it is an own session's like any other"
    );
    editor.with_token(answer.str("access_token")).get("/v1/me/sessions").expect(200);
    // The chain is the one of the other way to refresh.
    let second = office.anonymous().post("/v1/auth/refresh", json!({ "refresh_token": answer.str("refresh_token") })).expect(200);
    refresh(second.str("refresh_token")).expect(200);
}

fn a_refresh_by_form_has_the_rules_of_any_other(office: &Office) {
    let (admin, editor, author) = (office.administrator(), office.editor(), office.author());
    let client = office.first_party();
    let refresh = |token: &str| client.token(&[("grant_type", "refresh_token"), ("refresh_token", token)]);
    // Within the grace, the same successor, however many ask.
    let answers = at_once(10, |_| refresh(&editor.refresh_token).expect(200).str("refresh_token").to_owned());
    assert!(answers.iter().all(|token| *token == answers[0]));
    office.advance(11);
    refresh(&editor.refresh_token).oauth(400, "invalid_grant");
    editor.get("/v1/me").problem(401, "session_ended");
    refresh(&answers[0]).oauth(400, "invalid_grant");

    author.log_out().expect(204);
    let setup = admin.post_empty(&format!("/v1/users/{}/setup-token", author.id)).expect(201).str("setup_token").to_owned();
    for token in [author.refresh_token.as_str(), &admin.access_token, &setup, "nonsense", "actas_rt_x", " "] {
        let refused = refresh(token).oauth(400, "invalid_grant");
        assert!(!refused.text.contains(token) || token == " ", "{refused}");
    }
    client.token(&[("grant_type", "refresh_token")]).oauth(400, "invalid_request");
    refresh("").oauth(400, "invalid_request");
    let scoped = [("grant_type", "refresh_token"), ("refresh_token", admin.refresh_token.as_str()), ("scope", "users:read")];
    client.token(&scoped).oauth(400, "invalid_scope");
    refresh(&admin.refresh_token).expect(200);

    let body = json!({ "status": "disabled" });
    let (other, chief) = (office.editor(), office.administrator());
    chief.patch(&format!("/v1/users/{}", other.id), body).expect(200);
    refresh(&other.refresh_token).oauth(400, "invalid_grant");
}

fn no_other_client_refreshes_anything(office: &Office) {
    let editor = office.editor();
    let client = office.presenter(json!({}));
    for _ in 0..2 {
        client.token(&[("grant_type", "refresh_token"), ("refresh_token", &editor.refresh_token)]).oauth(400, "unauthorized_client");
    }
    // And the attempt uses nothing up.
    editor.refresh().expect(200);
    editor.get("/v1/me").expect(200);
}
