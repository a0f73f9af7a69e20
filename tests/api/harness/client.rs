//! OAuth clients: programs that speak forms.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::answer::Answer;
use super::caller::{Acting, Caller, Person, Request};
use super::jwt::claims_of;
use super::office::{Office, restore_challenge, restore_verifier};
use super::seam;

/// The grant of a token exchange.
pub const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// An access token, as a kind of token.
pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// A JWT, as a kind of token.
pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// A user's id, as a kind of token.
pub const USER_ID: &str = "urn:actas:params:oauth:token-type:user_id";

/// The audience of a service beside Actas, which the tests' clients may address unless they are told otherwise.
pub const BILLING: &str = "https://billing.example";

/// A registered client, or the first-party one, which has no secret.
#[derive(Clone)]
pub struct Client {
    pub id: String,
    pub secret: String,
    pub(super) caller: Caller,
}

/// A form's parameters.
pub type Parameters<'a> = [(&'a str, &'a str)];

/// As `application/x-www-form-urlencoded`.
pub fn form(parameters: &Parameters<'_>) -> String {
    let pairs: Vec<String> = parameters.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    pairs.join("&")
}

/// Percent-encoded.
pub fn encoded(text: &str) -> String {
    text.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// `Basic` credentials, form-encoded first (RFC 6749 §2.3.1).
pub fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret))))
}

/// `usual` and then `more`, which replaces what has the same name.
fn merged<'a>(usual: &Parameters<'a>, more: &Parameters<'a>) -> Vec<(&'a str, &'a str)> {
    let kept = usual.iter().filter(|(name, _)| more.iter().all(|(other, _)| name != other));
    kept.chain(more).copied().collect()
}

impl Client {
    /// The same client at another server.
    pub fn at(&self, office: &Office) -> Self {
        Self { caller: self.caller.at(office), ..self.clone() }
    }

    /// The same client with another secret.
    pub fn with_secret(&self, secret: &str) -> Self {
        Self { secret: secret.to_owned(), ..self.clone() }
    }

    /// A request with a form and without any credentials.
    pub fn bare(&self, path: &str, parameters: &Parameters<'_>) -> Request<'_> {
        self.caller.request("POST", path).body("application/x-www-form-urlencoded", form(parameters))
    }

    /// Posts a form as this client: by `client_secret_basic`, or with its id alone where it has no secret.
    #[track_caller]
    pub fn post(&self, path: &str, parameters: &Parameters<'_>) -> Answer {
        if self.secret.is_empty() {
            return self.bare(path, &merged(&[("client_id", self.id.as_str())], parameters)).send();
        }
        self.bare(path, parameters).header("Authorization", &basic(&self.id, &self.secret)).send()
    }

    #[track_caller]
    pub fn token(&self, parameters: &Parameters<'_>) -> Answer {
        self.post("/oauth/token", parameters)
    }

    /// Asks for a token of its own.
    #[track_caller]
    pub fn credentials(&self, more: &Parameters<'_>) -> Answer {
        self.token(&merged(&[("grant_type", "client_credentials")], more))
    }

    /// Exchanges an access token for a narrower one; `more` adds or replaces parameters, and an empty one is absent.
    #[track_caller]
    pub fn exchange(&self, token: &str, more: &Parameters<'_>) -> Answer {
        let usual = [("grant_type", TOKEN_EXCHANGE), ("subject_token", token), ("subject_token_type", ACCESS_TOKEN)];
        self.token(&merged(&usual, more))
    }

    /// Makes whoever has `actor_token` act as the user with the id `subject`; `more` as at [`Client::exchange`].
    #[track_caller]
    pub fn start(&self, actor_token: &str, subject: &str, more: &Parameters<'_>) -> Answer {
        let usual = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", subject),
            ("subject_token_type", USER_ID),
            ("actor_token", actor_token),
            ("actor_token_type", ACCESS_TOKEN),
            ("reason", "the editor cannot act"),
        ];
        self.token(&merged(&usual, more))
    }

    /// Makes `actor` act as `subject`, with a restore proof.
    #[track_caller]
    pub fn impersonate(&self, actor: &Person, subject: &Person, more: &Parameters<'_>) -> Acting {
        let restore_verifier = restore_verifier();
        let challenge = restore_challenge(&restore_verifier);
        let usual = [("ticket", "HELP-1"), ("restore_challenge", challenge.as_str())];
        let answer = self.start(&actor.access_token, &subject.id, &merged(&usual, more)).expect(200);
        let access_token = answer.str("access_token").to_owned();
        Acting {
            id: claims_of(&access_token)["sid"].as_str().unwrap().to_owned(),
            restore_verifier,
            caller: self.caller.with_token(&access_token),
            access_token,
            grant: answer.body,
        }
    }

    #[track_caller]
    pub fn introspect(&self, token: &str) -> Answer {
        self.post("/oauth/introspect", &[("token", token)])
    }

    #[track_caller]
    pub fn revoke(&self, token: &str) -> Answer {
        self.post("/oauth/revoke", &[("token", token)])
    }

    /// Demands that a token counts, and answers what is told of it.
    #[track_caller]
    pub fn finds_active(&self, token: &str) -> Value {
        let answer = self.introspect(token).expect(200);
        assert_eq!(answer.body["active"], true, "{answer}");
        answer.body
    }

    /// Demands that nothing is told of a token but that it does not count.
    #[track_caller]
    pub fn finds_inactive(&self, token: &str) {
        let answer = self.introspect(token).expect(200);
        assert_eq!(answer.body, json!({ "active": false }), "{answer}");
    }
}

impl Office {
    /// Registers a client with every grant that one can have, every scope, and the audiences `actas` and [`BILLING`]; `members` replaces those, by their names
    /// in `/v1/clients`.
    pub fn client(&self, members: Value) -> Client {
        let mut terms = json!({
            "name": "Billing",
            "grants": ["client_credentials", "impersonate", "token_exchange"],
            "scope": seam::every_scope(),
            "audiences": ["actas", BILLING],
            "presenters": [],
        });
        let Value::Object(members) = members else { panic!("not an object: {members}") };
        for (name, value) in members {
            assert!(terms.get(&name).is_some(), "what is `{name}`?");
            terms[name] = value;
        }
        let made = seam::create_client(&self.instance.config(), &self.instance.clock, &terms);
        let (id, secret) = made.unwrap_or_else(|why| panic!("the client could not be made: {why}"));
        Client { id, secret, caller: self.anonymous() }
    }

    /// Such a client, which the first-party client lists: it may present the tokens of logins.
    pub fn presenter(&self, members: Value) -> Client {
        let client = self.client(members);
        let known = self.db_text("SELECT presenters AS value FROM clients WHERE id = 'actas'").unwrap_or_default();
        let all: Vec<&str> = known.split_whitespace().chain([client.id.as_str()]).collect();
        self.change_client("actas", json!({ "presenters": all }));
        client
    }

    /// The client of logins and plain starts. It is public.
    pub fn first_party(&self) -> Client {
        Client { id: "actas".to_owned(), secret: String::new(), caller: self.anonymous() }
    }

    /// Changes a client's terms: `status`, `grants`, `scope`, `audiences`, `presenters`.
    pub fn change_client(&self, id: &str, change: Value) {
        let changed = seam::change_client(&self.instance.config(), &self.instance.clock, id, &change);
        changed.unwrap_or_else(|why| panic!("the client could not be changed: {why}"));
    }

    pub fn disable_client(&self, client: &Client) {
        self.change_client(&client.id, json!({ "status": "disabled" }));
    }

    /// The client with a new secret; the old one counts for `overlap_seconds` more.
    pub fn renew_client_secret(&self, client: &Client, overlap_seconds: u32) -> Client {
        let secret = seam::rotate_client_secret(&self.instance.config(), &self.instance.clock, &client.id, overlap_seconds);
        client.with_secret(&secret.unwrap_or_else(|why| panic!("the client got no new secret: {why}")))
    }
}
