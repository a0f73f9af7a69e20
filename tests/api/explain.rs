//! Why a user can or can't: the answer is what really happens, over the whole product of what it depends on; and its sentences help.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::articles::{assign, draft, step};
use super::policy::set;
use super::workflow::{ACTIONS, STATUSES};
use crate::harness::{Answer, Caller, Office, Person};
use crate::oauth_exchange::narrowed;

api_tests! {
    what_is_explained_is_what_happens_to_every_role_in_person,
    what_is_explained_is_what_happens_under_every_impersonation,
    what_is_explained_is_what_happens_with_a_narrower_token,
    the_support_question_has_an_answer_to_forward,
    remedies_name_what_would_make_it_possible_and_nothing_that_would_not,
    whoever_follows_the_remedies_gets_there,
    an_editor_is_told_that_the_body_is_the_author_s,
    whoever_may_not_look_may_still_ask_why,
    a_freeze_is_told_of_and_does_not_concern_the_user_in_person,
    an_account_that_is_disabled_is_why,
    under_impersonation_what_is_withheld_stands_apart,
    a_user_s_page_lists_every_action_on_an_article,
    what_one_may_not_know_of_is_not_explained,
    a_question_that_is_none_is_told_what_is_wrong_with_it,
    explaining_changes_nothing,
}

/// One person as the author, as the editor and as neither, of articles in every status. A draft has no editor.
struct World {
    admin: Person,
    who: Person,
    /// Whom an article can be given to.
    candidate: Person,
    articles: Vec<String>,
}

impl World {
    fn make(office: &Office) -> Self {
        let (admin, who, other_author, other_editor) = (office.administrator(), office.editor(), office.author(), office.editor());
        let mut articles = Vec::new();
        for status in STATUSES {
            articles.push(article_in(status, &admin, &who, &other_editor));
            articles.push(article_in(status, &admin, &other_author, &other_editor));
            if status != "draft" {
                articles.push(article_in(status, &admin, &other_author, &who));
            }
        }
        assert_eq!(articles.len(), 23);
        Self { admin, who, candidate: office.editor(), articles }
    }

    fn give_role(&self, role: &str) {
        self.admin.patch(&format!("/v1/users/{}", self.who.id), json!({ "role": role })).expect(200);
    }

    /// Makes the real call for an action on an article, against a version that the article does not have: whoever may do it is told that, and whoever may not is
    /// told why not, for a precondition counts only for what would succeed.
    fn really(&self, caller: &Caller, path: &str, action: &str) -> Answer {
        let request = match action {
            "read" => return caller.get(path),
            "edit" => caller.request("PATCH", path).json(&json!({ "title": "Edited" })),
            "delete" => caller.request("DELETE", path),
            "assign_editor" => {
                let body = json!({ "action": action, "editor_id": self.candidate.id });
                caller.request("POST", &format!("{path}/actions")).json(&body)
            }
            step => caller.request("POST", &format!("{path}/actions")).json(&json!({ "action": step })),
        };
        request.header("If-Match", "\"999\"").send()
    }

    /// Asks for every action on every article, and tries each; answers how many were allowed, refused, and hidden.
    fn compare(&self, caller: &Caller, name: &str) -> [usize; 3] {
        let mut counts = [0; 3];
        for path in &self.articles {
            let explained = caller.get(&format!("/v1/me/explain?resource=article:{}", id_of(path)));
            let really: BTreeMap<&str, Answer> =
                ["read"].into_iter().chain(ACTIONS).map(|action| (action, self.really(caller, path, action))).collect();
            let name = format!("{name}, {path}");
            if explained.status != 200 {
                // What can't be looked at can't be asked about either, and both say so alike.
                for (action, answer) in &really {
                    assert_eq!((answer.status, answer.reasons()), (explained.status, explained.reasons()), "{name}: {action}: {answer}");
                    assert_eq!(answer.str("code"), explained.str("code"), "{name}: {action}");
                }
                counts[2] += 1;
                continue;
            }
            let explanations = explained.value("explanations").as_array().unwrap();
            assert_eq!(explanations.len(), ACTIONS.len() + 1, "{name}");
            for one in explanations {
                let action = one["action"].as_str().unwrap().trim_start_matches("article.");
                let answer = &really[action];
                let is_allowed = [200, 412].contains(&answer.status);
                assert_eq!(one["allowed"], json!(is_allowed), "{name}: {action}: {one:#} but {answer}");
                // Code and sentence.
                assert_eq!(one["reasons"], *answer.body.get("reasons").unwrap_or(&json!([])), "{name}: {action}: {answer}");
                let told: Vec<&Value> = one["rules"].as_array().unwrap().iter().filter(|rule| rule["outcome"] == "failed").collect();
                assert_eq!(told.is_empty(), is_allowed, "{name}: {action}: {one:#}");
                counts[usize::from(!is_allowed)] += 1;
            }
            // The article's own list says what the subject may.
            let read = &really["read"];
            if read.status != 200 {
                continue;
            }
            for listed in read.value("actions").as_array().unwrap() {
                let action = format!("article.{}", listed["action"].as_str().unwrap());
                let one = explanations.iter().find(|one| one["action"] == json!(action)).unwrap();
                assert_eq!(listed["allowed"], one["allowed_to_subject"], "{name}: {action}");
                let withheld = one["withheld"].as_array().unwrap();
                let own: Vec<&Value> = one["reasons"].as_array().unwrap().iter().filter(|reason| !withheld.contains(reason)).collect();
                assert_eq!(listed["reasons"].as_array().unwrap().iter().collect::<Vec<_>>(), own, "{name}: {action}");
            }
        }
        counts
    }
}

fn id_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

/// An article in this status, whose editor is `editor` as soon as it can have one.
fn article_in(status: &str, admin: &Person, author: &Person, editor: &Person) -> String {
    let path = draft(author);
    let steps: &[(&Person, &str)] = match status {
        "draft" => return path,
        "submitted" => &[],
        "under_review" => &[(editor, "start_review")],
        "revision_requested" => &[(editor, "start_review"), (editor, "request_revision")],
        "accepted" => &[(editor, "start_review"), (editor, "accept")],
        "rejected" => &[(editor, "reject")],
        "published" => &[(editor, "start_review"), (editor, "accept"), (admin, "publish")],
        "withdrawn" => &[(author, "withdraw")],
        other => panic!("{other}"),
    };
    step(author, &path, "submit");
    assign(admin, &path, editor);
    for (who, action) in steps {
        step(who, &path, action);
    }
    path
}

fn codes(reasons: &Value) -> Vec<&str> {
    reasons.as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap()).collect()
}

/// The answer about one action.
fn explain<'a>(answer: &'a Answer, action: &str) -> &'a Value {
    let explanations = answer.value("explanations").as_array().unwrap();
    explanations.iter().find(|one| one["action"] == json!(format!("article.{action}"))).unwrap_or_else(|| panic!("no {action}: {answer}"))
}

fn about(asker: &Caller, who: &Person, path: &str, action: &str) -> Value {
    let answer = asker.get(&format!("/v1/users/{}/explain?action=article.{action}&resource=article:{}", who.id, id_of(path))).expect(200);
    assert_eq!(answer.value("explanations").as_array().unwrap().len(), 1, "{answer}");
    explain(&answer, action).clone()
}

fn rule<'a>(explanation: &'a Value, name: &str) -> &'a Value {
    let rules = explanation["rules"].as_array().unwrap();
    rules.iter().find(|rule| rule["rule"] == name).unwrap_or_else(|| panic!("no rule {name}: {explanation:#}"))
}

fn what_is_explained_is_what_happens_to_every_role_in_person(office: &Office) {
    let world = World::make(office);
    for (role, hidden) in [("editor", 8), ("author", 8), ("support", 0), ("administrator", 0)] {
        world.give_role(role);
        let [allowed, refused, unseen] = world.compare(&world.who, role);
        assert!(allowed > 20 && refused > 100, "{role}: {allowed} allowed, {refused} refused");
        assert_eq!(unseen, hidden, "{role}");
        // And asked by somebody else, about the same person.
        for path in &world.articles {
            let by_another = world.admin.get(&format!("/v1/users/{}/explain?resource=article:{}", world.who.id, id_of(path))).expect(200);
            let by_oneself = world.who.get(&format!("/v1/me/explain?resource=article:{}", id_of(path)));
            if by_oneself.status == 200 {
                assert_eq!(by_another.value("explanations"), by_oneself.value("explanations"), "{role}, {path}");
            } else {
                let all = by_another.value("explanations").as_array().unwrap().clone();
                assert!(all.iter().all(|one| one["allowed"] == false && codes(&one["reasons"]).contains(&"not_visible")), "{by_another}");
            }
        }
        let create = explain(&world.who.get("/v1/me/explain?action=article.create").expect(200), "create").clone();
        let created = world.who.post("/v1/articles", json!({ "title": "New", "abstract": "", "body": "" }));
        let really = (created.status == 201, created.body.get("reasons").cloned().unwrap_or(json!([])));
        assert_eq!((create["allowed"] == true, create["reasons"].clone()), really, "{role}: {created}");
    }
}

fn what_is_explained_is_what_happens_under_every_impersonation(office: &Office) {
    let world = World::make(office);
    for (role, permissions) in [
        ("editor", vec![json!(null), json!([]), json!(["articles:create"]), json!(["articles:edit_assigned"])]),
        ("author", vec![json!(null), json!([]), json!(["articles:create"])]),
    ] {
        world.give_role(role);
        // Each article that the subject sees is inside of one half, and outside of the other.
        let visible: Vec<&String> = world.articles.iter().filter(|path| world.who.get(path).status == 200).collect();
        let halves: [Vec<String>; 2] = [0, 1].map(|half| {
            let of_it = visible.iter().skip(half).step_by(2);
            of_it.map(|path| format!("article:{}", id_of(path))).collect()
        });
        for mode in ["full", "read_only"] {
            for permissions in &permissions {
                for resources in [json!(null), json!(halves[0]), json!(halves[1])] {
                    let bounds = json!({ "mode": mode, "permissions": permissions, "resources": resources });
                    let acting = office.impersonate_with(&world.admin, &world.who, bounds);
                    let name = format!("{role}, {mode}, {permissions}, {} resources", resources.as_array().map_or(0, Vec::len));
                    let [allowed, _, unseen] = world.compare(&acting, &name);
                    let inside = resources.as_array().map_or(visible.len(), Vec::len);
                    assert!(unseen == 23 - inside && allowed > 0, "{name}: {allowed} allowed, {unseen} unseen");
                    let create = explain(&acting.get("/v1/me/explain?action=article.create").expect(200), "create").clone();
                    let created = acting.post("/v1/articles", json!({ "title": "New", "abstract": "", "body": "" }));
                    let really = (created.status == 201, created.body.get("reasons").cloned().unwrap_or(json!([])));
                    assert_eq!((create["allowed"] == true, create["reasons"].clone()), really, "{name}: {created}");
                    acting.log_out().expect(200);
                }
            }
        }
    }
    // And where the policy refuses more, by the call and by the action.
    world.give_role("editor");
    let calls = ["create_article", "update_article", "article.accept", "article.start_review"];
    set(&world.admin, json!({ "refused_operations": calls }));
    let acting = office.impersonate(&world.admin, &world.who);
    let [allowed, refused, _] = world.compare(&acting, "refused by the policy");
    assert!(allowed > 0 && refused > 0);
    let answer = world.really(&acting, &world.articles[0], "edit").problem(403, "forbidden_under_impersonation");
    assert_eq!(answer.reasons(), ["forbidden_under_impersonation"]);
}

fn what_is_explained_is_what_happens_with_a_narrower_token(office: &Office) {
    let world = World::make(office);
    let (client, powerless) = (office.presenter(json!({})), office.presenter(json!({ "scope": "" })));
    for (by, scope) in [(&client, "articles:create"), (&client, "articles:edit_assigned"), (&powerless, "")] {
        let narrower = office.anonymous().with_token(&narrowed(by, &world.who.access_token, &[("scope", scope)]));
        let [allowed, refused, _] = world.compare(&narrower, &format!("scope {scope:?}"));
        assert!(allowed > 0 && refused > 0);
    }
    let acting = office.impersonate_with(&world.admin, &world.who, json!({ "permissions": ["articles:edit_assigned"] }));
    let narrower = office.anonymous().with_token(&narrowed(&client, &acting.access_token, &[]));
    world.compare(&narrower, "a narrower token of a bounded impersonation");
}

fn the_support_question_has_an_answer_to_forward(office: &Office) {
    let (admin, author, editor, other) = (office.administrator(), office.author(), office.editor(), office.editor());
    let support = office.support();
    let path = article_in("accepted", &admin, &author, &other);
    let answer =
        support.get(&format!("/v1/users/{}/explain?action=article.accept&resource=article:{}", editor.id, id_of(&path))).expect(200);
    assert_eq!(
        (answer.value("subject/id"), answer.str("subject/role"), answer.value("actor")),
        (&json!(editor.id), "editor", &Value::Null)
    );
    assert_eq!((answer.str("resource/status"), answer.value("resource/editor/id")), ("accepted", &json!(other.id)));
    let accept = explain(&answer, "accept");
    assert_eq!(codes(&accept["reasons"]), ["not_visible", "not_editor", "status_forbids"]);
    let names: Vec<&str> = accept["rules"].as_array().unwrap().iter().map(|rule| rule["rule"].as_str().unwrap()).collect();
    let all = ["account_status", "visibility", "role", "relation", "article_status", "scope", "grant", "mode", "policy", "freeze"];
    assert_eq!(names, all);
    for (name, outcome, detail) in [
        ("account_status", "passed", format!("{}'s account is active", editor.display_name)),
        ("role", "passed", "the role `editor` holds `articles:edit_assigned`".to_owned()),
        ("relation", "failed", format!("the article's editor is {}, and not {}", other.display_name, editor.display_name)),
        ("article_status", "failed", "the article is `accepted`, and `accept` is not possible in that status".to_owned()),
        (
            "visibility",
            "failed",
            format!(
                "{} can't see the article: neither its author, nor its editor, nor a holder of `articles:read_all`",
                editor.display_name
            ),
        ),
        ("scope", "not_applicable", "no token with a scope of its own is used".to_owned()),
        ("freeze", "not_applicable", format!("nobody acts as {} here", editor.display_name)),
    ] {
        let rule = rule(accept, name);
        assert_eq!((&rule["outcome"], &rule["detail"]), (&json!(outcome), &json!(detail)));
    }
    let become_editor = format!("assign {} as the article's editor", editor.display_name);
    assert_eq!(accept["remedies"], json!([become_editor, "revert the decision first"]));
    let publish = about(&support, &admin, &path, "publish");
    assert_eq!((&publish["allowed"], &publish["reasons"], &publish["remedies"]), (&json!(true), &json!([]), &json!([])));
}

fn remedies_name_what_would_make_it_possible_and_nothing_that_would_not(office: &Office) {
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    let mine = |status: &str| article_in(status, &admin, &author, &editor);
    let other = office.editor();
    for (status, who, action, remedies) in [
        ("submitted", &editor, "accept", json!(["start the review first"])),
        ("revision_requested", &editor, "accept", json!(["submit the article first", "start the review first"])),
        ("rejected", &editor, "accept", json!(["revert the decision first"])),
        ("rejected", &author, "submit", json!(["revert the decision first", "request a revision first"])),
        (
            "submitted",
            &other,
            "accept",
            json!([format!("assign {} as the article's editor", other.display_name), "start the review first"]),
        ),
        // Nothing leads on from there, or back to there.
        ("published", &editor, "accept", json!([])),
        ("withdrawn", &editor, "accept", json!([])),
        ("submitted", &author, "delete", json!([])),
        // What has been done is not undone to be done again, and no decision is made to be reverted.
        ("under_review", &editor, "start_review", json!([])),
        ("submitted", &author, "submit", json!([])),
        ("submitted", &editor, "revert_decision", json!([])),
        ("draft", &author, "withdraw", json!([])),
        // Its author stays its author, and nobody is made an administrator for one step.
        ("draft", &editor, "delete", json!([format!("let {}, its author, do it", author.display_name)])),
        ("accepted", &editor, "publish", json!(["let somebody do it whose role holds `articles:publish`: `administrator`"])),
        (
            "submitted",
            &author,
            "publish",
            json!([
                "start the review first",
                "accept the article first",
                "let somebody do it whose role holds `articles:publish`: `administrator`"
            ]),
        ),
    ] {
        let path = mine(status);
        let explanation = about(&admin, who, &path, action);
        assert_eq!(explanation["allowed"], false, "{status} {action}");
        assert_eq!(explanation["remedies"], remedies, "{status} {action}: {explanation:#}");
    }
    // Without an editor nobody starts a review.
    let path = draft(&author);
    step(&author, &path, "submit");
    let explanation = about(&admin, &author, &path, "edit");
    assert_eq!(explanation["remedies"], json!(["assign an editor first", "start the review first", "request a revision first"]));
}

fn an_editor_is_told_that_the_body_is_the_author_s(office: &Office) {
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    let path = article_in("submitted", &admin, &author, &editor);
    let edit = about(&admin, &editor, &path, "edit");
    assert_eq!(edit["allowed"], true);
    let detail = format!("{} is the article's editor, who edits its title and abstract", editor.display_name);
    assert_eq!(rule(&edit, "relation")["detail"], detail);
    let refused = editor.patch(&path, json!({ "title": "Mine", "body": "Mine" })).problem(403, "action_refused");
    assert_eq!(refused.reasons(), ["not_author", "status_forbids"]);
    assert_eq!(refused.value("reasons/1/detail"), "the article is `submitted`, and its body is not edited in that status");
}

fn whoever_may_not_look_may_still_ask_why(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let path = draft(&editor);
    let acting = office.impersonate(&admin, &editor);
    set(&admin, json!({ "refused_operations": ["get_article"] }));
    acting.get(&path).problem(403, "forbidden_under_impersonation");
    acting.get(&format!("{path}/history")).expect(200);
    let answer = acting.get(&format!("/v1/me/explain?resource=article:{}", id_of(&path))).expect(200);
    let read = explain(&answer, "read");
    assert_eq!((codes(&read["reasons"]), &rule(read, "policy")["outcome"]), (vec!["forbidden_under_impersonation"], &json!("failed")));
    assert_eq!(rule(read, "policy")["detail"], "the policy refuses `get_article` under impersonation");
    assert_eq!(explain(&answer, "edit")["allowed"], true);
}

fn a_freeze_is_told_of_and_does_not_concern_the_user_in_person(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let path = draft(&author);
    admin.post("/v1/policy/freeze", json!({ "reason": "an incident" })).expect(200);
    let edit = about(&admin, &author, &path, "edit");
    assert_eq!((&edit["allowed"], &rule(&edit, "freeze")["outcome"]), (&json!(true), &json!("not_applicable")));
    assert!(rule(&edit, "freeze")["detail"].as_str().unwrap().starts_with("impersonation is frozen"), "{edit:#}");
}

fn whoever_follows_the_remedies_gets_there(office: &Office) {
    let (admin, author, editor, other) = (office.administrator(), office.author(), office.editor(), office.editor());
    let path = article_in("rejected", &admin, &author, &other);
    assert_eq!(about(&admin, &editor, &path, "accept")["remedies"].as_array().unwrap().len(), 2);
    assign(&admin, &path, &editor);
    assert_eq!(about(&admin, &editor, &path, "accept")["remedies"], json!(["revert the decision first"]));
    step(&editor, &path, "revert_decision");
    assert_eq!(about(&admin, &editor, &path, "accept")["allowed"], true);
    step(&editor, &path, "accept");
}

fn an_account_that_is_disabled_is_why(office: &Office) {
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    let path = article_in("under_review", &admin, &author, &editor);
    assert_eq!(about(&admin, &editor, &path, "accept")["allowed"], true);
    admin.patch(&format!("/v1/users/{}", editor.id), json!({ "status": "disabled" })).expect(200);
    let accept = about(&admin, &editor, &path, "accept");
    assert_eq!((&accept["allowed"], codes(&accept["reasons"])), (&json!(false), vec!["account_disabled"]));
    assert_eq!(accept["remedies"], json!([format!("enable {}'s account", editor.display_name)]));
    editor.post(&format!("{path}/actions"), json!({ "action": "accept" })).problem(401, "session_ended");
}

fn under_impersonation_what_is_withheld_stands_apart(office: &Office) {
    let (admin, author, editor) = (office.administrator(), office.author(), office.editor());
    let path = article_in("under_review", &admin, &author, &editor);
    let bounds = json!({ "mode": "read_only", "permissions": ["articles:create"] });
    let acting = office.impersonate_with(&admin, &editor, bounds);
    let answer = acting.get(&format!("/v1/me/explain?resource=article:{}", id_of(&path))).expect(200);
    assert_eq!((answer.value("subject/id"), answer.value("actor")), (&json!(editor.id), &admin.user_ref()));
    let accept = explain(&answer, "accept");
    assert_eq!((&accept["allowed"], &accept["allowed_to_subject"]), (&json!(false), &json!(true)));
    assert_eq!(codes(&accept["withheld"]), ["outside_grant", "outside_grant"]);
    assert_eq!(accept["withheld"], accept["reasons"]);
    assert_eq!((&rule(accept, "grant")["outcome"], &rule(accept, "mode")["outcome"]), (&json!("failed"), &json!("failed")));
    let publish = explain(&answer, "publish");
    assert_eq!(codes(&publish["reasons"]), ["missing_permission", "status_forbids", "outside_grant"]);
    assert_eq!(codes(&publish["withheld"]), ["outside_grant"]);
    // In person nothing is withheld.
    let own = explain(&editor.get(&format!("/v1/me/explain?resource=article:{}", id_of(&path))).expect(200), "accept").clone();
    assert_eq!((&own["allowed"], &own["withheld"]), (&json!(true), &json!([])));
    assert_eq!(rule(&own, "mode")["outcome"], "not_applicable");
}

fn a_user_s_page_lists_every_action_on_an_article(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let path = draft(&author);
    let answer = admin.get(&format!("/v1/users/{}/explain?resource=article:{}", author.id, id_of(&path))).expect(200);
    let listed: Vec<&str> = answer.value("explanations").as_array().unwrap().iter().map(|one| one["action"].as_str().unwrap()).collect();
    let expected: Vec<String> = ["read"].into_iter().chain(ACTIONS).map(|action| format!("article.{action}")).collect();
    assert_eq!(listed, expected);
}

fn what_one_may_not_know_of_is_not_explained(office: &Office) {
    let (admin, author, other, editor) = (office.administrator(), office.author(), office.author(), office.editor());
    let path = draft(&author);
    let nothing = "article:019aa0f0-0000-7000-8000-0000000000aa";
    let of_it = format!("article:{}", id_of(&path));
    for resource in [nothing, of_it.as_str()] {
        let hidden = other.get(&format!("/v1/me/explain?resource={resource}")).problem(404, "not_found");
        assert_eq!(hidden.str("detail"), "there is nothing here that you may know of");
    }
    admin.get(&format!("/v1/users/{}/explain?resource={nothing}", author.id)).problem(404, "not_found");
    admin.get(&format!("/v1/users/019aa0f0-0000-7000-8000-0000000000aa/explain?resource={of_it}")).problem(404, "not_found");
    // Who may see users but not every article.
    let client = office.client(json!({ "scope": "users:read" }));
    let service = office.anonymous().with_token(client.credentials(&[]).expect(200).str("access_token"));
    service.get(&format!("/v1/users/{}/explain?resource={of_it}", author.id)).problem(404, "not_found");
    service.get(&format!("/v1/users/{}/explain?action=article.create", author.id)).expect(200);
    for caller in [&author, &editor] {
        caller.get(&format!("/v1/users/{}/explain?resource={of_it}", author.id)).problem(403, "missing_permission");
    }
    // Outside of what an impersonation was started for.
    let second = draft(&author);
    let bounds = json!({ "resources": [format!("article:{}", id_of(&second))] });
    let acting = office.impersonate_with(&admin, &author, bounds);
    let refused = acting.get(&format!("/v1/me/explain?resource={of_it}")).problem(403, "outside_grant");
    assert!(!refused.text.contains("tides"), "{refused}");
}

fn a_question_that_is_none_is_told_what_is_wrong_with_it(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let of_it = format!("article:{}", id_of(&draft(&author)));
    for base in ["/v1/me/explain".to_owned(), format!("/v1/users/{}/explain", author.id)] {
        for (query, pointer) in [
            (String::new(), "resource"),
            ("action=article.accept".to_owned(), "resource"),
            (format!("action=article.create&resource={of_it}"), "resource"),
            (format!("action=accept&resource={of_it}"), "action"),
            (format!("action=user.impersonate&resource={of_it}"), "action"),
            ("resource=article:x".to_owned(), "resource"),
            (format!("resource=user:{}", author.id), "resource"),
            (format!("resource={}", of_it.to_uppercase()), "resource"),
        ] {
            let answer = admin.get(&format!("{base}?{query}")).problem(422, "invalid_request");
            assert_eq!(answer.pointers(), [pointer], "{query}");
        }
        admin.get(&format!("{base}?resource={of_it}&why=1")).problem(400, "unknown_parameter");
        admin.get(&format!("{base}?resource={of_it}&resource={of_it}")).problem(400, "malformed_request");
    }
}

fn explaining_changes_nothing(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let path = draft(&author);
    let before = office.db_count("SELECT count(*) FROM entries");
    let version = author.get(&path).expect(200).header("etag").map(str::to_owned);
    for _ in 0..3 {
        admin.get(&format!("/v1/users/{}/explain?resource=article:{}", author.id, id_of(&path))).expect(200);
        author.get(&format!("/v1/me/explain?resource=article:{}", id_of(&path))).expect(200);
    }
    assert_eq!(office.db_count("SELECT count(*) FROM entries"), before);
    assert_eq!(author.get(&path).expect(200).header("etag").map(str::to_owned), version);
}
