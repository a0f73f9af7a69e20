//! The policy: its settings, what each of them does at a start and at the next request, what the environment pins, and the freeze.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::articles::{draft, step};
use crate::harness::{Acting, Answer, Backend, Caller, Office, Person, Setup, at_once, restore_challenge};

api_tests! {
    an_office_begins_with_a_policy_that_says_what_the_contract_says,
    a_change_is_a_version_and_an_entry_and_a_change_of_nothing_is_neither,
    a_precondition_guards_the_policy,
    what_can_t_be_is_told_by_its_name_and_changes_nothing,
    a_ticket_pattern_can_t_run_away_and_is_matched_as_a_whole,
    a_start_must_give_the_reason_and_the_ticket_that_the_policy_asks_for,
    durations_are_the_policy_s,
    the_idle_limit_is_the_policy_s,
    the_use_of_an_impersonation_is_written_every_tenth_of_its_idle_limit_and_no_more,
    a_restore_proof_can_be_made_mandatory,
    the_default_mode_is_the_policy_s,
    actors_in_read_only_roles_may_look_and_nothing_else_from_the_next_request_on,
    nobody_acts_as_a_user_in_a_protected_role_and_who_does_is_ended,
    an_actor_has_no_more_impersonations_at_once_than_allowed,
    an_actor_starts_no_more_within_an_hour_than_allowed,
    racing_starts_don_t_pass_the_limits,
    an_operation_that_the_policy_refuses_is_refused_under_impersonation_alone,
    logging_out_can_t_be_refused,
    the_environment_pins_what_it_sets_and_says_so,
    a_pinned_freeze_ends_what_runs_and_can_t_be_lifted,
    a_freeze_ends_all_that_runs_in_one_call_and_lets_nothing_start,
    freezing_twice_and_lifting_twice_change_nothing,
    a_freeze_spares_own_sessions_and_closes_every_way_back,
    a_start_that_races_a_freeze_is_refused_or_ended,
    a_freeze_is_not_held_off_by_those_who_start_and_leave,
    a_freeze_is_not_held_off_by_those_who_are_refused,
    nothing_comes_back_while_the_environment_freezes,
    the_button_is_grey_where_the_policy_says_no,
    a_policy_survives_a_restart,
    the_policy_costs_a_request_no_statement_of_its_own,
    [postgres] a_change_holds_on_every_instance_at_the_next_request,
    [postgres] a_freeze_holds_on_every_instance_at_the_next_request,
    [postgres] instances_with_different_pins_each_keep_to_their_own,
}

/// Changes the policy.
#[track_caller]
pub fn set(admin: &Caller, members: Value) -> Answer {
    admin.patch("/v1/policy", members).expect(200)
}

fn start(actor: &Caller, subject: &Person, members: Value) -> Answer {
    let mut body = json!({ "reason": "the editor cannot act" });
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    actor.post(&format!("/v1/users/{}/impersonate", subject.id), body)
}

fn entries(admin: &Caller, query: &str) -> Vec<Value> {
    admin.all_items(&format!("/v1/history?{query}"))
}

#[track_caller]
fn is_over(acting: &Acting, cause: &str) {
    let answer = acting.get("/v1/me").problem(401, "impersonation_ended");
    assert_eq!(answer.str("cause"), cause, "{answer}");
}

fn an_office_begins_with_a_policy_that_says_what_the_contract_says(office: &Office) {
    let admin = office.administrator();
    let policy = admin.get("/v1/policy").expect(200);
    assert_eq!(policy.header("etag"), Some("\"1\""));
    let mut body = policy.body.clone();
    body.as_object_mut().unwrap().remove("updated_at");
    let expected = json!({
        "reason_required": true, "reason_min_length": 1, "ticket_required": false, "ticket_pattern": null, "default_duration_seconds": 1800,
        "max_duration_seconds": 3600, "idle_seconds": 900, "restore_proof_required": false, "default_mode": "full", "read_only_roles": [],
        "protected_roles": [], "max_live_per_actor": 0, "max_starts_per_hour": 0, "refused_operations": [], "freeze": null, "pinned": [],
        "version": 1
    });
    assert_eq!(body, expected);
    let made = &entries(&admin, "resource_type=policy")[0];
    assert_eq!((&made["action"], &made["origin"], &made["resource"]["id"]), (&json!("policy.created"), &json!("system"), &json!("policy")));
    assert_eq!(made["changes"]["max_duration_seconds"], json!({ "from": null, "to": 3600 }));
}

fn a_change_is_a_version_and_an_entry_and_a_change_of_nothing_is_neither(office: &Office) {
    let admin = office.administrator();
    let change =
        json!({ "max_duration_seconds": 1800, "read_only_roles": ["support", "support"], "refused_operations": ["create_article"] });
    let changed = set(&admin, change.clone());
    assert_eq!((changed.header("etag"), changed.value("read_only_roles")), (Some("\"2\""), &json!(["support"])));
    assert_eq!(admin.get("/v1/policy").expect(200).body, changed.body);
    let again = admin.request("PATCH", "/v1/policy").body("application/merge-patch+json", change.to_string()).send().expect(200);
    assert_eq!((again.header("etag"), &again.body), (Some("\"2\""), &changed.body));
    let told = entries(&admin, "action=policy.updated");
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["subject"]["id"], json!(admin.id));
    let expected = json!({
        "max_duration_seconds": { "from": 3600, "to": 1800 }, "read_only_roles": { "from": [], "to": ["support"] },
        "refused_operations": { "from": [], "to": ["create_article"] }
    });
    assert_eq!(told[0]["changes"], expected);
}

fn a_precondition_guards_the_policy(office: &Office) {
    let admin = office.administrator();
    let change =
        |tag: &str, to: u32| admin.request("PATCH", "/v1/policy").header("If-Match", tag).json(&json!({ "idle_seconds": to })).send();
    change("\"1\"", 60).expect(200);
    change("\"1\"", 61).problem(412, "version_mismatch");
    let freeze =
        |tag: &str| admin.request("POST", "/v1/policy/freeze").header("If-Match", tag).json(&json!({ "reason": "an incident" })).send();
    freeze("\"1\"").problem(412, "version_mismatch");
    freeze("\"2\"").expect(200);
    admin.request("DELETE", "/v1/policy/freeze").header("If-Match", "\"2\"").send().problem(412, "version_mismatch");
    admin.request("DELETE", "/v1/policy/freeze").header("If-Match", "\"3\"").send().expect(200);
}

fn what_can_t_be_is_told_by_its_name_and_changes_nothing(office: &Office) {
    let admin = office.administrator();
    for (change, pointers) in [
        (json!({ "reason_min_length": 0 }), vec!["/reason_min_length"]),
        (json!({ "reason_min_length": 501, "idle_seconds": 86_401 }), vec!["/reason_min_length", "/idle_seconds"]),
        (json!({ "max_duration_seconds": 0 }), vec!["/max_duration_seconds"]),
        (json!({ "max_duration_seconds": 86_401 }), vec!["/max_duration_seconds"]),
        (json!({ "default_duration_seconds": 3601 }), vec!["/default_duration_seconds"]),
        (json!({ "max_duration_seconds": 60, "default_duration_seconds": 61 }), vec!["/default_duration_seconds"]),
        (json!({ "max_live_per_actor": 10_001 }), vec!["/max_live_per_actor"]),
        (json!({ "max_starts_per_hour": -1 }), vec!["/max_starts_per_hour"]),
        (json!({ "default_mode": "none" }), vec!["/default_mode"]),
        (json!({ "read_only_roles": ["boss"] }), vec!["/read_only_roles/0"]),
        (json!({ "protected_roles": null }), vec!["/protected_roles"]),
        (json!({ "ticket_pattern": "(" }), vec!["/ticket_pattern"]),
        (json!({ "refused_operations": ["create_article", "log_out", "nothing"] }), vec!["/refused_operations/1", "/refused_operations/2"]),
        (json!({ "refused_operations": ["start_impersonation"] }), vec!["/refused_operations/0"]),
    ] {
        assert_eq!(admin.patch("/v1/policy", change.clone()).problem(422, "invalid_request").pointers(), pointers, "{change}");
    }
    admin.patch("/v1/policy", json!({ "colour": "red" })).problem(400, "unknown_field");
    admin.patch("/v1/policy", json!({ "freeze": null })).problem(400, "unknown_field");
    admin.patch("/v1/policy", json!({ "version": 7 })).problem(400, "unknown_field");
    for reason in ["", "a\u{7}b"] {
        let refused = admin.post("/v1/policy/freeze", json!({ "reason": reason })).problem(422, "invalid_request");
        assert_eq!(refused.pointers(), ["/reason"]);
    }
    admin.post("/v1/policy/freeze", json!({})).problem(422, "invalid_request");
    assert_eq!(admin.get("/v1/policy").expect(200).header("etag"), Some("\"1\""));
}

fn a_ticket_pattern_can_t_run_away_and_is_matched_as_a_whole(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    for bad in [r"(\w{1000}){1000}", r"(a)\1", "(?=a)", "a)|(b", "", &"x".repeat(201)] {
        admin.patch("/v1/policy", json!({ "ticket_pattern": bad })).problem(422, "invalid_request");
    }
    set(&admin, json!({ "ticket_pattern": "(H+)+ELP-[0-9]+" }));
    let refused = start(&admin, &editor, json!({ "ticket": "H".repeat(100) })).problem(422, "invalid_request");
    assert_eq!(refused.pointers(), ["/ticket"]);
    for ticket in ["xHELP-1", "HELP-1x", "HELP-"] {
        start(&admin, &editor, json!({ "ticket": ticket })).problem(422, "invalid_request");
    }
    start(&admin, &editor, json!({ "ticket": "HHELP-12" })).expect(201);
    // What is not required may still be left out.
    start(&admin, &editor, json!({})).expect(201);
    set(&admin, json!({ "ticket_pattern": null }));
    start(&admin, &editor, json!({ "ticket": "whatever" })).expect(201);
}

fn a_start_must_give_the_reason_and_the_ticket_that_the_policy_asks_for(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    set(&admin, json!({ "reason_min_length": 10, "ticket_required": true }));
    let refused = start(&admin, &editor, json!({ "reason": "too short" })).problem(422, "invalid_request");
    assert_eq!(refused.pointers(), ["/reason", "/ticket"]);
    start(&admin, &editor, json!({ "reason": "long enough", "ticket": "HELP-1" })).expect(201);
    set(&admin, json!({ "reason_required": false, "ticket_required": false }));
    let path = format!("/v1/users/{}/impersonate", editor.id);
    admin.post(&path, json!({})).expect(201);
    // One that is given is held to it all the same.
    admin.post(&path, json!({ "reason": "short" })).problem(422, "invalid_request");
}

fn durations_are_the_policy_s(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    // A shorter maximum alone takes the default along.
    let policy = set(&admin, json!({ "max_duration_seconds": 600 }));
    assert_eq!((policy.value("max_duration_seconds"), policy.value("default_duration_seconds")), (&json!(600), &json!(600)));
    let told = entries(&admin, "action=policy.updated")[0]["changes"].clone();
    assert_eq!(told["default_duration_seconds"], json!({ "from": 1800, "to": 600 }));
    set(&admin, json!({ "default_duration_seconds": 60, "max_duration_seconds": 120 }));
    // Whole seconds that are left, of which the call itself may cost one.
    let lasts = |members| start(&admin, &editor, members).expect(201).value("expires_in").as_i64().unwrap();
    assert!((59..=60).contains(&lasts(json!({}))));
    assert!((119..=120).contains(&lasts(json!({ "duration_seconds": 120 }))));
    let refused = start(&admin, &editor, json!({ "duration_seconds": 121 })).problem(422, "invalid_request");
    assert_eq!(refused.pointers(), ["/duration_seconds"]);
}

fn the_idle_limit_is_the_policy_s(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    set(&admin, json!({ "idle_seconds": 100 }));
    let acting = office.impersonate(&admin, &editor);
    office.advance(99);
    acting.get("/v1/me").expect(200);
    office.advance(99);
    acting.get("/v1/me").expect(200);
    office.advance(101);
    is_over(&acting, "idle");
    let other = office.impersonate(&admin, &editor);
    // A shorter limit holds at once, for what runs too.
    office.advance(50);
    set(&admin, json!({ "idle_seconds": 20 }));
    is_over(&other, "idle");
    set(&admin, json!({ "idle_seconds": 0 }));
    let tireless = office.impersonate(&admin, &editor);
    office.advance(1700);
    tireless.get("/v1/me").expect(200);
}

fn the_use_of_an_impersonation_is_written_every_tenth_of_its_idle_limit_and_no_more(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    set(&admin, json!({ "idle_seconds": 1000 }));
    let acting = office.impersonate(&admin, &editor);
    let used = || office.db_text(&format!("SELECT CAST(last_used_at AS TEXT) FROM sessions WHERE id = '{}'", acting.id)).unwrap();
    let started = used();
    for _ in 0..3 {
        office.advance(30);
        acting.get("/v1/me").expect(200);
        assert_eq!(used(), started);
    }
    office.advance(11);
    acting.get("/v1/me").expect(200);
    let noted = used();
    assert_ne!(noted, started);
    office.advance(90);
    acting.get("/v1/me").expect(200);
    assert_eq!(used(), noted);
}

fn a_restore_proof_can_be_made_mandatory(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    set(&admin, json!({ "restore_proof_required": true }));
    assert_eq!(start(&admin, &editor, json!({})).problem(422, "invalid_request").pointers(), ["/restore_challenge"]);
    start(&admin, &editor, json!({ "restore_challenge": restore_challenge("a verifier that is long enough for this") })).expect(201);
}

fn the_default_mode_is_the_policy_s(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    set(&admin, json!({ "default_mode": "read_only" }));
    assert_eq!(start(&admin, &editor, json!({})).expect(201).value("session/impersonation/mode"), &json!("read_only"));
    assert_eq!(start(&admin, &editor, json!({ "mode": "full" })).expect(201).value("session/impersonation/mode"), &json!("full"));
}

fn actors_in_read_only_roles_may_look_and_nothing_else_from_the_next_request_on(office: &Office) {
    let (admin, support, author) = (office.administrator(), office.support(), office.author());
    let path = draft(&author);
    let acting = office.impersonate(&support, &author);
    let chief = office.impersonate(&admin, &author);
    acting.patch(&path, json!({ "title": "Before" })).expect(200);
    set(&admin, json!({ "read_only_roles": ["support"] }));
    let refused = acting.patch(&path, json!({ "title": "After" })).problem(403, "read_only_impersonation");
    assert_eq!(refused.reasons(), ["outside_grant"]);
    acting.post("/v1/articles", json!({ "title": "New", "abstract": "", "body": "" })).problem(403, "read_only_impersonation");
    let me = acting.get("/v1/me").expect(200);
    assert_eq!(me.value("impersonation/mode"), &json!("read_only"));
    assert!(me.value("impersonation/withheld").as_array().unwrap().contains(&json!("mutations")), "{me}");
    // Another role is not held back.
    chief.patch(&path, json!({ "title": "By an administrator" })).expect(200);
    assert_eq!(start(&support, &author, json!({ "mode": "full" })).problem(403, "impersonation_refused").reasons(), ["read_only_required"]);
    assert_eq!(start(&support, &author, json!({})).expect(201).value("session/impersonation/mode"), &json!("read_only"));
    set(&admin, json!({ "read_only_roles": [] }));
    acting.patch(&path, json!({ "title": "After" })).expect(200);
}

fn nobody_acts_as_a_user_in_a_protected_role_and_who_does_is_ended(office: &Office) {
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    let (of_author, of_editor) = (office.impersonate(&admin, &author), office.impersonate(&admin, &editor));
    set(&admin, json!({ "protected_roles": ["author"] }));
    let listed = admin.get(&format!("/v1/impersonations/{}", of_author.id)).expect(200);
    assert_eq!((listed.str("status"), listed.str("cause")), ("ended", "subject_changed"), "with the change, and not at its next request");
    is_over(&of_author, "subject_changed");
    of_editor.get("/v1/me").expect(200);
    assert_eq!(start(&admin, &author, json!({})).problem(403, "impersonation_refused").reasons(), ["subject_protected"]);
    // It ended by itself, so it comes back.
    assert_eq!(of_author.log_out().expect(200).str("access_token"), admin.access_token);
    // Who gets such a role is out of reach from then on.
    admin.patch(&format!("/v1/users/{}", editor.id), json!({ "role": "author" })).expect(200);
    is_over(&of_editor, "subject_changed");
}

fn an_actor_has_no_more_impersonations_at_once_than_allowed(office: &Office) {
    let (admin, support) = (office.administrator(), office.support());
    let (first, second, third) = (office.editor(), office.editor(), office.author());
    set(&admin, json!({ "max_live_per_actor": 2 }));
    let acting = office.impersonate(&admin, &first);
    // Another session is the same actor.
    let elsewhere = admin.log_in_again();
    office.impersonate(&elsewhere, &second);
    assert_eq!(start(&admin, &third, json!({})).problem(403, "impersonation_refused").reasons(), ["too_many_live"]);
    let refused = &entries(&admin, "action=impersonation.refused")[0];
    assert_eq!(refused["changes"]["reasons"]["to"], json!(["too_many_live"]));
    office.impersonate(&support, &third);
    acting.log_out().expect(200);
    start(&admin, &third, json!({})).expect(201);
    // What has run out by its time is none, whether its end is written or not.
    office.advance(1801);
    start(&elsewhere, &first, json!({})).expect(201);
}

fn an_actor_starts_no_more_within_an_hour_than_allowed(setup: Setup) {
    let office = setup.with("ACCESS_TOKEN_TTL_SECONDS", 86_400).open();
    let (admin, editor) = (office.administrator(), office.editor());
    set(&admin, json!({ "max_starts_per_hour": 2 }));
    office.impersonate(&admin, &editor).log_out().expect(200);
    office.advance(1800);
    office.impersonate(&admin, &editor).log_out().expect(200);
    assert_eq!(start(&admin, &editor, json!({})).problem(403, "impersonation_refused").reasons(), ["too_many_starts"]);
    office.advance(1799);
    start(&admin, &editor, json!({})).problem(403, "impersonation_refused");
    office.advance(2);
    start(&admin, &editor, json!({})).expect(201);
    start(&admin, &editor, json!({})).problem(403, "impersonation_refused");
}

fn racing_starts_don_t_pass_the_limits(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    set(&admin, json!({ "max_live_per_actor": 3, "max_starts_per_hour": 3 }));
    // From different sessions, so that they don't wait for each other anyway.
    let sessions: Vec<Person> = (0..8).map(|_| admin.log_in_again()).collect();
    let statuses = at_once(8, |number| start(&sessions[number], &editor, json!({})).status);
    let count = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((count(201), count(403)), (3, 5), "{statuses:?}");
    assert_eq!(admin.all_items("/v1/impersonations?status=live").len(), 3);
}

fn an_operation_that_the_policy_refuses_is_refused_under_impersonation_alone(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let path = draft(&author);
    let acting = office.impersonate(&admin, &author);
    set(&admin, json!({ "refused_operations": ["create_article", "article.submit", "list_article_history"] }));
    let new = json!({ "title": "New", "abstract": "", "body": "" });
    for refused in [
        acting.post("/v1/articles", new.clone()),
        acting.post(&format!("{path}/actions"), json!({ "action": "submit" })),
        acting.get(&format!("{path}/history")),
    ] {
        assert_eq!(refused.problem(403, "forbidden_under_impersonation").reasons(), ["forbidden_under_impersonation"]);
    }
    let me = acting.get("/v1/me").expect(200);
    assert!(me.value("impersonation/withheld").as_array().unwrap().contains(&json!("operations:refused")), "{me}");
    // What it does not name is as before, and so is everything for the user.
    acting.patch(&path, json!({ "title": "Mended" })).expect(200);
    author.post("/v1/articles", new).expect(201);
    author.get(&format!("{path}/history")).expect(200);
    step(&author, &path, "submit");
    set(&admin, json!({ "refused_operations": ["act_on_article"] }));
    let withdraw = acting.post(&format!("{path}/actions"), json!({ "action": "withdraw" }));
    withdraw.problem(403, "forbidden_under_impersonation");
}

fn logging_out_can_t_be_refused(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let everything = [
        "get_me",
        "list_my_sessions",
        "list_my_impersonations",
        "list_articles",
        "get_article",
        "create_article",
        "update_article",
        "delete_article",
        "act_on_article",
        "list_article_history",
        "explain_me",
    ];
    set(&admin, json!({ "refused_operations": everything, "read_only_roles": ["administrator"] }));
    let acting = office.impersonate(&admin, &editor);
    acting.get("/v1/me").problem(403, "forbidden_under_impersonation");
    assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
}

fn the_environment_pins_what_it_sets_and_says_so(setup: Setup) {
    let office = setup.with("IMPERSONATION_MAX_SECONDS", 60).with("IMPERSONATION_READ_ONLY_ROLES", "support").open();
    let (admin, editor) = (office.administrator(), office.editor());
    let policy = admin.get("/v1/policy").expect(200);
    assert_eq!(policy.value("pinned"), &json!(["max_duration_seconds", "read_only_roles"]));
    assert_eq!((policy.value("max_duration_seconds"), policy.value("default_duration_seconds")), (&json!(60), &json!(60)));
    assert_eq!(policy.value("read_only_roles"), &json!(["support"]));
    let change = json!({ "max_duration_seconds": 600, "idle_seconds": 30, "read_only_roles": [] });
    let refused = admin.patch("/v1/policy", change).problem(409, "setting_pinned");
    assert_eq!(refused.pointers(), ["/max_duration_seconds", "/read_only_roles"]);
    assert_eq!(admin.get("/v1/policy").expect(200).body, policy.body);
    set(&admin, json!({ "idle_seconds": 30 }));
    start(&admin, &editor, json!({ "duration_seconds": 61 })).problem(422, "invalid_request");
    // Without the pins the row says what holds.
    office.stop();
    let freed = office.start_again_with(&[("IMPERSONATION_MAX_SECONDS", ""), ("IMPERSONATION_READ_ONLY_ROLES", "")]).unwrap();
    let policy = admin.at(&freed).get("/v1/policy").expect(200);
    assert_eq!(
        (policy.value("pinned"), policy.value("max_duration_seconds"), policy.value("idle_seconds")),
        (&json!([]), &json!(3600), &json!(30))
    );
}

fn a_pinned_freeze_ends_what_runs_and_can_t_be_lifted(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    office.stop();
    let frozen = office.start_again_with(&[("IMPERSONATION_FREEZE", "an incident")]).unwrap();
    let admin = admin.at(&frozen);
    let policy = admin.get("/v1/policy").expect(200);
    assert_eq!(policy.value("freeze"), &json!({ "reason": "an incident", "since": null, "by": null }));
    assert_eq!(policy.value("pinned"), &json!(["freeze"]));
    let answer = acting.at(&frozen).get("/v1/me").problem(401, "impersonation_ended");
    assert_eq!(answer.str("cause"), "frozen");
    assert_eq!(start(&admin, &editor, json!({})).problem(403, "impersonation_refused").reasons(), ["frozen"]);
    assert_eq!(admin.delete("/v1/policy/freeze").problem(409, "setting_pinned").pointers(), ["/freeze"]);
    // Nor is one laid under it that would come to light later.
    let refused = admin.post("/v1/policy/freeze", json!({ "reason": "mine" })).problem(409, "setting_pinned");
    assert_eq!(refused.pointers(), ["/freeze"]);
    assert_eq!(policy.header("etag"), admin.get("/v1/policy").expect(200).header("etag"));
}

fn a_freeze_ends_all_that_runs_in_one_call_and_lets_nothing_start(office: &Office) {
    let (admin, support, editor, author) = (office.administrator(), office.support(), office.editor(), office.author());
    let running = [office.impersonate(&admin, &editor), office.impersonate(&support, &editor), office.impersonate(&support, &author)];
    let frozen = admin.post("/v1/policy/freeze", json!({ "reason": "a laptop was stolen" })).expect(200);
    assert_eq!((frozen.header("etag"), frozen.str("freeze/reason")), (Some("\"2\""), "a laptop was stolen"));
    assert_eq!(frozen.value("freeze/by"), &admin.user_ref());
    assert_eq!(admin.all_items("/v1/impersonations?status=live").len(), 0);
    for acting in &running {
        is_over(acting, "frozen");
        let listed = admin.get(&format!("/v1/impersonations/{}", acting.id)).expect(200);
        assert_eq!((listed.str("cause"), listed.value("ended_by")), ("frozen", &admin.user_ref()));
        let ended = entries(&admin, &format!("resource_id={}&action=impersonation.ended", acting.id));
        assert_eq!((ended.len(), &ended[0]["changes"]["cause"]["to"]), (1, &json!("frozen")));
        // Never after a freeze.
        acting.log_out().problem(401, "impersonation_ended");
    }
    for actor in [&admin, &support] {
        assert_eq!(start(actor, &author, json!({})).problem(403, "impersonation_refused").reasons(), ["frozen"]);
    }
    // Who may not impersonate learns nothing of it.
    assert_eq!(start(&author, &editor, json!({})).problem(403, "impersonation_refused").reasons(), ["missing_permission"]);
    let told = &entries(&admin, "action=policy.frozen")[0];
    assert_eq!((&told["subject"]["id"], &told["changes"]["freeze"]["to"]), (&json!(admin.id), &json!("a laptop was stolen")));
    let body = json!({ "reason": "it was found" });
    let lifted = admin.request("DELETE", "/v1/policy/freeze").json(&body).send().expect(200);
    assert_eq!((lifted.header("etag"), lifted.value("freeze")), (Some("\"3\""), &Value::Null));
    let told = &entries(&admin, "action=policy.unfrozen")[0]["changes"];
    assert_eq!((&told["freeze"]["from"], &told["reason"]["to"]), (&json!("a laptop was stolen"), &json!("it was found")));
    office.impersonate(&admin, &editor).get("/v1/me").expect(200);
    is_over(&running[0], "frozen");
}

fn freezing_twice_and_lifting_twice_change_nothing(office: &Office) {
    let admin = office.administrator();
    admin.delete("/v1/policy/freeze").expect(200);
    let first = admin.post("/v1/policy/freeze", json!({ "reason": "first" })).expect(200);
    assert_eq!(admin.post("/v1/policy/freeze", json!({ "reason": "second" })).expect(200).body, first.body);
    admin.delete("/v1/policy/freeze").expect(200);
    assert_eq!(admin.delete("/v1/policy/freeze").expect(200).header("etag"), Some("\"3\""));
    assert_eq!(entries(&admin, "resource_type=policy").len(), 3);
}

fn a_freeze_spares_own_sessions_and_closes_every_way_back(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let expired = office.impersonate_with(&admin, &editor, json!({ "duration_seconds": 1 }));
    office.advance(1);
    is_over(&expired, "expired");
    admin.post("/v1/policy/freeze", json!({ "reason": "an incident" })).expect(200);
    expired.log_out().problem(401, "impersonation_ended");
    for person in [&admin, &editor] {
        person.get("/v1/me").expect(200);
        person.refresh().expect(200);
    }
    assert_eq!(office.db_count("SELECT count(*) FROM ways_back"), 0);
}

fn a_start_that_races_a_freeze_is_refused_or_ended(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let actors: Vec<Person> = (0..5).map(|_| office.administrator()).collect();
    for _ in 0..5 {
        let started = at_once(6, |number| match number {
            0 => {
                admin.post("/v1/policy/freeze", json!({ "reason": "a race" })).expect(200);
                None
            }
            number => {
                let answer = start(&actors[number - 1], &editor, json!({}));
                assert!([201, 403].contains(&answer.status), "{answer}");
                (answer.status == 201).then(|| admin.with_token(answer.str("access_token")))
            }
        });
        for acting in started.into_iter().flatten() {
            assert_eq!(acting.get("/v1/me").problem(401, "impersonation_ended").str("cause"), "frozen");
        }
        assert_eq!(admin.all_items("/v1/impersonations?status=live").len(), 0);
        admin.delete("/v1/policy/freeze").expect(200);
    }
}

fn the_button_is_grey_where_the_policy_says_no(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let button = || admin.get(&format!("/v1/users/{}", editor.id)).expect(200).value("impersonation").clone();
    assert_eq!(button()["allowed"], true);
    set(&admin, json!({ "protected_roles": ["editor"] }));
    assert_eq!(button()["reasons"][0]["code"], "subject_protected");
    set(&admin, json!({ "protected_roles": [], "max_live_per_actor": 1, "max_starts_per_hour": 1 }));
    office.impersonate(&admin, &office.author());
    let codes = |button: &Value| button["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].clone()).collect::<Vec<_>>();
    assert_eq!(codes(&button()), [json!("too_many_live"), json!("too_many_starts")]);
    for listed in admin.get("/v1/users?role=editor").expect(200).items() {
        assert_eq!(codes(&listed["impersonation"]), [json!("too_many_live"), json!("too_many_starts")]);
    }
    set(&admin, json!({ "max_live_per_actor": 0, "max_starts_per_hour": 0 }));
    admin.post("/v1/policy/freeze", json!({ "reason": "an incident" })).expect(200);
    assert_eq!((&button()["allowed"], &button()["reasons"][0]["code"]), (&json!(false), &json!("frozen")));
}

fn a_policy_survives_a_restart(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    set(&admin, json!({ "max_duration_seconds": 1800 }));
    let acting = office.impersonate(&admin, &editor);
    let frozen = admin.post("/v1/policy/freeze", json!({ "reason": "an incident" })).expect(200);
    office.restart();
    assert_eq!(admin.get("/v1/policy").expect(200).body, frozen.body);
    is_over(&acting, "frozen");
    start(&admin, &editor, json!({})).problem(403, "impersonation_refused");
}

fn a_change_holds_on_every_instance_at_the_next_request(office: &Office) {
    let second = office.second_instance().unwrap();
    let (admin, support, author) = (office.administrator(), office.support(), office.author());
    let path = draft(&author);
    let acting = office.impersonate(&support, &author);
    acting.at(&second).patch(&path, json!({ "title": "There" })).expect(200);
    set(&admin, json!({ "read_only_roles": ["support"], "max_duration_seconds": 1800 }));
    acting.at(&second).patch(&path, json!({ "title": "There again" })).problem(403, "read_only_impersonation");
    start(&admin.at(&second), &author, json!({ "duration_seconds": 1801 })).problem(422, "invalid_request");
    assert_eq!(admin.at(&second).get("/v1/policy").expect(200).header("etag"), Some("\"2\""));
    set(&admin.at(&second), json!({ "read_only_roles": [], "protected_roles": ["editor"] }));
    acting.patch(&path, json!({ "title": "Here again" })).expect(200);
    start(&admin, &office.editor(), json!({})).problem(403, "impersonation_refused");
}

fn a_freeze_holds_on_every_instance_at_the_next_request(office: &Office) {
    let second = office.second_instance().unwrap();
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    acting.at(&second).get("/v1/me").expect(200);
    admin.post("/v1/policy/freeze", json!({ "reason": "an incident" })).expect(200);
    let answer = acting.at(&second).get("/v1/me").problem(401, "impersonation_ended");
    assert_eq!(answer.str("cause"), "frozen");
    assert_eq!(start(&admin.at(&second), &editor, json!({})).problem(403, "impersonation_refused").reasons(), ["frozen"]);
    admin.at(&second).delete("/v1/policy/freeze").expect(200);
    start(&admin, &editor, json!({})).expect(201);
}

fn instances_with_different_pins_each_keep_to_their_own(office: &Office) {
    let strict = office.start_again_with(&[("IMPERSONATION_MAX_SECONDS", "60")]).unwrap();
    let (admin, editor) = (office.administrator(), office.editor());
    start(&admin, &editor, json!({ "duration_seconds": 61 })).expect(201);
    start(&admin.at(&strict), &editor, json!({ "duration_seconds": 61 })).problem(422, "invalid_request");
    set(&admin, json!({ "max_duration_seconds": 1800 }));
    assert_eq!(admin.at(&strict).get("/v1/policy").expect(200).value("max_duration_seconds"), &json!(60));
    assert_eq!(admin.get("/v1/policy").expect(200).value("max_duration_seconds"), &json!(1800));
}

fn the_policy_costs_a_request_no_statement_of_its_own(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let path = draft(&author);
    set(&admin, json!({ "read_only_roles": ["support"], "refused_operations": ["article.accept"], "max_live_per_actor": 5 }));
    let bounds = json!({ "permissions": ["articles:create"], "resources": [format!("article:{}", path.rsplit('/').next().unwrap())] });
    let acting = office.impersonate_with(&admin, &author, bounds);
    // On SQLite both are remembered.
    let session = if office.backend() == Backend::Sqlite { 0 } else { 1 };
    for caller in [&*author, &acting] {
        let statements = |path: &str| office.statements_of(|| drop(caller.get(path).expect(200)));
        assert_eq!(statements("/v1/me"), session, "the session");
        assert_eq!(statements(&path), session, "the session with the article");
        assert_eq!(statements(&format!("/v1/me/explain?resource=article:{}", path.rsplit('/').next().unwrap())), session + 1);
    }
    // A change that this instance did not make is read once, and then known.
    let entry = "INSERT INTO entries (id, occurred_at, origin, action, resource_type, resource_id, note, changes) \
                 VALUES ('019aa0f0-0000-7000-8000-00000000ffff', '2026-11-23 10:00:00', 'cli', 'policy.updated', 'policy', 'policy', 'by hand', '{}')";
    let change = "UPDATE policies SET version = version + 1, entry_id = '019aa0f0-0000-7000-8000-00000000ffff'";
    office.db_script(&format!("BEGIN; {entry}; {change}; COMMIT")).unwrap();
    assert!(office.statements_of(|| drop(acting.get("/v1/me").expect(200))) <= 1);
}

/// Says that it is over however it ends, so that nobody goes on for ever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn freeze_and_lift(admin: &Caller, is_over: &AtomicBool) {
    let _over = Over(is_over);
    for _ in 0..4 {
        admin.post("/v1/policy/freeze", json!({ "reason": "a race" })).expect(200);
        admin.delete("/v1/policy/freeze").expect(200);
    }
}

fn a_freeze_is_not_held_off_by_those_who_start_and_leave(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let actors: Vec<Person> = (0..6).map(|_| office.administrator()).collect();
    let is_over = AtomicBool::new(false);
    at_once(7, |number| match number {
        0 => freeze_and_lift(&admin, &is_over),
        number => {
            while !is_over.load(Ordering::Relaxed) {
                let started = start(&actors[number - 1], &editor, json!({}));
                assert!([201, 403].contains(&started.status), "{started}");
                if started.status == 201 {
                    let left = admin.with_token(started.str("access_token")).post_empty("/v1/auth/logout");
                    assert!([200, 401].contains(&left.status), "{left}");
                }
            }
        }
    });
}

fn a_freeze_is_not_held_off_by_those_who_are_refused(office: &Office) {
    let admin = office.administrator();
    let pair = [office.support(), office.support()];
    // Counting takes a lock, and two who would act as each other would wait for each other.
    set(&admin, json!({ "max_live_per_actor": 3, "max_starts_per_hour": 100 }));
    let is_over = AtomicBool::new(false);
    at_once(5, |number| match number {
        0 => freeze_and_lift(&admin, &is_over),
        number => {
            let (actor, subject) = (pair[number % 2].log_in_again(), &pair[(number + 1) % 2]);
            while !is_over.load(Ordering::Relaxed) {
                let path = format!("/v1/users/{}/impersonate?dry_run=true", subject.id);
                actor.post(&path, json!({ "reason": "x" })).problem(403, "impersonation_refused");
            }
        }
    });
}

fn nothing_comes_back_while_the_environment_freezes(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate_with(&admin, &editor, json!({ "duration_seconds": 1 }));
    office.advance(1);
    is_over(&acting, "expired");
    office.stop();
    let frozen = office.start_again_with(&[("IMPERSONATION_FREEZE", "an incident")]).unwrap();
    let body = json!({ "restore_verifier": acting.restore_verifier });
    acting.at(&frozen).post("/v1/auth/logout", body).problem(401, "impersonation_ended");
}
