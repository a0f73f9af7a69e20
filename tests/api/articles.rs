//! Articles: their text, their versions, who may know of them, and how they are found.

use serde_json::{Value, json};

use crate::harness::{Answer, Caller, Office, Person};

api_tests! {
    an_article_lives_from_its_creation_to_its_deletion,
    all_that_is_wrong_with_a_new_article_is_told_at_once,
    a_body_that_is_no_article_is_refused,
    texts_may_be_as_long_as_promised_and_no_longer,
    a_change_that_changes_nothing_leaves_no_version_and_no_entry,
    a_patch_takes_known_members_only_and_removes_none,
    a_precondition_guards_every_change,
    whoever_may_not_know_of_an_article_finds_nothing,
    an_article_moves_from_the_old_editors_sight_to_the_new_ones,
    a_listing_is_narrowed_by_status_author_and_editor,
    a_search_takes_every_character_for_itself,
    a_page_never_shifts_because_rows_were_added,
    a_listing_refuses_what_it_does_not_know,
    an_id_has_one_spelling_and_anything_else_is_not_found,
}

/// A new draft's path.
pub fn draft(author: &Person) -> String {
    draft_titled(author, "On tides")
}

fn draft_titled(author: &Person, title: &str) -> String {
    let article = author.post("/v1/articles", json!({ "title": title, "abstract": "Why the sea moves.", "body": "It does." }));
    format!("/v1/articles/{}", article.expect(201).str("id"))
}

/// Takes a step of the workflow that must succeed.
#[track_caller]
pub fn step(caller: &Caller, path: &str, action: &str) -> Answer {
    caller.post(&format!("{path}/actions"), json!({ "action": action })).expect(200)
}

/// Makes `editor` the article's editor.
#[track_caller]
pub fn assign(caller: &Caller, path: &str, editor: &Person) -> Answer {
    caller.post(&format!("{path}/actions"), json!({ "action": "assign_editor", "editor_id": editor.id })).expect(200)
}

fn ids(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["id"].as_str().unwrap()).collect()
}

fn entries_of(caller: &Caller, path: &str) -> usize {
    caller.all_items(&format!("{path}/history")).len()
}

fn an_article_lives_from_its_creation_to_its_deletion(office: &Office) {
    let (author, admin) = (office.author(), office.administrator());
    let made = author.post("/v1/articles", json!({ "title": " On tides ", "abstract": "", "body": "Line\nby line\t☂" })).expect(201);
    let id = made.str("id").to_owned();
    let path = format!("/v1/articles/{id}");
    assert_eq!((made.header("location"), made.header("etag")), (Some(path.as_str()), Some("\"1\"")));
    assert_eq!((made.str("title"), made.str("abstract"), made.str("body")), ("On tides", "", "Line\nby line\t☂"));
    assert_eq!((made.str("status"), made.value("version")), ("draft", &json!(1)));
    assert_eq!((made.value("author"), made.value("editor")), (&author.user_ref(), &Value::Null));
    let moment = made.str("created_at");
    assert!(moment.len() == 27 && moment.ends_with('Z') && made.str("updated_at") == moment, "microseconds in UTC: {made}");
    let mut members: Vec<_> = made.body.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    let expected = ["abstract", "actions", "author", "body", "created_at", "editor", "id", "status", "title", "updated_at", "version"];
    assert_eq!(members, expected);
    assert_eq!(author.get(&path).expect(200).body, made.body);

    office.advance(60);
    let merge_patch = author.request("PATCH", &path).body("application/merge-patch+json", r#"{"abstract":"Moons."}"#);
    let changed = merge_patch.send().expect(200);
    assert_eq!((changed.header("etag"), changed.value("version")), (Some("\"2\""), &json!(2)));
    assert_eq!((changed.str("title"), changed.str("abstract"), changed.str("created_at")), ("On tides", "Moons.", moment));
    assert!(changed.str("updated_at") > moment, "{changed}");
    assert_eq!(author.get(&path).expect(200).body, changed.body);
    assert_eq!(author.get("/v1/articles").expect(200).items(), [changed.body]);

    let gone = author.delete(&path).expect(204);
    assert_eq!(gone.text, "");
    for answer in [author.get(&path), author.patch(&path, json!({})), author.delete(&path), author.get(&format!("{path}/history"))] {
        answer.problem(404, "not_found");
    }
    assert_eq!(author.get("/v1/articles").expect(200).items(), [] as [Value; 0]);
    assert_eq!(entries_of(&admin, &path), 3, "the history of what is gone stays");
}

fn all_that_is_wrong_with_a_new_article_is_told_at_once(office: &Office) {
    let author = office.author();
    let wrong = json!({ "title": "  ", "abstract": "x".repeat(5001), "body": "bell: \u{7}" });
    let refused = author.post("/v1/articles", wrong).problem(422, "invalid_request");
    assert_eq!(refused.pointers(), ["/title", "/abstract", "/body"]);
    let codes: Vec<_> = refused.value("errors").as_array().unwrap().iter().map(|error| error["code"].clone()).collect();
    assert_eq!(codes, ["too_short", "too_long", "invalid_characters"]);
    for title in ["two\nlines", "zero\u{200B}width", "\u{202E}backwards", "tab\tbed"] {
        let body = json!({ "title": title, "abstract": "", "body": "" });
        assert_eq!(author.post("/v1/articles", body).problem(422, "invalid_request").pointers(), ["/title"], "{title:?}");
    }
    assert_eq!(office.db_count("SELECT count(*) FROM articles"), 0);
    assert_eq!(office.db_count("SELECT count(*) FROM entries WHERE resource_type = 'article'"), 0);
}

fn a_body_that_is_no_article_is_refused(office: &Office) {
    let author = office.author();
    let post = |text: &str| author.request("POST", "/v1/articles").body("application/json", text).send();
    let whole = r#""title":"a","abstract":"b","body":"c""#;
    for (text, status, code, pointers) in [
        (r#"{"abstract":"b","body":"c"}"#.to_owned(), 422, "invalid_request", &["/title"][..]),
        (r#"{"title":null,"abstract":"b","body":"c"}"#.to_owned(), 422, "invalid_request", &["/title"]),
        (r#"{"title":"a","abstract":[],"body":"c"}"#.to_owned(), 422, "invalid_request", &["/abstract"]),
        ("[]".to_owned(), 422, "invalid_request", &[""]),
        (format!("{{{whole},\"status\":\"published\"}}"), 400, "unknown_field", &["/status"]),
        (format!("{{{whole},\"author\":\"x\"}}"), 400, "unknown_field", &["/author"]),
        (format!("{{{whole},\"title\":\"again\"}}"), 400, "malformed_request", &["/title"]),
        (format!("{{{whole}}} and more"), 400, "malformed_request", &[]),
        (format!("{{{whole}"), 400, "malformed_request", &[]),
        (r#"{"title":"\u0000","abstract":"b","body":"c"}"#.to_owned(), 400, "malformed_request", &["/title"]),
    ] {
        assert_eq!(post(&text).problem(status, code).pointers(), pointers, "{text}");
    }
    author.post_empty("/v1/articles").problem(415, "unsupported_media_type");
    author.request("POST", "/v1/articles").body("text/plain", format!("{{{whole}}}")).send().problem(415, "unsupported_media_type");
    post(&format!("{{{whole}}}")).expect(201);
}

fn texts_may_be_as_long_as_promised_and_no_longer(office: &Office) {
    let author = office.author();
    let of = |title: usize, r#abstract: usize, body: usize| {
        author.post("/v1/articles", json!({ "title": "é".repeat(title), "abstract": "é".repeat(r#abstract), "body": "é".repeat(body) }))
    };
    of(200, 5_000, 100_000).expect(201);
    let refused = of(201, 5_001, 100_001).problem(422, "invalid_request");
    assert_eq!(refused.pointers(), ["/title", "/abstract", "/body"]);
}

fn a_change_that_changes_nothing_leaves_no_version_and_no_entry(office: &Office) {
    let author = office.author();
    let path = draft(&author);
    let before = author.get(&path).expect(200);
    office.advance(5);
    for same in [json!({}), json!({ "title": "On tides" }), json!({ "title": " On tides ", "body": "It does." })] {
        let answer = author.patch(&path, same).expect(200);
        assert_eq!((&answer.body, answer.header("etag")), (&before.body, Some("\"1\"")));
    }
    assert_eq!(entries_of(&author, &path), 1);
    author.patch(&path, json!({ "title": "On Tides" })).expect(200);
    assert_eq!(entries_of(&author, &path), 2);
}

fn a_patch_takes_known_members_only_and_removes_none(office: &Office) {
    let author = office.author();
    let path = draft(&author);
    for (patch, status, code, pointer) in [
        (json!({ "title": null }), 422, "invalid_request", "/title"),
        (json!({ "body": null, "title": "new" }), 422, "invalid_request", "/body"),
        (json!({ "title": "" }), 422, "invalid_request", "/title"),
        (json!({ "status": "published" }), 400, "unknown_field", "/status"),
        (json!({ "editor": null }), 400, "unknown_field", "/editor"),
        (json!([]), 422, "invalid_request", ""),
    ] {
        assert_eq!(author.patch(&path, patch.clone()).problem(status, code).pointers(), [pointer], "{patch}");
    }
    author.request("PATCH", &path).body("application/json-patch+json", "[]").send().problem(415, "unsupported_media_type");
    assert_eq!(author.get(&path).expect(200).value("version"), 1);
}

fn a_precondition_guards_every_change(office: &Office) {
    let author = office.author();
    let path = draft(&author);
    author.patch(&path, json!({ "title": "Two" })).expect(200);
    let requests: [(&str, String, &str); 3] = [
        ("PATCH", path.clone(), r#"{"title":"Three"}"#),
        ("DELETE", path.clone(), ""),
        ("POST", format!("{path}/actions"), r#"{"action":"submit"}"#),
    ];
    let send = |(method, path, body): &(&str, String, &str), if_match: &[&str]| {
        let request = author.request(method, path);
        let request = if body.is_empty() { request } else { request.body("application/json", *body) };
        if_match.iter().fold(request, |request, line| request.header("If-Match", line)).send()
    };
    for request in &requests {
        for (lines, status, code) in [
            (&[r#""1""#][..], 412, "version_mismatch"),
            (&[r#""3""#], 412, "version_mismatch"),
            (&[r#"W/"2""#], 412, "version_mismatch"),
            (&[r#""02""#], 412, "version_mismatch"),
            (&[r#""1", "3""#], 412, "version_mismatch"),
            (&["2"], 400, "malformed_request"),
            (&[r#""2"#], 400, "malformed_request"),
            (&[r#"*, "2""#], 400, "malformed_request"),
        ] {
            send(request, lines).problem(status, code);
        }
    }
    assert_eq!((author.get(&path).expect(200).value("version"), entries_of(&author, &path)), (&json!(2), 2), "nothing was changed");

    // A list with the right version among others, in one line or two; the star; and the version alone.
    assert_eq!(send(&requests[0], &[r#""1", "2""#]).expect(200).header("etag"), Some("\"3\""));
    assert_eq!(send(&requests[2], &[r#""1""#, r#""3""#]).expect(200).header("etag"), Some("\"4\""));
    let other = draft(&author);
    author.request("PATCH", &other).json(&json!({ "title": "Any" })).header("If-Match", "*").send().expect(200);
    author.request("DELETE", &other).header("If-Match", r#""2""#).send().expect(204);
}

fn whoever_may_not_know_of_an_article_finds_nothing(office: &Office) {
    let (author, editor, admin, support) = (office.author(), office.editor(), office.administrator(), office.support());
    let (other_author, other_editor) = (office.author(), office.editor());
    let path = draft(&author);
    let id = path.rsplit('/').next().unwrap();
    let missing = path.replace(&id[id.len() - 4..], "0000");
    assert_ne!(path, missing);
    let tries = |caller: &Caller, path: &str| {
        [
            caller.get(path),
            caller.patch(path, json!({ "title": "Mine now" })),
            caller.request("PATCH", path).json(&json!({})).header("If-Match", "\"9\"").send(),
            caller.delete(path),
            caller.post(&format!("{path}/actions"), json!({ "action": "submit" })),
            caller.post(&format!("{path}/actions"), json!({ "action": "assign_editor", "editor_id": other_editor.id })),
            caller.get(&format!("{path}/history")),
        ]
    };
    let bare = |mut answer: Answer| {
        let body = answer.body.as_object_mut().unwrap();
        body.retain(|name, _| name != "instance" && name != "request_id");
        (answer.status, answer.body)
    };
    for stranger in [&other_author, &other_editor, &editor] {
        for (forbidden, missing) in tries(stranger, &path).into_iter().zip(tries(stranger, &missing)) {
            let forbidden = forbidden.problem(404, "not_found");
            assert_eq!(bare(forbidden), bare(missing), "what is hidden looks like what is missing");
        }
        for list in ["/v1/articles", &format!("/v1/articles?author={}", author.id), "/v1/articles?q=tides", "/v1/articles?status=draft"] {
            assert_eq!(stranger.get(list).expect(200).items(), [] as [Value; 0], "{list}");
        }
    }
    for insider in [&author, &admin, &support] {
        insider.get(&path).expect(200);
        assert_eq!(insider.get(&format!("{path}/history")).expect(200).items().len(), 1);
        assert_eq!(ids(insider.get("/v1/articles").expect(200).items()), [id]);
    }
}

fn an_article_moves_from_the_old_editors_sight_to_the_new_ones(office: &Office) {
    let (author, admin, first, second) = (office.author(), office.administrator(), office.editor(), office.editor());
    let path = draft(&author);
    step(&author, &path, "submit");
    for (editor, other) in [(&first, &second), (&second, &first)] {
        assert_eq!(assign(&admin, &path, editor).value("editor"), &editor.user_ref());
        editor.get(&path).expect(200);
        assert_eq!(entries_of(editor, &path), entries_of(&admin, &path));
        assert_eq!(editor.get("/v1/articles").expect(200).items().len(), 1);
        other.get(&path).problem(404, "not_found");
        other.get(&format!("{path}/history")).problem(404, "not_found");
        assert_eq!(other.get("/v1/articles").expect(200).items().len(), 0);
    }
}

fn a_listing_is_narrowed_by_status_author_and_editor(office: &Office) {
    let (admin, ann, bob, editor) = (office.administrator(), office.author(), office.author(), office.editor());
    let drafted = draft(&ann);
    let submitted = draft(&ann);
    step(&ann, &submitted, "submit");
    let assigned = draft(&bob);
    step(&bob, &assigned, "submit");
    assign(&admin, &assigned, &editor);
    let found = |caller: &Caller, query: &str| {
        let items = caller.get(&format!("/v1/articles{query}")).expect(200);
        items.items().iter().map(|item| format!("/v1/articles/{}", item["id"].as_str().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(found(&admin, ""), [&*assigned, &submitted, &drafted], "newest first");
    assert_eq!(found(&admin, "?status=draft"), [&*drafted]);
    assert_eq!(found(&admin, "?status=submitted"), [&*assigned, &submitted]);
    assert_eq!(found(&admin, &format!("?author={}", ann.id)), [&*submitted, &drafted]);
    assert_eq!(found(&admin, &format!("?editor={}", editor.id)), [&*assigned]);
    assert_eq!(found(&admin, &format!("?status=submitted&author={}", ann.id)), [&*submitted]);
    assert_eq!(found(&admin, &format!("?editor={}&author={}", editor.id, ann.id)), [] as [&str; 0]);
    assert_eq!(found(&ann, ""), [&*submitted, &drafted]);
    assert_eq!(found(&ann, &format!("?author={}", bob.id)), [] as [&str; 0], "a filter widens nobody's sight");
    assert_eq!(found(&editor, ""), [&*assigned]);
    assert_eq!(found(&office.impersonate(&admin, &editor), ""), [&*assigned], "who acts as the editor sees what the editor sees");
}

fn a_search_takes_every_character_for_itself(office: &Office) {
    let author = office.author();
    for title in ["100% of it", "100 of it", "snake_case", "snakeXcase", r"back\slash", "backslash", "Élan VITAL", "it's \"quoted\"; --"] {
        draft_titled(&author, title);
    }
    let found = |q: &str| {
        let q: String = q.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut titles = Vec::new();
        for item in author.get(&format!("/v1/articles?q={q}")).expect(200).items() {
            titles.push(item["title"].as_str().unwrap().to_owned());
        }
        titles
    };
    assert_eq!(found("100%"), ["100% of it"]);
    assert_eq!(found("snake_"), ["snake_case"]);
    assert_eq!(found(r"k\s"), [r"back\slash"]);
    assert_eq!(found("éLAN vital"), ["Élan VITAL"]);
    assert_eq!(found("SNAKEX"), ["snakeXcase"]);
    assert_eq!(found("it's \"quoted\"; --"), ["it's \"quoted\"; --"]);
    assert_eq!(found("WHY THE SEA").len(), 8, "the abstract is searched too");
    assert_eq!(found("It does.").len(), 0, "the text is not");
    assert_eq!(found("%").len(), 1);
    assert_eq!(found("").len(), 8);
}

fn a_page_never_shifts_because_rows_were_added(office: &Office) {
    let author = office.author();
    let mut made: Vec<String> = (0..5).map(|number| draft_titled(&author, &format!("Tide {number}"))).collect();
    made.reverse();
    let first = author.get("/v1/articles?limit=2&q=Tide").expect(200);
    let cursor = first.str("next_cursor").to_owned();
    assert_eq!(first.header("link"), Some(format!("<?limit=2&q=Tide&cursor={cursor}>; rel=\"next\"").as_str()));
    draft_titled(&author, "Tide of the last minute");
    author.patch(&made[3], json!({ "title": "Tide, changed" })).expect(200);
    let second = author.get(&format!("/v1/articles?limit=2&q=Tide&cursor={cursor}")).expect(200);
    let last_cursor = second.str("next_cursor");
    let link = format!("<?limit=2&q=Tide&cursor={last_cursor}>; rel=\"next\"");
    assert_eq!(second.header("link"), Some(link.as_str()), "the link replaces the cursor");
    let last = author.get(&format!("/v1/articles?limit=2&q=Tide&cursor={last_cursor}")).expect(200);
    assert_eq!((last.value("next_cursor"), last.header("link")), (&Value::Null, None));
    let seen: Vec<String> = [&first, &second, &last]
        .iter()
        .flat_map(|page| page.items())
        .map(|item| format!("/v1/articles/{}", item["id"].as_str().unwrap()))
        .collect();
    assert_eq!(seen, made, "each of the five once, newest first, and nothing that came later");
    let full = author.get("/v1/articles?limit=6").expect(200);
    assert_eq!((full.items().len(), full.value("next_cursor")), (6, &Value::Null), "a page that is just full is the last");
}

fn a_listing_refuses_what_it_does_not_know(office: &Office) {
    let (author, admin) = (office.author(), office.administrator());
    draft(&author);
    let cursor_of_users = admin.get("/v1/users?limit=1").expect(200).str("next_cursor").to_owned();
    for (query, status, code, place) in [
        ("limit=0".to_owned(), 422, "invalid_request", "limit"),
        ("limit=201".to_owned(), 422, "invalid_request", "limit"),
        ("limit=ten".to_owned(), 422, "invalid_request", "limit"),
        ("limit=-1".to_owned(), 422, "invalid_request", "limit"),
        ("cursor=".to_owned(), 422, "invalid_request", "cursor"),
        ("cursor=x".to_owned(), 422, "invalid_request", "cursor"),
        (format!("cursor={cursor_of_users}"), 422, "invalid_request", "cursor"),
        ("status=Draft".to_owned(), 422, "invalid_request", "status"),
        ("author=nobody".to_owned(), 422, "invalid_request", "author"),
        ("sort=title".to_owned(), 400, "unknown_parameter", "sort"),
        ("limit=1&limit=2".to_owned(), 400, "malformed_request", "limit"),
    ] {
        assert_eq!(author.get(&format!("/v1/articles?{query}")).problem(status, code).pointers(), [place], "{query}");
    }
    for limit in [1, 200] {
        author.get(&format!("/v1/articles?limit={limit}")).expect(200);
    }
}

fn an_id_has_one_spelling_and_anything_else_is_not_found(office: &Office) {
    let author = office.author();
    let path = draft(&author);
    let id = path.rsplit('/').next().unwrap();
    for other in [id.to_uppercase(), id.replace('-', ""), format!("%7B{id}%7D"), "x".to_owned(), "%27%20OR%201=1".to_owned()] {
        author.get(&format!("/v1/articles/{other}")).problem(404, "not_found");
    }
    author.get(&path).expect(200);
}
