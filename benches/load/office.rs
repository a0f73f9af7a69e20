//! A running Actas with people who have articles, and an administrator who acts as them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::bare::Answer;
use crate::postgres::{Database, Place};
use crate::program::{Program, run};
use crate::wrk::Call;

/// How many people there are, each with a token and an article: as many as clients at most.
pub const PEOPLE: usize = 64;

pub const PASSWORD: &str = "a good password";

/// Somebody with an article.
pub struct Person {
    pub id: String,
    pub email: String,
    pub token: String,
    pub article: String,
    /// A session of the administrator's for them alone: what somebody does in one session is done one after the other.
    pub admin: String,
}

/// How an office differs from the usual one.
pub struct Setup {
    pub people: usize,
    /// Settings of the server, beside the usual ones.
    pub settings: Vec<(&'static str, String)>,
}

impl Default for Setup {
    fn default() -> Self {
        // What a hash costs is measured where it is what is measured.
        Self { people: PEOPLE, settings: vec![("ACTAS_BCRYPT_COST", "4".to_owned())] }
    }
}

/// A running server with people.
pub struct Office {
    pub url: String,
    pub database: Database,
    pub people: Vec<Person>,
    agent: ureq::Agent,
    program: Program,
}

/// The command to run, on this database.
fn actas(database: &Database, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("ACTAS_BIN").unwrap_or(env!("CARGO_BIN_EXE_actas").into()));
    command.args(arguments).env("ACTAS_DATABASE_URL", &database.url).env("ACTAS_LOG", "error").stderr(Stdio::null());
    // So that no row is measured with tokens that have run out, however long those before it took.
    command.env("ACTAS_ACCESS_TOKEN_TTL_SECONDS", "86400");
    command
}

/// Gives a new database its tables.
pub fn migrate(database: &Database) {
    run(&mut actas(database, &["migrate"]));
}

impl Office {
    pub fn open(place: Place<'_>, setup: Setup) -> Self {
        Self::open_at(place.new_database(), setup)
    }

    pub fn open_at(database: Database, setup: Setup) -> Self {
        let actas = |arguments: &[&str]| {
            let mut command = actas(&database, arguments);
            command.envs(setup.settings.iter().map(|(name, value)| (name, value)));
            command
        };
        let create = |email: &str, role: &str| {
            let arguments = ["user", "create", "--email", email, "--name", "Somebody", "--role", role, "--password-stdin"];
            let mut child = actas(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        migrate(&database);
        create("ada@example.org", "administrator");
        let authors: Vec<(String, String)> = (0..setup.people)
            .map(|number| {
                let email = format!("author.{number}@example.org");
                (create(&email, "author"), email)
            })
            .collect();
        let (program, url) = Program::listening(actas(&["serve", "--bind", "127.0.0.1:0"]));
        let mut office = Self { url, database, people: Vec::new(), agent: ureq::Agent::new_with_defaults(), program };
        let text = json!({ "title": "On tides", "abstract": "Why the sea moves.", "body": "It just does." });
        for (id, email) in authors {
            let (token, admin) = (office.log_in(&email), office.log_in("ada@example.org"));
            let made = office.post("/v1/articles", &token, &text);
            let article = format!("/v1/articles/{}", made["id"].as_str().unwrap());
            office.people.push(Person { id, email, token, article, admin });
        }
        office
    }

    pub fn log_in(&self, email: &str) -> String {
        let grant = self.post("/v1/auth/login", "", &json!({ "email": email, "password": PASSWORD }));
        grant["access_token"].as_str().unwrap().to_owned()
    }

    pub fn post(&self, path: &str, token: &str, body: &Value) -> Value {
        serde_json::from_str(&self.ask(&Call::post(path, token, body.to_string())).body).unwrap()
    }

    pub fn get(&self, path: &str, token: &str) -> Value {
        serde_json::from_str(&self.ask(&Call::get(path, token)).body).unwrap()
    }

    /// The answer to one call, for a bare server to repeat.
    pub fn ask(&self, call: &Call) -> Answer {
        let (url, bearer) = (format!("{}{}", self.url, call.path), format!("Bearer {}", call.token));
        let mut response = match &call.body {
            None => self.agent.get(url).header("Authorization", bearer).call().unwrap(),
            Some(body) => {
                let request = self.agent.post(url).header("Authorization", bearer).content_type("application/json");
                request.send(body.as_str()).unwrap()
            }
        };
        let written_by_actix = ["content-length", "date", "connection", "transfer-encoding"];
        let headers = response.headers().iter().filter(|(name, _)| !written_by_actix.contains(&name.as_str()));
        let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        Answer { status: response.status().as_u16(), headers, body: response.body_mut().read_to_string().unwrap() }
    }

    /// Acts as each of the first `count` people from now on, with the tokens that are answered.
    pub fn act(&self, count: usize) -> Vec<String> {
        let starts = self.starts(count).into_iter();
        starts
            .map(|start| {
                let grant: Value = serde_json::from_str(&self.ask(&start).body).unwrap();
                grant["access_token"].as_str().unwrap().to_owned()
            })
            .collect()
    }

    /// How to begin to act as each of the first `count` people.
    pub fn starts(&self, count: usize) -> Vec<Call> {
        let body = json!({ "reason": "a benchmark" }).to_string();
        let start = |person: &Person| Call::post(&format!("/v1/users/{}/impersonate", person.id), &person.admin, body.clone());
        self.people[..count].iter().map(start).collect()
    }

    /// The session of the first person's token, and the key that signed that, as the database knows them.
    pub fn session_and_kid(&self) -> (String, String) {
        let part = |number: usize| -> Value {
            let part = self.people[0].token.split('.').nth(number).unwrap();
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        (part(1)["sid"].as_str().unwrap().to_owned(), part(0)["kid"].as_str().unwrap().to_owned())
    }

    pub fn resident_mib(&self) -> f64 {
        self.program.resident_mib()
    }
}
