//! The command line: the built program, what it prints, how it ends, and that a running server sees what it does.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Backend, Office, Setup, actas};

api_tests! {
    [sqlite] every_command_explains_itself,
    [sqlite] wrong_usage_is_told_from_failure,
    [sqlite] a_reader_that_goes_away_is_no_failure,
    [sqlite] the_document_is_the_one_that_is_served,
    a_created_user_can_log_in_at_the_running_server,
    creating_a_user_migrates_first,
    an_account_that_exists_is_left_alone,
    [sqlite] a_password_that_can_not_be_one_is_refused,
    users_are_listed_and_shown,
    a_set_password_counts_at_once_and_ends_sessions,
    a_disabled_user_is_out_at_once,
    the_last_active_administrator_can_not_be_disabled,
    ending_a_users_sessions_ends_all_that_hangs_on_them,
    ending_all_sessions_spares_nobody,
    migrating_tells_what_it_did,
    [sqlite] a_command_does_not_make_a_database_by_looking_for_one,
    health_is_asked_where_the_server_listens,
    serving_says_where_and_how_to_begin,
    [sqlite] a_second_server_on_the_same_file_is_refused,
    [sqlite] every_wrong_setting_is_named_and_no_secret_is_told,
    [sqlite] a_demo_is_the_same_at_every_start_and_leaves_nothing_behind,
    [sqlite] the_history_of_a_demo_is_genuine,
    [sqlite] the_session_of_a_demo_can_be_pasted,
    [sqlite] a_demo_stays_on_this_machine_and_in_its_own_database,
    [sqlite] a_demo_takes_settings,
    [sqlite] a_demo_cleans_up_after_one_that_was_killed,
    acting_by_script_ends_with_the_command,
    [sqlite] acting_by_script_ends_when_it_is_interrupted,
    [sqlite] acting_by_script_puts_no_secret_into_an_argument,
}

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a program.
#[derive(Debug)]
pub struct Ran {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{self:#?}");
        self
    }

    /// What was printed, which must be one line of JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{self:#?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// What was printed, which must be one line.
    #[track_caller]
    pub fn line(&self) -> &str {
        assert_eq!(self.stdout.lines().count(), 1, "{self:#?}");
        self.stdout.trim_end()
    }
}

/// Runs a program to its end with this standard input.
pub fn run(mut command: Command, input: &[u8]) -> Ran {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Who doesn't read may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    Ran {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The program on the database of `url`, with cheap hashes.
pub fn on(url: &str, arguments: &[&str]) -> Command {
    let mut command = actas(arguments);
    command.env("ACTAS_DATABASE_URL", url).env("ACTAS_BCRYPT_COST", "4");
    command
}

/// Runs a command on the office's database, beside its server.
pub fn command(office: &Office, arguments: &[&str]) -> Ran {
    run(on(&office.database_url(), arguments), b"")
}

/// A program that goes on.
struct Running {
    child: Child,
    lines: Receiver<String>,
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (tell, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self { child, lines, stderr: Some(stderr) }
    }

    /// The next line that it prints.
    #[track_caller]
    fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("it says nothing"),
            Err(RecvTimeoutError::Disconnected) => panic!("it ended: {}", self.stderr.take().unwrap().join().unwrap()),
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill -s {name}");
    }

    /// Sends a signal, waits for the end, and answers the exit status and the standard error.
    fn end(mut self, signal: &str) -> (Option<i32>, String) {
        self.signal(signal);
        let deadline = Instant::now() + PATIENCE;
        // The end of its output is the end of the program.
        while self.lines.recv_timeout(deadline - Instant::now()).is_ok() {}
        let status = self.child.wait().unwrap();
        (status.code(), self.stderr.take().unwrap().join().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(url: &str, token: Option<&str>) -> (u16, Value) {
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).timeout_global(Some(PATIENCE)).build();
    let mut request = ureq::Agent::from(config).get(url);
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let mut answer = request.call().unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null))
}

fn log_in(base_url: &str, email: &str, password: &str) -> (u16, Value) {
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).timeout_global(Some(PATIENCE)).build();
    let body = json!({ "email": email, "password": password });
    let mut answer = ureq::Agent::from(config).post(format!("{base_url}/v1/auth/login")).send_json(&body).unwrap();
    (answer.status().as_u16(), answer.body_mut().read_json().unwrap())
}

// What holds for every command.

const COMMANDS: [&[&str]; 21] = [
    &["serve"],
    &["demo"],
    &["migrate"],
    &["user", "create"],
    &["user", "list"],
    &["user", "show"],
    &["user", "set-password"],
    &["user", "disable"],
    &["client", "create"],
    &["client", "list"],
    &["client", "show"],
    &["client", "update"],
    &["client", "rotate-secret"],
    &["client", "disable"],
    &["session", "end"],
    &["keys", "list"],
    &["keys", "rotate"],
    &["keys", "retire"],
    &["keys", "import"],
    &["openapi"],
    &["healthcheck"],
];

fn every_command_explains_itself(_setup: Setup) {
    let overview = run(actas(&["--help"]), b"").expect(0).stdout;
    for command in COMMANDS {
        assert!(overview.contains(command[0]), "{command:?} is not in {overview}");
        let help = run(actas(&[command, &["--help"]].concat()), b"").expect(0).stdout;
        for part in ["Usage: actas", "Example", "Exit status: 0 done, 1 failed"] {
            assert!(help.contains(part), "no `{part}`: {help}");
        }
        assert_eq!(help.contains("--json"), command != ["serve"], "{help}");
    }
    assert!(!overview.contains("--bind"), "the flags of `serve` are listed once: {overview}");
    assert!(run(actas(&["--version"]), b"").expect(0).stdout.starts_with("actas "));
}

fn wrong_usage_is_told_from_failure(setup: Setup) {
    let wrong: [&[&str]; 12] = [
        &["user"],
        &["user", "create"],
        &["user", "show", "--email", "no address"],
        &["user", "list", "--role", "king"],
        &["session", "end"],
        &["session", "end", "--all", "--user", "a@example.org"],
        &["keys"],
        &["keys", "retire"],
        &["keys", "import"],
        &["keys", "rotate", "the-newest"],
        &["no-such-command"],
        &["--bind", "127.0.0.1:0", "migrate"],
    ];
    for arguments in wrong {
        let ran = run(actas(arguments), b"").expect(2);
        assert!(ran.stdout.is_empty() && ran.stderr.contains("help"), "{ran:#?}");
    }
    let office = setup.open();
    let ran = command(&office, &["user", "show", "--email", "nobody@example.org"]).expect(3);
    assert_eq!((ran.stdout.as_str(), ran.stderr.contains("nobody@example.org")), ("", true), "{ran:#?}");
}

fn a_reader_that_goes_away_is_no_failure(_setup: Setup) {
    // Far more than a pipe holds, so that it is still writing when nobody reads.
    let mut child = actas(&["openapi"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

fn the_document_is_the_one_that_is_served(office: &Office) {
    let printed = run(actas(&["openapi"]), b"").expect(0).stdout;
    assert_eq!(printed, office.anonymous().get("/openapi.json").expect(200).text);
    let compact = run(actas(&["openapi", "--json"]), b"").expect(0).json();
    assert_eq!(compact, serde_json::from_str::<Value>(&printed).unwrap());
}

// Users.

const CREATE: [&str; 9] =
    ["user", "create", "--email", "Zoe@example.org", "--name", "Zoë Zimmer", "--role", "administrator", "--password-stdin"];

fn a_created_user_can_log_in_at_the_running_server(office: &Office) {
    let ran = run(on(&office.database_url(), &CREATE), b"a good password \r\n").expect(0);
    let id = ran.line();
    let login = |password: &str| office.anonymous().post("/v1/auth/login", json!({ "email": "zoe@example.org", "password": password }));
    let grant = login("a good password ").expect(200);
    assert_eq!(grant.str("session/subject/id"), id, "one line break is dropped, and nothing else");
    login("a good password").problem(401, "invalid_credentials");

    let zoe = office.anonymous().with_token(grant.str("access_token"));
    let history = zoe.get(&format!("/v1/history?resource_id={id}&action=user.created")).expect(200);
    let entry = &history.items()[0];
    assert_eq!((&entry["origin"], &entry["subject"], &entry["actor"]), (&json!("cli"), &Value::Null, &Value::Null));
    assert_eq!(entry["note"], "created by `actas user create`");
}

fn creating_a_user_migrates_first(setup: Setup) {
    let database = setup.bare_database();
    let created = run(on(database.url(), &[&CREATE[..], &["--json"]].concat()), b"a good password").expect(0).json();
    assert_eq!(created["email"], "Zoe@example.org");
    let listed = run(on(database.url(), &["user", "list", "--json"]), b"").expect(0).json();
    assert_eq!(listed["items"], json!([created]));
}

fn an_account_that_exists_is_left_alone(office: &Office) {
    let id = run(on(&office.database_url(), &CREATE), b"the first password").expect(0).line().to_owned();
    let again = run(on(&office.database_url(), &CREATE), b"another password").expect(3);
    assert!(again.stdout.is_empty() && again.stderr.contains("exists already"), "{again:#?}");

    let if_absent = [&CREATE[..8], &["--if-absent", "--password-stdin"]].concat();
    let ran = run(on(&office.database_url(), &if_absent), b"another password").expect(0);
    assert_eq!(ran.line(), id);
    let first = json!({ "email": "zoe@example.org", "password": "the first password" });
    office.anonymous().post("/v1/auth/login", first).expect(200);
    assert_eq!(office.db_count("SELECT count(*) FROM users"), 1);
}

fn a_password_that_can_not_be_one_is_refused(setup: Setup) {
    let database = setup.bare_database();
    let (long, nul) = ("x".repeat(73), b"eight\0or more".as_slice());
    for password in [b"".as_slice(), b"short\n", long.as_bytes(), nul, b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe"] {
        let ran = run(on(database.url(), &CREATE), password).expect(2);
        assert!(ran.stderr.contains("the password on the standard input"), "{ran:#?}");
    }
    run(on(database.url(), &["migrate"]), b"").expect(0);
    assert_eq!(database.number("SELECT count(*) FROM users"), 0);
}

fn users_are_listed_and_shown(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let everyone = command(office, &["user", "list", "--json"]).expect(0).json();
    let ids: Vec<_> = everyone["items"].as_array().unwrap().iter().map(|user| user["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [editor.id.as_str(), admin.id.as_str()], "newest first");

    let lines = command(office, &["user", "list", "--role", "editor"]).expect(0);
    for part in [&editor.id, &editor.email, &editor.display_name] {
        assert!(lines.line().contains(part.as_str()), "{lines:#?}");
    }
    assert_eq!(command(office, &["user", "list", "--status", "disabled"]).expect(0).stdout, "");

    // In any case, and as the API shows it.
    let shown = command(office, &["user", "show", "--json", "--email", &editor.email.to_uppercase()]).expect(0).json();
    let mut served = admin.get(&format!("/v1/users/{}", editor.id)).expect(200).body;
    served.as_object_mut().unwrap().remove("impersonation");
    assert_eq!(shown, served);
    assert!(command(office, &["user", "show", "--email", &editor.email]).expect(0).stdout.contains(&editor.id));
}

fn a_set_password_counts_at_once_and_ends_sessions(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    let arguments = ["user", "set-password", "--email", &editor.email, "--password-stdin"];
    let ran = run(on(&office.database_url(), &arguments), b"quite another\n").expect(0);
    assert_eq!(ran.line(), editor.id);

    editor.get("/v1/me").problem(401, "session_ended");
    acting.get("/v1/me").problem(401, "impersonation_ended");
    admin.get("/v1/me").expect(200);
    let login = |password: &str| office.anonymous().post("/v1/auth/login", json!({ "email": editor.email, "password": password }));
    login(&editor.password).problem(401, "invalid_credentials");
    login("quite another").expect(200);
    let changed = admin.get(&format!("/v1/history?resource_id={}&action=user.password_changed", editor.id)).expect(200);
    assert_eq!(changed.items()[0]["note"], "set by `actas user set-password`");

    let nobody = ["user", "set-password", "--email", "nobody@example.org", "--password-stdin"];
    run(on(&office.database_url(), &nobody), b"quite another").expect(3);
}

fn a_disabled_user_is_out_at_once(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    let disabled = command(office, &["user", "disable", "--json", "--email", &editor.email]).expect(0).json();
    assert_eq!((disabled["id"].as_str(), disabled["status"].as_str()), (Some(editor.id.as_str()), Some("disabled")));
    editor.get("/v1/me").problem(401, "session_ended");
    assert_eq!(acting.get("/v1/me").problem(401, "impersonation_ended").str("cause"), "subject_changed");
    // Again changes nothing.
    assert_eq!(command(office, &["user", "disable", "--email", &editor.email]).expect(0).line(), editor.id);
    let entries = admin.get(&format!("/v1/history?resource_id={}&action=user.updated", editor.id)).expect(200);
    assert_eq!((entries.items().len(), entries.items()[0]["origin"].as_str()), (1, Some("cli")));
    command(office, &["user", "disable", "--email", "nobody@example.org"]).expect(3);
}

fn the_last_active_administrator_can_not_be_disabled(office: &Office) {
    let (one, other) = (office.administrator(), office.administrator());
    command(office, &["user", "disable", "--email", &other.email]).expect(0);
    let refused = command(office, &["user", "disable", "--email", &one.email]).expect(1);
    assert!(refused.stderr.contains("the last active administrator"), "{refused:#?}");
    one.get("/v1/me").expect(200);
}

// Sessions.

fn ending_a_users_sessions_ends_all_that_hangs_on_them(office: &Office) {
    let (admin, support, editor, author) = (office.administrator(), office.support(), office.editor(), office.author());
    let (by_support, of_editor, other) =
        (office.impersonate(&support, &author), office.impersonate(&admin, &editor), office.impersonate(&admin, &author));
    let again = support.log_in_again();

    let ended = command(office, &["session", "end", "--json", "--user", &support.email]).expect(0).json();
    assert_eq!(ended, json!({ "sessions": 2, "impersonations": 1 }));
    support.get("/v1/me").problem(401, "session_ended");
    again.get("/v1/me").problem(401, "session_ended");
    support.refresh().problem(401, "session_ended");
    by_support.get("/v1/me").problem(401, "impersonation_ended");

    let ended = command(office, &["session", "end", "--user", &editor.email]).expect(0);
    assert_eq!(ended.line(), "ended: 1 sessions, 1 impersonations");
    assert_eq!(of_editor.get("/v1/me").problem(401, "impersonation_ended").str("cause"), "ended_by_person");
    of_editor.log_out().problem(401, "impersonation_ended");

    for spared in [&admin.get("/v1/me"), &author.get("/v1/me"), &other.get("/v1/me")] {
        assert_eq!(spared.status, 200, "{spared}");
    }
    let entries = admin.get("/v1/history?action=session.ended").expect(200);
    assert_eq!(entries.items().len(), 3);
    for entry in entries.items() {
        assert_eq!((&entry["origin"], &entry["note"]), (&json!("cli"), &json!("ended by `actas session end`")));
    }
    command(office, &["session", "end", "--user", "nobody@example.org"]).expect(3);
}

fn ending_all_sessions_spares_nobody(office: &Office) {
    let (admin, editor) = (office.administrator(), office.editor());
    let acting = office.impersonate(&admin, &editor);
    // More than one transaction's worth.
    let more: Vec<_> = (0..105).map(|_| editor.log_in_again()).collect();
    let ended = command(office, &["session", "end", "--all", "--json"]).expect(0).json();
    assert_eq!(ended, json!({ "sessions": 2 + more.len(), "impersonations": 1 }));
    admin.get("/v1/me").problem(401, "session_ended");
    acting.get("/v1/me").problem(401, "impersonation_ended");
    more.last().unwrap().get("/v1/me").problem(401, "session_ended");
    assert_eq!(office.db_count("SELECT count(*) FROM sessions WHERE ended_at IS NULL"), 0);
    admin.log_in_again().get("/v1/me").expect(200);
}

// The database.

fn migrating_tells_what_it_did(setup: Setup) {
    let database = setup.bare_database();
    if let Some(path) = database.url().strip_prefix("sqlite://") {
        File::create(path).unwrap();
    }
    let before = run(on(database.url(), &["user", "list"]), b"").expect(1);
    assert!(before.stderr.contains("run `actas migrate`"), "{before:#?}");
    let first = run(on(database.url(), &["migrate"]), b"").expect(0);
    assert!(!first.stdout.is_empty(), "{first:#?}");
    let second = run(on(database.url(), &["migrate"]), b"").expect(0);
    assert_eq!((second.stdout.as_str(), second.stderr.contains("nothing to do")), ("", true), "{second:#?}");
    assert_eq!(run(on(database.url(), &["migrate", "--json"]), b"").expect(0).json(), json!({ "migrations": [] }));
    assert_eq!(run(on(database.url(), &["user", "list"]), b"").expect(0).stdout, "");
}

fn a_command_does_not_make_a_database_by_looking_for_one(_setup: Setup) {
    let directory = TempDir::new().unwrap();
    let url = format!("sqlite://{}/absent.db", directory.path().display());
    let commands: [&[&str]; 4] = [
        &["user", "list"],
        &["user", "show", "--email", "a@example.org"],
        &["user", "disable", "--email", "a@example.org"],
        &["session", "end", "--all"],
    ];
    for arguments in commands {
        let ran = run(on(&url, arguments), b"").expect(1);
        assert!(ran.stderr.contains("there is no database at"), "{ran:#?}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

// Serving.

fn health_is_asked_where_the_server_listens(setup: Setup) {
    let office = setup.open();
    let address = office.url().trim_start_matches("http://").to_owned();
    let port = address.rsplit(':').next().unwrap().to_owned();
    let check = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = actas(&[&["healthcheck"], arguments].concat());
        command.envs(environment.iter().copied());
        run(command, b"")
    };
    assert_eq!(check(&["--bind", &address], &[]).expect(0).line(), "ready");
    assert_eq!(check(&[], &[("ACTAS_BIND", &address)]).expect(0).line(), "ready");
    // A server that listens everywhere is asked on this machine.
    let json = check(&["--json"], &[("ACTAS_BIND", &format!("0.0.0.0:{port}"))]).expect(0).json();
    assert_eq!(json, json!({ "ready": true, "url": format!("http://127.0.0.1:{port}") }));
    // Where it is served apart, it is asked there.
    check(&[], &[("ACTAS_BIND", "127.0.0.1:1"), ("ACTAS_OPS_BIND", &address)]).expect(0);
    check(&["--bind", "127.0.0.1:0"], &[]).expect(2);
    check(&["--bind", "nonsense"], &[]).expect(2);

    office.stop();
    let down = check(&["--bind", &address, "--json"], &[]).expect(1);
    assert_eq!(down.json()["ready"], false);
    assert!(down.stderr.contains("not ready"), "{down:#?}");
}

/// Where a server says that it listens, by its next line.
fn listening(server: &mut Running) -> String {
    let line = server.line();
    line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).split(' ').next().unwrap().to_owned()
}

fn serving_says_where_and_how_to_begin(setup: Setup) {
    let database = setup.bare_database();
    // Serving is what it does without a command.
    let mut server = Running::start(on(database.url(), &["--bind", "127.0.0.1:0", "--ops-bind", "127.0.0.1:0"]));
    let (base_url, ops_url) = (listening(&mut server), listening(&mut server));
    assert_eq!((get(&format!("{base_url}/v1/me"), None).0, get(&format!("{base_url}/readyz"), None).0), (401, 404));
    assert_eq!(get(&format!("{ops_url}/readyz"), None), (200, json!({ "status": "ok" })));
    let (status, log) = server.end("TERM");
    assert_eq!(status, Some(0), "{log}");

    let hints = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let hint =
        hints.filter_map(|line| line["message"].as_str().map(str::to_owned)).find(|message| message.contains(" user create ")).unwrap();
    let command = hint.split_once(" with: ").unwrap().1;
    assert!(!hint.contains('"') && !hint.contains("postgres://"), "{hint}");
    // As somebody would who pastes it.
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).env("ACTAS_BCRYPT_COST", "4");
    if setup.backend() == Backend::Postgres {
        shell.env("ACTAS_DATABASE_URL", database.url());
    }
    run(shell, b"the first password\n").expect(0);

    let mut server = Running::start(on(database.url(), &["serve", "--bind", "127.0.0.1:0"]));
    let base_url = listening(&mut server);
    let (status, grant) = log_in(&base_url, "you@example.org", "the first password");
    assert_eq!((status, &grant["session"]["subject"]["display_name"]), (200, &json!("Your Name")));
    let (status, log) = server.end("INT");
    assert_eq!((status, log.contains("user create")), (Some(0), false), "{log}");
}

fn a_second_server_on_the_same_file_is_refused(office: &Office) {
    let refused = run(on(&office.database_url(), &["serve", "--bind", "127.0.0.1:0"]), b"").expect(1);
    assert!(refused.stdout.is_empty() && refused.stderr.contains("another actas server is using"), "{refused:#?}");
    office.anonymous().get("/readyz").expect(200);
}

fn every_wrong_setting_is_named_and_no_secret_is_told(_setup: Setup) {
    let mut command = actas(&["serve", "--bcrypt-cost", "99", "--key-encryption-key", "hunter2"]);
    command.env("ACTAS_BIND", "nonsense").env("ACTAS_DATABASE_URL", "postgress://u:hunter3@h/d");
    let ran = run(command, b"").expect(2);
    for name in ["ACTAS_BCRYPT_COST", "ACTAS_KEY_ENCRYPTION_KEY", "ACTAS_BIND", "ACTAS_DATABASE_URL"] {
        assert!(ran.stderr.lines().any(|line| line.starts_with(&format!("actas: {name} "))), "no {name}: {ran:#?}");
    }
    assert!(!ran.stderr.contains("hunter") && ran.stdout.is_empty(), "{ran:#?}");
}

// The demo.

const ADA: &str = "01990000-0000-7000-8000-00000000000a";
const ED: &str = "01990000-0000-7000-8000-00000000000c";

/// A demo with a temporary directory of its own.
fn demo(directory: &TempDir, arguments: &[&str]) -> Running {
    let mut command = actas(&[&["demo", "--bind", "127.0.0.1:0"], arguments].concat());
    Running::start({
        command.env("TMPDIR", directory.path());
        command
    })
}

fn json_demo(directory: &TempDir, arguments: &[&str]) -> (Running, Value) {
    let mut running = demo(directory, &[&["--json"], arguments].concat());
    let ready = serde_json::from_str(&running.line()).unwrap();
    (running, ready)
}

fn names_in(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn a_demo_is_the_same_at_every_start_and_leaves_nothing_behind(_setup: Setup) {
    let directory = TempDir::new().unwrap();
    // Two at once, one ended as by a supervisor, one as at the keyboard.
    let (one, first) = json_demo(&directory, &[]);
    let (other, second) = json_demo(&directory, &[]);
    assert_eq!((&first["users"], &first["articles"]), (&second["users"], &second["articles"]));
    assert_ne!(first["base_url"], second["base_url"]);
    assert_eq!(names_in(directory.path()).len(), 2);

    let roles: Vec<_> = first["users"].as_array().unwrap().iter().map(|user| user["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["administrator", "support", "editor", "editor", "author", "author"]);
    let statuses: BTreeSet<_> = first["articles"].as_array().unwrap().iter().map(|article| article["status"].as_str().unwrap()).collect();
    assert_eq!(statuses.len(), 8, "every status: {statuses:?}");
    let base_url = first["base_url"].as_str().unwrap();
    for user in first["users"].as_array().unwrap() {
        let (status, grant) = log_in(base_url, user["email"].as_str().unwrap(), user["password"].as_str().unwrap());
        assert_eq!((status, &grant["session"]["subject"]["id"]), (200, &user["id"]));
    }
    let (status, log) = one.end("TERM");
    assert_eq!((status, log.as_str()), (Some(0), ""));
    let (status, log) = other.end("INT");
    assert_eq!((status, log.as_str()), (Some(0), ""));
    assert_eq!(names_in(directory.path()), Vec::<PathBuf>::new());
}

fn the_history_of_a_demo_is_genuine(_setup: Setup) {
    let directory = TempDir::new().unwrap();
    let (_running, ready) = json_demo(&directory, &[]);
    let base_url = ready["base_url"].as_str().unwrap();
    let (_, grant) = log_in(base_url, "ada@newsroom.example", "ada-in-the-demo");
    let token = grant["access_token"].as_str();
    let (_, history) = get(&format!("{base_url}/v1/history?limit=200"), token);
    let entries = history["items"].as_array().unwrap();
    assert_eq!(history["next_cursor"], Value::Null, "all on one page");
    let times: Vec<_> = entries.iter().map(|entry| entry["occurred_at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:#?}");

    let notes: BTreeSet<_> =
        entries.iter().filter(|entry| entry["actor"] != Value::Null).map(|entry| entry["note"].as_str().unwrap()).collect();
    assert!(notes.contains("Ada Admin acting as Emma Editor") && notes.contains("Sam Support acting as Ed Editor"), "{notes:?}");
    // All who came in before have left, the one who asks but not.
    let (_, live) = get(&format!("{base_url}/v1/impersonations?status=live"), token);
    assert_eq!(live["items"], json!([]));
    for article in ready["articles"].as_array().unwrap() {
        let id = article["id"].as_str().unwrap();
        let (status, served) = get(&format!("{base_url}/v1/articles/{id}"), token);
        assert_eq!((status, &served["title"], &served["status"]), (200, &article["title"], &article["status"]));
        let (_, entries) = get(&format!("{base_url}/v1/articles/{id}/history"), token);
        assert_eq!(entries["items"].as_array().unwrap().len(), usize::try_from(served["version"].as_u64().unwrap()).unwrap());
    }
}

fn the_session_of_a_demo_can_be_pasted(_setup: Setup) {
    if !has_programs() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let mut running = demo(&directory, &[]);
    let first = listening(&mut running);
    let mut session = String::new();
    loop {
        let line = running.line();
        if line.starts_with("api=") || !session.is_empty() {
            session += &line;
            session.push('\n');
            // It ends as it began, in an own session.
            if line.contains("$restored\" $api/v1/me") {
                break;
            }
        }
    }
    assert!(session.contains(&first), "{session}");
    let mut bash = Command::new("bash");
    bash.env("no_proxy", "*");
    // Line by line, and the first that fails ends it.
    let ran = run(bash, format!("set -euo pipefail\n{session}").as_bytes()).expect(0);
    let told: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(told[0], r#"{"display_name":"Ed Editor","role":"editor","impersonation":{"allowed":true,"reasons":[]}}"#);
    assert_eq!(told[1], r#"{"kind":"impersonation","subject":"Ed Editor","actor":"Ada Admin"}"#);
    let claims: Value = serde_json::from_str(told[2]).unwrap();
    assert_eq!((claims["sub"].as_str(), claims["act"]["sub"].as_str()), (Some(ED), Some(ADA)));
    let accept: Value = serde_json::from_str(told[4]).unwrap();
    assert_eq!((&accept["allowed"], &accept["reasons"][0]["code"]), (&json!(false), &json!("status_forbids")));
    for entry in &told[7..9] {
        assert!(entry.contains(r#""note":"Ada Admin acting as Ed Editor""#), "{ran:#?}");
    }
    let end = [
        "the original token, byte for byte",
        r#"{"code":"impersonation_ended","cause":"logout"}"#,
        r#"{"kind":"own","subject":"Ada Admin"}"#,
    ];
    assert_eq!(&told[9..], end, "{ran:#?}");
    assert_eq!(ran.stderr, "");
}

fn a_demo_stays_on_this_machine_and_in_its_own_database(setup: Setup) {
    let directory = TempDir::new().unwrap();
    let database = setup.bare_database();
    let refused = run(actas(&["demo", "--bind", "0.0.0.0:0"]), b"").expect(2);
    assert!(refused.stderr.contains("--allow-remote"), "{refused:#?}");
    run(actas(&["demo", "--bind", "127.0.0.1:0", "--ops-bind", "[::]:0"]), b"").expect(2);
    run(actas(&["demo", "--database-url", database.url()]), b"").expect(2);

    let mut command = on(database.url(), &["demo", "--json", "--allow-remote", "--bind", "0.0.0.0:0"]);
    command.env("TMPDIR", directory.path());
    let mut running = Running::start(command);
    let ready: Value = serde_json::from_str(&running.line()).unwrap();
    let base_url = ready["base_url"].as_str().unwrap();
    assert!(base_url.starts_with("http://127.0.0.1:"), "{base_url}");
    // The database that the environment names stays untouched.
    run(on(database.url(), &["user", "list"]), b"").expect(1);

    let taken = base_url.trim_start_matches("http://");
    let refused = run(actas(&["demo", "--bind", taken]), b"").expect(1);
    assert!(refused.stderr.contains("Address already in use") && refused.stderr.contains("--bind 127.0.0.1:0"), "{refused:#?}");
}

fn a_demo_takes_settings(_setup: Setup) {
    let directory = TempDir::new().unwrap();
    let (_running, ready) =
        json_demo(&directory, &["--access-token-ttl-seconds", "1", "--impersonation-max-seconds", "1", "--audience", "them"]);
    let base_url = ready["base_url"].as_str().unwrap();
    let (_, grant) = log_in(base_url, "ada@newsroom.example", "ada-in-the-demo");
    assert!(grant["expires_in"].as_i64().unwrap() <= 2, "{grant}");
    let claims = grant["access_token"].as_str().unwrap().split('.').nth(1).unwrap();
    let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!((claims["iss"].as_str(), claims["aud"].as_str()), (Some(base_url), Some("them")), "the public URL is where it listens");

    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build();
    let page = ureq::Agent::from(config).get(format!("{base_url}/v1/me")).header("Origin", "http://localhost:5173").call().unwrap();
    assert_eq!(page.headers()["access-control-allow-origin"], "http://localhost:5173");
}

fn a_demo_cleans_up_after_one_that_was_killed(_setup: Setup) {
    let directory = TempDir::new().unwrap();
    let (alive, _) = json_demo(&directory, &[]);
    let [alive_at] = <[_; 1]>::try_from(names_in(directory.path())).unwrap();
    let (killed, _) = json_demo(&directory, &[]);
    let mut all = names_in(directory.path());
    all.retain(|path| *path != alive_at);
    let [killed_at] = <[_; 1]>::try_from(all).unwrap();
    let (status, _) = killed.end("KILL");
    assert_eq!(status, None);
    assert!(killed_at.exists(), "who is killed can't clean up");

    // Both have been there for a while.
    for path in [&alive_at, &killed_at] {
        File::open(path).unwrap().set_modified(SystemTime::now() - Duration::from_secs(120)).unwrap();
    }
    let (_next, _) = json_demo(&directory, &[]);
    assert_eq!((alive_at.exists(), killed_at.exists()), (true, false));
    assert_eq!(alive.end("TERM").0, Some(0));
    assert!(!alive_at.exists());
}

// examples/act-as.sh.

/// Whether what the scripts need is here. Where it is not, the test says so and passes; under `CI` it fails.
fn has_programs() -> bool {
    let missing: Vec<_> = ["bash", "curl", "jq"].into_iter().filter(|name| Command::new(name).arg("--version").output().is_err()).collect();
    if !missing.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "missing: {missing:?}");
        eprintln!("not tried, because these are missing: {missing:?}");
    }
    missing.is_empty()
}

fn act_as(office: &Office, admin: &crate::harness::Person, arguments: &[&str]) -> Command {
    let mut command = Command::new("bash");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/act-as.sh")).args(arguments);
    command.env("ACT_AS_URL", office.url()).env("ACT_AS_EMAIL", &admin.email).env("ACT_AS_PASSWORD", &admin.password).env("no_proxy", "*");
    command
}

/// What came of all impersonations so far: how many still run, and why the last one ended.
fn impersonations(office: &Office) -> (i64, Option<String>) {
    let live = office.db_count("SELECT count(*) FROM sessions WHERE actor_id IS NOT NULL AND ended_at IS NULL");
    (live, office.db_text("SELECT end_cause FROM sessions WHERE actor_id IS NOT NULL ORDER BY id DESC LIMIT 1"))
}

fn acting_by_script_ends_with_the_command(office: &Office) {
    if !has_programs() {
        return;
    }
    let (admin, editor) = (office.administrator(), office.editor());
    let with = |arguments: &[&str], input: &[u8]| {
        let whole = [&["--as", &editor.email, "--reason", "a test's reason", "--ticket", "HELP-1"], arguments].concat();
        run(act_as(office, &admin, &whole), input)
    };
    let over = (0, Some("logout".to_owned()));

    let ran = with(&["--call", "GET", "/v1/me"], b"").expect(0);
    let me: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&me["subject"]["id"], &me["actor"]["id"]), (&json!(editor.id), &json!(admin.id)));
    assert_eq!((&me["impersonation"]["reason"], &me["impersonation"]["ticket"]), (&json!("a test's reason"), &json!("HELP-1")));
    assert_eq!(impersonations(office), over);

    // The call writes as the editor, with its body from the standard input.
    let ran = with(&["--call", "POST", "/v1/articles", "--data", "-"], br#"{"title": "T", "abstract": "", "body": ""}"#).expect(0);
    let article: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(article["author"]["id"], json!(editor.id));

    // The command has a token, and its exit status is the script's.
    let look = r#"curl -sS -H @"$ACT_AS_HEADERS" "$ACT_AS_URL/v1/me" | jq -r .subject.id; cat; exit 7"#;
    let ran = with(&["--", "bash", "-c", look], b"and its own input").expect(7);
    assert_eq!(ran.stdout, format!("{}\nand its own input", editor.id));
    assert_eq!(impersonations(office), over);

    // A call that is refused, a command that isn't there.
    let ran = with(&["--read-only", "--call", "POST", "/v1/articles", "--data", "-"], br#"{"title": "T", "abstract": "", "body": ""}"#);
    assert!(ran.expect(1).stderr.contains("read_only_impersonation"));
    assert_eq!(impersonations(office), over);
    with(&["--", "no-such-program-anywhere"], b"").expect(127);
    assert_eq!(impersonations(office), over);

    // A command that ends the impersonation itself leaves nothing to end, and says so.
    let steal = r#"curl -sS -X POST -H @"$ACT_AS_HEADERS" "$ACT_AS_URL/v1/auth/logout" | jq -r .code"#;
    assert_eq!(with(&["--", "bash", "-c", steal], b"").stdout, "restore_proof_required\n", "without the verifier no way leads back");
    assert_eq!(impersonations(office), over);

    // Whom nobody may act as.
    let refused = run(act_as(office, &admin, &["--as", &admin.email, "--reason", "no", "--", "true"]), b"").expect(1);
    assert!(refused.stderr.contains("self: "), "{refused:#?}");
    let sessions = "SELECT count(*) FROM sessions WHERE actor_id IS NULL AND ended_at IS NULL";
    assert_eq!(office.db_count(sessions), 2, "the script logs out; the two that the test opened stay");
}

fn acting_by_script_ends_when_it_is_interrupted(office: &Office) {
    if !has_programs() {
        return;
    }
    let (admin, editor) = (office.administrator(), office.editor());
    for (signal, status) in [("TERM", 143), ("HUP", 129)] {
        let command = "echo acting; exec sleep 60";
        let arguments = ["--as", &editor.email, "--reason", "a test", "--", "bash", "-c", command];
        let mut running = Running::start(act_as(office, &admin, &arguments));
        assert_eq!(running.line(), "acting");
        assert_eq!(impersonations(office).0, 1);
        let started = Instant::now();
        let (ended, log) = running.end(signal);
        assert_eq!(ended, Some(status), "{log}");
        assert!(started.elapsed() < Duration::from_secs(30), "it does not wait for the command");
        assert_eq!(impersonations(office), (0, Some("logout".to_owned())), "{log}");
    }
}

fn acting_by_script_puts_no_secret_into_an_argument(office: &Office) {
    if !has_programs() {
        return;
    }
    let (admin, editor) = (office.administrator(), office.editor());
    let directory = TempDir::new().unwrap();
    let log = directory.path().join("arguments");
    // Programs of the same names that come first, and write down how they are called.
    for name in ["curl", "jq", "cat", "sed", "sha256sum", "base64", "tr", "cut"] {
        let real = run(
            {
                let mut which = Command::new("sh");
                which.args(["-c", &format!("command -v {name}")]);
                which
            },
            b"",
        );
        let path = directory.path().join(name);
        let script = format!("#!/bin/sh\necho {name} \"$@\" >>'{}'\nexec {} \"$@\"\n", log.display(), real.line());
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let mut command = act_as(office, &admin, &["--as", &editor.email, "--reason", "a test", "--", "sh", "-c", "echo $ACT_AS_TOKEN"]);
    command.env("PATH", path);
    let ran = run(command, b"").expect(0);
    let arguments = fs::read_to_string(&log).unwrap();
    assert!(arguments.contains("/v1/auth/login") && arguments.contains("/v1/auth/logout"), "{arguments}");
    for secret in [admin.password.as_str(), ran.line(), "eyJ"] {
        assert!(!arguments.contains(secret), "{secret} in {arguments}");
    }
}
