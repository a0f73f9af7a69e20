//! Opaque one-time handles: refresh tokens and setup tokens, and the proofs of RFC 7636.
//!
//! A handle is a prefix that names its kind and 32 random bytes. The prefix keeps one kind from being taken for another and
//! lets secret scanners find what leaked. Only the hash of one is ever kept; a plain
//! SHA-256 is enough for that, because 256 random bits can't be guessed.

use std::fmt;

use aws_lc_rs::{constant_time, digest, hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::domain::error::{Error, Result};

/// How many random bytes a handle and a key carry.
const SECRET_BYTES: usize = 32;

/// `N` bytes from the system's generator.
///
/// # Errors
/// An internal error if the generator fails; nothing may then be made up in its place.
pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| Error::internal("the random number generator failed"))?;
    Ok(bytes)
}

/// base64url without padding of the SHA-256 of `bytes`.
pub(super) fn sha256(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, bytes))
}

macro_rules! handle {
    ($(#[$meta:meta])* $name:ident, $prefix:literal) => {
        $(#[$meta])*
        #[derive(Clone)]
        pub struct $name(String);

        impl $name {
            /// What every handle of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// A new handle that nobody can guess.
            ///
            /// # Errors
            /// An internal error if the random number generator fails.
            pub fn generate() -> Result<Self> {
                random::<SECRET_BYTES>().map(|secret| Self::of_secret(&secret))
            }

            /// The handle written as `text`; `None` unless it is one of this kind in its one spelling.
            pub fn parse(text: &str) -> Option<Self> {
                let encoded = text.strip_prefix(Self::PREFIX)?;
                // The length first: what a stranger sends is not decoded at any length. The decoder refuses padding and
                // stray bits in the last character.
                let well_formed = encoded.len() == 43 && URL_SAFE_NO_PAD.decode(encoded).is_ok();
                well_formed.then(|| Self(text.to_owned()))
            }

            /// The secret itself, for the one answer that hands it out.
            pub fn reveal(&self) -> &str {
                &self.0
            }

            /// What is kept of it: base64url of the SHA-256 of the whole text, prefix included.
            pub fn hash(&self) -> String {
                sha256(self.0.as_bytes())
            }

            fn of_secret(secret: &[u8]) -> Self {
                Self(format!("{}{}", Self::PREFIX, URL_SAFE_NO_PAD.encode(secret)))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

handle!(
    /// Renews an own session's access token, once (RFC 6749 §6, rotated as in RFC 9700 §4.14.2).
    RefreshToken,
    "actas_rt_"
);
handle!(
    /// Sets the password of a new or reset account, once.
    SetupToken,
    "actas_st_"
);

handle!(
    /// Proves that a request is a client's (RFC 6749 §2.3.1).
    ClientSecret,
    "actas_cs_"
);

impl ClientSecret {
    /// Whether `hash` is this secret's, in constant time.
    pub fn has_hash(&self, hash: &str) -> bool {
        constant_time::verify_slices_are_equal(self.hash().as_bytes(), hash.as_bytes()).is_ok()
    }
}

impl RefreshToken {
    /// The token that follows this one. The same predecessor always has the same successor, so that a repeated refresh can
    /// be answered alike although only hashes are kept; without `key` nobody can tell it from a random one.
    pub fn successor(&self, key: &DerivationKey) -> Self {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key.0));
        context.update(b"actas refresh token successor v1\0");
        context.update(self.0.as_bytes());
        Self::of_secret(context.sign().as_ref())
    }
}

/// The key from which refresh tokens follow one another: 32 random bytes, shared by all instances.
#[derive(Clone)]
pub struct DerivationKey([u8; SECRET_BYTES]);

impl DerivationKey {
    /// # Errors
    /// An internal error if the random number generator fails.
    pub fn generate() -> Result<Self> {
        random().map(Self)
    }

    /// The key with these bytes; `None` unless there are 32.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The secret itself, for keeping it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for DerivationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DerivationKey(…)")
    }
}

/// The S256 challenge of `verifier` (RFC 7636 §4.2): base64url of its SHA-256, without padding.
pub fn s256(verifier: &str) -> String {
    sha256(verifier.as_bytes())
}

/// Whether `verifier` proves the knowledge that `challenge` asks for (RFC 7636 §4.6). A verifier is 43 to 128 unreserved
/// characters (§4.1); anything else proves nothing. Takes the same time for every well-formed verifier.
pub fn proof_matches(challenge: &str, verifier: &str) -> bool {
    let well_formed = (43..=128).contains(&verifier.len())
        && verifier.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'));
    well_formed && constant_time::verify_slices_are_equal(challenge.as_bytes(), s256(verifier).as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_read_back_in_its_one_spelling_only() {
        let token = RefreshToken::generate().unwrap();
        let text = token.reveal().to_owned();
        assert_eq!(text.len(), "actas_rt_".len() + 43);
        assert_eq!(RefreshToken::parse(&text).unwrap().hash(), token.hash());

        assert!(SetupToken::parse(&text).is_none(), "a refresh token is no setup token");
        assert!(RefreshToken::parse(SetupToken::generate().unwrap().reveal()).is_none());
        // 43 characters carry 258 bits: with stray bits in the last one there would be four spellings.
        let spellings = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
            .chars()
            .filter(|last| RefreshToken::parse(&format!("{}{last}", &text[..text.len() - 1])).is_some());
        assert_eq!(spellings.count(), 16);
        for wrong in ["", "actas_rt_", &text[..text.len() - 1], &format!("{text}A"), &format!("{text}="), &format!(" {text}")] {
            assert!(RefreshToken::parse(wrong).is_none(), "{wrong:?}");
        }
        assert!(RefreshToken::parse(&text.to_uppercase()).is_none());
    }

    #[test]
    fn no_handle_is_printed_and_no_two_are_alike() {
        let (one, other) = (RefreshToken::generate().unwrap(), RefreshToken::generate().unwrap());
        assert_ne!(one.hash(), other.hash());
        assert_eq!(format!("{one:?}"), "RefreshToken(…)");
        assert_eq!(format!("{:?}", DerivationKey::generate().unwrap()), "DerivationKey(…)");
        assert!(!one.hash().contains(&one.reveal()[9..]));
    }

    #[test]
    fn a_predecessor_has_one_successor_under_one_key() {
        let key = DerivationKey::from_bytes(&[7; 32]).unwrap();
        let token = RefreshToken::generate().unwrap();
        let successor = token.successor(&key);
        assert_eq!(successor.reveal(), token.successor(&key).reveal());
        assert!(RefreshToken::parse(successor.reveal()).is_some());
        assert_ne!(successor.hash(), token.hash());
        assert_ne!(successor.hash(), successor.successor(&key).hash());
        assert_ne!(successor.hash(), token.successor(&DerivationKey::from_bytes(&[8; 32]).unwrap()).hash());
        assert!(DerivationKey::from_bytes(&[7; 31]).is_none());
    }

    #[test]
    fn a_proof_is_checked_as_rfc_7636_says() {
        // RFC 7636, Appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        assert_eq!(s256(verifier), challenge);
        assert!(proof_matches(challenge, verifier));
        assert!(!proof_matches(challenge, challenge));
        assert!(!proof_matches(challenge, &verifier.to_lowercase()));
        assert!(!proof_matches("", verifier));
        for (verifier, accepted) in
            [("a".repeat(42), false), ("a".repeat(43), true), ("~".repeat(128), true), ("a".repeat(129), false), ("a ".repeat(30), false)]
        {
            assert_eq!(proof_matches(&s256(&verifier), &verifier), accepted, "{verifier}");
        }
    }
}
