//! Access tokens as strangers, thieves and insiders might bend them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::ending::CALLS;
use crate::harness::{Caller, Forger, Office, Person, Setup, claims_of, header_of};

api_tests! {
    a_token_that_was_tampered_with_is_refused,
    a_validly_signed_token_of_another_kind_is_refused,
    token_and_session_must_agree_on_who_acts_as_whom,
    a_forged_logout_ends_nothing_and_yields_nothing,
    no_endpoint_takes_a_forged_token,
    the_token_is_read_from_the_one_authorization_header_only,
    every_401_challenges_as_its_code_demands,
    expiry_has_no_leeway,
    a_lifetime_of_one_second_is_possible,
    no_endpoint_takes_an_expired_token,
    an_expired_token_does_not_end_its_session,
    no_secret_is_ever_stored_or_told_by_the_history,
}

const NOBODY: &str = "019aa0f0-0000-7000-8000-000000000001";

/// Demands that a token is refused wherever it is tried.
#[track_caller]
fn is_refused(office: &Office, what: &str, token: &str) {
    let caller = office.anonymous().with_token(token);
    let draft = json!({ "title": "Forged", "abstract": "", "body": "" });
    for answer in [caller.get("/v1/me"), caller.post("/v1/articles", draft), caller.post_empty("/v1/auth/logout")] {
        assert!(answer.status == 401 && answer.body["code"] == "invalid_token", "{what}: {answer}");
        assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer error="invalid_token""#), "{what}");
        assert!(!answer.text.contains(token), "{what}");
    }
}

/// Demands that these are as alive as before.
#[track_caller]
fn are_alive(callers: &[&Caller]) {
    for caller in callers {
        caller.get("/v1/me").expect(200);
    }
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn a_token_that_was_tampered_with_is_refused(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    let token = &editor.access_token;
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
    let acting_signature = acting.access_token.rsplit('.').next().unwrap();
    let mut claims = claims_of(token);
    claims["sub"] = json!(admin.id);
    let algorithm = |alg: &str| {
        let mut header = header_of(token);
        header["alg"] = json!(alg);
        encoded(&header)
    };
    let (none, symmetric) = (algorithm("none"), algorithm("HS256"));
    let flipped: String =
        signature.chars().map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }).collect();
    for (what, forged) in [
        ("no signature", format!("{header}.{payload}.")),
        ("two parts", format!("{header}.{payload}")),
        ("four parts", format!("{token}.")),
        ("alg none", format!("{none}.{payload}.")),
        ("alg none with a signature", format!("{none}.{payload}.{signature}")),
        ("alg HS256", format!("{symmetric}.{payload}.{signature}")),
        ("other claims", format!("{header}.{}.{signature}", encoded(&claims))),
        ("another token's signature", format!("{header}.{payload}.{acting_signature}")),
        ("a character more", format!("{token}A")),
        ("a character less", token[..token.len() - 1].to_owned()),
        ("padding", format!("{token}==")),
        ("the signature's case", format!("{header}.{payload}.{flipped}")),
        ("nonsense", "nonsense".to_owned()),
        ("dots", "..".to_owned()),
        ("much", "a".repeat(20_000)),
    ] {
        is_refused(office, what, &forged);
    }
    are_alive(&[&admin, &editor, &acting]);
}

fn a_validly_signed_token_of_another_kind_is_refused(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let forger = Forger::of(office);
    let token = &editor.access_token;
    // The forger's signature is the server's: what is unchanged is the same token.
    assert_eq!(forger.sign(&header_of(token), &claims_of(token)).len(), token.len());
    editor.with_token(&forger.with_claims(token, |_| ())).get("/v1/me").expect(200);

    type Change = fn(&mut Value);
    let headers: [(&str, Change); 11] = [
        ("typ JWT", |header| header["typ"] = json!("JWT")),
        ("no typ", |header| drop(header.as_object_mut().unwrap().remove("typ"))),
        ("typ of a refresh token", |header| header["typ"] = json!("rt+jwt")),
        ("no kid", |header| drop(header.as_object_mut().unwrap().remove("kid"))),
        ("kid of a path", |header| header["kid"] = json!("../../dev/null")),
        ("kid of SQL", |header| header["kid"] = json!("' OR 1=1 --")),
        ("a key of its own", |header| header["jwk"] = json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA" })),
        ("a key's address", |header| header["jku"] = json!("https://example.org/keys")),
        ("crit", |header| header["crit"] = json!(["exp"])),
        ("b64", |header| header["b64"] = json!(false)),
        ("alg of another name", |header| header["alg"] = json!("Ed25519")),
    ];
    for (what, change) in headers {
        is_refused(office, what, &forger.with_header(token, change));
    }
    let claims: [(&str, Change); 13] = [
        ("another issuer", |claims| claims["iss"] = json!("https://example.org")),
        ("another audience", |claims| claims["aud"] = json!("others")),
        ("no audience", |claims| claims["aud"] = json!([])),
        ("another kind of audience", |claims| claims["aud"] = json!({ "actas": true })),
        ("exp as a string", |claims| claims["exp"] = json!(claims["exp"].to_string())),
        ("exp as a float", |claims| claims["exp"] = json!(claims["exp"].as_f64())),
        ("iat in the future", |claims| claims["iat"] = json!(claims["iat"].as_i64().unwrap() + 600)),
        ("nbf in the future", |claims| claims["nbf"] = json!(claims["nbf"].as_i64().unwrap() + 600)),
        ("sub of nobody", |claims| claims["sub"] = json!(NOBODY)),
        ("sub in capitals", |claims| claims["sub"] = json!(claims["sub"].as_str().unwrap().to_uppercase())),
        ("an unknown session", |claims| claims["sid"] = json!(NOBODY)),
        ("no id for a session", |claims| claims["sid"] = json!("' OR 1=1 --")),
        ("sub as a number", |claims| claims["sub"] = json!(1)),
    ];
    for (what, change) in claims {
        is_refused(office, what, &forger.with_claims(token, change));
    }
    for member in ["iss", "aud", "sub", "client_id", "exp", "iat", "nbf", "jti", "sid"] {
        let forged = forger.with_claims(token, |claims| drop(claims.as_object_mut().unwrap().remove(member)));
        is_refused(office, &format!("no {member}"), &forged);
        is_refused(office, &format!("{member} null"), &forger.with_claims(token, |claims| claims[member] = Value::Null));
    }
    are_alive(&[&admin, &editor]);
}

fn token_and_session_must_agree_on_who_acts_as_whom(office: &Office) {
    let (ada, eve, editor, author) = (office.administrator(), office.administrator(), office.editor(), office.author());
    let forger = Forger::of(office);
    let acting = office.impersonate(&ada, &editor);
    let with_act = |token: &str, act: Value| forger.with_claims(token, |claims| claims["act"] = act);
    let with_sub = |token: &str, sub: &Person| forger.with_claims(token, |claims| claims["sub"] = json!(sub.id));
    let of = |person: &Person| json!({ "sub": person.id });
    for (what, forged) in [
        ("act on an own session", with_act(&editor.access_token, of(&ada))),
        ("act of itself on an own session", with_act(&editor.access_token, of(&editor))),
        (
            "an impersonation without act",
            forger.with_claims(&acting.access_token, |claims| drop(claims.as_object_mut().unwrap().remove("act"))),
        ),
        ("act of another administrator", with_act(&acting.access_token, of(&eve))),
        ("act of the subject", with_act(&acting.access_token, of(&editor))),
        ("act of nobody", with_act(&acting.access_token, json!({ "sub": NOBODY }))),
        ("another subject", with_sub(&acting.access_token, &author)),
        ("the actor as the subject", with_sub(&acting.access_token, &ada)),
        ("both swapped", with_act(&with_sub(&acting.access_token, &ada), of(&editor))),
        ("another's own session", with_sub(&editor.access_token, &ada)),
        ("the impersonation's session in an own token", forger.with_claims(&ada.access_token, |claims| claims["sid"] = json!(acting.id))),
        (
            "an own session in the impersonation's token",
            forger.with_claims(&acting.access_token, |claims| claims["sid"] = json!(ada.session_id)),
        ),
        ("act as text", with_act(&acting.access_token, json!(ada.id))),
        ("act as a list", with_act(&acting.access_token, json!([of(&ada)]))),
        ("act null", with_act(&acting.access_token, Value::Null)),
        ("act empty", with_act(&acting.access_token, json!({}))),
        ("act with more in it", with_act(&acting.access_token, json!({ "sub": ada.id, "exp": 1 }))),
        ("act in act", with_act(&acting.access_token, json!({ "sub": ada.id, "act": of(&eve) }))),
        ("act null on an own session", with_act(&editor.access_token, Value::Null)),
    ] {
        is_refused(office, what, &forged);
    }
    are_alive(&[&ada, &eve, &editor, &author, &acting]);
    assert_eq!(office.db_count("SELECT count(*) FROM articles"), 0);
}

fn a_forged_logout_ends_nothing_and_yields_nothing(office: &Office) {
    let (ada, eve, editor) = (office.administrator(), office.administrator(), office.editor());
    let acting = office.impersonate(&ada, &editor);
    let forger = Forger::of(office);
    let eves = forger.with_claims(&acting.access_token, |claims| claims["act"] = json!({ "sub": eve.id }));
    let body = json!({ "restore_verifier": acting.restore_verifier });
    let answer = office.anonymous().with_token(&eves).post("/v1/auth/logout", body).problem(401, "invalid_token");
    assert_eq!((answer.body.get("access_token"), answer.body.get("cause")), (None, None));
    acting.get("/v1/me").expect(200);
    assert_eq!(acting.log_out().expect(200).str("access_token"), ada.access_token);
}

fn no_endpoint_takes_a_forged_token(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    let forger = Forger::of(office);
    let promoted = forger.with_claims(&editor.access_token, |claims| claims["sub"] = json!(admin.id));
    let actorless = forger.with_claims(&acting.access_token, |claims| drop(claims.as_object_mut().unwrap().remove("act")));
    let unsigned = admin.access_token.rsplit_once('.').unwrap().0.to_owned() + ".";
    for (method, path) in CALLS {
        for forged in [&promoted, &actorless, &unsigned] {
            office.anonymous().with_token(forged).request(method, path).send().problem(401, "invalid_token");
        }
        office.anonymous().request(method, path).send().problem(401, "credentials_missing");
    }
    are_alive(&[&admin, &editor, &acting]);
}

fn the_token_is_read_from_the_one_authorization_header_only(office: &Office) {
    let editor = office.editor();
    let (token, nobody) = (&editor.access_token, office.anonymous());
    let form = format!("access_token={token}");
    for request in [
        nobody.request("GET", &format!("/v1/me?{form}")),
        nobody.request("POST", "/v1/auth/logout").body("application/x-www-form-urlencoded", form.clone()),
        nobody.request("GET", "/v1/me").header("Cookie", &format!("{form}; Authorization=Bearer {token}")),
        nobody.request("GET", "/v1/me").header("X-Authorization", &format!("Bearer {token}")),
        nobody.request("GET", "/v1/me").header("Proxy-Authorization", &format!("Bearer {token}")),
        nobody.request("GET", "/v1/me").header("Authorization", token),
        nobody.request("GET", "/v1/me").header("Authorization", &format!("Basic {token}")),
        nobody.request("GET", "/v1/me").header("Authorization", &format!("DPoP {token}")),
    ] {
        request.send().problem(401, "credentials_missing");
    }
    let twice = format!("Bearer {token}");
    for request in [
        nobody.request("GET", "/v1/me").header("Authorization", &twice).header("Authorization", &twice),
        nobody.request("GET", "/v1/me").header("Authorization", &twice).header("Authorization", "Basic YTpi"),
        nobody.request("GET", "/v1/me").header("Authorization", &format!("{twice}, {twice}")),
        nobody.request("GET", "/v1/me").header("Authorization", &format!("{twice} {token}")),
        nobody.request("GET", "/v1/me").header("Authorization", "Bearer"),
    ] {
        request.send().problem(401, "invalid_token");
    }
    for scheme in ["Bearer", "bearer", "BEARER"] {
        nobody.request("GET", "/v1/me").header("Authorization", &format!("{scheme} {token}")).send().expect(200);
    }
    editor.get("/v1/me").expect(200);
}

fn every_401_challenges_as_its_code_demands(office: &Office) {
    let (admin, editor, author) = (office.administrator(), office.editor(), office.author());
    let (spoiled, dead) = (office.impersonate(&admin, &editor), office.impersonate(&admin, &editor));
    dead.log_out().expect(200);
    let orphan = office.impersonate(&admin.log_in_again(), &editor);
    let phone = office.administrator();
    let of_phone = office.impersonate(&phone, &editor);
    phone.log_out().expect(204);
    author.log_out().expect(204);
    let login = json!({ "email": editor.email, "password": "wrong" });
    let expired = Forger::of(office).with_claims(&editor.access_token, |claims| claims["exp"] = json!(1));
    let bad_token = r#"Bearer error="invalid_token""#;
    for (answer, code, challenge) in [
        (office.anonymous().get("/v1/me"), "credentials_missing", "Bearer"),
        (office.anonymous().post("/v1/auth/login", login), "invalid_credentials", "Bearer"),
        (office.anonymous().post("/v1/auth/refresh", json!({ "refresh_token": "x" })), "refresh_token_invalid", "Bearer"),
        (editor.with_token("x").get("/v1/me"), "invalid_token", bad_token),
        (editor.with_token(&expired).get("/v1/me"), "token_expired", bad_token),
        (author.get("/v1/me"), "session_ended", bad_token),
        (dead.get("/v1/me"), "impersonation_ended", bad_token),
        (of_phone.log_out(), "original_session_ended", bad_token),
        (spoiled.post_empty("/v1/auth/logout"), "restore_proof_required", bad_token),
    ] {
        assert_eq!(answer.problem(401, code).header("www-authenticate"), Some(challenge), "{code}");
    }
    orphan.get("/v1/me").expect(200);
}

fn expiry_has_no_leeway(office: &Office) {
    let editor = office.editor();
    let forger = Forger::of(office);
    let ends_at = |exp: i64| editor.with_token(&forger.with_claims(&editor.access_token, |claims| claims["exp"] = json!(exp)));
    // The second that has begun is the first one at which the token no longer counts.
    ends_at(office.now().timestamp()).get("/v1/me").problem(401, "token_expired");
    ends_at(office.now().timestamp()).post_empty("/v1/auth/logout").problem(401, "token_expired");
    ends_at(office.now().timestamp() + 60).get("/v1/me").expect(200);

    // An impersonation ends by its row, however long its token says.
    let acting = office.impersonate_with(&office.administrator(), &editor, json!({ "duration_seconds": 60 }));
    let longer = forger.with_claims(&acting.access_token, |claims| claims["exp"] = json!(office.now().timestamp() + 3000));
    office.advance(61);
    editor.with_token(&longer).get("/v1/me").problem(401, "impersonation_ended");
}

fn a_lifetime_of_one_second_is_possible(setup: Setup) {
    let office = setup.with("ACCESS_TOKEN_TTL_SECONDS", 1).with("REFRESH_TOKEN_TTL_SECONDS", 600).open();
    let editor = office.editor();
    let lasts = |token: &str| claims_of(token)["exp"].as_i64().unwrap() - claims_of(token)["iat"].as_i64().unwrap();
    // A token counts whole seconds and never lives shorter than promised.
    assert!((1..=2).contains(&lasts(&editor.access_token)));
    office.advance(2);
    editor.get("/v1/me").problem(401, "token_expired");
    let refreshed = editor.refresh().expect(200);
    assert!((1..=2).contains(&lasts(refreshed.str("access_token"))));
}

fn no_endpoint_takes_an_expired_token(office: &Office) {
    let editor = office.editor();
    office.advance(3601);
    for (method, path) in CALLS {
        editor.request(method, path).send().problem(401, "token_expired");
    }
}

fn an_expired_token_does_not_end_its_session(office: &Office) {
    let editor = office.editor();
    office.advance(3601);
    editor.log_out().problem(401, "token_expired");
    let refreshed = editor.refresh().expect(200);
    editor.with_token(refreshed.str("access_token")).get("/v1/me").expect(200);
}

fn no_secret_is_ever_stored_or_told_by_the_history(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    acting.post("/v1/articles", json!({ "title": "Tides", "abstract": "", "body": "" })).expect(201);
    let left = office.impersonate(&admin, &editor);
    left.log_out().expect(200);
    let body = json!({ "email": "new@example.org", "display_name": "New", "role": "author" });
    let setup_token = admin.post("/v1/users", body).expect(201).str("setup_token").to_owned();
    let changed = json!({ "current_password": editor.password, "new_password": "quite another horse" });
    let acting_too = office.impersonate(&admin, &editor);
    editor.put("/v1/me/password", changed).expect(204);
    let refreshed = admin.refresh().expect(200);
    for guess in [&admin, &editor] {
        office
            .anonymous()
            .post("/v1/auth/login", json!({ "email": guess.email, "password": "a wrong horse" }))
            .problem(401, "invalid_credentials");
    }

    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    let access = [&admin.access_token, &editor.access_token, &acting.access_token, &left.access_token, &acting_too.access_token];
    let mut secrets: Vec<String> = access.iter().map(|token| signature(token)).collect();
    secrets.push(signature(refreshed.str("access_token")));
    for handle in [&admin.refresh_token, &editor.refresh_token, refreshed.str("refresh_token"), &setup_token] {
        secrets.push(handle[handle.len() - 43..].to_owned());
    }
    for password in [&admin.password, &editor.password, "quite another horse", "a wrong horse", &acting.restore_verifier] {
        secrets.push(password.to_owned());
    }
    let dump = office.db_dump();
    assert!(dump.contains("$2b$04$") && dump.contains(&acting.id), "the whole database is looked at");
    let history = Value::from(admin.all_items("/v1/history?limit=200")).to_string();
    assert!(history.contains("user.password_changed") && history.contains(&left.id));
    for secret in &secrets {
        assert!(!dump.contains(secret) && !history.contains(secret), "{secret}");
    }
    // A way back is kept unsigned as long as it is open, and the history has nothing even of that.
    let payload = |token: &str| token.split('.').nth(1).unwrap().to_owned();
    assert!(access.iter().all(|token| !history.contains(&payload(token))));
    assert!(!history.contains("$2b$") && !dump.contains(&payload(&left.access_token)));
}
