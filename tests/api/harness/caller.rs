//! Who calls: with a token or without, as oneself or as another.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use ureq::http;

use super::answer::Answer;
use super::office::{Instance, Office};

/// Somebody with a token, or nobody.
#[derive(Clone)]
pub struct Caller {
    pub(super) instance: Arc<Instance>,
    pub token: Option<String>,
}

/// A user who has logged in.
#[derive(Clone)]
pub struct Person {
    pub id: String,
    pub email: String,
    pub password: String,
    pub display_name: String,
    pub role: String,
    pub session_id: String,
    pub access_token: String,
    pub refresh_token: String,
    pub(super) caller: Caller,
}

/// Somebody who acts as another.
#[derive(Clone)]
pub struct Acting {
    /// The impersonation's id.
    pub id: String,
    pub access_token: String,
    /// What logout needs to give the original token back.
    pub restore_verifier: String,
    /// The whole answer to the start.
    pub grant: Value,
    pub(super) caller: Caller,
}

impl Deref for Person {
    type Target = Caller;
    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl Deref for Acting {
    type Target = Caller;
    fn deref(&self) -> &Caller {
        &self.caller
    }
}

/// A request that is being written.
pub struct Request<'c> {
    caller: &'c Caller,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Caller {
    /// Begins a request that the shorter methods can't say.
    pub fn request(&self, method: &str, path: &str) -> Request<'_> {
        let authorization = self.token.iter().map(|token| ("Authorization".to_owned(), format!("Bearer {token}")));
        Request { caller: self, method: method.to_owned(), path: path.to_owned(), headers: authorization.collect(), body: Vec::new() }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path).send()
    }

    /// A POST without a body.
    pub fn post_empty(&self, path: &str) -> Answer {
        self.request("POST", path).send()
    }

    pub fn post(&self, path: &str, body: Value) -> Answer {
        self.request("POST", path).json(&body).send()
    }

    pub fn put(&self, path: &str, body: Value) -> Answer {
        self.request("PUT", path).json(&body).send()
    }

    pub fn patch(&self, path: &str, body: Value) -> Answer {
        self.request("PATCH", path).json(&body).send()
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path).send()
    }

    /// The same server with another token, whatever it is.
    pub fn with_token(&self, token: &str) -> Caller {
        Caller { instance: Arc::clone(&self.instance), token: Some(token.to_owned()) }
    }

    /// The same token at another server.
    pub fn at(&self, office: &Office) -> Caller {
        Caller { instance: Arc::clone(&office.instance), token: self.token.clone() }
    }

    /// Every item of a listing, page by page.
    pub fn all_items(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut page = self.get(path).expect(200);
        loop {
            items.extend_from_slice(page.items());
            let Some(cursor) = page.value("next_cursor").as_str() else { return items };
            let separator = if path.contains('?') { '&' } else { '?' };
            page = self.get(&format!("{path}{separator}cursor={cursor}")).expect(200);
        }
    }
}

impl Person {
    /// Opens another session of the same user.
    pub fn log_in_again(&self) -> Person {
        let caller = Caller { instance: Arc::clone(&self.instance), token: None };
        let answer = caller.post("/v1/auth/login", json!({ "email": self.email, "password": self.password })).expect(200);
        let access_token = answer.str("access_token").to_owned();
        Person {
            session_id: answer.str("session/id").to_owned(),
            refresh_token: answer.str("refresh_token").to_owned(),
            caller: caller.with_token(&access_token),
            access_token,
            ..self.clone()
        }
    }

    pub fn log_out(&self) -> Answer {
        self.post_empty("/v1/auth/logout")
    }

    pub fn refresh(&self) -> Answer {
        let nobody = Caller { instance: Arc::clone(&self.instance), token: None };
        nobody.post("/v1/auth/refresh", json!({ "refresh_token": self.refresh_token }))
    }

    /// The name tag with which answers name this person.
    pub fn user_ref(&self) -> Value {
        json!({ "id": self.id, "email": self.email, "display_name": self.display_name })
    }
}

impl Acting {
    /// Logs out with the restore proof.
    pub fn log_out(&self) -> Answer {
        self.post("/v1/auth/logout", json!({ "restore_verifier": self.restore_verifier }))
    }
}

impl Request<'_> {
    /// Adds a header beside those of the same name.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("Content-Type", content_type)
    }

    /// Sends it to the server.
    #[track_caller]
    pub fn send(self) -> Answer {
        let url = self.caller.instance.url();
        self.send_to(&url)
    }

    /// Sends it to the port of `ACTAS_OPS_BIND`.
    #[track_caller]
    pub fn send_to_ops(self) -> Answer {
        let url = self.caller.instance.ops_url();
        self.send_to(&url)
    }

    #[track_caller]
    fn send_to(self, base: &str) -> Answer {
        let name = format!("{} {}", self.method, self.path);
        let mut request = http::Request::builder().method(self.method.as_str()).uri(format!("{base}{}", self.path));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let answer = if self.body.is_empty() {
            request.body(()).map_err(ureq::Error::from).and_then(|request| agent().run(request))
        } else {
            request.body(self.body).map_err(ureq::Error::from).and_then(|request| agent().run(request))
        };
        let (parts, mut body) = answer.unwrap_or_else(|error| panic!("{name}: {error}")).into_parts();
        let text = body.with_config().limit(64 << 20).read_to_string().unwrap_or_else(|error| panic!("{name}: {error}"));
        Answer::new(name, &parts, text)
    }
}

/// No connection is kept: a test may restart the server between two requests.
fn agent() -> &'static ureq::Agent {
    static AGENT: OnceLock<ureq::Agent> = OnceLock::new();
    AGENT.get_or_init(|| {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(0)
            .max_idle_connections(0)
            // They are filled with zeros at every connection, byte by byte in an unoptimised build. The longest token of the tests has 20,000.
            .input_buffer_size(16 * 1024)
            .output_buffer_size(32 * 1024)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(60)));
        config.build().into()
    })
}
