//! What somebody would try who holds a token or a client that is not meant for it.

use serde_json::json;

use super::oauth_exchange::narrowed;
use crate::harness::{BILLING, Forger, Office, claims_of};

api_tests! {
    a_narrower_token_makes_no_account_that_may_do_more_than_it,
    a_narrower_token_makes_no_client_that_may_do_more_than_it,
    the_public_client_makes_no_token_for_actas_of_one_for_others,
    a_token_for_others_never_becomes_the_administrators,
    a_token_is_exchanged_so_often_and_no_more,
    a_token_of_no_use_makes_nobody_forget_a_key,
    a_request_names_few_audiences_and_has_few_parameters,
    refreshing_gives_no_narrower_token_and_says_so,
    a_token_that_ends_before_its_row_was_not_made_for_it,
    a_logins_token_for_others_was_never_made,
    nothing_is_written_under_what_is_over,
}

fn a_narrower_token_makes_no_account_that_may_do_more_than_it(office: &Office) {
    let (admin, other, author, support) = (office.administrator(), office.administrator(), office.author(), office.support());
    office.change_client("actas", json!({ "audiences": [BILLING] }));
    let narrow = office.anonymous().with_token(&narrowed(&office.first_party(), &admin.access_token, &[("scope", "users:write")]));
    let new = |role: &str| json!({ "email": format!("new.{role}@example.org"), "display_name": "New", "role": role });
    for role in ["administrator", "support"] {
        assert_eq!(narrow.post("/v1/users", new(role)).problem(403, "action_refused").reasons(), ["outranks_caller"]);
        narrow.patch(&format!("/v1/users/{}", author.id), json!({ "role": role })).problem(403, "action_refused");
    }
    for user in [&other, &support] {
        narrow.patch(&format!("/v1/users/{}", user.id), json!({ "status": "disabled" })).problem(403, "action_refused");
    }
    // Whoever sets a password has the account.
    for user in [&other, &support, &author] {
        narrow.post_empty(&format!("/v1/users/{}/setup-token", user.id)).problem(403, "insufficient_scope");
    }
    narrow.post("/v1/users", new("editor")).expect(201);
}

fn a_narrower_token_makes_no_client_that_may_do_more_than_it(office: &Office) {
    let admin = office.administrator();
    let client = office.client(json!({}));
    let narrow = narrowed(&office.first_party(), &admin.access_token, &[("scope", "clients:read clients:write")]);
    let narrow = office.anonymous().with_token(&narrow);
    let wide = json!({ "name": "Wide", "grants": ["client_credentials"], "scope": "history:read" });
    narrow.post("/v1/clients", wide).problem(403, "insufficient_scope");
    narrow.patch(&format!("/v1/clients/{}", client.id), json!({ "scope": "history:read" })).problem(403, "insufficient_scope");
    narrow.post_empty(&format!("/v1/clients/{}/secret", client.id)).problem(403, "insufficient_scope");
    narrow.patch("/v1/clients/actas", json!({ "presenters": [client.id] })).problem(403, "insufficient_scope");
    narrow.get("/v1/clients").expect(200);
}

fn the_public_client_makes_no_token_for_actas_of_one_for_others(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let service = office.presenter(json!({}));
    office.change_client("actas", json!({ "audiences": [BILLING] }));
    let public = office.first_party();
    let for_billing = narrowed(&public, &admin.access_token, &[("audience", BILLING)]);
    let of_service = service.start(&admin.access_token, &editor.id, &[("audience", BILLING)]).expect(200).str("access_token").to_owned();
    for (token, error) in [(&for_billing, "invalid_target"), (&of_service, "invalid_request")] {
        for audience in ["actas", ""] {
            let answer = public.exchange(token, &[("audience", audience)]);
            if audience.is_empty() && token == &for_billing {
                // For the same audience as before.
                assert_eq!(claims_of(answer.expect(200).str("access_token"))["aud"], BILLING);
            } else {
                answer.oauth(400, error);
            }
        }
    }
    // Of its own it makes one for others, as pages do.
    let back = narrowed(&public, &admin.access_token, &[("audience", "actas")]);
    assert_eq!(claims_of(&narrowed(&public, &back, &[("audience", BILLING)]))["aud"], BILLING);
}

fn a_token_for_others_never_becomes_the_administrators(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    for audiences in [&[("audience", BILLING)][..], &[("audience", BILLING), ("audience", "actas")]] {
        // Without a proof nothing comes back, and it ends all the same.
        let token = client.start(&admin.access_token, &editor.id, audiences).expect(200).str("access_token").to_owned();
        let holder = office.anonymous().with_token(&token);
        holder.post_empty("/v1/auth/logout").problem(401, "restore_proof_required");
        client.finds_inactive(&token);
        // With one it does, to whoever has the proof.
        let acting = client.impersonate(&admin, &editor, audiences);
        assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
        // An empty proof is none.
        let token = client.start(&admin.access_token, &editor.id, audiences).expect(200).str("access_token").to_owned();
        let holder = office.anonymous().with_token(&token);
        holder.post("/v1/auth/logout", json!({ "restore_verifier": "" })).problem(401, "restore_proof_required");
    }
    // What is no impersonation's own token is not even ended by those whom it is not for.
    office.change_client("actas", json!({ "audiences": [BILLING] }));
    let narrow = narrowed(&office.first_party(), &admin.access_token, &[("audience", BILLING)]);
    office.anonymous().with_token(&narrow).post_empty("/v1/auth/logout").problem(401, "invalid_token");
    client.finds_active(&narrow);
}

fn a_token_is_exchanged_so_often_and_no_more(office: &Office) {
    let (author, public) = (office.author(), office.first_party());
    let mut token = author.access_token.clone();
    let mut made = 0;
    let refused = loop {
        let answer = public.exchange(&token, &[]);
        if answer.status != 200 {
            break answer;
        }
        token = answer.str("access_token").to_owned();
        made += 1;
        assert!(made < 100, "there is no end");
    };
    assert!(refused.oauth(400, "invalid_request").description().contains("too many times"));
    assert!(made >= 8, "only {made}");
    office.anonymous().with_token(&token).get("/v1/me").expect(200);
    public.revoke(&claims_token_of_first(office, &author)).expect(200);
}

/// A token that was exchanged once.
fn claims_token_of_first(office: &Office, author: &crate::harness::Person) -> String {
    narrowed(&office.first_party(), &author.access_token, &[])
}

fn a_token_of_no_use_makes_nobody_forget_a_key(office: &Office) {
    let author = office.author();
    let spent = narrowed(&office.first_party(), &author.access_token, &[("requested_duration", "1")]);
    office.advance(2);
    office.db_execute("DELETE FROM exchanged_sessions").unwrap();
    let kid = office.anonymous().get("/.well-known/jwks.json").expect(200).str("keys/0/kid").to_owned();
    for _ in 0..3 {
        office.anonymous().with_token(&spent).get("/v1/me").problem(401, "token_expired");
        assert_eq!(office.anonymous().get("/.well-known/jwks.json").expect(200).str("keys/0/kid"), kid);
        author.get("/v1/me").expect(200);
    }
}

fn a_request_names_few_audiences_and_has_few_parameters(office: &Office) {
    let (author, public) = (office.author(), office.first_party());
    let names: Vec<String> = (0..11).map(|number| format!("https://{number}.example")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| ("audience", name.as_str())).collect();
    assert!(public.exchange(&author.access_token, &many).oauth(400, "invalid_target").description().contains("at most 10"));
    let names: Vec<String> = (0..101).map(|number| format!("p{number}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    public.bare("/oauth/token", &many).send().oauth(400, "invalid_request");
}

fn a_token_that_ends_before_its_row_was_not_made_for_it(office: &Office) {
    let (admin, editor, forger) = (office.administrator(), office.editor(), Forger::of(office));
    let client = office.presenter(json!({}));
    let acting = office.impersonate(&admin, &editor);
    let narrower = narrowed(&client, &acting.access_token, &[]);
    for token in [&acting.access_token, &narrower] {
        for exp in [0, -1, office.now().timestamp()] {
            let past = forger.with_claims(token, |claims| claims["exp"] = json!(exp));
            let holder = office.anonymous().with_token(&past);
            holder.get("/v1/me").problem(401, "token_expired");
            holder.post("/v1/articles", json!({ "title": "x", "abstract": "", "body": "" })).problem(401, "token_expired");
            client.finds_inactive(&past);
            client.exchange(&past, &[]).oauth(400, "invalid_request");
        }
    }
    let own = client.credentials(&[("audience", "actas"), ("scope", "users:read")]).expect(200).str("access_token").to_owned();
    office.anonymous().with_token(&own).get("/v1/users").expect(200);
    let past = forger.with_claims(&own, |claims| claims["exp"] = json!(0));
    office.anonymous().with_token(&past).get("/v1/users").problem(401, "token_expired");
    client.finds_inactive(&past);
    let past = forger.with_claims(&acting.access_token, |claims| claims["exp"] = json!(0));
    office.anonymous().with_token(&past).post_empty("/v1/auth/logout").problem(401, "token_expired");
    // What was truly made for it goes on, and after its time still leads back.
    acting.get("/v1/me").expect(200);
    office.advance(1801);
    assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token);
}

fn a_logins_token_for_others_was_never_made(office: &Office) {
    let (admin, editor, forger) = (office.administrator(), office.editor(), Forger::of(office));
    office.change_client("actas", json!({ "audiences": [BILLING] }));
    let client = office.presenter(json!({}));
    let acting = office.impersonate(&admin, &editor);
    for token in [&admin.access_token, &acting.access_token] {
        let other = forger.with_claims(token, |claims| claims["aud"] = json!(BILLING));
        office.anonymous().with_token(&other).post_empty("/v1/auth/logout").problem(401, "invalid_token");
        for who in [&client, &office.first_party()] {
            who.exchange(&other, &[("audience", BILLING)]).oauth(400, "invalid_request");
        }
        client.finds_inactive(&other);
        office.first_party().revoke(&other).expect(200);
        office.anonymous().with_token(token).get("/v1/me").expect(200);
    }
}

fn nothing_is_written_under_what_is_over(office: &Office) {
    let (admin, editor, public) = (office.administrator(), office.editor(), office.first_party());
    let acting = office.impersonate(&admin, &editor);
    let narrower = narrowed(&public, &acting.access_token, &[]);
    acting.log_out().expect(200);
    let written = office.db_count("SELECT count(*) FROM entries");
    public.revoke(&narrower).expect(200);
    office.anonymous().with_token(&narrower).post_empty("/v1/auth/logout").problem(401, "impersonation_ended");
    public.exchange(&narrower, &[]).oauth(400, "invalid_request");
    assert_eq!(office.db_count("SELECT count(*) FROM entries"), written);
}

fn refreshing_gives_no_narrower_token_and_says_so(office: &Office) {
    let (author, public) = (office.author(), office.first_party());
    let refresh = |token: &str, more: &[(&str, &str)]| {
        let mut parameters = vec![("grant_type", "refresh_token"), ("refresh_token", token)];
        parameters.extend_from_slice(more);
        public.token(&parameters)
    };
    refresh(&author.refresh_token, &[("audience", BILLING)]).oauth(400, "invalid_target");
    refresh(&author.refresh_token, &[("resource", "https://x.example")]).oauth(400, "invalid_target");
    refresh(&author.refresh_token, &[("scope", "users:read")]).oauth(400, "invalid_scope");
    // Refused before anything was replaced, and what it is anyway may be said.
    let renewed = refresh(&author.refresh_token, &[("scope", "articles:create"), ("audience", "actas")]).expect(200);
    assert_eq!(renewed.str("scope"), "articles:create");
    refresh(renewed.str("refresh_token"), &[]).expect(200);
}
