//! Keeping an own session open: rotation, its grace, and what a second use of an old token leads to.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Answer, Office, Person, Setup, at_once, claims_of};

api_tests! {
    a_refresh_gives_new_tokens_of_the_same_session,
    the_predecessor_gives_the_same_successor_within_the_grace,
    after_the_grace_the_predecessor_ends_the_session,
    an_older_token_ends_the_session_at_once,
    without_grace_a_second_use_ends_the_session,
    racing_refreshes_all_get_the_same_successor,
    refreshing_does_not_extend_the_session,
    no_access_token_outlives_its_session,
    an_ended_session_is_not_refreshed,
    a_refresh_changes_nothing_for_an_impersonation,
    a_refresh_is_no_entry_of_the_history,
    tokens_of_one_kind_are_never_taken_for_another,
    what_is_no_refresh_token_is_refused,
    only_hashes_of_refresh_tokens_are_kept,
    a_refresh_token_survives_a_restart,
}

fn refresh(office: &Office, token: &str) -> Answer {
    office.anonymous().post("/v1/auth/refresh", json!({ "refresh_token": token }))
}

/// Demands that nothing of this session works any more.
#[track_caller]
fn is_over(office: &Office, person: &Person, tokens: &[&str]) {
    person.get("/v1/me").problem(401, "session_ended");
    for token in tokens {
        refresh(office, token).problem(401, "session_ended");
    }
}

fn a_refresh_gives_new_tokens_of_the_same_session(office: &Office) {
    let editor = office.editor();
    office.advance(100);
    let first = editor.refresh().expect(200);
    let members: Vec<_> = first.body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["access_token", "expires_in", "refresh_expires_at", "refresh_token", "session", "token_type"]);
    assert_eq!((first.str("session/id"), first.str("session/kind")), (editor.session_id.as_str(), "own"));
    assert_ne!(first.str("refresh_token"), editor.refresh_token);
    let (old, new) = (claims_of(&editor.access_token), claims_of(first.str("access_token")));
    assert_eq!((&old["sub"], &old["sid"]), (&new["sub"], &new["sid"]));
    assert_ne!(old["jti"], new["jti"]);
    assert!(new["exp"].as_i64().unwrap() >= old["exp"].as_i64().unwrap() + 100);
    editor.with_token(first.str("access_token")).get("/v1/me").expect(200);
    editor.get("/v1/me").expect(200);

    let second = refresh(office, first.str("refresh_token")).expect(200);
    let all = BTreeSet::from([editor.refresh_token.as_str(), first.str("refresh_token"), second.str("refresh_token")]);
    assert_eq!(all.len(), 3);
}

fn the_predecessor_gives_the_same_successor_within_the_grace(office: &Office) {
    let editor = office.editor();
    let first = editor.refresh().expect(200);
    for _ in 0..3 {
        office.advance(3);
        let again = editor.refresh().expect(200);
        assert_eq!(again.str("refresh_token"), first.str("refresh_token"));
        assert_eq!(again.str("session/id"), editor.session_id);
        editor.with_token(again.str("access_token")).get("/v1/me").expect(200);
    }
    // The grace begins with the first use and is not extended by the others.
    office.advance(2);
    editor.refresh().problem(401, "refresh_token_reused");
}

fn after_the_grace_the_predecessor_ends_the_session(setup: Setup) {
    let office = setup.with("REFRESH_GRACE_SECONDS", 60).open();
    let (editor, phone) = (office.editor(), office.editor());
    let successor = editor.refresh().expect(200).str("refresh_token").to_owned();
    office.advance(50);
    assert_eq!(editor.refresh().expect(200).str("refresh_token"), successor);
    office.advance(11);
    let answer = editor.refresh().problem(401, "refresh_token_reused");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    is_over(&office, &editor, &[&successor, &editor.refresh_token]);
    phone.get("/v1/me").expect(200);

    let admin = office.administrator();
    let entries = admin.all_items(&format!("/v1/history?action=session.ended&resource_id={}", editor.session_id));
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["changes"]["cause"]["to"], "refresh_token_reused");
}

fn an_older_token_ends_the_session_at_once(office: &Office) {
    let (editor, other) = (office.editor(), office.editor());
    let (desk, first) = (editor.log_in_again(), editor.refresh().expect(200));
    let second = refresh(office, first.str("refresh_token")).expect(200);
    editor.refresh().problem(401, "refresh_token_reused");
    is_over(office, &editor, &[&editor.refresh_token, first.str("refresh_token"), second.str("refresh_token")]);
    editor.with_token(second.str("access_token")).get("/v1/me").problem(401, "session_ended");
    // Her other sessions are not known to have leaked.
    desk.refresh().expect(200);
    other.get("/v1/me").expect(200);
}

fn without_grace_a_second_use_ends_the_session(setup: Setup) {
    let office = setup.with("REFRESH_GRACE_SECONDS", 0).open();
    let editor = office.editor();
    let successor = editor.refresh().expect(200);
    office.advance(1);
    editor.refresh().problem(401, "refresh_token_reused");
    is_over(&office, &editor, &[successor.str("refresh_token")]);
}

fn racing_refreshes_all_get_the_same_successor(office: &Office) {
    let editor = office.editor();
    let answers = at_once(20, |_| editor.refresh());
    let successors: BTreeSet<_> = answers.into_iter().map(|answer| answer.expect(200).str("refresh_token").to_owned()).collect();
    assert_eq!(successors.len(), 1);
    let successor = successors.first().unwrap();
    assert_eq!(office.db_count("SELECT count(*) FROM refresh_tokens"), 2);
    refresh(office, successor).expect(200);
}

fn refreshing_does_not_extend_the_session(office: &Office) {
    let editor = office.editor();
    let mut token = editor.refresh_token.clone();
    let mut promised = BTreeSet::new();
    for _ in 0..13 {
        office.advance(24 * 3600);
        let answer = refresh(office, &token).expect(200);
        promised.insert(answer.str("refresh_expires_at").to_owned());
        token = answer.str("refresh_token").to_owned();
    }
    assert_eq!(promised.len(), 1, "{promised:?}");
    office.advance(24 * 3600);
    let answer = refresh(office, &token).expect(401);
    // Whether its row is still there is the sweeper's affair.
    assert!(["session_ended", "refresh_token_invalid"].contains(&answer.str("code")), "{answer}");
}

fn no_access_token_outlives_its_session(setup: Setup) {
    let office = setup.with("REFRESH_TOKEN_TTL_SECONDS", 4000).open();
    let editor = office.editor();
    office.advance(3000);
    let answer = editor.refresh().expect(200);
    assert!((990..=1000).contains(&answer.value("expires_in").as_i64().unwrap()), "{answer}");
    let caller = editor.with_token(answer.str("access_token"));
    office.advance(980);
    caller.get("/v1/me").expect(200);
    office.advance(21);
    caller.get("/v1/me").problem(401, "session_ended");
}

fn an_ended_session_is_not_refreshed(office: &Office) {
    let admin = office.administrator();
    let (left, ended, disabled) = (office.editor(), office.editor(), office.editor());
    left.log_out().expect(204);
    admin.delete(&format!("/v1/users/{}/sessions", ended.id)).expect(204);
    admin.patch(&format!("/v1/users/{}", disabled.id), json!({ "status": "disabled" })).expect(200);
    for person in [&left, &ended, &disabled] {
        person.refresh().problem(401, "session_ended");
    }
    // Being let in again doesn't bring the session back.
    admin.patch(&format!("/v1/users/{}", disabled.id), json!({ "status": "active" })).expect(200);
    disabled.refresh().problem(401, "session_ended");
    disabled.log_in_again().refresh().expect(200);
}

fn a_refresh_changes_nothing_for_an_impersonation(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    let before = acting.get("/v1/me").expect(200).body;
    let refreshed = admin.refresh().expect(200);
    editor.refresh().expect(200);
    office.advance(30);
    refresh(office, refreshed.str("refresh_token")).expect(200);
    let after = acting.get("/v1/me").expect(200).body;
    for member in ["id", "subject", "actor", "impersonation", "expires_at"] {
        assert_eq!(after[member], before[member]);
    }
    // What comes back is what it was started with.
    assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
    admin.get("/v1/me").expect(200);
    admin.with_token(refreshed.str("access_token")).get("/v1/me").expect(200);
}

fn a_refresh_is_no_entry_of_the_history(office: &Office) {
    let editor = office.editor();
    let before = office.db_count("SELECT count(*) FROM entries");
    let first = editor.refresh().expect(200);
    refresh(office, first.str("refresh_token")).expect(200);
    assert_eq!(office.db_count("SELECT count(*) FROM entries"), before);
}

fn tokens_of_one_kind_are_never_taken_for_another(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    let body = json!({ "email": "new@example.org", "display_name": "New", "role": "author" });
    let setup_token = admin.post("/v1/users", body).expect(201).str("setup_token").to_owned();
    for handle in [&editor.refresh_token, &setup_token, &acting.restore_verifier] {
        editor.with_token(handle).get("/v1/me").problem(401, "invalid_token");
        editor.with_token(handle).post_empty("/v1/auth/logout").problem(401, "invalid_token");
    }
    for token in [&editor.access_token, &acting.access_token, &setup_token, &setup_token.replace("_st_", "_rt_")] {
        refresh(office, token).problem(401, "refresh_token_invalid");
    }
    for token in [&editor.access_token, &editor.refresh_token, &editor.refresh_token.replace("_rt_", "_st_")] {
        let body = json!({ "setup_token": token, "new_password": "another password" });
        office.anonymous().post("/v1/auth/password", body).problem(401, "invalid_credentials");
    }
    // None of it did any harm.
    editor.refresh().expect(200);
    acting.get("/v1/me").expect(200);
}

fn what_is_no_refresh_token_is_refused(office: &Office) {
    let editor = office.editor();
    let token = &editor.refresh_token;
    let mut swapped = token.clone().into_bytes();
    let last = swapped.len() - 5;
    swapped[last] = if swapped[last] == b'A' { b'B' } else { b'A' };
    let swapped = String::from_utf8(swapped).unwrap();
    let unprefixed = token.trim_start_matches("actas_rt_");
    for text in [
        "",
        "x",
        "actas_rt_",
        &swapped,
        &format!("{token}="),
        &format!(" {token}"),
        &token.to_uppercase(),
        unprefixed,
        &"x".repeat(100_000),
    ] {
        let answer = refresh(office, text).problem(401, "refresh_token_invalid");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    for (body, status) in [
        (json!({}), 422),
        (json!({ "refresh_token": null }), 422),
        (json!({ "refresh_token": token, "scope": "all" }), 400),
        (Value::Null, 422),
    ] {
        assert_eq!(office.anonymous().post("/v1/auth/refresh", body).status, status);
    }
    editor.refresh().expect(200);
}

fn only_hashes_of_refresh_tokens_are_kept(office: &Office) {
    let editor = office.editor();
    let first = editor.refresh().expect(200);
    let second = refresh(office, first.str("refresh_token")).expect(200);
    let dump = office.db_dump();
    assert!(dump.contains(&editor.email) && dump.contains(&editor.session_id), "the whole database is looked at");
    for token in [editor.refresh_token.as_str(), first.str("refresh_token"), second.str("refresh_token")] {
        assert!(!dump.contains(token.trim_start_matches("actas_rt_")));
    }
    assert_eq!(office.db_count("SELECT count(*) FROM refresh_tokens"), 3);
}

fn a_refresh_token_survives_a_restart(office: &Office) {
    let editor = office.editor();
    let first = editor.refresh().expect(200);
    office.restart();
    assert_eq!(editor.refresh().expect(200).str("refresh_token"), first.str("refresh_token"));
    refresh(office, first.str("refresh_token")).expect(200);
}
