//! A service on actix-web that accepts tokens of Actas: who is it, and who is really there?
//!
//! ```text
//! ACTAS_ISSUER=http://localhost:8080 AUDIENCE=https://billing.example CLIENT_ID=… CLIENT_SECRET=… cargo run --example accept_tokens
//! ```

#![expect(clippy::disallowed_methods, reason = "an example has no module for settings")]

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use actix_web::{App, FromRequest, HttpRequest, HttpResponse, HttpServer, ResponseError, get, post, put, web};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};

/// What the service knows of Actas.
struct Actas {
    issuer: String,
    audience: String,
    client: (String, String),
    metadata: Value,
    keys: Mutex<(JwkSet, Instant)>,
}

/// How long the keys are kept, so that a retired one goes.
const MAX_AGE: Duration = Duration::from_secs(60);

/// How often an unknown key may make us ask for the keys anew, so that strangers can't make us ask all the time.
const COOLDOWN: Duration = Duration::from_secs(5);

impl Actas {
    /// Finds out where the keys are, and where to ask: below the issuer's host, before its path (RFC 8414 §3.1). The issuer must be the one that was meant.
    fn discover() -> Result<Self, Box<dyn Error>> {
        let var = |name: &str| std::env::var(name).map_err(|_| format!("{name} must be set"));
        let issuer = var("ACTAS_ISSUER")?;
        let (scheme, rest) = issuer.split_once("://").ok_or("the issuer must be a URL")?;
        let (host, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let url = format!("{scheme}://{host}/.well-known/oauth-authorization-server{}", path.trim_end_matches('/'));
        let mut answer = ureq::get(url).call()?;
        let metadata: Value = answer.body_mut().read_json()?;
        if metadata["issuer"] != *issuer {
            return Err(format!("expected the issuer {issuer}, found {}", metadata["issuer"]).into());
        }
        let keys = Mutex::new((fetch_keys(&metadata)?, Instant::now()));
        Ok(Self { audience: var("AUDIENCE")?, client: (var("CLIENT_ID")?, var("CLIENT_SECRET")?), issuer, metadata, keys })
    }

    /// The key with this name. Asked for anew where it is not known yet, and every minute: keys are rotated, and retired.
    fn key(&self, kid: &str) -> Option<(DecodingKey, Algorithm)> {
        let mut keys = self.keys.lock().ok()?;
        let age = keys.1.elapsed();
        if age > MAX_AGE || (age > COOLDOWN && keys.0.find(kid).is_none()) {
            *keys = (fetch_keys(&self.metadata).ok()?, Instant::now());
        }
        let jwk = keys.0.find(kid)?;
        // The key says which algorithm is its own; what the token says alone counts for nothing.
        let algorithm = match jwk.common.key_algorithm?.to_string().as_str() {
            "EdDSA" => Algorithm::EdDSA,
            "RS256" => Algorithm::RS256,
            _ => return None,
        };
        Some((DecodingKey::from_jwk(jwk).ok()?, algorithm))
    }

    fn verify(&self, token: &str) -> Result<Caller, Refused> {
        let invalid = || Refused(StatusCode::UNAUTHORIZED, Some("invalid_token"), "the access token is not valid");
        let header = decode_header(token).map_err(|_| invalid())?;
        // An access token (RFC 9068), and no other kind of JWT.
        let typ = header.typ.unwrap_or_default().to_ascii_lowercase();
        if typ != "at+jwt" && typ != "application/at+jwt" {
            return Err(invalid());
        }
        let (key, algorithm) = header.kid.and_then(|kid| self.key(&kid)).ok_or_else(invalid)?;
        let mut validation = Validation::new(algorithm);
        validation.leeway = 5; // seconds that two clocks may differ
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        // Ours, and nobody else's: a token for another service is not for us to accept.
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
        let claims = decode::<Value>(token, &key, &validation).map_err(|_| invalid())?.claims;
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let subject = text(&claims["sub"]).ok_or_else(invalid)?;
        let client_id = text(&claims["client_id"]).ok_or_else(invalid)?;
        if text(&claims["jti"]).is_none() || text(&claims["sid"]).is_none() || !claims["iat"].is_i64() {
            return Err(invalid());
        }
        let actor = match claims.get("act") {
            None => None,
            Some(act) => Some(text(&act["sub"]).filter(|_| act.get("act").is_none()).ok_or_else(invalid)?),
        };
        // A service's own token: `sub` is the client then, and no user.
        if subject == client_id {
            return Err(Refused(StatusCode::FORBIDDEN, None, "this needs a user"));
        }
        Ok(Caller { token: token.to_owned(), subject, actor })
    }

    /// Asks Actas whether the token still counts *now*: the signature can't tell that its session was ended (RFC 7662).
    fn introspect(&self, token: &str) -> Result<Value, Refused> {
        let unchecked = |_| Refused(StatusCode::SERVICE_UNAVAILABLE, None, "the token could not be checked");
        let endpoint = self.metadata["introspection_endpoint"].as_str().unwrap_or_default();
        let form = [("client_id", self.client.0.as_str()), ("client_secret", &self.client.1), ("token", token)];
        let known = ureq::post(endpoint).send_form(form).and_then(|mut answer| answer.body_mut().read_json::<Value>());
        let known = known.map_err(unchecked)?;
        if known["active"] == true {
            Ok(known)
        } else {
            Err(Refused(StatusCode::UNAUTHORIZED, Some("invalid_token"), "the access token is over"))
        }
    }
}

fn fetch_keys(metadata: &Value) -> Result<JwkSet, ureq::Error> {
    ureq::get(metadata["jwks_uri"].as_str().unwrap_or_default()).call()?.body_mut().read_json()
}

/// Who calls: the user as whom, and the administrator who acts as the user, if one does.
struct Caller {
    token: String,
    subject: String,
    actor: Option<String>,
}

impl FromRequest for Caller {
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Refused>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let actas = request.app_data::<web::Data<Actas>>().cloned();
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token =
            header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer")).map(|(_, token)| token.trim().to_owned());
        Box::pin(async move {
            let (Some(actas), Some(token)) = (actas, token) else {
                return Err(Refused(StatusCode::UNAUTHORIZED, None, "an access token is needed"));
            };
            // Fetching keys blocks, and must not do so on a worker.
            blocking(move || actas.verify(&token)).await
        })
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refused> + Send + 'static) -> Result<T, Refused> {
    web::block(work).await.unwrap_or(Err(Refused(StatusCode::SERVICE_UNAVAILABLE, None, "too much to do")))
}

/// Status, the `error` of RFC 6750 §3.1, and a sentence.
#[derive(Debug, Clone, Copy)]
struct Refused(StatusCode, Option<&'static str>, &'static str);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.2)
    }
}

impl ResponseError for Refused {
    fn status_code(&self) -> StatusCode {
        self.0
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.0);
        if self.0 == StatusCode::UNAUTHORIZED {
            let error = self.1.map_or(String::new(), |error| format!(" error=\"{error}\""));
            response.insert_header((WWW_AUTHENTICATE, format!("Bearer{error}")));
        }
        response.json(json!({ "detail": self.2 }))
    }
}

/// Reading: the signature is enough. A token that was ended goes on until it expires.
#[get("/whoami")]
async fn who_am_i(caller: Caller) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "subject": caller.subject, "actor": caller.actor }))
}

/// Writing: ask. What is written names both, as the history of Actas does.
#[post("/orders")]
async fn order(caller: Caller, actas: web::Data<Actas>) -> Result<HttpResponse, Refused> {
    let token = caller.token;
    let known = blocking(move || actas.introspect(&token)).await?;
    if known["mode"] == "read_only" {
        return Err(Refused(StatusCode::FORBIDDEN, None, "this impersonation is read-only"));
    }
    Ok(HttpResponse::Ok().json(json!({ "ordered_by": caller.subject, "acting": caller.actor })))
}

/// Only for the user in person.
#[put("/payment-details")]
async fn change_payment_details(caller: Caller, actas: web::Data<Actas>) -> Result<HttpResponse, Refused> {
    if caller.actor.is_some() {
        return Err(Refused(StatusCode::FORBIDDEN, None, "not while somebody acts as the user"));
    }
    let token = caller.token;
    blocking(move || actas.introspect(&token)).await?;
    Ok(HttpResponse::Ok().json(json!({ "changed_by": caller.subject })))
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let actas = web::Data::from(Arc::new(Actas::discover()?));
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(0);
    let server =
        HttpServer::new(move || App::new().app_data(actas.clone()).service(who_am_i).service(order).service(change_payment_details));
    let server = server.workers(1).bind(("127.0.0.1", port))?;
    for address in server.addrs() {
        #[expect(clippy::print_stdout, reason = "so that whoever starts it finds it")]
        {
            println!("listening on http://{address}");
        }
    }
    Ok(server.run().await?)
}
