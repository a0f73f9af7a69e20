//! The editorial workflow: every status × every action × everyone, as `actions` tells it and as the call answers, against the
//! contract's own table.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::articles::{assign, draft, step};
use crate::harness::{Answer, Caller, Office, Person};

api_tests! {
    everyone_may_do_in_every_status_what_the_contract_says_and_nothing_else,
    an_editor_changes_title_and_abstract_but_never_the_text,
    only_an_active_editor_who_is_not_the_author_is_assigned,
    an_editor_demoted_keeps_the_article_and_loses_the_right,
    a_revised_article_keeps_its_editor,
    a_comment_goes_into_the_history,
    an_action_takes_what_belongs_to_it_and_nothing_else,
}

pub const STATUSES: [&str; 8] =
    ["draft", "submitted", "under_review", "revision_requested", "accepted", "rejected", "published", "withdrawn"];

/// All that is done with an article that is there.
pub const ACTIONS: [&str; 11] = [
    "edit",
    "delete",
    "submit",
    "assign_editor",
    "start_review",
    "request_revision",
    "accept",
    "reject",
    "revert_decision",
    "publish",
    "withdraw",
];

/// The contract's table: from, action, to.
const STEPS: [(&str, &str, &str); 19] = [
    ("draft", "submit", "submitted"),
    ("submitted", "assign_editor", "submitted"),
    ("under_review", "assign_editor", "under_review"),
    ("revision_requested", "assign_editor", "revision_requested"),
    ("accepted", "assign_editor", "accepted"),
    ("rejected", "assign_editor", "rejected"),
    ("submitted", "start_review", "under_review"),
    ("submitted", "reject", "rejected"),
    ("submitted", "withdraw", "withdrawn"),
    ("under_review", "request_revision", "revision_requested"),
    ("under_review", "accept", "accepted"),
    ("under_review", "reject", "rejected"),
    ("under_review", "withdraw", "withdrawn"),
    ("revision_requested", "submit", "submitted"),
    ("revision_requested", "withdraw", "withdrawn"),
    ("accepted", "publish", "published"),
    ("accepted", "revert_decision", "under_review"),
    ("rejected", "revert_decision", "under_review"),
    ("draft", "delete", "gone"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Author,
    OtherAuthor,
    Editor,
    OtherEditor,
    Support,
    Administrator,
}

/// Whether `who` may know of an article in `status`; a draft has no editor yet.
fn sees(who: Who, status: &str) -> bool {
    match who {
        Who::Author | Who::Support | Who::Administrator => true,
        Who::Editor => status != "draft",
        Who::OtherAuthor | Who::OtherEditor => false,
    }
}

/// What the contract says of `action` in `status` by `who`: the status that it leads to, or every reason why not.
fn expected(status: &'static str, action: &str, who: Who) -> Result<&'static str, Vec<&'static str>> {
    let is_author = who == Who::Author;
    let is_editor = who == Who::Editor && status != "draft";
    let mut reasons = Vec::new();
    let mut leads_to = STEPS.iter().find(|(from, by, _)| (*from, *by) == (status, action)).map(|(_, _, to)| *to);
    match action {
        "submit" | "withdraw" | "delete" => {
            if !is_author {
                reasons.push("not_author");
            }
        }
        "start_review" | "request_revision" | "accept" | "reject" | "revert_decision" => {
            if !matches!(who, Who::Editor | Who::OtherEditor) {
                reasons.push("missing_permission");
            }
            if !is_editor {
                reasons.push("not_editor");
            }
        }
        "assign_editor" | "publish" => {
            if who != Who::Administrator {
                reasons.push("missing_permission");
            }
        }
        "edit" => {
            let by_author = ["draft", "revision_requested"].contains(&status);
            let by_editor = ["submitted", "under_review"].contains(&status);
            if !is_author && !is_editor {
                reasons.extend(["not_author", "not_editor"]);
            }
            let allows = if is_author {
                by_author
            } else if is_editor {
                by_editor
            } else {
                by_author || by_editor
            };
            leads_to = allows.then_some(status);
        }
        other => panic!("{other}"),
    }
    if leads_to.is_none() {
        reasons.push("status_forbids");
    }
    if reasons.is_empty() { Ok(leads_to.unwrap()) } else { Err(reasons) }
}

struct Newsroom {
    admin: Person,
    author: Person,
    editor: Person,
    other_editor: Person,
}

impl Newsroom {
    fn open(office: &Office) -> Self {
        Self { admin: office.administrator(), author: office.author(), editor: office.editor(), other_editor: office.editor() }
    }

    /// A new article that was led to `status`, with the editor from `submitted` on.
    fn article_in(&self, status: &str) -> String {
        let path = draft(&self.author);
        if status == "draft" {
            return path;
        }
        step(&self.author, &path, "submit");
        assign(&self.admin, &path, &self.editor);
        let (author, editor, admin): (&Caller, &Caller, &Caller) = (&self.author, &self.editor, &self.admin);
        let steps: &[(&Caller, &str)] = match status {
            "submitted" => &[],
            "under_review" => &[(editor, "start_review")],
            "revision_requested" => &[(editor, "start_review"), (editor, "request_revision")],
            "accepted" => &[(editor, "start_review"), (editor, "accept")],
            "rejected" => &[(editor, "reject")],
            "published" => &[(editor, "start_review"), (editor, "accept"), (admin, "publish")],
            "withdrawn" => &[(author, "withdraw")],
            other => panic!("{other}"),
        };
        for (caller, action) in steps {
            step(caller, &path, action);
        }
        path
    }

    fn attempt(&self, caller: &Caller, path: &str, action: &str) -> Answer {
        match action {
            "edit" => caller.patch(path, json!({ "title": "On tides, edited" })),
            "delete" => caller.delete(path),
            "assign_editor" => caller.post(&format!("{path}/actions"), json!({ "action": action, "editor_id": self.other_editor.id })),
            _ => caller.post(&format!("{path}/actions"), json!({ "action": action })),
        }
    }
}

/// An article's `actions` by name.
fn told(article: &Value) -> BTreeMap<String, (bool, Vec<String>)> {
    let actions = article["actions"].as_array().unwrap();
    let told = |action: &Value| {
        let reasons = action["reasons"].as_array().unwrap();
        assert!(reasons.iter().all(|reason| reason["detail"].as_str().is_some_and(|detail| !detail.is_empty())), "{action}");
        let codes = reasons.iter().map(|reason| reason["code"].as_str().unwrap().to_owned());
        (action["action"].as_str().unwrap().to_owned(), (action["allowed"].as_bool().unwrap(), codes.collect()))
    };
    actions.iter().map(told).collect()
}

fn everyone_may_do_in_every_status_what_the_contract_says_and_nothing_else(office: &Office) {
    let room = Newsroom::open(office);
    let (other_author, support) = (office.author(), office.support());
    let own: [(Who, &Caller); 6] = [
        (Who::Author, &room.author),
        (Who::OtherAuthor, &other_author),
        (Who::Editor, &room.editor),
        (Who::OtherEditor, &room.other_editor),
        (Who::Support, &support),
        (Who::Administrator, &room.admin),
    ];
    let acting = [
        (Who::Author, office.impersonate(&room.admin, &room.author)),
        (Who::OtherAuthor, office.impersonate(&room.admin, &other_author)),
        (Who::Editor, office.impersonate(&room.admin, &room.editor)),
        (Who::OtherEditor, office.impersonate(&room.admin, &room.other_editor)),
    ];
    let callers: Vec<(Who, &Caller)> = own.into_iter().chain(acting.iter().map(|(who, acting)| (*who, &**acting))).collect();
    for status in STATUSES {
        let standing = room.article_in(status);
        let version = room.admin.get(&standing).expect(200).value("version").clone();
        for (who, caller) in &callers {
            let as_whom = format!("{who:?} in {status}");
            if !sees(*who, status) {
                caller.get(&standing).problem(404, "not_found");
                for action in ACTIONS {
                    room.attempt(caller, &standing, action).problem(404, "not_found");
                }
                continue;
            }
            let shown = told(&caller.get(&standing).expect(200).body);
            assert_eq!(shown.len(), ACTIONS.len(), "{as_whom}: every action is told");
            for action in ACTIONS {
                let what = format!("{action} by {as_whom}");
                let (allowed, reasons) = &shown[action];
                match expected(status, action, *who) {
                    Err(why) => {
                        assert_eq!(
                            (*allowed, reasons.as_slice()),
                            (false, why.iter().map(ToString::to_string).collect::<Vec<_>>().as_slice()),
                            "{what}"
                        );
                        let only_status = why == ["status_forbids"];
                        let (code, name) = if only_status { (409, "status_forbids") } else { (403, "action_refused") };
                        let answer = room.attempt(caller, &standing, action).problem(code, name);
                        assert_eq!(answer.reasons(), why, "{what}");
                    }
                    Ok(leads_to) => {
                        assert_eq!((*allowed, reasons.len()), (true, 0), "{what}");
                        let fresh = room.article_in(status);
                        let answer = room.attempt(caller, &fresh, action);
                        if action == "delete" {
                            answer.expect(204);
                        } else {
                            assert_eq!(answer.expect(200).str("status"), leads_to, "{what}");
                        }
                    }
                }
            }
        }
        let untouched = room.admin.get(&standing).expect(200);
        assert_eq!((untouched.str("status"), untouched.value("version")), (status, &version), "what is refused changes nothing");
    }
}

fn an_editor_changes_title_and_abstract_but_never_the_text(office: &Office) {
    let room = Newsroom::open(office);
    for status in ["submitted", "under_review"] {
        let path = room.article_in(status);
        let both = room.editor.patch(&path, json!({ "title": "Better", "abstract": "Shorter." })).expect(200);
        assert_eq!((both.str("title"), both.str("abstract")), ("Better", "Shorter."));
        for text in [json!({ "body": "Rewritten." }), json!({ "title": "Even better", "body": "Rewritten." })] {
            let refused = room.editor.patch(&path, text).problem(403, "action_refused");
            assert_eq!(refused.reasons(), ["not_author", "status_forbids"], "nor could its author, now");
        }
        assert_eq!(room.author.patch(&path, json!({ "body": "Mine." })).problem(409, "status_forbids").reasons(), ["status_forbids"]);
        assert_eq!(room.editor.get(&path).expect(200).str("title"), "Better");
    }
    let path = room.article_in("revision_requested");
    assert_eq!(room.editor.patch(&path, json!({ "body": "Mine." })).problem(403, "action_refused").reasons(), ["not_author"]);
    assert_eq!(room.author.patch(&path, json!({ "body": "Revised." })).expect(200).str("body"), "Revised.");
}

fn only_an_active_editor_who_is_not_the_author_is_assigned(office: &Office) {
    let room = Newsroom::open(office);
    let path = room.article_in("submitted");
    let assign_to = |editor: Value| room.admin.post(&format!("{path}/actions"), json!({ "action": "assign_editor", "editor_id": editor }));
    let (retired, support) = (office.editor(), office.support());
    room.admin.patch(&format!("/v1/users/{}", retired.id), json!({ "status": "disabled" })).expect(200);
    let nobody = "019aa0f0-0000-7000-8000-0000000000aa";
    for (editor, code) in [
        (json!(nobody), "unknown_user"),
        (json!(retired.id), "inactive"),
        (json!(support.id), "not_an_editor"),
        (json!(room.admin.id), "not_an_editor"),
        (json!(office.author().id), "not_an_editor"),
        (json!("nobody"), "invalid_id"),
        (json!(null), "required"),
        (json!(5), "wrong_type"),
    ] {
        let refused = assign_to(editor.clone()).problem(422, "invalid_request");
        assert_eq!((refused.pointers(), refused.str("errors/0/code")), (vec!["/editor_id"], code), "{editor}");
    }
    assert_eq!(assign_to(json!(room.author.id)).problem(403, "action_refused").reasons(), ["conflict_of_interest"]);

    // An editor who wrote the article is in conflict too, and whoever may not assign learns both.
    let by_editor = draft(&room.other_editor);
    step(&room.other_editor, &by_editor, "submit");
    let own = json!({ "action": "assign_editor", "editor_id": room.other_editor.id });
    let actions = format!("{by_editor}/actions");
    assert_eq!(room.admin.post(&actions, own.clone()).problem(403, "action_refused").reasons(), ["conflict_of_interest"]);
    let refused = room.other_editor.post(&actions, own).problem(403, "action_refused");
    assert_eq!(refused.reasons(), ["missing_permission", "conflict_of_interest"]);
    let published = room.article_in("published");
    let author = json!({ "action": "assign_editor", "editor_id": room.author.id });
    let refused = room.admin.post(&format!("{published}/actions"), author).problem(403, "action_refused");
    assert_eq!(refused.reasons(), ["status_forbids", "conflict_of_interest"], "403 wins over 409, and both are told");
}

fn an_editor_demoted_keeps_the_article_and_loses_the_right(office: &Office) {
    let room = Newsroom::open(office);
    let path = room.article_in("under_review");
    room.admin.patch(&format!("/v1/users/{}", room.editor.id), json!({ "role": "author" })).expect(200);
    let shown = told(&room.editor.get(&path).expect(200).body);
    for action in ["accept", "reject", "request_revision", "edit"] {
        assert_eq!(shown[action], (false, vec!["missing_permission".to_owned()]), "{action}");
        let refused = room.attempt(&room.editor, &path, action).problem(403, "action_refused");
        assert_eq!(refused.reasons(), ["missing_permission"], "{action}");
    }
}

fn a_revised_article_keeps_its_editor(office: &Office) {
    let room = Newsroom::open(office);
    let path = room.article_in("revision_requested");
    let again = step(&room.author, &path, "submit");
    assert_eq!((again.str("status"), again.value("editor")), ("submitted", &room.editor.user_ref()));
    step(&room.editor, &path, "start_review");
}

fn a_comment_goes_into_the_history(office: &Office) {
    let room = Newsroom::open(office);
    let path = room.article_in("under_review");
    let actions = format!("{path}/actions");
    room.editor.post(&actions, json!({ "action": "request_revision", "comment": "Too long.\nCut it." })).expect(200);
    let newest = room.author.get(&format!("{path}/history?limit=1")).expect(200);
    assert_eq!(newest.str("items/0/action"), "article.revision_requested");
    assert_eq!(newest.value("items/0/changes/comment"), &json!({ "from": null, "to": "Too long.\nCut it." }));
    assert_eq!(newest.value("items/0/changes/status"), &json!({ "from": "under_review", "to": "revision_requested" }));
    for (comment, code) in [("x".repeat(2001), "too_long"), ("bell \u{7}".to_owned(), "invalid_characters")] {
        let refused = room.author.post(&actions, json!({ "action": "submit", "comment": comment })).problem(422, "invalid_request");
        assert_eq!((refused.pointers(), refused.str("errors/0/code")), (vec!["/comment"], code));
    }
    room.author.post(&actions, json!({ "action": "submit", "comment": "é".repeat(2000) })).expect(200);
}

fn an_action_takes_what_belongs_to_it_and_nothing_else(office: &Office) {
    let room = Newsroom::open(office);
    let path = room.article_in("draft");
    let act = |body: Value| room.author.post(&format!("{path}/actions"), body);
    let refused = act(json!({ "action": "submit", "editor_id": room.editor.id })).problem(422, "invalid_request");
    assert_eq!((refused.pointers(), refused.str("errors/0/code")), (vec!["/editor_id"], "not_applicable"));
    for not_a_step in ["edit", "delete", "Submit", ""] {
        assert_eq!(act(json!({ "action": not_a_step })).problem(422, "invalid_request").pointers(), ["/action"], "{not_a_step}");
    }
    assert_eq!(act(json!({})).problem(422, "invalid_request").pointers(), ["/action"]);
    act(json!({ "action": "submit", "status": "published" })).problem(400, "unknown_field");
    let both = act(json!({ "action": "submit", "editor_id": "x", "comment": "\u{0001}" })).problem(422, "invalid_request");
    assert_eq!(both.pointers(), ["/editor_id", "/comment"]);
    assert_eq!(room.author.get(&path).expect(200).str("status"), "draft");
    act(json!({ "action": "submit", "editor_id": null, "comment": null })).expect(200);
}
