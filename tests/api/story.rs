//! The story that Actas is for, from beginning to end.

use serde_json::{Value, json};

use crate::harness::Office;

api_tests! { an_administrator_acts_as_an_editor_on_the_record_and_comes_back }

fn an_administrator_acts_as_an_editor_on_the_record_and_comes_back(office: &Office) {
    let (admin, editor, author) = (office.administrator(), office.editor(), office.author());
    let draft = json!({ "title": "On tides", "abstract": "Why the sea moves.", "body": "It just does." });
    let article = author.post("/v1/articles", draft).expect(201);
    let path = format!("/v1/articles/{}", article.str("id"));
    author.post(&format!("{path}/actions"), json!({ "action": "submit" })).expect(200);
    admin.post(&format!("{path}/actions"), json!({ "action": "assign_editor", "editor_id": editor.id })).expect(200);

    // The editor says that she can't accept it. The administrator looks at the article as she does.
    let hers = editor.get(&path).expect(200);
    let acting = office.impersonate(&admin, &editor);
    let seen = acting.get(&path).expect(200);
    assert_eq!(seen.body, hers.body, "the administrator sees exactly what the editor sees");
    let accept = seen.value("actions").as_array().unwrap().iter().find(|it| it["action"] == "accept").unwrap();
    assert_eq!(accept["allowed"], false);
    assert_eq!(accept["reasons"][0]["code"], "status_forbids");

    let me = acting.get("/v1/me").expect(200);
    assert_eq!(me.value("kind"), "impersonation");
    assert_eq!((me.value("subject"), me.value("actor")), (&editor.user_ref(), &admin.user_ref()));

    // On her behalf, the administrator mends the title and starts the review.
    acting.patch(&path, json!({ "title": "On the tides" })).expect(200);
    acting.post(&format!("{path}/actions"), json!({ "action": "start_review" })).expect(200);

    // The history says that she did it, and that it was the administrator.
    let history = editor.get(&format!("{path}/history")).expect(200);
    let note = format!("{} acting as {}", admin.display_name, editor.display_name);
    for (entry, action) in history.items().iter().zip(["article.review_started", "article.updated"]) {
        assert_eq!(entry["action"], action);
        assert_eq!((&entry["subject"], &entry["actor"]), (&editor.user_ref(), &admin.user_ref()));
        assert_eq!((entry["note"].as_str(), entry["impersonation_id"].as_str()), (Some(note.as_str()), Some(acting.id.as_str())));
    }
    assert_eq!(history.items()[2]["actor"], Value::Null);

    // And back.
    let restored = acting.log_out().expect(200);
    assert_eq!(restored.str("access_token"), admin.access_token, "byte for byte");
    assert_eq!(restored.str("session/kind"), "own");
    acting.get("/v1/me").problem(401, "impersonation_ended");
    assert_eq!(admin.get("/v1/me").expect(200).value("subject"), &admin.user_ref());
}
