//! What whoever runs it relies on: health, metrics, CORS, headers, limits, odd clients, and a database that goes away.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use serde_json::json;

use super::articles::draft;
use crate::harness::{Answer, Caller, Office, RawAnswer, Setup, at_once};

api_tests! {
    health_and_readiness_are_open_to_everybody,
    metrics_count_what_happens,
    the_operations_port_serves_operations_only_and_nobody_else_does,
    every_answer_is_readable_by_the_page_that_asked,
    other_origins_get_no_leave,
    a_preflight_needs_no_token,
    a_request_keeps_its_id_if_it_is_sane,
    every_answer_carries_the_security_headers,
    an_answer_is_never_kept_nor_taken_for_unchanged,
    an_answer_to_an_impersonation_names_both,
    a_wrong_method_is_told_the_right_ones,
    a_wrong_address_is_not_found,
    a_body_too_large_by_its_own_word_is_refused_unread,
    a_body_of_another_kind_is_refused,
    a_call_without_a_body_takes_any_content_type,
    a_token_is_read_from_its_header_only,
    the_document_and_its_page_are_served,
    odd_requests_get_an_answer_and_do_no_harm,
    a_slow_head_or_body_is_given_up,
    stopping_finishes_the_request_in_flight,
    [postgres] terminated_connections_are_replaced,
    [postgres] an_unreachable_database_is_told_of_in_time,
}

fn health_and_readiness_are_open_to_everybody(office: &Office) {
    for path in ["/healthz", "/readyz"] {
        assert_eq!(office.anonymous().get(path).expect(200).body, json!({ "status": "ok" }));
        office.anonymous().with_token("rubbish").get(path).expect(200);
        office.anonymous().get(&format!("{path}?verbose=1")).problem(400, "unknown_parameter");
    }
}

/// The value of a metric by its name and labels.
fn metric(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

fn metrics_count_what_happens(office: &Office) {
    let scrape = || office.anonymous().get("/metrics").expect(200);
    let (admin, editor, author) = (office.administrator(), office.editor(), office.author());
    let before = scrape();
    assert!(before.header("content-type").unwrap().starts_with("text/plain"), "{before}");
    let path = draft(&author);
    author.get(&path).expect(200);
    author.get(&path).expect(200);
    author.get("/v1/articles/nothing").expect(404);
    author.get("/no/such/thing").expect(404);
    office.anonymous().post("/v1/auth/login", json!({ "email": author.email, "password": "wrong wrong" })).expect(401);
    let acting = office.impersonate(&admin, &editor);
    let left = office.impersonate_with(&admin, &editor, json!({ "mode": "read_only" }));
    left.log_out().expect(200);
    admin.post(&format!("/v1/users/{}/impersonate", admin.id), json!({ "reason": "x" })).expect(403);
    let after = scrape();
    let rise = |name: &str| metric(&after.text, name) - metric(&before.text, name);
    for (name, by) in [
        (r#"actas_http_requests_total{method="POST",route="/v1/articles",status="201"}"#, 1.0),
        (r#"actas_http_requests_total{method="GET",route="/v1/articles/{id}",status="200"}"#, 2.0),
        (r#"actas_http_requests_total{method="GET",route="/v1/articles/{id}",status="404"}"#, 1.0),
        (r#"actas_http_requests_total{method="GET",route="unmatched",status="404"}"#, 1.0),
        (r#"actas_http_request_duration_seconds_count{route="/v1/articles/{id}"}"#, 3.0),
        (r#"actas_logins_total{outcome="refused"}"#, 1.0),
        (r#"actas_impersonations_started_total{mode="full"}"#, 1.0),
        (r#"actas_impersonations_started_total{mode="read_only"}"#, 1.0),
        (r#"actas_impersonations_ended_total{cause="logout"}"#, 1.0),
        (r#"actas_impersonations_refused_total{reason="self"}"#, 1.0),
        ("actas_impersonations_active", 1.0),
    ] {
        assert!((rise(name) - by).abs() < 0.5, "{name} should rise by {by}:\n{}", after.text);
    }
    assert!(after.text.contains(r#"actas_db_connections{state="idle"}"#), "{}", after.text);
    for id in [&author.id, &acting.id, path.rsplit('/').next().unwrap()] {
        assert!(!after.text.contains(id), "an id is no label");
    }
}

fn the_operations_port_serves_operations_only_and_nobody_else_does(setup: Setup) {
    let office = setup.with("OPS_BIND", "127.0.0.1:0").open();
    for path in ["/healthz", "/readyz", "/metrics"] {
        office.ops_get(path).expect(200);
        office.anonymous().get(path).problem(404, "not_found");
    }
    for path in ["/v1/me", "/v1/auth/login", "/openapi.json", "/docs/"] {
        office.ops_get(path).problem(404, "not_found");
    }
    let document = office.anonymous().get("/openapi.json").expect(200);
    assert!(document.value("paths").get("/metrics").is_none(), "the document names what is served");
}

const PAGE: &str = "https://desk.example.org";
const EXPOSED: [&str; 8] = ["etag", "link", "location", "x-request-id", "retry-after", "www-authenticate", "actas-subject", "actas-actor"];

fn list(answer: &Answer, header: &str) -> Vec<String> {
    let mut names: Vec<_> = answer
        .header(header)
        .unwrap_or_default()
        .split(',')
        .map(|name| name.trim().to_lowercase())
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    names
}

fn every_answer_is_readable_by_the_page_that_asked(setup: Setup) {
    let origins = format!("{PAGE},http://localhost:5173");
    let office = setup.with("CORS_ORIGINS", origins).with("LOGIN_FAILURES_PER_MINUTE", 1).with("MAX_BODY_BYTES", 4096).open();
    let author = office.author();
    let nobody = office.anonymous();
    let from = |caller: &Caller, method: &str, path: &str, body: &str| {
        let request = caller.request(method, path).header("Origin", PAGE);
        if body.is_empty() { request.send() } else { request.body("application/json", body).send() }
    };
    let login = format!(r#"{{"email":"{}","password":"wrong wrong"}}"#, author.email);
    let large = format!(r#"{{"title":"{}"}}"#, "x".repeat(5000));
    for (caller, method, path, body, status) in [
        (&*author, "GET", "/v1/me", "", 200),
        (&*author, "POST", "/v1/articles", r#"{"title":"a","abstract":"","body":""}"#, 201),
        (&nobody, "GET", "/v1/me", "", 401),
        (&*author, "GET", "/v1/users", "", 403),
        (&*author, "GET", "/v1/articles/nothing", "", 404),
        (&nobody, "GET", "/nothing", "", 404),
        (&*author, "PUT", "/v1/articles", "", 405),
        (&*author, "POST", "/v1/articles", &large, 413),
        (&*author, "POST", "/v1/articles", r#"{"title":"","abstract":"","body":""}"#, 422),
        (&*author, "POST", "/v1/articles", "{", 400),
        (&nobody, "POST", "/v1/auth/login", &login, 401),
        (&nobody, "POST", "/v1/auth/login", &login, 429),
    ] {
        let answer = from(caller, method, path, body).expect(status);
        assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE), "{answer}");
        assert_eq!(answer.header("access-control-allow-credentials"), None, "{answer}");
        let mut expected: Vec<String> = EXPOSED.iter().map(ToString::to_string).collect();
        expected.sort_unstable();
        assert_eq!(list(&answer, "access-control-expose-headers"), expected, "{answer}");
        assert!(list(&answer, "vary").contains(&"origin".to_owned()), "{answer}");
    }
    let text = author.request("POST", "/v1/articles").header("Origin", PAGE).body("text/plain", "x").send().expect(415);
    assert_eq!(text.header("access-control-allow-origin"), Some(PAGE));
    let local = nobody.request("GET", "/healthz").header("Origin", "http://localhost:5173").send().expect(200);
    assert_eq!(local.header("access-control-allow-origin"), Some("http://localhost:5173"));
}

fn other_origins_get_no_leave(setup: Setup) {
    let office = setup.with("CORS_ORIGINS", PAGE).open();
    let nobody = office.anonymous();
    for origin in [
        "https://evil.example.org",
        "http://desk.example.org",
        "https://desk.example.org:8443",
        "https://desk.example.org.evil.org",
        "https://xdesk.example.org",
        "null",
    ] {
        let answer = office.anonymous().request("GET", "/v1/me").header("Origin", origin).send().problem(401, "credentials_missing");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{origin}: {answer}");
        let preflight = nobody.request("OPTIONS", "/v1/me").header("Origin", origin);
        let preflight = preflight.header("Access-Control-Request-Method", "GET").send();
        assert_eq!(preflight.header("access-control-allow-origin"), None, "{origin}: {preflight}");
    }
    let without = office.anonymous().get("/v1/me").problem(401, "credentials_missing");
    assert_eq!(without.header("access-control-allow-origin"), None);
}

fn a_preflight_needs_no_token(setup: Setup) {
    let office = setup.with("CORS_ORIGINS", PAGE).open();
    let nobody = office.anonymous();
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        for path in ["/v1/articles/x", "/v1/me", "/v1/auth/login"] {
            let request = nobody.request("OPTIONS", path).header("Origin", PAGE);
            let request = request.header("Access-Control-Request-Method", method);
            let answer = request.header("Access-Control-Request-Headers", "authorization, content-type, if-match, x-request-id").send();
            assert!([200, 204].contains(&answer.status), "{answer}");
            assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE), "{answer}");
            assert_eq!(list(&answer, "access-control-allow-methods"), ["delete", "get", "patch", "post", "put"], "{answer}");
            let headers = ["authorization", "content-type", "if-match", "x-request-id"];
            assert_eq!(list(&answer, "access-control-allow-headers"), headers, "{answer}");
        }
    }
    let request = nobody.request("OPTIONS", "/v1/me").header("Origin", PAGE);
    let refused = request.header("Access-Control-Request-Method", "GET").header("Access-Control-Request-Headers", "x-custom").send();
    assert!(!list(&refused, "access-control-allow-headers").contains(&"x-custom".to_owned()), "{refused}");
}

fn a_request_keeps_its_id_if_it_is_sane(office: &Office) {
    let nobody = office.anonymous();
    let given = |id: &str| nobody.request("GET", "/v1/me").header("X-Request-Id", id).send().problem(401, "credentials_missing");
    for id in ["a", "req-1_2.3:4", &"x".repeat(128)] {
        assert_eq!(given(id).header("x-request-id"), Some(id));
    }
    for id in ["", "a b", "a\"b", "é", "<script>", &"x".repeat(129), "a,b", "a/b"] {
        let answer = given(id);
        let made = answer.header("x-request-id").unwrap();
        assert!(made != id && made.len() == 36, "{id:?} became {made}");
    }
    assert_ne!(nobody.get("/healthz").header("x-request-id"), nobody.get("/healthz").header("x-request-id"));
}

fn every_answer_carries_the_security_headers(office: &Office) {
    let author = office.author();
    for answer in [
        author.get("/v1/me"),
        author.get("/v1/users"),
        office.anonymous().get("/nothing"),
        office.anonymous().get("/healthz"),
        office.anonymous().get("/openapi.json"),
        author.put("/v1/me", json!({})),
    ] {
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{answer}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{answer}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{answer}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{answer}");
        assert_eq!(answer.header("server"), None, "{answer}");
    }
}

fn an_answer_is_never_kept_nor_taken_for_unchanged(office: &Office) {
    let author = office.author();
    let path = draft(&author);
    for tag in ["\"1\"", "*", "W/\"1\""] {
        let answer = author.request("GET", &path).header("If-None-Match", tag).send().expect(200);
        assert_eq!((answer.header("cache-control"), answer.header("etag")), (Some("no-store"), Some("\"1\"")));
    }
    author.request("GET", &path).header("If-Modified-Since", "Sun, 01 Jan 2090 00:00:00 GMT").send().expect(200);
    for path in ["/v1/nothing", "/v1/me"] {
        assert_eq!(office.anonymous().get(path).header("cache-control"), Some("no-store"), "{path}");
    }
}

fn an_answer_to_an_impersonation_names_both(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    for answer in
        [acting.get("/v1/me"), acting.get("/v1/users"), acting.get("/v1/articles/nothing"), acting.post("/v1/articles", json!([]))]
    {
        let named = (answer.header("actas-subject"), answer.header("actas-actor"));
        assert_eq!(named, (Some(editor.id.as_str()), Some(admin.id.as_str())), "{answer}");
    }
    for answer in [admin.get("/v1/me"), office.anonymous().get("/v1/me"), office.anonymous().get("/healthz")] {
        assert_eq!((answer.header("actas-subject"), answer.header("actas-actor")), (None, None), "{answer}");
    }
}

fn a_wrong_method_is_told_the_right_ones(office: &Office) {
    let author = office.author();
    for (method, path, allow) in [
        ("PUT", "/v1/articles", &["get", "head", "post"][..]),
        ("POST", "/v1/articles/x", &["delete", "get", "head", "patch"]),
        ("GET", "/v1/auth/login", &["post"]),
        ("DELETE", "/v1/me", &["get", "head"]),
        ("PATCH", "/healthz", &["get", "head"]),
        ("BREW", "/v1/history", &["get", "head"]),
    ] {
        for caller in [&*author, &office.anonymous()] {
            let answer = caller.request(method, path).send().problem(405, "method_not_allowed");
            let mut named = list(&answer, "allow");
            named.retain(|method| method != "options" && (allow.contains(&"head") || method != "head"));
            let expected: Vec<_> = allow.iter().filter(|method| **method != "head" || named.contains(&"head".to_owned())).collect();
            assert_eq!(named.iter().collect::<Vec<_>>(), expected, "{answer}");
        }
    }
    let head = author.request("HEAD", "/v1/me").send();
    assert!([200, 405].contains(&head.status) && head.text.is_empty(), "{head}");
}

fn a_wrong_address_is_not_found(office: &Office) {
    let author = office.author();
    for path in
        ["/", "/v1", "/v1/", "/v1/me/", "//v1/me", "/v1//me", "/v1/ME", "/v2/me", "/v1/me/../me/x", "/v1/me%2F", "/metrics/", "/.env"]
    {
        author.get(path).problem(404, "not_found");
    }
}

fn a_body_too_large_by_its_own_word_is_refused_unread(setup: Setup) {
    let office = setup.with("MAX_BODY_BYTES", 2048).open();
    let author = office.author();
    // The body never comes, so that whoever answers has not waited for it.
    for (path, authorization) in [
        ("/v1/articles", format!("Authorization: Bearer {}\r\n", author.access_token)),
        ("/v1/articles", String::new()),
        ("/v1/nothing", String::new()),
        ("/v1/auth/login", String::new()),
    ] {
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\n{authorization}Content-Type: application/json\r\nContent-Length: 2049\r\n\r\n");
        let answer = office.raw(head);
        assert_eq!(answer.status(), 413, "{path}: {answer:?}");
        assert!(answer.body.contains("payload_too_large"), "{answer:?}");
    }
    // Undeclared, it is cut off where it grows too large.
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    let head = format!(
        "POST /v1/articles HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        author.access_token
    );
    assert_eq!(office.raw(head + &chunk + &chunk + &chunk).status(), 413);
    let fits = json!({ "title": "a", "abstract": "", "body": "x".repeat(1900) });
    author.post("/v1/articles", fits).expect(201);
}

fn a_body_of_another_kind_is_refused(office: &Office) {
    let author = office.author();
    let body = r#"{"title":"a","abstract":"","body":""}"#;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/xml", "application/json; charset=utf-16"] {
        author.request("POST", "/v1/articles").body(kind, body).send().problem(415, "unsupported_media_type");
    }
    let compressed = author.request("POST", "/v1/articles").body("application/json", body).header("Content-Encoding", "gzip").send();
    compressed.problem(415, "unsupported_media_type");
    author.request("POST", "/v1/articles").body("application/json; charset=UTF-8", body).send().expect(201);
    let latin =
        author.request("POST", "/v1/articles").body("application/json", b"{\"title\":\"\xe9\",\"abstract\":\"\",\"body\":\"\"}".to_vec());
    latin.send().problem(400, "malformed_request");
}

fn a_call_without_a_body_takes_any_content_type(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let path = draft(&author);
    author.request("DELETE", &path).header("Content-Type", "text/plain").send().expect(204);
    let token = format!("/v1/users/{}/setup-token", author.id);
    admin.request("POST", &token).header("Content-Type", "application/x-www-form-urlencoded").send().expect(201);
    admin.request("POST", "/v1/auth/logout").header("Content-Type", "text/plain").send().expect(204);
}

fn a_token_is_read_from_its_header_only(office: &Office) {
    let author = office.author();
    let nobody = office.anonymous();
    let token = &author.access_token;
    nobody.get(&format!("/v1/me?access_token={token}")).problem(401, "credentials_missing");
    nobody.request("GET", "/v1/me").header("Cookie", &format!("access_token={token}")).send().problem(401, "credentials_missing");
    nobody.request("GET", "/v1/me").header("X-Access-Token", token).send().problem(401, "credentials_missing");
    let plain =
        nobody.request("GET", "/v1/me").header("Authorization", &format!("Basic {token}")).send().problem(401, "credentials_missing");
    assert_eq!(plain.header("www-authenticate"), Some("Bearer"));
    let twice = author.request("GET", "/v1/me").header("Authorization", &format!("Bearer {token}")).send().problem(401, "invalid_token");
    assert!(twice.header("www-authenticate").unwrap().contains("error=\"invalid_token\""), "{twice}");
    nobody.request("GET", "/v1/me").header("Authorization", &format!("bearer {token}")).send().expect(200);
}

fn the_document_and_its_page_are_served(office: &Office) {
    let document = office.anonymous().get("/openapi.json").expect(200);
    assert_eq!(document.header("content-type"), Some("application/json"));
    assert!(document.str("openapi").starts_with("3.1"));
    let page = office.anonymous().get("/docs/").expect(200);
    assert!(page.text.contains("swagger"), "{page}");
    assert!(!page.text.contains("https://"), "nothing comes from elsewhere: {page}");
}

fn odd_requests_get_an_answer_and_do_no_harm(office: &Office) {
    let author = office.author();
    for request in [
        "GET /v1/me HTTP/1.1\r\n\r\n",
        "GET /v1/me HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET\r\n\r\n",
        "\r\n\r\n\r\n",
        "GET /%ZZ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /v1/articles?q=%FF HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        "POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /v1/me HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n",
        "GET /v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \u{1}\r\n\r\n",
    ] {
        let mut stream = office.connect();
        stream.write_all(request.as_bytes()).unwrap();
        // Whoever sends half a request closes its own half.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = RawAnswer::read(&mut stream);
        assert!(answer.status() < 500, "{request:?}: {answer:?}");
    }
    let many = format!("GET /v1/me HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Filler: y\r\n".repeat(300));
    assert!(office.raw(many).status() < 500);
    let two = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut stream = office.connect();
    stream.write_all(two.as_bytes()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "two in a pipe: {answers}");
    author.get("/v1/me").expect(200);
}

fn a_slow_head_or_body_is_given_up(setup: Setup) {
    let office = setup.with("HEADER_TIMEOUT_SECONDS", 1).with("BODY_TIMEOUT_SECONDS", 1).open();
    let mut head = office.connect();
    head.write_all(b"GET /v1/me HTTP/1.1\r\nHost:").unwrap();
    let mut body = office.connect();
    body.write_all(b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{").unwrap();
    // The reads end when the server gives up, and fail the test if it never does.
    let answer = RawAnswer::read(&mut head);
    assert!([0, 408].contains(&answer.status()), "{answer:?}");
    let answer = RawAnswer::read(&mut body);
    assert_eq!(answer.status(), 408, "{answer:?}");
    assert!(answer.body.contains("request_timeout"), "{answer:?}");
    office.anonymous().get("/healthz").expect(200);
}

fn stopping_finishes_the_request_in_flight(office: &Office) {
    let author = office.author();
    let mut stream = office.connect();
    let body = r#"{"title":"In flight","abstract":"","body":""}"#;
    let head = format!(
        "POST /v1/articles HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        author.access_token,
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // The server asks for the body, so the request is in its hands.
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).unwrap();
    assert!(asked.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&asked));
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| office.stop());
        stream.write_all(body.as_bytes()).unwrap();
        let answer = RawAnswer::read(&mut stream);
        assert_eq!(answer.status(), 201, "{answer:?}");
        stopping.join().unwrap();
    });
    assert_eq!(office.db_count("SELECT count(*) FROM articles WHERE title = 'In flight'"), 1);
}

/// Ends every connection to this test's database but the one that asks.
const TERMINATE: &str =
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";

fn terminated_connections_are_replaced(office: &Office) {
    let author = office.author();
    let path = draft(&author);
    for _ in 0..3 {
        office.db_execute(TERMINATE).unwrap();
        author.get(&path).expect(200);
        office.db_execute(TERMINATE).unwrap();
        author.patch(&path, json!({ "abstract": "still here" })).expect(200);
    }
    // Under load, what was in flight may be lost, and says so; nothing else.
    let statuses: Vec<Vec<u16>> = at_once(4, |number| {
        if number == 0 {
            (0..10).for_each(|_| drop(office.db_execute(TERMINATE)));
            return Vec::new();
        }
        let change = |round: usize| author.patch(&path, json!({ "title": format!("{number}.{round}") }));
        (0..20).map(|round| change(round).status).collect()
    });
    let statuses = statuses.concat();
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    author.get(&path).expect(200);
    let id = path.rsplit('/').next().unwrap();
    let version = office.db_count(&format!("SELECT version FROM articles WHERE id = '{id}'"));
    let entries = office.db_count(&format!("SELECT count(*) FROM entries WHERE resource_id = '{id}'"));
    assert_eq!(version, entries, "no change without its entry, and no entry without its change");
    let acknowledged = i64::try_from(statuses.iter().filter(|status| **status == 200).count()).unwrap();
    assert!(version > acknowledged, "nothing that was acknowledged is missing: {version} of {acknowledged}");
}

fn an_unreachable_database_is_told_of_in_time(setup: Setup) {
    let office = setup.with("DATABASE_TIMEOUT_SECONDS", 1).open();
    let author = office.author();
    office.db_close();
    let started = Instant::now();
    for (answer, codes) in [
        (author.get("/v1/me"), ["database_unavailable", "overloaded"]),
        (author.post("/v1/articles", json!({ "title": "a", "abstract": "", "body": "" })), ["database_unavailable", "overloaded"]),
        (office.anonymous().get("/readyz"), ["database_unavailable", "overloaded"]),
    ] {
        let code = answer.str("code").to_owned();
        assert!(codes.contains(&code.as_str()), "{answer}");
        answer.problem(503, &code);
    }
    assert!(started.elapsed() < Duration::from_secs(50), "bounded, far below a client's patience");
    office.anonymous().get("/healthz").expect(200);
    assert!(office.anonymous().get("/metrics").expect(200).text.contains("actas_db_connections"));
}
