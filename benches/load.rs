//! The whole server under load, beside a bare actix-web that answers the same bytes and, on Postgres, beside pgbench with the statements that it takes:
//! `cargo bench --bench load`. Everything runs on this machine in this run, so ratios count and figures don't.
//!
//! Needs `wrk` in the path. Postgres takes part where its programs are found (Debian: `apt-get install wrk postgresql`), in a throw-away server that flushes every
//! commit, as SQLite does. What follows `--` chooses rows by a part of their name. `ACTAS_BIN` names another server to load than the one of this build.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a benchmark that can't go on says so by panicking"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How many people there are, each with a token and an article: as many as clients at most.
const PEOPLE: usize = 32;

/// How long each row is measured, in seconds, after a second of warming up.
const SECONDS: u64 = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [mode, directory] = &arguments[..]
        && mode == "--bare"
    {
        return serve_bare(Path::new(directory));
    }
    let chosen: Vec<String> = arguments.into_iter().filter(|argument| !argument.starts_with("--")).collect();
    if Command::new("wrk").arg("-v").output().is_err() {
        eprintln!("`wrk` is not installed here (Debian: `apt-get install wrk`)");
        std::process::exit(1);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} cores, shared with the load generator; {SECONDS} s a row\n");
    println!("| work | clients | requests/s | p50 ms | p99 ms | beside | its requests/s | ratio |\n|---|---|---|---|---|---|---|---|");
    measure("SQLite", &chosen, None);
    match Postgres::start() {
        Some(postgres) => measure("Postgres", &chosen, Some(&postgres)),
        None => println!("\nPostgres takes no part: its programs were not found."),
    }
}

/// What one row found.
#[derive(Debug, Clone, Copy)]
struct Found {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
}

fn print_row(name: &str, clients: usize, found: Found, beside: Option<(&str, f64)>) {
    let Found { rate, p50_ms, p99_ms } = found;
    let beside = beside.map_or("| |".to_owned(), |(what, other)| format!("{what} | {other:.0} | {:.2}", rate / other));
    println!("| {name} | {clients} | {rate:.0} | {p50_ms:.2} | {p99_ms:.2} | {beside} |");
}

fn measure(backend: &str, chosen: &[String], postgres: Option<&Postgres>) {
    let office = Office::open(postgres);
    let bare = Bare::start(&[("/v1/me", office.get("/v1/me", 0)), (&office.people[0].article, office.get(&office.people[0].article, 0))]);
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|part| name.contains(part.as_str()));
    for (name, is_article) in [("GET /v1/me", false), ("GET /v1/articles/{id}", true)] {
        let name = format!("{name}, {backend}");
        if !is_chosen(&name) {
            continue;
        }
        let path = |person: &Person| if is_article { person.article.clone() } else { "/v1/me".to_owned() };
        for clients in [1, PEOPLE] {
            let calls: Vec<Call> = office.people.iter().map(|person| Call::get(&path(person), &person.token)).collect();
            let found = wrk(&office.url, clients, &calls);
            let bare_path = path(&office.people[0]);
            let beside = wrk(&bare.url, clients, &[Call::get(&bare_path, &office.people[0].token)]);
            print_row(&name, clients, found, Some(("bare actix-web", beside.rate)));
            if let Some(postgres) = postgres {
                let select = if is_article { SELECT_ARTICLE } else { SELECT_SESSION };
                let rate = postgres.pgbench(&office, select, clients);
                print_row(&name, clients, found, Some(("pgbench, its last select", rate)));
            }
        }
    }
    let name = format!("PATCH under impersonation, {backend}");
    if is_chosen(&name) {
        for clients in [1, PEOPLE] {
            let calls: Vec<Call> = (0..office.people.len() * 8).map(|number| office.patch(number)).collect();
            let found = wrk(&office.url, clients, &calls);
            let beside = postgres.map(|postgres| ("pgbench, its transaction", postgres.pgbench(&office, CHANGE_ARTICLE, clients)));
            print_row(&name, clients, found, beside);
        }
    }
    let name = format!("start + logout, {backend}");
    if is_chosen(&name) {
        for clients in [1, PEOPLE] {
            let found = office.round_trips(clients);
            let beside = wrk(&bare.url, clients, &[Call::get("/v1/me", &office.people[0].token)]);
            print_row(&name, clients, found, Some(("bare actix-web", beside.rate)));
        }
    }
}

/// One request, as wrk sends it again and again.
struct Call {
    method: &'static str,
    path: String,
    token: String,
    body: Option<String>,
}

impl Call {
    fn get(path: &str, token: &str) -> Self {
        Self { method: "GET", path: path.to_owned(), token: token.to_owned(), body: None }
    }
}

/// Loads `url` with `calls`, one after the other and then again, over connections that are kept.
fn wrk(url: &str, clients: usize, calls: &[Call]) -> Found {
    let mut script = "local calls = {}\ninit = function()\n".to_owned();
    for call in calls {
        let body = call.body.as_ref().map_or("nil".to_owned(), |body| format!("{body:?}"));
        let content = if call.body.is_some() { "[\"Content-Type\"] = \"application/json\", " } else { "" };
        let headers = format!("{{ {content}Authorization = \"Bearer {}\" }}", call.token);
        writeln!(script, "calls[#calls + 1] = wrk.format({:?}, {:?}, {headers}, {body})", call.method, call.path).unwrap();
    }
    script.push_str(
        "end\nlocal next = 0\nrequest = function() next = next % #calls + 1; return calls[next] end\n\
         done = function(summary, latency)\n\
         local e = summary.errors\n\
         io.write(string.format('FOUND %d %d %d %d %d\\n', summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),\n\
         e.connect + e.read + e.write + e.status + e.timeout))\nend\n",
    );
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(script.as_bytes()).unwrap();
    let run = |seconds: u64| {
        let output = Command::new("wrk")
            .args(["-t1", &format!("-c{clients}"), &format!("-d{seconds}s"), "-s"])
            .arg(file.path())
            .arg(url)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    run(1);
    let told = run(SECONDS);
    let line = told.lines().find_map(|line| line.strip_prefix("FOUND ")).unwrap_or_else(|| panic!("wrk: {told}"));
    let numbers: Vec<f64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
    assert!(numbers[4] < 0.5, "{} of {} requests failed", numbers[4], numbers[0]);
    Found { rate: numbers[0] / (numbers[1] / 1e6), p50_ms: numbers[2] / 1e3, p99_ms: numbers[3] / 1e3 }
}

/// Ends what it started.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A bare actix-web, in a process of its own.
struct Bare {
    url: String,
    _program: Program,
    _directory: TempDir,
}

impl Bare {
    /// Answers each path with these bytes.
    fn start(answers: &[(&str, Vec<u8>)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (path, bytes) in answers {
            fs::write(directory.path().join(path.replace('/', "+")), bytes).unwrap();
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--bare").arg(directory.path());
        let (program, url) = listening(command);
        Self { url, _program: program, _directory: directory }
    }
}

fn serve_bare(directory: &Path) {
    use actix_web::http::header;
    use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
    let mut answers = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        answers.insert(entry.file_name().to_string_lossy().replace('+', "/"), fs::read(entry.path()).unwrap());
    }
    let answers: &'static BTreeMap<String, Vec<u8>> = Box::leak(Box::new(answers));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("listening on http://{}", listener.local_addr().unwrap());
    actix_web::rt::System::new().block_on(async move {
        let answer = move |request: HttpRequest| async move {
            match answers.get(request.path()) {
                Some(bytes) => HttpResponse::Ok().insert_header((header::CONTENT_TYPE, "application/json")).body(&bytes[..]),
                None => HttpResponse::NotFound().finish(),
            }
        };
        HttpServer::new(move || App::new().default_service(web::to(answer))).listen(listener).unwrap().run().await.unwrap();
    });
}

/// Starts a program that says where it listens.
fn listening(mut command: Command) -> (Program, String) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let url = loop {
        let line = lines.next().expect("the server did not start").unwrap();
        if let Some(url) = line.strip_prefix("listening on ") {
            break url.to_owned();
        }
    };
    (Program(child), url)
}

/// Somebody with an article, and an administrator who acts as them.
struct Person {
    id: String,
    token: String,
    article: String,
    acting: String,
}

/// A running server with people.
struct Office {
    url: String,
    agent: ureq::Agent,
    people: Vec<Person>,
    admins: Vec<String>,
    session: String,
    kid: String,
    _program: Program,
    _directory: TempDir,
}

impl Office {
    fn open(postgres: Option<&Postgres>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = match postgres {
            Some(postgres) => postgres.url.clone(),
            None => format!("sqlite://{}", directory.path().join("actas.db").display()),
        };
        let actas = |arguments: &[&str]| {
            let mut command = Command::new(std::env::var_os("ACTAS_BIN").unwrap_or(env!("CARGO_BIN_EXE_actas").into()));
            command.args(arguments).env("ACTAS_DATABASE_URL", &database).env("ACTAS_BCRYPT_COST", "4").env("ACTAS_LOG", "error");
            command.stderr(Stdio::null());
            command
        };
        let create = |email: &str, role: &str| {
            let arguments = ["user", "create", "--email", email, "--name", "Somebody", "--role", role, "--password-stdin"];
            let mut child = actas(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(b"a good password").unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let authors: Vec<(String, String)> = (0..PEOPLE)
            .map(|number| {
                let email = format!("author.{number}@example.org");
                (create(&email, "author"), email)
            })
            .collect();
        create("ada@example.org", "administrator");
        let (program, url) = listening(actas(&["serve", "--bind", "127.0.0.1:0"]));
        let agent: ureq::Agent = ureq::Agent::config_builder().max_idle_connections_per_host(PEOPLE).build().into();
        let mut office = Self {
            url,
            agent,
            people: Vec::new(),
            admins: Vec::new(),
            session: String::new(),
            kid: String::new(),
            _program: program,
            _directory: directory,
        };
        // What somebody does in one session is done one after the other, so everyone is acted as from another.
        office.admins = (0..PEOPLE).map(|_| office.log_in("ada@example.org")).collect();
        for (number, (id, email)) in authors.into_iter().enumerate() {
            let token = office.log_in(&email);
            let made = office.post(
                "/v1/articles",
                &token,
                &json!({ "title": "On tides", "abstract": "Why the sea moves.", "body": "It just does." }),
            );
            let acting = office.post(&format!("/v1/users/{id}/impersonate"), &office.admins[number], &json!({ "reason": "a benchmark" }));
            let article = format!("/v1/articles/{}", made["id"].as_str().unwrap());
            office.people.push(Person { id, token, article, acting: acting["access_token"].as_str().unwrap().to_owned() });
        }
        let claims = office.people[0].token.split('.').nth(1).unwrap();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        office.session = claims["sid"].as_str().unwrap().to_owned();
        let keys: Value = serde_json::from_slice(&office.get("/.well-known/jwks.json", 0)).unwrap();
        office.kid = keys["keys"][0]["kid"].as_str().unwrap().to_owned();
        office
    }

    fn log_in(&self, email: &str) -> String {
        let grant = self.post("/v1/auth/login", "", &json!({ "email": email, "password": "a good password" }));
        grant["access_token"].as_str().unwrap().to_owned()
    }

    fn post(&self, path: &str, token: &str, body: &Value) -> Value {
        let request = self.agent.post(format!("{}{path}", self.url)).header("Authorization", format!("Bearer {token}"));
        request.send_json(body).unwrap().body_mut().read_json().unwrap()
    }

    fn get(&self, path: &str, person: usize) -> Vec<u8> {
        let token = self.people.get(person).map_or("", |person| person.token.as_str());
        let request = self.agent.get(format!("{}{path}", self.url)).header("Authorization", format!("Bearer {token}"));
        request.call().unwrap().body_mut().read_to_vec().unwrap()
    }

    /// The change with this number: another article than the one before, and another title than the last time.
    fn patch(&self, number: usize) -> Call {
        let person = &self.people[number % self.people.len()];
        let body = json!({ "title": format!("On tides {number}") }).to_string();
        Call { method: "PATCH", path: person.article.clone(), token: person.acting.clone(), body: Some(body) }
    }

    /// Starts an impersonation and leaves it again, as often as it goes.
    fn round_trips(&self, clients: usize) -> Found {
        let (is_over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
        let started = Instant::now();
        let mut took: Vec<f64> = std::thread::scope(|scope| {
            let running: Vec<_> = (0..clients)
                .map(|client| {
                    let (is_over, done) = (&is_over, &done);
                    scope.spawn(move || {
                        let path = format!("/v1/users/{}/impersonate", self.people[client].id);
                        let mut took = Vec::new();
                        while !is_over.load(Ordering::Relaxed) {
                            let begun = Instant::now();
                            let acting = self.post(&path, &self.admins[client], &json!({ "reason": "a benchmark" }));
                            let restored = self.post("/v1/auth/logout", acting["access_token"].as_str().unwrap(), &json!({}));
                            assert_eq!(restored["access_token"], json!(self.admins[client]));
                            took.push(begun.elapsed().as_secs_f64() * 1e3);
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        took
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_secs(SECONDS));
            is_over.store(true, Ordering::Relaxed);
            running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let rate = took.len() as f64 / started.elapsed().as_secs_f64();
        took.sort_by(f64::total_cmp);
        let percentile = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)];
        Found { rate, p50_ms: percentile(50), p99_ms: percentile(99) }
    }
}

/// A throw-away Postgres that flushes every commit.
struct Postgres {
    programs: PathBuf,
    url: String,
    port: u16,
    _program: Program,
    _directory: TempDir,
}

impl Postgres {
    fn start() -> Option<Self> {
        let mut versions: Vec<PathBuf> =
            fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|entry| entry.path().join("bin")).collect();
        versions.sort();
        let programs = versions.into_iter().rev().find(|path| path.join("initdb").is_file() && path.join("pgbench").is_file())?;
        let directory = tempfile::tempdir().unwrap();
        // Postgres refuses to run as root.
        let number = |what: &str| -> Option<u32> {
            let output = Command::new("id").args([what, "postgres"]).output().ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse().ok()
        };
        let (uid, gid) = (number("-u")?, number("-g")?);
        let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
        let command = |program: &str| {
            let mut command = Command::new(programs.join(program));
            command.current_dir(directory.path()).stdout(Stdio::null()).stderr(Stdio::null());
            if is_root {
                command.uid(uid).gid(gid);
            }
            command
        };
        if is_root {
            chown(directory.path(), Some(uid), Some(gid)).unwrap();
        }
        let data = directory.path().join("data");
        assert!(command("initdb").arg("-D").arg(&data).args(["-U", "actas", "--auth=trust", "--no-locale"]).status().unwrap().success());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings =
            ["listen_addresses=127.0.0.1", "unix_socket_directories=", "synchronous_commit=on", "fsync=on", "max_connections=200"];
        let mut server = command("postgres");
        server.arg("-D").arg(&data).args(["-p", &port.to_string()]);
        for setting in settings {
            server.args(["-c", setting]);
        }
        let program = Program(server.spawn().unwrap());
        let ready = || Command::new(programs.join("pg_isready")).args(["-h", "127.0.0.1", "-p", &port.to_string()]).output().unwrap();
        let patience = Instant::now();
        while !ready().status.success() {
            assert!(patience.elapsed() < Duration::from_secs(30), "Postgres did not start");
            std::thread::sleep(Duration::from_millis(100));
        }
        let url = format!("postgres://actas@127.0.0.1:{port}/postgres");
        Some(Self { programs, url, port, _program: program, _directory: directory })
    }

    /// How many times a second pgbench runs these statements.
    fn pgbench(&self, office: &Office, statements: &str, clients: usize) -> f64 {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let article = office.people[0].article.rsplit('/').next().unwrap();
        let statements = statements.replace("{session}", &office.session).replace("{kid}", &office.kid).replace("{article}", article);
        file.write_all(statements.as_bytes()).unwrap();
        let run = |arguments: &[&str]| {
            let output = Command::new(self.programs.join("pgbench"))
                .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "actas", "-n", "-M", "prepared"])
                .args(["-c", &clients.to_string(), "-j", "1", "-T", &SECONDS.to_string(), "-f"])
                .arg(file.path())
                .args(arguments)
                .arg("postgres")
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
        };
        if statements.contains(":client_id") {
            let setup = Command::new(self.programs.join("psql"))
                .args([&self.url, "-q", "-v", "ON_ERROR_STOP=1", "-c", ARTICLES_FOR_PGBENCH])
                .output();
            let setup = setup.unwrap();
            assert!(setup.status.success(), "{}", String::from_utf8_lossy(&setup.stderr));
        }
        let told = run(&[]);
        let rate = told.lines().find_map(|line| line.strip_prefix("tps = ")).and_then(|rest| rest.split(' ').next()?.parse().ok());
        rate.unwrap_or_else(|| panic!("pgbench: {told}"))
    }
}

/// The one select that finds a session, as the store sends it.
const SELECT_SESSION: &str = "
SELECT s.id, s.mode, s.reason, s.ticket, s.started_at, s.expires_at, s.last_used_at, s.ended_at, s.end_cause,
    subjects.id, subjects.email, subjects.display_name, subjects.role, subjects.status,
    actors.id, actors.email, actors.display_name, actors.role, actors.status, originals.id, originals.ended_at, originals.expires_at,
    s.client_id, s.scope, s.audience, s.bound_permissions, s.bound_resources,
    (SELECT retired_at IS NOT NULL FROM keys WHERE kid = '{kid}'), (SELECT version FROM policies WHERE id = 'policy')
FROM sessions s JOIN users subjects ON subjects.id = s.subject_id LEFT JOIN users actors ON actors.id = s.actor_id
    LEFT JOIN sessions originals ON originals.id = s.original_session_id
WHERE s.id = '{session}' LIMIT 1;
";

/// The select that finds an article.
const SELECT_ARTICLE: &str = "
SELECT a.id, a.title, a.abstract, a.body, a.status, a.version, a.created_at, a.updated_at, authors.id, authors.email, authors.display_name,
    editors.id, editors.email, editors.display_name
FROM articles a JOIN users authors ON authors.id = a.author_id LEFT JOIN users editors ON editors.id = a.editor_id
WHERE a.id = '{article}' LIMIT 1;
";

/// An article a client of pgbench, each with its entry.
const ARTICLES_FOR_PGBENCH: &str = "
DO $$ BEGIN
FOR i IN 0..31 LOOP
    IF NOT EXISTS (SELECT 1 FROM articles WHERE id = 'pgbench-' || i) THEN
        INSERT INTO entries (id, occurred_at, origin, action, resource_type, resource_id, resource_version, note, changes)
        VALUES ('pgbench-' || i, now(), 'cli', 'article.created', 'article', 'pgbench-' || i, 1, 'a benchmark', '{}');
        INSERT INTO articles (id, title, abstract, body, search, status, author_id, version, created_at, updated_at)
        SELECT 'pgbench-' || i, 'On tides', 'Why the sea moves.', 'It just does.', 'on tides', 'draft', id, 1, now(), now() FROM users LIMIT 1;
    END IF;
END LOOP; END $$";

/// What a change of an article takes at least: its entry and its row.
const CHANGE_ARTICLE: &str = r#"
BEGIN;
INSERT INTO entries (id, occurred_at, origin, action, resource_type, resource_id, resource_version, note, changes)
SELECT gen_random_uuid()::text, now(), 'cli', 'article.updated', 'article', id, version + 1, 'a benchmark', '{"title":{"from":"On tides","to":"On the tides"}}'
FROM articles WHERE id = 'pgbench-' || :client_id;
UPDATE articles SET title = 'On the tides', search = 'on the tides', version = version + 1, updated_at = now() WHERE id = 'pgbench-' || :client_id;
COMMIT;
"#;
