//! The examples of services that accept the tokens, each run beside a served Actas.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{ApiTest, Forger, IntoApiTest as _, Setup, actas, claims_of, header_of};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ADA: &str = "01990000-0000-7000-8000-00000000000a";
const ED: &str = "01990000-0000-7000-8000-00000000000c";

/// The tests of this file. What a service needs that is not Rust's may be missing on a machine at home.
pub fn all() -> Vec<ApiTest> {
    let test = |name, language: Language| {
        let test = (move |_: Setup| a_service_accepts_whom_it_must_and_refuses_the_rest(language)).into_api_test(name, &["sqlite"]);
        test.lacking(language.lacks())
    };
    vec![
        test("the_service_in_rust_accepts_whom_it_must_and_refuses_the_rest", Language::Rust),
        test("the_service_in_node_accepts_whom_it_must_and_refuses_the_rest", Language::Node),
        test("the_service_in_python_accepts_whom_it_must_and_refuses_the_rest", Language::Python),
        the_snippets_of_the_documentation_are_the_services_own
            .into_api_test("the_snippets_of_the_documentation_are_the_services_own", &["sqlite"]),
    ]
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[derive(Clone, Copy)]
enum Language {
    Rust,
    Node,
    Python,
}

impl Language {
    fn directory() -> PathBuf {
        repository().join("examples/accept-tokens")
    }

    /// Beside the program: cargo builds the examples for `cargo test`.
    fn rust() -> PathBuf {
        Path::new(env!("CARGO_BIN_EXE_actas")).with_file_name("examples").join("accept_tokens")
    }

    fn python() -> PathBuf {
        Self::directory().join(".venv/bin/python")
    }

    /// What has to be done before the service can run here.
    fn lacks(self) -> Option<&'static str> {
        let (needed, hint) = match self {
            Self::Rust => (Self::rust(), "cargo build --examples"),
            Self::Node => (Self::directory().join("node_modules/jose/package.json"), "npm install --prefix examples/accept-tokens"),
            Self::Python => (Self::python(), "python3 -m venv examples/accept-tokens/.venv, and its pip install -r requirements.txt"),
        };
        (!needed.exists()).then_some(hint)
    }

    fn command(self) -> Command {
        match self {
            Self::Rust => Command::new(Self::rust()),
            Self::Node => {
                let mut command = Command::new("node");
                command.arg("service.mjs");
                command
            }
            Self::Python => {
                let mut command = Command::new(Self::python());
                command.arg("service.py");
                command
            }
        }
    }
}

/// A process that ends with the test.
struct Running(Child);

impl Running {
    /// Starts it, and answers the first line that it prints.
    fn start(command: &mut Command) -> (Self, String) {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let running = Self(child);
        let mut lines = stdout.lines();
        let line = lines.next().expect("it printed nothing").unwrap();
        // Read to its end, so that it never blocks.
        std::thread::spawn(move || lines.for_each(drop));
        (running, line)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into()
}

/// The demo, which has a service registered.
struct Demo {
    _running: Running,
    directory: TempDir,
    url: String,
    client: Value,
}

impl Demo {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let mut command = actas(&["demo", "--bind", "127.0.0.1:0", "--json"]);
        let (running, ready) = Running::start(command.env("TMPDIR", directory.path()).stderr(Stdio::null()));
        let ready: Value = serde_json::from_str(&ready).unwrap();
        let url = ready["base_url"].as_str().unwrap().to_owned();
        Self { _running: running, directory, url, client: ready["clients"][0].clone() }
    }

    fn post(&self, path: &str, token: Option<&str>, body: &Value) -> Value {
        let request = agent().post(format!("{}{path}", self.url));
        let request = token.into_iter().fold(request, |request, token| request.header("Authorization", format!("Bearer {token}")));
        let mut answer = request.send_json(body).unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.body_mut().read_to_string().unwrap());
        answer.body_mut().read_json().unwrap_or(Value::Null)
    }

    fn ask_token(&self, parameters: &[(&str, &str)]) -> String {
        let mut answer = agent().post(format!("{}/oauth/token", self.url)).send_form(parameters.iter().copied()).unwrap();
        let body: Value = answer.body_mut().read_json().unwrap();
        body["access_token"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
    }

    /// A login's own token.
    fn log_in(&self, name: &str) -> String {
        let body = json!({ "email": format!("{name}@newsroom.example"), "password": format!("{name}-in-the-demo") });
        self.post("/v1/auth/login", None, &body)["access_token"].as_str().unwrap().to_owned()
    }

    fn impersonate(&self, admin: &str, mode: &str) -> String {
        let body = json!({ "reason": "the examples", "mode": mode });
        self.post(&format!("/v1/users/{ED}/impersonate"), Some(admin), &body)["access_token"].as_str().unwrap().to_owned()
    }

    /// A token for the service.
    fn for_service(&self, token: &str) -> String {
        self.ask_token(&[
            ("grant_type", EXCHANGE),
            ("client_id", "actas"),
            ("subject_token", token),
            ("subject_token_type", ACCESS_TOKEN),
            ("audience", self.client("audience")),
        ])
    }

    fn client(&self, member: &str) -> &str {
        self.client[member].as_str().unwrap()
    }

    /// Lets the demo sign with a key that is known here too.
    fn share_key(&self) -> Forger {
        let pkcs8 = Ed25519KeyPair::generate().unwrap().to_pkcs8().unwrap();
        let pem = self.directory.path().join("key.pem");
        let text = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(pkcs8.as_ref()));
        std::fs::write(&pem, text).unwrap();
        let is_demo = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("actas-demo-");
        let database = std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path()).find(is_demo).unwrap();
        let url = format!("sqlite://{}", database.join("actas.db").display());
        let imported = actas(&["keys", "import", pem.to_str().unwrap(), "--database-url", &url]).output().unwrap();
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        Forger::with_key(EncodingKey::from_ed_der(pkcs8.as_ref()))
    }
}

/// The service, running.
struct Service {
    _running: Running,
    url: String,
}

impl Service {
    fn start(language: Language, demo: &Demo) -> Self {
        let mut command = language.command();
        command.current_dir(Language::directory()).env("ACTAS_ISSUER", &demo.url).env("AUDIENCE", demo.client("audience"));
        command.env("CLIENT_ID", demo.client("id")).env("CLIENT_SECRET", demo.client("client_secret")).env("PORT", "0");
        let (running, line) = Running::start(&mut command);
        let url = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { _running: running, url }
    }

    /// Status, challenge and body.
    fn call(&self, method: &str, path: &str, token: Option<&str>) -> (u16, Option<String>, Value) {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut answer = agent().run(request.body(()).unwrap()).unwrap();
        let challenge = answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), challenge, answer.body_mut().read_json().unwrap())
    }

    fn who_am_i(&self, token: &str) -> (u16, Value) {
        let (status, _, body) = self.call("GET", "/whoami", Some(token));
        (status, body)
    }

    #[track_caller]
    fn refuses(&self, what: &str, token: &str) {
        let (status, challenge, body) = self.call("GET", "/whoami", Some(token));
        assert_eq!((status, challenge.as_deref()), (401, Some(r#"Bearer error="invalid_token""#)), "{what}: {body}");
    }
}

fn a_service_accepts_whom_it_must_and_refuses_the_rest(language: Language) {
    let demo = Demo::start();
    let forger = demo.share_key();
    let service = Service::start(language, &demo);
    let ada = demo.log_in("ada");
    let own = demo.for_service(&ada);
    assert_eq!(service.who_am_i(&own), (200, json!({ "subject": ADA, "actor": null })));
    let (acting, looking) = (demo.impersonate(&ada, "full"), demo.impersonate(&ada, "read_only"));
    let (acting_there, looking_there) = (demo.for_service(&acting), demo.for_service(&looking));
    let both = json!({ "subject": ED, "actor": ADA });
    assert_eq!(service.who_am_i(&acting_there), (200, both.clone()));

    // What each may do.
    let order = |token: &str| service.call("POST", "/orders", Some(token));
    assert_eq!(order(&acting_there), (200, None, json!({ "ordered_by": ED, "acting": ADA })));
    assert_eq!(order(&looking_there).0, 403, "read-only");
    let change = |token: &str| service.call("PUT", "/payment-details", Some(token)).0;
    assert_eq!((change(&own), change(&acting_there)), (200, 403), "the user in person, and nobody who acts as the user");

    // Ended: a signature can't tell, and Actas can.
    demo.post("/v1/auth/logout", Some(&acting), &json!({}));
    assert_eq!(service.who_am_i(&acting_there), (200, both));
    let (status, challenge, _) = order(&acting_there);
    assert_eq!((status, challenge.as_deref()), (401, Some(r#"Bearer error="invalid_token""#)));

    // A service's own token is no user's.
    let itself = demo.ask_token(&[
        ("grant_type", "client_credentials"),
        ("client_id", demo.client("id")),
        ("client_secret", demo.client("client_secret")),
        ("audience", demo.client("audience")),
    ]);
    assert_eq!(service.who_am_i(&itself).0, 403);

    // Somebody else's, and none.
    assert_eq!(service.call("GET", "/whoami", None).1.as_deref(), Some("Bearer"));
    service.refuses("a token for Actas", &ada);
    service.refuses("garbage", "x.y.z");
    service.refuses("a changed signature", &format!("{}AAAA", &own[..own.len() - 4]));

    // Signed with the server's own key, so that nothing but the claim is wrong.
    assert_eq!(service.who_am_i(&forger.with_claims(&own, |_| {})).0, 200, "the forger's key is the server's");
    let claim = |what: &str, name: &str, value: Value| {
        service.refuses(&format!("{name} {what}"), &forger.with_claims(&own, |claims| claims[name] = value));
    };
    claim("of another service", "aud", json!("https://other.example"));
    claim("as others", "aud", json!(["actas", "https://other.example"]));
    claim("of somebody else", "iss", json!("https://evil.example"));
    claim("past", "exp", json!(1));
    claim("as text", "exp", json!("99999999999"));
    claim("in the far future", "nbf", json!(99_999_999_999_i64));
    for act in [
        json!("x"),
        Value::Null,
        json!({}),
        json!([ADA]),
        json!({ "sub": "" }),
        json!({ "sub": 1 }),
        json!({ "sub": ED, "act": { "sub": ADA } }),
    ] {
        claim(&act.to_string(), "act", act.clone());
    }
    for name in ["iss", "sub", "aud", "exp", "client_id"] {
        let without = forger.with_claims(&own, |claims| drop(claims.as_object_mut().unwrap().remove(name)));
        service.refuses(&format!("without {name}"), &without);
    }
    for (name, value) in [("typ", "JWT"), ("typ", "rt+jwt"), ("alg", "HS256"), ("alg", "none"), ("alg", "RS256"), ("kid", "unknown")] {
        service.refuses(&format!("{name} {value}"), &forger.with_header(&own, |header| header[name] = json!(value)));
    }
    let unsigned = forger.sign(&json!({ "alg": "none", "typ": "at+jwt", "kid": header_of(&own)["kid"] }), &claims_of(&own));
    service.refuses("no signature", &unsigned[..=unsigned.rfind('.').unwrap()]);
}

/// Every fenced block that names a file stands in that file, word for word.
fn the_snippets_of_the_documentation_are_the_services_own(_setup: Setup) {
    let text = std::fs::read_to_string(repository().join("docs/accept-tokens.md")).unwrap();
    let blocks: Vec<_> = text.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n')).collect();
    let named: Vec<_> = blocks.iter().filter_map(|(info, body)| info.split_once(' ').map(|(_, file)| (file, body))).collect();
    assert_eq!(named.len(), 3, "one for each language");
    for (file, body) in named {
        let source = std::fs::read_to_string(repository().join(file)).unwrap();
        assert!(source.contains(*body), "{file} has no such lines:\n{body}");
    }
}
