//! Starting to act as a user: who may, on what terms, and what is possible then.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::ending::CALLS;
use crate::harness::{Answer, Caller, Office, Person, Setup, claims_of, header_of};

api_tests! {
    a_start_grants_a_token_that_names_both,
    one_sees_who_one_is_and_as_whom,
    an_impersonation_sees_what_its_subject_sees,
    a_start_lasts_as_long_as_it_asks_for,
    a_start_is_cut_to_the_original_tokens_remaining_life,
    a_start_with_a_wrong_value_is_refused_and_leaves_nothing,
    a_reason_may_be_optional,
    the_settings_bound_the_duration,
    a_restore_proof_may_be_mandatory,
    every_pair_of_roles_is_judged_alike_at_the_button_and_at_the_start,
    nobody_acts_as_anyone_under_impersonation,
    refusals_are_recorded_once_a_minute_with_a_count,
    a_nested_attempt_is_recorded_with_who_really_made_it,
    who_may_not_see_users_cannot_tell_a_forbidden_one_from_none,
    who_may_see_users_is_told_that_there_is_none,
    credentials_and_accounts_are_out_of_reach_under_impersonation,
    a_read_only_impersonation_reads_and_leaves_and_nothing_else,
    the_button_is_shown_to_those_who_may_impersonate,
    impersonations_are_listed_by_status_actor_and_subject,
    impersonations_are_paged_newest_first,
    an_impersonation_is_shown_to_its_people_and_to_who_may_read_all,
    an_impersonation_is_ended_by_its_people_and_by_who_may_end_all,
    a_user_sees_who_was_in_the_account,
    entries_under_an_impersonation_are_counted,
    every_answer_to_an_impersonation_names_both_in_its_headers,
    no_client_can_write_the_actor,
}

/// Headers that differ between any two answers, the last one in the order of its names.
const VARYING: [&str; 3] = ["x-request-id", "date", "access-control-expose-headers"];

const NOBODY: &str = "019aa0f0-0000-7000-8000-000000000001";

fn start(caller: &Caller, subject: &str, body: Value) -> Answer {
    caller.post(&format!("/v1/users/{subject}/impersonate"), body)
}

fn because() -> Value {
    json!({ "reason": "to help" })
}

fn impersonations(reader: &Caller) -> Vec<Value> {
    reader.all_items("/v1/impersonations")
}

fn refusals(reader: &Caller, resource_id: &str) -> Vec<Value> {
    reader.all_items(&format!("/v1/history?action=impersonation.refused&resource_id={resource_id}"))
}

/// Moves on to the first second of a minute, so that what follows happens within it.
fn begin_a_minute(office: &Office) {
    office.advance(60 - office.now().timestamp().rem_euclid(60));
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn a_start_grants_a_token_that_names_both(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let body = json!({ "reason": "  she cannot accept ", "ticket": "HELP-7", "duration_seconds": 900, "mode": "full" });
    let started = office.now().timestamp();
    let answer = start(&admin, &editor.id, body).expect(201);
    assert_eq!(keys(&answer.body), ["access_token", "expires_in", "session", "token_type"]);
    assert_eq!(answer.str("token_type"), "Bearer");
    let id = answer.str("session/id");
    assert_eq!(answer.header("location"), Some(format!("/v1/impersonations/{id}").as_str()));

    let token = answer.str("access_token");
    let (header, claims) = (header_of(token), claims_of(token));
    assert_eq!((keys(&header), &header["typ"], &header["alg"]), (vec!["alg", "kid", "typ"], &json!("at+jwt"), &json!("EdDSA")));
    assert_eq!(keys(&claims), ["act", "aud", "client_id", "exp", "iat", "iss", "jti", "nbf", "sid", "sub"]);
    assert_eq!((&claims["sub"], &claims["act"]), (&json!(editor.id), &json!({ "sub": admin.id })));
    assert_eq!((&claims["aud"], &claims["client_id"], &claims["iss"]), (&json!("actas"), &json!("actas"), &json!("http://localhost:8080")));
    assert_eq!(claims["sid"], id);
    let (exp, iat) = (claims["exp"].as_i64().unwrap(), claims["iat"].as_i64().unwrap());
    assert!((started..=started + 5).contains(&iat) && (900..=901).contains(&(exp - iat)), "{claims}");
    assert!(exp <= claims_of(&admin.access_token)["exp"].as_i64().unwrap());
    assert_ne!(claims["jti"], claims_of(&admin.access_token)["jti"]);
    assert!((890..=900).contains(&answer.value("expires_in").as_i64().unwrap()), "{answer}");

    // An own token names nobody else.
    assert_eq!(claims_of(&admin.access_token).get("act"), None);
    let entry = &admin.all_items(&format!("/v1/history?action=impersonation.started&resource_id={id}"))[0];
    assert_eq!((&entry["subject"], &entry["actor"], &entry["note"]), (&admin.user_ref(), &Value::Null, &Value::Null));
    let to = |field: &str| &entry["changes"][field]["to"];
    assert_eq!(
        (to("reason"), to("ticket"), to("mode"), to("subject_id")),
        (&json!("she cannot accept"), &json!("HELP-7"), &json!("full"), &json!(editor.id))
    );
}

fn one_sees_who_one_is_and_as_whom(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    for (mode, withheld) in [
        ("full", json!(["impersonation:start", "credentials:change", "accounts:change"])),
        ("read_only", json!(["impersonation:start", "credentials:change", "accounts:change", "mutations"])),
    ] {
        let acting = office.impersonate_with(&admin, &editor, json!({ "mode": mode }));
        let me = acting.get("/v1/me").expect(200);
        assert_eq!(keys(&me.body), ["actor", "expires_at", "expires_in", "id", "impersonation", "kind", "permissions", "scope", "subject"]);
        assert_eq!(me.value("scope"), &Value::Null, "it reaches as far as its subject does");
        assert_eq!((me.str("kind"), me.value("subject"), me.value("actor")), ("impersonation", &editor.user_ref(), &admin.user_ref()));
        assert_eq!(me.value("permissions"), editor.get("/v1/me").expect(200).value("permissions"));
        let terms = me.value("impersonation");
        assert_eq!(keys(terms), ["expires_at", "id", "mode", "permissions", "reason", "resources", "started_at", "ticket", "withheld"]);
        assert_eq!((&terms["id"], &terms["mode"], &terms["withheld"]), (&json!(acting.id), &json!(mode), &withheld));
        assert_eq!((&terms["reason"], &terms["ticket"]), (&json!("the editor cannot act"), &json!("HELP-1")));
        assert_eq!(&terms["expires_at"], me.value("expires_at"));
        let granted = acting.grant["session"].as_object().unwrap();
        assert_eq!((&granted["impersonation"], &granted["subject"], &granted["actor"]), (terms, me.value("subject"), me.value("actor")));
    }
    let me = editor.get("/v1/me").expect(200);
    assert_eq!((me.str("kind"), me.value("actor"), me.value("impersonation")), ("own", &Value::Null, &Value::Null));
}

fn an_impersonation_sees_what_its_subject_sees(office: &Office) {
    let (admin, editor, author, other) = (office.administrator(), office.editor(), office.author(), office.author());
    for writer in [&editor, &author, &other] {
        let article = writer.post("/v1/articles", json!({ "title": "Tides", "abstract": "", "body": "" })).expect(201);
        if writer.id == author.id {
            let path = format!("/v1/articles/{}/actions", article.str("id"));
            author.post(&path, json!({ "action": "submit" })).expect(200);
            admin.post(&path, json!({ "action": "assign_editor", "editor_id": editor.id })).expect(200);
        }
    }
    let acting = office.impersonate(&admin, &editor);
    let hers = editor.get("/v1/articles").expect(200);
    assert_eq!((hers.items().len(), admin.get("/v1/articles").expect(200).items().len()), (2, 3));
    assert_eq!(acting.get("/v1/articles").expect(200).body, hers.body);
    for article in admin.get("/v1/articles").expect(200).items() {
        let path = format!("/v1/articles/{}", article["id"].as_str().unwrap());
        assert_eq!(acting.get(&path).status, editor.get(&path).status);
        assert_eq!(acting.get(&format!("{path}/history")).body.get("items"), editor.get(&format!("{path}/history")).body.get("items"));
    }
    // What the administrator may, the impersonation may not.
    for path in ["/v1/users", "/v1/history", "/v1/impersonations", &format!("/v1/users/{}", editor.id)] {
        acting.get(path).problem(403, "missing_permission");
    }
    assert_eq!(acting.get("/v1/me/sessions").expect(200).items().len(), editor.get("/v1/me/sessions").expect(200).items().len());
}

fn a_start_lasts_as_long_as_it_asks_for(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    for (duration, expected) in [(json!(1), 1), (json!(60), 60), (json!(3600), 3600), (json!(null), 1800)] {
        let acting = office.impersonate_with(&admin.log_in_again(), &editor, json!({ "duration_seconds": duration }));
        let claims = claims_of(&acting.access_token);
        let lasts = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert!((expected..=expected + 1).contains(&lasts), "{duration}: {lasts}");
    }
}

fn a_start_is_cut_to_the_original_tokens_remaining_life(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let original = claims_of(&admin.access_token)["exp"].as_i64().unwrap();
    office.advance(3000);
    let acting = office.impersonate_with(&admin, &editor, json!({ "duration_seconds": 3600 }));
    assert_eq!(claims_of(&acting.access_token)["exp"], original);
    assert!((590..=600).contains(&acting.grant["expires_in"].as_i64().unwrap()), "{}", acting.grant);

    // Refreshing gives a longer token to the original session, and nothing to the impersonation.
    admin.refresh().expect(200);
    office.advance(601);
    acting.get("/v1/me").problem(401, "impersonation_ended");
}

fn a_start_with_a_wrong_value_is_refused_and_leaves_nothing(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let long = |length: usize| "x".repeat(length);
    for (member, value) in [
        ("reason", json!(null)),
        ("reason", json!("")),
        ("reason", json!("   ")),
        ("reason", json!(long(501))),
        ("reason", json!("two\nlines")),
        ("reason", json!("turned \u{202E}dnuora")),
        ("reason", json!(7)),
        ("ticket", json!("")),
        ("ticket", json!(long(101))),
        ("ticket", json!("HELP-1\r\nforged: line")),
        ("duration_seconds", json!(0)),
        ("duration_seconds", json!(-1)),
        ("duration_seconds", json!(3601)),
        ("duration_seconds", json!(1.5)),
        ("duration_seconds", json!("60")),
        ("duration_seconds", json!(1_u64 << 40)),
        ("mode", json!("write")),
        ("mode", json!(["full"])),
        ("restore_challenge", json!("short")),
        ("restore_challenge", json!(long(44))),
        ("restore_challenge", json!(format!("{}=", long(42)))),
    ] {
        let mut body = because();
        body[member] = value;
        let answer = start(&admin, &editor.id, body).problem(422, "invalid_request");
        assert_eq!(answer.pointers(), [format!("/{member}")], "{answer}");
    }
    let answer = start(&admin, &editor.id, json!({ "ticket": "", "duration_seconds": 60 })).problem(422, "invalid_request");
    assert_eq!(answer.pointers(), ["/ticket"]);
    start(&admin, "not-an-id", because()).problem(404, "not_found");
    assert_eq!(impersonations(&admin), Vec::<Value>::new());
    assert_eq!(admin.all_items("/v1/history?action=impersonation.started").len(), 0);

    let full =
        json!({ "reason": long(500), "ticket": long(100), "duration_seconds": 3600, "mode": "read_only", "restore_challenge": long(43) });
    start(&admin, &editor.id, full).expect(201);
}

fn a_reason_may_be_optional(setup: Setup) {
    let office = setup.with("IMPERSONATION_REASON", "optional").open();
    let (admin, editor) = (office.administrator(), office.editor());
    for body in [json!({}), json!({ "reason": null })] {
        let answer = start(&admin, &editor.id, body).expect(201);
        assert_eq!(
            (answer.value("session/impersonation/reason"), answer.value("session/impersonation/ticket")),
            (&Value::Null, &Value::Null)
        );
    }
    assert_eq!(start(&admin, &editor.id, because()).expect(201).str("session/impersonation/reason"), "to help");
    assert_eq!(start(&admin, &editor.id, json!({ "reason": "" })).problem(422, "invalid_request").pointers(), ["/reason"]);
}

fn the_settings_bound_the_duration(setup: Setup) {
    let office = setup.with("IMPERSONATION_TTL_SECONDS", 60).with("IMPERSONATION_MAX_SECONDS", 120).open();
    let (admin, editor) = (office.administrator(), office.editor());
    let usual = office.impersonate(&admin, &editor);
    assert!((50..=60).contains(&usual.grant["expires_in"].as_i64().unwrap()), "{}", usual.grant);
    office.impersonate_with(&admin, &editor, json!({ "duration_seconds": 120 }));
    let answer = start(&admin, &editor.id, json!({ "reason": "to help", "duration_seconds": 121 })).problem(422, "invalid_request");
    assert_eq!(answer.pointers(), ["/duration_seconds"]);
}

fn a_restore_proof_may_be_mandatory(setup: Setup) {
    let office = setup.with("REQUIRE_RESTORE_PROOF", true).open();
    let (admin, editor) = (office.administrator(), office.editor());
    let answer = start(&admin, &editor.id, because()).problem(422, "invalid_request");
    assert_eq!(answer.pointers(), ["/restore_challenge"]);
    let acting = office.impersonate(&admin, &editor);
    assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
}

/// A role's privileged permissions, as the contract lists them.
fn privileged(role: &str) -> BTreeSet<&'static str> {
    match role {
        "administrator" => BTreeSet::from([
            "users:read",
            "users:write",
            "users:impersonate",
            "impersonations:read",
            "impersonations:end",
            "sessions:end",
            "history:read",
        ]),
        "support" => BTreeSet::from(["users:read", "users:impersonate", "impersonations:read"]),
        _ => BTreeSet::new(),
    }
}

/// Why someone in `role`, acting as someone or not, may not act as `subject`; worded from the contract.
fn expected_reasons(role: &str, caller_id: &str, is_nested: bool, subject: &Person, is_disabled: bool) -> BTreeSet<&'static str> {
    let (mine, theirs) = (privileged(role), privileged(&subject.role));
    let mut reasons = BTreeSet::new();
    let mut add = |holds: bool, reason| holds.then(|| reasons.insert(reason));
    add(!mine.contains("users:impersonate"), "missing_permission");
    add(is_nested, "nested");
    add(caller_id == subject.id, "self");
    // Of the user, only those learn who may see users.
    if mine.contains("users:read") {
        add(is_disabled, "subject_inactive");
        add(theirs.contains("users:impersonate"), "subject_may_impersonate");
        add(!theirs.is_subset(&mine), "subject_outranks_caller");
    }
    reasons
}

/// One user of every role, active and disabled.
fn one_of_each(office: &Office, chief: &Person) -> Vec<(Person, bool)> {
    let mut people = Vec::new();
    for role in ["administrator", "support", "editor", "author"] {
        for is_disabled in [false, true] {
            let person = office.person(role, "Pat");
            if is_disabled {
                chief.patch(&format!("/v1/users/{}", person.id), json!({ "status": "disabled" })).expect(200);
            }
            people.push((person, is_disabled));
        }
    }
    people
}

#[track_caller]
fn is_judged(answer: Answer, expected: &BTreeSet<&str>) {
    if expected.is_empty() {
        answer.expect(201);
    } else {
        let answer = answer.problem(403, "impersonation_refused");
        assert_eq!(
            (answer.reasons().into_iter().collect::<BTreeSet<_>>(), answer.reasons().len()),
            (expected.clone(), expected.len()),
            "{answer}"
        );
    }
}

fn every_pair_of_roles_is_judged_alike_at_the_button_and_at_the_start(office: &Office) {
    let chief = office.administrator();
    let subjects = one_of_each(office, &chief);
    let mut allowed = BTreeSet::new();
    for role in ["administrator", "support", "editor", "author"] {
        let caller = office.person(role, "Cal");
        let themselves = (caller.clone(), false);
        for (subject, is_disabled) in subjects.iter().chain([&themselves]) {
            let expected = expected_reasons(role, &caller.id, false, subject, *is_disabled);
            if expected.is_empty() {
                allowed.insert((role, subject.role.clone()));
            }
            if privileged(role).contains("users:read") {
                let button = caller.get(&format!("/v1/users/{}", subject.id)).expect(200).value("impersonation").clone();
                let reasons: BTreeSet<_> =
                    button["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap()).collect();
                assert_eq!(
                    (&reasons, &button["allowed"]),
                    (&expected, &json!(expected.is_empty())),
                    "{role} on {} {is_disabled}",
                    subject.role
                );
            }
            is_judged(start(&caller, &subject.id, because()), &expected);
            let recorded = refusals(&chief, &subject.id).into_iter().filter(|entry| entry["subject"]["id"] == caller.id).count();
            assert_eq!(recorded, usize::from(!expected.is_empty()));
        }
    }
    let may: BTreeSet<_> =
        ["administrator", "support"].into_iter().flat_map(|role| [(role, "editor".to_owned()), (role, "author".to_owned())]).collect();
    assert_eq!(allowed, may);
}

fn nobody_acts_as_anyone_under_impersonation(office: &Office) {
    let chief = office.administrator();
    let subjects = one_of_each(office, &chief);
    for role in ["editor", "author"] {
        let target = office.person(role, "Tar");
        for mode in ["full", "read_only"] {
            let acting = office.impersonate_with(&chief, &target, json!({ "mode": mode }));
            let themselves = (target.clone(), false);
            for (subject, is_disabled) in subjects.iter().chain([&themselves]) {
                let expected = expected_reasons(role, &target.id, true, subject, *is_disabled);
                assert!(expected.contains("nested"));
                is_judged(start(&acting, &subject.id, because()), &expected);
                let recorded = refusals(&chief, &subject.id);
                assert!(recorded.iter().any(|entry| entry["impersonation_id"] == acting.id), "{recorded:#?}");
            }
        }
    }
    assert_eq!(impersonations(&chief).len(), 4, "none but those that were nested in");
}

fn refusals_are_recorded_once_a_minute_with_a_count(office: &Office) {
    let (admin, sue, peer) = (office.administrator(), office.support(), office.administrator());
    begin_a_minute(office);
    for _ in 0..3 {
        start(&sue, &peer.id, because()).problem(403, "impersonation_refused");
    }
    start(&admin, &peer.id, because()).problem(403, "impersonation_refused");
    start(&sue, &admin.id, because()).problem(403, "impersonation_refused");
    let seen = |of: &Person| -> Vec<_> {
        let entries = refusals(&admin, &of.id);
        entries.iter().map(|entry| (entry["subject"]["id"].as_str().unwrap().to_owned(), entry["count"].as_i64().unwrap())).collect()
    };
    assert_eq!(seen(&peer), [(admin.id.clone(), 1), (sue.id.clone(), 3)]);
    assert_eq!(seen(&admin), [(sue.id.clone(), 1)]);

    office.advance(60);
    start(&sue, &peer.id, because()).problem(403, "impersonation_refused");
    assert_eq!(seen(&peer), [(sue.id.clone(), 1), (admin.id.clone(), 1), (sue.id.clone(), 3)]);
    let entry = &refusals(&admin, &peer.id)[0];
    assert_eq!(entry["changes"]["reasons"]["to"], json!(["subject_may_impersonate", "subject_outranks_caller"]));
    assert_eq!((&entry["resource"]["type"], &entry["actor"]), (&json!("user"), &Value::Null));
}

fn a_nested_attempt_is_recorded_with_who_really_made_it(office: &Office) {
    let (ada, sue, editor, author) = (office.administrator(), office.support(), office.editor(), office.author());
    let (of_ada, of_sue) = (office.impersonate(&ada, &editor), office.impersonate(&sue, &editor));
    begin_a_minute(office);
    for caller in [&*editor as &Caller, &*of_ada as &Caller, &*of_sue as &Caller] {
        for _ in 0..2 {
            start(caller, &author.id, because()).problem(403, "impersonation_refused");
        }
    }
    let entries = refusals(&ada, &author.id);
    let seen: BTreeMap<_, _> =
        entries.iter().map(|entry| (entry["actor"]["id"].as_str(), (&entry["subject"]["id"], &entry["count"]))).collect();
    let hers = (&json!(editor.id), &json!(2));
    assert_eq!(seen, BTreeMap::from([(None, hers), (Some(ada.id.as_str()), hers), (Some(sue.id.as_str()), hers)]), "{entries:#?}");
}

fn who_may_not_see_users_cannot_tell_a_forbidden_one_from_none(office: &Office) {
    let (chief, author, editor) = (office.administrator(), office.author(), office.editor());
    let acting = office.impersonate(&chief, &author);
    let subjects = one_of_each(office, &chief);
    let ids: Vec<&str> = subjects.iter().map(|(subject, _)| subject.id.as_str()).chain([NOBODY]).collect();
    // What differs between any two answers is struck out.
    let bare = |answer: Answer| {
        let mut body = answer.body.clone();
        body["instance"].take();
        body["request_id"].take();
        let headers: BTreeMap<_, _> = answer
            .headers
            .iter()
            .filter(|(name, _)| !VARYING.contains(&name.as_str()))
            .map(|(name, value)| (name.to_string(), value.clone()))
            .collect();
        (answer.status, body, headers)
    };
    for caller in [&*author as &Caller, &*editor as &Caller, &*acting as &Caller] {
        for body in [because(), json!({}), json!({ "reason": "" }), json!({ "duration_seconds": 99_999 })] {
            let with_nobody = bare(start(caller, NOBODY, body.clone()));
            for id in &ids {
                assert_eq!(bare(start(caller, id, body.clone())), with_nobody, "{id} {body}");
            }
        }
        // Neither by asking for the user.
        let with_nobody = bare(caller.get(&format!("/v1/users/{NOBODY}")));
        for id in &ids {
            assert_eq!(bare(caller.get(&format!("/v1/users/{id}"))), with_nobody, "{id}");
        }
    }
    let recorded: Vec<_> = ids.iter().map(|id| refusals(&chief, id).len()).collect();
    assert!(recorded.iter().all(|count| *count == recorded[0] && *count > 0), "{recorded:?}");
}

fn who_may_see_users_is_told_that_there_is_none(office: &Office) {
    for caller in [office.administrator(), office.support()] {
        start(&caller, NOBODY, because()).problem(404, "not_found");
    }
    assert_eq!(refusals(&office.administrator(), NOBODY).len(), 0);
}

fn credentials_and_accounts_are_out_of_reach_under_impersonation(office: &Office) {
    let (admin, editor, author) = (office.administrator(), office.editor(), office.author());
    let other = office.impersonate(&admin, &author);
    let new_user = json!({ "email": "new@example.org", "display_name": "New", "role": "author" });
    for mode in ["full", "read_only"] {
        let acting = office.impersonate_with(&admin, &editor, json!({ "mode": mode }));
        for (method, path, body) in [
            ("PUT", "/v1/me/password".to_owned(), json!({ "current_password": editor.password, "new_password": "another password" })),
            ("DELETE", format!("/v1/me/sessions/{}", editor.session_id), Value::Null),
            ("DELETE", format!("/v1/me/sessions/{}", admin.session_id), Value::Null),
            ("POST", "/v1/users".to_owned(), new_user.clone()),
            ("PATCH", format!("/v1/users/{}", editor.id), json!({ "email": "mine@example.org" })),
            ("PATCH", format!("/v1/users/{}", editor.id), json!({ "role": "administrator" })),
            ("PATCH", format!("/v1/users/{}", author.id), json!({ "status": "disabled" })),
            ("POST", format!("/v1/users/{}/setup-token", editor.id), Value::Null),
            ("DELETE", format!("/v1/users/{}/sessions", editor.id), Value::Null),
            ("DELETE", format!("/v1/impersonations/{}", other.id), Value::Null),
            ("DELETE", format!("/v1/impersonations/{}", acting.id), Value::Null),
        ] {
            let request = acting.request(method, &path);
            let request = if body.is_null() { request } else { request.json(&body) };
            request.send().problem(403, "forbidden_under_impersonation");
        }
        acting.get("/v1/me").expect(200);
    }
    other.get("/v1/me").expect(200);
    editor.log_in_again().get("/v1/me").expect(200);
    let user = admin.get(&format!("/v1/users/{}", editor.id)).expect(200);
    assert_eq!((user.str("email"), user.str("role"), user.value("version")), (editor.email.as_str(), "editor", &json!(1)));
}

fn a_read_only_impersonation_reads_and_leaves_and_nothing_else(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let article = editor.post("/v1/articles", json!({ "title": "Tides", "abstract": "", "body": "" })).expect(201);
    let path = format!("/v1/articles/{}", article.str("id"));
    let acting = office.impersonate_with(&admin, &editor, json!({ "mode": "read_only" }));
    let draft = json!({ "title": "Mine", "abstract": "", "body": "" });
    for answer in [
        acting.post("/v1/articles", draft),
        acting.post("/v1/articles", json!({ "nonsense": true })),
        acting.patch(&path, json!({ "title": "Ebb" })),
        acting.patch(&path, json!({})),
        acting.delete(&path),
        acting.post(&format!("{path}/actions"), json!({ "action": "submit" })),
    ] {
        answer.problem(403, "read_only_impersonation");
    }
    // There is nothing to tell of what is not there.
    acting.delete(&format!("/v1/articles/{NOBODY}")).problem(404, "not_found");
    for path in ["/v1/me", "/v1/me/sessions", "/v1/me/impersonations", "/v1/articles", &path, &format!("{path}/history")] {
        acting.get(path).expect(200);
    }
    // What the subject may is shown as the subject sees it.
    assert_eq!(acting.get(&path).expect(200).body, editor.get(&path).expect(200).body);
    assert_eq!(editor.get(&format!("{path}/history")).expect(200).items().len(), 1);
    assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
}

fn the_button_is_shown_to_those_who_may_impersonate(office: &Office) {
    let (admin, sue, editor) = (office.administrator(), office.support(), office.editor());
    for caller in [&admin, &sue] {
        let listed = caller.all_items("/v1/users");
        assert_eq!(listed.len(), 3);
        for user in listed {
            let single = caller.get(&format!("/v1/users/{}", user["id"].as_str().unwrap())).expect(200);
            assert_eq!(single.body, user);
            assert_eq!(user["impersonation"]["allowed"], user["id"] == editor.id.as_str());
            for reason in user["impersonation"]["reasons"].as_array().unwrap() {
                assert!(!reason["detail"].as_str().unwrap().is_empty());
            }
        }
    }
    // The button is no promise of the impersonation's, which sees no users at all.
    office.impersonate(&admin, &editor).get("/v1/users").problem(403, "missing_permission");
}

fn impersonations_are_listed_by_status_actor_and_subject(office: &Office) {
    let (ada, sue, editor, author) = (office.administrator(), office.support(), office.editor(), office.author());
    let first = office.impersonate(&ada, &editor);
    let second = office.impersonate(&sue, &editor);
    let third = office.impersonate(&ada, &author);
    let fourth = office.impersonate_with(&ada, &author, json!({ "duration_seconds": 60 }));
    first.log_out().expect(200);
    office.advance(61);
    let ids = |query: &str| -> Vec<String> {
        let items = ada.all_items(&format!("/v1/impersonations{query}"));
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    let expect = |query: &str, expected: &[&crate::harness::Acting]| {
        assert_eq!(ids(query), expected.iter().map(|acting| acting.id.clone()).collect::<Vec<_>>(), "{query}");
    };
    expect("", &[&fourth, &third, &second, &first]);
    expect("?status=live", &[&third, &second]);
    expect("?status=ended", &[&fourth, &first]);
    expect(&format!("?actor={}", sue.id), &[&second]);
    expect(&format!("?subject={}", editor.id), &[&second, &first]);
    expect(&format!("?actor={}&subject={}&status=live", ada.id, author.id), &[&third]);
    expect(&format!("?actor={NOBODY}"), &[]);
    let item = &sue.get("/v1/impersonations?status=live").expect(200).items()[0].clone();
    assert_eq!(
        keys(item),
        [
            "actor",
            "cause",
            "ended_at",
            "ended_by",
            "entry_count",
            "expires_at",
            "id",
            "mode",
            "permissions",
            "reason",
            "resources",
            "started_at",
            "status",
            "subject",
            "ticket"
        ]
    );
    assert_eq!(
        (&item["status"], &item["ended_at"], &item["ended_by"], &item["cause"]),
        (&json!("live"), &Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!((&item["actor"], &item["subject"]), (&ada.user_ref(), &author.user_ref()));

    ada.get("/v1/impersonations?status=over").problem(422, "invalid_request");
    ada.get("/v1/impersonations?colour=red").problem(400, "unknown_parameter");
    for caller in [&editor, &author] {
        caller.get("/v1/impersonations").problem(403, "missing_permission");
    }
}

fn impersonations_are_paged_newest_first(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let mut started: Vec<String> = (0..5).map(|_| office.impersonate(&admin, &editor).id).collect();
    started.reverse();
    let ids = |answer: &Answer| -> Vec<String> { answer.items().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect() };
    let first = admin.get("/v1/impersonations?status=live&limit=2").expect(200);
    let cursor = first.str("next_cursor");
    assert_eq!(first.header("link"), Some(format!("<?status=live&limit=2&cursor={cursor}>; rel=\"next\"").as_str()));
    // What is added meanwhile shifts nothing.
    office.impersonate(&admin, &editor);
    let second = admin.get(&format!("/v1/impersonations?status=live&limit=2&cursor={cursor}")).expect(200);
    let third = admin.get(&format!("/v1/impersonations?limit=2&cursor={}", second.str("next_cursor"))).expect(200);
    assert_eq!([ids(&first), ids(&second), ids(&third)].concat(), started);
    assert_eq!((third.value("next_cursor"), third.header("link")), (&Value::Null, None));
    for query in ["limit=0", "limit=201", "cursor=nonsense", "limit=x"] {
        admin.get(&format!("/v1/impersonations?{query}")).problem(422, "invalid_request");
    }
}

fn an_impersonation_is_shown_to_its_people_and_to_who_may_read_all(office: &Office) {
    let (ada, sue, editor) = (office.administrator(), office.support(), office.editor());
    let acting = office.impersonate(&ada, &editor);
    let path = format!("/v1/impersonations/{}", acting.id);
    let shown = ada.get(&path).expect(200).body;
    for caller in [&*editor as &Caller, &*sue as &Caller, &*acting as &Caller] {
        assert_eq!(caller.get(&path).expect(200).body, shown);
    }
    // An actor who lost every right still sees what they did.
    let former = office.support();
    let his = office.impersonate(&former, &editor);
    ada.patch(&format!("/v1/users/{}", former.id), json!({ "role": "author" })).expect(200);
    assert_eq!(former.get(&format!("/v1/impersonations/{}", his.id)).expect(200).str("cause"), "actor_demoted");

    for other in [office.author(), office.editor()] {
        let hidden = other.get(&path).problem(404, "not_found");
        let missing = other.get(&format!("/v1/impersonations/{NOBODY}")).problem(404, "not_found");
        assert_eq!(hidden.str("detail"), missing.str("detail"));
    }
    // An own session is no impersonation, whoever asks.
    for id in [&ada.session_id, &editor.session_id] {
        ada.get(&format!("/v1/impersonations/{id}")).problem(404, "not_found");
        ada.delete(&format!("/v1/impersonations/{id}")).problem(404, "not_found");
    }
}

fn an_impersonation_is_ended_by_its_people_and_by_who_may_end_all(office: &Office) {
    let (ada, sue, editor) = (office.administrator(), office.support(), office.editor());
    for (actor, enders) in [(&ada, [&ada, &editor]), (&sue, [&sue, &ada])] {
        for ender in enders {
            let acting = office.impersonate(actor, &editor);
            let path = format!("/v1/impersonations/{}", acting.id);
            for other in [office.author(), office.editor()] {
                other.delete(&path).problem(404, "not_found");
            }
            let bystander = office.support();
            bystander.delete(&path).problem(403, "missing_permission");
            office.anonymous().delete(&path).problem(401, "credentials_missing");
            acting.get("/v1/me").expect(200);
            assert_eq!(ender.delete(&path).expect(204).text, "");
            acting.get("/v1/me").problem(401, "impersonation_ended");
        }
    }
    ada.delete(&format!("/v1/impersonations/{NOBODY}")).problem(404, "not_found");
}

fn a_user_sees_who_was_in_the_account(office: &Office) {
    let (ada, sue, editor, author) = (office.administrator(), office.support(), office.editor(), office.author());
    let first = office.impersonate_with(&ada, &editor, json!({ "reason": "she asked me to", "ticket": "HELP-9" }));
    first.post("/v1/articles", json!({ "title": "Tides", "abstract": "", "body": "" })).expect(201);
    first.log_out().expect(200);
    let second = office.impersonate(&sue, &editor);
    office.impersonate(&ada, &author);

    let seen = editor.get("/v1/me/impersonations?limit=1").expect(200);
    assert_eq!((seen.items().len(), seen.value("items/0/id")), (1, &json!(second.id)));
    let seen = editor.all_items("/v1/me/impersonations?limit=1");
    assert_eq!(seen.iter().map(|item| &item["id"]).collect::<Vec<_>>(), [&json!(second.id), &json!(first.id)]);
    let (live, past) = (&seen[0], &seen[1]);
    assert_eq!((&live["actor"], &live["status"], &live["entry_count"]), (&sue.user_ref(), &json!("live"), &json!(0)));
    assert_eq!((&past["actor"], &past["reason"], &past["ticket"]), (&ada.user_ref(), &json!("she asked me to"), &json!("HELP-9")));
    // The article, and the logout itself.
    assert_eq!((&past["status"], &past["entry_count"]), (&json!("ended"), &json!(2)));
    assert_eq!(ada.all_items("/v1/me/impersonations").len(), 0);
    assert_eq!(author.all_items("/v1/me/impersonations").len(), 1);
}

fn entries_under_an_impersonation_are_counted(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let (acting, other) = (office.impersonate(&admin, &editor), office.impersonate(&admin, &editor));
    for number in 1..=3 {
        let article = acting.post("/v1/articles", json!({ "title": "Tides", "abstract": "", "body": "" })).expect(201);
        // What changes nothing, what fails and what only reads is no entry.
        acting.patch(&format!("/v1/articles/{}", article.str("id")), json!({ "title": "Tides" })).expect(200);
        acting.post("/v1/articles", json!({})).problem(422, "invalid_request");
        acting.get("/v1/articles").expect(200);
        let shown = admin.get(&format!("/v1/impersonations/{}", acting.id)).expect(200);
        assert_eq!(shown.value("entry_count"), number);
        assert_eq!(admin.all_items(&format!("/v1/history?impersonation={}", acting.id)).len(), number);
    }
    assert_eq!(admin.get(&format!("/v1/impersonations/{}", other.id)).expect(200).value("entry_count"), 0);
}

fn every_answer_to_an_impersonation_names_both_in_its_headers(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    let names_both = |answer: &Answer| {
        assert_eq!(
            (answer.header("actas-subject"), answer.header("actas-actor")),
            (Some(editor.id.as_str()), Some(admin.id.as_str())),
            "{answer}"
        );
    };
    names_both(&acting.get("/v1/me").expect(200));
    names_both(&acting.get("/v1/users").expect(403));
    names_both(&acting.get(&format!("/v1/articles/{NOBODY}")).expect(404));
    names_both(&acting.post("/v1/articles", json!({ "title": 1 })).expect(422));
    names_both(&acting.log_out().expect(200));
    for (method, path) in CALLS {
        names_both(&acting.request(method, path).send().expect(401));
    }
    for answer in [admin.get("/v1/me"), editor.get("/v1/users"), office.anonymous().get("/v1/me")] {
        assert_eq!((answer.header("actas-subject"), answer.header("actas-actor")), (None, None), "{answer}");
    }
}

fn no_client_can_write_the_actor(office: &Office) {
    let (admin, editor, other) = (office.administrator(), office.editor(), office.administrator());
    for member in
        ["sub", "subject", "subject_id", "act", "actor", "actor_id", "original_session_id", "access_token", "expires_at", "session"]
    {
        let mut body = because();
        body[member] = json!(other.id);
        start(&admin, &editor.id, body).problem(400, "unknown_field");
        let mut draft = json!({ "title": "Tides", "abstract": "", "body": "" });
        draft[member] = json!(other.id);
        editor.post("/v1/articles", draft).problem(400, "unknown_field");
    }
    let mut request = admin.request("POST", &format!("/v1/users/{}/impersonate", editor.id)).json(&because());
    let lies = [
        "Actas-Subject",
        "Actas-Actor",
        "Act",
        "X-Actor",
        "X-Forwarded-User",
        "X-Impersonate-User",
        "Impersonate-User",
        "X-User-Id",
        "Sudo",
    ];
    for name in lies {
        request = request.header(name, &other.id);
    }
    let answer = request.send().expect(201);
    assert_eq!(claims_of(answer.str("access_token"))["act"], json!({ "sub": admin.id }));
    let acting = admin.with_token(answer.str("access_token"));
    let mut request = acting.request("POST", "/v1/articles").json(&json!({ "title": "Tides", "abstract": "", "body": "" }));
    for name in lies {
        request = request.header(name, &other.id);
    }
    let article = request.header("X-HTTP-Method-Override", "DELETE").send().expect(201);
    assert_eq!(article.value("author"), &editor.user_ref());
    let history = editor.get(&format!("/v1/articles/{}/history", article.str("id"))).expect(200);
    assert_eq!((history.value("items/0/subject"), history.value("items/0/actor")), (&editor.user_ref(), &admin.user_ref()));
    // Nor may the answer of a session that is one's own be made to name another.
    let me = editor.request("GET", "/v1/me").header("Actas-Actor", &admin.id).send().expect(200);
    assert_eq!((me.value("actor"), me.header("actas-actor")), (&Value::Null, None));
    assert_eq!(editor.get(&format!("/v1/me?actor={}", admin.id)).status, 400);
}
