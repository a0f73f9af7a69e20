//! Many at once: whatever the order turns out to be, it is one in which they could have come one after the other.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::{Acting, Answer, Caller, Office, Person, at_once};

api_tests! {
    of_fifty_parallel_logouts_one_gets_the_token,
    of_parallel_logouts_of_an_own_session_one_ends_it,
    of_parallel_edits_of_one_version_one_wins,
    parallel_edits_follow_one_another_without_a_gap,
    of_parallel_steps_of_the_workflow_one_is_taken,
    parallel_ends_of_one_impersonation_leave_one_entry,
    nothing_commits_under_an_impersonation_after_its_end_has_answered,
    no_impersonation_outlives_its_original_session,
    parallel_starts_are_all_impersonations_of_their_own,
    parallel_refusals_are_one_entry_with_their_number,
    two_administrators_who_demote_each_other_leave_one,
    a_setup_token_used_at_once_sets_one_password,
    a_password_changed_at_once_changes_once,
    an_email_address_taken_at_once_is_taken_once,
    [sqlite] a_second_server_on_the_same_file_is_refused,
    [postgres] what_one_instance_ends_is_dead_on_the_other,
    [postgres] of_logouts_on_two_instances_one_gets_the_token,
    [postgres] refreshes_on_two_instances_get_the_same_successor,
    [postgres] nothing_commits_on_one_instance_after_an_end_on_the_other,
}

fn draft() -> Value {
    json!({ "title": "On tides", "abstract": "Why the sea moves.", "body": "It just does." })
}

/// How many of these answered so.
fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

/// The entries that say that this impersonation ended.
fn ends_of(reader: &Caller, acting: &Acting) -> Vec<Value> {
    reader.all_items(&format!("/v1/history?action=impersonation.ended&resource_id={}", acting.id))
}

fn new_article(writer: &Caller) -> String {
    format!("/v1/articles/{}", writer.post("/v1/articles", draft()).expect(201).str("id"))
}

fn one_gets_the_token(admin: &Person, acting: &Acting, answers: Vec<Answer>) {
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(won.len(), 1, "{}", lost[0]);
    assert_eq!(won[0].str("access_token"), admin.access_token);
    for answer in lost {
        assert_eq!(answer.problem(401, "impersonation_ended").str("cause"), "logout");
    }
    assert_eq!(ends_of(admin, acting).len(), 1);
}

fn of_fifty_parallel_logouts_one_gets_the_token(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    one_gets_the_token(&admin, &acting, at_once(50, |_| acting.log_out()));

    // As many after it ended by itself.
    let acting = office.impersonate_with(&admin, &editor, json!({ "duration_seconds": 60 }));
    office.advance(61);
    let answers = at_once(50, |_| acting.log_out());
    assert_eq!((count(&answers, 200), count(&answers, 401)), (1, 49));
    assert_eq!(ends_of(&admin, &acting).len(), 1);
}

fn of_parallel_logouts_of_an_own_session_one_ends_it(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let answers = at_once(20, |_| editor.log_out());
    assert_eq!((count(&answers, 204), count(&answers, 401)), (1, 19));
    assert_eq!(admin.all_items(&format!("/v1/history?action=session.ended&resource_id={}", editor.session_id)).len(), 1);
}

fn of_parallel_edits_of_one_version_one_wins(office: &Office) {
    let author = office.author();
    let path = new_article(&author);
    let answers = at_once(20, |number| {
        author.request("PATCH", &path).header("If-Match", "\"1\"").json(&json!({ "title": format!("Edit {number}") })).send()
    });
    assert_eq!((count(&answers, 200), count(&answers, 412)), (1, 19));
    let won = answers.iter().find(|answer| answer.status == 200).unwrap();
    let article = author.get(&path).expect(200);
    assert_eq!((article.value("version"), article.str("title")), (&json!(2), won.str("title")));
    assert_eq!(author.all_items(&format!("{path}/history")).len(), 2);
}

fn parallel_edits_follow_one_another_without_a_gap(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let acting = office.impersonate(&admin, &author);
    let path = new_article(&author);
    let answers = at_once(20, |number| {
        let caller: &Caller = if number % 2 == 0 { &author } else { &acting };
        caller.patch(&path, json!({ "title": format!("Edit {number}") }))
    });
    let versions: BTreeSet<_> = answers.into_iter().map(|answer| answer.expect(200).value("version").as_i64().unwrap()).collect();
    assert_eq!(versions, (2..=21).collect());

    let mut entries = author.all_items(&format!("{path}/history?limit=7"));
    entries.reverse();
    let told: Vec<_> = entries.iter().map(|entry| entry["resource"]["version"].as_i64().unwrap()).collect();
    assert_eq!(told, (1..=21).collect::<Vec<_>>());
    for pair in entries.windows(2) {
        assert!(pair[0]["seq"].as_i64() < pair[1]["seq"].as_i64());
        assert_eq!(pair[0]["changes"]["title"]["to"], pair[1]["changes"]["title"]["from"]);
    }
    assert_eq!(author.get(&path).expect(200).value("title"), &entries[20]["changes"]["title"]["to"]);
    assert_eq!(entries.iter().filter(|entry| entry["actor"] == admin.user_ref()).count(), 10);
}

fn of_parallel_steps_of_the_workflow_one_is_taken(office: &Office) {
    let author = office.author();
    let path = new_article(&author);
    let answers = at_once(10, |_| author.post(&format!("{path}/actions"), json!({ "action": "submit" })));
    assert_eq!((count(&answers, 200), count(&answers, 409)), (1, 9));
    assert_eq!(author.get(&path).expect(200).value("version"), 2);
}

fn parallel_ends_of_one_impersonation_leave_one_entry(office: &Office) {
    let (admin, chief, editor) = (office.administrator(), office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    let path = format!("/v1/impersonations/{}", acting.id);
    let answers = at_once(12, |number| [&admin, &chief, &editor][number % 3].delete(&path));
    assert_eq!(count(&answers, 204), 12);
    assert_eq!(ends_of(&chief, &acting).len(), 1);
}

/// Lets writes stream in under `acting` at `at`, ends it in their midst, and demands that nothing of theirs commits any more once the end has answered.
fn end_amid_writes(office: &Office, acting: &Acting, at: &Caller, end: &(dyn Fn() + Sync)) {
    const WRITERS: usize = 4;
    let path = new_article(at);
    let entries = format!("SELECT count(*) FROM entries WHERE impersonation_id = '{}'", acting.id);
    let (written, has_ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let seen = at_once(WRITERS + 1, |number| {
        if number == WRITERS {
            while written.load(Ordering::SeqCst) < 2 * WRITERS {
                std::thread::yield_now();
            }
            // Told even where the end fails, or its writers would go on for ever.
            let ended = catch_unwind(AssertUnwindSafe(end));
            has_ended.store(true, Ordering::SeqCst);
            if let Err(panic) = ended {
                resume_unwind(panic);
            }
            return office.db_count(&entries);
        }
        for round in 0.. {
            let is_late = has_ended.load(Ordering::SeqCst);
            let answer = match number {
                0 => at.post("/v1/articles", draft()),
                _ => at.patch(&path, json!({ "title": format!("Edit {round} of {number}") })),
            };
            if !matches!(answer.status, 200 | 201) {
                answer.problem(401, "impersonation_ended");
                break;
            }
            assert!(!is_late, "a write was accepted after the end had answered");
            written.fetch_add(1, Ordering::SeqCst);
        }
        0
    });
    // All that was acknowledged is there, and nothing came after.
    let committed = office.db_count(&entries);
    assert_eq!(committed, seen[WRITERS], "an entry was committed after the end had answered");
    assert!(committed > i64::try_from(written.load(Ordering::SeqCst)).unwrap(), "the article itself, and every write");
    let last = |condition: &str| office.db_count(&format!("SELECT max(seq) FROM entries WHERE {condition}"));
    let end = last(&format!("action = 'impersonation.ended' AND resource_id = '{}'", acting.id));
    assert!(last(&format!("impersonation_id = '{}' AND action <> 'impersonation.ended'", acting.id)) < end);
    assert_eq!(
        office.db_count(
            "SELECT count(*) FROM articles a WHERE version <> (SELECT max(resource_version) FROM entries WHERE resource_id = a.id)"
        ),
        0
    );
}

fn nothing_commits_under_an_impersonation_after_its_end_has_answered(office: &Office) {
    let chief = office.administrator();
    for how in ["logout", "deletion", "the actor's logout", "the actor's end", "demotion", "promotion", "a password"] {
        let (admin, editor) = (office.administrator(), office.editor());
        let acting = office.impersonate(&admin, &editor);
        let set = |user: &Person, change: Value| drop(chief.patch(&format!("/v1/users/{}", user.id), change).expect(200));
        end_amid_writes(office, &acting, &acting, &|| match how {
            "logout" => assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token),
            "deletion" => drop(chief.delete(&format!("/v1/impersonations/{}", acting.id)).expect(204)),
            "the actor's logout" => drop(admin.log_out().expect(204)),
            "the actor's end" => set(&admin, json!({ "status": "disabled" })),
            "demotion" => set(&admin, json!({ "role": "author" })),
            "promotion" => set(&editor, json!({ "role": "support" })),
            _ => {
                let body = json!({ "current_password": editor.password, "new_password": "another password" });
                editor.put("/v1/me/password", body).expect(204);
            }
        });
        assert_eq!(ends_of(&chief, &acting).len(), 1, "{how}");
    }
}

fn no_impersonation_outlives_its_original_session(office: &Office) {
    let (chief, editor) = (office.administrator(), office.editor());
    for _ in 0..3 {
        let admin = office.administrator();
        let path = format!("/v1/users/{}/impersonate", editor.id);
        let started = at_once(9, |number| {
            if number == 4 {
                admin.log_out().expect(204);
                return None;
            }
            let answer = admin.post(&path, json!({ "reason": "to race" }));
            if answer.status == 201 {
                return Some(answer.str("access_token").to_owned());
            }
            answer.problem(401, "session_ended");
            None
        });
        for token in started.into_iter().flatten() {
            admin.with_token(&token).get("/v1/me").problem(401, "impersonation_ended");
        }
        assert_eq!(chief.all_items(&format!("/v1/impersonations?status=live&actor={}", admin.id)).len(), 0);
    }
}

fn parallel_starts_are_all_impersonations_of_their_own(office: &Office) {
    let (admin, sue, editor) = (office.administrator(), office.support(), office.editor());
    let started = at_once(20, |number| office.impersonate(if number % 2 == 0 { &admin } else { &sue }, &editor));
    let ids: BTreeSet<_> = started.iter().map(|acting| acting.id.as_str()).collect();
    assert_eq!(ids.len(), 20);
    let restored = at_once(20, |number| started[number].log_out().expect(200).str("access_token").to_owned());
    for (number, token) in restored.iter().enumerate() {
        assert_eq!(token, if number % 2 == 0 { &admin.access_token } else { &sue.access_token });
    }
}

fn parallel_refusals_are_one_entry_with_their_number(office: &Office) {
    let (admin, sue) = (office.administrator(), office.support());
    office.advance(60 - office.now().timestamp().rem_euclid(60));
    let path = format!("/v1/users/{}/impersonate", admin.id);
    for answer in at_once(20, |_| sue.post(&path, json!({ "reason": "to race" }))) {
        answer.problem(403, "impersonation_refused");
    }
    let entries = admin.all_items("/v1/history?action=impersonation.refused");
    assert_eq!((entries.len(), &entries[0]["count"]), (1, &json!(20)));
}

fn two_administrators_who_demote_each_other_leave_one(office: &Office) {
    let active = "SELECT count(*) FROM users WHERE role = 'administrator' AND status = 'active'";
    let mut one = office.administrator();
    for change in [json!({ "role": "author" }), json!({ "status": "disabled" }), json!({ "role": "support", "status": "disabled" })] {
        let other = office.administrator();
        let pair = [one, other];
        let answers = at_once(2, |number| pair[number].patch(&format!("/v1/users/{}", pair[1 - number].id), change.clone()));
        assert_eq!(count(&answers, 200), 1, "{}\n{}", answers[0], answers[1]);
        assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 401 | 403 | 409)), "{}\n{}", answers[0], answers[1]);
        assert_eq!(office.db_count(active), 1);
        let winner = usize::from(answers[1].status == 200);
        one = pair[winner].clone();
        let outcome = one.patch(&format!("/v1/users/{}", one.id), json!({ "role": "author" })).expect(403);
        assert_eq!(outcome.reasons(), ["own_account"]);
    }
}

fn a_setup_token_used_at_once_sets_one_password(office: &Office) {
    let admin = office.administrator();
    let body = json!({ "email": "fresh@example.org", "display_name": "Fresh", "role": "author" });
    let token = admin.post("/v1/users", body).expect(201).str("setup_token").to_owned();
    let password = |number: usize| format!("a fresh password {number}");
    let nobody = office.anonymous();
    let answers = at_once(10, |number| nobody.post("/v1/auth/password", json!({ "setup_token": token, "new_password": password(number) })));
    assert_eq!((count(&answers, 204), count(&answers, 401)), (1, 9));
    let right = answers.iter().position(|answer| answer.status == 204).unwrap();
    let logins: Vec<_> = (0..10)
        .map(|number| nobody.post("/v1/auth/login", json!({ "email": "fresh@example.org", "password": password(number) })))
        .collect();
    assert_eq!((count(&logins, 200), logins[right].status), (1, 200));
}

fn a_password_changed_at_once_changes_once(office: &Office) {
    let editor = office.editor();
    let answers = at_once(8, |number| {
        let body = json!({ "current_password": editor.password, "new_password": format!("another password {number}") });
        editor.put("/v1/me/password", body)
    });
    assert_eq!((count(&answers, 204), count(&answers, 401)), (1, 7));
    let right = answers.iter().position(|answer| answer.status == 204).unwrap();
    let body = json!({ "email": editor.email, "password": format!("another password {right}") });
    office.anonymous().post("/v1/auth/login", body).expect(200);
}

fn an_email_address_taken_at_once_is_taken_once(office: &Office) {
    let admin = office.administrator();
    let answers = at_once(10, |number| {
        let email = if number % 2 == 0 { "fresh@example.org" } else { "Fresh@Example.ORG" };
        admin.post("/v1/users", json!({ "email": email, "display_name": "Fresh", "role": "author" }))
    });
    assert_eq!(count(&answers, 201), 1);
    for answer in answers.into_iter().filter(|answer| answer.status != 201) {
        answer.problem(409, "email_taken");
    }
    assert_eq!(admin.all_items("/v1/history?action=user.created").len(), 2, "the administrator, and one more");
}

fn a_second_server_on_the_same_file_is_refused(office: &Office) {
    let editor = office.editor();
    let why = office.second_instance().err().expect("a second server");
    assert!(why.contains("another actas server"), "{why}");
    editor.get("/v1/me").expect(200);
}

fn what_one_instance_ends_is_dead_on_the_other(office: &Office) {
    let second = office.second_instance().unwrap();
    let (admin, chief, editor) = (office.administrator(), office.administrator(), office.editor());
    for _ in 0..3 {
        let (left, ended) = (office.impersonate(&admin, &editor), office.impersonate(&admin.at(&second), &editor));
        for acting in [&left, &ended] {
            acting.at(office).get("/v1/me").expect(200);
            acting.at(&second).get("/v1/me").expect(200);
        }
        assert_eq!(left.log_out().expect(200).str("access_token"), admin.access_token);
        left.at(&second).get("/v1/me").problem(401, "impersonation_ended");
        chief.delete(&format!("/v1/impersonations/{}", ended.id)).expect(204);
        ended.at(&second).get("/v1/me").problem(401, "impersonation_ended");
        ended.at(&second).post("/v1/articles", draft()).problem(401, "impersonation_ended");
    }
    let acting = office.impersonate(&admin, &editor);
    admin.at(&second).post_empty("/v1/auth/logout").expect(204);
    admin.get("/v1/me").problem(401, "session_ended");
    acting.get("/v1/me").problem(401, "impersonation_ended");
}

fn of_logouts_on_two_instances_one_gets_the_token(office: &Office) {
    let second = office.second_instance().unwrap();
    let admin = office.administrator();
    let acting = office.impersonate(&admin, &office.editor());
    let body = json!({ "restore_verifier": acting.restore_verifier });
    let there = acting.at(&second);
    let answers = at_once(30, |number| if number % 2 == 0 { acting.log_out() } else { there.post("/v1/auth/logout", body.clone()) });
    one_gets_the_token(&admin, &acting, answers);
}

fn refreshes_on_two_instances_get_the_same_successor(office: &Office) {
    let second = office.second_instance().unwrap();
    let editor = office.editor();
    let body = json!({ "refresh_token": editor.refresh_token });
    let instances = [office.anonymous(), second.anonymous()];
    let answers = at_once(20, |number| instances[number % 2].post("/v1/auth/refresh", body.clone()));
    let successors: BTreeSet<_> = answers.into_iter().map(|answer| answer.expect(200).str("refresh_token").to_owned()).collect();
    assert_eq!(successors.len(), 1);
}

fn nothing_commits_on_one_instance_after_an_end_on_the_other(office: &Office) {
    let second = office.second_instance().unwrap();
    let (admin, chief, editor) = (office.administrator(), office.administrator(), office.editor());
    for how in ["logout", "deletion", "the actor's logout"] {
        let acting = office.impersonate(&admin, &editor);
        let there = acting.at(&second);
        end_amid_writes(office, &acting, &there, &|| match how {
            "logout" => drop(acting.log_out().expect(200)),
            "deletion" => drop(chief.delete(&format!("/v1/impersonations/{}", acting.id)).expect(204)),
            _ => drop(admin.log_out().expect(204)),
        });
    }
}
