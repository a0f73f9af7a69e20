//! What many share for speed: commits and memory on SQLite, selects and whole statements on Postgres. Nobody notices but by the clock.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use crate::harness::{Acting, Backend, Caller, Office, Person, at_once};

api_tests! {
    many_who_ask_at_once_each_get_their_own,
    who_asks_for_several_articles_at_once_gets_each,
    of_changes_at_once_each_gets_its_own_answer,
    a_look_at_an_article_takes_one_statement,
    what_is_written_keeps_every_character,
    a_change_under_impersonation_takes_few_statements,
    a_start_and_a_logout_take_few_statements,
    [sqlite] who_was_here_before_is_not_asked_for_again,
    [sqlite] who_has_just_begun_is_known_as_the_rows_say,
    [sqlite] a_user_is_as_the_last_change_says_whoever_made_it,
    [sqlite] what_another_process_writes_is_seen_by_the_next_request,
    [postgres] a_row_that_can_t_be_read_is_the_misfortune_of_its_own_caller,
    [postgres] a_statement_that_rests_on_what_is_no_longer_so_does_nothing,
    [postgres] of_those_who_share_a_statement_each_is_served_by_its_own_ground,
    [postgres] a_locked_row_holds_off_nobody_else,
    [postgres] a_migration_of_both_tables_lets_writers_finish_that_took_them_in_either_order,
}

fn new_article(author: &Caller) -> String {
    let draft = json!({ "title": "On tides", "abstract": "Why the sea moves.", "body": "It just does." });
    format!("/v1/articles/{}", author.post("/v1/articles", draft).expect(201).str("id"))
}

fn many_who_ask_at_once_each_get_their_own(office: &Office) {
    let people: Vec<(Person, String)> = (0..8)
        .map(|number| {
            let author = office.person("author", &format!("Author {number}"));
            let article = new_article(&author);
            (author, article)
        })
        .collect();
    at_once(16, |thread| {
        for round in 0..20 {
            let (author, article) = &people[(thread + round) % people.len()];
            assert_eq!(author.get("/v1/me").expect(200).str("subject/id"), author.id);
            assert_eq!(author.get(article).expect(200).str("author/id"), author.id);
            let (other, _) = &people[(thread + round + 1) % people.len()];
            other.get(article).problem(404, "not_found");
        }
    });
}

fn who_asks_for_several_articles_at_once_gets_each(office: &Office) {
    let author = office.author();
    let articles: Vec<String> = (0..4).map(|_| new_article(&author)).collect();
    let missing = "/v1/articles/019aa0f0-0000-7000-8000-000000000000";
    at_once(16, |thread| {
        for round in 0..20 {
            let article = &articles[(thread + round) % articles.len()];
            assert_eq!(author.get(article).expect(200).str("id"), article.rsplit('/').next().unwrap());
            if thread % 4 == 0 {
                author.get(missing).problem(404, "not_found");
                author.get("/v1/articles/none").problem(404, "not_found");
            }
        }
    });
    // An ended session gets no article, though the same select finds it.
    let ended = office.author();
    ended.log_out().expect(204);
    ended.get(&articles[0]).problem(401, "session_ended");
}

fn a_look_at_an_article_takes_one_statement(office: &Office) {
    let author = office.author();
    let article = new_article(&author);
    assert_eq!(office.statements_of(|| drop(author.get(&article).expect(200))), session(office));
    if office.backend() == Backend::Postgres {
        // One that is hidden and one that is not there can't be told apart by what they cost.
        let other = office.person("author", "Another");
        for path in [&*article, "/v1/articles/019aa0f0-0000-7000-8000-000000000000"] {
            assert_eq!(office.statements_of(|| drop(other.get(path).problem(404, "not_found"))), session(office), "{path}");
        }
    }
}

/// Whatever way the database is told.
fn what_is_written_keeps_every_character(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let title = r#"A "quoted", (parted) \ back\slashed' $1 {title} ¶ 潮汐 🌊"#;
    let start = || office.impersonate_with(&admin, &author, json!({ "reason": title, "ticket": "(1,\"2\")", "permissions": [] }));
    let acting = start();
    let told = admin.get(&format!("/v1/impersonations/{}", acting.id)).expect(200);
    assert_eq!((told.str("reason"), told.str("ticket")), (title, "(1,\"2\")"));
    assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
    let article = new_article(&author);
    let body = "a tab\t, a\nnew line, and \\N";
    author.patch(&article, json!({ "title": title, "abstract": "", "body": body })).expect(200);
    let now = author.get(&article).expect(200);
    assert_eq!((now.str("title"), now.str("abstract"), now.str("body")), (title, "", body));
    // Not by the long way, which everything takes that fails the short one.
    if office.backend() == Backend::Postgres {
        let number = std::cell::Cell::new(0);
        let change = || {
            number.set(number.get() + 1);
            author.patch(&article, json!({ "title": format!("{title} {}", number.get()) })).expect(200);
        };
        assert_eq!(office.statements_of(change), 2);
        assert_eq!(office.statements_of(|| drop(start().log_out().expect(200))), 5);
        author.patch(&article, json!({ "title": title })).expect(200);
    }
    let entry = &admin.all_items(&format!("{article}/history"))[0];
    assert_eq!(entry["changes"]["title"]["to"], json!(title), "{entry}");
}

fn of_changes_at_once_each_gets_its_own_answer(office: &Office) {
    let (admin, author, other) = (office.administrator(), office.author(), office.person("author", "Another"));
    let articles: Vec<String> = (0..12).map(|_| new_article(&author)).collect();
    let statuses = at_once(36, |number| {
        let article = &articles[number / 3];
        match number % 3 {
            // Somebody who may not know of it, a precondition that fails, and one that changes it.
            0 => other.patch(article, json!({ "title": "Mine" })).problem(404, "not_found").status,
            1 => {
                let change = author.request("PATCH", article).header("If-Match", "\"7\"").json(&json!({ "title": "Old" }));
                change.send().problem(412, "version_mismatch").status
            }
            _ => author.patch(article, json!({ "title": format!("On tides {number}") })).expect(200).status,
        }
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), articles.len());
    for (number, article) in articles.iter().enumerate() {
        let now = author.get(article).expect(200);
        assert_eq!((now.str("title"), now.value("version")), (&*format!("On tides {}", number * 3 + 2), &json!(2)));
        let entries = admin.all_items(&format!("{article}/history"));
        assert_eq!(entries.len(), 2, "{entries:?}");
    }
}

/// How many statements it takes to learn whose session it is that was here before.
fn session(office: &Office) -> usize {
    match office.backend() {
        Backend::Sqlite => 0,
        Backend::Postgres => 1,
    }
}

fn a_change_under_impersonation_takes_few_statements(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let acting = office.impersonate(&admin, &author);
    let article = new_article(&acting);
    let number = std::cell::Cell::new(0);
    let statements = office.statements_of(|| {
        number.set(number.get() + 1);
        acting.patch(&article, json!({ "title": format!("On tides {}", number.get()) })).expect(200);
    });
    let expected = match office.backend() {
        // The entry and the row: who acts on what is remembered, inside the transaction too.
        Backend::Sqlite => 2,
        // The session with the article, and one that does the rest.
        Backend::Postgres => 2,
    };
    assert_eq!(statements, expected);
    let entry = &admin.all_items(&format!("{article}/history"))[0];
    assert_eq!((entry["subject"]["id"].as_str(), entry["actor"]["id"].as_str()), (Some(&*author.id), Some(&*admin.id)), "{entry}");
    assert_eq!(entry["impersonation_id"], json!(acting.id));
    assert!(entry["note"].as_str().unwrap().contains(&admin.display_name), "{entry}");
}

fn a_start_and_a_logout_take_few_statements(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let statements = office.statements_of(|| {
        let acting = office.impersonate(&admin, &author);
        assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
    });
    let most = match office.backend() {
        // Entry, session, way back; then way back, entry, end. Who they are and which key signs is remembered.
        Backend::Sqlite => 6,
        // Session, user, and one that starts; session, and one that ends.
        Backend::Postgres => 5,
    };
    assert!(statements <= most, "{statements}");
}

fn who_was_here_before_is_not_asked_for_again(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let acting = office.impersonate(&admin, &author);
    for caller in [&*admin, &author, &acting] {
        assert_eq!(office.statements_of(|| drop(caller.get("/v1/me").expect(200))), 0);
    }
    let article = new_article(&author);
    assert_eq!(office.statements_of(|| drop(author.get(&article).expect(200))), 0);
    author.patch(&article, json!({ "title": "On the tides" })).expect(200);
    assert_eq!(author.get(&article).expect(200).str("title"), "On the tides");
    author.delete(&article).expect(204);
    author.get(&article).problem(404, "not_found");
    // Every way in which it can end is seen at once, although nobody asks.
    admin.delete(&format!("/v1/impersonations/{}", acting.id)).expect(204);
    acting.get("/v1/me").problem(401, "impersonation_ended");
    let acting = office.impersonate(&admin, &author);
    acting.get("/v1/me").expect(200);
    admin.log_in_again().delete(&format!("/v1/me/sessions/{}", admin.session_id)).expect(204);
    acting.get("/v1/me").problem(401, "impersonation_ended");
    admin.get("/v1/me").problem(401, "session_ended");
    author.get("/v1/me").expect(200);
    let other = office.administrator();
    other.patch(&format!("/v1/users/{}", author.id), json!({ "status": "disabled" })).expect(200);
    author.get("/v1/me").problem(401, "session_ended");
}

/// A start leaves its session remembered, as a select would find it.
fn who_has_just_begun_is_known_as_the_rows_say(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let article = new_article(&author);
    let id = article.rsplit('/').next().unwrap();
    let look = |acting: &Acting| {
        let mut me = acting.get("/v1/me").expect(200).body;
        me.as_object_mut().unwrap().remove("expires_in");
        me
    };
    let start = || office.impersonate(&admin, &author);
    assert_eq!(office.statements_of(|| drop(start())), office.statements_of(|| drop(look(&start()))));
    let variants = [
        json!({}),
        json!({ "mode": "read_only", "duration_seconds": 61, "reason": "  Ünïcode \u{2028} ", "ticket": null }),
        json!({ "permissions": ["articles:create"], "resources": [format!("article:{id}")] }),
    ];
    for (number, members) in variants.into_iter().enumerate() {
        let acting = office.impersonate_with(&admin, &author, members);
        let known = look(&acting);
        // While there is something that another process changed, nothing is believed.
        office.db_execute(&format!("CREATE TABLE other_{number} (x)")).unwrap();
        assert_eq!(look(&acting), known);
        assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
        acting.get("/v1/me").problem(401, "impersonation_ended");
    }
}

fn a_user_is_as_the_last_change_says_whoever_made_it(office: &Office) {
    let (admin, other, author) = (office.administrator(), office.administrator(), office.author());
    let start = || admin.post(&format!("/v1/users/{}/impersonate", author.id), json!({ "reason": "to help", "ticket": "HELP-1" }));
    let set = |role: &str| other.patch(&format!("/v1/users/{}", author.id), json!({ "role": role })).expect(200);
    for (number, by_hand) in ["administrator", "support"].into_iter().enumerate() {
        start().expect(201);
        set("administrator");
        start().problem(403, "impersonation_refused");
        let version = set("editor").value("version").as_i64().unwrap() + 1;
        start().expect(201);
        // By another process.
        let entry = format!(
            "INSERT INTO entries (id, occurred_at, origin, action, resource_type, resource_id, resource_version, note, changes) \
             VALUES ('019aa0f0-0000-7000-8000-0000000001{number:02}', '2026-11-23 10:00:00', 'cli', 'user.updated', 'user', '{0}', {version}, 'by hand', '{{}}')",
            author.id
        );
        let change = format!("UPDATE users SET role = '{by_hand}', version = {version} WHERE id = '{}'", author.id);
        office.db_script(&format!("BEGIN; {entry}; {change}; COMMIT")).unwrap();
        start().problem(403, "impersonation_refused");
        set("author");
    }
}

fn what_another_process_writes_is_seen_by_the_next_request(office: &Office) {
    let author = office.author();
    let article = new_article(&author);
    for number in 0..20 {
        let author = author.log_in_again();
        author.get("/v1/me").expect(200);
        let end = "UPDATE sessions SET ended_at = started_at, end_cause = 'logout'";
        office.db_execute(&format!("{end} WHERE id = '{}'", author.session_id)).unwrap();
        author.get("/v1/me").problem(401, "session_ended");
        // And an article, as a text that nobody of Actas wrote.
        let author = author.log_in_again();
        author.get(&article).expect(200);
        let version = author.patch(&article, json!({ "title": format!("By the author {number}") })).expect(200);
        let (id, version) = (article.rsplit('/').next().unwrap(), version.value("version").as_i64().unwrap() + 1);
        let entry = format!(
            "INSERT INTO entries (id, occurred_at, origin, action, resource_type, resource_id, resource_version, note, changes) \
             VALUES ('019aa0f0-0000-7000-8000-0000000000{number:02}', '2026-11-23 10:00:00', 'cli', 'article.updated', 'article', '{id}', {version}, 'by hand', '{{}}')"
        );
        office
            .db_script(&format!(
                "BEGIN; {entry}; UPDATE articles SET title = 'By hand {number}', version = {version} WHERE id = '{id}'; COMMIT"
            ))
            .unwrap();
        if number % 2 == 0 {
            assert_eq!(author.get(&article).expect(200).str("title"), format!("By hand {number}"));
        } else {
            // The writer's own transaction sees it too, although the author wrote the version before.
            let stale = author.request("PATCH", &article).header("If-Match", &format!("\"{}\"", version - 1));
            stale.json(&json!({ "title": "Too late" })).send().problem(412, "version_mismatch");
        }
    }
}

fn a_row_that_can_t_be_read_is_the_misfortune_of_its_own_caller(office: &Office) {
    let (author, unlucky) = (office.author(), office.person("author", "Unlucky"));
    let (article, unreadable) = (new_article(&author), new_article(&author));
    let end = "UPDATE sessions SET ended_at = started_at, end_cause = 'of a later version'";
    office.db_execute(&format!("{end} WHERE id = '{}'", unlucky.session_id)).unwrap();
    let id = unreadable.rsplit('/').next().unwrap();
    office
        .db_script(&format!(
            "BEGIN; ALTER TABLE articles DROP CONSTRAINT articles_status_check;
             INSERT INTO entries (id, occurred_at, origin, action, resource_type, resource_id, resource_version, note, changes)
             VALUES ('019aa0f0-0000-7000-8000-0000000000ff', '2026-11-23 10:00:00', 'cli', 'article.updated', 'article', '{id}', 2, 'by hand', '{{}}');
             UPDATE articles SET status = 'of a later version', version = 2 WHERE id = '{id}'; COMMIT"
        ))
        .unwrap();
    at_once(16, |thread| {
        for round in 0..10 {
            match (thread % 2, round % 3) {
                (0, 0) => drop(author.get("/v1/me").expect(200)),
                (0, 1) => drop(author.get(&article).expect(200)),
                (0, _) => drop(author.get(&unreadable).problem(500, "internal")),
                (_, 0) => drop(unlucky.get("/v1/me").problem(500, "internal")),
                _ => drop(unlucky.get(&article).problem(500, "internal")),
            }
        }
    });
}

/// Ends the impersonations of these grounds in one statement, as the server would; answers the places of those that it ended.
fn leave_many(office: &Office, grounds: &[[&str; 5]]) -> Vec<String> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let column = |of: &dyn Fn(&[&str; 5]) -> String| grounds.iter().map(of).collect::<Vec<_>>().join(", ");
    let quoted = |place: usize| column(&|ground| format!("'{}'", ground[place]));
    let plain = |place: usize| column(&|ground| ground[place].to_owned());
    let entry = |ground: &[&str; 5]| {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let id = format!("019aa0f0-0000-7000-8000-00000000{number:04x}");
        format!("'({id},2026-11-23T10:00:00,system,impersonation.ended,impersonation,{},,,,,,,,,by hand,{{}},)'", ground[0])
    };
    office.db_lines(&format!(
        "SELECT ended::text AS value FROM actas_leave_rows(ARRAY[{}], ARRAY[{}], ARRAY[{}]::bigint[], ARRAY[{}]::bigint[], ARRAY[{}]::bigint[], ARRAY[{}], \
         ARRAY[{}]::timestamp[], ARRAY[{}]::text[], 'logout') ORDER BY ended",
        quoted(0),
        quoted(1),
        plain(2),
        plain(3),
        plain(4),
        column(&entry),
        column(&|_| "'2026-11-23 10:00:00'".to_owned()),
        column(&|_| "NULL".to_owned()),
    ))
}

fn kid_of(acting: &Acting) -> String {
    crate::harness::header_of(&acting.access_token)["kid"].as_str().unwrap().to_owned()
}

fn a_statement_that_rests_on_what_is_no_longer_so_does_nothing(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let acting = office.impersonate(&admin, &author);
    let kid = kid_of(&acting);
    let ground = [&*acting.id, &*kid, "1", "1", "1"];
    for (place, other) in [(0, &*author.session_id), (1, "another"), (2, "2"), (3, "2"), (3, "NULL"), (4, "2"), (4, "NULL")] {
        let mut wrong = ground;
        wrong[place] = other;
        let entries = office.db_count("SELECT count(*) FROM entries");
        assert!(leave_many(office, &[wrong]).is_empty(), "{wrong:?}");
        assert_eq!(office.db_count("SELECT count(*) FROM entries"), entries, "{wrong:?}");
    }
    acting.get("/v1/me").expect(200);
    assert_eq!(leave_many(office, &[ground]), ["1"]);
    acting.get("/v1/me").problem(401, "impersonation_ended");
    assert!(leave_many(office, &[ground]).is_empty(), "it was over already");
}

fn of_those_who_share_a_statement_each_is_served_by_its_own_ground(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let [first, stale, second] = std::array::from_fn(|_| office.impersonate(&admin, &author));
    let kid = kid_of(&first);
    let ground = |acting: &Acting| acting.id.clone();
    let (one, two, three) = (ground(&first), ground(&stale), ground(&second));
    let of = |id| [id, &*kid, "1", "1", "1"];
    let mut wrong = of(&*two);
    wrong[2] = "7";
    let entries = office.db_count("SELECT count(*) FROM entries");
    // The first twice, which ends it once.
    assert_eq!(leave_many(office, &[of(&*one), wrong, of(&*one), of(&*three)]), ["1", "4"]);
    assert_eq!(office.db_count("SELECT count(*) FROM entries"), entries + 2);
    first.get("/v1/me").problem(401, "impersonation_ended");
    stale.get("/v1/me").expect(200);
    second.get("/v1/me").problem(401, "impersonation_ended");
}

/// Does `what` while another client of the database holds the rows that `select` locks, which is until `what` is done: what waits for them fails.
fn while_held<T>(office: &Office, select: &str, what: impl FnOnce() -> T) -> T {
    static HELD: AtomicU32 = AtomicU32::new(0);
    let released = format!("released_{}", HELD.fetch_add(1, Ordering::Relaxed));
    let wait = format!(
        "DO $$ BEGIN WHILE NOT EXISTS (SELECT 1 FROM pg_class WHERE relname = '{released}') LOOP PERFORM pg_sleep(0.01); END LOOP; END $$"
    );
    let hold = format!("BEGIN; {select} FOR UPDATE; {wait}; COMMIT");
    // A statement of the test itself that waits fails, where it would wait for ever.
    let limit = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET lock_timeout = 5000', current_database()); END $$";
    office.db_script(limit).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| office.db_script(&hold).unwrap());
        let is_held = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'BEGIN; SELECT 1 FROM%' AND wait_event = 'PgSleep' AND datname = current_database()";
        while office.db_count(is_held) == 0 {
            std::thread::yield_now();
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what));
        office.db_execute(&format!("CREATE TABLE {released} ()")).unwrap();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What others have locked keeps those who depend on it waiting, and nobody else.
fn a_locked_row_holds_off_nobody_else(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let articles = [new_article(&author), new_article(&author)];
    let acting = office.impersonate(&admin, &author);
    let held = format!("SELECT 1 FROM articles WHERE id = '{}'", articles[0].rsplit('/').next().unwrap());
    std::thread::scope(|scope| {
        let waiting = while_held(office, &held, || {
            let waiting = scope.spawn(|| author.patch(&articles[0], json!({ "title": "Late" })).expect(200));
            acting.patch(&articles[1], json!({ "title": "At once" })).expect(200);
            waiting
        });
        waiting.join().unwrap();
    });
    assert_eq!(author.get(&articles[0]).expect(200).str("title"), "Late");
    // The end of an impersonation waits for no way back that somebody is closing.
    let other = office.impersonate(&admin, &author);
    let kid = kid_of(&acting);
    let held = format!("SELECT 1 FROM ways_back WHERE impersonation_id = '{}'", acting.id);
    let ended =
        while_held(office, &held, || leave_many(office, &[[&*acting.id, &*kid, "1", "1", "1"], [&*other.id, &*kid, "1", "1", "1"]]));
    assert_eq!(ended, ["2"]);
    acting.get("/v1/me").expect(200);
    other.get("/v1/me").problem(401, "impersonation_ended");
}

/// What the migration begins with, beside writers of which each has one of the tables and comes for the other while the migration holds or awaits them.
fn a_migration_of_both_tables_lets_writers_finish_that_took_them_in_either_order(office: &Office) {
    let migration = include_str!("../../migrations/postgres/2026-11-28-000000_plain_rows/up.sql");
    let begin = migration.find("DO $$").unwrap();
    let end = begin + migration[begin..].find("END $$;").unwrap() + "END $$;".len();
    for [first, second] in [["entries", "sessions"], ["sessions", "entries"]] {
        let is_awaited = format!(
            "SELECT FROM pg_locks WHERE relation = '{first}'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        );
        let wait = format!("DO $$ BEGIN WHILE NOT EXISTS ({is_awaited}) LOOP PERFORM pg_sleep(0.001); END LOOP; END $$");
        let write = format!("BEGIN; LOCK TABLE {first} IN ROW EXCLUSIVE MODE; {wait}; LOCK TABLE {second} IN ROW EXCLUSIVE MODE; COMMIT");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| office.db_script(&write));
            let is_held =
                format!("SELECT count(*) FROM pg_locks WHERE relation = '{first}'::regclass AND mode = 'RowExclusiveLock' AND granted");
            while office.db_count(&is_held) == 0 {
                std::thread::yield_now();
            }
            office.db_script(&format!("BEGIN; {}; COMMIT", &migration[begin..end])).unwrap();
            writer.join().unwrap().unwrap();
        });
    }
}
