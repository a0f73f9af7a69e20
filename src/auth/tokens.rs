//! Access tokens: JWTs (RFC 7519) as RFC 9068 shapes them, in JWS compact form (RFC 7515), signed with Ed25519 (RFC 8037) or RS256 (RFC 7518).
//!
//! A token proves that Actas said something once; whether it still holds is the session row's to say. So everything here is
//! about form and signature, and a token is accepted only in the one spelling in which it was handed out.
//!
//! The header and the claims are read by hand from JSON instead of being derived: derived readers take an array for an
//! object, `null` for an absent member and the last of two members of one name, and each of these has been somebody's hole.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use quick_cache::sync::Cache;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::keys::{Algorithm, SigningKey, is_kid};
use crate::domain::Time;
use crate::domain::client::{Audience, ClientId};
use crate::domain::error::{Code, Error, Result};
use crate::domain::ids::{ArticleId, SessionId, UserId};

/// The longest token that is looked at. Ours have about 700 bytes, 1,000 with RSA.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// How far ahead the clock of the machine that made a token may be, in seconds: for `nbf` and `iat`.
const LEEWAY_SECONDS: i64 = 5;

/// How many checked tokens are remembered, of about 2 KB each: a token more than that is checked again.
const MOST_CHECKED: usize = 4096;

/// How many tokens that were made again are remembered, of about 1 KB each.
const MOST_RESIGNED: usize = 1024;

/// The media type of an access token (RFC 9068 §2.1), without `application/`.
const TOKEN_TYPE: &str = "at+jwt";

/// What an access token claims (RFC 9068 §2.2), in the order in which it is written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AccessClaims {
    /// Who made the token: [`Tokens::issuer`].
    pub iss: String,
    /// The subject: the user as whom requests run, the impersonated one under impersonation; or a client by itself.
    pub sub: Subject,
    /// Whom the token is for; at least one. Written as a string where it is one (RFC 7519 §4.1.3).
    #[serde(serialize_with = "write_audiences")]
    pub aud: Vec<Audience>,
    /// The client to which it was given.
    pub client_id: ClientId,
    /// The first second, since 1970, at which the token no longer counts.
    pub exp: i64,
    /// When it was made, in seconds since 1970.
    pub iat: i64,
    /// The first second, since 1970, at which the token counts.
    pub nbf: i64,
    /// Names the token; no two have the same.
    pub jti: String,
    /// The session whose row decides whether the token still counts.
    pub sid: SessionId,
    /// How far the token reaches (RFC 9068 §2.2.3), for others to read: Actas itself goes by the session's row. Absent from what a login or a plain start gives,
    /// which reach as far as the user does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The resources to which an impersonation reaches that was started for some alone (RFC 9396 §9.1), for others to read: Actas itself goes by the session's
    /// row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization_details: Option<Vec<AuthorizationDetail>>,
    /// In a token that was exchanged for another: the own session or the impersonation on which `sid` hangs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_sid: Option<SessionId>,
    /// The actor, under impersonation and only then (RFC 8693 §4.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<Actor>,
}

/// One resource to which a token reaches (RFC 9396 §2).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AuthorizationDetail {
    pub r#type: &'static str,
    pub identifier: String,
}

impl AuthorizationDetail {
    /// The kind of resource that there is.
    pub const ARTICLE: &'static str = "article";

    /// An article.
    pub fn article(id: ArticleId) -> Self {
        Self { r#type: Self::ARTICLE, identifier: id.to_string() }
    }
}

/// The claim `act`: the person really at the keyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Actor {
    pub sub: UserId,
}

/// Whom a token speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    User(UserId),
    /// The client by itself (RFC 9068 §2.2: `sub` is then its id).
    Client(ClientId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => id.fmt(f),
            Self::Client(id) => id.fmt(f),
        }
    }
}

impl serde::Serialize for Subject {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl AccessClaims {
    /// The user for whom the token speaks; nobody where a client speaks for itself.
    pub fn user(&self) -> Option<UserId> {
        match self.sub {
            Subject::User(id) => Some(id),
            Subject::Client(_) => None,
        }
    }

    /// Whether a row of the token alone stands behind it, which is there as long as the token counts: a narrower token's, or a client's own.
    pub fn has_row_of_its_own(&self) -> bool {
        self.root_sid.is_some() || matches!(self.sub, Subject::Client(_))
    }

    /// Whether the token is for `audience`, alone or among others.
    pub fn is_for(&self, audience: &str) -> bool {
        self.aud.iter().any(|aud| aud.as_str() == audience)
    }
}

fn write_audiences<S: serde::Serializer>(audiences: &[Audience], serializer: S) -> Result<S::Ok, S::Error> {
    match audiences {
        [one] => serializer.serialize_str(one.as_str()),
        many => serializer.collect_seq(many),
    }
}

/// A token of ours, as it was handed out.
#[derive(Debug, Clone)]
pub struct Verified {
    pub claims: AccessClaims,
    /// The key that signed it.
    pub kid: String,
    /// Header and payload exactly as received: all that has to be kept to make the same token again ([`Tokens::resign`]).
    /// Worth nothing without the signature.
    pub signing_input: String,
    /// Whether our audience is among its own.
    pub is_for_us: bool,
}

impl Verified {
    /// Whether the token's own time is over at `now`. Exact: there is no leeway (RFC 7519 §4.1.4).
    pub fn is_expired(&self, now: Time) -> bool {
        now.timestamp() >= self.claims.exp
    }
}

/// A token that is not one of ours. The reason is for debugging and carries nothing of the token; callers learn only that it is
/// invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid access token: {reason}")]
pub struct TokenError {
    pub reason: &'static str,
}

impl From<TokenError> for Error {
    fn from(_: TokenError) -> Self {
        Self::new(Code::InvalidToken, "the access token is not valid")
    }
}

/// Why a token was not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unverified {
    /// It is not one of ours.
    Refused(TokenError),
    /// It may be one of ours: it names a key, by this kid, that is not in the ring. Nothing else of it was looked at.
    UnknownKey(String),
}

impl From<TokenError> for Unverified {
    fn from(error: TokenError) -> Self {
        Self::Refused(error)
    }
}

impl From<Unverified> for TokenError {
    /// A key that nobody knows is no key.
    fn from(unverified: Unverified) -> Self {
        match unverified {
            Unverified::Refused(error) => error,
            Unverified::UnknownKey(_) => Self { reason: "kid" },
        }
    }
}

fn refused<T, E: From<TokenError>>(reason: &'static str) -> Result<T, E> {
    Err(TokenError { reason }.into())
}

/// What a token is known again by: all of it, so that one that differs in a single character is another.
fn fingerprint(token: &str) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest.as_ref());
    fingerprint
}

/// What a token's header says: these members in this order.
#[derive(serde::Serialize)]
struct OwnHeader<'a> {
    typ: &'static str,
    alg: &'static str,
    kid: &'a str,
}

/// Signs and checks access tokens with the keys of its ring, which grows as keys are met and shrinks as they are retired. Which of
/// them signs is not its business: the database says so.
pub struct Tokens {
    ring: RwLock<HashMap<String, Arc<SigningKey>>>,
    /// Tokens that were made here or whose signature was found to be ours, by their SHA-256: each is checked once at most, not at every request. Says nothing of their
    /// keys, sessions or times.
    checked: Cache<[u8; 32], Arc<Verified>>,
    /// Original tokens that were made again, by the SHA-256 of what was signed: an administrator comes back to the same one many times, and to sign takes longer than
    /// all else that leads there.
    resigned: Cache<[u8; 32], Arc<Resigned>>,
    issuer: String,
    audience: String,
}

/// A token that [`Tokens::resign`] made, and all that it was asked to be.
struct Resigned {
    kid: String,
    subject: UserId,
    sid: SessionId,
    token: String,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Tokens {
    pub fn new(keys: Vec<SigningKey>, issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        let ring = keys.into_iter().map(|key| (key.kid.clone(), Arc::new(key))).collect();
        let (checked, resigned) = (Cache::new(MOST_CHECKED), Cache::new(MOST_RESIGNED));
        Self { ring: RwLock::new(ring), checked, resigned, issuer: issuer.into(), audience: audience.into() }
    }

    /// Puts a key on the ring.
    pub fn add(&self, key: SigningKey) {
        // A panic elsewhere can't leave a map half changed, so its poison means nothing.
        self.ring.write().unwrap_or_else(PoisonError::into_inner).insert(key.kid.clone(), Arc::new(key));
    }

    /// Takes a key off the ring, and forgets what it signed again.
    pub fn forget(&self, kid: &str) {
        self.ring.write().unwrap_or_else(PoisonError::into_inner).remove(kid);
        self.resigned.retain(|_, resigned| resigned.kid != kid);
    }

    /// The key with this kid, if it is on the ring.
    pub fn key(&self, kid: &str) -> Option<Arc<SigningKey>> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).get(kid).map(Arc::clone)
    }

    /// The `iss` of every token.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The `aud` of every token.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// Makes the token with these claims, signed with the key of this kid.
    ///
    /// # Errors
    /// An internal error if the ring lacks the key or the cryptographic library fails.
    pub fn sign(&self, kid: &str, claims: &AccessClaims) -> Result<String> {
        let key = self.key(kid).ok_or_else(|| Error::internal("a key that is to sign is not on the ring"))?;
        let header = OwnHeader { typ: TOKEN_TYPE, alg: key.algorithm.as_str(), kid };
        let part = |json: serde_json::Result<Vec<u8>>| json.map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(Error::internal);
        let payload = part(serde_json::to_vec(claims))?;
        let signing_input = format!("{}.{payload}", part(serde_json::to_vec(&header))?);
        let signature = key.sign(signing_input.as_bytes()).map_err(Error::internal)?;
        let token = format!("{signing_input}.{signature}");
        // Whoever is given it for us comes with it soon, and to check a signature takes longer than to make it. What is remembered is what would be read.
        if let Ok(claims) = self.read_claims(&payload)
            && claims.is_for(&self.audience)
        {
            self.checked.insert(fingerprint(&token), Arc::new(self.verified(claims, &key, signing_input)));
        }
        Ok(token)
    }

    /// Makes again the token that once had this `signing_input`, byte for byte: both algorithms are deterministic.
    ///
    /// Only an own access token of `subject` in the session `sid` is signed, so that a changed record can't get a signature on
    /// something else.
    ///
    /// # Errors
    /// An internal error if the key is gone or the record is not such a token's.
    pub fn resign(&self, kid: &str, signing_input: &str, subject: UserId, sid: SessionId) -> Result<String> {
        let fingerprint = fingerprint(signing_input);
        let is_it = |known: &Arc<Resigned>| known.kid == kid && known.subject == subject && known.sid == sid;
        // What another thread made meanwhile with a key that has left the ring is given to nobody.
        if let Some(known) = self.resigned.get(&fingerprint).filter(|known| is_it(known) && self.key(kid).is_some()) {
            return Ok(known.token.clone());
        }
        let damaged = |error: TokenError| Error::internal(format!("a recorded token can't be signed again: {error}"));
        let (header, payload) = signing_input.split_once('.').ok_or_else(|| Error::internal("a recorded token has no payload"))?;
        let key = self.key_of(header).map_err(|unverified| damaged(unverified.into()))?;
        if key.kid != kid {
            return Err(Error::internal("a recorded token names another key than its record"));
        }
        let claims = self.read_claims(payload).map_err(damaged)?;
        if claims.sub != Subject::User(subject) || !claims.is_for(&self.audience) || claims.sid != sid || claims.act.is_some() {
            return Err(Error::internal("a recorded token is not the original session's"));
        }
        let signature = key.sign(signing_input.as_bytes()).map_err(Error::internal)?;
        let token = format!("{signing_input}.{signature}");
        self.resigned.insert(fingerprint, Arc::new(Resigned { kid: kid.to_owned(), subject, sid, token: token.clone() }));
        Ok(token)
    }

    /// Checks that `token` is an access token that this service made, for this audience, and reads it.
    ///
    /// # Errors
    /// As [`Tokens::verify_for_anyone`], and for another audience (RFC 7519 §4.1.3).
    pub fn verify(&self, token: &str, now: Time) -> Result<Arc<Verified>, Unverified> {
        let verified = self.verify_for_anyone(token, now)?;
        if verified.is_for_us { Ok(verified) } else { refused("aud") }
    }

    /// Checks that `token` is an access token that this service made, whomever it is for, and reads it. For the endpoints at which tokens are presented that are
    /// meant for other services.
    ///
    /// **Expiry is not checked**, because logout has to recognise an impersonation's token past its time: every other caller
    /// asks [`Verified::is_expired`] or the session's row, which ends no later than the token. Nor does it say that the session
    /// still lives.
    ///
    /// # Errors
    /// [`Unverified::UnknownKey`] where the ring lacks the key that the header names, and the header is otherwise as ours are.
    /// [`Unverified::Refused`] for everything else: form (one spelling only, RFC 7515 §3.1), header (exactly `alg`, `kid` and `typ`: a
    /// `crit`, `b64`, `jwk`, `jku`, `x5u`, `x5c`, `zip` or `cty` was never ours), key, signature, and each claim's presence and
    /// JSON type; `nbf` and `iat` more than 5 s ahead of `now`.
    pub fn verify_for_anyone(&self, token: &str, now: Time) -> Result<Arc<Verified>, Unverified> {
        if token.len() > MAX_TOKEN_BYTES {
            return refused("too long");
        }
        let fingerprint = fingerprint(token);
        // A key that left the ring since takes its tokens along: they are looked at again from the beginning.
        let known = self.checked.get(&fingerprint).filter(|verified| self.key(&verified.kid).is_some());
        let verified = match known {
            Some(verified) => verified,
            None => {
                let verified = Arc::new(self.check(token)?);
                // What is over is presented for logging out at most.
                if !verified.is_expired(now) {
                    self.checked.insert(fingerprint, Arc::clone(&verified));
                }
                verified
            }
        };
        let latest = now.timestamp() + LEEWAY_SECONDS;
        if verified.claims.nbf > latest || verified.claims.iat > latest {
            return refused("not valid yet");
        }
        Ok(verified)
    }

    /// Everything about a token that no time and no session changes: form, header, key, signature, claims.
    fn check(&self, token: &str) -> Result<Verified, Unverified> {
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return refused("not three parts");
        };
        let key = self.key_of(header)?;
        // The library would decode it as strictly today; that it stays so is not its promise.
        decode(signature)?;
        let signing_input = &token[..header.len() + 1 + payload.len()];
        let algorithm = match key.algorithm {
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::Hs256 => return refused("the key's algorithm signs no tokens"),
        };
        match jsonwebtoken::crypto::verify(signature, signing_input.as_bytes(), &key.decoding, algorithm) {
            Ok(true) => {}
            Ok(false) | Err(_) => return refused("signature"),
        }
        let claims = self.read_claims(payload)?;
        Ok(self.verified(claims, &key, signing_input.to_owned()))
    }

    fn verified(&self, claims: AccessClaims, key: &SigningKey, signing_input: String) -> Verified {
        let is_for_us = claims.is_for(&self.audience);
        Verified { claims, kid: key.kid.clone(), signing_input, is_for_us }
    }

    /// The key that a token's header names: looked up among ours, and never anything else than a name. The header has no say
    /// in the algorithm either; it only may not contradict (RFC 8725 §3.1).
    fn key_of(&self, header: &str) -> Result<Arc<SigningKey>, Unverified> {
        let header = read_object(header)?;
        if header.len() != 3 {
            return refused("header members");
        }
        let typ = text(&header, "typ")?;
        if !typ.eq_ignore_ascii_case(TOKEN_TYPE) && !typ.eq_ignore_ascii_case("application/at+jwt") {
            return refused("typ");
        }
        let algorithm = Algorithm::parse(text(&header, "alg")?).filter(|algorithm| *algorithm != Algorithm::Hs256);
        let (Some(algorithm), kid) = (algorithm, text(&header, "kid")?) else { return refused("alg") };
        match self.key(kid) {
            Some(key) if key.algorithm == algorithm => Ok(key),
            Some(_) => refused("alg"),
            None if is_kid(kid) => Err(Unverified::UnknownKey(kid.to_owned())),
            None => refused("kid"),
        }
    }

    /// Reads the claims and checks all that does not depend on the time. Claims that we don't know are ignored (RFC 7519 §4).
    fn read_claims(&self, payload: &str) -> Result<AccessClaims, TokenError> {
        let claims = read_object(payload)?;
        if text(&claims, "iss")? != self.issuer {
            return refused("iss");
        }
        let client_id = ClientId::parse(text(&claims, "client_id")?).ok_or(TokenError { reason: "client_id" })?;
        let act = actor(&claims)?;
        Ok(AccessClaims {
            iss: self.issuer.clone(),
            sub: subject(&claims, client_id, act)?,
            aud: audiences(&claims)?,
            client_id,
            exp: seconds(&claims, "exp")?,
            iat: seconds(&claims, "iat")?,
            nbf: seconds(&claims, "nbf")?,
            jti: text(&claims, "jti")?.to_owned(),
            sid: session(&claims, "sid")?,
            scope: scope(&claims)?,
            authorization_details: authorization_details(&claims)?,
            root_sid: claims.contains_key("root_sid").then(|| session(&claims, "root_sid")).transpose()?,
            act,
        })
    }
}

/// The client itself, where `sub` is its id; nobody acts as a client.
fn subject(claims: &Map<String, Value>, client: ClientId, act: Option<Actor>) -> Result<Subject, TokenError> {
    let sub = text(claims, "sub")?;
    if !client.is_first_party() && act.is_none() && sub == client.to_string() {
        return Ok(Subject::Client(client));
    }
    user(claims).map(Subject::User)
}

/// One audience or several (RFC 7519 §4.1.3).
fn audiences(claims: &Map<String, Value>) -> Result<Vec<Audience>, TokenError> {
    let one = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(Audience::from_stored);
    let audiences = match claims.get("aud") {
        Some(Value::Array(several)) => several.iter().map(one).collect::<Option<Vec<_>>>(),
        Some(value) => one(value).map(|one| vec![one]),
        None => None,
    };
    audiences.filter(|audiences| !audiences.is_empty()).ok_or(TokenError { reason: "aud" })
}

/// `scope`, which may be absent or empty, but not `null` or a list.
fn scope(claims: &Map<String, Value>) -> Result<Option<String>, TokenError> {
    match claims.get("scope") {
        None => Ok(None),
        Some(Value::String(scope)) => Ok(Some(scope.clone())),
        Some(_) => refused("scope"),
    }
}

/// `authorization_details`, which may be absent, but not `null` or anything that we don't write.
fn authorization_details(claims: &Map<String, Value>) -> Result<Option<Vec<AuthorizationDetail>>, TokenError> {
    let refused = TokenError { reason: "authorization_details" };
    let detail = |value: &Value| {
        let object = value.as_object().filter(|object| object.len() == 2)?;
        let is_article = object.get("type").and_then(Value::as_str) == Some(AuthorizationDetail::ARTICLE);
        object.get("identifier").and_then(Value::as_str).filter(|_| is_article).and_then(ArticleId::parse).map(AuthorizationDetail::article)
    };
    match claims.get("authorization_details") {
        None => Ok(None),
        Some(Value::Array(details)) => details.iter().map(detail).collect::<Option<Vec<_>>>().map(Some).ok_or(refused),
        Some(_) => Err(refused),
    }
}

/// A required id of a session.
fn session(claims: &Map<String, Value>, name: &'static str) -> Result<SessionId, TokenError> {
    SessionId::parse(text(claims, name)?).ok_or(TokenError { reason: name })
}

/// `act`, which names an actor and says nothing else: absent is fine, `null` is not.
fn actor(claims: &Map<String, Value>) -> Result<Option<Actor>, TokenError> {
    match claims.get("act") {
        None => Ok(None),
        Some(Value::Object(act)) if act.len() == 1 => Ok(Some(Actor { sub: user(act)? })),
        Some(_) => refused("act"),
    }
}

/// The user that the member `sub` names, in the one spelling of an id.
fn user(object: &Map<String, Value>) -> Result<UserId, TokenError> {
    UserId::parse(text(object, "sub")?).ok_or(TokenError { reason: "sub" })
}

/// A required, non-empty string.
fn text<'a>(object: &'a Map<String, Value>, name: &'static str) -> Result<&'a str, TokenError> {
    object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).ok_or(TokenError { reason: name })
}

/// A required time in whole seconds. `as_i64` takes neither strings nor `1.0`.
fn seconds(object: &Map<String, Value>, name: &'static str) -> Result<i64, TokenError> {
    object.get(name).and_then(Value::as_i64).ok_or(TokenError { reason: name })
}

/// base64url in its one spelling: no padding, no stray bits in the last character (RFC 4648 §3.5).
fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError { reason: "not base64url" })
}

fn read_object(part: &str) -> Result<Map<String, Value>, TokenError> {
    match serde_json::from_slice(&decode(part)?) {
        Ok(UniqueJson(Value::Object(object))) => Ok(object),
        Ok(_) => refused("not a JSON object"),
        Err(_) => refused("not JSON, or a member twice"),
    }
}

/// JSON in which no object has two members of one name, at any depth (RFC 7515 §4, RFC 7519 §4).
struct UniqueJson(Value);

impl<'de> Deserialize<'de> for UniqueJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON without duplicate members")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
                let mut array = Vec::new();
                while let Some(UniqueJson(element)) = elements.next_element()? {
                    array.push(element);
                }
                Ok(array.into())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
                let mut object = Map::new();
                while let Some((name, UniqueJson(value))) = members.next_entry::<String, _>()? {
                    if object.insert(name, value).is_some() {
                        return Err(de::Error::custom("a member twice"));
                    }
                }
                Ok(object.into())
            }
        }

        deserializer.deserialize_any(Reader).map(UniqueJson)
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    use super::*;
    use crate::auth::keys::{OpenedKey, StoredKey};

    const ISSUER: &str = "https://actas.example.org";
    const AUDIENCE: &str = "actas";

    fn at(seconds: i64) -> Time {
        chrono::DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    fn signing_key(algorithm: Algorithm) -> SigningKey {
        match StoredKey::generate_signing(algorithm, at(0), None).unwrap().open(None).unwrap() {
            OpenedKey::Sign(key) => key,
            OpenedKey::Refresh(_) => unreachable!("a signing key was made"),
        }
    }

    /// A service with one key, and the means to forge tokens with that very key.
    struct Bench {
        key: SigningKey,
        tokens: Tokens,
        claims: AccessClaims,
    }

    impl Bench {
        fn new() -> Self {
            Self::with(Algorithm::EdDsa)
        }

        fn with(algorithm: Algorithm) -> Self {
            let key = signing_key(algorithm);
            let tokens = Tokens::new(vec![key.clone()], ISSUER, AUDIENCE);
            let claims = AccessClaims {
                iss: ISSUER.to_owned(),
                sub: Subject::User(UserId::new(at(0))),
                aud: vec![Audience::from_stored(AUDIENCE)],
                client_id: ClientId::FirstParty,
                exp: at(3600).timestamp(),
                iat: at(0).timestamp(),
                nbf: at(0).timestamp(),
                jti: "019aa0f0-0000-7000-8000-0000000000aa".to_owned(),
                sid: SessionId::new(at(0)),
                scope: None,
                authorization_details: None,
                root_sid: None,
                act: None,
            };
            Self { key, tokens, claims }
        }

        fn header(&self) -> Value {
            json!({"typ": "at+jwt", "alg": self.key.algorithm, "kid": self.key.kid})
        }

        fn payload(&self) -> Value {
            serde_json::to_value(&self.claims).unwrap()
        }

        /// A token with exactly this header and payload, truly signed.
        fn forge(&self, header: &str, payload: &str) -> String {
            let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
            let signature = self.key.sign(input.as_bytes()).unwrap();
            format!("{input}.{signature}")
        }

        /// The token with the claims, made by another instance, so that [`Bench::tokens`] has yet to check it.
        fn sign(&self) -> String {
            Tokens::new(vec![self.key.clone()], ISSUER, AUDIENCE).sign(&self.key.kid, &self.claims).unwrap()
        }

        fn verify(&self, token: &str) -> Result<Arc<Verified>, TokenError> {
            self.tokens.verify(token, at(1)).map_err(TokenError::from)
        }

        /// What comes of the token when one claim is `value`, or absent.
        fn with_claim(&self, name: &str, value: Option<Value>) -> Result<Arc<Verified>, TokenError> {
            self.verify(&self.forge(&self.header().to_string(), &changed(self.payload(), name, value)))
        }

        fn with_header(&self, name: &str, value: Option<Value>) -> Result<Arc<Verified>, TokenError> {
            self.verify(&self.forge(&changed(self.header(), name, value), &self.payload().to_string()))
        }
    }

    fn changed(mut object: Value, name: &str, value: Option<Value>) -> String {
        let members = object.as_object_mut().unwrap();
        match value {
            Some(value) => members.insert(name.to_owned(), value),
            None => members.remove(name),
        };
        object.to_string()
    }

    #[test]
    fn a_token_says_what_the_contract_says_in_its_order() {
        let mut bench = Bench::new();
        bench.claims.act = Some(Actor { sub: UserId::new(at(0)) });
        let token = bench.sign();
        let parts: Vec<_> = token.split('.').map(|part| String::from_utf8_lossy(&decode(part).unwrap()).into_owned()).collect();
        assert_eq!(parts[0], format!(r#"{{"typ":"at+jwt","alg":"EdDSA","kid":"{}"}}"#, bench.key.kid));
        let (claims, act) = (&bench.claims, bench.claims.act.unwrap().sub);
        assert_eq!(
            parts[1],
            format!(
                concat!(
                    r#"{{"iss":"{}","sub":"{}","aud":"actas","client_id":"actas","exp":{},"iat":{},"nbf":{},"jti":"{}","sid":"{}","#,
                    r#""act":{{"sub":"{}"}}}}"#
                ),
                ISSUER, claims.sub, claims.exp, claims.iat, claims.nbf, claims.jti, claims.sid, act
            )
        );
        let verified = bench.verify(&token).unwrap();
        assert_eq!(verified.claims, bench.claims);
        assert_eq!(verified.kid, bench.key.kid);
        assert!(token.starts_with(&format!("{}.", verified.signing_input)));
    }

    #[test]
    fn a_recorded_token_is_signed_again_byte_for_byte() {
        let bench = Bench::new();
        let token = bench.sign();
        let Verified { kid, signing_input, claims, .. } = (*bench.verify(&token).unwrap()).clone();
        let (sub, sid) = (claims.user().unwrap(), claims.sid);
        assert_eq!(bench.tokens.resign(&kid, &signing_input, sub, sid).unwrap(), token);

        // Also after a newer key has come and a restart; never under another key, and nothing that is no token of ours.
        let newer = signing_key(Algorithm::EdDsa);
        let later = Tokens::new(vec![bench.key.clone(), newer.clone()], ISSUER, AUDIENCE);
        assert_eq!(later.resign(&kid, &signing_input, sub, sid).unwrap(), token);
        assert!(later.resign(&newer.kid, &signing_input, sub, sid).is_err());
        assert!(Tokens::new(vec![newer], ISSUER, AUDIENCE).resign(&kid, &signing_input, sub, sid).is_err());
        let elsewhere = Tokens::new(vec![bench.key.clone()], "https://other.example", AUDIENCE);
        assert!(elsewhere.resign(&kid, &signing_input, sub, sid).is_err());
        assert!(bench.tokens.resign(&kid, &signing_input, UserId::NOBODY, sid).is_err(), "another user's");
        for record in ["", "a.b", "attack at dawn", &format!("{signing_input}.x"), signing_input.split_once('.').unwrap().0] {
            assert!(bench.tokens.resign(&kid, record, sub, sid).is_err(), "{record}");
        }
    }

    #[test]
    fn a_token_that_was_made_again_is_given_for_nothing_else_and_no_longer_than_its_key() {
        let bench = Bench::new();
        let Verified { kid, signing_input, claims, .. } = (*bench.verify(&bench.sign()).unwrap()).clone();
        let (sub, sid) = (claims.user().unwrap(), claims.sid);
        let made = bench.tokens.resign(&kid, &signing_input, sub, sid).unwrap();
        assert_eq!(bench.tokens.resigned.len(), 1);
        assert_eq!(bench.tokens.resign(&kid, &signing_input, sub, sid).unwrap(), made);
        assert!(bench.tokens.resign("another key", &signing_input, sub, sid).is_err());
        assert!(bench.tokens.resign(&kid, &signing_input, UserId::NOBODY, sid).is_err());
        assert!(bench.tokens.resign(&kid, &signing_input, sub, SessionId::new(chrono::DateTime::UNIX_EPOCH)).is_err());
        bench.tokens.forget(&kid);
        assert!(bench.tokens.resign(&kid, &signing_input, sub, sid).is_err());
        assert_eq!(bench.tokens.resigned.len(), 0);
    }

    #[test]
    fn rsa_signs_and_checks_alike() {
        let bench = Bench::with(Algorithm::Rs256);
        let token = bench.sign();
        assert_eq!(token, bench.sign(), "the way back needs it");
        let Verified { kid, signing_input, claims, .. } = (*bench.verify(&token).unwrap()).clone();
        assert_eq!((&kid, &claims), (&bench.key.kid, &bench.claims));
        assert_eq!(bench.tokens.resign(&kid, &signing_input, bench.claims.user().unwrap(), claims.sid).unwrap(), token);
        let header: Value = serde_json::from_slice(&decode(token.split('.').next().unwrap()).unwrap()).unwrap();
        assert_eq!(header, json!({"typ": "at+jwt", "alg": "RS256", "kid": bench.key.kid}));
        for alg in ["EdDSA", "HS256", "RS384", "PS256", "none"] {
            assert!(bench.with_header("alg", Some(json!(alg))).is_err(), "{alg}");
        }
        // The public key taken for an HMAC secret, as its bytes and as they are published.
        let public = bench.key.decoding.try_get_as_bytes().unwrap();
        for secret in [public.to_vec(), STANDARD.encode(public).into_bytes(), format!("{:?}", bench.key.public()).into_bytes()] {
            let header = changed(bench.header(), "alg", Some(json!("HS256")));
            let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(bench.payload().to_string()));
            let secret = EncodingKey::from_secret(&secret);
            let signature = jsonwebtoken::crypto::sign(input.as_bytes(), &secret, jsonwebtoken::Algorithm::HS256).unwrap();
            assert_eq!(bench.verify(&format!("{input}.{signature}")).unwrap_err().reason, "alg");
        }
        for signature in ["", &URL_SAFE_NO_PAD.encode([0; 256]), &URL_SAFE_NO_PAD.encode([0xff; 256])] {
            assert_eq!(bench.verify(&format!("{signing_input}.{signature}")).unwrap_err().reason, "signature");
        }
    }

    #[test]
    fn the_ring_grows_and_shrinks() {
        let bench = Bench::new();
        let newer = signing_key(Algorithm::Rs256);
        assert!(bench.tokens.sign(&newer.kid, &bench.claims).is_err());
        bench.tokens.add(newer.clone());
        let (old, new) = (bench.sign(), bench.tokens.sign(&newer.kid, &bench.claims).unwrap());
        assert_eq!(bench.verify(&new).unwrap().kid, newer.kid);
        // Checked before, and so remembered.
        bench.verify(&old).unwrap();
        bench.tokens.forget(&bench.key.kid);
        assert_eq!(bench.tokens.verify(&old, at(1)).unwrap_err(), Unverified::UnknownKey(bench.key.kid.clone()));
        assert!(bench.verify(&new).is_ok());
        // Only what may be a kid of ours is asked for.
        for kid in ["x", "' OR '1'='1", "../../../../../../../../../../../../dev/null", &"é".repeat(21), &"A".repeat(44)] {
            let token = bench.forge(&changed(bench.header(), "kid", Some(json!(kid))), &bench.payload().to_string());
            assert!(matches!(bench.tokens.verify(&token, at(1)), Err(Unverified::Refused(_))), "{kid}");
        }
        let unknown = json!("A".repeat(43));
        assert_eq!(bench.with_header("kid", Some(unknown)).unwrap_err().reason, "kid");
    }

    #[test]
    fn a_token_is_checked_once_and_its_times_always() {
        let bench = Bench::new();
        let token = bench.sign();
        let first = bench.tokens.verify(&token, at(1)).unwrap();
        assert!(Arc::ptr_eq(&first, &bench.tokens.verify(&token, at(2)).unwrap()));
        assert!(Arc::ptr_eq(&first, &bench.tokens.verify_for_anyone(&token, at(3)).unwrap()));
        // To a clock that is behind it is not valid yet, remembered or not.
        assert_eq!(bench.tokens.verify(&token, at(-6)).unwrap_err(), Unverified::Refused(TokenError { reason: "not valid yet" }));
        // And what is for others is not for us.
        let mut claims = bench.claims.clone();
        claims.aud = vec![Audience::from_stored("another")];
        let foreign = bench.tokens.sign(&bench.key.kid, &claims).unwrap();
        bench.tokens.verify_for_anyone(&foreign, at(1)).unwrap();
        assert_eq!(bench.tokens.verify(&foreign, at(1)).unwrap_err(), Unverified::Refused(TokenError { reason: "aud" }));
        // What is over is not remembered.
        let over = bench.tokens.verify(&token, at(3600)).unwrap();
        let again = Bench::new();
        let late = again.sign();
        assert!(!Arc::ptr_eq(&again.tokens.verify(&late, at(3600)).unwrap(), &again.tokens.verify(&late, at(3600)).unwrap()));
        assert!(over.is_expired(at(3600)));
    }

    #[test]
    fn a_token_that_was_made_here_is_known_as_if_it_had_been_checked() {
        let mut bench = Bench::new();
        for act in [None, Some(Actor { sub: UserId::new(at(0)) })] {
            bench.claims.act = act;
            let token = bench.tokens.sign(&bench.key.kid, &bench.claims).unwrap();
            let known = bench.tokens.checked.get(&fingerprint(&token)).unwrap();
            assert!(Arc::ptr_eq(&known, &bench.verify(&token).unwrap()));
            let elsewhere = Tokens::new(vec![bench.key.clone()], ISSUER, AUDIENCE);
            let checked = elsewhere.verify(&token, at(1)).unwrap();
            assert_eq!((&known.claims, &known.kid, &known.signing_input), (&checked.claims, &checked.kid, &checked.signing_input));
            assert!(known.is_for_us && checked.is_for_us);
        }
        let known = bench.tokens.checked.len();
        let others = AccessClaims { aud: vec![Audience::from_stored("another")], ..bench.claims.clone() };
        bench.tokens.sign(&bench.key.kid, &others).unwrap();
        assert_eq!(bench.tokens.checked.len(), known, "who gets it doesn't come here");
        // Under another issuer than its own it is not a token that would be accepted.
        bench.claims.iss = "https://other.example".to_owned();
        let foreign = bench.tokens.sign(&bench.key.kid, &bench.claims).unwrap();
        assert_eq!(bench.verify(&foreign).unwrap_err().reason, "iss");
    }

    #[test]
    fn no_more_tokens_are_remembered_than_there_is_room_for() {
        let bench = Bench::new();
        for number in 0..MOST_CHECKED + 500 {
            let mut claims = bench.claims.clone();
            claims.jti = number.to_string();
            bench.verify(&bench.tokens.sign(&bench.key.kid, &claims).unwrap()).unwrap();
        }
        assert!(bench.tokens.checked.len() <= MOST_CHECKED);
    }

    #[test]
    fn every_character_counts() {
        let bench = Bench::new();
        let token = bench.sign();
        bench.verify(&token).unwrap();
        for position in 0..token.len() {
            let (before, rest) = token.split_at(position);
            let (original, after) = rest.split_at(1);
            let swapped =
                original.chars().map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }).collect();
            assert!(bench.verify(&format!("{before}{after}")).is_err(), "removed at {position}");
            for changed in [swapped, "A".to_owned(), "-".to_owned(), ".".to_owned(), "=".to_owned(), "é".to_owned()] {
                assert!(changed == original || bench.verify(&format!("{before}{changed}{after}")).is_err(), "{changed} at {position}");
            }
            for added in ["A", ".", "=", " ", "\n"] {
                assert!(bench.verify(&format!("{before}{added}{rest}")).is_err(), "{added:?} added at {position}");
            }
        }
        for added in ["A", "=", "==", ".", " ", "\n", "%3D"] {
            assert!(bench.verify(&format!("{token}{added}")).is_err(), "{added:?} at the end");
        }
        // The last character carries two bits that mean nothing; none of its four spellings but ours counts.
        let (start, last) = token.split_at(token.len() - 1);
        for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars().filter(|c| !last.contains(*c)) {
            assert!(bench.verify(&format!("{start}{other}")).is_err(), "{other}");
        }
    }

    #[test]
    fn every_claim_is_required_with_its_type() {
        let bench = Bench::new();
        let id = bench.claims.sub.to_string();
        let wrong_text = [json!(null), json!(1), json!(true), json!([id]), json!({"sub": id}), json!("")];
        for name in ["iss", "sub", "aud", "client_id", "jti", "sid"] {
            assert!(bench.with_claim(name, None).is_err(), "{name} dropped");
            for value in &wrong_text {
                assert!(bench.with_claim(name, Some(value.clone())).is_err(), "{name}: {value}");
            }
        }
        for name in ["exp", "iat", "nbf"] {
            let seconds = bench.claims.exp;
            assert!(bench.with_claim(name, None).is_err(), "{name} dropped");
            for value in [
                json!(null),
                json!(seconds.to_string()),
                json!(1_700_000_000.5),
                json!(1_700_000_000.0),
                json!(true),
                json!([seconds]),
                json!({}),
                json!(u64::MAX),
                json!(1e300),
            ] {
                assert!(bench.with_claim(name, Some(value.clone())).is_err(), "{name}: {value}");
            }
        }
        for name in ["sub", "sid"] {
            for value in
                [id.to_uppercase(), id.replace('-', ""), format!("{{{id}}}"), format!("urn:uuid:{id}"), format!("{id} "), "ada".into()]
            {
                assert!(bench.with_claim(name, Some(json!(value))).is_err(), "{name}: {value}");
            }
        }
        assert!(bench.with_claim("iss", Some(json!(format!("{ISSUER}/")))).is_err());
        assert!(bench.with_claim("scope", Some(json!("anything"))).is_ok(), "a claim that we don't know is ignored");
    }

    #[test]
    fn a_token_is_for_its_audience() {
        let bench = Bench::new();
        for (audience, accepted) in [
            (json!("actas"), true),
            (json!(["other", "actas"]), true),
            (json!("Actas"), false),
            (json!("other"), false),
            (json!([]), false),
            (json!(["other"]), false),
            (json!(["actas", 1]), false),
            (json!([["actas"]]), false),
            (json!({"actas": true}), false),
        ] {
            assert_eq!(bench.with_claim("aud", Some(audience.clone())).is_ok(), accepted, "{audience}");
        }
    }

    #[test]
    fn act_is_an_object_that_names_the_actor_and_nothing_more() {
        let bench = Bench::new();
        let id = UserId::new(at(0)).to_string();
        let accepted = bench.with_claim("act", Some(json!({"sub": id}))).unwrap();
        assert_eq!(accepted.claims.act.unwrap().sub.to_string(), id);
        for act in [
            json!(null),
            json!({}),
            json!([]),
            json!([id]),
            json!([{"sub": id}]),
            json!(id),
            json!(1),
            json!(false),
            json!({"sub": null}),
            json!({"sub": "ada"}),
            json!({"sub": id.to_uppercase()}),
            json!({"sub": {"sub": id}}),
            json!({"sub": id, "exp": 1}),
            json!({"sub": id, "nbf": 1}),
            json!({"sub": id, "aud": "actas"}),
            json!({"sub": id, "act": {"sub": id}}),
            json!({"iss": ISSUER}),
        ] {
            assert!(bench.with_claim("act", Some(act.clone())).is_err(), "{act}");
        }
    }

    #[test]
    fn a_member_twice_is_refused_at_any_depth() {
        let bench = Bench::new();
        let (header, payload) = (bench.header().to_string(), bench.payload().to_string());
        let with = |object: &str, member: &str| format!("{{{member},{}", &object[1..]);
        assert!(bench.verify(&bench.forge(&header, &with(&payload, r#""x":{"y":1}"#))).is_ok());
        for member in [r#""exp":1"#, r#""sub":"x""#, r#""x":{"y":1,"y":2}"#, r#""x":[{"y":1,"y":1}]"#, r#""\u0065xp":1"#] {
            assert!(bench.verify(&bench.forge(&header, &with(&payload, member))).is_err(), "{member}");
        }
        assert!(bench.verify(&bench.forge(&with(&header, r#""alg":"EdDSA""#), &payload)).is_err());
        for json in ["", "null", "[]", "\"\"", "{}", "{} {}", "{", "\u{feff}{}", &format!("{payload}x"), &"[".repeat(4000)] {
            assert!(bench.verify(&bench.forge(&header, json)).is_err(), "payload {json}");
            assert!(bench.verify(&bench.forge(json, &payload)).is_err(), "header {json}");
        }
    }

    #[test]
    fn the_header_says_what_the_server_decided() {
        let bench = Bench::new();
        for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
            assert!(bench.with_header("typ", Some(json!(typ))).is_ok(), "{typ}");
        }
        for typ in [
            json!("JWT"),
            json!("jwt"),
            json!("application/jwt"),
            json!("x/at+jwt"),
            json!("at+jwt "),
            json!(""),
            json!(null),
            json!(["at+jwt"]),
        ] {
            assert!(bench.with_header("typ", Some(typ.clone())).is_err(), "{typ}");
        }
        for alg in ["none", "None", "eddsa", "EDDSA", "Ed25519", "HS256", "HS512", "RS256", "ES256", "PS256", ""] {
            assert!(bench.with_header("alg", Some(json!(alg))).is_err(), "{alg}");
        }
        for kid in ["", "../../../../dev/null", "/dev/null", "' OR '1'='1", "' UNION SELECT 'AA' --", "https://evil.example/key", "*", "\0"]
        {
            assert!(bench.with_header("kid", Some(json!(kid))).is_err(), "{kid}");
        }
        for kid in [json!(null), json!(0), json!([bench.key.kid]), json!({"kid": bench.key.kid})] {
            assert!(bench.with_header("kid", Some(kid.clone())).is_err(), "{kid}");
        }
        for name in ["typ", "alg", "kid"] {
            assert!(bench.with_header(name, None).is_err(), "{name} dropped");
        }
        for (name, value) in [
            ("crit", json!(["exp"])),
            ("crit", json!([])),
            ("b64", json!(false)),
            ("b64", json!(true)),
            ("jwk", json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})),
            ("jku", json!("https://evil.example/jwks")),
            ("x5u", json!("https://evil.example/cert")),
            ("x5c", json!(["AA"])),
            ("x5t", json!("AA")),
            ("x5t#S256", json!("AA")),
            ("zip", json!("DEF")),
            ("enc", json!("A256GCM")),
            ("cty", json!("JWT")),
        ] {
            assert!(bench.with_header(name, Some(value)).is_err(), "{name}");
        }
    }

    #[test]
    fn only_our_key_makes_our_tokens() {
        let bench = Bench::new();
        let header = |alg| {
            let mut header = Header::new(alg);
            header.typ = Some(TOKEN_TYPE.to_owned());
            header.kid = Some(bench.key.kid.clone());
            header
        };
        // Another Ed25519 key under our kid.
        let input = bench.verify(&bench.sign()).unwrap().signing_input.clone();
        let signature = signing_key(Algorithm::EdDsa).sign(input.as_bytes()).unwrap();
        assert_eq!(bench.verify(&format!("{input}.{signature}")).unwrap_err().reason, "signature");
        // Our public key taken for an HMAC secret (CVE-2015-9235), whatever the header then says.
        let public = bench.key.decoding.try_get_as_bytes().unwrap();
        let secret = EncodingKey::from_secret(public);
        let token = jsonwebtoken::encode(&header(jsonwebtoken::Algorithm::HS256), &bench.claims, &secret).unwrap();
        assert_eq!(bench.verify(&token).unwrap_err().reason, "alg");
        let signature = jsonwebtoken::crypto::sign(input.as_bytes(), &secret, jsonwebtoken::Algorithm::HS256).unwrap();
        assert!(bench.verify(&format!("{input}.{signature}")).is_err());
        // No signature, one of zeros, one of another token.
        let mut claims = bench.claims.clone();
        claims.sub = Subject::User(UserId::new(at(0)));
        let foreign = bench.tokens.sign(&bench.key.kid, &claims).unwrap();
        for signature in ["", &URL_SAFE_NO_PAD.encode([0; 64]), foreign.rsplit_once('.').unwrap().1] {
            assert!(bench.verify(&format!("{input}.{signature}")).is_err(), "{signature}");
        }
        // Other forms, and other kinds of secret.
        for token in ["", ".", "..", "...", "a.b.c", &input, &format!("{input}.x.y"), &"A".repeat(MAX_TOKEN_BYTES + 1)] {
            assert!(bench.verify(token).is_err(), "{token}");
        }
        assert!(bench.verify(crate::auth::secret::RefreshToken::generate().unwrap().reveal()).is_err());
        // A true token beyond the bound is not looked at.
        let long = changed(bench.payload(), "x", Some(json!("x".repeat(MAX_TOKEN_BYTES))));
        assert_eq!(bench.verify(&bench.forge(&bench.header().to_string(), &long)).unwrap_err().reason, "too long");
    }

    #[test]
    fn time_ahead_has_little_leeway_and_expiry_none() {
        let bench = Bench::new();
        let ahead = |name, seconds: i64| bench.with_claim(name, Some(json!(at(1 + seconds).timestamp())));
        for name in ["nbf", "iat"] {
            assert!(ahead(name, 5).is_ok());
            assert_eq!(ahead(name, 6).unwrap_err().reason, "not valid yet");
            assert!(bench.with_claim(name, Some(json!(i64::MAX))).is_err());
        }
        let token = bench.sign();
        let long_after = bench.tokens.verify(&token, at(1_000_000)).unwrap();
        assert!(long_after.is_expired(at(1_000_000)), "recognised, and expired");
        assert!(!long_after.is_expired(at(3600) - chrono::Duration::microseconds(1)));
        assert!(long_after.is_expired(at(3600)));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let bench = Bench::new();
        let token = bench.sign();
        let signature = token.rsplit_once('.').unwrap().1;
        let verified = bench.verify(&token).unwrap();
        assert!(!format!("{:?} {verified:?}", bench.tokens).contains(signature));
        let error: Error = bench.verify(&format!("{token}x")).unwrap_err().into();
        assert_eq!(error.code(), Code::InvalidToken);
        assert!(!error.to_string().contains(signature));
    }
}
