//! A database client in hand that is not Actas: what it can't do to the history, and to what the history tells of.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use super::articles::draft;
use crate::harness::{Backend, Office};

api_tests! {
    whoever_writes_the_entry_first_can_change_a_row,
    an_entry_is_never_changed_deleted_or_replaced,
    an_entry_comes_after_the_last_one,
    [sqlite] of_a_statement_with_an_entry_that_is_refused_nothing_stays,
    versions_have_no_gaps_and_belong_to_rows,
    an_entry_names_its_people_and_says_so,
    an_article_changes_only_with_the_entry_of_its_next_version,
    a_user_changes_only_with_the_entry_of_its_next_version,
    a_new_row_needs_its_first_entry,
    an_article_goes_only_with_the_entry_of_its_deletion_and_never_comes_back,
    a_user_is_never_deleted,
    [sqlite] no_row_is_replaced_by_its_place,
    a_session_is_somebodys,
    a_session_that_ended_stays_so,
    an_impersonation_starts_from_a_live_own_session_of_its_actor,
    a_client_changes_only_with_an_entry_of_its_own_and_its_next_version,
    a_new_client_needs_its_first_entry,
    a_client_is_never_deleted_or_replaced,
    the_first_party_client_is_public_and_all_others_have_a_secret,
    the_terms_of_an_impersonation_never_change,
    a_token_of_a_client_begins_only_with_its_entry,
    a_narrower_token_hangs_on_what_lives_and_ends_no_later,
    a_token_that_ended_stays_so_and_none_is_widened,
    a_key_comes_only_with_its_entry,
    a_key_stays_what_it_is,
    a_key_is_retired_only_with_its_entry_and_for_good,
    the_policy_changes_only_with_an_entry_of_its_own_and_its_next_version,
    there_is_one_policy_and_it_stays,
    a_freeze_begins_and_ends_only_with_the_entry_of_it,
    nothing_starts_while_the_policy_is_frozen,
    an_article_comes_back_only_with_the_entry_of_that,
}

/// How a client of SQLite may have set itself up. All of it is its own choice; none is a choice on Postgres.
const MANNERS: [&str; 4] = [
    "PRAGMA foreign_keys = ON; PRAGMA recursive_triggers = ON;",
    "PRAGMA foreign_keys = ON; PRAGMA recursive_triggers = OFF;",
    "PRAGMA foreign_keys = OFF; PRAGMA recursive_triggers = OFF;",
    "PRAGMA foreign_keys = OFF; PRAGMA recursive_triggers = OFF; PRAGMA ignore_check_constraints = ON;",
];

fn manners(office: &Office) -> &'static [&'static str] {
    match office.backend() {
        Backend::Sqlite => &MANNERS,
        Backend::Postgres => &[""],
    }
}

/// Demands that the database refuses these statements, in one transaction and however the client has set itself up.
#[track_caller]
fn refused(office: &Office, sql: &str) {
    for manners in manners(office) {
        let before = everything(office);
        let result = office.db_script(&format!("{manners} BEGIN; {sql}; COMMIT"));
        assert!(result.is_err(), "accepted, with {manners:?}: {sql}");
        assert_eq!(everything(office), before, "something stayed of it: {sql}");
    }
}

fn refused_on(backend: Backend, office: &Office, sql: &str) {
    if office.backend() == backend {
        refused(office, sql);
    }
}

/// What is in the database, in short.
fn everything(office: &Office) -> Vec<String> {
    let text = |columns: &str, table: &str| {
        let columns: Vec<String> = columns.split(' ').map(|column| format!("COALESCE(CAST({column} AS TEXT), '-')")).collect();
        office.db_lines(&format!("SELECT {} AS value FROM {table} ORDER BY 1", columns.join(" || '|' || ")))
    };
    [
        text("seq id action resource_id resource_version subject_id actor_id note changes", "entries"),
        text("id title status author_id editor_id version created_at", "articles"),
        text("id email display_name role status version created_at", "users"),
        text("id terms frozen_at freeze_reason frozen_by_id version entry_id", "policies"),
        text(
            "id subject_id actor_id original_session_id mode reason ticket client_id scope audience bound_permissions bound_resources started_at expires_at ended_at end_cause",
            "sessions",
        ),
        text(
            "id name status secret_hash old_secret_hash old_secret_expires_at grants scope audiences presenters version created_at entry_id",
            "clients",
        ),
        text("id session_id parent_id client_id source_kid scope audience started_at expires_at ended_at entry_id", "exchanged_sessions"),
        text("id client_id scope audience started_at expires_at ended_at entry_id", "client_sessions"),
        text("kid purpose algorithm private_key sealed created_at retired_at", "keys"),
    ]
    .concat()
}

fn new_id() -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    format!("019aa0f0-0000-7000-8000-{:012x}", MADE.fetch_add(1, Ordering::Relaxed))
}

/// A well-formed entry as the command line would write it.
fn entry(action: &str, resource_id: &str, version: &str) -> String {
    entry_with_id(&new_id(), action, resource_id, version)
}

fn entry_with_id(id: &str, action: &str, resource_id: &str, version: &str) -> String {
    let resource_type = action.split('.').next().unwrap();
    format!(
        "INSERT INTO entries (id, occurred_at, origin, action, resource_type, resource_id, resource_version, note, changes)
         VALUES ('{id}', '2026-11-23 10:00:00', 'cli', '{action}', '{resource_type}', '{resource_id}', {version}, 'by hand', '{{}}')"
    )
}

fn id_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

fn whoever_writes_the_entry_first_can_change_a_row(office: &Office) {
    // The control: what the other tests try is refused for what it lacks, and not for how it is written.
    let (admin, author) = (office.administrator(), office.author());
    for (number, manners) in manners(office).iter().enumerate() {
        let path = draft(&author);
        let id = id_of(&path);
        let update = format!("UPDATE articles SET title = 'By hand', version = 2 WHERE id = '{id}'");
        office.db_script(&format!("{manners} BEGIN; {}; {update}; COMMIT", entry("article.updated", id, "2"))).unwrap();
        assert_eq!(author.get(&path).expect(200).str("title"), "By hand");
        let delete = format!("DELETE FROM articles WHERE id = '{id}'");
        office.db_script(&format!("{manners} BEGIN; {}; {delete}; COMMIT", entry("article.deleted", id, "3"))).unwrap();
        author.get(&path).problem(404, "not_found");
        let history = admin.get(&format!("{path}/history")).expect(200);
        assert_eq!(history.items().len(), 3);
        assert_eq!((history.str("items/0/note"), history.str("items/0/origin")), ("by hand", "cli"));

        let version = number + 2;
        let rename = format!("UPDATE users SET display_name = 'Hand {version}', version = {version} WHERE id = '{}'", author.id);
        let entry = entry("user.updated", &author.id, &version.to_string());
        office.db_script(&format!("{manners} BEGIN; {entry}; {rename}; COMMIT")).unwrap();
    }
}

fn an_entry_is_never_changed_deleted_or_replaced(office: &Office) {
    let author = office.author();
    let path = draft(&author);
    let id = id_of(&path);
    let of_it = format!("resource_id = '{id}'");
    refused(office, &format!("UPDATE entries SET subject_name = 'Somebody Else' WHERE {of_it}"));
    refused(office, &format!("UPDATE entries SET changes = changes WHERE {of_it}"));
    refused(office, "UPDATE entries SET occurred_at = '2020-01-01 00:00:00'");
    refused(office, &format!("DELETE FROM entries WHERE {of_it}"));
    refused(office, "DELETE FROM entries");
    refused(office, "DELETE FROM entries WHERE resource_type = 'session'");
    let columns = "id, occurred_at, origin, action, resource_type, resource_id, resource_version, note, changes";
    let copy = "'2026-11-23 10:00:00', 'cli', 'article.updated', 'article'";
    for kind in ["REPLACE INTO", "INSERT OR REPLACE INTO", "INSERT OR IGNORE INTO", "INSERT INTO"] {
        let by_seq = format!(
            "{kind} entries (seq, {columns}) SELECT seq, '{}', {copy}, '{id}', NULL, 'n', '{{}}' FROM entries WHERE {of_it}",
            new_id()
        );
        let by_id = format!("{kind} entries ({columns}) SELECT id, {copy}, '{id}', NULL, 'n', '{{}}' FROM entries WHERE {of_it}");
        let by_version = format!("{kind} entries ({columns}) VALUES ('{}', {copy}, '{id}', 1, 'n', '{{}}')", new_id());
        for sql in [by_seq, by_id, by_version] {
            refused_on(Backend::Sqlite, office, &sql);
        }
    }
    refused_on(Backend::Sqlite, office, &format!("UPDATE OR REPLACE entries SET seq = 1 WHERE {of_it}"));
    refused_on(Backend::Sqlite, office, &format!("UPDATE OR IGNORE entries SET note = 'x' WHERE {of_it}"));
    refused_on(Backend::Postgres, office, "TRUNCATE entries");
    refused_on(Backend::Postgres, office, "TRUNCATE entries CASCADE");
    let upsert = format!("INSERT INTO entries ({columns}) SELECT id, {copy}, '{id}', NULL, 'n', '{{}}' FROM entries WHERE {of_it}");
    refused(office, &format!("{upsert} ON CONFLICT (id) DO UPDATE SET note = 'bent'"));
}

fn an_entry_comes_after_the_last_one(office: &Office) {
    office.author();
    let (head, tail) = ("INSERT INTO entries (seq, id, occurred_at, origin, action, resource_type, resource_id, note, changes)", "VALUES");
    let overriding = if office.backend() == Backend::Postgres { "OVERRIDING SYSTEM VALUE" } else { "" };
    for seq in ["0", "-1"] {
        let values = format!("({seq}, '{}', '2020-01-01 00:00:00', 'cli', 'session.ended', 'session', 'x', 'n', '{{}}')", new_id());
        refused(office, &format!("{head} {overriding} {tail} {values}"));
    }
    refused_on(
        Backend::Postgres,
        office,
        &format!("{head} {tail} (9, '{}', now(), 'cli', 'session.ended', 'session', 'x', 'n', '{{}}')", new_id()),
    );
}

fn versions_have_no_gaps_and_belong_to_rows(office: &Office) {
    let author = office.author();
    let path = draft(&author);
    let id = id_of(&path);
    for version in ["1", "3", "0", "-1"] {
        refused(office, &entry("article.updated", id, version));
    }
    refused(office, &entry("article.created", &new_id(), "2"));
    refused(office, &format!("{}; {}", entry("article.updated", id, "2"), entry("article.updated", id, "2")));
    for action in ["session.started", "impersonation.started", "key.created"] {
        refused(office, &entry(action, &new_id(), "1"));
    }
}

fn an_entry_names_its_people_and_says_so(office: &Office) {
    let columns = "id, occurred_at, origin, action, resource_type, resource_id, changes, \
                   subject_id, subject_email, subject_name, actor_id, actor_email, actor_name, impersonation_id, note";
    let insert = |origin: &str, people: &str| {
        let id = new_id();
        format!(
            "INSERT INTO entries ({columns}) VALUES \
             ('{id}', '2026-11-23 10:00:00', '{origin}', 'session.ended', 'session', 'x', '{{}}', {people})"
        )
    };
    let (ed, ada) = ("'ed', 'ed@x.org', 'Ed'", "'ada', 'ada@x.org', 'Ada'");
    let nobody = "NULL, NULL, NULL";
    for (origin, people) in [
        ("api", format!("{ed}, {ada}, 'i', NULL")),
        ("api", format!("{ed}, {ada}, 'i', ''")),
        ("api", format!("{ed}, {ada}, NULL, 'Ada acting as Ed'")),
        ("api", format!("{ed}, {nobody}, 'i', 'somebody acting as Ed'")),
        ("api", format!("{nobody}, {ada}, 'i', 'Ada acting as nobody'")),
        ("api", format!("{ed}, {ed}, 'i', 'Ed acting as Ed'")),
        ("api", format!("'ed', NULL, NULL, {nobody}, NULL, NULL")),
        ("api", format!("{ed}, 'ada', NULL, NULL, 'i', 'Ada acting as Ed'")),
        ("cli", format!("{ed}, {nobody}, NULL, 'by hand'")),
        ("cli", format!("{nobody}, {nobody}, NULL, NULL")),
        ("system", format!("{nobody}, {nobody}, NULL, ''")),
        ("elsewhere", format!("{nobody}, {nobody}, NULL, 'by hand'")),
    ] {
        refused(office, &insert(origin, &people));
    }
    for (origin, people) in
        [("api", format!("{ed}, {ada}, 'i', 'Ada acting as Ed'")), ("cli", format!("{nobody}, {nobody}, NULL, 'by hand'"))]
    {
        office.db_execute(&insert(origin, &people)).unwrap();
    }
}

/// Everything that may be tried on the row `id` at version 1 of `table`, whose entries are about a `resource`.
fn a_row_changes_only_with_its_entry(office: &Office, table: &str, resource: &str, id: &str, set: &str) {
    let update = |more: &str| format!("UPDATE {table} SET {set}{more} WHERE id = '{id}'");
    let updated = format!("{resource}.updated");
    refused(office, &update(""));
    refused(office, &update(", version = 1"));
    refused(office, &update(", version = 2"));
    refused(office, &update(", version = 3"));
    refused(office, &format!("{}; {}", update(", version = 2"), entry(&updated, id, "2")));
    refused(office, &format!("{}; {}", entry(&updated, id, "2"), update("")));
    refused(office, &format!("{}; {}", entry(&updated, &new_id(), "1"), update(", version = 2")));
    refused(office, &format!("{}; {}", entry(&updated, id, "NULL"), update(", version = 2")));
    let both = format!("{}; {}", entry(&updated, id, "2"), entry(&updated, id, "3"));
    refused(office, &format!("{both}; {}", update(", version = 3")));
    let other = if resource == "article" { "user.updated" } else { "article.updated" };
    refused(office, &format!("{}; {}", entry(other, id, "2"), update(", version = 2")));
    refused(office, &format!("{}; {}", entry("article.deleted", id, "2"), update(", version = 2")));
    let with_entry = |more: &str| format!("{}; {}", entry(&updated, id, "2"), update(&format!(", version = 2, {more}")));
    refused(office, &with_entry(&format!("id = '{}'", new_id())));
    refused(office, &with_entry("created_at = '2020-01-01 00:00:00'"));
    for kind in ["OR REPLACE", "OR IGNORE"] {
        refused_on(Backend::Sqlite, office, &format!("UPDATE {kind} {table} SET {set}, version = 2 WHERE id = '{id}'"));
    }
    refused_on(Backend::Sqlite, office, &format!("PRAGMA defer_foreign_keys = ON; {}", update(", version = 2")));
    refused_on(Backend::Postgres, office, &format!("SET CONSTRAINTS ALL DEFERRED; {}", update(", version = 2")));
}

fn an_article_changes_only_with_the_entry_of_its_next_version(office: &Office) {
    let (author, other) = (office.author(), office.author());
    let path = draft(&author);
    let id = id_of(&path);
    a_row_changes_only_with_its_entry(office, "articles", "article", id, "status = 'published'");
    for change in [format!("author_id = '{}'", other.id), format!("editor_id = '{}'", author.id)] {
        refused(office, &format!("{}; UPDATE articles SET version = 2, {change} WHERE id = '{id}'", entry("article.updated", id, "2")));
    }
    author.patch(&path, json!({ "title": "Goes on" })).expect(200);
}

fn a_user_changes_only_with_the_entry_of_its_next_version(office: &Office) {
    let (author, other) = (office.author(), office.author());
    a_row_changes_only_with_its_entry(office, "users", "user", &author.id, "role = 'administrator'");
    let taken = format!("email_key = '{}', version = 2", other.email);
    for kind in ["", "OR REPLACE"] {
        let update = format!("UPDATE {kind} users SET {taken} WHERE id = '{}'", author.id);
        let sql = format!("{}; {update}", entry("user.updated", &author.id, "2"));
        if kind.is_empty() { refused(office, &sql) } else { refused_on(Backend::Sqlite, office, &sql) }
    }
    author.get("/v1/me").expect(200);
}

fn a_new_row_needs_its_first_entry(office: &Office) {
    let author = office.author();
    let time = "'2026-11-23 10:00:00'";
    let article = |id: &str, version: u32| {
        format!("articles VALUES ('{id}', 't', '', '', 't', 'published', '{}', NULL, {version}, {time}, {time})", author.id)
    };
    let user = |id: &str, version: u32| {
        format!("users VALUES ('{id}', '{id}@x.org', '{id}@x.org', 'X', 'x', 'administrator', 'active', {version}, {time}, {time})")
    };
    type Row<'a> = &'a dyn Fn(&str, u32) -> String;
    let rows: [(Row<'_>, &str); 2] = [(&article, "article.created"), (&user, "user.created")];
    for (row, action) in rows {
        let id = new_id();
        for kind in ["INSERT INTO", "INSERT OR REPLACE INTO", "INSERT OR IGNORE INTO"] {
            if kind == "INSERT INTO" || office.backend() == Backend::Sqlite {
                refused(office, &format!("{kind} {}", row(&id, 1)));
                refused(office, &format!("{kind} {}", row(&id, 2)));
                refused(office, &format!("{kind} {}; {}", row(&id, 1), entry(action, &id, "1")));
                refused(office, &format!("{}; {}; {kind} {}", entry(action, &id, "1"), entry(action, &id, "2"), row(&id, 2)));
            }
        }
        let other = if action == "article.created" { "user.created" } else { "article.created" };
        refused(office, &format!("{}; INSERT INTO {}", entry(other, &id, "1"), row(&id, 1)));
        office.db_script(&format!("BEGIN; {}; INSERT INTO {}; COMMIT", entry(action, &id, "1"), row(&id, 1))).unwrap();
    }
}

fn an_article_goes_only_with_the_entry_of_its_deletion_and_never_comes_back(office: &Office) {
    let author = office.author();
    let path = draft(&author);
    let id = id_of(&path);
    let delete = format!("DELETE FROM articles WHERE id = '{id}'");
    refused(office, &delete);
    refused(office, &format!("{}; {delete}", entry("article.updated", id, "2")));
    refused(office, &format!("{delete}; {}", entry("article.deleted", id, "2")));
    refused(office, &format!("{}; {delete}", entry("article.deleted", &new_id(), "1")));
    refused_on(Backend::Postgres, office, "TRUNCATE articles");
    refused_on(Backend::Postgres, office, "TRUNCATE articles CASCADE");
    refused(office, "DELETE FROM articles");

    author.delete(&path).expect(204);
    let row = |version: u32| {
        let time = "'2026-11-23 10:00:00'";
        format!("INSERT INTO articles VALUES ('{id}', 't', '', '', 't', 'draft', '{}', NULL, {version}, {time}, {time})", author.id)
    };
    for version in 1..=3 {
        refused(office, &row(version));
    }
    refused(office, &format!("{}; {}", entry("article.created", id, "3"), row(3)));
    author.get(&path).problem(404, "not_found");
}

fn a_user_is_never_deleted(office: &Office) {
    let author = office.author();
    let orphan = format!("DELETE FROM refresh_tokens; DELETE FROM credentials; DELETE FROM users WHERE id = '{}'", author.id);
    refused(office, &orphan);
    refused(office, "DELETE FROM users");
    refused(office, &format!("{}; DELETE FROM users WHERE id = '{}'", entry("user.deleted", &author.id, "2"), author.id));
    refused_on(Backend::Postgres, office, "TRUNCATE users CASCADE");
    let columns = "id, email, email_key, display_name, search, role, status, version, created_at, updated_at";
    for changed in ["'019aa0f0-0000-7000-8000-00000000ffff', email, email_key", "id, 'x@x.org', 'x@x.org'"] {
        let copy = format!(
            "SELECT {changed}, display_name, search, role, status, 1, created_at, updated_at FROM users WHERE id = '{}'",
            author.id
        );
        refused_on(Backend::Sqlite, office, &format!("REPLACE INTO users ({columns}) {copy}"));
        let created = entry("user.created", "019aa0f0-0000-7000-8000-00000000ffff", "1");
        refused_on(Backend::Sqlite, office, &format!("{created}; REPLACE INTO users ({columns}) {copy}"));
    }
    author.get("/v1/me").expect(200);
}

/// Every table of SQLite has a rowid beside its key, and a conflict there replaces a row as well.
fn of_a_statement_with_an_entry_that_is_refused_nothing_stays(office: &Office) {
    let count = || office.db_count("SELECT count(*) FROM entries");
    let before = count();
    let row = |seq: &str, version: &str| {
        format!("({seq}, '{}', '2026-11-23 10:00:00', 'cli', 'session.started', 'session', 'x', {version}, 'n', '{{}}')", new_id())
    };
    let columns = "seq, id, occurred_at, origin, action, resource_type, resource_id, resource_version, note, changes";
    // One that would stay by itself, and one before the first or with a version that it may not have.
    for bad in [row("-5", "NULL"), row("NULL", "7")] {
        // In no transaction but its own.
        office.db_execute(&format!("INSERT INTO entries ({columns}) VALUES {}, {bad}", row("NULL", "NULL"))).unwrap_err();
        assert_eq!(count(), before);
    }
    office.db_execute(&format!("INSERT INTO entries ({columns}) VALUES {}", row("NULL", "NULL"))).unwrap();
}

fn no_row_is_replaced_by_its_place(office: &Office) {
    let author = office.author();
    let (one, other) = (draft(&author), draft(&author));
    let (one, other) = (id_of(&one), id_of(&other));
    let place = |id: &str| office.db_count(&format!("SELECT rowid FROM articles WHERE id = '{id}'"));
    let entry_of_one = entry("article.updated", one, "2");
    refused(office, &format!("{entry_of_one}; UPDATE OR REPLACE articles SET version = 2, rowid = {} WHERE id = '{one}'", place(other)));
    let (new, time) = (new_id(), "'2026-11-23 10:00:00'");
    let columns = "rowid, id, title, abstract, body, search, status, author_id, version, created_at, updated_at";
    let values = format!("{}, '{new}', 't', '', '', 't', 'draft', '{}', 1, {time}, {time}", place(other), author.id);
    refused(office, &format!("{}; REPLACE INTO articles ({columns}) VALUES ({values})", entry("article.created", &new, "1")));

    let editor = office.editor();
    let place_of_user = office.db_count(&format!("SELECT rowid FROM users WHERE id = '{}'", editor.id));
    let replace = format!("UPDATE OR REPLACE users SET version = 2, rowid = {place_of_user} WHERE id = '{}'", author.id);
    refused(office, &format!("{}; {replace}", entry("user.updated", &author.id, "2")));
    let place_of_session = office.db_count(&format!("SELECT rowid FROM sessions WHERE id = '{}'", editor.session_id));
    let replace = format!("UPDATE OR REPLACE sessions SET rowid = {place_of_session} WHERE id = '{}'", author.session_id);
    refused(office, &replace);
    editor.get("/v1/me").expect(200);
}

fn a_session_is_somebodys(office: &Office) {
    // Who turns foreign keys off is refused nothing by them.
    let (manners, editor) = (manners(office)[0], office.editor());
    let (new, nobody, time) = (new_id(), new_id(), "'2026-11-23 10:00:00'");
    let session = |subject: &str| {
        let columns = "id, subject_id, started_at, expires_at, last_used_at";
        format!("{manners} BEGIN; INSERT INTO sessions ({columns}) VALUES ('{new}', '{subject}', {time}, {time}, {time}); COMMIT")
    };
    let ended_by = |ender: &str| {
        let end = format!("ended_at = {time}, end_cause = 'revoked', ended_by_id = '{ender}'");
        format!("{manners} BEGIN; UPDATE sessions SET {end} WHERE id = '{}'; COMMIT", editor.session_id)
    };
    let before = everything(office);
    office.db_script(&session(&nobody)).unwrap_err();
    office.db_script(&ended_by(&nobody)).unwrap_err();
    assert_eq!(everything(office), before);
    office.db_script(&session(&editor.id)).unwrap();
    office.db_script(&ended_by(&editor.id)).unwrap();
}

fn a_session_that_ended_stays_so(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let (ended, live) = (office.impersonate(&admin, &editor), office.impersonate(&admin, &editor));
    ended.log_out().expect(200);
    let gone = editor.log_in_again();
    gone.log_out().expect(204);
    for id in [&ended.id, &gone.session_id] {
        let of_it = format!("WHERE id = '{id}'");
        refused(office, &format!("UPDATE sessions SET ended_at = NULL, end_cause = NULL, ended_by_id = NULL {of_it}"));
        refused(office, &format!("UPDATE sessions SET ended_at = '2030-01-01 00:00:00' {of_it}"));
        refused(office, &format!("UPDATE sessions SET end_cause = 'expired' {of_it}"));
        refused(office, &format!("UPDATE sessions SET last_used_at = '2030-01-01 00:00:00' {of_it}"));
        refused(office, &format!("DELETE FROM ways_back; DELETE FROM refresh_tokens; DELETE FROM sessions {of_it}"));
        let revived = format!(
            "REPLACE INTO sessions (id, subject_id, started_at, expires_at, last_used_at) \
             SELECT id, subject_id, started_at, expires_at, last_used_at FROM sessions {of_it}"
        );
        refused_on(Backend::Sqlite, office, &revived);
    }
    let of_live = format!("WHERE id = '{}'", live.id);
    for change in [
        format!("actor_id = '{}'", editor.id),
        "actor_id = NULL, original_session_id = NULL, mode = NULL, reason = NULL, ticket = NULL".to_owned(),
        format!("subject_id = '{}'", office.author().id),
        format!("original_session_id = '{}'", editor.session_id),
        "mode = 'read_only'".to_owned(),
        "reason = 'a better one'".to_owned(),
        "ticket = NULL".to_owned(),
        "started_at = '2020-01-01 00:00:00'".to_owned(),
        "expires_at = '2099-01-01 00:00:00'".to_owned(),
        format!("id = '{}'", new_id()),
    ] {
        refused(office, &format!("UPDATE sessions SET {change} {of_live}"));
    }
    refused_on(Backend::Postgres, office, "TRUNCATE sessions CASCADE");
    ended.get("/v1/me").problem(401, "impersonation_ended");
    gone.get("/v1/me").problem(401, "session_ended");
    live.get("/v1/me").expect(200);
}

fn an_impersonation_starts_from_a_live_own_session_of_its_actor(office: &Office) {
    let (admin, editor, author) = (office.administrator(), office.editor(), office.author());
    let gone = admin.log_in_again();
    gone.log_out().expect(204);
    let acting = office.impersonate(&admin, &editor);
    let insert = |actor: &str, original: &str| {
        let (id, time) = (new_id(), "'2099-01-01 00:00:00'");
        format!(
            "INSERT INTO sessions (id, subject_id, actor_id, original_session_id, mode, started_at, expires_at, last_used_at) \
             VALUES ('{id}', '{}', {actor}, {original}, 'full', {time}, {time}, {time})",
            author.id
        )
    };
    let quoted = |id: &str| format!("'{id}'");
    let actor = quoted(&admin.id);
    for (actor, original) in [
        // Without an original, from no session, from one that ended, and from another's.
        (&actor, "NULL".to_owned()),
        (&actor, quoted(&new_id())),
        (&actor, quoted(&gone.session_id)),
        (&actor, quoted(&editor.session_id)),
        // Nested, as oneself and as the subject; of oneself; without an actor.
        (&actor, quoted(&acting.id)),
        (&quoted(&editor.id), quoted(&acting.id)),
        (&quoted(&author.id), quoted(&author.session_id)),
        (&"NULL".to_owned(), quoted(&admin.session_id)),
    ] {
        refused(office, &insert(actor, &original));
    }
    office.db_execute(&insert(&actor, &quoted(&admin.session_id))).expect("the control");
}

/// The id of a new client at version 1.
fn client(office: &Office) -> String {
    let admin = office.administrator();
    let body = json!({ "name": "Archive", "grants": ["token_exchange", "client_credentials"] });
    admin.post("/v1/clients", body).expect(201).str("id").to_owned()
}

fn a_client_changes_only_with_an_entry_of_its_own_and_its_next_version(office: &Office) {
    let (id, other) = (client(office), client(office));
    let of_it = format!("WHERE id = '{id}'");
    // What would be worth it: another secret, or more rights.
    let set = "secret_hash = 'x', scope = 'users:write'";
    let update = |more: &str| format!("UPDATE clients SET {set}{more} {of_it}");
    let with = |action: &str, about: &str, version: &str| {
        let entry_id = new_id();
        let entry = entry_with_id(&entry_id, action, about, "NULL");
        format!("{entry}; {}", update(&format!(", version = {version}, entry_id = '{entry_id}'")))
    };
    refused(office, &update(""));
    refused(office, &update(", version = 2"));
    refused(office, &update(&format!(", version = 2, entry_id = '{}'", new_id())));
    refused(office, &format!("{}; {}", entry("client.updated", &id, "NULL"), update(", version = 2")));
    for version in ["1", "3", "0", "-1"] {
        refused(office, &with("client.updated", &id, version));
    }
    refused(office, &with("client.updated", &other, "2"));
    refused(office, &with("client.created", &id, "2"));
    refused(office, &with("session.started", &id, "2"));
    for change in [format!("id = '{}'", new_id()), "created_at = '2020-01-01 00:00:00'".to_owned()] {
        refused(office, &with("client.updated", &id, &format!("2, {change}")));
    }
    for kind in ["OR REPLACE", "OR IGNORE"] {
        refused_on(Backend::Sqlite, office, &format!("UPDATE {kind} clients SET {set}, version = 2 {of_it}"));
    }
    refused_on(Backend::Postgres, office, &format!("SET CONSTRAINTS ALL DEFERRED; {}", update(", version = 2")));

    // The control, and that an entry tells of one change only.
    office.db_script(&format!("BEGIN; {}; COMMIT", with("client.updated", &id, "2"))).unwrap();
    let used = office.db_text(&format!("SELECT entry_id FROM clients {of_it}")).unwrap();
    refused(office, &update(", version = 3"));
    office.db_script(&format!("BEGIN; {}; COMMIT", with("client.secret_rotated", &id, "3"))).unwrap();
    refused(office, &update(&format!(", version = 4, entry_id = '{used}'")));
}

/// A client's row as an `INSERT` would have it.
fn client_row(id: &str, version: u32, entry_id: &str) -> String {
    format!(
        "clients (id, name, status, secret_hash, grants, scope, audiences, presenters, version, created_at, updated_at, entry_id)
         VALUES ('{id}', 'X', 'active', 'x', 'client_credentials', 'users:write', '', '', {version}, '2026-11-23 10:00:00', '2026-11-23 10:00:00', '{entry_id}')"
    )
}

fn a_new_client_needs_its_first_entry(office: &Office) {
    let other = client(office);
    let others_entry = office.db_text(&format!("SELECT entry_id FROM clients WHERE id = '{other}'")).unwrap();
    let (id, entry_id) = (new_id(), new_id());
    let created = entry_with_id(&entry_id, "client.created", &id, "NULL");
    for kind in ["INSERT INTO", "INSERT OR REPLACE INTO", "INSERT OR IGNORE INTO"] {
        if kind == "INSERT INTO" || office.backend() == Backend::Sqlite {
            refused(office, &format!("{kind} {}", client_row(&id, 1, &entry_id)));
            refused(office, &format!("{kind} {}; {created}", client_row(&id, 1, &entry_id)));
            refused(office, &format!("{created}; {kind} {}", client_row(&id, 2, &entry_id)));
            refused(office, &format!("{created}; {kind} {}", client_row(&new_id(), 1, &entry_id)));
            refused(office, &format!("{kind} {}", client_row(&id, 1, &others_entry)));
            let updated = entry_with_id(&entry_id, "client.updated", &id, "NULL");
            refused(office, &format!("{updated}; {kind} {}", client_row(&id, 1, &entry_id)));
        }
    }
    office.db_script(&format!("BEGIN; {created}; INSERT INTO {}; COMMIT", client_row(&id, 1, &entry_id))).expect("the control");
}

fn a_client_is_never_deleted_or_replaced(office: &Office) {
    let (id, other) = (client(office), client(office));
    for which in ["", &format!(" WHERE id = '{id}'"), " WHERE id = 'actas'"] {
        refused(office, &format!("DELETE FROM clients{which}"));
    }
    refused(office, &format!("{}; DELETE FROM clients WHERE id = '{id}'", entry("client.updated", &id, "NULL")));
    refused_on(Backend::Postgres, office, "TRUNCATE clients");
    refused_on(Backend::Postgres, office, "TRUNCATE clients CASCADE");

    // Replaced by its id, by its entry, and by its place.
    let (new, entry_id) = (new_id(), new_id());
    let created = |about: &str| entry_with_id(&entry_id, "client.created", about, "NULL");
    for kind in ["REPLACE INTO", "INSERT OR REPLACE INTO"] {
        refused_on(Backend::Sqlite, office, &format!("{}; {kind} {}", created(&id), client_row(&id, 1, &entry_id)));
    }
    if office.backend() == Backend::Sqlite {
        let place = |id: &str| office.db_count(&format!("SELECT rowid FROM clients WHERE id = '{id}'"));
        let row = client_row(&new, 1, &entry_id).replace("(id,", "(rowid, id,").replace("VALUES (", &format!("VALUES ({}, ", place(&id)));
        refused(office, &format!("{}; REPLACE INTO {row}", created(&new)));
        let update =
            format!("UPDATE OR REPLACE clients SET version = 2, entry_id = '{entry_id}', rowid = {} WHERE id = '{id}'", place(&other));
        refused(office, &format!("{}; {update}", entry_with_id(&entry_id, "client.updated", &id, "NULL")));
    }
}

fn the_first_party_client_is_public_and_all_others_have_a_secret(office: &Office) {
    let id = client(office);
    for (id, set) in
        [("actas", "status = 'disabled'"), ("actas", "secret_hash = 'x'"), (&id, "secret_hash = NULL"), (&id, "status = 'deleted'")]
    {
        let entry_id = new_id();
        let entry = entry_with_id(&entry_id, "client.updated", id, "NULL");
        refused(office, &format!("{entry}; UPDATE clients SET version = 2, entry_id = '{entry_id}', {set} WHERE id = '{id}'"));
    }
    let (new, entry_id) = (new_id(), new_id());
    let created = entry_with_id(&entry_id, "client.created", &new, "NULL");
    refused(office, &format!("{created}; INSERT INTO {}", client_row(&new, 1, &entry_id).replace("'x'", "NULL")));
}

/// In an hour and so many seconds, by when no sweep has come yet.
fn in_an_hour(office: &Office, seconds: i64) -> String {
    (office.now() + chrono::Duration::seconds(3600 + seconds)).format("'%Y-%m-%d %H:%M:%S'").to_string()
}

/// A time after every other.
const LATE: &str = "'2099-01-01 00:00:00'";

fn the_terms_of_an_impersonation_never_change(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let (archive, other) = (client(office), client(office));
    let plain = office.impersonate(&admin, &editor);
    let insert = |actor: &str, terms: &str| {
        format!(
            "INSERT INTO sessions (id, subject_id, actor_id, original_session_id, mode, started_at, expires_at, last_used_at, client_id, scope, audience)
             VALUES ('{}', '{}', {actor}, {LATE}, {LATE}, {LATE}, {terms})",
            new_id(),
            editor.id
        )
    };
    let acting = format!("'{}', '{}', 'full'", admin.id, admin.session_id);
    let terms = format!("'{archive}', 'articles:create', 'actas'");
    for (actor, terms) in [
        // None or all, only of an impersonation, and a client that there is.
        (acting.as_str(), format!("'{archive}', NULL, 'actas'")),
        (&acting, format!("'{archive}', '', NULL")),
        (&acting, "NULL, 'articles:create', 'actas'".to_owned()),
        (&acting, format!("'{}', 'articles:create', 'actas'", new_id())),
        ("NULL, NULL, NULL", terms.clone()),
    ] {
        refused(office, &insert(actor, &terms));
    }
    office.db_execute(&insert(&acting, &terms)).expect("the control");
    let through = office.db_text("SELECT id FROM sessions WHERE client_id IS NOT NULL").unwrap();
    for (id, set) in [
        (&through, "scope = 'articles:create users:write'".to_owned()),
        (&through, "audience = 'https://elsewhere.example'".to_owned()),
        (&through, format!("client_id = '{other}'")),
        (&through, "client_id = 'actas'".to_owned()),
        // One that no client started is its subject's whole right, and stays it; and the other way round.
        (&through, "client_id = NULL, scope = NULL, audience = NULL".to_owned()),
        (&plain.id, format!("client_id = '{archive}', scope = '', audience = 'actas'")),
        (&admin.session_id, format!("client_id = '{archive}', scope = '', audience = 'actas'")),
    ] {
        refused(office, &format!("UPDATE sessions SET {set} WHERE id = '{id}'"));
    }
}

/// How a token's row of each kind begins: its id, the entry's id, and more that it needs.
fn token_rows(office: &Office, session: &str, client: &str) -> [(&'static str, &'static str, Box<dyn Fn(&str, &str) -> String>); 2] {
    let (session, client, expires_at) = (session.to_owned(), client.to_owned(), in_an_hour(office, 0));
    let (of_client, also_expires_at) = (client.clone(), expires_at.clone());
    [
        (
            "exchanged_sessions",
            "session.exchanged",
            Box::new(move |id, entry_id| {
                format!(
                    "exchanged_sessions (id, session_id, client_id, source_kid, scope, audience, started_at, expires_at, entry_id)
                     VALUES ('{id}', '{session}', '{client}', 'a-key', 'users:read', 'x', '2026-11-23 10:00:00', {expires_at}, '{entry_id}')"
                )
            }),
        ),
        (
            "client_sessions",
            "session.started",
            Box::new(move |id, entry_id| {
                format!(
                    "client_sessions (id, client_id, scope, audience, started_at, expires_at, entry_id)
                     VALUES ('{id}', '{of_client}', 'users:read', 'x', '2026-11-23 10:00:00', {also_expires_at}, '{entry_id}')"
                )
            }),
        ),
    ]
}

fn a_token_of_a_client_begins_only_with_its_entry(office: &Office) {
    let (author, archive) = (office.author(), client(office));
    let logged_in = office.db_text(&format!("SELECT id FROM entries WHERE resource_id = '{}'", author.session_id)).unwrap();
    for (table, action, row) in token_rows(office, &author.session_id, &archive) {
        let (id, entry_id) = (new_id(), new_id());
        let begun = entry_with_id(&entry_id, action, &id, "NULL");
        refused(office, &format!("INSERT INTO {}", row(&id, &entry_id)));
        refused(office, &format!("INSERT INTO {}; {begun}", row(&id, &entry_id)));
        refused(office, &format!("{begun}; INSERT INTO {}", row(&new_id(), &entry_id)));
        for other in ["session.ended", "user.updated"] {
            let other = entry_with_id(&entry_id, other, &id, if other == "user.updated" { "1" } else { "NULL" });
            refused(office, &format!("{other}; INSERT INTO {}", row(&id, &entry_id)));
        }
        // With the entry of an own session, in its place.
        refused(office, &format!("INSERT INTO {}", row(&author.session_id, &logged_in)));

        office.db_script(&format!("BEGIN; {begun}; INSERT INTO {}; COMMIT", row(&id, &entry_id))).expect("the control");
        let again = entry_with_id(&new_id(), action, &id, "NULL");
        for kind in ["INSERT INTO", "REPLACE INTO", "INSERT OR IGNORE INTO"] {
            if kind == "INSERT INTO" || office.backend() == Backend::Sqlite {
                refused(office, &format!("{kind} {}", row(&new_id(), &entry_id)));
                refused(office, &format!("{again}; {kind} {}", row(&id, &entry_id)));
            }
        }
        if office.backend() == Backend::Sqlite {
            let place = office.db_count(&format!("SELECT rowid FROM {table} WHERE id = '{id}'"));
            let (new, new_entry) = (new_id(), new_id());
            let replacing = row(&new, &new_entry).replace("(id,", "(rowid, id,").replace("VALUES (", &format!("VALUES ({place}, "));
            refused(office, &format!("{}; REPLACE INTO {replacing}", entry_with_id(&new_entry, action, &new, "NULL")));
        }
    }
}

fn a_narrower_token_hangs_on_what_lives_and_ends_no_later(office: &Office) {
    let (author, archive) = (office.author(), client(office));
    let gone = author.log_in_again();
    gone.log_out().expect(204);
    let insert = |session: &str, parent: &str, expires_at: &str| {
        let (id, entry_id) = (new_id(), new_id());
        let sql = format!(
            "{}; INSERT INTO exchanged_sessions (id, session_id, parent_id, client_id, source_kid, scope, audience, started_at, expires_at, entry_id)
             VALUES ('{id}', '{session}', {parent}, '{archive}', 'a-key', '', 'x', '2026-11-23 10:00:00', {expires_at}, '{entry_id}')",
            entry_with_id(&entry_id, "session.exchanged", &id, "NULL")
        );
        (id, sql)
    };
    let (early, later) = (in_an_hour(office, 0), in_an_hour(office, 1));
    let early = early.as_str();
    let begin = |(id, sql): (String, String)| {
        office.db_script(&format!("BEGIN; {sql}; COMMIT")).expect("the control");
        id
    };
    let parent = begin(insert(&author.session_id, "NULL", early));
    let child = begin(insert(&author.session_id, &format!("'{parent}'"), early));
    let of_parent = format!("'{parent}'");
    for (session, parent, expires_at) in [
        (new_id().as_str(), "NULL", early),
        (&gone.session_id, "NULL", early),
        (&author.session_id, "NULL", LATE),
        (&author.session_id, &format!("'{}'", new_id()), early),
        // Of a token that hangs on another session, and later than that token.
        (&author.log_in_again().session_id, &of_parent, early),
        (&author.session_id, &of_parent, &later),
    ] {
        refused(office, &insert(session, parent, expires_at).1);
    }
    office.db_execute(&format!("UPDATE exchanged_sessions SET ended_at = {early} WHERE id = '{parent}'")).unwrap();
    refused(office, &insert(&author.session_id, &of_parent, early).1);
    begin(insert(&author.session_id, &format!("'{child}'"), early));
}

fn a_token_that_ended_stays_so_and_none_is_widened(office: &Office) {
    let (author, archive, other) = (office.author(), client(office), client(office));
    for (table, action, row) in token_rows(office, &author.session_id, &archive) {
        let (id, entry_id, spare) = (new_id(), new_id(), new_id());
        office
            .db_script(&format!("BEGIN; {}; INSERT INTO {}; COMMIT", entry_with_id(&entry_id, action, &id, "NULL"), row(&id, &entry_id)))
            .unwrap();
        office.db_execute(&entry_with_id(&spare, action, &new_id(), "NULL")).unwrap();
        let of_it = format!("WHERE id = '{id}'");
        let mut changes = vec![
            "scope = 'users:read users:write'".to_owned(),
            "scope = ''".to_owned(),
            "audience = 'y'".to_owned(),
            format!("client_id = '{other}'"),
            format!("expires_at = {LATE}"),
            "expires_at = '2026-11-23 10:00:00'".to_owned(),
            "started_at = '2020-01-01 00:00:00'".to_owned(),
            format!("entry_id = '{spare}'"),
            format!("id = '{}'", new_id()),
        ];
        if table == "exchanged_sessions" {
            changes.push(format!("session_id = '{}'", author.log_in_again().session_id));
            changes.push("parent_id = id".to_owned());
            // The key whose retirement ends it.
            changes.push("source_kid = 'another'".to_owned());
        }
        for change in &changes {
            refused(office, &format!("UPDATE {table} SET {change} {of_it}"));
            refused_on(Backend::Sqlite, office, &format!("UPDATE OR REPLACE {table} SET {change} {of_it}"));
        }
        office.db_execute(&format!("UPDATE {table} SET ended_at = '2026-11-23 10:00:00' {of_it}")).expect("the control");
        changes.extend(["ended_at = NULL".to_owned(), "ended_at = '2030-01-01 00:00:00'".to_owned(), "ended_at = ended_at".to_owned()]);
        for change in &changes {
            refused(office, &format!("UPDATE {table} SET {change} {of_it}"));
        }
        // Gone, and back from the dead after its end was told of.
        office.db_execute(&entry("session.ended", &id, "NULL")).unwrap();
        refused(office, &format!("DELETE FROM {table} {of_it}; INSERT INTO {}", row(&id, &entry_id)));
    }
}

fn key(kid: &str, retired_at: &str) -> String {
    format!(
        "INTO keys (kid, purpose, algorithm, private_key, sealed, created_at, retired_at) \
         VALUES ('{kid}', 'sign', 'EdDSA', 'x', FALSE, '2026-11-23 10:00:00', {retired_at})"
    )
}

fn a_key_comes_only_with_its_entry(office: &Office) {
    let theirs = office.db_text("SELECT kid FROM keys WHERE purpose = 'sign'").unwrap();
    for (number, action) in ["key.created", "key.imported"].into_iter().enumerate() {
        let new = format!("new-{number}");
        refused(office, &format!("INSERT {}", key(&new, "NULL")));
        for other in ["key.retired", "article.created"] {
            refused(office, &format!("{}; INSERT {}", entry(other, &new, "NULL"), key(&new, "NULL")));
        }
        refused(office, &format!("{}; INSERT {}", entry(action, "another", "NULL"), key(&new, "NULL")));
        refused(office, &format!("INSERT {}; {}", key(&new, "NULL"), entry(action, &new, "NULL")));
        refused(office, &format!("{}; INSERT {}", entry(action, &new, "NULL"), key(&new, "'2026-11-23 10:00:00'")));
        // One that is there is not replaced, by its kid or by its place.
        refused(office, &format!("{}; INSERT {}", entry(action, &theirs, "NULL"), key(&theirs, "NULL")));
        refused_on(Backend::Sqlite, office, &format!("{}; REPLACE {}", entry(action, &theirs, "NULL"), key(&theirs, "NULL")));
        let by_place = key(&new, "NULL").replace("(kid,", "(rowid, kid,").replace("VALUES (", "VALUES (1, ");
        refused_on(Backend::Sqlite, office, &format!("{}; REPLACE {by_place}", entry(action, &new, "NULL")));
        office.db_script(&format!("BEGIN; {}; INSERT {}; COMMIT", entry(action, &new, "NULL"), key(&new, "NULL"))).expect("the control");
    }
}

fn a_key_stays_what_it_is(office: &Office) {
    let author = office.author();
    let kid = office.db_text("SELECT kid FROM keys WHERE purpose = 'sign'").unwrap();
    let of_it = format!("WHERE kid = '{kid}'");
    for change in ["kid = 'another'", "purpose = 'refresh'", "algorithm = 'RS256'", "created_at = '2099-01-01 00:00:00'"] {
        refused(office, &format!("UPDATE keys SET {change} {of_it}"));
        refused(office, &format!("{}; UPDATE keys SET {change} {of_it}", entry("key.created", &kid, "NULL")));
        refused_on(Backend::Sqlite, office, &format!("UPDATE OR REPLACE keys SET {change} {of_it}"));
    }
    refused_on(Backend::Sqlite, office, &format!("UPDATE OR REPLACE keys SET rowid = 99 {of_it}"));
    refused(office, &format!("DELETE FROM ways_back; DELETE FROM keys {of_it}"));
    refused(office, &format!("DELETE FROM ways_back; {}; DELETE FROM keys {of_it}", entry("key.retired", &kid, "NULL")));
    refused(office, "DELETE FROM ways_back; DELETE FROM keys");
    refused_on(Backend::Postgres, office, "TRUNCATE keys CASCADE");
    author.get("/v1/me").expect(200);
    // How it is stored is no business of the history's.
    office.db_execute(&format!("UPDATE keys SET private_key = private_key || '', sealed = FALSE {of_it}")).expect("the control");
}

fn a_key_is_retired_only_with_its_entry_and_for_good(office: &Office) {
    let kid = "retired";
    office.db_script(&format!("BEGIN; {}; INSERT {}; COMMIT", entry("key.created", kid, "NULL"), key(kid, "NULL"))).unwrap();
    let retire = format!("UPDATE keys SET retired_at = '2026-11-23 11:00:00', private_key = '' WHERE kid = '{kid}'");
    refused(office, &retire);
    refused(office, &format!("{}; {retire}", entry("key.created", kid, "NULL")));
    refused(office, &format!("{}; {retire}", entry("key.retired", "another", "NULL")));
    refused(office, &format!("{retire}; {}", entry("key.retired", kid, "NULL")));
    let keeping = retire.replace(", private_key = ''", "");
    refused(office, &format!("{}; {keeping}", entry("key.retired", kid, "NULL")));
    office.db_script(&format!("BEGIN; {}; {retire}; COMMIT", entry("key.retired", kid, "NULL"))).expect("the control");
    for change in ["retired_at = NULL", "retired_at = '2099-01-01 00:00:00'", "private_key = 'x'", "sealed = TRUE"] {
        refused(office, &format!("UPDATE keys SET {change} WHERE kid = '{kid}'"));
        refused(office, &format!("{}; UPDATE keys SET {change} WHERE kid = '{kid}'", entry("key.created", kid, "NULL")));
    }
    refused(office, &format!("DELETE FROM keys WHERE kid = '{kid}'"));
    refused_on(Backend::Sqlite, office, &format!("{}; REPLACE {}", entry("key.created", kid, "NULL"), key(kid, "NULL")));
}

/// A change of the policy, with an entry of its own.
fn policy_change(set: &str, version: u32, action: &str) -> String {
    let entry_id = new_id();
    let entry = entry_with_id(&entry_id, action, "policy", "NULL");
    format!("{entry}; UPDATE policies SET {set}, version = {version}, entry_id = '{entry_id}'")
}

const LAX: &str = r#"terms = '{"max_duration_seconds":86400,"reason_required":false}'"#;

fn the_policy_changes_only_with_an_entry_of_its_own_and_its_next_version(office: &Office) {
    refused(office, &format!("UPDATE policies SET {LAX}"));
    refused(office, &format!("UPDATE policies SET {LAX}, version = 2"));
    refused(office, &format!("UPDATE policies SET {LAX}, version = 2, entry_id = '{}'", new_id()));
    refused(office, &format!("{}; UPDATE policies SET {LAX}, version = 2", entry("policy.updated", "policy", "NULL")));
    for version in [0, 1, 3] {
        refused(office, &policy_change(LAX, version, "policy.updated"));
    }
    refused(office, &policy_change(LAX, 2, "policy.created"));
    refused(office, &policy_change(LAX, 2, "client.updated"));
    refused(office, &policy_change(&format!("{LAX}, id = 'another'"), 2, "policy.updated"));
    refused_on(Backend::Sqlite, office, &policy_change(&format!("{LAX}, rowid = 9"), 2, "policy.updated"));
    // The control, and that an entry tells of one change only.
    let first = office.db_text("SELECT entry_id FROM policies").unwrap();
    office.db_script(&format!("BEGIN; {}; COMMIT", policy_change(LAX, 2, "policy.updated"))).unwrap();
    let used = office.db_text("SELECT entry_id FROM policies").unwrap();
    for id in [first, used] {
        refused(office, &format!("UPDATE policies SET {LAX}, version = 3, entry_id = '{id}'"));
    }
    // It holds at the next request.
    let admin = office.administrator();
    assert_eq!(admin.get("/v1/policy").expect(200).value("max_duration_seconds"), &json!(86_400));
}

fn there_is_one_policy_and_it_stays(office: &Office) {
    office.administrator();
    refused(office, "DELETE FROM policies");
    refused_on(Backend::Postgres, office, "TRUNCATE policies");
    for id in ["policy", "another"] {
        let entry_id = new_id();
        let entry = entry_with_id(&entry_id, "policy.created", id, "NULL");
        let row =
            format!("policies (id, terms, version, updated_at, entry_id) VALUES ('{id}', '{{}}', 1, '2026-11-23 10:00:00', '{entry_id}')");
        refused(office, &format!("{entry}; INSERT INTO {row}"));
        refused_on(Backend::Sqlite, office, &format!("{entry}; REPLACE INTO {row}"));
    }
}

fn a_freeze_begins_and_ends_only_with_the_entry_of_it(office: &Office) {
    let frozen = "frozen_at = '2026-11-23 10:00:00', freeze_reason = 'x'";
    for action in ["policy.updated", "policy.unfrozen", "article.created"] {
        refused(office, &policy_change(frozen, 2, action));
    }
    refused(office, &policy_change(&format!("{frozen}, {LAX}"), 2, "policy.frozen"));
    refused(office, &policy_change("frozen_at = '2026-11-23 10:00:00'", 2, "policy.frozen"));
    office.db_script(&format!("BEGIN; {}; COMMIT", policy_change(frozen, 2, "policy.frozen"))).unwrap();
    for action in ["policy.updated", "policy.frozen"] {
        refused(office, &policy_change("frozen_at = NULL, freeze_reason = NULL", 3, action));
    }
    // Nor does another change hide beside it, or a freeze change into another.
    refused(office, &policy_change(&format!("frozen_at = NULL, freeze_reason = NULL, {LAX}"), 3, "policy.unfrozen"));
    for change in ["freeze_reason = 'y'", "frozen_at = '2026-11-24 10:00:00'"] {
        for action in ["policy.updated", "policy.frozen"] {
            refused(office, &policy_change(change, 3, action));
        }
    }
    office.db_script(&format!("BEGIN; {}; COMMIT", policy_change("frozen_at = NULL, freeze_reason = NULL", 3, "policy.unfrozen"))).unwrap();
}

fn nothing_starts_while_the_policy_is_frozen(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let start = |id: &str| {
        format!(
            "{}; INSERT INTO sessions (id, subject_id, actor_id, original_session_id, mode, reason, started_at, expires_at, last_used_at) \
             VALUES ('{id}', '{}', '{}', '{}', 'full', 'x', '2026-11-23 10:00:00', '2099-11-23 10:00:00', '2026-11-23 10:00:00')",
            entry("impersonation.started", id, "NULL"),
            editor.id,
            admin.id,
            admin.session_id
        )
    };
    // The control.
    office.db_script(&format!("BEGIN; {}; COMMIT", start(&new_id()))).unwrap();
    admin.post("/v1/policy/freeze", json!({ "reason": "an incident" })).expect(200);
    refused(office, &start(&new_id()));
    admin.delete("/v1/policy/freeze").expect(200);
    office.db_script(&format!("BEGIN; {}; COMMIT", start(&new_id()))).unwrap();
}

fn an_article_comes_back_only_with_the_entry_of_that(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let path = draft(&author);
    let id = id_of(&path);
    author.delete(&path).expect(204);
    let back = |version: u32| {
        format!(
            "INSERT INTO articles (id, title, abstract, body, search, status, author_id, version, created_at, updated_at) VALUES \
             ('{id}', 'Back', '', '', 'back', 'draft', '{}', {version}, '2026-11-23 10:00:00', '2026-11-23 10:00:00')",
            author.id
        )
    };
    for version in [1, 2, 3] {
        refused(office, &back(version));
    }
    for action in ["article.created", "article.updated", "article.change_undone"] {
        refused(office, &format!("{}; {}", entry(action, id, "3"), back(3)));
    }
    refused(office, &format!("{}; {}", entry("article.restored", id, "3"), back(2)));
    refused(office, &format!("{}; {}", entry("article.restored", id, "3"), back(3).replace("'draft'", "'published'")));
    // What was never there does not come back.
    let never = new_id();
    let begun = format!("{}; {}", entry("article.created", &never, "1"), entry("article.restored", &never, "2"));
    refused(office, &format!("{begun}; {}", back(2).replace(id, &never)));
    refused(office, &format!("{}; {}", entry("article.restored", id, "4"), back(4)));
    office.db_script(&format!("BEGIN; {}; {}; COMMIT", entry("article.restored", id, "3"), back(3))).unwrap();
    // And not over one that is there.
    refused(office, &format!("{}; {}", entry("article.restored", id, "4"), back(4)));
    assert_eq!(admin.get(&path).expect(200).value("version"), &json!(3));
}
