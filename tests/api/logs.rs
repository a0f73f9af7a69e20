//! What the log says, and what it must never say.

use serde_json::{Value, json};

use crate::harness::{Answer, Office, Program, claims_of};

api_tests! {
    a_line_names_both_and_no_line_holds_a_secret,
    a_line_of_the_token_endpoint_names_the_client_and_whose_token_it_gave,
}

fn a_line_names_both_and_no_line_holds_a_secret(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let program = Program::serving(office, &[("ACTAS_LOG", "trace"), ("ACTAS_LOG_FORMAT", "json")]);
    let here = &program.office;
    let (admin_id, admin) = (admin.id.clone(), admin.at(here));

    let nobody = here.anonymous();
    let login = nobody.post("/v1/auth/login", json!({ "email": author.email, "password": author.password })).expect(200);
    nobody.post("/v1/auth/login", json!({ "email": author.email, "password": "hunter2 hunter2" })).problem(401, "invalid_credentials");
    let refreshed = nobody.post("/v1/auth/refresh", json!({ "refresh_token": login.str("refresh_token") })).expect(200);
    let acting = here.impersonate(&admin, &author);
    acting.request("GET", "/v1/me").header("X-Request-Id", "the-one").send().expect(200);
    acting.get(&format!("/v1/articles?q={}", "a-searched-word")).expect(200);
    let newcomer = json!({ "email": "new@example.org", "display_name": "New", "role": "author" });
    let newcomer = admin.post("/v1/users", newcomer).expect(201);
    nobody.with_token(&format!("{}x", acting.access_token)).get("/v1/me").problem(401, "invalid_token");
    acting.log_out().expect(200);
    let log = program.kill();

    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect();
    let line = lines.iter().find(|line| line["request_id"] == "the-one" && line["status"] == 200).unwrap();
    assert_eq!(line["subject"], author.id.as_str(), "{line}");
    assert_eq!(line["actor"], admin_id.as_str(), "{line}");
    assert_eq!((&line["impersonation_id"], &line["route"]), (&json!(acting.id), &json!("/v1/me")));
    assert!(line["duration_ms"].is_number() && line["client_ip"] == "127.0.0.1", "{line}");

    let tokens = [login.str("access_token"), refreshed.str("access_token"), &acting.access_token];
    let signatures = tokens.iter().map(|token| token.rsplit('.').next().unwrap());
    let secrets = [
        author.password.as_str(),
        "hunter2",
        login.str("refresh_token"),
        refreshed.str("refresh_token"),
        newcomer.str("setup_token"),
        acting.restore_verifier.as_str(),
        "$2b$",
        "a-searched-word",
    ];
    for secret in signatures.chain(secrets) {
        let leak = log.lines().find(|line| line.contains(secret));
        assert!(leak.is_none(), "the log holds a secret: {leak:?}");
    }
}

fn a_line_of_the_token_endpoint_names_the_client_and_whose_token_it_gave(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let client = office.presenter(json!({}));
    let program = Program::serving(office, &[("ACTAS_LOG_FORMAT", "json")]);
    let client = client.at(&program.office);
    let started = client.start(&admin.access_token, &editor.id, &[]).expect(200);
    let token = started.str("access_token").to_owned();
    let narrower = client.exchange(&token, &[]).expect(200);
    let own = client.credentials(&[]).expect(200);
    client.introspect(&token).expect(200);
    let log = program.kill();

    let sid = claims_of(&token)["sid"].clone();
    let line = |answer: &Answer| {
        let id = answer.header("x-request-id").unwrap();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let line = lines.into_iter().find(|line| line["request_id"] == id && line["route"] == "/oauth/token").unwrap();
        assert_eq!(line["client"], client.id.as_str(), "{line}");
        line
    };
    for answer in [&started, &narrower] {
        let line = line(answer);
        assert_eq!((&line["subject"], &line["actor"]), (&json!(editor.id), &json!(admin.id)), "{line}");
        assert_eq!(line["impersonation_id"], sid, "{line}");
        assert!(answer.header("actas-actor").is_none(), "the answer to a client is none to an impersonation's token");
    }
    let line = line(&own);
    assert_eq!((&line["subject"], &line["actor"]), (&Value::Null, &Value::Null), "{line}");
    for secret in [&token, narrower.str("access_token"), own.str("access_token"), &client.secret] {
        assert!(!log.contains(secret.rsplit('.').next().unwrap()), "the log holds a secret");
    }
}
