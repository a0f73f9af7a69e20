//! The history: what writes to it, what each entry says, who may read it, and how it is searched.

use std::cell::Cell;

use serde_json::{Value, json};

use super::articles::{assign, draft, step};
use crate::harness::{Acting, Answer, Backend, Caller, Office, Person, Setup};

api_tests! {
    every_change_of_an_article_writes_one_entry_that_names_whoever_made_it,
    every_change_of_an_account_writes_one_entry_that_names_whoever_made_it,
    every_session_and_impersonation_is_told_of_from_its_start_to_its_end,
    what_changes_nothing_writes_nothing,
    a_refused_start_is_one_entry_a_minute_with_a_count,
    a_limit_that_trips_is_one_entry_about_a_known_account,
    the_command_line_and_actas_itself_name_nobody_and_say_why,
    what_time_ends_is_told_of_by_actas_itself,
    entries_keep_the_names_as_they_were,
    no_entry_holds_a_password_a_hash_or_a_token,
    the_history_is_for_whoever_may_read_it,
    a_deleted_articles_history_stays_for_who_sees_all_articles,
    an_articles_history_is_about_articles_only,
    each_filter_finds_what_it_says_alone_and_with_others,
    a_span_of_time_begins_with_its_first_instant_and_ends_before_its_last,
    a_page_never_shifts_because_entries_were_added,
    what_changes_an_account_and_what_does_not_are_one_history_in_its_order,
    every_listing_is_answered_from_an_index_without_sorting,
}

/// Reads what is new in the history since it was last asked.
struct Ledger {
    reader: Person,
    last: Cell<i64>,
}

impl Ledger {
    fn open(office: &Office) -> Self {
        let ledger = Self { reader: office.administrator(), last: Cell::new(0) };
        ledger.news();
        ledger
    }

    /// The new entries, oldest first.
    fn news(&self) -> Vec<Value> {
        let mut entries = self.reader.get("/v1/history?limit=200").expect(200).items().to_vec();
        entries.retain(|entry| entry["seq"].as_i64().unwrap() > self.last.get());
        entries.reverse();
        if let Some(last) = entries.last() {
            self.last.set(last["seq"].as_i64().unwrap());
        }
        entries
    }

    /// The one new entry.
    #[track_caller]
    fn only(&self, action: &str) -> Value {
        let news = self.news();
        assert!(news.len() == 1 && news[0]["action"] == action, "expected one `{action}`: {news:#?}");
        news[0].clone()
    }

    #[track_caller]
    fn actions(&self) -> Vec<String> {
        self.news().iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
    }
}

/// Who an entry must name.
struct Named<'a> {
    subject: &'a Person,
    acting: Option<(&'a Acting, &'a Person)>,
}

impl Named<'_> {
    #[track_caller]
    fn by(&self, entry: &Value) {
        assert_eq!((&entry["origin"], &entry["subject"]), (&json!("api"), &self.subject.user_ref()), "{entry:#}");
        let (actor, id, note) = match self.acting {
            Some((acting, actor)) => {
                let note = format!("{} acting as {}", actor.display_name, self.subject.display_name);
                (actor.user_ref(), json!(acting.id), json!(note))
            }
            None => (Value::Null, Value::Null, Value::Null),
        };
        assert_eq!((&entry["actor"], &entry["impersonation_id"], &entry["note"]), (&actor, &id, &note), "{entry:#}");
        assert_eq!(entry["count"], Value::Null, "{entry:#}");
    }
}

fn send(caller: &Caller, method: &str, path: &str, body: Value, request_id: &str) -> Answer {
    let request = caller.request(method, path).header("X-Request-Id", request_id);
    if body.is_null() { request.send() } else { request.json(&body).send() }
}

fn every_change_of_an_article_writes_one_entry_that_names_whoever_made_it(office: &Office) {
    let ledger = Ledger::open(office);
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    let (as_author, as_editor) = (office.impersonate(&admin, &author), office.impersonate(&admin, &editor));
    ledger.news();
    let own = |subject| Named { subject, acting: None };
    let rounds: [[(&Caller, Named<'_>); 3]; 2] = [
        [(&author, own(&author)), (&editor, own(&editor)), (&admin, own(&admin))],
        [
            (&as_author, Named { subject: &author, acting: Some((&as_author, &admin)) }),
            (&as_editor, Named { subject: &editor, acting: Some((&as_editor, &admin)) }),
            (&admin, own(&admin)),
        ],
    ];
    for (round, [author_is, editor_is, admin_is]) in rounds.iter().enumerate() {
        let draft = json!({ "title": "On tides", "abstract": "Why.", "body": "So." });
        let made = send(author_is.0, "POST", "/v1/articles", draft, "create-1").expect(201);
        let id = made.str("id").to_owned();
        let path = format!("/v1/articles/{id}");
        let entry = ledger.only("article.created");
        author_is.1.by(&entry);
        assert_eq!((&entry["resource"], &entry["request_id"]), (&json!({ "type": "article", "id": id, "version": 1 }), &json!("create-1")));
        let from_nothing = |to: &str| json!({ "from": null, "to": to });
        let changes = json!({
            "title": from_nothing("On tides"), "abstract": from_nothing("Why."), "body": from_nothing("So."),
            "status": from_nothing("draft"), "author_id": from_nothing(&author.id),
        });
        assert_eq!(entry["changes"], changes);

        let status = |from: &str, to: &str| json!({ "status": { "from": from, "to": to } });
        let title = json!({ "title": { "from": "On tides", "to": "On moons" } });
        let assigned = json!({ "editor_id": from_nothing(&editor.id) });
        let assign = json!({ "action": "assign_editor", "editor_id": editor.id });
        let step = |action: &str| json!({ "action": action });
        let steps: [(&(&Caller, Named<'_>), &str, Value, &str, Value); 12] = [
            (author_is, "PATCH", json!({ "title": "On moons" }), "article.updated", title),
            (author_is, "POST", step("submit"), "article.submitted", status("draft", "submitted")),
            (admin_is, "POST", assign, "article.editor_assigned", assigned),
            (editor_is, "POST", step("start_review"), "article.review_started", status("submitted", "under_review")),
            (editor_is, "POST", step("request_revision"), "article.revision_requested", status("under_review", "revision_requested")),
            (author_is, "POST", step("submit"), "article.submitted", status("revision_requested", "submitted")),
            (editor_is, "POST", step("reject"), "article.rejected", status("submitted", "rejected")),
            (editor_is, "POST", step("revert_decision"), "article.decision_reverted", status("rejected", "under_review")),
            (editor_is, "POST", step("accept"), "article.accepted", status("under_review", "accepted")),
            (editor_is, "POST", step("revert_decision"), "article.decision_reverted", status("accepted", "under_review")),
            (editor_is, "POST", step("accept"), "article.accepted", status("under_review", "accepted")),
            (admin_is, "POST", step("publish"), "article.published", status("accepted", "published")),
        ];
        for (number, ((caller, named), method, body, action, changes)) in steps.into_iter().enumerate() {
            office.advance(1);
            let target = if method == "POST" { format!("{path}/actions") } else { path.clone() };
            let request_id = format!("step-{round}-{number}");
            let answer = send(caller, method, &target, body, &request_id).expect(200);
            let entry = ledger.only(action);
            named.by(&entry);
            assert_eq!(entry["resource"], json!({ "type": "article", "id": id, "version": answer.value("version") }));
            assert_eq!((&entry["request_id"], &entry["changes"]), (&json!(request_id), &changes));
            assert_eq!(entry["occurred_at"], *answer.value("updated_at"));
        }

        let other = author_is.0.post("/v1/articles", json!({ "title": "Short", "abstract": "", "body": "" })).expect(201);
        let other = format!("/v1/articles/{}", other.str("id"));
        author_is.0.post(&format!("{other}/actions"), step("submit")).expect(200);
        author_is.0.post(&format!("{other}/actions"), step("withdraw")).expect(200);
        assert_eq!(ledger.actions(), ["article.created", "article.submitted", "article.withdrawn"]);
        let gone = author_is.0.post("/v1/articles", json!({ "title": "Gone", "abstract": "", "body": "x" })).expect(201);
        author_is.0.delete(&format!("/v1/articles/{}", gone.str("id"))).expect(204);
        let news = ledger.news();
        assert_eq!(news.len(), 2);
        author_is.1.by(&news[1]);
        assert_eq!((&news[1]["action"], &news[1]["resource"]["version"]), (&json!("article.deleted"), &json!(2)));
        assert_eq!(news[1]["changes"]["body"], json!({ "from": "x", "to": null }), "all that it was");
    }
}

fn every_change_of_an_account_writes_one_entry_that_names_whoever_made_it(office: &Office) {
    let ledger = Ledger::open(office);
    let admin = &ledger.reader;
    let named = Named { subject: admin, acting: None };
    let new = json!({ "email": "nina@example.org", "display_name": "Nina New", "role": "author" });
    let made = admin.post("/v1/users", new).expect(201);
    let id = made.str("id").to_owned();
    let path = format!("/v1/users/{id}");
    let entry = ledger.only("user.created");
    named.by(&entry);
    assert_eq!(entry["resource"], json!({ "type": "user", "id": id, "version": 1 }));
    assert_eq!(entry["changes"]["email"], json!({ "from": null, "to": "nina@example.org" }));

    admin.patch(&path, json!({ "role": "editor" })).expect(200);
    let entry = ledger.only("user.updated");
    named.by(&entry);
    assert_eq!((&entry["resource"]["version"], &entry["changes"]), (&json!(2), &json!({ "role": { "from": "author", "to": "editor" } })));

    let token = admin.post_empty(&format!("{path}/setup-token")).expect(201).str("setup_token").to_owned();
    let entry = ledger.only("user.setup_token_issued");
    named.by(&entry);
    assert_eq!((&entry["resource"], &entry["changes"]), (&json!({ "type": "user", "id": id, "version": null }), &json!({})));

    let nobody = office.anonymous();
    nobody.post("/v1/auth/password", json!({ "setup_token": token, "new_password": "a good password" })).expect(204);
    let entry = ledger.only("user.password_changed");
    assert_eq!((&entry["subject"]["id"], &entry["actor"], &entry["changes"]), (&json!(id), &Value::Null, &json!({})));

    let grant = nobody.post("/v1/auth/login", json!({ "email": "nina@example.org", "password": "a good password" })).expect(200);
    let entry = ledger.only("session.started");
    assert_eq!((&entry["subject"]["id"], &entry["resource"]["id"]), (&json!(id), grant.value("session/id")));
    let nina = nobody.with_token(grant.str("access_token"));
    let change = json!({ "current_password": "a good password", "new_password": "a better password" });
    nina.put("/v1/me/password", change).expect(204);
    let entry = ledger.only("user.password_changed");
    assert_eq!(entry["subject"]["id"], json!(id));

    admin.patch(&path, json!({ "status": "disabled" })).expect(200);
    let news = ledger.news();
    let actions: Vec<_> = news.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["user.updated", "session.ended"]);
    news.iter().for_each(|entry| named.by(entry));
    assert_eq!(news[1]["changes"]["cause"], json!({ "from": null, "to": "user_disabled" }));
}

fn every_session_and_impersonation_is_told_of_from_its_start_to_its_end(office: &Office) {
    let ledger = Ledger::open(office);
    let (admin, editor) = (office.administrator(), office.editor());
    ledger.news();
    let by_admin = Named { subject: &admin, acting: None };
    let by_editor = Named { subject: &editor, acting: None };

    let acting = office.impersonate_with(&admin, &editor, json!({ "mode": "read_only" }));
    let entry = ledger.only("impersonation.started");
    by_admin.by(&entry);
    assert_eq!(entry["resource"], json!({ "type": "impersonation", "id": acting.id, "version": null }));
    for (name, value) in [("reason", "the editor cannot act"), ("ticket", "HELP-1"), ("mode", "read_only"), ("subject_id", &editor.id)] {
        assert_eq!(entry["changes"][name]["to"], value, "{entry:#}");
    }
    acting.log_out().expect(200);
    let entry = ledger.only("impersonation.ended");
    Named { subject: &editor, acting: Some((&acting, &admin)) }.by(&entry);
    assert_eq!(entry["changes"]["cause"]["to"], "logout");

    for (ender, by) in [(&admin, &by_admin), (&editor, &by_editor)] {
        let acting = office.impersonate(&admin, &editor);
        ender.delete(&format!("/v1/impersonations/{}", acting.id)).expect(204);
        ender.delete(&format!("/v1/impersonations/{}", acting.id)).expect(204);
        let news = ledger.news();
        assert_eq!(news.len(), 2, "ending what has ended is no change");
        by.by(&news[1]);
        assert_eq!(news[1]["changes"]["cause"]["to"], "ended_by_person");
    }

    let second = admin.log_in_again();
    let from_second = office.impersonate(&second, &editor);
    ledger.news();
    second.log_out().expect(204);
    let news = ledger.news();
    let told: Vec<_> =
        news.iter().map(|entry| (entry["action"].as_str().unwrap(), entry["changes"]["cause"]["to"].as_str().unwrap())).collect();
    assert_eq!(told, [("impersonation.ended", "original_session_ended"), ("session.ended", "logout")]);
    news.iter().for_each(|entry| by_admin.by(entry));
    assert_eq!(news[0]["resource"]["id"], json!(from_second.id));

    let third = admin.log_in_again();
    let fourth = admin.log_in_again();
    ledger.news();
    admin.delete(&format!("/v1/me/sessions/{}", third.session_id)).expect(204);
    by_admin.by(&ledger.only("session.ended"));
    ledger.reader.delete(&format!("/v1/users/{}/sessions", admin.id)).expect(204);
    let news = ledger.news();
    let mut ended: Vec<_> = news.iter().map(|entry| entry["resource"]["id"].as_str().unwrap()).collect();
    ended.sort_unstable();
    let mut expected = [admin.session_id.as_str(), &fourth.session_id];
    expected.sort_unstable();
    assert_eq!(ended, expected);
    news.iter().for_each(|entry| Named { subject: &ledger.reader, acting: None }.by(entry));
}

fn what_changes_nothing_writes_nothing(office: &Office) {
    let ledger = Ledger::open(office);
    let (admin, editor, author) = (office.administrator(), office.editor(), office.author());
    let path = draft(&author);
    let reading = office.impersonate_with(&admin, &author, json!({ "mode": "read_only" }));
    ledger.news();
    for path in ["/v1/me", "/v1/me/sessions", "/v1/me/impersonations", "/v1/users", "/v1/articles", "/v1/history", "/v1/impersonations"] {
        admin.get(path).expect(200);
    }
    author.refresh().expect(200);
    author.patch(&path, json!({})).expect(200);
    author.patch(&path, json!({ "title": "" })).expect(422);
    author.request("PATCH", &path).json(&json!({ "title": "New" })).header("If-Match", "\"7\"").send().expect(412);
    editor.delete(&path).expect(404);
    author.post(&format!("{path}/actions"), json!({ "action": "publish" })).expect(403);
    author.post(&format!("{path}/actions"), json!({ "action": "withdraw" })).expect(409);
    reading.patch(&path, json!({ "title": "New" })).expect(403);
    reading.post("/v1/articles", json!({ "title": "New", "abstract": "", "body": "" })).expect(403);
    admin.patch(&format!("/v1/users/{}", admin.id), json!({ "role": "author" })).expect(403);
    admin.post("/v1/users", json!({ "email": author.email, "display_name": "X", "role": "author" })).expect(409);
    office.anonymous().post("/v1/auth/login", json!({ "email": author.email, "password": "wrong wrong" })).expect(401);
    office.anonymous().post("/v1/auth/login", json!({ "email": "nobody@example.org", "password": "wrong wrong" })).expect(401);
    office.anonymous().delete(&path).expect(401);
    assert_eq!(ledger.actions(), [] as [&str; 0]);
}

fn a_refused_start_is_one_entry_a_minute_with_a_count(office: &Office) {
    let ledger = Ledger::open(office);
    let (support, admin, editor) = (office.support(), office.administrator(), office.editor());
    let nested = office.impersonate(&admin, &editor);
    ledger.news();
    let begin = |caller: &Caller, subject: &str| {
        caller.post(&format!("/v1/users/{subject}/impersonate"), json!({ "reason": "to see" })).problem(403, "impersonation_refused");
    };
    // Well inside one minute, whenever the test runs.
    let into_the_minute = office.now().timestamp().rem_euclid(60);
    office.advance(61 - into_the_minute);
    for _ in 0..3 {
        begin(&support, &admin.id);
    }
    begin(&support, &support.id);
    begin(&nested, &admin.id);
    begin(&editor, "019aa0f0-0000-7000-8000-0000000000aa");
    let news = ledger.news();
    let told: Vec<_> = news.iter().map(|entry| (entry["resource"]["id"].as_str().unwrap(), entry["count"].as_i64().unwrap())).collect();
    assert_eq!(told, [(&*admin.id, 3), (&*support.id, 1), (&*admin.id, 1), ("019aa0f0-0000-7000-8000-0000000000aa", 1)]);
    assert_eq!(news[0]["changes"]["reasons"]["to"], json!(["subject_may_impersonate", "subject_outranks_caller"]));
    assert_eq!((&news[0]["subject"], &news[0]["actor"]), (&support.user_ref(), &Value::Null));
    assert_eq!((&news[2]["subject"], &news[2]["actor"]), (&editor.user_ref(), &admin.user_ref()));
    assert!(news[2]["changes"]["reasons"]["to"].as_array().unwrap().contains(&json!("nested")));
    office.advance(60);
    begin(&support, &admin.id);
    assert_eq!(ledger.only("impersonation.refused")["count"], 1, "another minute, another entry");
}

fn a_limit_that_trips_is_one_entry_about_a_known_account(setup: Setup) {
    let office = setup.with("LOGIN_FAILURES_PER_MINUTE", 3).open();
    let ledger = Ledger::open(&office);
    let editor = office.editor();
    ledger.news();
    let fail = |email: &str| office.anonymous().post("/v1/auth/login", json!({ "email": email, "password": "wrong wrong" })).status;
    let answers: Vec<_> = (0..5).map(|_| fail(&editor.email)).collect();
    assert!(answers.starts_with(&[401, 401, 401]) && answers.ends_with(&[429]), "{answers:?}");
    let entry = ledger.only("session.refused");
    assert_eq!((&entry["subject"], &entry["actor"], &entry["resource"]["id"]), (&Value::Null, &Value::Null, &json!(editor.id)));
    office.advance(1800);
    for _ in 0..5 {
        fail("nobody@example.org");
    }
    assert_eq!(ledger.actions(), [] as [&str; 0], "strangers can't grow the history");
}

fn the_command_line_and_actas_itself_name_nobody_and_say_why(office: &Office) {
    let admin = office.administrator();
    let entries = admin.all_items("/v1/history");
    let mut origins: Vec<_> = entries.iter().map(|entry| entry["origin"].as_str().unwrap()).collect();
    origins.sort_unstable();
    origins.dedup();
    assert_eq!(origins, ["api", "cli", "system"]);
    for entry in entries.iter().filter(|entry| entry["origin"] != "api") {
        for nobody in ["subject", "actor", "impersonation_id", "request_id"] {
            assert_eq!(entry[nobody], Value::Null, "{entry:#}");
        }
        assert!(entry["note"].as_str().is_some_and(|note| !note.is_empty()), "{entry:#}");
    }
    let keys: Vec<_> = entries.iter().filter(|entry| entry["resource"]["type"] == "key").collect();
    assert!(!keys.is_empty() && keys.iter().all(|entry| entry["action"] == "key.created" && entry["origin"] == "system"));
}

fn what_time_ends_is_told_of_by_actas_itself(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate_with(&admin, &editor, json!({ "duration_seconds": 60 }));
    office.advance(61);
    // A server sweeps as it starts, beside its first requests.
    office.restart();
    let path = format!("/v1/history?resource_id={}&action=impersonation.ended", acting.id);
    let ended = (0..10_000).find_map(|_| admin.get(&path).expect(200).items().first().cloned()).expect("it was swept");
    assert_eq!((&ended["origin"], &ended["subject"], &ended["actor"]), (&json!("system"), &Value::Null, &Value::Null));
    assert_eq!((&ended["note"], &ended["changes"]["cause"]["to"]), (&json!("nobody asked: its time was over"), &json!("expired")));
    acting.get("/v1/me").problem(401, "impersonation_ended");
    let at = admin.get(&format!("/v1/impersonations/{}", acting.id)).expect(200);
    assert_eq!(at.value("ended_at"), at.value("expires_at"), "it ended when its time was over, not when that was noticed");
    assert_eq!(admin.get(&path).expect(200).items().len(), 1);
}

fn entries_keep_the_names_as_they_were(office: &Office) {
    let (admin, boss, editor) = (office.administrator(), office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    let first = acting.post("/v1/articles", json!({ "title": "One", "abstract": "", "body": "" })).expect(201);
    let path = format!("/v1/articles/{}", first.str("id"));
    let before = admin.get(&format!("{path}/history")).expect(200).items()[0].clone();
    boss.patch(&format!("/v1/users/{}", editor.id), json!({ "display_name": "Edna", "email": "edna@example.org" })).expect(200);
    boss.patch(&format!("/v1/users/{}", admin.id), json!({ "display_name": "Adele" })).expect(200);
    acting.patch(&path, json!({ "title": "Two" })).expect(200);
    let after = admin.get(&format!("{path}/history")).expect(200);
    assert_eq!(after.items()[1], before);
    assert_eq!(before["note"], format!("{} acting as {}", admin.display_name, editor.display_name));
    assert_eq!(after.str("items/0/note"), "Adele acting as Edna");
    assert_eq!(after.str("items/0/subject/email"), "edna@example.org");
}

fn no_entry_holds_a_password_a_hash_or_a_token(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    let made = admin.post("/v1/users", json!({ "email": "n@example.org", "display_name": "N", "role": "author" })).expect(201);
    let token = made.str("setup_token").to_owned();
    let password = json!({ "setup_token": token, "new_password": "a very good password" });
    office.anonymous().post("/v1/auth/password", password).expect(204);
    let change = json!({ "current_password": editor.password, "new_password": "another good password" });
    editor.put("/v1/me/password", change).expect(204);
    let refreshed = admin.refresh().expect(200);
    acting.get("/v1/me").expect(401);
    let columns = "changes || '|' || COALESCE(note, '') || '|' || COALESCE(request_id, '') || '|' || resource_id";
    let entries = office.db_lines(&format!("SELECT {columns} AS value FROM entries")).join("\n");
    let listed = format!("{:?}", admin.all_items("/v1/history"));
    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    for secret in [
        &token,
        "a very good password",
        "another good password",
        &editor.password,
        &admin.password,
        "$2b$",
        &admin.refresh_token,
        refreshed.str("refresh_token"),
        &acting.restore_verifier,
        &signature(&admin.access_token),
        &signature(&acting.access_token),
        "eyJ",
    ] {
        assert!(!entries.contains(secret) && !listed.contains(secret), "{secret}");
    }
}

fn the_history_is_for_whoever_may_read_it(office: &Office) {
    let (admin, support, editor, author) = (office.administrator(), office.support(), office.editor(), office.author());
    let acting = office.impersonate(&admin, &editor);
    for caller in [&*support, &*editor, &*author, &*acting] {
        caller.get("/v1/history").problem(403, "missing_permission");
        caller.get(&format!("/v1/history?subject={}", editor.id)).problem(403, "missing_permission");
    }
    office.anonymous().get("/v1/history").problem(401, "credentials_missing");
    let entry = admin.get("/v1/history?limit=1").expect(200).items()[0].clone();
    let mut members: Vec<_> = entry.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    let expected = [
        "action",
        "actor",
        "changes",
        "count",
        "id",
        "impersonation_id",
        "note",
        "occurred_at",
        "origin",
        "request_id",
        "resource",
        "seq",
        "subject",
    ];
    assert_eq!(members, expected);
}

fn a_deleted_articles_history_stays_for_who_sees_all_articles(office: &Office) {
    let (admin, support, author) = (office.administrator(), office.support(), office.author());
    let path = draft(&author);
    author.delete(&path).expect(204);
    for caller in [&admin, &support] {
        let history = caller.get(&format!("{path}/history")).expect(200);
        let actions: Vec<_> = history.items().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["article.deleted", "article.created"]);
    }
    author.get(&format!("{path}/history")).problem(404, "not_found");
    let never = "/v1/articles/019aa0f0-0000-7000-8000-0000000000aa/history";
    support.get(never).problem(404, "not_found");
}

fn an_articles_history_is_about_articles_only(office: &Office) {
    // Support sees all articles and not the history: no id of another kind may be passed off as an article's.
    let (admin, support, editor) = (office.administrator(), office.support(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    for id in [&admin.id, &editor.id, &editor.session_id, &acting.id] {
        for caller in [&support, &admin] {
            caller.get(&format!("/v1/articles/{id}/history")).problem(404, "not_found");
        }
    }
}

/// Two people's work of two hours, some of it under impersonation.
fn busy_office(office: &Office) -> (Person, Person, Acting) {
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    let path = draft(&author);
    step(&author, &path, "submit");
    assign(&admin, &path, &editor);
    office.advance(1200);
    let acting = office.impersonate_with(&admin, &editor, json!({ "duration_seconds": 3600 }));
    step(&acting, &path, "start_review");
    office.advance(600);
    acting.patch(&path, json!({ "title": "Tides" })).expect(200);
    step(&editor, &path, "accept");
    (admin, editor, acting)
}

type Matches<'a> = Box<dyn Fn(&Value) -> bool + 'a>;

fn each_filter_finds_what_it_says_alone_and_with_others(office: &Office) {
    let (admin, editor, acting) = busy_office(office);
    let all = admin.all_items("/v1/history");
    let article = all[0]["resource"]["id"].as_str().unwrap().to_owned();
    let has = |pointer: &'static str, value: &str| -> Matches<'_> {
        let value = value.to_owned();
        Box::new(move |entry| entry.pointer(pointer).and_then(Value::as_str) == Some(&value))
    };
    let middle = all.iter().find(|entry| entry["action"] == "article.review_started").unwrap()["occurred_at"].as_str().unwrap();
    let filters: Vec<(String, Matches<'_>)> = vec![
        (format!("subject={}", editor.id), has("/subject/id", &editor.id)),
        (format!("actor={}", admin.id), has("/actor/id", &admin.id)),
        ("impersonated=true".to_owned(), Box::new(|entry| !entry["actor"].is_null())),
        ("impersonated=false".to_owned(), Box::new(|entry| entry["actor"].is_null())),
        (format!("impersonation={}", acting.id), has("/impersonation_id", &acting.id)),
        ("resource_type=article".to_owned(), has("/resource/type", "article")),
        ("resource_type=user".to_owned(), has("/resource/type", "user")),
        (format!("resource_id={article}"), has("/resource/id", &article)),
        ("action=article.updated".to_owned(), has("/action", "article.updated")),
        (format!("from={middle}"), Box::new(|entry| entry["occurred_at"].as_str().unwrap() >= middle)),
        (format!("to={middle}"), Box::new(|entry| entry["occurred_at"].as_str().unwrap() < middle)),
    ];
    for (query, matches) in &filters {
        let expected: Vec<_> = all.iter().filter(|entry| matches(entry)).cloned().collect();
        assert!(!expected.is_empty() && expected.len() < all.len(), "{query} shows nothing");
        assert_eq!(admin.all_items(&format!("/v1/history?{query}")), expected, "{query}");
        assert_eq!(admin.all_items(&format!("/v1/history?limit=2&{query}")), expected, "{query}, page by page");
    }
    for (first, matches_first) in &filters {
        for (second, matches_second) in &filters {
            let name = |query: &str| query.split('=').next().unwrap().to_owned();
            if name(first) < name(second) {
                let expected: Vec<_> = all.iter().filter(|entry| matches_first(entry) && matches_second(entry)).cloned().collect();
                assert_eq!(admin.all_items(&format!("/v1/history?{first}&{second}")), expected, "{first}&{second}");
            }
        }
    }
    for (query, status, code, place) in [
        ("subject=ed", 422, "invalid_request", "subject"),
        ("impersonated=yes", 422, "invalid_request", "impersonated"),
        ("resource_type=planet", 422, "invalid_request", "resource_type"),
        ("action=article.exploded", 422, "invalid_request", "action"),
        ("from=yesterday", 422, "invalid_request", "from"),
        ("to=2026-11-23", 422, "invalid_request", "to"),
        ("to=2026-11-23T10:00:00", 422, "invalid_request", "to"),
        ("user=x", 400, "unknown_parameter", "user"),
    ] {
        assert_eq!(admin.get(&format!("/v1/history?{query}")).problem(status, code).pointers(), [place], "{query}");
    }
    assert_eq!(admin.get("/v1/history?resource_id=nothing").expect(200).items(), [] as [Value; 0]);
}

fn a_span_of_time_begins_with_its_first_instant_and_ends_before_its_last(office: &Office) {
    let author = office.author();
    let path = draft(&author);
    for number in 0..4 {
        office.advance(800);
        author.patch(&path, json!({ "title": format!("Version {number}") })).expect(200);
    }
    let admin = office.administrator();
    let of_it = admin.all_items(&format!("{path}/history"));
    let id = path.rsplit('/').next().unwrap();
    let at = |version: usize| of_it[of_it.len() - version]["occurred_at"].as_str().unwrap().to_owned();
    let versions = |span: &str| {
        let items = admin.all_items(&format!("/v1/history?resource_id={id}&{span}"));
        items.iter().map(|entry| entry["resource"]["version"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(versions(&format!("from={}&to={}", at(2), at(4))), [3, 2]);
    assert_eq!(versions(&format!("from={}", at(4))), [5, 4]);
    assert_eq!(versions(&format!("to={}", at(2))), [1]);
    assert_eq!(versions(&format!("from={}&to={}", at(3), at(3))), [] as [i64; 0]);
    assert_eq!(versions(&format!("from={}&to={}", at(4), at(2))), [] as [i64; 0]);
    assert_eq!(versions("from=2000-01-01T00:00:00Z&to=2999-01-01T00:00:00.123456789%2B02:00"), [5, 4, 3, 2, 1]);
    assert_eq!(versions("from=0001-01-01T00:00:00Z&to=9999-12-31T23:59:59.999999999Z"), [5, 4, 3, 2, 1]);
    // The same instant, as another part of the world writes it.
    let elsewhere = chrono::DateTime::parse_from_rfc3339(&at(2)).unwrap().with_timezone(&chrono::FixedOffset::east_opt(5 * 3600).unwrap());
    assert_eq!(versions(&format!("to={}", elsewhere.to_rfc3339().replace('+', "%2B"))), [1]);
}

fn a_page_never_shifts_because_entries_were_added(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let path = draft(&author);
    for number in 0..5 {
        author.patch(&path, json!({ "title": format!("Version {number}") })).expect(200);
    }
    for listing in ["/v1/history".to_owned(), format!("{path}/history")] {
        let all = admin.all_items(&listing);
        let mut seen = Vec::new();
        let mut query = "limit=2".to_owned();
        loop {
            let page = admin.get(&format!("{listing}?{query}")).expect(200);
            seen.extend_from_slice(page.items());
            author.patch(&path, json!({ "title": format!("Between pages {}", seen.len()) })).expect(200);
            let Some(cursor) = page.value("next_cursor").as_str() else { break };
            query = format!("limit=2&cursor={cursor}");
            assert_eq!(page.header("link"), Some(format!("<?{query}>; rel=\"next\"").as_str()));
        }
        assert_eq!(seen, all, "{listing}");
        assert!(all.windows(2).all(|pair| pair[0]["seq"].as_i64() > pair[1]["seq"].as_i64()), "newest first");
    }
    let cursor = admin.get("/v1/articles?limit=1").expect(200).value("next_cursor").clone();
    assert_eq!(cursor, Value::Null);
    for cursor in ["aDow", "aDotMQ", "aDoxMjM0NTY3ODkwMTIzNDU2Nzg5MA", "dTox", "%00"] {
        let answer = admin.get(&format!("/v1/history?cursor={cursor}"));
        assert!([400, 422].contains(&answer.status), "{answer}");
    }
}

/// Of an account some entries carry a version, and some none.
fn what_changes_an_account_and_what_does_not_are_one_history_in_its_order(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let path = format!("/v1/users/{}", editor.id);
    for number in 0..3 {
        office.advance(60);
        admin.patch(&path, json!({ "display_name": format!("Name {number}") })).expect(200);
        office.advance(60);
        admin.post_empty(&format!("{path}/setup-token")).expect(201);
    }
    let mut all = admin.all_items("/v1/history");
    all.retain(|entry| entry["resource"]["id"] == editor.id.as_str());
    let versions: Vec<Option<i64>> = all.iter().map(|entry| entry["resource"]["version"].as_i64()).collect();
    assert!(versions.starts_with(&[None, Some(4), None, Some(3), None, Some(2)]), "{versions:?}");
    let of_it = format!("/v1/history?resource_id={}", editor.id);
    for (from, to) in [(1, 0), (4, 1), (5, 2)] {
        let at = |place: usize| all[place]["occurred_at"].as_str().unwrap();
        let span = format!("{of_it}&limit=2&from={}&to={}", at(from), at(to));
        assert_eq!(admin.all_items(&span), all[to + 1..=from], "{span}");
    }
    for limit in 1..=4 {
        let (mut seen, mut query) = (Vec::new(), format!("{of_it}&limit={limit}"));
        loop {
            let page = admin.get(&query).expect(200);
            seen.extend_from_slice(page.items());
            let Some(cursor) = page.value("next_cursor").as_str() else { break };
            query = format!("{of_it}&limit={limit}&cursor={cursor}");
            // What is written meanwhile is newer than every page that is still to come.
            admin.patch(&path, json!({ "display_name": format!("Between pages, {}", seen.len()) })).expect(200);
            admin.post_empty(&format!("{path}/setup-token")).expect(201);
        }
        assert_eq!(seen, all, "{limit} a page");
        all = admin.all_items(&of_it);
    }
}

/// The listings' conditions, the index that answers each, and the same as a request.
const LISTINGS: [(&str, &str, &str, &str, &str); 20] = [
    ("/v1/history", "entries", "", "", "seq"),
    ("/v1/history?subject={user}", "entries", "subject_id = '{user}'", "entries_by_subject", "seq"),
    ("/v1/history?actor={user}", "entries", "actor_id = '{user}'", "entries_by_actor", "seq"),
    ("/v1/history?impersonated=true", "entries", "actor_id IS NOT NULL", "entries_impersonated", "seq"),
    ("/v1/history?impersonated=false", "entries", "actor_id IS NULL", "", "seq"),
    ("/v1/history?impersonation={user}", "entries", "impersonation_id = '{user}'", "entries_by_impersonation", "seq"),
    ("/v1/history?resource_type=user", "entries", "resource_type = 'user'", "entries_by_resource_type", "seq"),
    ("/v1/history?resource_id={user}", "entries", "resource_id = '{user}' AND resource_version IS NULL", "entries_by_resource", "seq"),
    ("/v1/history?action=user.created", "entries", "action = 'user.created'", "entries_by_action", "seq"),
    ("/v1/history?from=2026-01-01T00:00:00Z", "entries", "occurred_at >= '2026-01-01' AND seq >= 1", "", "seq"),
    ("/v1/users", "users", "", "users_pkey", "id"),
    ("/v1/users?role=editor", "users", "role = 'editor'", "users_by_role", "id"),
    ("/v1/users?status=disabled", "users", "status = 'disabled'", "users_by_status", "id"),
    ("/v1/articles", "articles", "", "articles_pkey", "id"),
    ("/v1/articles?status=draft", "articles", "status = 'draft'", "articles_by_status", "id"),
    ("/v1/articles?author={user}", "articles", "author_id = '{user}'", "articles_by_author", "id"),
    ("/v1/articles?editor={user}", "articles", "editor_id = '{user}'", "articles_by_editor", "id"),
    ("/v1/impersonations", "sessions", "actor_id IS NOT NULL", "impersonations", "id"),
    ("/v1/impersonations?actor={user}", "sessions", "actor_id = '{user}'", "impersonations_by_actor", "id"),
    ("/v1/me/impersonations", "sessions", "subject_id = '{user}' AND actor_id IS NOT NULL", "impersonations_by_subject", "id"),
];

/// On Postgres the very statement that the server sent, as the database remembers it; where it remembers none, or another one that came right after, its
/// conditions.
fn every_listing_is_answered_from_an_index_without_sorting(office: &Office) {
    let admin = office.administrator();
    for (path, table, condition, index, key) in LISTINGS {
        let path = path.replace("{user}", &admin.id);
        admin.get(&path).expect(200);
        let plan = match office.backend() {
            Backend::Postgres if ["users", "sessions"].contains(&table) => {
                let sent = format!(
                    "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
                     AND query LIKE '%FROM%\"{table}\"%ORDER BY \"{table}\".\"{key}\" DESC%LIMIT%' ORDER BY query_start DESC LIMIT 1"
                );
                let sent = office.db_text(&sent).unwrap_or_else(|| panic!("{path} was not seen"));
                office.db_plan(&sent)
            }
            _ => {
                let condition = condition.replace("{user}", &admin.id);
                let condition = if condition.is_empty() { String::new() } else { format!("WHERE {condition}") };
                office.db_plan(&format!("SELECT {key} FROM {table} {condition} ORDER BY {key} DESC LIMIT 51"))
            }
        };
        let text = plan.join("\n");
        let sorts = ["Sort", "TEMP B-TREE", "Seq Scan on entries", "Seq Scan on articles", "Seq Scan on sessions"];
        assert!(!sorts.iter().any(|sort| text.contains(sort)), "{path}:\n{text}");
        let by_index = text.contains(index) || (office.backend() == Backend::Sqlite && text.contains("sqlite_autoindex"));
        assert!(by_index, "{path} should use {index}:\n{text}");
    }
}
