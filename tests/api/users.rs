//! Accounts: who makes and changes them, how they are found, and how a password comes to be.

use serde_json::{Value, json};

use crate::harness::{Caller, Office, Person};

api_tests! {
    an_account_is_created_without_a_password_and_set_up_by_its_user,
    a_setup_token_is_good_once_and_for_seventy_two_hours,
    a_renewed_setup_token_voids_the_password_and_ends_the_sessions,
    all_that_is_wrong_with_an_account_is_told_at_once,
    a_name_that_could_forge_a_note_is_refused,
    an_address_is_taken_in_any_case,
    an_account_changes_with_its_version,
    a_change_that_changes_nothing_leaves_no_version_and_no_entry,
    a_patch_takes_known_members_only_and_removes_none,
    a_precondition_guards_an_account,
    nobody_changes_their_own_role_or_status,
    the_last_administrator_stays_one,
    only_holders_of_the_permission_see_and_change_accounts,
    a_disabled_user_is_out_at_once,
    a_role_counts_from_the_next_request_on,
    an_administrator_ends_all_sessions_of_a_user,
    users_are_found_by_part_of_their_name_or_address,
    users_are_narrowed_by_address_role_and_status,
    users_come_in_pages_newest_first,
    the_button_says_whom_one_may_act_as_and_why_not,
}

fn create(admin: &Caller, email: &str, role: &str) -> Value {
    admin.post("/v1/users", json!({ "email": email, "display_name": "Nina New", "role": role })).expect(201).body
}

fn set_password(office: &Office, token: &str, password: &str) -> crate::harness::Answer {
    office.anonymous().post("/v1/auth/password", json!({ "setup_token": token, "new_password": password }))
}

fn log_in(office: &Office, email: &str, password: &str) -> crate::harness::Answer {
    office.anonymous().post("/v1/auth/login", json!({ "email": email, "password": password }))
}

fn path_of(user: &Person) -> String {
    format!("/v1/users/{}", user.id)
}

/// The newest entries about this user.
fn entries_of(admin: &Caller, id: &str) -> Vec<String> {
    let entries = admin.get(&format!("/v1/history?resource_id={id}")).expect(200);
    entries.items().iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
}

fn an_account_is_created_without_a_password_and_set_up_by_its_user(office: &Office) {
    let admin = office.administrator();
    let body = json!({ "email": "Nina@Example.org", "display_name": "  Nina New ", "role": "editor" });
    let made = admin.post("/v1/users", body).expect(201);
    let path = format!("/v1/users/{}", made.str("id"));
    assert_eq!((made.header("location"), made.header("etag")), (Some(path.as_str()), Some("\"1\"")));
    assert_eq!((made.str("email"), made.str("display_name"), made.str("role")), ("Nina@Example.org", "Nina New", "editor"));
    assert_eq!((made.str("status"), made.value("version")), ("active", &json!(1)));
    let hours = chrono::DateTime::parse_from_rfc3339(made.str("setup_expires_at")).unwrap().to_utc() - office.now();
    assert!((71 * 60..=72 * 60).contains(&hours.num_minutes()), "{made}");
    let shown = admin.get(&path).expect(200);
    let mut members: Vec<_> = shown.body.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    let expected = ["created_at", "display_name", "email", "id", "impersonation", "role", "status", "updated_at", "version"];
    assert_eq!(members, expected, "no password, no hash, no token");

    log_in(office, "nina@example.org", "").problem(401, "invalid_credentials");
    set_password(office, made.str("setup_token"), "a good password").expect(204);
    let grant = log_in(office, "NINA@example.ORG", "a good password").expect(200);
    assert_eq!(grant.str("session/subject/id"), made.str("id"));
    assert_eq!(entries_of(&admin, made.str("id")), ["user.password_changed", "user.created"]);
}

fn a_setup_token_is_good_once_and_for_seventy_two_hours(office: &Office) {
    let admin = office.administrator();
    let nina = create(&admin, "nina@example.org", "author");
    let token = nina["setup_token"].as_str().unwrap();
    for (password, code) in [("short", "too_short"), (&*"x".repeat(73), "too_long"), (&*"é".repeat(37), "too_long")] {
        assert_eq!(set_password(office, token, password).problem(422, "invalid_request").str("errors/0/code"), code);
    }
    set_password(office, token, "nul\0inside it").problem(400, "malformed_request");
    set_password(office, token, "a good password").expect(204);
    set_password(office, token, "another password").problem(401, "invalid_credentials");
    log_in(office, "nina@example.org", "another password").problem(401, "invalid_credentials");

    let late = create(&admin, "late@example.org", "author");
    let in_time = create(&admin, "intime@example.org", "author");
    for token in ["", "x", &token[..token.len() - 1], nina["id"].as_str().unwrap(), &admin.refresh_token, &admin.access_token] {
        set_password(office, token, "another password").problem(401, "invalid_credentials");
    }
    office.advance(72 * 3600 - 60);
    set_password(office, in_time["setup_token"].as_str().unwrap(), "just in time").expect(204);
    office.advance(61);
    set_password(office, late["setup_token"].as_str().unwrap(), "too late now").problem(401, "invalid_credentials");
}

fn a_renewed_setup_token_voids_the_password_and_ends_the_sessions(office: &Office) {
    let (admin, editor, author) = (office.administrator(), office.editor(), office.author());
    let acting = office.impersonate(&admin, &editor);
    let renew = |user: &Person| admin.post_empty(&format!("{}/setup-token", path_of(user)));
    let first = renew(&editor).expect(201);
    assert_eq!((first.str("id"), first.header("location")), (editor.id.as_str(), Some(path_of(&editor).as_str())));
    editor.get("/v1/me").problem(401, "session_ended");
    editor.refresh().problem(401, "session_ended");
    assert_eq!(acting.get("/v1/me").problem(401, "impersonation_ended").str("cause"), "password_changed");
    log_in(office, &editor.email, &editor.password).problem(401, "invalid_credentials");
    author.get("/v1/me").expect(200);
    admin.get("/v1/me").expect(200);

    let second = renew(&editor).expect(201);
    set_password(office, first.str("setup_token"), "with the first").problem(401, "invalid_credentials");
    set_password(office, second.str("setup_token"), "with the second").expect(204);
    log_in(office, &editor.email, "with the second").expect(200);
    assert_eq!(renew(&admin).problem(403, "action_refused").reasons(), ["own_account"]);
    admin.post_empty("/v1/users/019aa0f0-0000-7000-8000-0000000000aa/setup-token").problem(404, "not_found");
}

fn all_that_is_wrong_with_an_account_is_told_at_once(office: &Office) {
    let admin = office.administrator();
    let users = office.db_count("SELECT count(*) FROM users");
    let wrong = json!({ "email": "nobody", "display_name": "", "role": "author" });
    assert_eq!(admin.post("/v1/users", wrong).problem(422, "invalid_request").pointers(), ["/email", "/display_name"]);
    for (body, status, code, pointer) in [
        (json!({ "email": "a@b.org", "display_name": "A", "role": "owner" }), 422, "invalid_request", "/role"),
        (json!({ "email": "a@b.org", "display_name": "A" }), 422, "invalid_request", "/role"),
        (json!({ "email": "a@b.org", "display_name": "A", "role": null }), 422, "invalid_request", "/role"),
        (json!({ "email": "a@b.org", "display_name": "A", "role": "author", "password": "x" }), 400, "unknown_field", "/password"),
        (json!({ "email": "a@b.org", "display_name": "A", "role": "author", "status": "active" }), 400, "unknown_field", "/status"),
        (json!({ "email": "A <a@b.org>", "display_name": "A", "role": "author" }), 422, "invalid_request", "/email"),
        (json!({ "email": "a@b@c.org", "display_name": "A", "role": "author" }), 422, "invalid_request", "/email"),
        (json!({ "email": "é@b.org", "display_name": "A", "role": "author" }), 422, "invalid_request", "/email"),
        (json!({ "email": format!("{}@b.org", "a".repeat(250)), "display_name": "A", "role": "author" }), 422, "invalid_request", "/email"),
        (json!({ "email": "a@b.org", "display_name": "A".repeat(101), "role": "author" }), 422, "invalid_request", "/display_name"),
    ] {
        assert_eq!(admin.post("/v1/users", body.clone()).problem(status, code).pointers(), [pointer], "{body}");
    }
    assert_eq!(office.db_count("SELECT count(*) FROM users"), users);
}

fn a_name_that_could_forge_a_note_is_refused(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    for name in [
        "Ada\nAdmin",
        "Ada\tAdmin",
        "Ada\u{1b}[31m",
        "Ada \u{202E}rotidE dE sa gnitca",
        "Ada\u{2066}Admin",
        "Ada\u{200F}",
        "Ada\u{200B}Admin",
        "\u{200D}",
        "\u{2028}",
        "\u{3164}",
        "   ",
    ] {
        let made = admin.post("/v1/users", json!({ "email": "forger@example.org", "display_name": name, "role": "author" }));
        assert_eq!(made.problem(422, "invalid_request").pointers(), ["/display_name"], "{name:?}");
        let changed = admin.patch(&path_of(&editor), json!({ "display_name": name }));
        assert_eq!(changed.problem(422, "invalid_request").pointers(), ["/display_name"], "{name:?}");
    }
    for name in ["Zoë O’Brien-Łukasiewicz", "محمد", "李小龍", "नमस्ते", "👩‍🚀 Major Tom"] {
        assert_eq!(admin.patch(&path_of(&editor), json!({ "display_name": name })).expect(200).str("display_name"), name);
    }
}

fn an_address_is_taken_in_any_case(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let upper = editor.email.to_uppercase();
    for email in [&editor.email, &upper] {
        let body = json!({ "email": email, "display_name": "Another", "role": "author" });
        admin.post("/v1/users", body).problem(409, "email_taken");
        admin.patch(&path_of(&admin), json!({ "email": email })).problem(409, "email_taken");
    }
    // One's own in another case is nobody else's, and what was given up is free.
    let changed = admin.patch(&path_of(&editor), json!({ "email": upper })).expect(200);
    assert_eq!((changed.str("email"), changed.value("version")), (upper.as_str(), &json!(2)));
    admin.patch(&path_of(&editor), json!({ "email": "elsewhere@example.org" })).expect(200);
    create(&admin, &editor.email, "author");
    log_in(office, "Elsewhere@example.org", &editor.password).expect(200);
}

fn an_account_changes_with_its_version(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let before = admin.get(&path_of(&editor)).expect(200);
    office.advance(60);
    let change = json!({ "email": "new@example.org", "display_name": "New Name", "role": "author" });
    let after = admin.patch(&path_of(&editor), change).expect(200);
    assert_eq!((after.header("etag"), after.value("version")), (Some("\"2\""), &json!(2)));
    assert_eq!((after.str("email"), after.str("display_name"), after.str("role")), ("new@example.org", "New Name", "author"));
    assert_eq!((after.str("status"), after.value("created_at")), ("active", before.value("created_at")));
    assert!(after.str("updated_at") > before.str("updated_at"));
    assert_eq!(admin.get(&path_of(&editor)).expect(200).body, after.body);
    let entry = admin.get(&format!("/v1/history?resource_id={}&limit=1", editor.id)).expect(200);
    assert_eq!(entry.value("items/0/resource"), &json!({ "type": "user", "id": editor.id, "version": 2 }));
    let expected = json!({
        "display_name": { "from": editor.display_name, "to": "New Name" },
        "email": { "from": editor.email, "to": "new@example.org" },
        "role": { "from": "editor", "to": "author" },
    });
    assert_eq!(entry.value("items/0/changes"), &expected);
    admin.patch("/v1/users/019aa0f0-0000-7000-8000-0000000000aa", json!({})).problem(404, "not_found");
}

fn a_change_that_changes_nothing_leaves_no_version_and_no_entry(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let before = admin.get(&path_of(&editor)).expect(200);
    let entries = entries_of(&admin, &editor.id);
    for same in [json!({}), json!({ "role": "editor" }), json!({ "email": editor.email, "status": "active" })] {
        assert_eq!(admin.patch(&path_of(&editor), same).expect(200).body, before.body);
    }
    let own = json!({ "role": "administrator", "status": "active" });
    assert_eq!(admin.patch(&path_of(&admin), own).expect(200).value("version"), 1, "what stays as it is is no change of one's own role");
    assert_eq!(entries_of(&admin, &editor.id), entries);
}

fn a_patch_takes_known_members_only_and_removes_none(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    for (patch, status, code, pointers) in [
        (json!({ "email": null }), 422, "invalid_request", &["/email"][..]),
        (json!({ "role": null }), 422, "invalid_request", &["/role"]),
        (json!({ "status": "deleted" }), 422, "invalid_request", &["/status"]),
        (json!({ "password": "hunter2 hunter2" }), 400, "unknown_field", &["/password"]),
        (json!({ "id": "x" }), 400, "unknown_field", &["/id"]),
        (json!({ "email": "x", "display_name": "" }), 422, "invalid_request", &["/email", "/display_name"]),
    ] {
        assert_eq!(admin.patch(&path_of(&editor), patch.clone()).problem(status, code).pointers(), pointers, "{patch}");
    }
    assert_eq!(admin.get(&path_of(&editor)).expect(200).value("version"), 1);
}

fn a_precondition_guards_an_account(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let patch = |name: &str, if_match: &str| {
        admin.request("PATCH", &path_of(&editor)).json(&json!({ "display_name": name })).header("If-Match", if_match).send()
    };
    patch("Two", "\"1\"").expect(200);
    patch("Three", "\"1\"").problem(412, "version_mismatch");
    patch("Three", "W/\"2\"").problem(412, "version_mismatch");
    patch("Three", "two").problem(400, "malformed_request");
    assert_eq!(admin.get(&path_of(&editor)).expect(200).str("display_name"), "Two");
    patch("Three", "\"1\", \"2\"").expect(200);
    patch("Four", "*").expect(200);
}

fn nobody_changes_their_own_role_or_status(office: &Office) {
    let (admin, other) = (office.administrator(), office.administrator());
    for change in [json!({ "role": "author" }), json!({ "status": "disabled" }), json!({ "display_name": "Me", "role": "support" })] {
        assert_eq!(admin.patch(&path_of(&admin), change).problem(403, "action_refused").reasons(), ["own_account"]);
    }
    admin.patch(&path_of(&admin), json!({ "display_name": "Ada Lovelace" })).expect(200);
    admin.patch(&path_of(&other), json!({ "role": "editor" })).expect(200);
    other.patch(&path_of(&other), json!({ "role": "administrator" })).problem(403, "missing_permission");
}

fn the_last_administrator_stays_one(office: &Office) {
    let (first, second) = (office.administrator(), office.administrator());
    first.patch(&path_of(&second), json!({ "status": "disabled" })).expect(200);
    // The disabled one does not count, and nobody else is left who could.
    assert_eq!(office.db_count("SELECT count(*) FROM users WHERE role = 'administrator' AND status = 'active'"), 1);
    first.patch(&path_of(&first), json!({ "status": "disabled" })).problem(403, "action_refused");
    first.patch(&path_of(&second), json!({ "status": "active" })).expect(200);
    let second = second.log_in_again();
    let results = crate::harness::at_once(2, |number| {
        let (caller, other) = if number == 0 { (&first, &second) } else { (&second, &first) };
        caller.patch(&path_of(other), json!({ "role": "author" })).status
    });
    let left = office.db_count("SELECT count(*) FROM users WHERE role = 'administrator' AND status = 'active'");
    assert_eq!(left, 1, "two who demote each other at once: {results:?}");
}

fn only_holders_of_the_permission_see_and_change_accounts(office: &Office) {
    let (admin, support, editor, author) = (office.administrator(), office.support(), office.editor(), office.author());
    let acting = office.impersonate(&admin, &editor);
    for caller in [&*editor, &*author, &*acting] {
        caller.get("/v1/users").problem(403, "missing_permission");
        caller.get(&path_of(&author)).problem(403, "missing_permission");
        caller.get("/v1/users/019aa0f0-0000-7000-8000-0000000000aa").problem(403, "missing_permission");
    }
    support.get("/v1/users").expect(200);
    support.get(&path_of(&admin)).expect(200);
    for caller in [&*support, &*editor, &*author] {
        let new = json!({ "email": "x@example.org", "display_name": "X", "role": "author" });
        assert_eq!(caller.post("/v1/users", new).problem(403, "missing_permission").reasons(), ["missing_permission"]);
        caller.patch(&path_of(&author), json!({ "display_name": "X" })).problem(403, "missing_permission");
        caller.post_empty(&format!("{}/setup-token", path_of(&author))).problem(403, "missing_permission");
        caller.delete(&format!("{}/sessions", path_of(&author))).problem(403, "missing_permission");
    }
    let change = json!({ "display_name": "X" });
    acting.patch(&path_of(&editor), change.clone()).problem(403, "forbidden_under_impersonation");
    acting.post("/v1/users", change).problem(403, "forbidden_under_impersonation");
    assert_eq!(office.db_count("SELECT count(*) FROM users WHERE version > 1"), 0);
}

fn a_disabled_user_is_out_at_once(office: &Office) {
    let (admin, support, editor) = (office.administrator(), office.support(), office.editor());
    let elsewhere = support.log_in_again();
    let by_support = office.impersonate(&support, &editor);
    let editors_own = editor.log_in_again();
    admin.patch(&path_of(&support), json!({ "status": "disabled" })).expect(200);
    support.get("/v1/me").problem(401, "session_ended");
    elsewhere.get("/v1/me").problem(401, "session_ended");
    support.refresh().problem(401, "session_ended");
    assert_eq!(by_support.get("/v1/me").problem(401, "impersonation_ended").str("cause"), "actor_disabled");
    by_support.log_out().problem(401, "original_session_ended");
    log_in(office, &support.email, &support.password).problem(401, "invalid_credentials");
    editor.get("/v1/me").expect(200);
    editors_own.get("/v1/me").expect(200);

    // Active again, one logs in anew; what had ended stays so.
    admin.patch(&path_of(&support), json!({ "status": "active" })).expect(200);
    support.get("/v1/me").problem(401, "session_ended");
    by_support.get("/v1/me").problem(401, "impersonation_ended");
    support.log_in_again().get("/v1/me").expect(200);
}

fn a_role_counts_from_the_next_request_on(office: &Office) {
    let (admin, support) = (office.administrator(), office.support());
    support.get("/v1/users").expect(200);
    admin.patch(&path_of(&support), json!({ "role": "author" })).expect(200);
    support.get("/v1/users").problem(403, "missing_permission");
    assert_eq!(support.get("/v1/me").expect(200).value("permissions"), &json!(["articles:create"]));
}

fn an_administrator_ends_all_sessions_of_a_user(office: &Office) {
    let (admin, support, editor) = (office.administrator(), office.support(), office.editor());
    let second = support.log_in_again();
    let by_support = office.impersonate(&second, &editor);
    let of_editor = office.impersonate(&admin, &editor);
    admin.delete(&format!("{}/sessions", path_of(&support))).expect(204);
    support.get("/v1/me").problem(401, "session_ended");
    second.get("/v1/me").problem(401, "session_ended");
    second.refresh().problem(401, "session_ended");
    assert_eq!(by_support.get("/v1/me").problem(401, "impersonation_ended").str("cause"), "original_session_ended");
    admin.delete(&format!("{}/sessions", path_of(&support))).expect(204);
    admin.delete(&format!("{}/sessions", path_of(&editor))).expect(204);
    editor.get("/v1/me").problem(401, "session_ended");
    of_editor.get("/v1/me").expect(200);
    admin.delete("/v1/users/019aa0f0-0000-7000-8000-0000000000aa/sessions").problem(404, "not_found");
    support.log_in_again().get("/v1/me").expect(200);
}

fn names(admin: &Caller, query: &str) -> Vec<String> {
    let users = admin.get(&format!("/v1/users{query}")).expect(200);
    users.items().iter().map(|user| user["display_name"].as_str().unwrap().to_owned()).collect()
}

fn users_are_found_by_part_of_their_name_or_address(office: &Office) {
    let admin = office.administrator();
    for (email, name) in [("zoe@sea.org", "Zoë Ångström"), ("per_cent@sea.org", "Per 100% Cent"), ("back@sea.org", r"Back \ Slash")] {
        admin.post("/v1/users", json!({ "email": email, "display_name": name, "role": "author" })).expect(201);
    }
    let found = |q: &str| names(&admin, &format!("?q={}", q.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>()));
    assert_eq!(found("zoË ån"), ["Zoë Ångström"]);
    assert_eq!(found("ZOE@SEA"), ["Zoë Ångström"]);
    assert_eq!(found("100%"), ["Per 100% Cent"]);
    assert_eq!(found("r_c"), ["Per 100% Cent"]);
    assert_eq!(found(r"\"), [r"Back \ Slash"]);
    assert_eq!(found("_oe"), [] as [&str; 0]);
    assert_eq!(found("sea.org").len(), 3);
    assert_eq!(found("%%"), [] as [&str; 0]);
    let renamed = admin.get("/v1/users?email=zoe@sea.org").expect(200);
    let path = format!("/v1/users/{}", renamed.str("items/0/id"));
    admin.patch(&path, json!({ "display_name": "Zora" })).expect(200);
    assert_eq!((found("zora"), found("ångström")), (vec!["Zora".to_owned()], vec![]), "by the name that is there now");
}

fn users_are_narrowed_by_address_role_and_status(office: &Office) {
    let (admin, editor, author) = (office.administrator(), office.editor(), office.author());
    admin.patch(&path_of(&author), json!({ "status": "disabled" })).expect(200);
    let of = |person: &Person| person.display_name.clone();
    assert_eq!(names(&admin, &format!("?email={}", editor.email.to_uppercase())), [of(&editor)]);
    assert_eq!(names(&admin, "?email=nobody@example.org"), [] as [&str; 0]);
    assert_eq!(names(&admin, "?role=editor"), [of(&editor)]);
    assert_eq!(names(&admin, "?status=disabled"), [of(&author)]);
    assert_eq!(names(&admin, "?status=active"), [of(&editor), of(&admin)]);
    assert_eq!(names(&admin, "?status=active&role=author"), [] as [&str; 0]);
    assert_eq!(names(&admin, "?status=active&role=editor&q=ed"), [of(&editor)]);
    for (query, status, code, place) in [
        ("email=nobody", 422, "invalid_request", "email"),
        ("role=owner", 422, "invalid_request", "role"),
        ("status=gone", 422, "invalid_request", "status"),
        ("name=Ed", 400, "unknown_parameter", "name"),
    ] {
        assert_eq!(admin.get(&format!("/v1/users?{query}")).problem(status, code).pointers(), [place]);
    }
}

fn users_come_in_pages_newest_first(office: &Office) {
    let admin = office.administrator();
    let people: Vec<Person> = (0..4).map(|_| office.author()).collect();
    let first = admin.get("/v1/users?limit=2").expect(200);
    office.author();
    let mut seen: Vec<String> = first.items().iter().map(|user| user["id"].as_str().unwrap().to_owned()).collect();
    let mut cursor = first.value("next_cursor").clone();
    while let Some(after) = cursor.as_str() {
        let page = admin.get(&format!("/v1/users?limit=2&cursor={after}")).expect(200);
        seen.extend(page.items().iter().map(|user| user["id"].as_str().unwrap().to_owned()));
        cursor = page.value("next_cursor").clone();
    }
    let mut expected: Vec<String> = people.iter().map(|person| person.id.clone()).collect();
    expected.insert(0, admin.id.clone());
    expected.reverse();
    assert_eq!(seen, expected);
}

fn the_button_says_whom_one_may_act_as_and_why_not(office: &Office) {
    let (admin, other_admin, support, editor, author) =
        (office.administrator(), office.administrator(), office.support(), office.editor(), office.author());
    admin.patch(&path_of(&author), json!({ "status": "disabled" })).expect(200);
    let told = |caller: &Caller, user: &Person| -> Vec<String> {
        let one = caller.get(&path_of(user)).expect(200);
        let listed = caller.get(&format!("/v1/users?email={}", user.email)).expect(200);
        assert_eq!(listed.value("items/0"), &one.body, "the list and the page agree");
        let button = one.value("impersonation");
        let reasons: Vec<_> =
            button["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap().to_owned()).collect();
        assert_eq!(button["allowed"], reasons.is_empty());
        // And the call itself says the same.
        let start = caller.post(&format!("{}/impersonate", path_of(user)), json!({ "reason": "to see" }));
        if reasons.is_empty() {
            start.expect(201);
        } else {
            assert_eq!(start.problem(403, "impersonation_refused").reasons(), reasons);
        }
        reasons
    };
    assert_eq!(told(&admin, &editor), [] as [&str; 0]);
    assert_eq!(told(&support, &editor), [] as [&str; 0]);
    assert_eq!(told(&admin, &author), ["subject_inactive"]);
    assert_eq!(told(&admin, &support), ["subject_may_impersonate"]);
    assert_eq!(told(&admin, &other_admin), ["subject_may_impersonate"]);
    assert_eq!(told(&admin, &admin), ["self", "subject_may_impersonate"]);
    assert_eq!(told(&support, &admin), ["subject_may_impersonate", "subject_outranks_caller"]);
}
