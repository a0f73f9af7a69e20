//! What outlives the server: everything that was acknowledged, and every token.

use serde_json::{Value, json};

use super::articles::{draft, step};
use crate::harness::{Office, Setup};

api_tests! {
    everybody_and_everything_is_still_there,
    an_impersonation_goes_on_and_leads_back,
    what_ended_stays_ended_everywhere,
    a_replaced_refresh_token_is_remembered,
    keys_are_sealed_as_soon_as_there_is_something_to_seal_them_with,
    a_wrong_or_missing_encryption_key_stops_the_start_and_is_named,
}

fn everybody_and_everything_is_still_there(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let path = draft(&author);
    step(&author, &path, "submit");
    let made = admin.post("/v1/users", json!({ "email": "n@example.org", "display_name": "N", "role": "editor" })).expect(201);
    let shown = ["/v1/users", "/v1/articles", "/v1/history?resource_type=article", "/v1/impersonations"];
    let before: Vec<Value> = shown.iter().map(|path| admin.get(path).expect(200).body).collect();
    office.restart();
    let after: Vec<Value> = shown.iter().map(|path| admin.get(path).expect(200).body).collect();
    assert_eq!(after, before);
    author.get(&path).expect(200);
    author.refresh().expect(200);
    author.log_in_again().get("/v1/me").expect(200);
    let password = json!({ "setup_token": made.str("setup_token"), "new_password": "a good password" });
    office.anonymous().post("/v1/auth/password", password).expect(204);
    assert_eq!(office.db_count("SELECT count(*) FROM keys"), 2, "no key was made again");
}

fn an_impersonation_goes_on_and_leads_back(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let (live, expired) = (office.impersonate(&admin, &editor), office.impersonate_with(&admin, &editor, json!({ "duration_seconds": 1 })));
    office.advance(2);
    office.restart();
    assert_eq!(live.get("/v1/me").expect(200).value("actor"), &admin.user_ref());
    live.post("/v1/articles", json!({ "title": "After", "abstract": "", "body": "" })).expect(201);
    assert_eq!(expired.get("/v1/me").problem(401, "impersonation_ended").str("cause"), "expired");
    for acting in [&live, &expired] {
        assert_eq!(acting.log_out().expect(200).str("access_token"), admin.access_token, "byte for byte, by the kept key");
    }
    office.restart();
    for acting in [&live, &expired] {
        acting.log_out().problem(401, "impersonation_ended");
    }
}

fn what_ended_stays_ended_everywhere(office: &Office) {
    let (admin, editor, author) = (office.administrator(), office.editor(), office.author());
    let acting = office.impersonate(&admin, &editor);
    admin.delete(&format!("/v1/impersonations/{}", acting.id)).expect(204);
    author.log_out().expect(204);
    office.restart();
    for path in ["/v1/me", "/v1/me/sessions", "/v1/me/impersonations", "/v1/articles", "/v1/history", "/v1/users"] {
        assert_eq!(acting.get(path).problem(401, "impersonation_ended").str("cause"), "ended_by_person", "{path}");
        author.get(path).problem(401, "session_ended");
    }
    acting.post("/v1/articles", json!({ "title": "No", "abstract": "", "body": "" })).problem(401, "impersonation_ended");
    acting.log_out().problem(401, "impersonation_ended");
    author.log_out().problem(401, "session_ended");
    author.refresh().problem(401, "session_ended");
}

fn a_replaced_refresh_token_is_remembered(office: &Office) {
    let author = office.author();
    let first = author.refresh().expect(200).str("refresh_token").to_owned();
    office.restart();
    assert_eq!(author.refresh().expect(200).str("refresh_token"), first, "the same successor, within the grace");
    office.advance(11);
    author.refresh().problem(401, "refresh_token_reused");
    author.get("/v1/me").problem(401, "session_ended");
}

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=";

fn keys_are_sealed_as_soon_as_there_is_something_to_seal_them_with(office: &Office) {
    let admin = office.administrator();
    let editor = office.editor();
    let acting = office.impersonate(&admin, &editor);
    let keys = || office.db_lines("SELECT private_key AS value FROM keys ORDER BY kid");
    let plain = keys();
    assert_eq!(office.db_count("SELECT count(*) FROM keys WHERE sealed"), 0);
    office.stop();
    let sealed_office = office.start_again_with(&[("KEY_ENCRYPTION_KEY", KEY)]).unwrap();
    assert_eq!(office.db_count("SELECT count(*) FROM keys WHERE NOT sealed"), 0);
    let sealed = keys();
    assert!(plain.iter().zip(&sealed).all(|(plain, sealed)| plain != sealed && !sealed.contains(plain.as_str())));
    // The same keys all the same: every token counts, the way back is the same bytes, a refresh gives a successor.
    let acting = acting.at(&sealed_office);
    acting.get("/v1/me").expect(200);
    admin.at(&sealed_office).get("/v1/me").expect(200);
    sealed_office.anonymous().post("/v1/auth/refresh", json!({ "refresh_token": admin.refresh_token })).expect(200);
    sealed_office.restart();
    admin.at(&sealed_office).get("/v1/me").expect(200);
    assert_eq!(keys(), sealed, "what is sealed is not sealed again");
}

fn a_wrong_or_missing_encryption_key_stops_the_start_and_is_named(setup: Setup) {
    let office = setup.with("KEY_ENCRYPTION_KEY", KEY).open();
    let admin = office.administrator();
    assert_eq!(office.db_count("SELECT count(*) FROM keys WHERE NOT sealed"), 0);
    let keys = || office.db_lines("SELECT private_key AS value FROM keys ORDER BY kid");
    let before = keys();
    office.stop();
    for other in [OTHER_KEY, ""] {
        let why = office.start_again_with(&[("KEY_ENCRYPTION_KEY", other)]).err().expect("it must not start");
        assert!(why.contains("ACTAS_KEY_ENCRYPTION_KEY"), "{why}");
        assert!(!why.contains(OTHER_KEY) && !why.contains(KEY), "{why}");
    }
    assert_eq!(keys(), before);
    office.restart();
    admin.get("/v1/me").expect(200);
}
