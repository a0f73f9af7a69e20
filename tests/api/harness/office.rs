//! A running server with a database, a clock and people of its own.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actas::clock::Clock;
use actas::config::{Config, Environment, Settings};
use actas::domain::Time;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::answer::Answer;
use super::caller::{Acting, Caller, Person};
use super::database::{Backend, Database};
use super::seam;

/// What every test's server is set to, unless its [`Setup`] says otherwise.
const USUAL_SETTINGS: [(&str, &str); 6] = [
    ("BIND", "127.0.0.1:0"),
    ("BCRYPT_COST", "4"),
    // Enough for a race of many, little enough for many tests on one Postgres.
    ("DATABASE_POOL_SIZE", "8"),
    ("WORKERS", "2"),
    // Tests that are about the limit set one.
    ("LOGIN_FAILURES_PER_MINUTE", "0"),
    ("SHUTDOWN_TIMEOUT_SECONDS", "5"),
];

/// Where a [`Setup`] keeps what is no setting of its own but a part of one.
const DATABASE_PARAMETERS: &str = "the parameters of the database's URL";

/// An office that is about to be opened.
pub struct Setup {
    backend: Backend,
    settings: BTreeMap<String, String>,
}

impl Setup {
    pub(super) fn on(backend: Backend) -> Self {
        let usual = USUAL_SETTINGS.iter().map(|(name, value)| (format!("ACTAS_{name}"), (*value).to_owned()));
        Self { backend, settings: usual.collect() }
    }

    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The database through PgBouncer, which this setting says.
    pub(super) fn pooled(self) -> Self {
        self.with("DATABASE_POOLER", "transaction")
    }

    /// Chooses a setting by its name without prefix: `.with("IMPERSONATION_TTL_SECONDS", 1)`.
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.insert(format!("ACTAS_{name}"), value.to_string());
        self
    }

    /// Adds parameters to the database's URL: `.with_database_parameters("sslmode=require")`.
    pub fn with_database_parameters(mut self, parameters: &str) -> Self {
        self.settings.insert(DATABASE_PARAMETERS.to_owned(), parameters.to_owned());
        self
    }

    /// Makes the database, and starts the server if it can.
    pub fn try_open(self) -> Result<Office, String> {
        let database = Arc::new(Database::migrated(self.backend));
        let instance = Instance { database, clock: Clock::default(), settings: self.settings, server: Mutex::new(None) };
        instance.start()?;
        Ok(Office { instance: Arc::new(instance) })
    }

    /// An office with an empty database, and without a server: [`Office::second_instance`] starts the first.
    pub fn unopened(self) -> Office {
        let database = Arc::new(Database::bare(self.backend));
        let instance = Instance { database, clock: Clock::default(), settings: self.settings, server: Mutex::new(None) };
        Office { instance: Arc::new(instance) }
    }

    /// An empty database of this kind, which no server knows of.
    pub fn bare_database(&self) -> Database {
        Database::bare(self.backend)
    }

    /// Makes the database and starts the server.
    pub fn open(self) -> Office {
        let database = Arc::new(Database::migrated(self.backend));
        let instance = Instance { database, clock: Clock::default(), settings: self.settings, server: Mutex::new(None) };
        Office::start(instance)
    }
}

/// One server process's worth of Actas.
pub(super) struct Instance {
    // Dropped in this order: the server lets go of the database before that is removed.
    pub(super) server: Mutex<Option<seam::Server>>,
    pub(super) database: Arc<Database>,
    pub(super) clock: Clock,
    pub(super) settings: BTreeMap<String, String>,
}

impl Instance {
    fn is_pooled(&self) -> bool {
        self.settings.contains_key("ACTAS_DATABASE_POOLER")
    }

    fn database_url(&self) -> String {
        if self.is_pooled() { self.database.pooled_url() } else { self.database.url().to_owned() }
    }

    pub(super) fn config(&self) -> Config {
        let mut settings = self.settings.clone();
        let mut url = self.database_url();
        if let Some(parameters) = settings.remove(DATABASE_PARAMETERS).filter(|parameters| !parameters.is_empty()) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&parameters);
        }
        let environment: Environment = settings.into_iter().chain([("ACTAS_DATABASE_URL".to_owned(), url)]).collect();
        Settings::default().check(&environment).unwrap_or_else(|error| panic!("{error}"))
    }

    fn server(&self) -> MutexGuard<'_, Option<seam::Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> Result<(), String> {
        let started = seam::start_server(self.config(), &self.clock)?;
        *self.server() = Some(started);
        Ok(())
    }

    fn stop(&self) {
        if let Some(server) = self.server().take() {
            (server.stop)();
        }
    }

    fn address(&self) -> SocketAddr {
        self.server().as_ref().expect("the server is stopped").address
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub(super) fn ops_url(&self) -> String {
        let ops_address = self.server().as_ref().expect("the server is stopped").ops_address;
        format!("http://{}", ops_address.expect("OPS_BIND is not set"))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A running server, with which a test begins.
pub struct Office {
    pub(super) instance: Arc<Instance>,
}

impl Office {
    fn start(instance: Instance) -> Self {
        instance.start().unwrap_or_else(|why| panic!("the server did not start: {why}"));
        Self { instance: Arc::new(instance) }
    }

    pub fn backend(&self) -> Backend {
        self.instance.database.backend()
    }

    /// The server's base URL, which changes with a restart.
    pub fn url(&self) -> String {
        self.instance.url()
    }

    /// What `ACTAS_DATABASE_URL` is here.
    pub fn database_url(&self) -> String {
        self.instance.database_url()
    }

    /// Whether PgBouncer is in between.
    pub fn is_pooled(&self) -> bool {
        self.instance.is_pooled()
    }

    /// Stops the server and starts it again on the same database. People stay logged in.
    pub fn restart(&self) {
        self.instance.stop();
        self.instance.start().unwrap_or_else(|why| panic!("the server did not start again: {why}"));
    }

    /// Stops the server.
    pub fn stop(&self) {
        self.instance.stop();
    }

    /// A server on the same database and with the same clock, of which some settings are others; empty takes one away.
    ///
    /// # Errors
    /// Why it did not start.
    pub fn start_again_with(&self, changed: &[(&str, &str)]) -> Result<Office, String> {
        let first = &self.instance;
        let mut settings = first.settings.clone();
        for (name, value) in changed {
            let name = format!("ACTAS_{name}");
            if value.is_empty() { drop(settings.remove(&name)) } else { drop(settings.insert(name, (*value).to_owned())) }
        }
        let instance = Instance { server: Mutex::new(None), database: Arc::clone(&first.database), clock: first.clock.clone(), settings };
        instance.start().map(|()| Self { instance: Arc::new(instance) })
    }

    /// Another server on the same database, with the same clock and settings.
    ///
    /// # Errors
    /// Why it did not start. On SQLite it must not.
    pub fn second_instance(&self) -> Result<Office, String> {
        let first = &self.instance;
        let second = Instance {
            server: Mutex::new(None),
            database: Arc::clone(&first.database),
            clock: first.clock.clone(),
            settings: first.settings.clone(),
        };
        second.start()?;
        Ok(Self { instance: Arc::new(second) })
    }

    /// Lets time pass.
    pub fn advance(&self, seconds: i64) {
        self.instance.clock.advance(seconds);
    }

    /// The instant that the server would tell.
    pub fn now(&self) -> Time {
        self.instance.clock.now()
    }

    /// Nobody: a caller without a token.
    pub fn anonymous(&self) -> Caller {
        Caller { instance: Arc::clone(&self.instance), token: None }
    }

    /// Asks `path` of the port of `ACTAS_OPS_BIND`.
    pub fn ops_get(&self, path: &str) -> Answer {
        self.anonymous().request("GET", path).send_to_ops()
    }

    pub fn administrator(&self) -> Person {
        self.person("administrator", "Ada Admin")
    }

    pub fn support(&self) -> Person {
        self.person("support", "Sue Support")
    }

    pub fn editor(&self) -> Person {
        self.person("editor", "Ed Editor")
    }

    pub fn author(&self) -> Person {
        self.person("author", "Ann Author")
    }

    /// Makes a user whose name nobody else has, and logs in.
    pub fn person(&self, role: &str, name: &str) -> Person {
        static MADE: AtomicU32 = AtomicU32::new(1);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let display_name = format!("{name} {number}");
        let email = format!("{}@example.org", display_name.to_lowercase().replace(' ', "."));
        let password = format!("correct horse {number}");
        let user = seam::NewUser { email: &email, display_name: &display_name, role, password: &password };
        let id = self.db_create_user(&user);
        let person = Person {
            id,
            email,
            password,
            display_name,
            role: role.to_owned(),
            session_id: String::new(),
            access_token: String::new(),
            refresh_token: String::new(),
            caller: self.anonymous(),
        };
        person.log_in_again()
    }

    /// Makes `actor` act as `subject`, with a reason, a ticket and a restore proof.
    pub fn impersonate(&self, actor: &Caller, subject: &Person) -> Acting {
        self.impersonate_with(actor, subject, json!({}))
    }

    /// As [`Office::impersonate`], with members of the start's body added or replaced; null takes one away.
    pub fn impersonate_with(&self, actor: &Caller, subject: &Person, members: Value) -> Acting {
        let restore_verifier = restore_verifier();
        let mut body =
            json!({ "reason": "the editor cannot act", "ticket": "HELP-1", "restore_challenge": restore_challenge(&restore_verifier) });
        let Value::Object(members) = members else { panic!("not an object: {members}") };
        for (name, value) in members {
            match value {
                Value::Null => drop(body.as_object_mut().unwrap().remove(&name)),
                value => body[name] = value,
            }
        }
        let answer = actor.post(&format!("/v1/users/{}/impersonate", subject.id), body).expect(201);
        let access_token = answer.str("access_token").to_owned();
        Acting {
            id: answer.str("session/impersonation/id").to_owned(),
            restore_verifier,
            caller: actor.with_token(&access_token),
            access_token,
            grant: answer.body,
        }
    }

    fn db_create_user(&self, user: &seam::NewUser<'_>) -> String {
        let created = seam::create_user(&self.instance.config(), &self.instance.clock, user);
        created.unwrap_or_else(|why| panic!("the user could not be made: {why}"))
    }

    /// Runs one statement past Actas, and tells how many rows it changed.
    ///
    /// # Errors
    /// Why the database refused it.
    pub fn db_execute(&self, sql: &str) -> Result<usize, String> {
        self.instance.database.execute(sql)
    }

    /// Runs statements one after the other on one connection past Actas, and stops at the first that is refused.
    ///
    /// # Errors
    /// Why the database refused it.
    pub fn db_script(&self, sql: &str) -> Result<(), String> {
        self.instance.database.script(sql)
    }

    /// Every row that `sql` answers with one column, named `value`, as text.
    pub fn db_lines(&self, sql: &str) -> Vec<String> {
        self.instance.database.lines(sql)
    }

    /// Migrates the database once more, as each command does that needs it, on a connection of its own.
    pub fn db_migrate(&self) -> Result<(), String> {
        seam::migrate(&self.database_url(), self.is_pooled())
    }

    /// Does `what` while another client of Postgres holds a table for itself alone.
    pub fn db_while_locked(&self, table: &str, what: impl FnOnce() + Send) {
        self.instance.database.while_locked(table, what);
    }

    /// [`Office::db_lines`] by another client of the pooler.
    pub fn db_pooled_lines(&self, sql: &str) -> Vec<String> {
        self.instance.database.pooled_lines(sql)
    }

    /// How the database would answer `sql`: a line a step.
    pub fn db_plan(&self, sql: &str) -> Vec<String> {
        self.instance.database.plan(sql)
    }

    /// Ends every connection to the database and lets no other in (Postgres).
    pub fn db_close(&self) {
        self.instance.database.close();
    }

    /// The number that `sql`, such as `SELECT count(*) FROM users`, answers.
    pub fn db_count(&self, sql: &str) -> i64 {
        self.instance.database.number(sql)
    }

    /// The one value that `sql` answers, as text; `None` where it is null or there is no row.
    pub fn db_text(&self, sql: &str) -> Option<String> {
        self.instance.database.text(sql)
    }

    /// A bare connection, for requests that no client library would send.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.instance.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Sends bytes as they are and reads one answer.
    pub fn raw(&self, request: impl AsRef<[u8]>) -> RawAnswer {
        let mut stream = self.connect();
        // A server may answer and close before it has read everything.
        let _ = stream.write_all(request.as_ref());
        RawAnswer::read(&mut stream)
    }
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub struct RawAnswer {
    /// The status line and the headers; empty where the server closed without a word.
    pub head: String,
    pub body: String,
}

impl RawAnswer {
    /// Reads one answer, to the end of its declared length or of the connection.
    pub fn read(stream: &mut TcpStream) -> Self {
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            let (head, body) = split_head(&bytes);
            if head.as_deref().and_then(declared_length).is_some_and(|length| body.len() >= length) {
                break;
            }
            match stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => bytes.extend_from_slice(&chunk[..read]),
                // A reset after the answer: the server had not read all of the request.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
            }
        }
        let (head, body) = split_head(&bytes);
        Self { head: head.unwrap_or_default(), body: String::from_utf8_lossy(body).into_owned() }
    }

    /// 0 where there was no answer.
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }
}

fn split_head(bytes: &[u8]) -> (Option<String>, &[u8]) {
    match bytes.windows(4).position(|window| window == b"\r\n\r\n") {
        Some(end) => (Some(String::from_utf8_lossy(&bytes[..end]).into_owned()), &bytes[end + 4..]),
        None => (None, &[]),
    }
}

fn declared_length(head: &str) -> Option<usize> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length")).and_then(|(_, value)| value.trim().parse().ok())
}

/// Does the same from many threads at the same moment.
pub fn at_once<T: Send>(threads: usize, what: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(threads);
    let (start, what) = (&start, &what);
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|number| {
                scope.spawn(move || {
                    start.wait();
                    what(number)
                })
            })
            .collect();
        started.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// The command line's program, untouched by the settings of whoever runs the tests.
pub fn actas(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_actas"));
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ACTAS_") {
            command.env_remove(name);
        }
    }
    command
}

pub(super) fn restore_verifier() -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    format!("restore-verifier-of-the-tests-with-number-{:08}", MADE.fetch_add(1, Ordering::Relaxed))
}

/// base64url(SHA-256(verifier)), as RFC 7636 §4.2 has it.
pub fn restore_challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes()))
}
