//! The layers together, over real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix_web::{App, HttpRequest, HttpResponse, get, patch, post, web};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Notify, oneshot};
use utoipa::openapi::OpenApi;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::AppExt;

use super::assembly::{Layers, layered};
use super::extract::{Body, Checked, IfMatch, Patch, PathId, Query, TrustedProxies, bearer_token, check_query};
use super::metrics::{Gauges, Metrics};
use super::middleware::Origins;
use super::problem::{ProblemDocument, Result};
use super::request::{Limits, LoggedIdentity, RequestInfo};
use super::server::{self, ServerSettings};
use crate::domain::ids::{ArticleId, UserId};
use crate::domain::text::Title;

const SUBJECT: &str = "019aa0f0-0000-7000-8000-00000000000a";
const ACTOR: &str = "019aa0f0-0000-7000-8000-00000000000b";
const ORIGIN: &str = "https://app.example.org";

/// As a caller's extractor will: whose request it is, and then its parameters.
fn caller(request: &HttpRequest) -> Result<()> {
    bearer_token(request.headers())?;
    let (subject, actor) = (UserId::parse(SUBJECT).unwrap(), UserId::parse(ACTOR));
    RequestInfo::of(request).identify(LoggedIdentity { subject: Some(subject), client: None, actor, impersonation_id: None });
    check_query(request)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewThing {
    title: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ThingPatch {
    #[serde(default)]
    #[schema(value_type = String, required = false)]
    title: Patch<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListThings {
    limit: Option<u32>,
}

#[utoipa::path(security(("bearer" = [])), params(ListThings), responses((status = 200), (status = "4XX", body = ProblemDocument)))]
#[get("/v1/things")]
async fn list_things(request: HttpRequest, query: Query<ListThings>) -> Result<HttpResponse> {
    caller(&request)?;
    Ok(HttpResponse::Ok().json(query.parse()?.limit))
}

#[utoipa::path(security(("bearer" = [])), request_body = NewThing, responses((status = 201)))]
#[post("/v1/things")]
async fn create_thing(request: HttpRequest, body: Body<NewThing>) -> Result<HttpResponse> {
    caller(&request)?;
    let body = body.read().await?;
    let mut checked = Checked::new();
    let title = checked.field("/title", Title::parse(&body.title));
    let title = checked.finish(|| title)?;
    Ok(HttpResponse::Created().json(title))
}

#[utoipa::path(security(("bearer" = [])), params(("id" = String, Path)), request_body = ThingPatch, responses((status = 200)))]
#[patch("/v1/things/{id}")]
async fn update_thing(request: HttpRequest, id: PathId<ArticleId>, expected: IfMatch, body: Body<ThingPatch>) -> Result<HttpResponse> {
    caller(&request)?;
    let id = id.parse()?;
    let expected = expected.expected()?;
    let patch = body.read_merge_patch().await?;
    expected.check(3)?;
    Ok(HttpResponse::Ok().json((id, patch.title.into_option())))
}

#[utoipa::path(responses((status = 200)))]
#[get("/open")]
async fn open() -> HttpResponse {
    HttpResponse::Ok().body("open")
}

#[utoipa::path(request_body = NewThing, responses((status = 200)))]
#[post("/open")]
async fn open_post(body: Body<NewThing>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().body(body.read().await?.title))
}

#[utoipa::path(responses((status = 200)))]
#[get("/panics")]
async fn panics() -> HttpResponse {
    panic!("secret plans");
}

#[utoipa::path(responses((status = 200)))]
#[get("/bare")]
async fn bare() -> HttpResponse {
    HttpResponse::ServiceUnavailable().insert_header(("retry-after", "7")).body("not for you")
}

#[utoipa::path(responses((status = 200)))]
#[get("/never")]
async fn never() -> HttpResponse {
    std::future::pending().await
}

/// What [`waits`] and its test tell each other.
#[derive(Default)]
struct Gate {
    entered: Notify,
    open: Notify,
}

#[utoipa::path(responses((status = 200)))]
#[get("/waits")]
async fn waits(gate: web::Data<Gate>) -> HttpResponse {
    gate.entered.notify_one();
    gate.open.notified().await;
    HttpResponse::Ok().body("done")
}

struct Running {
    address: SocketAddr,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
    document: OpenApi,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

fn serve(limits: Limits) -> Running {
    let (listener, address) = server::listen("127.0.0.1:0").unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let origins = Origins { exact: vec![ORIGIN.to_owned()], any_localhost: false };
    let layers = Layers { limits, origins, proxies: Arc::default(), metrics: Arc::clone(&metrics) };
    let (stop, stopped) = oneshot::channel();
    let gate = web::Data::new(Gate::default());
    let shared = gate.clone();
    let (documents, document) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || serve_until(listener, layers, shared, documents, stopped));
    Running { address, gate: gate.into_inner(), metrics, document: document.recv().unwrap(), stop: Some(stop), thread: Some(thread) }
}

fn serve_until(
    listener: TcpListener,
    layers: Layers,
    gate: web::Data<Gate>,
    documents: std::sync::mpsc::Sender<OpenApi>,
    stopped: oneshot::Receiver<()>,
) -> std::io::Result<()> {
    // actix counts its own limits from a clock that ticks twice a second, so that shorter ones may be over at once.
    let (head_time, keep_alive) = (Duration::from_secs(2), Duration::from_secs(1));
    let settings = ServerSettings { workers: 1, head_time, keep_alive, ..ServerSettings::default() };
    actix_web::rt::System::new().block_on(async move {
        let factory = move || {
            let (app, document) = App::new()
                .app_data(gate.clone())
                .into_utoipa_app()
                .service(list_things)
                .service(create_thing)
                .service(update_thing)
                .service(open)
                .service(open_post)
                .service(panics)
                .service(bare)
                .service(never)
                .service(waits)
                .split_for_parts();
            let app = layered(app, &document, &layers);
            let _ = documents.send(document);
            app
        };
        let server = server::start(listener, settings, factory)?;
        server::run(vec![server], async { drop(stopped.await) }).await
    })
}

impl Running {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends a request of these lines and an end, and reads until the server closes.
    fn send_raw(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(stream)
    }

    fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            request += &format!("content-length: {}\r\n", body.len());
        }
        self.send_raw(&(request + "\r\n" + body))
    }

    fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(mut stream: TcpStream) -> Self {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        Self { status: head[9..12].parse().unwrap(), head: head.to_owned(), body: body.to_owned() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        found.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).last()
    }

    /// The problem document, found to be whole.
    fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        let document: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(document["status"], self.status);
        assert_eq!(document["request_id"].as_str(), self.header("x-request-id"));
        document
    }

    fn code(&self) -> String {
        self.problem()["code"].as_str().unwrap().to_owned()
    }
}

const TOKEN: (&str, &str) = ("authorization", "Bearer a.b.c");
const JSON: (&str, &str) = ("content-type", "application/json");
const FROM_THE_APP: (&str, &str) = ("origin", ORIGIN);

fn tiny() -> Limits {
    Limits { body_bytes: 1000, body_time: Duration::from_millis(300), handling_time: Duration::from_millis(100) }
}

#[test]
fn every_answer_is_for_the_page_that_asked_and_every_error_a_problem() {
    let server = serve(tiny());
    let long = "x".repeat(2000);
    for (method, target, headers, body, status, code) in [
        ("GET", "/open", &[][..], "", 200, ""),
        ("POST", "/v1/things", &[TOKEN, JSON], r#"{"title":"a"}"#, 201, ""),
        ("POST", "/v1/things", &[], r#"{"what":"#, 401, "credentials_missing"),
        ("POST", "/v1/things", &[("authorization", "Bearer")], r#"{"what":"#, 401, "invalid_token"),
        ("POST", "/v1/things", &[TOKEN], r#"{"title":"a"}"#, 415, "unsupported_media_type"),
        ("POST", "/v1/things", &[TOKEN, JSON], r#"{"title":"#, 400, "malformed_request"),
        ("POST", "/v1/things", &[TOKEN, JSON], r#"{"title":"a","x":1}"#, 400, "unknown_field"),
        ("POST", "/v1/things", &[TOKEN, JSON], r#"{"title":""}"#, 422, "invalid_request"),
        ("POST", "/v1/things", &[TOKEN, JSON], &long, 413, "payload_too_large"),
        ("POST", "/nowhere", &[], &long, 413, "payload_too_large"),
        ("GET", "/nowhere", &[], "", 404, "not_found"),
        ("GET", "/v1/things/1", &[], "", 405, "method_not_allowed"),
        ("PATCH", "/v1/things/1", &[TOKEN], "", 404, "not_found"),
        ("GET", "/panics", &[], "", 500, "internal"),
        ("GET", "/never", &[], "", 503, "overloaded"),
        ("GET", "/bare", &[], "", 503, "overloaded"),
    ] {
        let headers = [headers, &[FROM_THE_APP, ("x-request-id", "mine-1")]].concat();
        let answer = server.send(method, target, &headers, body);
        assert_eq!(answer.status, status, "{method} {target} {body}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN), "{answer:?}");
        assert!(answer.header("access-control-expose-headers").unwrap().contains("actas-subject"));
        assert_eq!(answer.header("x-request-id"), Some("mine-1"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        if status >= 400 {
            let problem = answer.problem();
            assert_eq!((problem["code"].as_str(), problem["instance"].as_str()), (Some(code), Some(target)));
            assert!(!answer.body.contains("secret plans"));
        }
    }
}

#[test]
fn a_preflight_needs_no_token_and_other_origins_get_no_leave() {
    let server = serve(tiny());
    let ask = ("access-control-request-method", "PATCH");
    let with = ("access-control-request-headers", "authorization,content-type,if-match,x-request-id");
    let answer = server.send("OPTIONS", "/v1/things/1", &[FROM_THE_APP, ask, with], "");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN));
    assert!(answer.header("access-control-allow-methods").unwrap().contains("PATCH"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    assert!(answer.header("x-request-id").is_some());

    let stranger = ("origin", "https://app.example.org.evil.org");
    let answer = server.send("GET", "/open", &[stranger], "");
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None));
    let answer = server.send("OPTIONS", "/v1/things/1", &[stranger, ask], "");
    assert_eq!((answer.code().as_str(), answer.header("access-control-allow-origin")), ("malformed_request", None));
}

#[test]
fn a_known_address_names_its_methods() {
    let server = serve(tiny());
    for method in ["DELETE", "OPTIONS", "BREW"] {
        let answer = server.send(method, "/v1/things", &[], "");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, POST")), "{method}");
    }
    assert_eq!(server.send("OPTIONS", "/v1", &[], "").status, 404);
}

#[test]
fn head_is_answered_as_get_is_without_the_body() {
    let server = serve(tiny());
    let (get, head) = (server.send("GET", "/open", &[], ""), server.send("HEAD", "/open", &[], ""));
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), get.header("content-length"));
    let refused = server.send("HEAD", "/v1/things", &[], "");
    assert_eq!((refused.status, refused.body.as_str()), (401, ""));
}

#[test]
fn a_body_too_large_by_its_own_word_is_refused_before_it_is_sent() {
    let server = serve(Limits::default());
    let answer = server.send_raw("POST /v1/things HTTP/1.1\r\nhost: x\r\ncontent-length: 1048577\r\n\r\n");
    assert_eq!(answer.code(), "payload_too_large");
    let chunk = "x".repeat(1024 * 1024);
    let head = "POST /open HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = server.send_raw(&format!("{head}100000\r\n{chunk}\r\n1\r\nx\r\n"));
    assert_eq!(answer.code(), "payload_too_large");
}

#[test]
fn a_body_may_take_longer_than_handling_but_not_forever() {
    let server = serve(tiny());
    let started = Instant::now();
    let answer =
        server.send_raw("POST /open HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n{\"title\"");
    assert_eq!(answer.code(), "request_timeout");
    assert!(started.elapsed() >= tiny().body_time);
}

#[test]
fn a_client_that_is_refused_and_stalls_loses_its_connection() {
    let server = serve(tiny());
    let stalled = "host: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{";
    assert_eq!(server.send_raw(&format!("POST /v1/things HTTP/1.1\r\n{stalled}")).code(), "credentials_missing");
    assert_eq!(server.send_raw(&format!("POST /open HTTP/1.1\r\n{stalled}")).code(), "request_timeout");
    assert_eq!(server.send_raw(&format!("GET /open HTTP/1.1\r\n{stalled}")).status, 200);
    assert_eq!(server.send_raw(&format!("GET /never HTTP/1.1\r\n{stalled}")).code(), "overloaded");
}

#[test]
fn a_head_that_never_ends_is_given_up() {
    let server = serve(tiny());
    assert_eq!(server.send_raw("GET /open HTTP/1.1\r\nhost: x\r\n").status, 408);
    let second = server.send_raw("GET /open HTTP/1.1\r\nhost: x\r\n\r\nGET /open HTTP/1.1\r\nhost: x\r\n");
    assert_eq!((second.status, second.body.as_str()), (200, "open"));
}

#[test]
fn parameters_that_nobody_reads_are_refused_once_the_caller_is_known() {
    let server = serve(tiny());
    assert_eq!(server.send("GET", "/open?x=1", &[], "").code(), "unknown_parameter");
    assert_eq!(server.send("GET", "/open?", &[], "").status, 200);
    assert_eq!(server.send("POST", "/v1/things?x=1", &[JSON], "{}").code(), "credentials_missing");
    let answer = server.send("POST", "/v1/things?x=1", &[TOKEN, JSON], "{}");
    assert_eq!((answer.code().as_str(), answer.problem()["errors"][0]["pointer"].as_str()), ("unknown_parameter", Some("x")));
    assert_eq!(answer.problem()["instance"], "/v1/things");
    assert_eq!(server.send("GET", "/v1/things?limit=3", &[TOKEN], "").body, "3");
    assert_eq!(server.send("GET", "/v1/things?limit=x", &[TOKEN], "").code(), "invalid_request");
}

#[test]
fn answers_under_impersonation_name_both_refusals_too() {
    let server = serve(tiny());
    for target in ["/v1/things", "/v1/things?limit=x"] {
        let answer = server.send("GET", target, &[TOKEN], "");
        assert_eq!((answer.header("actas-subject"), answer.header("actas-actor")), (Some(SUBJECT), Some(ACTOR)), "{target}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!(server.send("GET", "/open", &[TOKEN], "").header("actas-subject"), None);
}

#[test]
fn a_merge_patch_has_two_types_and_a_precondition() {
    let server = serve(tiny());
    let target = format!("/v1/things/{SUBJECT}");
    let merge = ("content-type", "application/merge-patch+json");
    let answer = server.send("PATCH", &target, &[TOKEN, merge, ("if-match", "\"3\"")], r#"{"title":"a"}"#);
    assert_eq!((answer.status, answer.body.as_str()), (200, format!(r#"["{SUBJECT}","a"]"#).as_str()));
    assert_eq!(server.send("PATCH", &target, &[TOKEN, JSON, ("if-match", "\"2\"")], "{}").code(), "version_mismatch");
    assert_eq!(server.send("PATCH", &target, &[TOKEN, JSON, ("if-match", "2")], "{}").code(), "malformed_request");
    let answer = server.send("PATCH", &target, &[TOKEN, ("content-type", "text/plain")], "{}");
    assert_eq!(answer.header("accept-patch"), Some("application/merge-patch+json, application/json"));
    assert_eq!(server.send("PATCH", &target, &[TOKEN, JSON], r#"{"title":null}"#).code(), "invalid_request");
}

#[test]
fn an_insane_request_id_is_replaced() {
    let server = serve(tiny());
    for given in ["a b", "", &"x".repeat(129), "a\"b"] {
        let answer = server.send("GET", "/open", &[("x-request-id", given)], "");
        let id = answer.header("x-request-id").unwrap();
        assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 7, "{given:?}");
    }
}

#[test]
fn requests_are_counted_by_their_templates() {
    let server = serve(tiny());
    server.send("PATCH", "/v1/things/1", &[], "");
    server.send("GET", "/never", &[], "");
    server.send("GET", "/panics", &[], "");
    server.send("GET", "/wp-login.php", &[], "");
    let text = server.metrics.encode(Gauges::default()).unwrap();
    for labels in [
        r#"{method="PATCH",route="/v1/things/{id}",status="401"}"#,
        r#"{method="GET",route="/never",status="503"}"#,
        r#"{method="GET",route="/panics",status="500"}"#,
        r#"{method="GET",route="unmatched",status="404"}"#,
    ] {
        assert!(text.contains(&format!("actas_http_requests_total{labels} 1\n")), "{labels}\n{text}");
    }
}

#[test]
fn stopping_finishes_the_request_in_flight_and_waits_for_nobody_idle() {
    let mut server = serve(Limits::default());
    let idle = {
        let mut stream = server.connect();
        stream.write_all(b"GET /open HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        stream
    };
    let mut stream = server.connect();
    stream.write_all(b"GET /waits HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let gate = Arc::clone(&server.gate);
    actix_web::rt::System::new().block_on(gate.entered.notified());
    let started = Instant::now();
    drop(server.stop.take());
    gate.open.notify_one();
    let answer = Answer::read(stream);
    assert_eq!((answer.status, answer.body.as_str()), (200, "done"));
    server.stop();
    assert!(started.elapsed() < Duration::from_secs(10));
    drop(idle);
}

#[test]
fn the_document_has_what_the_layers_ask_of_it() {
    let server = serve(tiny());
    let document = serde_json::to_value(&server.document).unwrap();
    let things = &document["paths"]["/v1/things"];
    assert_eq!(things["get"]["parameters"][0]["name"], "limit", "{things:#}");
    assert!(things["post"]["security"].is_array(), "{things:#}");
    let patch = &document["components"]["schemas"]["ThingPatch"];
    assert_eq!((patch["properties"]["title"]["type"].as_str(), patch["required"].as_array()), (Some("string"), None), "{patch:#}");
}

/// Where a test's log goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[actix_web::test]
async fn a_line_a_request_tells_who_and_how_and_no_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    // For the whole process: with a subscriber of this thread's own, tracing may have noted already that nobody listens.
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let proxies = Arc::new(TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]));
    let layers = Layers { limits: tiny(), origins: Origins::default(), proxies, metrics: Arc::new(Metrics::new().unwrap()) };
    let (app, document) = App::new().into_utoipa_app().service(update_thing).split_for_parts();
    let app = actix_web::test::init_service(layered(app, &document, &layers)).await;
    let request = actix_web::test::TestRequest::patch()
        .uri("/v1/things/secret-1?q=secret-2")
        .insert_header(("authorization", "Bearer secret-3"))
        .insert_header(("x-forwarded-for", "1.2.3.4"))
        .insert_header(("x-request-id", "logged-1"))
        .peer_addr("10.0.0.1:1".parse().unwrap());
    actix_web::test::call_service(&app, request.to_request()).await;

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("logged-1")).collect();
    let [text] = lines[..] else { panic!("not one line: {lines:#?}") };
    let line: Value = serde_json::from_str(text).unwrap();
    let fields = &line["fields"];
    for (field, value) in [
        ("request_id", "logged-1"),
        ("subject", SUBJECT),
        ("actor", ACTOR),
        ("route", "/v1/things/{id}"),
        ("method", "PATCH"),
        ("client_ip", "1.2.3.4"),
    ] {
        assert_eq!(fields[field], value, "{text}");
    }
    assert_eq!(fields["status"], 400);
    assert!(fields["duration_ms"].is_f64());
    assert!(!text.contains("secret"), "{text}");
}
