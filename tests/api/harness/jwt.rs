//! Tokens taken apart, and put together by somebody who has the server's own key.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::Value;

use super::office::Office;

/// A token's header.
pub fn header_of(token: &str) -> Value {
    part_of(token, 0)
}

/// A token's claims.
pub fn claims_of(token: &str) -> Value {
    part_of(token, 1)
}

fn part_of(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap_or_else(|| panic!("not a token: {token}"));
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Somebody who signs as the server does, whatever they like.
pub struct Forger {
    key: EncodingKey,
}

impl Forger {
    /// Takes the key that signs with Ed25519 out of the office's database.
    pub fn of(office: &Office) -> Self {
        let newest = "SELECT private_key FROM keys WHERE algorithm = 'EdDSA' AND retired_at IS NULL ORDER BY created_at DESC LIMIT 1";
        let key = office.db_text(newest).expect("a signing key");
        Self { key: EncodingKey::from_ed_der(&STANDARD.decode(key).unwrap()) }
    }

    /// Takes a key that was given to the server.
    pub fn with_key(key: EncodingKey) -> Self {
        Self { key }
    }

    /// A token with a valid signature over this header and these claims.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let input = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature = jsonwebtoken::crypto::sign(input.as_bytes(), &self.key, Algorithm::EdDSA).unwrap();
        format!("{input}.{signature}")
    }

    /// The same token with other claims, signed again.
    pub fn with_claims(&self, token: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = claims_of(token);
        change(&mut claims);
        self.sign(&header_of(token), &claims)
    }

    /// The same token with another header, signed again.
    pub fn with_header(&self, token: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut header = header_of(token);
        change(&mut header);
        self.sign(&header, &claims_of(token))
    }
}
