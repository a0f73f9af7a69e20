//! Clients: who makes and changes them, what each may have, and that a secret is told once.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::command_line::{command, on, run};
use crate::harness::{Answer, Caller, Office, Program, Setup, at_once};

api_tests! {
    a_client_is_created_with_a_secret_and_shown_without,
    what_is_left_out_of_a_new_client_is_empty,
    a_list_is_kept_in_one_order_and_each_item_once,
    clients_come_in_pages_newest_first_after_the_first_party_client,
    a_client_changes_with_its_version,
    a_change_that_changes_nothing_leaves_no_version_and_no_entry,
    a_precondition_guards_a_client_and_its_secret,
    a_disabled_client_is_enabled_again,
    all_that_is_wrong_with_a_client_is_told_at_once,
    each_value_that_can_not_be_is_refused_where_it_stands,
    a_patch_takes_known_members_only_and_removes_none,
    a_client_has_fifty_audiences_and_presenters_at_most,
    a_presenter_is_a_client_that_there_is,
    what_is_no_client_is_not_found,
    the_first_party_client_is_public_and_stays,
    a_secret_is_replaced_and_may_overlap,
    every_change_of_a_client_writes_one_entry_that_names_whoever_made_it,
    only_administrators_see_and_change_clients,
    a_secret_is_told_once_and_kept_nowhere,
    of_parallel_changes_of_one_version_one_wins,
    parallel_changes_and_rotations_follow_one_another_without_a_gap,
    clients_are_made_and_changed_by_command_beside_a_server,
    a_command_adds_and_removes_items_of_lists,
    what_a_command_can_not_do_it_says_with_its_status,
    a_command_finds_the_first_party_client_before_any_server_started,
    parallel_commands_lose_nothing,
}

const NOBODY: &str = "019aa0f0-0000-7000-8000-0000000000ff";

fn archive() -> Value {
    json!({
        "name": "Archive", "grants": ["token_exchange", "client_credentials"], "scope": "users:read articles:read_all",
        "audiences": ["https://search.example"], "presenters": ["actas"],
    })
}

/// Makes a client and answers its path.
fn made(admin: &Caller, body: Value) -> String {
    format!("/v1/clients/{}", admin.post("/v1/clients", body).expect(201).str("id"))
}

fn plain(admin: &Caller) -> String {
    made(admin, json!({ "name": "Plain" }))
}

fn id_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

/// The entries about a client, newest first.
fn entries_of(admin: &Caller, id: &str) -> Vec<Value> {
    admin.all_items(&format!("/v1/history?resource_type=client&resource_id={id}"))
}

fn members(value: &Value) -> Vec<&str> {
    let mut members: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    members
}

const MEMBERS: [&str; 10] = ["audiences", "created_at", "grants", "id", "name", "presenters", "scope", "status", "updated_at", "version"];

fn a_client_is_created_with_a_secret_and_shown_without(office: &Office) {
    let admin = office.administrator();
    let made = admin.post("/v1/clients", archive()).expect(201);
    let path = format!("/v1/clients/{}", made.str("id"));
    assert_eq!((made.header("location"), made.header("etag")), (Some(path.as_str()), Some("\"1\"")));
    assert!(made.str("client_secret").starts_with("actas_cs_") && made.str("client_secret").len() == 52, "{made}");

    let shown = admin.get(&path).expect(200);
    assert_eq!(shown.header("etag"), Some("\"1\""));
    assert_eq!(members(&shown.body), MEMBERS, "no secret, no hash");
    let mut without = made.body.clone();
    without.as_object_mut().unwrap().remove("client_secret");
    assert_eq!(shown.body, without);
    assert_eq!((shown.str("name"), shown.str("status"), shown.value("version")), ("Archive", "active", &json!(1)));
    assert_eq!(shown.value("grants"), &json!(["client_credentials", "token_exchange"]));
    assert_eq!(shown.str("scope"), "articles:read_all users:read");
    assert_eq!((shown.value("audiences"), shown.value("presenters")), (&json!(["https://search.example"]), &json!(["actas"])));
    assert_eq!(shown.value("created_at"), shown.value("updated_at"));
    assert_eq!(admin.get("/v1/clients").expect(200).value("items/1"), &shown.body);
}

fn what_is_left_out_of_a_new_client_is_empty(office: &Office) {
    let client = office.administrator().post("/v1/clients", json!({ "name": "  Plain " })).expect(201);
    for list in ["grants", "audiences", "presenters"] {
        assert_eq!(client.value(list), &json!([]), "{list}");
    }
    assert_eq!((client.str("name"), client.str("scope")), ("Plain", ""));
}

fn a_list_is_kept_in_one_order_and_each_item_once(office: &Office) {
    let admin = office.administrator();
    let body = json!({
        "name": "Twice", "grants": ["token_exchange", "impersonate", "token_exchange"], "scope": "users:read users:read articles:create",
        "audiences": ["b", "a", "b"], "presenters": ["actas", "actas"],
    });
    let path = made(&admin, body.clone());
    let client = admin.get(&path).expect(200);
    assert_eq!(client.value("grants"), &json!(["impersonate", "token_exchange"]));
    assert_eq!((client.str("scope"), client.value("audiences")), ("articles:create users:read", &json!(["a", "b"])));
    assert_eq!(client.value("presenters"), &json!(["actas"]));
    assert_eq!(admin.patch(&path, body).expect(200).value("version"), 1, "the same in another order is the same");
}

fn clients_come_in_pages_newest_first_after_the_first_party_client(office: &Office) {
    let admin = office.administrator();
    let mut expected: Vec<String> = (0..5).map(|_| id_of(&plain(&admin)).to_owned()).collect();
    expected.push("actas".to_owned());
    expected.reverse();
    let first = admin.get("/v1/clients?limit=2").expect(200);
    assert!(first.header("link").is_some_and(|link| link.starts_with("<?limit=2&cursor=") && link.ends_with("rel=\"next\"")), "{first}");
    plain(&admin);
    let mut seen: Vec<String> = first.items().iter().map(|client| client["id"].as_str().unwrap().to_owned()).collect();
    let mut cursor = first.value("next_cursor").clone();
    while let Some(after) = cursor.as_str() {
        let page = admin.get(&format!("/v1/clients?limit=2&cursor={after}")).expect(200);
        seen.extend(page.items().iter().map(|client| client["id"].as_str().unwrap().to_owned()));
        cursor = page.value("next_cursor").clone();
    }
    assert_eq!(seen, expected, "a page never shifts because clients were added");

    let one = admin.get("/v1/clients?limit=1").expect(200);
    assert_eq!(one.str("items/0/id"), "actas");
    assert_eq!(admin.all_items("/v1/clients?limit=1").len(), 7);
    let of_another = admin.get("/v1/history?limit=1").expect(200);
    for query in ["limit=0", "limit=201", "cursor=x", &format!("cursor={}", of_another.str("next_cursor"))] {
        admin.get(&format!("/v1/clients?{query}")).problem(422, "invalid_request");
    }
    admin.get("/v1/clients?status=active").problem(400, "unknown_parameter");
}

fn a_client_changes_with_its_version(office: &Office) {
    let admin = office.administrator();
    let path = made(&admin, archive());
    let before = admin.get(&path).expect(200);
    office.advance(60);
    let change =
        json!({ "name": "Attic", "grants": ["token_exchange"], "scope": "", "audiences": ["https://a.example", "b"], "presenters": [] });
    let request = admin.request("PATCH", &path).body("application/merge-patch+json", change.to_string());
    let after = request.send().expect(200);
    assert_eq!((after.header("etag"), after.value("version"), after.str("name")), (Some("\"2\""), &json!(2), "Attic"));
    assert_eq!((after.value("grants"), after.str("scope")), (&json!(["token_exchange"]), ""));
    assert_eq!((after.value("audiences"), after.value("presenters")), (&json!(["b", "https://a.example"]), &json!([])));
    assert_eq!((after.str("status"), after.value("created_at")), ("active", before.value("created_at")));
    assert!(after.str("updated_at") > before.str("updated_at"));
    assert_eq!(members(&after.body), MEMBERS);
    assert_eq!(admin.get(&path).expect(200).body, after.body);
    // What is left out stays.
    let renamed = admin.patch(&path, json!({ "name": "Loft" })).expect(200);
    assert_eq!((renamed.value("audiences"), renamed.value("version")), (after.value("audiences"), &json!(3)));
}

fn a_change_that_changes_nothing_leaves_no_version_and_no_entry(office: &Office) {
    let admin = office.administrator();
    let path = made(&admin, archive());
    let before = admin.get(&path).expect(200);
    for same in [json!({}), archive(), json!({ "status": "active" })] {
        assert_eq!(admin.patch(&path, same).expect(200).body, before.body);
    }
    assert_eq!(entries_of(&admin, id_of(&path)).len(), 1);
}

fn a_precondition_guards_a_client_and_its_secret(office: &Office) {
    let admin = office.administrator();
    let path = plain(&admin);
    let patch =
        |name: &str, if_match: &str| admin.request("PATCH", &path).json(&json!({ "name": name })).header("If-Match", if_match).send();
    let rotate = |if_match: &str| admin.request("POST", &format!("{path}/secret")).header("If-Match", if_match).send();
    patch("Two", "\"1\"").expect(200);
    patch("Three", "\"1\"").problem(412, "version_mismatch");
    patch("Three", "W/\"2\"").problem(412, "version_mismatch");
    patch("Three", "two").problem(400, "malformed_request");
    rotate("\"1\"").problem(412, "version_mismatch");
    rotate("two").problem(400, "malformed_request");
    assert_eq!(admin.get(&path).expect(200).str("name"), "Two");
    assert_eq!(rotate("\"2\"").expect(201).header("etag"), Some("\"3\""));
    patch("Four", "\"1\", \"3\"").expect(200);
    patch("Five", "*").expect(200);
    rotate("*").expect(201);
    assert_eq!(entries_of(&admin, id_of(&path)).len(), 6);
}

fn a_disabled_client_is_enabled_again(office: &Office) {
    let admin = office.administrator();
    let path = made(&admin, archive());
    let disabled = admin.patch(&path, json!({ "status": "disabled" })).expect(200);
    assert_eq!((disabled.str("status"), disabled.value("version")), ("disabled", &json!(2)));
    // It is there, and can be changed.
    assert_eq!(admin.get(&path).expect(200).body, disabled.body);
    admin.patch(&path, json!({ "name": "Attic" })).expect(200);
    admin.post_empty(&format!("{path}/secret")).expect(201);
    let active = admin.patch(&path, json!({ "status": "active" })).expect(200);
    assert_eq!((active.str("status"), active.str("name"), active.value("version")), ("active", "Attic", &json!(5)));
    assert_eq!(active.value("grants"), disabled.value("grants"));
    admin.delete(&path).problem(405, "method_not_allowed");
}

fn all_that_is_wrong_with_a_client_is_told_at_once(office: &Office) {
    let admin = office.administrator();
    let path = plain(&admin);
    let wrong = json!({ "name": "", "scope": "users:read nonsense", "audiences": ["good", "two words", ""] });
    let pointers = ["/name", "/scope", "/audiences/1", "/audiences/2"];
    let refused = admin.post("/v1/clients", wrong.clone()).problem(422, "invalid_request");
    assert_eq!(refused.pointers(), pointers);
    assert_eq!(refused.str("errors/1/code"), "unknown_scope");
    assert!(!refused.text.contains("nonsense"), "{refused}");
    assert_eq!(admin.patch(&path, wrong).problem(422, "invalid_request").pointers(), pointers);
    assert_eq!(admin.get("/v1/clients").expect(200).items().len(), 2);
    assert_eq!(admin.get(&path).expect(200).value("version"), 1);
}

fn each_value_that_can_not_be_is_refused_where_it_stands(office: &Office) {
    let admin = office.administrator();
    let path = plain(&admin);
    for (member, value, pointer) in [
        ("name", json!("Ada\u{202E}"), "/name"),
        ("name", json!("x".repeat(101)), "/name"),
        ("name", json!(5), "/name"),
        ("grants", json!(["password"]), "/grants/0"),
        ("grants", json!("token_exchange"), "/grants"),
        // The first-party client's alone.
        ("grants", json!(["token_exchange", "refresh_token"]), "/grants"),
        ("scope", json!("users:read  users:write"), "/scope"),
        ("scope", json!("users:read "), "/scope"),
        ("scope", json!("openid"), "/scope"),
        ("scope", json!(["users:read"]), "/scope"),
        ("audiences", json!(["x".repeat(201)]), "/audiences/0"),
        ("audiences", json!(["é"]), "/audiences/0"),
        ("audiences", json!(["a\"b"]), "/audiences/0"),
        ("audiences", json!(["a", 5]), "/audiences/1"),
        ("audiences", json!("a"), "/audiences"),
        ("presenters", json!(["Actas"]), "/presenters/0"),
        ("presenters", json!(["actas", NOBODY.to_uppercase()]), "/presenters/1"),
        ("presenters", json!([NOBODY]), "/presenters"),
        ("name", Value::Null, "/name"),
        ("grants", Value::Null, "/grants"),
        ("scope", Value::Null, "/scope"),
        ("audiences", Value::Null, "/audiences"),
        ("presenters", Value::Null, "/presenters"),
    ] {
        let mut body = json!({ "name": "New" });
        body[member] = value.clone();
        assert_eq!(admin.post("/v1/clients", body).problem(422, "invalid_request").pointers(), [pointer], "{member}: {value}");
        let change = json!({ member: value });
        assert_eq!(admin.patch(&path, change.clone()).problem(422, "invalid_request").pointers(), [pointer], "{change}");
    }
    for (body, code, pointer) in [
        (json!({ "name": "New", "status": "active" }), "unknown_field", "/status"),
        (json!({ "name": "New", "id": NOBODY }), "unknown_field", "/id"),
        (json!({ "name": "New", "client_secret": "hunter2" }), "unknown_field", "/client_secret"),
    ] {
        assert_eq!(admin.post("/v1/clients", body.clone()).problem(400, code).pointers(), [pointer], "{body}");
    }
    assert_eq!(admin.post("/v1/clients", json!({})).problem(422, "invalid_request").pointers(), ["/name"]);
    assert_eq!(office.db_count("SELECT count(*) FROM clients"), 2);
    assert_eq!(entries_of(&admin, id_of(&path)).len(), 1);
}

fn a_patch_takes_known_members_only_and_removes_none(office: &Office) {
    let admin = office.administrator();
    let path = plain(&admin);
    for (patch, status, code, pointer) in [
        (json!({ "status": null }), 422, "invalid_request", "/status"),
        (json!({ "status": "deleted" }), 422, "invalid_request", "/status"),
        (json!({ "client_secret": "hunter2" }), 400, "unknown_field", "/client_secret"),
        (json!({ "version": 7 }), 400, "unknown_field", "/version"),
    ] {
        assert_eq!(admin.patch(&path, patch.clone()).problem(status, code).pointers(), [pointer], "{patch}");
    }
    assert_eq!(admin.get(&path).expect(200).value("version"), 1);
}

fn a_client_has_fifty_audiences_and_presenters_at_most(office: &Office) {
    let admin = office.administrator();
    let audiences = |count: usize| (0..count).map(|number| format!("https://{number}.example/{}", "x".repeat(150))).collect::<Vec<_>>();
    let presenters = |count: usize| vec!["actas"; count];
    let path = made(&admin, json!({ "name": "Full", "audiences": audiences(50), "presenters": presenters(50) }));
    assert_eq!(admin.get(&path).expect(200).value("audiences").as_array().unwrap().len(), 50);
    let more = json!({ "name": "Fuller", "audiences": audiences(51), "presenters": presenters(51) });
    for refused in [admin.post("/v1/clients", more.clone()), admin.patch(&path, more)] {
        let refused = refused.problem(422, "invalid_request");
        assert_eq!((refused.pointers(), refused.str("errors/0/code")), (vec!["/audiences", "/presenters"], "too_many"));
    }
    let refused = command(office, &["client", "update", id_of(&path), "--add-audience", "one-more"]).expect(2);
    assert!(refused.stderr.contains("audiences: must have at most 50 items"), "{refused:#?}");
}

fn a_presenter_is_a_client_that_there_is(office: &Office) {
    let admin = office.administrator();
    let (one, other) = (plain(&admin), plain(&admin));
    let unknown = admin.patch(&one, json!({ "presenters": [id_of(&other), NOBODY] })).problem(422, "invalid_request");
    assert_eq!((unknown.pointers(), unknown.str("errors/0/code")), (vec!["/presenters"], "unknown_client"));
    let body = json!({ "presenters": [id_of(&other), "actas"] });
    assert_eq!(admin.patch(&one, body).expect(200).value("presenters"), &json!(["actas", id_of(&other)]));
    // Also one that is disabled, and itself.
    admin.patch(&other, json!({ "status": "disabled" })).expect(200);
    admin.patch(&one, json!({ "presenters": [id_of(&other), id_of(&one)] })).expect(200);
}

fn what_is_no_client_is_not_found(office: &Office) {
    let admin = office.administrator();
    let upper = id_of(&plain(&admin)).to_uppercase();
    for id in [NOBODY, "Actas", "x", &admin.id, &upper, "%00"] {
        let path = format!("/v1/clients/{id}");
        admin.get(&path).problem(404, "not_found");
        admin.patch(&path, json!({ "name": "X" })).problem(404, "not_found");
        admin.post_empty(&format!("{path}/secret")).problem(404, "not_found");
    }
}

fn the_first_party_client_is_public_and_stays(office: &Office) {
    let admin = office.administrator();
    let (path, other) = ("/v1/clients/actas", plain(&admin));
    let actas = admin.get(path).expect(200);
    assert_eq!((actas.str("id"), actas.str("status"), actas.str("scope")), ("actas", "active", ""));
    assert_eq!(actas.value("grants"), &json!(["refresh_token", "token_exchange"]));
    assert_eq!(members(&actas.body), MEMBERS);
    for refused in [
        admin.patch(path, json!({ "status": "disabled" })),
        admin.patch(path, json!({ "scope": "users:read" })),
        admin.post_empty(&format!("{path}/secret")),
        admin.post(&format!("{path}/secret"), json!({ "overlap_seconds": 60 })),
    ] {
        assert_eq!(refused.problem(403, "action_refused").reasons(), ["first_party_client"]);
    }
    let grants = json!({ "grants": ["client_credentials", "refresh_token"] });
    assert_eq!(admin.patch(path, grants).problem(422, "invalid_request").pointers(), ["/grants"]);
    assert_eq!(admin.get(path).expect(200).body, actas.body);

    let change = json!({ "audiences": ["https://search.example"], "presenters": [id_of(&other)], "name": "Our newsroom" });
    let changed = admin.patch(path, change).expect(200);
    assert_eq!((changed.value("presenters"), changed.value("version")), (&json!([id_of(&other)]), &json!(2)));
    office.restart();
    assert_eq!(admin.get(path).expect(200).body, changed.body, "a start leaves it as it is");
    let entries = entries_of(&admin, "actas");
    assert_eq!(entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect::<Vec<_>>(), ["client.updated", "client.created"]);
    assert_eq!((&entries[1]["origin"], &entries[1]["subject"]), (&json!("system"), &Value::Null));
    assert!(office.db_text("SELECT secret_hash FROM clients WHERE id = 'actas'").is_none());
}

fn a_secret_is_replaced_and_may_overlap(office: &Office) {
    let admin = office.administrator();
    let path = format!("{}/secret", made(&admin, archive()));
    let client = path.strip_suffix("/secret").unwrap();
    let hash = |column: &str| office.db_text(&format!("SELECT {column} FROM clients WHERE id = '{}'", id_of(client)));
    let first = hash("secret_hash").unwrap();
    let rotated = admin.post_empty(&path).expect(201);
    assert_eq!((rotated.header("location"), rotated.header("etag")), (Some(client), Some("\"2\"")));
    assert_eq!(rotated.str("id"), id_of(client));
    assert!(rotated.str("client_secret").starts_with("actas_cs_"));
    let second = hash("secret_hash").unwrap();
    assert_ne!(first, second);
    assert_eq!((hash("old_secret_hash"), hash("old_secret_expires_at")), (None, None), "the old one is void at once");

    admin.post(&path, json!({ "overlap_seconds": 3600 })).expect(201);
    assert_eq!(hash("old_secret_hash"), Some(second));
    let third = hash("secret_hash").unwrap();
    // Only one old one at a time, and none where none is wanted.
    admin.post(&path, json!({ "overlap_seconds": 604_800 })).expect(201);
    assert_eq!(hash("old_secret_hash"), Some(third));
    admin.post(&path, json!({})).expect(201);
    assert_eq!(hash("old_secret_hash"), None);

    for (body, status, code, pointer) in [
        (json!({ "overlap_seconds": 604_801 }), 422, "invalid_request", "/overlap_seconds"),
        (json!({ "overlap_seconds": -1 }), 422, "invalid_request", "/overlap_seconds"),
        (json!({ "overlap_seconds": null }), 422, "invalid_request", "/overlap_seconds"),
        (json!({ "secret": "hunter2" }), 400, "unknown_field", "/secret"),
    ] {
        assert_eq!(admin.post(&path, body.clone()).problem(status, code).pointers(), [pointer], "{body}");
    }
    assert_eq!(admin.get(client).expect(200).value("version"), 5);
}

fn every_change_of_a_client_writes_one_entry_that_names_whoever_made_it(office: &Office) {
    let admin = office.administrator();
    let send = |method: &str, path: &str, body: Value| admin.request(method, path).header("X-Request-Id", "the-one").json(&body).send();
    let made = send("POST", "/v1/clients", archive()).expect(201);
    let (id, path) = (made.str("id"), format!("/v1/clients/{}", made.str("id")));
    send("PATCH", &path, json!({ "name": "Attic", "grants": ["token_exchange"], "presenters": [] })).expect(200);
    send("PATCH", &path, json!({ "status": "disabled", "scope": "users:read" })).expect(200);
    send("POST", &format!("{path}/secret"), json!({})).expect(201);
    let until = office.now() + chrono::Duration::seconds(60);
    send("POST", &format!("{path}/secret"), json!({ "overlap_seconds": 60 })).expect(201);

    let mut entries = entries_of(&admin, id);
    entries.reverse();
    let told: Vec<_> = entries.iter().map(|entry| (entry["action"].as_str().unwrap(), entry["changes"].clone())).collect();
    let created = json!({
        "name": { "from": null, "to": "Archive" }, "status": { "from": null, "to": "active" },
        "grants": { "from": null, "to": ["client_credentials", "token_exchange"] },
        "scope": { "from": null, "to": "articles:read_all users:read" },
        "audiences": { "from": null, "to": ["https://search.example"] }, "presenters": { "from": null, "to": ["actas"] },
    });
    let first = json!({
        "name": { "from": "Archive", "to": "Attic" }, "presenters": { "from": ["actas"], "to": [] },
        "grants": { "from": ["client_credentials", "token_exchange"], "to": ["token_exchange"] },
    });
    let second = json!({
        "status": { "from": "active", "to": "disabled" }, "scope": { "from": "articles:read_all users:read", "to": "users:read" },
    });
    assert_eq!(told[..3], [("client.created", created), ("client.updated", first), ("client.updated", second)]);
    assert_eq!(told[3], ("client.secret_rotated", json!({})));
    assert_eq!((told[4].0, told[4].1.as_object().unwrap().len()), ("client.secret_rotated", 1));
    let counts = told[4].1["old_secret_counts_until"]["to"].as_str().unwrap();
    let late = chrono::DateTime::parse_from_rfc3339(counts).unwrap().to_utc() - until;
    assert!((0..30).contains(&late.num_seconds()), "{counts}");
    for entry in &entries {
        assert_eq!((&entry["origin"], &entry["request_id"]), (&json!("api"), &json!("the-one")), "{entry:#}");
        assert_eq!((&entry["subject"], &entry["actor"], &entry["note"]), (&admin.user_ref(), &Value::Null, &Value::Null), "{entry:#}");
        assert_eq!(entry["resource"], json!({ "type": "client", "id": id, "version": null }), "{entry:#}");
    }
    assert_eq!(admin.all_items("/v1/history?action=client.secret_rotated").len(), 2);
}

fn only_administrators_see_and_change_clients(office: &Office) {
    let (admin, support, editor, author) = (office.administrator(), office.support(), office.editor(), office.author());
    let path = plain(&admin);
    let calls = |caller: &Caller| -> [Answer; 5] {
        [
            caller.get("/v1/clients"),
            caller.get(&path),
            caller.post("/v1/clients", json!({ "name": "X" })),
            caller.patch(&path, json!({ "name": "X" })),
            caller.post_empty(&format!("{path}/secret")),
        ]
    };
    for caller in [&*support, &*editor, &*author] {
        for (answer, permission) in calls(caller).into_iter().zip(["read", "read", "write", "write", "write"]) {
            let answer = answer.problem(403, "missing_permission");
            assert!(answer.str("detail").contains(&format!("clients:{permission}")), "{answer}");
        }
        // And learns nothing of what there is, nor of what a body should look like.
        caller.get(&format!("/v1/clients/{NOBODY}")).problem(403, "missing_permission");
        caller.post("/v1/clients", json!({ "colour": "blue" })).problem(403, "missing_permission");
    }
    for acting in [office.impersonate(&admin, &editor), office.impersonate_with(&admin, &editor, json!({ "mode": "read_only" }))] {
        for answer in calls(&acting) {
            answer.problem(403, "forbidden_under_impersonation");
        }
    }
    for answer in calls(&office.anonymous()) {
        answer.problem(401, "credentials_missing");
    }
    assert_eq!((admin.get(&path).expect(200).value("version"), office.db_count("SELECT count(*) FROM clients")), (&json!(1), 2));
    for permission in ["clients:read", "clients:write"] {
        let holds =
            |caller: &Caller| caller.get("/v1/me").expect(200).value("permissions").as_array().unwrap().contains(&json!(permission));
        assert!(holds(&admin) && !holds(&support), "{permission}");
    }
}

fn a_secret_is_told_once_and_kept_nowhere(office: &Office) {
    let admin = office.administrator();
    let program = Program::serving(office, &[("ACTAS_LOG", "trace")]);
    let here = admin.at(&program.office);
    let client = here.post("/v1/clients", archive()).expect(201);
    let path = format!("/v1/clients/{}", client.str("id"));
    let rotated = here.post(&format!("{path}/secret"), json!({ "overlap_seconds": 60 })).expect(201);
    let by_command = |arguments: &[&str]| {
        let mut command = on(&office.database_url(), &[arguments, &["--json"]].concat());
        command.env("ACTAS_LOG", "trace");
        let ran = run(command, b"").expect(0);
        (ran.json()["client_secret"].as_str().unwrap().to_owned(), ran.stderr)
    };
    let (created_by_command, log_of_create) = by_command(&["client", "create", "--name", "By hand"]);
    let (rotated_by_command, log_of_rotate) = by_command(&["client", "rotate-secret", client.str("id"), "--overlap-seconds", "60"]);
    let changed = here.patch(&path, json!({ "status": "disabled" })).expect(200);
    let (shown, listed) = (here.get(&path).expect(200), here.get("/v1/clients").expect(200));
    let history = format!("{:?}", here.all_items("/v1/history?limit=200"));
    let shown_by_command = command(office, &["client", "show", client.str("id"), "--json"]).expect(0).stdout;
    let listed_by_command = command(office, &["client", "list", "--json"]).expect(0).stdout;
    let log = program.kill();
    let dump = office.db_dump();
    assert!(dump.contains(client.str("id")) && log.contains("/v1/clients"), "they are looked for in the right place");
    let secrets = [client.str("client_secret"), rotated.str("client_secret"), &created_by_command, &rotated_by_command];
    assert_eq!(secrets.iter().collect::<BTreeSet<_>>().len(), 4, "each is another");
    let hashes = ["secret_hash", "old_secret_hash"]
        .map(|column| office.db_text(&format!("SELECT {column} FROM clients WHERE id = '{}'", client.str("id"))).unwrap());
    for (place, text) in [
        ("the database", &dump),
        ("the log", &log),
        ("the log of a command", &(log_of_create + &log_of_rotate)),
        ("a change", &changed.text),
        ("a client", &shown.text),
        ("a listing", &listed.text),
        ("the history", &history),
        ("a client by command", &shown_by_command),
        ("a listing by command", &listed_by_command),
    ] {
        for secret in secrets {
            assert!(!text.contains(secret.strip_prefix("actas_cs_").unwrap()), "{place} holds a secret");
        }
        let is_kept = hashes.iter().any(|hash| text.contains(hash.as_str()));
        assert_eq!(is_kept, place == "the database", "{place} holds a hash");
    }
}

fn of_parallel_changes_of_one_version_one_wins(office: &Office) {
    let admin = office.administrator();
    let path = plain(&admin);
    let answers = at_once(8, |number| {
        let patch = admin.request("PATCH", &path).header("If-Match", "\"1\"");
        if number % 2 == 0 {
            patch.json(&json!({ "name": format!("Name {number}") })).send()
        } else {
            admin.request("POST", &format!("{path}/secret")).header("If-Match", "\"1\"").send()
        }
    });
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status < 300);
    assert_eq!((won.len(), lost.len()), (1, 7));
    for answer in lost {
        answer.problem(412, "version_mismatch");
    }
    assert_eq!((admin.get(&path).expect(200).value("version"), entries_of(&admin, id_of(&path)).len()), (&json!(2), 2));
}

fn parallel_changes_and_rotations_follow_one_another_without_a_gap(office: &Office) {
    let admin = office.administrator();
    let path = plain(&admin);
    let answers = at_once(12, |number| match number % 3 {
        0 => admin.patch(&path, json!({ "name": format!("Name {number}") })).expect(200),
        1 => admin
            .patch(&path, json!({ "status": if number % 2 == 0 { "disabled" } else { "active" }, "audiences": [number.to_string()] }))
            .expect(200),
        _ => admin.post(&format!("{path}/secret"), json!({ "overlap_seconds": 60 })).expect(201),
    });
    let versions: BTreeSet<_> = answers.iter().map(|answer| answer.value("version").as_i64().unwrap()).collect();
    assert_eq!(versions, (2..=13).collect());
    assert_eq!(entries_of(&admin, id_of(&path)).len(), 13);
    // The secret that counts is the last one that was told, and the old one is the one before it.
    let told: Vec<_> = answers.iter().filter_map(|answer| answer.body["client_secret"].as_str()).collect();
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), 4);
    assert_eq!(office.db_count("SELECT count(*) FROM clients WHERE old_secret_hash IS NOT NULL AND old_secret_hash <> secret_hash"), 1);
}

// The command line.

fn clients_are_made_and_changed_by_command_beside_a_server(office: &Office) {
    let admin = office.administrator();
    let create = ["client", "create", "--name", "Archive", "--grant", "token_exchange", "--grant", "client_credentials"];
    let terms = ["--scope", "users:read articles:read_all", "--audience", "https://search.example", "--presenter", "actas"];
    let made = command(office, &[&create[..], &terms, &["--json"]].concat()).expect(0);
    assert!(made.stderr.contains("only time"), "{made:#?}");
    let made = made.json();
    assert!(made["client_secret"].as_str().unwrap().starts_with("actas_cs_"));
    let (id, path) = (made["id"].as_str().unwrap(), format!("/v1/clients/{}", made["id"].as_str().unwrap()));
    let served = admin.get(&path).expect(200).body;
    let mut without = made.clone();
    without.as_object_mut().unwrap().remove("client_secret");
    assert_eq!(without, served);
    assert_eq!((&served["name"], &served["scope"]), (&json!("Archive"), &json!("articles:read_all users:read")));
    assert_eq!(served["grants"], json!(["client_credentials", "token_exchange"]));

    // As text, each line says what it is.
    let text = command(office, &["clients", "create", "--name", "Plain"]).expect(0).stdout;
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(matches!(lines[..], [ref one, ref two] if one[0] == "client_id" && two[0] == "client_secret"), "{text}");
    assert!(lines[1][1].starts_with("actas_cs_"));
    let plain = format!("/v1/clients/{}", lines[0][1]);
    assert_eq!(admin.get(&plain).expect(200).value("grants"), &json!([]));

    let listed = command(office, &["client", "list", "--json"]).expect(0).json();
    assert_eq!(listed["items"], json!(admin.get("/v1/clients").expect(200).items()));
    let listed = command(office, &["client", "list"]).expect(0).stdout;
    assert!(listed.lines().count() == 3 && listed.contains(id) && listed.contains("Archive"), "{listed}");
    assert_eq!(command(office, &["client", "show", id, "--json"]).expect(0).json(), served);
    let shown = command(office, &["client", "show", id]).expect(0).stdout;
    for part in ["id            ", "https://search.example", "client_credentials token_exchange", "articles:read_all users:read"] {
        assert!(shown.contains(part), "no `{part}`: {shown}");
    }

    assert_eq!(command(office, &["client", "update", id, "--name", "Attic", "--grant", "impersonate", "--scope", ""]).expect(0).line(), id);
    let rotated = command(office, &["client", "rotate-secret", id, "--overlap-seconds", "60", "--json"]).expect(0).json();
    assert_eq!((&rotated["version"], rotated["client_secret"] == made["client_secret"]), (&json!(3), false));
    assert_eq!(command(office, &["client", "disable", id]).expect(0).line(), id);
    // Again changes nothing.
    assert_eq!(command(office, &["client", "disable", id, "--json"]).expect(0).json()["version"], 4);
    let disabled = admin.get(&path).expect(200);
    assert_eq!((disabled.str("status"), disabled.str("name"), disabled.str("scope")), ("disabled", "Attic", ""));
    assert_eq!((disabled.value("grants"), disabled.value("audiences")), (&json!(["impersonate"]), &json!(["https://search.example"])));
    let enabled = command(office, &["client", "update", id, "--enable", "--json"]).expect(0).json();
    assert_eq!((&enabled["status"], &enabled["version"]), (&json!("active"), &json!(5)));

    let entries = entries_of(&admin, id);
    let told: Vec<_> = entries.iter().map(|entry| (entry["action"].as_str().unwrap(), entry["note"].as_str().unwrap())).collect();
    assert_eq!(
        told,
        [
            ("client.updated", "changed by `actas client update`"),
            ("client.updated", "disabled by `actas client disable`"),
            ("client.secret_rotated", "made by `actas client rotate-secret`"),
            ("client.updated", "changed by `actas client update`"),
            ("client.created", "created by `actas client create`"),
        ]
    );
    for entry in &entries {
        assert_eq!((&entry["origin"], &entry["subject"], &entry["actor"]), (&json!("cli"), &Value::Null, &Value::Null), "{entry:#}");
    }
    assert_eq!(entries[0]["changes"], json!({ "status": { "from": "disabled", "to": "active" } }));
}

fn a_command_adds_and_removes_items_of_lists(office: &Office) {
    let admin = office.administrator();
    let (one, other) = (plain(&admin), plain(&admin));
    let (one, other) = (id_of(&one), id_of(&other));
    let update = |arguments: &[&str]| command(office, &[&["client", "update"], arguments, &["--json"]].concat()).expect(0).json();
    assert_eq!(update(&["actas", "--add-presenter", one])["presenters"], json!([one]));
    assert_eq!(update(&["actas", "--add-presenter", other])["presenters"], json!([one, other]));
    assert_eq!(update(&["actas", "--remove-presenter", one, "--add-audience", "b", "--add-audience", "a"])["presenters"], json!([other]));
    let actas = update(&["actas", "--remove-audience", "b", "--add-audience", "c", "--add-grant", "impersonate"]);
    assert_eq!((&actas["audiences"], &actas["presenters"]), (&json!(["a", "c"]), &json!([other])));
    assert_eq!(actas["grants"], json!(["impersonate", "refresh_token", "token_exchange"]));
    assert_eq!(update(&["actas", "--remove-grant", "impersonate"])["grants"], json!(["refresh_token", "token_exchange"]));
    // What is there already, or not there, is no change.
    let version = actas["version"].as_i64().unwrap() + 1;
    assert_eq!(update(&["actas", "--add-audience", "a", "--remove-audience", "z"])["version"], version);
    assert_eq!(update(&["actas", "--audience", "z", "--audience", "y"])["audiences"], json!(["y", "z"]));
    assert_eq!(update(&["actas", "--presenter", one, "--name", "Ours"])["presenters"], json!([one]));
    assert_eq!(admin.get("/v1/clients/actas").expect(200).str("name"), "Ours");
}

fn what_a_command_can_not_do_it_says_with_its_status(office: &Office) {
    let admin = office.administrator();
    let path = plain(&admin);
    let id = id_of(&path);
    let wrong: [&[&str]; 13] = [
        &["client"],
        &["client", "create"],
        &["client", "create", "--name", ""],
        &["client", "create", "--name", "X", "--grant", "password"],
        &["client", "create", "--name", "X", "--scope", "nonsense"],
        &["client", "create", "--name", "X", "--audience", "two words"],
        &["client", "update", id],
        &["client", "update", id, "--audience", "a", "--add-audience", "b"],
        &["client", "update", id, "--presenter", "actas", "--remove-presenter", "actas"],
        &["client", "rotate-secret", id, "--overlap-seconds", "604801"],
        &["client", "disable"],
        // Known only when it is tried.
        &["client", "create", "--name", "X", "--grant", "refresh_token"],
        &["client", "update", "actas", "--add-grant", "client_credentials"],
    ];
    for arguments in wrong {
        let ran = command(office, arguments).expect(2);
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{ran:#?}");
    }
    for missing in [NOBODY, "missing"] {
        let about: [&[&str]; 6] = [
            &["client", "show", missing],
            &["client", "update", missing, "--enable"],
            &["client", "rotate-secret", missing],
            &["client", "disable", missing],
            &["client", "create", "--name", "X", "--presenter", missing],
            &["client", "update", id, "--add-presenter", missing],
        ];
        for arguments in about {
            let ran = command(office, arguments).expect(3);
            assert!(ran.stdout.is_empty() && ran.stderr.contains(missing), "{ran:#?}");
        }
    }
    let first_party: [&[&str]; 3] =
        [&["client", "disable", "actas"], &["client", "rotate-secret", "actas"], &["client", "update", "actas", "--scope", "users:read"]];
    for arguments in first_party {
        let ran = command(office, arguments).expect(1);
        assert!(ran.stdout.is_empty() && ran.stderr.contains("the first-party client is public and built in"), "{ran:#?}");
    }
    assert_eq!(
        (office.db_count("SELECT count(*) FROM clients"), office.db_count("SELECT count(*) FROM clients WHERE version > 1")),
        (2, 0)
    );
}

fn a_command_finds_the_first_party_client_before_any_server_started(setup: Setup) {
    let database = setup.bare_database();
    let unready = run(on(database.url(), &["client", "list"]), b"").expect(1);
    assert!(unready.stdout.is_empty(), "{unready:#?}");
    run(on(database.url(), &["migrate"]), b"").expect(0);
    let listed = run(on(database.url(), &["client", "list", "--json"]), b"").expect(0).json();
    assert_eq!((listed["items"].as_array().unwrap().len(), &listed["items"][0]["id"]), (1, &json!("actas")));
    let shown = run(on(database.url(), &["client", "show", "actas", "--json"]), b"").expect(0).json();
    assert_eq!((&shown, database.number("SELECT count(*) FROM clients")), (&listed["items"][0], 1));
}

fn parallel_commands_lose_nothing(office: &Office) {
    office.administrator();
    at_once(4, |number| {
        command(office, &["client", "update", "actas", "--add-audience", &format!("https://{number}.example")]).expect(0);
    });
    let actas = command(office, &["client", "show", "actas", "--json"]).expect(0).json();
    assert_eq!((actas["audiences"].as_array().unwrap().len(), &actas["version"]), (4, &json!(5)), "{actas}");
}
