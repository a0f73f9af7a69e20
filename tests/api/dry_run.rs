//! Trying a start: exactly its answer, and nothing of it.

use serde_json::{Value, json};

use super::articles::draft;
use super::policy::set;
use crate::harness::{Answer, Caller, Office, Person, Setup, restore_challenge};

api_tests! {
    a_trial_answers_what_the_start_then_gives,
    a_trial_is_refused_as_the_start_would_be,
    a_trial_leaves_nothing_but_a_count,
    a_trial_counts_as_no_start,
    a_trial_needs_a_live_session_and_finds_what_is_over,
    a_parameter_that_is_none_is_refused,
}

fn path(subject: &Person, dry_run: bool) -> String {
    format!("/v1/users/{}/impersonate{}", subject.id, if dry_run { "?dry_run=true" } else { "" })
}

/// A problem, less what no two answers share.
fn told(answer: &Answer) -> (u16, Value) {
    let mut body = answer.body.clone();
    body.as_object_mut().unwrap().remove("request_id");
    (answer.status, body)
}

fn a_trial_answers_what_the_start_then_gives(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let article = draft(&editor);
    for body in [
        json!({ "reason": "the editor cannot act" }),
        json!({
            "reason": "the editor cannot act", "ticket": "HELP-1", "duration_seconds": 60, "mode": "read_only",
            "permissions": ["articles:create"], "resources": [format!("article:{}", article.rsplit('/').next().unwrap())],
            "restore_challenge": restore_challenge("a verifier that is long enough for this")
        }),
    ] {
        let trial = admin.post(&path(&editor, true), body.clone()).expect(200);
        let started = admin.post(&path(&editor, false), body).expect(201);
        assert_eq!((trial.value("dry_run"), trial.header("location")), (&json!(true), None));
        assert!(trial.body.get("access_token").is_none(), "{trial}");
        let (tried, real) = (trial.value("session"), started.value("session"));
        // All of it, but for what no two starts share.
        let essence = |session: &Value| {
            let mut session = session.clone();
            for pointer in ["", "/impersonation"] {
                let object = session.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
                ["id", "started_at", "expires_at", "expires_in"].iter().for_each(|member| drop(object.remove(*member)));
            }
            session
        };
        assert_eq!(essence(tried), essence(real));
        let lasts = |answer: &Answer| answer.value("expires_in").as_i64().unwrap();
        assert!((lasts(&trial) - lasts(&started)).abs() <= 1, "{trial}\n{started}");
    }
}

fn a_trial_is_refused_as_the_start_would_be(office: &Office) {
    let (admin, support, author, editor) = (office.administrator(), office.support(), office.author(), office.editor());
    let peer = office.administrator();
    let disabled = office.author();
    admin.patch(&format!("/v1/users/{}", disabled.id), json!({ "status": "disabled" })).expect(200);
    let acting = office.impersonate(&admin, &editor);
    let mut nobody = author.clone();
    nobody.id = "019aa0f0-0000-7000-8000-0000000000aa".to_owned();
    let good = json!({ "reason": "the editor cannot act" });
    let compare = |caller: &Caller, subject: &Person, body: &Value| {
        let (tried, real) = (caller.post(&path(subject, true), body.clone()), caller.post(&path(subject, false), body.clone()));
        assert!(real.status >= 400, "{real}");
        assert_eq!(told(&tried), told(&real));
    };
    for (caller, subject) in [
        (&*admin, &admin),
        (&*admin, &peer),
        (&*support, &peer),
        (&*admin, &disabled),
        (&*admin, &nobody),
        (&*author, &editor),
        (&*author, &nobody),
        (&*acting, &author),
    ] {
        compare(caller, subject, &good);
    }
    for body in
        [json!({}), json!({ "reason": "x", "duration_seconds": 0 }), json!({ "reason": "x", "colour": "red" }), json!({ "reason": "" })]
    {
        compare(&admin, &editor, &body);
    }
    set(&admin, json!({ "protected_roles": ["editor"], "read_only_roles": ["support"], "max_live_per_actor": 1, "ticket_required": true }));
    compare(&admin, &editor, &good);
    compare(&support, &author, &json!({ "reason": "x", "mode": "full" }));
    compare(&admin, &author, &good);
    compare(&support, &author, &good);
    admin.post("/v1/policy/freeze", json!({ "reason": "an incident" })).expect(200);
    compare(&admin, &author, &good);
}

fn a_trial_leaves_nothing_but_a_count(office: &Office) {
    let (admin, editor, peer) = (office.administrator(), office.editor(), office.administrator());
    let counts = || {
        let tables = ["entries", "sessions", "ways_back", "refusals", "exchanged_sessions"];
        tables.map(|table| office.db_count(&format!("SELECT count(*) FROM {table}")))
    };
    let metric = |outcome: &str| {
        let text = office.anonymous().get("/metrics").expect(200).text;
        let line = format!("actas_impersonations_dry_runs_total{{outcome=\"{outcome}\"}} ");
        text.lines().find_map(|one| one.strip_prefix(&line)).unwrap().parse::<f64>().unwrap()
    };
    let before = counts();
    let (allowed, refused) = (metric("allowed"), metric("refused"));
    admin.post(&path(&editor, true), json!({ "reason": "x" })).expect(200);
    admin.post(&path(&peer, true), json!({ "reason": "x" })).problem(403, "impersonation_refused");
    admin.post(&path(&editor, true), json!({})).problem(422, "invalid_request");
    assert_eq!(counts(), before);
    assert!((metric("allowed") - allowed - 1.0).abs() < 0.5 && (metric("refused") - refused - 2.0).abs() < 0.5);
    assert!(!office.anonymous().get("/metrics").expect(200).text.contains("actas_impersonations_started_total{mode=\"full\"} 1"));
}

fn a_trial_counts_as_no_start(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    set(&admin, json!({ "max_live_per_actor": 1, "max_starts_per_hour": 1 }));
    for _ in 0..3 {
        admin.post(&path(&editor, true), json!({ "reason": "x" })).expect(200);
    }
    admin.post(&path(&editor, false), json!({ "reason": "x" })).expect(201);
    let refused = admin.post(&path(&editor, true), json!({ "reason": "x" })).problem(403, "impersonation_refused");
    assert_eq!(refused.reasons(), ["too_many_live", "too_many_starts"]);
}

fn a_trial_needs_a_live_session_and_finds_what_is_over(setup: Setup) {
    let office = setup.with("ACCESS_TOKEN_TTL_SECONDS", 60).open();
    let (admin, editor) = (office.administrator(), office.editor());
    let trial = admin.post(&path(&editor, true), json!({ "reason": "x" })).expect(200);
    assert!(trial.value("expires_in").as_i64().unwrap() <= 60, "cut to the token's remaining life: {trial}");
    office.advance(61);
    admin.post(&path(&editor, true), json!({ "reason": "x" })).problem(401, "token_expired");
    office.anonymous().post(&path(&editor, true), json!({ "reason": "x" })).problem(401, "credentials_missing");
}

fn a_parameter_that_is_none_is_refused(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let ask = |query: &str| admin.post(&format!("/v1/users/{}/impersonate?{query}", editor.id), json!({ "reason": "x" }));
    ask("dry_run=maybe").problem(422, "invalid_request");
    ask("dry_run=1").problem(422, "invalid_request");
    ask("dryrun=true").problem(400, "unknown_parameter");
    ask("dry_run=true&dry_run=false").problem(400, "malformed_request");
    assert_eq!(admin.all_items("/v1/impersonations").len(), 0);
    ask("dry_run=false").expect(201);
}
