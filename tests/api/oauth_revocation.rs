//! Revoking a token (RFC 7009): what it stands for ends, and nothing is given back.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::{BILLING, Caller, Client, Forger, Office, at_once, claims_of};
use crate::oauth_exchange::narrowed;

api_tests! {
    revoking_an_impersonation_ends_it_and_restores_nothing,
    revoking_closes_the_way_back_of_what_ended_by_itself,
    revoking_an_own_sessions_token_ends_the_session,
    a_refresh_token_is_revoked_with_its_session,
    a_client_revokes_its_own_token,
    revoking_a_narrower_token_spares_what_it_was_made_from,
    a_client_revokes_what_was_given_to_it_and_nothing_else,
    what_is_unknown_or_over_is_revoked_already,
    a_forged_token_revokes_nothing,
    an_expired_token_of_a_live_session_revokes_nothing,
    a_hint_is_of_no_consequence,
    every_wrong_request_is_refused,
    of_fifty_parallel_revocations_one_ends_it,
    of_parallel_revocations_and_logouts_at_most_one_gives_something_back,
    nothing_commits_after_a_revocation_has_answered,
    what_was_revoked_is_dead_after_a_restart_on_every_endpoint,
    nothing_blocks_a_revocation,
    [postgres] what_is_revoked_on_one_instance_is_dead_on_the_other,
}

fn draft() -> Value {
    json!({ "title": "On tides", "abstract": "", "body": "" })
}

fn bearer(office: &Office, token: &str) -> Caller {
    office.anonymous().with_token(token)
}

fn ends_of(reader: &Caller, action: &str, id: &str) -> Vec<Value> {
    reader.all_items(&format!("/v1/history?action={action}&resource_id={id}"))
}

fn sid(token: &str) -> String {
    claims_of(token)["sid"].as_str().unwrap().to_owned()
}

/// Demands the answer of RFC 7009 §2.2, which is the same for everything that is over now.
#[track_caller]
fn is_revoked(client: &Client, token: &str) {
    let answer = client.revoke(token).expect(200);
    assert_eq!(answer.text, "", "{answer}");
    assert_eq!((answer.header("cache-control"), answer.header("pragma")), (Some("no-store"), Some("no-cache")), "{answer}");
}

fn revoking_an_impersonation_ends_it_and_restores_nothing(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let first_party = office.first_party();
    for (acting, revoker) in [(office.impersonate(&admin, &editor), &first_party), (client.impersonate(&admin, &editor, &[]), &client)] {
        is_revoked(revoker, &acting.access_token);
        assert_eq!(acting.get("/v1/me").problem(401, "impersonation_ended").str("cause"), "revoked");
        acting.post("/v1/articles", draft()).problem(401, "impersonation_ended");
        assert_eq!(acting.log_out().problem(401, "impersonation_ended").str("cause"), "revoked");
        client.finds_inactive(&acting.access_token);
        assert_eq!(office.db_count(&format!("SELECT count(*) FROM ways_back WHERE impersonation_id = '{}'", acting.id)), 0);
        let found = ends_of(&admin, "impersonation.ended", &acting.id);
        assert_eq!((found.len(), &found[0]["changes"]["cause"]["to"]), (1, &json!("revoked")));
        assert_eq!((&found[0]["subject"], &found[0]["actor"]), (&editor.user_ref(), &admin.user_ref()));
        let listed = admin.get(&format!("/v1/impersonations/{}", acting.id)).expect(200);
        assert_eq!((listed.str("cause"), listed.value("ended_by")), ("revoked", &admin.user_ref()));
        // Neither person's own session is the worse for it.
        admin.get("/v1/me").expect(200);
        editor.get("/v1/me").expect(200);
    }
}

fn revoking_closes_the_way_back_of_what_ended_by_itself(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.first_party();
    for is_noticed_first in [true, false] {
        let acting = office.impersonate_with(&admin, &editor, json!({ "duration_seconds": 60 }));
        office.advance(61);
        if is_noticed_first {
            acting.get("/v1/me").problem(401, "impersonation_ended");
        }
        is_revoked(&client, &acting.access_token);
        assert_eq!(acting.log_out().problem(401, "impersonation_ended").str("cause"), "expired");
        assert_eq!(ends_of(&admin, "impersonation.ended", &acting.id).len(), 1);
    }
}

fn revoking_an_own_sessions_token_ends_the_session(office: &Office) {
    let (chief, admin, editor) = (office.administrator(), office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let phone = admin.log_in_again();
    let acting = office.impersonate(&admin, &editor);
    let narrower = narrowed(&client, &admin.access_token, &[]);
    is_revoked(&office.first_party(), &admin.access_token);
    admin.get("/v1/me").problem(401, "session_ended");
    admin.refresh().problem(401, "session_ended");
    assert_eq!(acting.get("/v1/me").problem(401, "impersonation_ended").str("cause"), "original_session_ended");
    acting.log_out().problem(401, "original_session_ended");
    bearer(office, &narrower).get("/v1/me").problem(401, "session_ended");
    phone.get("/v1/me").expect(200);
    let found = ends_of(&chief, "session.ended", &admin.session_id);
    assert_eq!((found.len(), &found[0]["changes"]["cause"]["to"]), (1, &json!("revoked")));
    assert_eq!((&found[0]["subject"], &found[0]["actor"]), (&admin.user_ref(), &Value::Null));
}

fn a_refresh_token_is_revoked_with_its_session(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.first_party();
    let acting = office.impersonate(&admin, &editor);
    is_revoked(&client, &admin.refresh_token);
    admin.refresh().problem(401, "session_ended");
    admin.get("/v1/me").problem(401, "session_ended");
    acting.get("/v1/me").problem(401, "impersonation_ended");
    is_revoked(&client, &admin.refresh_token);

    // One that was replaced names its session all the same.
    let successor = editor.refresh().expect(200).str("refresh_token").to_owned();
    is_revoked(&client, &editor.refresh_token);
    let body = json!({ "refresh_token": successor });
    office.anonymous().post("/v1/auth/refresh", body).problem(401, "session_ended");
    let chief = office.administrator();
    let found = ends_of(&chief, "session.ended", &editor.session_id);
    assert_eq!((found.len(), &found[0]["subject"]), (1, &editor.user_ref()));
}

fn a_client_revokes_its_own_token(office: &Office) {
    let client = office.client(json!({}));
    let [one, other] = [(), ()].map(|()| client.credentials(&[]).expect(200).str("access_token").to_owned());
    is_revoked(&client, &one);
    bearer(office, &one).get("/v1/users").problem(401, "session_ended");
    client.finds_inactive(&one);
    bearer(office, &other).get("/v1/users").expect(200);
    is_revoked(&client, &one);
    assert_eq!(office.db_count("SELECT count(*) FROM entries WHERE action = 'session.ended'"), 1);
}

fn revoking_a_narrower_token_spares_what_it_was_made_from(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let acting = office.impersonate(&admin, &editor);
    for source in [&editor.access_token, &acting.access_token] {
        let (one, sibling) = (narrowed(&client, source, &[]), narrowed(&client, source, &[("audience", BILLING)]));
        let child = narrowed(&client, &one, &[]);
        is_revoked(&client, &one);
        for dead in [&one, &child] {
            bearer(office, dead).get("/v1/me").problem(401, "session_ended");
            client.finds_inactive(dead);
        }
        bearer(office, source).get("/v1/me").expect(200);
        client.finds_active(&sibling);
        is_revoked(&client, &sibling);
        client.finds_inactive(&sibling);
    }
    assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
}

fn a_client_revokes_what_was_given_to_it_and_nothing_else(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let (client, other) = (office.presenter(json!({})), office.presenter(json!({})));
    let first_party = office.first_party();
    office.change_client(&client.id, json!({ "presenters": [other.id] }));
    let (plain, through) = (office.impersonate(&admin, &editor), client.impersonate(&admin, &editor, &[]));
    let narrower = narrowed(&client, &plain.access_token, &[("audience", "actas"), ("audience", BILLING)]);
    let own = client.credentials(&[]).expect(200).str("access_token").to_owned();
    for (stranger, token) in [
        (&client, &plain.access_token),
        (&client, &editor.access_token),
        (&client, &editor.refresh_token),
        (&other, &through.access_token),
        (&other, &narrower),
        (&other, &own),
        (&first_party, &through.access_token),
        (&first_party, &narrower),
        (&first_party, &own),
    ] {
        stranger.revoke(token).oauth(400, "invalid_grant");
    }
    for token in [&plain.access_token, &through.access_token, &narrower, &editor.access_token] {
        bearer(office, token).get("/v1/me").expect(200);
    }
    client.finds_active(&own);
    editor.refresh().expect(200);
    assert_eq!(office.db_count("SELECT count(*) FROM entries WHERE action IN ('session.ended', 'impersonation.ended')"), 0);
}

fn what_is_unknown_or_over_is_revoked_already(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let first_party = office.first_party();
    let acting = office.impersonate(&admin, &editor);
    acting.log_out().expect(200);
    let gone = editor.log_in_again();
    gone.log_out().expect(204);
    let setup = admin.post_empty(&format!("/v1/users/{}/setup-token", office.author().id)).expect(201).str("setup_token").to_owned();
    let ends = || office.db_count("SELECT count(*) FROM entries WHERE action IN ('session.ended', 'impersonation.ended')");
    let before = ends();
    for token in [
        acting.access_token.as_str(),
        &gone.access_token,
        &gone.refresh_token,
        &setup,
        "actas_rt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "nonsense",
        "..",
        " ",
        &"a".repeat(20_000),
    ] {
        is_revoked(&first_party, token);
    }
    let narrower = narrowed(&client, &admin.access_token, &[]);
    is_revoked(&client, &narrower);
    is_revoked(&client, &narrower);
    assert_eq!(ends(), before + 1);
    // A setup token is revoked by another one, and this one still works.
    let body = json!({ "setup_token": setup, "new_password": "a good password" });
    office.anonymous().post("/v1/auth/password", body).expect(204);
}

fn a_forged_token_revokes_nothing(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let first_party = office.first_party();
    let acting = office.impersonate(&admin, &editor);
    let narrower = narrowed(&client, &editor.access_token, &[]);
    let forger = Forger::of(office);
    let set = |token: &str, member: &str, value: Value| forger.with_claims(token, |claims| claims[member] = value);
    for forged in [
        format!("{}x", acting.access_token),
        format!("{}.", acting.access_token.rsplit_once('.').unwrap().0),
        set(&editor.access_token, "sid", json!(admin.session_id)),
        set(&editor.access_token, "sub", json!(admin.id)),
        set(&editor.access_token, "sid", json!(acting.id)),
        set(&acting.access_token, "act", json!({ "sub": editor.id })),
        set(&editor.access_token, "iss", json!("https://example.org")),
        set(&editor.access_token, "sid", json!(sid(&narrower))),
    ] {
        is_revoked(&first_party, &forged);
    }
    for forged in [
        set(&editor.access_token, "client_id", json!(client.id)),
        set(&acting.access_token, "client_id", json!(client.id)),
        set(&narrower, "root_sid", json!(acting.id)),
        set(&narrower, "root_sid", json!(admin.session_id)),
        set(&narrower, "sub", json!(client.id)),
    ] {
        is_revoked(&client, &forged);
    }
    for token in [&admin.access_token, &editor.access_token, &acting.access_token, &narrower] {
        bearer(office, token).get("/v1/me").expect(200);
    }
    assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
}

fn an_expired_token_of_a_live_session_revokes_nothing(office: &Office) {
    let editor = office.editor();
    office.advance(3601);
    is_revoked(&office.first_party(), &editor.access_token);
    editor.refresh().expect(200);
}

fn a_hint_is_of_no_consequence(office: &Office) {
    let client = office.first_party();
    for hint in ["", "access_token", "refresh_token", "nonsense"] {
        let (one, other) = (office.editor(), office.editor());
        for (person, token) in [(&one, &one.access_token), (&other, &other.refresh_token)] {
            client.post("/oauth/revoke", &[("token", token), ("token_type_hint", hint)]).expect(200);
            person.get("/v1/me").problem(401, "session_ended");
        }
    }
}

fn every_wrong_request_is_refused(office: &Office) {
    let editor = office.editor();
    let (client, confidential) = (office.first_party(), office.client(json!({})));
    let token = editor.access_token.as_str();
    for fields in [
        vec![],
        vec![("token", "")],
        vec![("token", token), ("token", token)],
        vec![("token", ""), ("token", token)],
        vec![("token_type_hint", "access_token")],
    ] {
        client.post("/oauth/revoke", &fields).oauth(400, "invalid_request");
    }
    client.bare("/oauth/revoke", &[("token", token)]).send().oauth(401, "invalid_client");
    confidential.with_secret("wrong").revoke(token).oauth(401, "invalid_client");
    office
        .anonymous()
        .with_token(token)
        .request("POST", "/oauth/revoke")
        .body("application/x-www-form-urlencoded", "token=x")
        .send()
        .oauth(401, "invalid_client");
    editor.get("/v1/me").expect(200);
}

fn of_fifty_parallel_revocations_one_ends_it(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let first_party = office.first_party();
    let acting = client.impersonate(&admin, &editor, &[]);
    let narrower = narrowed(&client, &editor.access_token, &[]);
    let own = client.credentials(&[]).expect(200).str("access_token").to_owned();
    for (revoker, token, action) in [
        (&client, &narrower, "session.ended"),
        (&client, &own, "session.ended"),
        (&client, &acting.access_token, "impersonation.ended"),
        (&first_party, &editor.access_token, "session.ended"),
    ] {
        at_once(50, |_| is_revoked(revoker, token));
        assert_eq!(ends_of(&admin, action, &sid(token)).len(), 1, "{action}");
        client.finds_inactive(token);
    }
}

fn of_parallel_revocations_and_logouts_at_most_one_gives_something_back(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    for _ in 0..3 {
        let acting = client.impersonate(&admin, &editor, &[]);
        let answers =
            at_once(12, |number| if number % 2 == 0 { acting.log_out() } else { client.revoke(&acting.access_token).expect(200) });
        let restored: Vec<_> = answers.iter().filter(|answer| answer.status == 200 && !answer.text.is_empty()).collect();
        assert!(restored.len() <= 1 && restored.iter().all(|answer| answer.str("access_token") == admin.access_token));
        let found = ends_of(&admin, "impersonation.ended", &acting.id);
        assert_eq!((found.len(), found[0]["changes"]["cause"]["to"] == "logout"), (1, restored.len() == 1), "{found:?}");
        acting.get("/v1/me").problem(401, "impersonation_ended");
    }
}

fn nothing_commits_after_a_revocation_has_answered(office: &Office) {
    const WRITERS: usize = 4;
    let (admin, client) = (office.administrator(), office.presenter(json!({})));
    for how in ["an impersonation", "a narrower token", "its parent", "an impersonation under a narrower token", "its client"] {
        let editor = office.editor();
        let other = office.presenter(json!({}));
        office.change_client(&client.id, json!({ "presenters": [other.id] }));
        let acting = client.impersonate(&admin, &editor, &[]);
        let parent = narrowed(&other, &acting.access_token, &[]);
        let token = match how {
            "an impersonation" => acting.access_token.clone(),
            "a narrower token" => parent.clone(),
            _ => narrowed(&other, &parent, &[]),
        };
        let writer = bearer(office, &token);
        let path = format!("/v1/articles/{}", writer.post("/v1/articles", draft()).expect(201).str("id"));
        let entries = format!("SELECT count(*) FROM entries WHERE impersonation_id = '{}' AND resource_type = 'article'", acting.id);
        let (written, has_ended) = (AtomicUsize::new(0), AtomicBool::new(false));
        let seen = at_once(WRITERS + 1, |number| {
            if number == WRITERS {
                while written.load(Ordering::SeqCst) < 2 * WRITERS {
                    std::thread::yield_now();
                }
                let ended = match how {
                    "an impersonation" | "an impersonation under a narrower token" => client.revoke(&acting.access_token).status == 200,
                    "a narrower token" | "its parent" => other.revoke(&parent).status == 200,
                    _ => std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| office.disable_client(&other))).is_ok(),
                };
                let committed = office.db_count(&entries);
                has_ended.store(true, Ordering::SeqCst);
                assert!(ended, "{how}");
                return committed;
            }
            for round in 0.. {
                let is_late = has_ended.load(Ordering::SeqCst);
                let answer = match number {
                    0 => writer.post("/v1/articles", draft()),
                    _ => writer.patch(&path, json!({ "title": format!("Edit {round} of {number}") })),
                };
                if !matches!(answer.status, 200 | 201) {
                    assert_eq!(answer.status, 401, "{answer}");
                    break;
                }
                assert!(!is_late, "{how}: a write was accepted after the revocation had answered");
                written.fetch_add(1, Ordering::SeqCst);
            }
            0
        });
        assert_eq!(office.db_count(&entries), seen[WRITERS], "{how}: an entry was committed after the revocation had answered");
    }
}

fn what_was_revoked_is_dead_after_a_restart_on_every_endpoint(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let acting = client.impersonate(&admin, &editor, &[]);
    let own = editor.log_in_again();
    is_revoked(&client, &acting.access_token);
    is_revoked(&office.first_party(), &own.refresh_token);
    for restarted in [false, true] {
        if restarted {
            office.restart();
        }
        for (method, path) in crate::ending::CALLS {
            let answer = acting.request(method, path).send().problem(401, "impersonation_ended");
            assert_eq!(answer.str("cause"), "revoked", "{answer}");
            own.request(method, path).send().problem(401, "session_ended");
        }
        for token in [&acting.access_token, &own.access_token] {
            client.finds_inactive(token);
            client.exchange(token, &[]).oauth(400, "invalid_request");
            client.start(token, &editor.id, &[]).oauth(400, "invalid_request");
        }
        own.refresh().problem(401, "session_ended");
        is_revoked(&client, &acting.access_token);
    }
}

fn nothing_blocks_a_revocation(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({ "grants": ["impersonate"] }));
    let read_only = client.impersonate(&admin, &editor, &[("mode", "read_only")]);
    // A client that lost its grants still gives back what it has.
    office.change_client(&client.id, json!({ "grants": [], "audiences": [], "scope": "" }));
    is_revoked(&client, &read_only.access_token);
    read_only.get("/v1/me").problem(401, "impersonation_ended");
}

fn what_is_revoked_on_one_instance_is_dead_on_the_other(office: &Office) {
    let second = office.second_instance().unwrap();
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    for _ in 0..3 {
        let acting = client.impersonate(&admin, &editor, &[]);
        acting.at(&second).get("/v1/me").expect(200);
        is_revoked(&client, &acting.access_token);
        acting.at(&second).get("/v1/me").problem(401, "impersonation_ended");
        acting.at(&second).post("/v1/articles", draft()).problem(401, "impersonation_ended");
        client.at(&second).finds_inactive(&acting.access_token);
    }
    let acting = client.impersonate(&admin, &editor, &[]);
    let there = client.at(&second);
    at_once(20, |number| is_revoked(if number % 2 == 0 { &client } else { &there }, &acting.access_token));
    assert_eq!(ends_of(&admin, "impersonation.ended", &acting.id).len(), 1);
}
