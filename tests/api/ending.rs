//! How sessions and impersonations end, and who gets what back.

use serde_json::{Value, json};

use crate::harness::{Acting, Caller, Office, Person, Setup};

api_tests! {
    logging_out_gives_the_original_token_back_byte_for_byte_and_once,
    a_logout_is_recorded_with_both_identities,
    only_the_right_proof_brings_the_original_back,
    without_a_challenge_no_proof_is_needed,
    what_ended_by_itself_still_gives_the_original_back_once,
    an_unused_impersonation_ends_and_a_used_one_goes_on,
    without_an_idle_limit_an_unused_impersonation_goes_on,
    the_original_comes_back_only_until_its_own_expiry,
    an_end_by_a_person_closes_the_way_back,
    a_person_may_end_what_ended_by_itself_for_good,
    a_disabled_actor_gets_nothing_back,
    the_end_of_the_original_session_ends_its_impersonations_for_good,
    a_changed_password_ends_impersonations_of_and_by_its_user_for_good,
    a_new_setup_token_ends_impersonations_of_its_user,
    ending_an_impersonation_spares_every_other_session,
    logging_out_of_one_own_session_spares_the_impersonations_of_another,
    the_subjects_own_logout_yields_nothing_of_the_administrators,
    two_administrators_acting_as_one_user_get_their_own_back,
    several_tabs_of_one_session_each_come_back,
    the_ceiling_holds_while_an_impersonation_runs,
    an_expired_impersonation_ended_when_its_time_was_over,
    ending_twice_changes_nothing,
    nothing_blocks_an_end,
    what_ended_stays_dead_after_a_restart_on_every_endpoint,
    the_original_comes_back_after_a_restart,
    every_cause_of_an_end_is_found_at_the_next_request_and_recorded,
    [postgres] every_cause_of_an_end_is_found_at_the_next_request_to_another_instance,
    what_changed_past_actas_is_found_at_the_next_request_too,
}

/// Every call that needs a caller, with ids that name nothing.
pub const CALLS: [(&str, &str); 31] = [
    ("GET", "/v1/me"),
    ("GET", "/v1/me/sessions"),
    ("DELETE", "/v1/me/sessions/019aa0f0-0000-7000-8000-000000000001"),
    ("GET", "/v1/me/impersonations"),
    ("PUT", "/v1/me/password"),
    ("POST", "/v1/users/019aa0f0-0000-7000-8000-000000000001/impersonate"),
    ("GET", "/v1/impersonations"),
    ("GET", "/v1/impersonations/019aa0f0-0000-7000-8000-000000000001"),
    ("DELETE", "/v1/impersonations/019aa0f0-0000-7000-8000-000000000001"),
    ("POST", "/v1/impersonations/019aa0f0-0000-7000-8000-000000000001/undo"),
    ("GET", "/v1/policy"),
    ("PATCH", "/v1/policy"),
    ("POST", "/v1/policy/freeze"),
    ("DELETE", "/v1/policy/freeze"),
    ("GET", "/v1/me/explain"),
    ("GET", "/v1/users/019aa0f0-0000-7000-8000-000000000001/explain"),
    ("GET", "/v1/users"),
    ("POST", "/v1/users"),
    ("GET", "/v1/users/019aa0f0-0000-7000-8000-000000000001"),
    ("PATCH", "/v1/users/019aa0f0-0000-7000-8000-000000000001"),
    ("POST", "/v1/users/019aa0f0-0000-7000-8000-000000000001/setup-token"),
    ("DELETE", "/v1/users/019aa0f0-0000-7000-8000-000000000001/sessions"),
    ("GET", "/v1/articles"),
    ("POST", "/v1/articles"),
    ("GET", "/v1/articles/019aa0f0-0000-7000-8000-000000000001"),
    ("PATCH", "/v1/articles/019aa0f0-0000-7000-8000-000000000001"),
    ("DELETE", "/v1/articles/019aa0f0-0000-7000-8000-000000000001"),
    ("POST", "/v1/articles/019aa0f0-0000-7000-8000-000000000001/actions"),
    ("GET", "/v1/articles/019aa0f0-0000-7000-8000-000000000001/history"),
    ("GET", "/v1/history"),
    ("POST", "/v1/auth/logout"),
];

/// Demands that the impersonation is over, for this cause and for whatever it tries.
#[track_caller]
fn is_over(acting: &Acting, cause: &str) {
    let answer = acting.get("/v1/me").problem(401, "impersonation_ended");
    assert_eq!(answer.str("cause"), cause);
    assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer error="invalid_token""#));
    let draft = json!({ "title": "Late", "abstract": "", "body": "" });
    assert_eq!(acting.post("/v1/articles", draft).problem(401, "impersonation_ended").str("cause"), cause);
}

/// Demands that logging out gives nothing back, because the impersonation ended for this cause.
#[track_caller]
fn gives_nothing_back(acting: &Acting, cause: &str) {
    let answer = acting.log_out().problem(401, "impersonation_ended");
    assert_eq!(answer.str("cause"), cause);
}

/// The one entry that says that this impersonation ended.
fn entry_of_end(reader: &Caller, acting: &Acting) -> Value {
    let mut entries = reader.all_items(&format!("/v1/history?action=impersonation.ended&resource_id={}", acting.id));
    assert_eq!(entries.len(), 1, "{entries:#?}");
    entries.remove(0)
}

fn set(admin: &Caller, user: &Person, change: Value) {
    admin.patch(&format!("/v1/users/{}", user.id), change).expect(200);
}

fn logging_out_gives_the_original_token_back_byte_for_byte_and_once(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    let restored = acting.log_out().expect(200);
    assert_eq!(restored.str("access_token"), admin.access_token);
    assert_eq!((restored.str("token_type"), restored.str("session/id")), ("Bearer", admin.session_id.as_str()));
    assert_eq!((restored.value("session/kind"), restored.value("session/subject")), (&json!("own"), &admin.user_ref()));
    assert_eq!((restored.value("session/actor"), restored.value("session/impersonation")), (&Value::Null, &Value::Null));
    assert_eq!((restored.body.get("refresh_token"), restored.body.get("refresh_expires_at")), (None, None), "{restored}");
    assert_eq!(restored.value("session/expires_at"), admin.get("/v1/me").expect(200).value("expires_at"));

    gives_nothing_back(&acting, "logout");
    is_over(&acting, "logout");
}

fn a_logout_is_recorded_with_both_identities(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    acting.log_out().expect(200);
    let entry = entry_of_end(&admin, &acting);
    assert_eq!((&entry["subject"], &entry["actor"]), (&editor.user_ref(), &admin.user_ref()));
    assert_eq!(entry["impersonation_id"], acting.id);
    assert_eq!(entry["note"], format!("{} acting as {}", admin.display_name, editor.display_name));
    assert_eq!((&entry["changes"]["cause"]["to"], &entry["origin"]), (&json!("logout"), &json!("api")));
    let listed = admin.get(&format!("/v1/impersonations/{}", acting.id)).expect(200);
    assert_eq!((listed.str("status"), listed.str("cause"), listed.value("ended_by")), ("ended", "logout", &admin.user_ref()));
}

fn only_the_right_proof_brings_the_original_back(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let other = office.impersonate(&admin, &editor);
    let challenged = || office.impersonate(&admin, &editor);
    let unchallenged = || office.impersonate_with(&admin, &editor, json!({ "restore_challenge": null }));
    for (what, acting, body) in [
        ("wrong", challenged(), json!({ "restore_verifier": "not-the-verifier-of-this-test-but-as-long-as-one" })),
        ("another's", challenged(), json!({ "restore_verifier": other.restore_verifier })),
        ("empty", challenged(), json!({ "restore_verifier": "" })),
        ("null", challenged(), json!({ "restore_verifier": null })),
        ("missing", challenged(), json!({})),
        ("unasked for", unchallenged(), json!({ "restore_verifier": other.restore_verifier })),
    ] {
        let answer = acting.post("/v1/auth/logout", body);
        assert!(!answer.text.contains(&admin.access_token), "{what}");
        answer.problem(401, "restore_proof_required");
        is_over(&acting, "logout");
        gives_nothing_back(&acting, "logout");
    }
    let acting = challenged();
    acting.post_empty("/v1/auth/logout").problem(401, "restore_proof_required");
    gives_nothing_back(&acting, "logout");

    // The way back is then the refresh token.
    let refreshed = admin.refresh().expect(200);
    assert_eq!(refreshed.str("session/id"), admin.session_id);
    assert_eq!(other.log_out().expect(200).str("access_token"), admin.access_token, "the other one is untouched");
}

fn without_a_challenge_no_proof_is_needed(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    for body in [None, Some(json!({})), Some(json!({ "restore_verifier": null }))] {
        let acting = office.impersonate_with(&admin, &editor, json!({ "restore_challenge": null }));
        let answer = match body {
            None => acting.post_empty("/v1/auth/logout"),
            Some(body) => acting.post("/v1/auth/logout", body),
        };
        assert_eq!(answer.expect(200).str("access_token"), admin.access_token);
    }
}

fn what_ended_by_itself_still_gives_the_original_back_once(setup: Setup) {
    let office = setup.with("IMPERSONATION_IDLE_SECONDS", 300).open();
    let chief = office.administrator();
    // Asked before logging out or not: either way the first to come finds it over.
    for is_asked_first in [true, false] {
        for (cause, end) in [
            ("expired", Box::new(|_: &Person, _: &Person| office.advance(61)) as Box<dyn Fn(&Person, &Person)>),
            ("idle", Box::new(|_: &Person, _: &Person| office.advance(301))),
            ("subject_changed", Box::new(|_: &Person, editor: &Person| set(&chief, editor, json!({ "role": "support" })))),
            ("subject_changed", Box::new(|_: &Person, editor: &Person| set(&chief, editor, json!({ "status": "disabled" })))),
            ("actor_demoted", Box::new(|admin: &Person, _: &Person| set(&chief, admin, json!({ "role": "author" })))),
        ] {
            let (admin, editor) = (office.administrator(), office.editor());
            let duration = if cause == "expired" { 60 } else { 1800 };
            let acting = office.impersonate_with(&admin, &editor, json!({ "duration_seconds": duration }));
            end(&admin, &editor);
            if is_asked_first {
                is_over(&acting, cause);
            }
            let restored = acting.log_out().expect(200);
            assert_eq!(restored.str("access_token"), admin.access_token, "{cause}");
            admin.get("/v1/me").expect(200);
            gives_nothing_back(&acting, cause);
            is_over(&acting, cause);
            let chief = chief.log_in_again();
            assert_eq!(entry_of_end(&chief, &acting)["changes"]["cause"]["to"], cause);
        }
    }
}

fn an_unused_impersonation_ends_and_a_used_one_goes_on(setup: Setup) {
    let office = setup.with("IMPERSONATION_IDLE_SECONDS", 100).open();
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    for _ in 0..5 {
        office.advance(80);
        acting.get("/v1/me").expect(200);
    }
    office.advance(101);
    is_over(&acting, "idle");
    // An own session has no such limit.
    admin.get("/v1/me").expect(200);
    let entry = entry_of_end(&admin, &acting);
    assert_eq!((&entry["subject"], &entry["actor"]), (&editor.user_ref(), &admin.user_ref()));
}

fn without_an_idle_limit_an_unused_impersonation_goes_on(setup: Setup) {
    let office = setup.with("IMPERSONATION_IDLE_SECONDS", 0).open();
    let acting = office.impersonate(&office.administrator(), &office.editor());
    office.advance(1790);
    acting.get("/v1/me").expect(200);
}

fn the_original_comes_back_only_until_its_own_expiry(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let start = || office.impersonate_with(&admin, &editor, json!({ "duration_seconds": 60 }));
    let (early, late) = (start(), start());
    office.advance(3590);
    let restored = early.log_out().expect(200);
    assert_eq!(restored.str("access_token"), admin.access_token);
    assert!((0..=10).contains(&restored.value("expires_in").as_i64().unwrap()), "{restored}");
    office.advance(11);
    gives_nothing_back(&late, "expired");
    admin.get("/v1/me").problem(401, "token_expired");
    // The session goes on: what is over is that token.
    admin.refresh().expect(200);
}

fn an_end_by_a_person_closes_the_way_back(office: &Office) {
    let (admin, chief, editor) = (office.administrator(), office.administrator(), office.editor());
    for person in [&admin, &chief, &editor] {
        let acting = office.impersonate(&admin, &editor);
        person.delete(&format!("/v1/impersonations/{}", acting.id)).expect(204);
        is_over(&acting, "ended_by_person");
        gives_nothing_back(&acting, "ended_by_person");
        let listed = admin.get(&format!("/v1/impersonations/{}", acting.id)).expect(200);
        assert_eq!((listed.str("cause"), listed.value("ended_by")), ("ended_by_person", &person.user_ref()));
        let entry = entry_of_end(&admin, &acting);
        assert_eq!((&entry["subject"], &entry["actor"]), (&person.user_ref(), &Value::Null));
        // The administrator's own session is none the worse for it.
        admin.get("/v1/me").expect(200);
    }
}

fn a_person_may_end_what_ended_by_itself_for_good(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    for is_noticed_first in [true, false] {
        let acting = office.impersonate_with(&admin, &editor, json!({ "duration_seconds": 60 }));
        office.advance(61);
        if is_noticed_first {
            is_over(&acting, "expired");
        }
        editor.delete(&format!("/v1/impersonations/{}", acting.id)).expect(204);
        gives_nothing_back(&acting, "expired");
        assert_eq!(entry_of_end(&admin, &acting)["changes"]["cause"]["to"], "expired");
    }
}

fn a_disabled_actor_gets_nothing_back(office: &Office) {
    let (chief, editor) = (office.administrator(), office.editor());
    for is_asked_first in [true, false] {
        let admin = office.administrator();
        let acting = office.impersonate(&admin, &editor);
        set(&chief, &admin, json!({ "status": "disabled" }));
        if is_asked_first {
            is_over(&acting, "actor_disabled");
        }
        acting.log_out().problem(401, "original_session_ended");
        // Being let in again opens nothing that was closed.
        set(&chief, &admin, json!({ "status": "active" }));
        acting.log_out().problem(401, "original_session_ended");
        is_over(&acting, "actor_disabled");
        admin.get("/v1/me").problem(401, "session_ended");
    }
}

fn the_end_of_the_original_session_ends_its_impersonations_for_good(office: &Office) {
    let (chief, editor) = (office.administrator(), office.editor());
    type End<'a> = Box<dyn Fn(&Person) + 'a>;
    let ends: [End<'_>; 4] = [
        Box::new(|admin| drop(admin.log_out().expect(204))),
        Box::new(|admin| drop(admin.log_in_again().delete(&format!("/v1/me/sessions/{}", admin.session_id)).expect(204))),
        Box::new(|admin| drop(chief.delete(&format!("/v1/users/{}/sessions", admin.id)).expect(204))),
        Box::new(|admin| {
            admin.refresh().expect(200);
            office.advance(11);
            admin.refresh().problem(401, "refresh_token_reused");
        }),
    ];
    for end in ends {
        let admin = office.administrator();
        let (acting, expired) =
            (office.impersonate(&admin, &editor), office.impersonate_with(&admin, &editor, json!({ "duration_seconds": 1 })));
        office.advance(2);
        is_over(&expired, "expired");
        end(&admin);
        is_over(&acting, "original_session_ended");
        acting.log_out().problem(401, "original_session_ended");
        expired.log_out().problem(401, "original_session_ended");
        admin.get("/v1/me").problem(401, "session_ended");
        assert_eq!(entry_of_end(&chief, &acting)["changes"]["cause"]["to"], "original_session_ended");
    }
}

fn a_changed_password_ends_impersonations_of_and_by_its_user_for_good(office: &Office) {
    let bystander = office.impersonate(&office.administrator(), &office.editor());
    for is_the_actors in [true, false] {
        let (admin, editor) = (office.administrator(), office.editor());
        let acting = office.impersonate(&admin, &editor);
        let who = if is_the_actors { &admin } else { &editor };
        let body = json!({ "current_password": who.password, "new_password": "another correct horse" });
        who.put("/v1/me/password", body).expect(204);
        is_over(&acting, "password_changed");
        gives_nothing_back(&acting, "password_changed");
        // The session that did it is spared, and so is the other one's.
        admin.get("/v1/me").expect(200);
        editor.get("/v1/me").expect(200);
    }
    bystander.get("/v1/me").expect(200);
}

fn a_new_setup_token_ends_impersonations_of_its_user(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    admin.post_empty(&format!("/v1/users/{}/setup-token", editor.id)).expect(201);
    is_over(&acting, "password_changed");
    gives_nothing_back(&acting, "password_changed");
}

fn ending_an_impersonation_spares_every_other_session(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let (phone, desk) = (admin.log_in_again(), editor.log_in_again());
    let (first, second) = (office.impersonate(&admin, &editor), office.impersonate(&admin, &editor));
    first.log_out().expect(200);
    editor.delete(&format!("/v1/impersonations/{}", office.impersonate(&admin, &editor).id)).expect(204);
    for caller in [&admin, &phone, &editor, &desk] {
        caller.get("/v1/me").expect(200);
        caller.refresh().expect(200);
    }
    second.get("/v1/me").expect(200);
}

fn logging_out_of_one_own_session_spares_the_impersonations_of_another(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let phone = admin.log_in_again();
    let (from_desk, from_phone) = (office.impersonate(&admin, &editor), office.impersonate(&phone, &editor));
    assert_eq!(admin.log_out().expect(204).text, "");
    is_over(&from_desk, "original_session_ended");
    admin.get("/v1/me").problem(401, "session_ended");
    admin.refresh().problem(401, "session_ended");
    assert_eq!(from_phone.log_out().expect(200).str("access_token"), phone.access_token);
}

fn the_subjects_own_logout_yields_nothing_of_the_administrators(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    let answer = editor.post("/v1/auth/logout", json!({ "restore_verifier": acting.restore_verifier })).expect(204);
    assert_eq!(answer.text, "");
    editor.get("/v1/me").problem(401, "session_ended");
    acting.get("/v1/me").expect(200);
    assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
}

fn two_administrators_acting_as_one_user_get_their_own_back(office: &Office) {
    let (ada, sue, editor) = (office.administrator(), office.support(), office.editor());
    let (of_ada, of_sue) = (office.impersonate(&ada, &editor), office.impersonate(&sue, &editor));
    assert_eq!(of_ada.get("/v1/me").expect(200).value("actor"), &ada.user_ref());
    assert_eq!(of_sue.get("/v1/me").expect(200).value("actor"), &sue.user_ref());
    assert_eq!(of_sue.log_out().expect(200).str("access_token"), sue.access_token);
    of_ada.get("/v1/me").expect(200);
    assert_eq!(of_ada.log_out().expect(200).str("access_token"), ada.access_token);
}

fn several_tabs_of_one_session_each_come_back(office: &Office) {
    let (admin, editor, author) = (office.administrator(), office.editor(), office.author());
    let tabs = [&editor, &editor, &author].map(|subject| office.impersonate(&admin, subject));
    for (number, tab) in tabs.iter().enumerate() {
        assert_eq!(tab.log_out().expect(200).str("access_token"), admin.access_token);
        for later in &tabs[number + 1..] {
            later.get("/v1/me").expect(200);
        }
    }
    admin.get("/v1/me").expect(200);
}

fn the_ceiling_holds_while_an_impersonation_runs(office: &Office) {
    let chief = office.administrator();
    for (changes_the_actor, change, cause) in [
        (false, json!({ "role": "support" }), "subject_changed"),
        (false, json!({ "role": "administrator" }), "subject_changed"),
        (false, json!({ "status": "disabled" }), "subject_changed"),
        (true, json!({ "role": "author" }), "actor_demoted"),
        (true, json!({ "role": "editor" }), "actor_demoted"),
        (true, json!({ "status": "disabled" }), "actor_disabled"),
    ] {
        let (support, editor) = (office.support(), office.editor());
        let acting = office.impersonate(&support, &editor);
        set(&chief, if changes_the_actor { &support } else { &editor }, change);
        is_over(&acting, cause);
        let entry = entry_of_end(&chief, &acting);
        assert_eq!((&entry["changes"]["cause"]["to"], &entry["subject"]), (&json!(cause), &chief.user_ref()));
        let listed = chief.get(&format!("/v1/impersonations/{}", acting.id)).expect(200);
        assert_eq!((listed.str("status"), listed.str("cause"), listed.value("ended_by")), ("ended", cause, &Value::Null));
    }

    // What keeps within the ceiling ends nothing.
    let (support, editor) = (office.support(), office.editor());
    let acting = office.impersonate(&support, &editor);
    set(&chief, &editor, json!({ "role": "author", "display_name": "Ed Author" }));
    set(&chief, &support, json!({ "role": "administrator", "display_name": "Sue Admin" }));
    let me = acting.get("/v1/me").expect(200);
    assert_eq!((me.str("subject/display_name"), me.str("actor/display_name")), ("Ed Author", "Sue Admin"));
    assert_eq!(me.value("permissions"), &json!(["articles:create"]), "the rights are the subject's as they are now");
}

fn an_expired_impersonation_ended_when_its_time_was_over(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate_with(&admin, &editor, json!({ "duration_seconds": 60 }));
    office.advance(200);
    for is_noticed in [false, true] {
        if is_noticed {
            is_over(&acting, "expired");
        }
        let listed = admin.get(&format!("/v1/impersonations/{}", acting.id)).expect(200);
        assert_eq!((listed.str("status"), listed.str("cause"), listed.value("ended_by")), ("ended", "expired", &Value::Null));
        assert_eq!(listed.value("ended_at"), listed.value("expires_at"));
    }
    entry_of_end(&admin, &acting);
}

fn ending_twice_changes_nothing(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    let path = format!("/v1/impersonations/{}", acting.id);
    editor.delete(&path).expect(204);
    let before = admin.get(&path).expect(200).body;
    office.advance(5);
    admin.delete(&path).expect(204);
    gives_nothing_back(&acting, "ended_by_person");
    assert_eq!(admin.get(&path).expect(200).body, before);
    entry_of_end(&admin, &acting);
}

fn nothing_blocks_an_end(setup: Setup) {
    let office = setup.with("LOGIN_FAILURES_PER_MINUTE", 1).open();
    let (admin, editor) = (office.administrator(), office.editor());
    let read_only = office.impersonate_with(&admin, &editor, json!({ "mode": "read_only" }));
    let (of_disabled, of_limited) = (office.impersonate(&admin, &editor), office.impersonate(&admin, &office.author()));
    assert_eq!(read_only.log_out().expect(200).str("access_token"), admin.access_token);

    set(&admin, &editor, json!({ "status": "disabled" }));
    assert_eq!(of_disabled.log_out().expect(200).str("access_token"), admin.access_token);

    let wrong = || office.anonymous().post("/v1/auth/login", json!({ "email": admin.email, "password": "wrong" }));
    wrong().problem(401, "invalid_credentials");
    wrong().problem(429, "too_many_attempts");
    assert_eq!(of_limited.log_out().expect(200).str("access_token"), admin.access_token);
    admin.log_out().expect(204);
}

fn what_ended_stays_dead_after_a_restart_on_every_endpoint(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let (left, ended, own) = (office.impersonate(&admin, &editor), office.impersonate(&admin, &editor), editor.log_in_again());
    left.log_out().expect(200);
    editor.delete(&format!("/v1/impersonations/{}", ended.id)).expect(204);
    own.log_out().expect(204);
    for restarted in [false, true] {
        if restarted {
            office.restart();
        }
        for (method, path) in CALLS {
            for (acting, cause) in [(&left, "logout"), (&ended, "ended_by_person")] {
                let answer = acting.request(method, path).send().problem(401, "impersonation_ended");
                assert_eq!(answer.str("cause"), cause, "{answer}");
            }
            own.request(method, path).send().problem(401, "session_ended");
        }
        own.refresh().problem(401, "session_ended");
    }
}

fn the_original_comes_back_after_a_restart(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    office.restart();
    assert_eq!(acting.get("/v1/me").expect(200).value("actor"), &admin.user_ref());
    assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
    admin.get("/v1/me").expect(200);
    admin.refresh().expect(200);
}

/// Makes one impersonation of `subject` end for `cause`, at `office`, without a request of its own.
fn bring_about(office: &Office, cause: &str, admin: &Person, actor: &Person, subject: &Person, acting: &Acting) {
    let user = |who: &Person, change: Value| drop(admin.at(office).patch(&format!("/v1/users/{}", who.id), change).expect(200));
    match cause {
        "expired" => office.advance(60),
        "idle" => office.advance(30),
        "actor_demoted" => user(actor, json!({ "role": "editor" })),
        "actor_disabled" => user(actor, json!({ "status": "disabled" })),
        "promoted" => user(subject, json!({ "role": "support" })),
        "disabled" => user(subject, json!({ "status": "disabled" })),
        "protected" => drop(admin.at(office).patch("/v1/policy", json!({ "protected_roles": ["editor"] })).expect(200)),
        "frozen" => drop(admin.at(office).post("/v1/policy/freeze", json!({ "reason": "an incident" })).expect(200)),
        "original_session_ended" => drop(actor.at(office).post_empty("/v1/auth/logout").expect(204)),
        "ended_by_person" => drop(admin.at(office).delete(&format!("/v1/impersonations/{}", acting.id)).expect(204)),
        other => panic!("{other}"),
    }
}

/// Each cause in turn: brought about at `here`, and found with a request to `there`.
fn causes_are_found(here: &Office, there: &Office) {
    let admin = here.administrator();
    for (what, cause) in [
        ("expired", "expired"),
        ("idle", "idle"),
        ("actor_demoted", "actor_demoted"),
        ("actor_disabled", "actor_disabled"),
        ("promoted", "subject_changed"),
        ("disabled", "subject_changed"),
        ("original_session_ended", "original_session_ended"),
        ("ended_by_person", "ended_by_person"),
        ("protected", "subject_changed"),
        ("frozen", "frozen"),
    ] {
        let (actor, subject) = (here.administrator(), here.editor());
        // The protected roles of one turn are none in the next.
        admin.patch("/v1/policy", json!({ "protected_roles": [], "idle_seconds": 30 })).expect(200);
        let acting = here.impersonate_with(&actor, &subject, json!({ "duration_seconds": if what == "expired" { 20 } else { 60 } }));
        acting.at(there).get("/v1/me").expect(200);
        bring_about(here, what, &admin, &actor, &subject, &acting);
        let path = "/v1/articles";
        for answer in [acting.at(there).get("/v1/me"), acting.at(there).post(path, json!({ "title": "a", "abstract": "", "body": "" }))] {
            assert_eq!(answer.problem(401, "impersonation_ended").str("cause"), cause, "{what}");
        }
        let ended = admin.all_items(&format!("/v1/history?resource_id={}&action=impersonation.ended", acting.id));
        assert_eq!(ended.len(), 1, "{what}: recorded, and once");
        assert_eq!(ended[0]["changes"]["cause"]["to"], cause, "{what}");
        let listed = admin.get(&format!("/v1/impersonations/{}", acting.id)).expect(200);
        assert_eq!((listed.str("status"), listed.str("cause")), ("ended", cause), "{what}");
    }
}

fn every_cause_of_an_end_is_found_at_the_next_request_and_recorded(office: &Office) {
    causes_are_found(office, office);
}

fn every_cause_of_an_end_is_found_at_the_next_request_to_another_instance(office: &Office) {
    causes_are_found(office, &office.second_instance().unwrap());
}

/// Changes a user's row past Actas, with the entry that the database demands; nothing ends by that.
fn change_by_hand(office: &Office, user: &Person, set: &str) {
    static MADE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let version = office.db_count(&format!("SELECT version FROM users WHERE id = '{}'", user.id)) + 1;
    let entry = format!(
        "INSERT INTO entries (id, occurred_at, origin, action, resource_type, resource_id, resource_version, note, changes) VALUES \
         ('019aa0f0-0000-7000-8000-0000000{number:05}', '2026-11-23 10:00:00', 'cli', 'user.updated', 'user', '{}', {version}, 'by hand', '{{}}')",
        user.id
    );
    office.db_script(&format!("BEGIN; {entry}; UPDATE users SET {set}, version = {version} WHERE id = '{}'; COMMIT", user.id)).unwrap();
}

fn what_changed_past_actas_is_found_at_the_next_request_too(office: &Office) {
    // So that it is the request that finds it, and not the change that told.
    for (of_actor, set, cause) in [
        (true, "role = 'editor'", "actor_demoted"),
        (true, "status = 'disabled'", "actor_disabled"),
        (false, "role = 'support'", "subject_changed"),
        (false, "role = 'administrator'", "subject_changed"),
        (false, "status = 'disabled'", "subject_changed"),
    ] {
        let (actor, subject) = (office.administrator(), office.editor());
        let (reading, writing) = (office.impersonate(&actor, &subject), office.impersonate(&actor, &subject));
        change_by_hand(office, if of_actor { &actor } else { &subject }, set);
        let article = json!({ "title": "a", "abstract": "", "body": "" });
        for (acting, answer) in [(&reading, reading.get("/v1/me")), (&writing, writing.post("/v1/articles", article))] {
            assert_eq!(answer.problem(401, "impersonation_ended").str("cause"), cause, "{set}");
            let ended = format!("SELECT count(*) FROM entries WHERE action = 'impersonation.ended' AND resource_id = '{}'", acting.id);
            assert_eq!(office.db_count(&ended), 1, "{set}");
        }
    }
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    let entry = "INSERT INTO entries (id, occurred_at, origin, action, resource_type, resource_id, note, changes) VALUES \
                 ('019aa0f0-0000-7000-8000-00000000fffe', '2026-11-23 10:00:00', 'cli', 'policy.frozen', 'policy', 'policy', 'by hand', '{}')";
    let freeze = "UPDATE policies SET frozen_at = '2026-11-23 10:00:00', freeze_reason = 'x', version = version + 1, \
                  entry_id = '019aa0f0-0000-7000-8000-00000000fffe'";
    office.db_script(&format!("BEGIN; {entry}; {freeze}; COMMIT")).unwrap();
    assert_eq!(acting.get("/v1/me").problem(401, "impersonation_ended").str("cause"), "frozen");
}
