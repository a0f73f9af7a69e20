//! Undoing what was done in one impersonation that is over.

use serde_json::{Value, json};

use super::articles::{assign, draft, step};
use crate::harness::{Acting, Answer, Caller, Office, Person, at_once};

api_tests! {
    an_impersonation_is_undone_newest_first_by_entries_that_name_what_they_undo,
    a_dry_run_tells_the_same_and_changes_nothing,
    undoing_twice_undoes_nothing_twice,
    what_others_changed_since_is_left_alone,
    a_status_that_others_left_and_came_back_to_is_left_alone,
    what_the_workflow_no_longer_allows_is_left_alone,
    a_withdrawal_that_nobody_built_on_is_taken_back,
    an_article_that_was_created_goes_unless_others_touched_it,
    an_article_that_was_deleted_comes_back_as_it_was,
    only_what_was_done_in_that_impersonation_is_undone,
    what_stands_in_the_way_of_one_change_stops_no_other,
    a_change_before_one_that_stays_is_undone_where_it_can_be,
    an_impersonation_that_runs_can_t_be_undone,
    undoing_takes_its_own_permission_and_is_refused_under_impersonation,
    an_impersonation_without_changes_has_nothing_to_undo,
    racing_undos_undo_once,
    racing_undos_of_a_deletion_restore_it_once,
    a_long_impersonation_is_undone_in_many_short_steps,
    whoever_changes_the_article_meanwhile_is_not_overwritten,
    a_step_on_which_others_worked_is_left_alone,
}

fn undo(admin: &Caller, acting: &Acting, query: &str) -> Answer {
    admin.post_empty(&format!("/v1/impersonations/{}/undo{query}", acting.id))
}

/// Action and outcome of each change, newest first; of a conflict its code.
fn told(answer: &Answer) -> Vec<(String, String)> {
    let changes = answer.value("changes").as_array().unwrap();
    let outcome = |change: &Value| match change["conflict"]["code"].as_str() {
        Some(code) => code.to_owned(),
        None => change["outcome"].as_str().unwrap().to_owned(),
    };
    changes.iter().map(|change| (change["action"].as_str().unwrap().to_owned(), outcome(change))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(action, outcome)| ((*action).to_owned(), (*outcome).to_owned())).collect()
}

fn history(admin: &Caller, path: &str) -> Vec<Value> {
    admin.all_items(&format!("{path}/history"))
}

fn submitted(admin: &Person, author: &Person, editor: &Person) -> String {
    let path = draft(author);
    step(author, &path, "submit");
    assign(admin, &path, editor);
    path
}

/// An article without what every change of it changes.
fn essence(answer: &Answer) -> Value {
    let mut body = answer.body.clone();
    for member in ["version", "updated_at", "actions"] {
        body.as_object_mut().unwrap().remove(member);
    }
    body
}

fn an_impersonation_is_undone_newest_first_by_entries_that_name_what_they_undo(office: &Office) {
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    let path = submitted(&admin, &author, &editor);
    let before = admin.get(&path).expect(200);
    let acting = office.impersonate(&admin, &editor);
    acting.patch(&path, json!({ "title": "Changed", "abstract": "Changed too" })).expect(200);
    step(&acting, &path, "start_review");
    acting.post(&format!("{path}/actions"), json!({ "action": "accept", "comment": "fine" })).expect(200);
    acting.log_out().expect(200);
    let undoer = office.administrator();
    let undone = undo(&undoer, &acting, "").expect(200);
    let expected = [("article.accepted", "undone"), ("article.review_started", "undone"), ("article.updated", "undone")];
    assert_eq!(told(&undone), pairs(&expected));
    assert_eq!((undone.value("dry_run"), undone.str("impersonation_id")), (&json!(false), acting.id.as_str()));
    let after = admin.get(&path).expect(200);
    assert_eq!(essence(&after), essence(&before));
    let entries = history(&admin, &path);
    // Six before, and one for each that was undone.
    assert_eq!(entries.len(), 9);
    for (index, change) in undone.value("changes").as_array().unwrap().iter().rev().enumerate() {
        let compensation = &entries[index];
        assert_eq!((&compensation["id"], &compensation["action"]), (&change["undone_by"], &json!("article.change_undone")));
        assert_eq!(compensation["changes"]["undoes"], json!({ "from": null, "to": change["entry_id"] }));
        assert_eq!((&compensation["subject"]["id"], &compensation["actor"]), (&json!(undoer.id), &Value::Null));
        let note = format!("undoes `{}` by {} acting as {}", change["action"].as_str().unwrap(), admin.display_name, editor.display_name);
        assert_eq!(compensation["note"], json!(note));
    }
    assert_eq!(entries[2]["changes"]["status"], json!({ "from": "accepted", "to": "under_review" }));
    assert_eq!(entries[0]["changes"]["title"], json!({ "from": "Changed", "to": "On tides" }));
}

fn a_dry_run_tells_the_same_and_changes_nothing(office: &Office) {
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    let path = submitted(&admin, &author, &editor);
    let acting = office.impersonate(&admin, &editor);
    acting.patch(&path, json!({ "title": "Changed" })).expect(200);
    step(&acting, &path, "reject");
    acting.log_out().expect(200);
    let (article, entries) = (admin.get(&path).expect(200).body, office.db_count("SELECT count(*) FROM entries"));
    let mut tried = undo(&admin, &acting, "?dry_run=true").expect(200);
    assert_eq!(tried.value("dry_run"), &json!(true));
    assert_eq!((admin.get(&path).expect(200).body, office.db_count("SELECT count(*) FROM entries")), (article, entries));
    let real = undo(&admin, &acting, "?dry_run=false").expect(200);
    for change in tried.body["changes"].as_array_mut().unwrap() {
        assert_eq!(change["undone_by"], Value::Null);
    }
    assert_eq!(told(&tried), told(&real));
    undo(&admin, &acting, "?dry_run=x").problem(422, "invalid_request");
    undo(&admin, &acting, "?dry=true").problem(400, "unknown_parameter");
}

fn undoing_twice_undoes_nothing_twice(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let path = draft(&author);
    let acting = office.impersonate(&admin, &author);
    acting.patch(&path, json!({ "title": "Changed" })).expect(200);
    acting.log_out().expect(200);
    undo(&admin, &acting, "").expect(200);
    let version = admin.get(&path).expect(200).value("version").clone();
    assert_eq!(told(&undo(&admin, &acting, "").expect(200)), pairs(&[("article.updated", "already_undone")]));
    assert_eq!(admin.get(&path).expect(200).value("version"), &version);
    // What is done again, by somebody else, is theirs.
    author.patch(&path, json!({ "title": "Changed" })).expect(200);
    assert_eq!(told(&undo(&admin, &acting, "").expect(200)), pairs(&[("article.updated", "already_undone")]));
    assert_eq!(admin.get(&path).expect(200).str("title"), "Changed");
}

fn what_others_changed_since_is_left_alone(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let path = draft(&author);
    let acting = office.impersonate(&admin, &author);
    acting.patch(&path, json!({ "title": "Theirs", "abstract": "Theirs" })).expect(200);
    acting.patch(&path, json!({ "body": "Theirs" })).expect(200);
    acting.log_out().expect(200);
    author.patch(&path, json!({ "abstract": "Mine" })).expect(200);
    let undone = undo(&admin, &acting, "").expect(200);
    assert_eq!(told(&undone), pairs(&[("article.updated", "undone"), ("article.updated", "changed_since")]));
    let article = admin.get(&path).expect(200);
    assert_eq!((article.str("title"), article.str("abstract"), article.str("body")), ("Theirs", "Mine", "It does."));
    let conflict = &undone.value("changes")[1]["conflict"];
    assert!(!conflict["detail"].as_str().unwrap().is_empty());
    // Where the other change is taken back by its author, it is one all the same.
    author.patch(&path, json!({ "abstract": "Theirs" })).expect(200);
    assert_eq!(told(&undo(&admin, &acting, "").expect(200))[1].1, "changed_since");
}

fn a_status_that_others_left_and_came_back_to_is_left_alone(office: &Office) {
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    let path = submitted(&admin, &author, &editor);
    step(&editor, &path, "start_review");
    let acting = office.impersonate(&admin, &editor);
    step(&acting, &path, "accept");
    acting.log_out().expect(200);
    step(&editor, &path, "revert_decision");
    step(&editor, &path, "accept");
    assert_eq!(told(&undo(&admin, &acting, "").expect(200)), pairs(&[("article.accepted", "changed_since")]));
    assert_eq!(admin.get(&path).expect(200).str("status"), "accepted", "it is the editor's own decision now");
}

fn what_the_workflow_no_longer_allows_is_left_alone(office: &Office) {
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    // A text that can't be edited any more.
    let path = submitted(&admin, &author, &editor);
    let acting = office.impersonate(&admin, &editor);
    acting.patch(&path, json!({ "title": "Changed" })).expect(200);
    acting.log_out().expect(200);
    for action in ["start_review", "accept"] {
        step(&editor, &path, action);
    }
    step(&admin, &path, "publish");
    assert_eq!(told(&undo(&admin, &acting, "").expect(200)), pairs(&[("article.updated", "workflow_forbids")]));
    assert_eq!(admin.get(&path).expect(200).str("title"), "Changed");
    // A draft that has an editor.
    let path = draft(&author);
    let acting = office.impersonate(&admin, &author);
    step(&acting, &path, "submit");
    acting.log_out().expect(200);
    assign(&admin, &path, &editor);
    assert_eq!(told(&undo(&admin, &acting, "").expect(200)), pairs(&[("article.submitted", "workflow_forbids")]));
    assert_eq!(admin.get(&path).expect(200).str("status"), "submitted");
}

fn a_withdrawal_that_nobody_built_on_is_taken_back(office: &Office) {
    // No step leads out of `withdrawn`. Undoing is none: it takes back what was done in somebody's name.
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    let path = submitted(&admin, &author, &editor);
    let acting = office.impersonate(&admin, &author);
    step(&acting, &path, "withdraw");
    acting.log_out().expect(200);
    assert_eq!(told(&undo(&admin, &acting, "").expect(200)), pairs(&[("article.withdrawn", "undone")]));
    assert_eq!(admin.get(&path).expect(200).str("status"), "submitted");
    step(&editor, &path, "start_review");
}

fn an_article_that_was_created_goes_unless_others_touched_it(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let acting = office.impersonate(&admin, &author);
    let create = |title: &str| {
        let made = acting.post("/v1/articles", json!({ "title": title, "abstract": "", "body": "" })).expect(201);
        format!("/v1/articles/{}", made.str("id"))
    };
    let (gone, edited_there, touched) = (create("one"), create("two"), create("three"));
    acting.patch(&edited_there, json!({ "title": "more" })).expect(200);
    step(&acting, &edited_there, "submit");
    acting.log_out().expect(200);
    author.patch(&touched, json!({ "body": "mine" })).expect(200);
    let undone = undo(&admin, &acting, "").expect(200);
    let expected = [
        ("article.submitted", "undone"),
        ("article.updated", "undone"),
        ("article.created", "changed_since"),
        ("article.created", "undone"),
        ("article.created", "undone"),
    ];
    assert_eq!(told(&undone), pairs(&expected));
    for path in [&gone, &edited_there] {
        author.get(path).problem(404, "not_found");
        let entries = history(&admin, path);
        assert_eq!(entries[0]["action"], "article.deleted");
        assert_eq!(entries[0]["changes"]["undoes"]["to"], entries.last().unwrap()["id"]);
    }
    author.get(&touched).expect(200);
    let again = undo(&admin, &acting, "").expect(200);
    assert!(told(&again).iter().all(|(_, outcome)| ["already_undone", "changed_since"].contains(&outcome.as_str())), "{again}");
}

fn an_article_that_was_deleted_comes_back_as_it_was(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let path = draft(&author);
    let before = author.get(&path).expect(200);
    let acting = office.impersonate(&admin, &author);
    acting.patch(&path, json!({ "title": "About to go" })).expect(200);
    acting.delete(&path).expect(204);
    acting.log_out().expect(200);
    author.get(&path).problem(404, "not_found");
    let undone = undo(&admin, &acting, "").expect(200);
    assert_eq!(told(&undone), pairs(&[("article.deleted", "undone"), ("article.updated", "undone")]));
    let after = author.get(&path).expect(200);
    assert_eq!(essence(&after), essence(&before));
    assert_eq!(after.value("version"), &json!(5), "its history goes on");
    let entries = history(&author, &path);
    assert_eq!((&entries[1]["action"], &entries[1]["changes"]["undoes"]["to"]), (&json!("article.restored"), &entries[2]["id"]));
    assert_eq!(
        told(&undo(&admin, &acting, "").expect(200)),
        pairs(&[("article.deleted", "already_undone"), ("article.updated", "already_undone")])
    );
    // It is an article like any other.
    author.patch(&path, json!({ "title": "On and on" })).expect(200);
    author.delete(&path).expect(204);
    assert_eq!(told(&undo(&admin, &acting, "").expect(200))[0].1, "already_undone");
}

fn only_what_was_done_in_that_impersonation_is_undone(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let path = draft(&author);
    let (first, second) = (office.impersonate(&admin, &author), office.impersonate(&admin, &author));
    first.patch(&path, json!({ "title": "First" })).expect(200);
    second.patch(&path, json!({ "abstract": "Second" })).expect(200);
    author.patch(&path, json!({ "body": "Mine" })).expect(200);
    first.log_out().expect(200);
    second.log_out().expect(200);
    assert_eq!(told(&undo(&admin, &first, "").expect(200)), pairs(&[("article.updated", "undone")]));
    let article = admin.get(&path).expect(200);
    assert_eq!((article.str("title"), article.str("abstract"), article.str("body")), ("On tides", "Second", "Mine"));
}

fn what_stands_in_the_way_of_one_change_stops_no_other(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let (mine, theirs) = (draft(&author), draft(&author));
    let acting = office.impersonate(&admin, &author);
    acting.patch(&mine, json!({ "title": "Changed" })).expect(200);
    acting.patch(&theirs, json!({ "title": "Changed" })).expect(200);
    acting.log_out().expect(200);
    author.patch(&mine, json!({ "title": "Mine again" })).expect(200);
    assert_eq!(told(&undo(&admin, &acting, "").expect(200)), pairs(&[("article.updated", "undone"), ("article.updated", "changed_since")]));
    assert_eq!((admin.get(&mine).expect(200).str("title"), admin.get(&theirs).expect(200).str("title")), ("Mine again", "On tides"));
}

fn a_change_before_one_that_stays_is_undone_where_it_can_be(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let path = draft(&author);
    let acting = office.impersonate(&admin, &author);
    acting.patch(&path, json!({ "title": "One" })).expect(200);
    acting.patch(&path, json!({ "title": "Two", "abstract": "Two" })).expect(200);
    acting.patch(&path, json!({ "body": "Three" })).expect(200);
    acting.log_out().expect(200);
    author.patch(&path, json!({ "abstract": "Mine" })).expect(200);
    let expected = [("article.updated", "undone"), ("article.updated", "changed_since"), ("article.updated", "changed_since")];
    assert_eq!(told(&undo(&admin, &acting, "").expect(200)), pairs(&expected), "what stays is in the way of what came before it");
    let article = admin.get(&path).expect(200);
    assert_eq!((article.str("title"), article.str("abstract"), article.str("body")), ("Two", "Mine", "It does."));
}

fn an_impersonation_that_runs_can_t_be_undone(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let path = draft(&author);
    let acting = office.impersonate_with(&admin, &author, json!({ "duration_seconds": 10 }));
    acting.patch(&path, json!({ "title": "Changed" })).expect(200);
    undo(&admin, &acting, "").problem(409, "impersonation_live");
    undo(&admin, &acting, "?dry_run=true").problem(409, "impersonation_live");
    assert_eq!(admin.get(&path).expect(200).str("title"), "Changed");
    // Over by its time, whether anyone has noticed or not.
    office.advance(10);
    assert_eq!(told(&undo(&admin, &acting, "").expect(200)), pairs(&[("article.updated", "undone")]));
}

fn undoing_takes_its_own_permission_and_is_refused_under_impersonation(office: &Office) {
    let (admin, support, author, editor) = (office.administrator(), office.support(), office.author(), office.editor());
    let path = draft(&author);
    let acting = office.impersonate(&support, &author);
    acting.patch(&path, json!({ "title": "Changed" })).expect(200);
    undo(&acting, &acting, "").problem(403, "forbidden_under_impersonation");
    acting.log_out().expect(200);
    for caller in [&support, &author, &editor] {
        undo(caller, &acting, "").problem(403, "missing_permission");
        undo(caller, &acting, "?dry_run=true").problem(403, "missing_permission");
    }
    undo(&office.impersonate(&admin, &editor), &acting, "").problem(403, "forbidden_under_impersonation");
    for id in [&author.session_id, "019aa0f0-0000-7000-8000-0000000000aa", "x"] {
        admin.post_empty(&format!("/v1/impersonations/{id}/undo")).problem(404, "not_found");
    }
    undo(&admin, &acting, "").expect(200);
}

fn an_impersonation_without_changes_has_nothing_to_undo(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    acting.log_out().expect(200);
    assert_eq!(undo(&admin, &acting, "").expect(200).value("changes"), &json!([]));
}

fn racing_undos_undo_once(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let paths: Vec<String> = (0..3).map(|_| draft(&author)).collect();
    let acting = office.impersonate(&admin, &author);
    for path in &paths {
        acting.patch(path, json!({ "title": "Changed" })).expect(200);
    }
    acting.log_out().expect(200);
    let admins: Vec<Person> = (0..6).map(|_| office.administrator()).collect();
    let answers = at_once(6, |number| match number {
        // Meanwhile somebody works on.
        0 => author.patch(&paths[0], json!({ "body": "Mine" })).expect(200),
        number => undo(&admins[number], &acting, "").expect(200),
    });
    let undone = answers[1..].iter().flat_map(told).filter(|(_, outcome)| outcome == "undone").count();
    assert_eq!(undone, 3, "each once");
    for path in &paths {
        let article = admin.get(path).expect(200);
        assert_eq!(article.str("title"), "On tides");
        assert_eq!(article.value("version").as_i64().unwrap(), i64::try_from(history(&admin, path).len()).unwrap());
    }
}

fn racing_undos_of_a_deletion_restore_it_once(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let admins: Vec<Person> = (0..6).map(|_| office.administrator()).collect();
    for _ in 0..3 {
        let path = draft(&author);
        let acting = office.impersonate(&admin, &author);
        acting.delete(&path).expect(204);
        acting.log_out().expect(200);
        let answers = at_once(6, |number| undo(&admins[number], &acting, "").expect(200));
        let outcomes: Vec<_> = answers.iter().flat_map(told).map(|(_, outcome)| outcome).collect();
        assert_eq!(outcomes.iter().filter(|outcome| *outcome == "undone").count(), 1, "{outcomes:?}");
        assert_eq!(author.get(&path).expect(200).value("version"), &json!(3));
    }
}

fn a_long_impersonation_is_undone_in_many_short_steps(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let path = draft(&author);
    let acting = office.impersonate(&admin, &author);
    for number in 0..50 {
        acting.patch(&path, json!({ "title": format!("Number {number}") })).expect(200);
    }
    acting.log_out().expect(200);
    let tried = undo(&admin, &acting, "?dry_run=true").expect(200);
    let undone = undo(&admin, &acting, "").expect(200);
    assert_eq!(told(&undone), told(&tried));
    assert_eq!((told(&undone).len(), undone.value("complete")), (50, &json!(true)));
    assert!(told(&undone).iter().all(|(_, outcome)| outcome == "undone"));
    let article = admin.get(&path).expect(200);
    assert_eq!((article.str("title"), article.value("version")), ("On tides", &json!(101)));
}

fn whoever_changes_the_article_meanwhile_is_not_overwritten(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let path = draft(&author);
    let acting = office.impersonate(&admin, &author);
    for number in 0..60 {
        acting.patch(&path, json!({ "title": format!("Number {number}") })).expect(200);
    }
    acting.log_out().expect(200);
    let answers = at_once(2, |number| match number {
        0 => undo(&admin, &acting, "").expect(200),
        _ => author.patch(&path, json!({ "title": "Mine" })).expect(200),
    });
    assert_eq!(admin.get(&path).expect(200).str("title"), "Mine");
    // Whatever came first, what the answer says was undone has its entry.
    let changes = answers[0].value("changes").as_array().unwrap();
    let undone: Vec<&str> = changes.iter().filter_map(|change| change["undone_by"].as_str()).collect();
    let written = history(&admin, &path).iter().filter(|entry| entry["action"] == "article.change_undone").count();
    assert_eq!(undone.len(), written);
}

fn a_step_on_which_others_worked_is_left_alone(office: &Office) {
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    let path = submitted(&admin, &author, &editor);
    step(&editor, &path, "start_review");
    let acting = office.impersonate(&admin, &editor);
    step(&acting, &path, "request_revision");
    acting.log_out().expect(200);
    // Which only a requested revision allows.
    author.patch(&path, json!({ "body": "Half done" })).expect(200);
    let undone = undo(&admin, &acting, "").expect(200);
    assert_eq!(told(&undone), pairs(&[("article.revision_requested", "workflow_forbids")]));
    author.patch(&path, json!({ "body": "Done" })).expect(200);
}
