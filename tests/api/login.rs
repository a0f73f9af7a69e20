//! Logging in, the limits on failing to, and the passwords that it takes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Answer, Caller, Office, Person, Setup, at_once, claims_of};

api_tests! {
    a_login_opens_a_session,
    whatever_is_wrong_with_a_login_is_answered_alike,
    an_email_address_counts_in_any_case,
    a_password_is_never_cut_off,
    a_body_that_is_no_login_is_refused,
    a_hash_of_another_cost_is_renewed_at_login,
    an_account_is_limited_wherever_the_guesses_come_from,
    an_owner_is_not_locked_out_of_an_address_that_is_known,
    an_address_is_limited_whatever_account_it_tries,
    an_untrusted_forwarded_address_is_ignored,
    a_forged_hop_left_of_the_proxies_buys_no_guesses,
    an_ipv6_address_counts_by_its_network,
    only_failures_count,
    guessing_in_parallel_gains_nothing,
    a_tripped_limit_is_recorded_once_for_a_known_account,
    a_failed_login_leaves_no_entry_and_charges_nobody,
    beyond_its_bound_the_hashing_pool_refuses,
    a_new_user_sets_a_password_once,
    a_setup_token_lasts_for_72_hours,
    a_new_setup_token_ends_everything_that_the_old_password_opened,
    nobody_resets_an_account_above_their_own_or_their_own,
    a_setup_token_does_not_let_a_disabled_user_in,
    one_changes_ones_password_and_ends_ones_other_sessions,
    without_the_current_password_nothing_changes,
    wrong_current_passwords_are_limited,
    one_sees_and_ends_ones_own_sessions,
    an_administrator_ends_all_sessions_of_a_user,
}

fn log_in(caller: &Caller, email: &str, password: &str) -> Answer {
    caller.post("/v1/auth/login", json!({ "email": email, "password": password }))
}

/// A login through the trusted proxy that these tests are, on behalf of `address`.
fn log_in_from(office: &Office, address: &str, email: &str, password: &str) -> Answer {
    let nobody = office.anonymous();
    let request = nobody.request("POST", "/v1/auth/login").header("X-Forwarded-For", address);
    request.json(&json!({ "email": email, "password": password })).send()
}

fn limited(setup: Setup, failures: u32) -> Office {
    setup.with("LOGIN_FAILURES_PER_MINUTE", failures).with("TRUSTED_PROXIES", "127.0.0.0/8").open()
}

/// An answer without what differs between any two.
fn bare(answer: &Answer) -> (u16, Value, BTreeMap<String, String>) {
    let mut body = answer.body.clone();
    body["request_id"].take();
    let varying = ["x-request-id", "date", "access-control-expose-headers"];
    let headers = answer.headers.iter().filter(|(name, _)| !varying.contains(&name.as_str()));
    (answer.status, body, headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect())
}

fn set_password(office: &Office, token: &str, password: &str) -> Answer {
    office.anonymous().post("/v1/auth/password", json!({ "setup_token": token, "new_password": password }))
}

/// Makes a user over HTTP; answers the id and the setup token.
fn create_user(admin: &Person, email: &str) -> (String, String) {
    let created = admin.post("/v1/users", json!({ "email": email, "display_name": "New", "role": "author" })).expect(201);
    (created.str("id").to_owned(), created.str("setup_token").to_owned())
}

fn a_login_opens_a_session(office: &Office) {
    let editor = office.editor();
    let answer = log_in(&office.anonymous(), &editor.email, &editor.password).expect(200);
    let members: Vec<_> = answer.body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["access_token", "expires_in", "refresh_expires_at", "refresh_token", "session", "token_type"]);
    assert!((3590..=3600).contains(&answer.value("expires_in").as_i64().unwrap()), "{answer}");
    let claims = claims_of(answer.str("access_token"));
    assert_eq!((&claims["sub"], &claims["sid"], claims.get("act")), (&json!(editor.id), answer.value("session/id"), None));

    let me = editor.with_token(answer.str("access_token")).get("/v1/me").expect(200);
    for member in ["id", "kind", "subject", "actor", "impersonation", "permissions", "expires_at"] {
        assert_eq!(me.value(member), answer.value(&format!("session/{member}")));
    }
    assert_eq!((me.str("kind"), me.value("subject")), ("own", &editor.user_ref()));
    assert_eq!(me.value("permissions"), &json!(["articles:create", "articles:edit_assigned"]));
    assert_ne!(me.str("id"), editor.session_id);

    let entries = office.administrator().all_items(&format!("/v1/history?action=session.started&subject={}", editor.id));
    let started: Vec<_> = entries.iter().map(|entry| entry["resource"]["id"].as_str().unwrap()).collect();
    assert_eq!(started, [me.str("id"), &editor.session_id]);
    assert!(entries.iter().all(|entry| entry["actor"].is_null() && entry["subject"] == editor.user_ref()));
}

fn whatever_is_wrong_with_a_login_is_answered_alike(office: &Office) {
    let (admin, editor, disabled) = (office.administrator(), office.editor(), office.editor());
    admin.patch(&format!("/v1/users/{}", disabled.id), json!({ "status": "disabled" })).expect(200);
    create_user(&admin, "fresh@example.org");
    let nobody = office.anonymous();
    let unknown = log_in(&nobody, "nobody@example.org", "correct horse").problem(401, "invalid_credentials");
    let pattern = bare(&unknown);
    for (what, email, password) in [
        ("a wrong password", editor.email.as_str(), "wrong"),
        ("no password", &editor.email, ""),
        ("more than bcrypt reads", &editor.email, &"x".repeat(73)),
        ("much more than bcrypt reads", &editor.email, &"x".repeat(100_000)),
        ("a disabled user", &disabled.email, &disabled.password),
        ("a disabled user's wrong password", &disabled.email, "wrong"),
        ("a user without a password", "fresh@example.org", "correct horse"),
        ("a user without a password, and none given", "fresh@example.org", ""),
        ("no address", "", "correct horse"),
        ("what is no address", "not an address", "correct horse"),
        ("an address that looks like SQL", "' OR 1=1 --@example.org", "correct horse"),
        ("a very long address", &format!("{}@example.org", "x".repeat(10_000)), "correct horse"),
        ("another's password", &editor.email, &admin.password),
        ("the password in capitals", &editor.email, &editor.password.to_uppercase()),
        ("the password and a blank", &editor.email, &format!("{} ", editor.password)),
    ] {
        assert_eq!(bare(&log_in(&nobody, email, password)), pattern, "{what}");
    }
    assert_eq!(unknown.header("www-authenticate"), Some("Bearer"));
}

fn an_email_address_counts_in_any_case(office: &Office) {
    let editor = office.editor();
    for email in [editor.email.to_uppercase(), editor.email.replace("ed", "Ed"), format!(" {} ", editor.email)] {
        let answer = log_in(&office.anonymous(), &email, &editor.password).expect(200);
        assert_eq!(answer.value("session/subject"), &editor.user_ref());
    }
}

fn a_password_is_never_cut_off(office: &Office) {
    let admin = office.administrator();
    let (_, token) = create_user(&admin, "long@example.org");
    let longest = "p".repeat(72);
    for (password, status) in [("p".repeat(73), 422), ("é".repeat(37), 422), ("1234567".to_owned(), 422), ("12345678\0".to_owned(), 400)] {
        let answer = set_password(office, &token, &password).expect(status);
        if status == 422 {
            assert_eq!(answer.pointers(), ["/new_password"], "{answer}");
        }
        let body = json!({ "current_password": admin.password, "new_password": password });
        assert_eq!(admin.put("/v1/me/password", body).status, status);
    }
    set_password(office, &token, &longest).expect(204);
    let nobody = office.anonymous();
    log_in(&nobody, "long@example.org", &longest).expect(200);
    log_in(&nobody, "long@example.org", &"p".repeat(71)).problem(401, "invalid_credentials");
    log_in(&nobody, "long@example.org", &"p".repeat(73)).problem(401, "invalid_credentials");
    log_in(&nobody, "long@example.org", &format!("{longest}\0")).problem(400, "malformed_request");
    // Characters are not bytes: 36 of two bytes fill it.
    let (_, token) = create_user(&admin, "wide@example.org");
    set_password(office, &token, &"é".repeat(36)).expect(204);
    log_in(&nobody, "wide@example.org", &"é".repeat(36)).expect(200);
}

fn a_body_that_is_no_login_is_refused(office: &Office) {
    let nobody = office.anonymous();
    for (body, status, code) in [
        (json!({ "email": "a@example.org" }), 422, "invalid_request"),
        (json!({ "password": "correct horse" }), 422, "invalid_request"),
        (json!({ "email": null, "password": "correct horse" }), 422, "invalid_request"),
        (json!({ "email": "a@example.org", "password": 12_345_678 }), 422, "invalid_request"),
        (json!({ "email": ["a@example.org"], "password": "correct horse" }), 422, "invalid_request"),
        (json!({ "email": "a@example.org", "password": "correct horse", "role": "administrator" }), 400, "unknown_field"),
        (json!([]), 422, "invalid_request"),
    ] {
        nobody.post("/v1/auth/login", body).problem(status, code);
    }
    let text = r#"{"email":"a@example.org","password":"correct horse""#;
    let login = || nobody.request("POST", "/v1/auth/login");
    let broken = login().body("application/json", text).send().problem(400, "malformed_request");
    assert!(!broken.text.contains("horse"));
    login().body("application/json", format!("{text},\"password\":\"other\"}}")).send().problem(400, "malformed_request");
    login().body("application/x-www-form-urlencoded", "email=a@example.org&password=x").send().problem(415, "unsupported_media_type");
    nobody.request("GET", "/v1/auth/login").send().problem(405, "method_not_allowed");
}

fn a_hash_of_another_cost_is_renewed_at_login(setup: Setup) {
    let office = setup.with("BCRYPT_COST", 5).open();
    let editor = office.editor();
    let hash = || office.db_text(&format!("SELECT password_hash FROM credentials WHERE user_id = '{}'", editor.id)).unwrap();
    // She was made with a hash of cost 4, and has logged in once.
    assert!(hash().starts_with("$2b$05$"), "{}", hash());
    let renewed = hash();
    editor.log_in_again();
    assert_eq!(hash(), renewed, "a hash of the right cost stays");

    let dear = bcrypt::hash(&editor.password, 6).unwrap();
    office.db_execute(&format!("UPDATE credentials SET password_hash = '{dear}' WHERE user_id = '{}'", editor.id)).unwrap();
    log_in(&office.anonymous(), &editor.email, "wrong").problem(401, "invalid_credentials");
    assert_eq!(hash(), dear, "a wrong password renews nothing");
    let before = office.db_count("SELECT count(*) FROM entries");
    let again = editor.log_in_again();
    assert!(hash().starts_with("$2b$05$"), "{}", hash());
    // No mutation: one entry, of the session, and nobody is logged out.
    assert_eq!(office.db_count("SELECT count(*) FROM entries"), before + 1);
    editor.get("/v1/me").expect(200);
    again.log_in_again();
}

fn an_account_is_limited_wherever_the_guesses_come_from(setup: Setup) {
    let office = limited(setup, 3);
    let (editor, author) = (office.editor(), office.author());
    for number in 1..=3 {
        log_in_from(&office, &format!("203.0.113.{number}"), &editor.email, "wrong").problem(401, "invalid_credentials");
    }
    let answer = log_in_from(&office, "203.0.113.9", &editor.email, &editor.password).problem(429, "too_many_attempts");
    let wait: i64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=20).contains(&wait), "{answer}");
    // In whatever case it is spelt, and whatever the password.
    log_in_from(&office, "203.0.113.9", &editor.email.to_uppercase(), "wrong").problem(429, "too_many_attempts");
    log_in_from(&office, "203.0.113.9", &author.email, &author.password).expect(200);
    office.advance(wait);
    log_in_from(&office, "203.0.113.9", &editor.email, &editor.password).expect(200);
}

fn an_owner_is_not_locked_out_of_an_address_that_is_known(setup: Setup) {
    let office = limited(setup, 3);
    let editor = office.editor();
    log_in_from(&office, "198.51.100.7", &editor.email, &editor.password).expect(200);
    for number in 1..=3 {
        log_in_from(&office, &format!("203.0.113.{number}"), &editor.email, "wrong").problem(401, "invalid_credentials");
    }
    log_in_from(&office, "198.51.100.8", &editor.email, &editor.password).problem(429, "too_many_attempts");
    log_in_from(&office, "198.51.100.7", &editor.email, &editor.password).expect(200);
    // There she has a limit of her own.
    for _ in 0..3 {
        log_in_from(&office, "198.51.100.7", &editor.email, "wrong").problem(401, "invalid_credentials");
    }
    log_in_from(&office, "198.51.100.7", &editor.email, &editor.password).problem(429, "too_many_attempts");
}

fn an_address_is_limited_whatever_account_it_tries(setup: Setup) {
    let office = limited(setup, 3);
    let editor = office.editor();
    for number in 0..3 {
        log_in_from(&office, "203.0.113.1", &format!("guess{number}@example.org"), "wrong").problem(401, "invalid_credentials");
    }
    let answer = log_in_from(&office, "203.0.113.1", &editor.email, &editor.password).problem(429, "too_many_attempts");
    log_in_from(&office, "203.0.113.2", &editor.email, &editor.password).expect(200);
    office.advance(answer.header("retry-after").unwrap().parse().unwrap());
    log_in_from(&office, "203.0.113.1", &editor.email, &editor.password).expect(200);
}

fn an_untrusted_forwarded_address_is_ignored(setup: Setup) {
    let office = setup.with("LOGIN_FAILURES_PER_MINUTE", 3).open();
    let editor = office.editor();
    for number in 0..3 {
        log_in_from(&office, &format!("203.0.113.{number}"), &format!("guess{number}@example.org"), "wrong")
            .problem(401, "invalid_credentials");
    }
    log_in_from(&office, "203.0.113.9", &editor.email, &editor.password).problem(429, "too_many_attempts");
    let known = office.db_count("SELECT count(*) FROM sessions WHERE client_ip LIKE '203.%'");
    assert_eq!((known, editor.get("/v1/me/sessions").expect(200).value("items/0/client_ip")), (0, &json!("127.0.0.1")));
}

fn a_forged_hop_left_of_the_proxies_buys_no_guesses(setup: Setup) {
    let office = limited(setup, 3);
    let editor = office.editor();
    for number in 0..3 {
        let hops = format!("10.9.8.{number}, 203.0.113.1, 127.0.0.2");
        log_in_from(&office, &hops, &format!("guess{number}@example.org"), "wrong").problem(401, "invalid_credentials");
    }
    log_in_from(&office, "10.9.8.77, 203.0.113.1", &editor.email, &editor.password).problem(429, "too_many_attempts");
    let opened = log_in_from(&office, "10.9.8.7, 203.0.113.5", &editor.email, &editor.password).expect(200);
    let sessions = editor.with_token(opened.str("access_token")).get("/v1/me/sessions").expect(200);
    assert_eq!(sessions.value("items/0/client_ip"), "203.0.113.5");
}

fn an_ipv6_address_counts_by_its_network(setup: Setup) {
    let office = limited(setup, 3);
    let editor = office.editor();
    for number in 1..=3 {
        log_in_from(&office, &format!("2001:db8::{number}"), &format!("guess{number}@example.org"), "wrong")
            .problem(401, "invalid_credentials");
    }
    log_in_from(&office, "2001:db8::ffff", &editor.email, &editor.password).problem(429, "too_many_attempts");
    log_in_from(&office, "2001:db8:0:1::1", &editor.email, &editor.password).expect(200);
}

fn only_failures_count(setup: Setup) {
    let office = limited(setup, 2);
    let editor = office.editor();
    for _ in 0..5 {
        log_in_from(&office, "203.0.113.1", &editor.email, &editor.password).expect(200);
    }
    log_in_from(&office, "203.0.113.1", &editor.email, "wrong").problem(401, "invalid_credentials");
    log_in_from(&office, "203.0.113.1", &editor.email, &editor.password).expect(200);
    // A success forgives nothing either.
    log_in_from(&office, "203.0.113.1", &editor.email, "wrong").problem(401, "invalid_credentials");
    log_in_from(&office, "203.0.113.1", &editor.email, &editor.password).problem(429, "too_many_attempts");
    // What is refused is not charged.
    office.advance(30);
    log_in_from(&office, "203.0.113.1", &editor.email, &editor.password).expect(200);
}

fn guessing_in_parallel_gains_nothing(setup: Setup) {
    let office = limited(setup, 3);
    let editor = office.editor();
    let answers = at_once(12, |number| log_in_from(&office, &format!("203.0.113.{number}"), &editor.email, &format!("wrong {number}")));
    let evaluated = answers.iter().filter(|answer| answer.status == 401).count();
    assert!(answers.iter().all(|answer| matches!(answer.status, 401 | 429)));
    // An allowance may have come back while they were being answered.
    assert!((3..=4).contains(&evaluated), "{evaluated}");
    let elsewhere = at_once(12, |number| log_in_from(&office, &format!("198.51.100.{number}"), &office.author().email, "wrong"));
    assert!(elsewhere.iter().all(|answer| answer.status == 401), "others are not held up by it");
}

fn a_tripped_limit_is_recorded_once_for_a_known_account(setup: Setup) {
    let office = limited(setup, 3);
    let (admin, editor) = (office.administrator(), office.editor());
    for number in 1..=6 {
        log_in_from(&office, &format!("203.0.113.{number}"), &editor.email, "wrong").expect(if number <= 3 { 401 } else { 429 });
    }
    for number in 1..=6 {
        log_in_from(&office, &format!("198.51.100.{number}"), "nobody@example.org", "wrong").expect(if number <= 3 { 401 } else { 429 });
    }
    let entries = admin.all_items("/v1/history?action=session.refused");
    assert_eq!(entries.len(), 1, "{entries:#?}");
    let entry = &entries[0];
    assert_eq!((&entry["resource"]["type"], &entry["resource"]["id"]), (&json!("user"), &json!(editor.id)));
    assert_eq!((&entry["subject"], &entry["actor"]), (&Value::Null, &Value::Null), "she did not do it");
    assert_eq!((&entry["changes"]["client_ip"]["to"], &entry["resource"]["version"]), (&json!("203.0.113.3"), &Value::Null));
    assert!(!entry.to_string().contains("wrong"));
}

fn a_failed_login_leaves_no_entry_and_charges_nobody(office: &Office) {
    let editor = office.editor();
    let entries = office.db_count("SELECT count(*) FROM entries");
    for email in [editor.email.as_str(), "nobody@example.org"] {
        for _ in 0..20 {
            log_in(&office.anonymous(), email, "wrong").problem(401, "invalid_credentials");
        }
    }
    assert_eq!(office.db_count("SELECT count(*) FROM entries"), entries);
    let user = office.administrator().get(&format!("/v1/users/{}", editor.id)).expect(200);
    assert_eq!((user.value("version"), user.value("updated_at")), (&json!(1), user.value("created_at")));
}

fn beyond_its_bound_the_hashing_pool_refuses(setup: Setup) {
    let office = setup.with("BCRYPT_COST", 12).with("HASHING_THREADS", 1).with("HASHING_QUEUE", 1).open();
    let nobody = office.anonymous();
    // One is worked on and one waits, each for long; the others come meanwhile.
    let answers = at_once(12, |_| log_in(&nobody, "nobody@example.org", "wrong"));
    let (mut refused, mut evaluated) = (0, 0);
    for answer in answers {
        match answer.status {
            401 => evaluated += 1,
            _ => drop((answer.problem(503, "overloaded"), refused += 1)),
        }
    }
    assert!(refused > 0 && evaluated > 0, "{refused} refused, {evaluated} evaluated");
    log_in(&nobody, "nobody@example.org", "wrong").problem(401, "invalid_credentials");
}

fn a_new_user_sets_a_password_once(office: &Office) {
    let admin = office.administrator();
    let (id, token) = create_user(&admin, "Fresh@Example.org");
    let body = json!({ "email": "fresh@example.org", "display_name": "Other", "role": "author" });
    admin.post("/v1/users", body).problem(409, "email_taken");
    set_password(office, &token, "short").problem(422, "invalid_request");
    assert_eq!(set_password(office, &token, "a fresh password").expect(204).text, "");
    assert_eq!(log_in(&office.anonymous(), "fresh@example.org", "a fresh password").expect(200).str("session/subject/id"), id);
    set_password(office, &token, "a later password").problem(401, "invalid_credentials");
    log_in(&office.anonymous(), "fresh@example.org", "a later password").problem(401, "invalid_credentials");
    for text in ["", "x", "actas_st_", &format!("{token}A"), &admin.refresh_token] {
        let answer = set_password(office, text, "a later password").problem(401, "invalid_credentials");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let entries = admin.all_items(&format!("/v1/history?resource_id={id}"));
    let actions: Vec<_> =
        entries.iter().map(|entry| (entry["action"].as_str().unwrap(), entry["subject"]["id"].as_str().unwrap())).collect();
    assert_eq!(actions, [("user.password_changed", id.as_str()), ("user.created", admin.id.as_str())]);
    assert_eq!(entries[0]["changes"], json!({}));
}

fn a_setup_token_lasts_for_72_hours(office: &Office) {
    let admin = office.administrator();
    let (_, in_time) = create_user(&admin, "early@example.org");
    let (_, too_late) = create_user(&admin, "late@example.org");
    office.advance(72 * 3600 - 60);
    set_password(office, &in_time, "a fresh password").expect(204);
    office.advance(61);
    set_password(office, &too_late, "a fresh password").problem(401, "invalid_credentials");
}

fn a_new_setup_token_ends_everything_that_the_old_password_opened(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let desk = editor.log_in_again();
    let renew = || admin.post_empty(&format!("/v1/users/{}/setup-token", editor.id)).expect(201);
    let (first, second) = (renew(), renew());
    assert_eq!((first.str("id"), first.value("version")), (editor.id.as_str(), &json!(1)));
    for session in [&editor, &desk] {
        session.get("/v1/me").problem(401, "session_ended");
        session.refresh().problem(401, "session_ended");
    }
    log_in(&office.anonymous(), &editor.email, &editor.password).problem(401, "invalid_credentials");
    set_password(office, first.str("setup_token"), "another password").problem(401, "invalid_credentials");
    set_password(office, second.str("setup_token"), "another password").expect(204);
    log_in(&office.anonymous(), &editor.email, "another password").expect(200);
    admin.get("/v1/me").expect(200);
    let entries = admin.all_items(&format!("/v1/history?action=user.setup_token_issued&resource_id={}", editor.id));
    assert_eq!(entries.len(), 2);
}

fn nobody_resets_an_account_above_their_own_or_their_own(office: &Office) {
    let (admin, peer, sue, editor) = (office.administrator(), office.administrator(), office.support(), office.editor());
    let renew = |caller: &Caller, user: &Person| caller.post_empty(&format!("/v1/users/{}/setup-token", user.id));
    assert_eq!(renew(&admin, &admin).problem(403, "action_refused").reasons(), ["own_account"]);
    for caller in [&sue, &editor] {
        renew(caller, &admin).problem(403, "missing_permission");
        renew(caller, &editor).problem(403, "missing_permission");
    }
    renew(&admin, &peer).expect(201);
    admin.post_empty("/v1/users/019aa0f0-0000-7000-8000-000000000001/setup-token").problem(404, "not_found");
    admin.get("/v1/me").expect(200);
}

fn a_setup_token_does_not_let_a_disabled_user_in(office: &Office) {
    let admin = office.administrator();
    let (id, token) = create_user(&admin, "fresh@example.org");
    admin.patch(&format!("/v1/users/{id}"), json!({ "status": "disabled" })).expect(200);
    let answer = set_password(office, &token, "a fresh password");
    assert!(matches!(answer.status, 204 | 401), "{answer}");
    log_in(&office.anonymous(), "fresh@example.org", "a fresh password").problem(401, "invalid_credentials");
}

fn one_changes_ones_password_and_ends_ones_other_sessions(office: &Office) {
    let (editor, bystander) = (office.editor(), office.editor());
    let desk = editor.log_in_again();
    let body = json!({ "current_password": editor.password, "new_password": "another password" });
    assert_eq!(editor.put("/v1/me/password", body).expect(204).text, "");
    editor.get("/v1/me").expect(200);
    editor.refresh().expect(200);
    desk.get("/v1/me").problem(401, "session_ended");
    desk.refresh().problem(401, "session_ended");
    bystander.get("/v1/me").expect(200);
    log_in(&office.anonymous(), &editor.email, &editor.password).problem(401, "invalid_credentials");
    log_in(&office.anonymous(), &editor.email, "another password").expect(200);
    let entries = office.administrator().all_items(&format!("/v1/history?resource_id={}&subject={}", editor.id, editor.id));
    assert_eq!((entries.len(), &entries[0]["action"], &entries[0]["changes"]), (1, &json!("user.password_changed"), &json!({})));
}

fn without_the_current_password_nothing_changes(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let (desk, acting) = (editor.log_in_again(), office.impersonate(&admin, &editor));
    for current in ["", "wrong", &admin.password, &"x".repeat(73)] {
        let body = json!({ "current_password": current, "new_password": "another password" });
        editor.put("/v1/me/password", body).problem(401, "invalid_credentials");
    }
    for body in [json!({ "new_password": "another password" }), json!({ "current_password": editor.password })] {
        editor.put("/v1/me/password", body).problem(422, "invalid_request");
    }
    let body = json!({ "current_password": editor.password, "new_password": "another password", "user_id": admin.id });
    editor.put("/v1/me/password", body).problem(400, "unknown_field");
    for caller in [&editor as &Caller, &desk, &acting] {
        caller.get("/v1/me").expect(200);
    }
    editor.log_in_again();
}

fn wrong_current_passwords_are_limited(setup: Setup) {
    let office = limited(setup, 3);
    let editor = office.editor();
    let change = |current: &str| editor.put("/v1/me/password", json!({ "current_password": current, "new_password": "another password" }));
    for _ in 0..3 {
        change("wrong").problem(401, "invalid_credentials");
    }
    change(&editor.password).problem(429, "too_many_attempts");
    editor.get("/v1/me").expect(200);
    office.advance(20);
    change(&editor.password).expect(204);
}

fn one_sees_and_ends_ones_own_sessions(office: &Office) {
    let (editor, other) = (office.editor(), office.editor());
    let (desk, phone) = (editor.log_in_again(), editor.log_in_again());
    office.impersonate(&office.administrator(), &editor);
    let listed = editor.get("/v1/me/sessions").expect(200);
    let shown: Vec<_> = listed.items().iter().map(|item| (item["id"].as_str().unwrap(), item["current"].as_bool().unwrap())).collect();
    let expected = [(phone.session_id.as_str(), false), (&desk.session_id, false), (&editor.session_id, true)];
    assert_eq!(shown, expected, "own sessions, and no impersonation");
    assert_eq!(editor.all_items("/v1/me/sessions?limit=1").len(), 3);

    let end = |caller: &Caller, id: &str| caller.delete(&format!("/v1/me/sessions/{id}"));
    for id in [&other.session_id, "019aa0f0-0000-7000-8000-000000000001"] {
        end(&editor, id).problem(404, "not_found");
    }
    other.get("/v1/me").expect(200);
    end(&editor, &desk.session_id).expect(204);
    end(&editor, &desk.session_id).expect(204);
    desk.get("/v1/me").problem(401, "session_ended");
    desk.refresh().problem(401, "session_ended");
    end(&editor, &editor.session_id).expect(204);
    editor.get("/v1/me").problem(401, "session_ended");
    assert_eq!(phone.get("/v1/me/sessions").expect(200).items().len(), 1);
    let entries = office.administrator().all_items(&format!("/v1/history?action=session.ended&subject={}", editor.id));
    assert_eq!(entries.len(), 2);
}

fn an_administrator_ends_all_sessions_of_a_user(office: &Office) {
    let (admin, sue, editor) = (office.administrator(), office.support(), office.editor());
    let desk = editor.log_in_again();
    let (of_editor, by_sue) = (office.impersonate(&admin, &editor), office.impersonate(&sue, &editor));
    let path = format!("/v1/users/{}/sessions", editor.id);
    for caller in [&sue, &editor] {
        caller.delete(&path).problem(403, "missing_permission");
    }
    admin.delete("/v1/users/019aa0f0-0000-7000-8000-000000000001/sessions").problem(404, "not_found");
    admin.delete(&path).expect(204);
    for session in [&editor, &desk] {
        session.get("/v1/me").problem(401, "session_ended");
    }
    // Those who act as her go on; what she started herself would not.
    of_editor.get("/v1/me").expect(200);
    admin.delete(&format!("/v1/users/{}/sessions", sue.id)).expect(204);
    assert_eq!(by_sue.get("/v1/me").problem(401, "impersonation_ended").str("cause"), "original_session_ended");
    of_editor.get("/v1/me").expect(200);
    editor.log_in_again().get("/v1/me").expect(200);
}
