//! Keys at rest: made at the first start, kept in the database, encrypted when a key encryption key is set.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, EncodingKey};

use super::secret::{self, DerivationKey};
use crate::domain::{Time, string_enum};

/// The length in bytes of the nonce in front of a sealed key (NIST SP 800-38D §8.2.2: random, 96 bits).
const NONCE_BYTES: usize = 12;

string_enum! {
    /// What a key is for. A key of one purpose is never used for another.
    pub enum KeyPurpose {
        /// Signs access tokens.
        Sign => "sign",
        /// Derives refresh tokens from their predecessors.
        Refresh => "refresh",
    }
}

string_enum! {
    /// How a key is used, as RFC 7518 and RFC 8037 name it.
    pub enum Algorithm {
        /// Ed25519 (RFC 8037): signs access tokens. Deterministic, so that a recorded token can be signed again.
        EdDsa => "EdDSA",
        /// HMAC with SHA-256: derives refresh tokens. Never signs access tokens.
        Hs256 => "HS256",
    }
}

/// A key as the database keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Names the key: for a signing key the RFC 7638 thumbprint of its public half, so that it can't be given to another.
    pub kid: String,
    pub purpose: KeyPurpose,
    pub algorithm: Algorithm,
    /// The secret half in base64: PKCS#8 or, for a derivation key, its bytes. When `sealed`, nonce and AES-256-GCM ciphertext.
    pub private: String,
    /// Whether `private` is encrypted with the key encryption key.
    pub sealed: bool,
    pub created_at: Time,
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredKey")
            .field("kid", &self.kid)
            .field("purpose", &self.purpose)
            .field("algorithm", &self.algorithm)
            .field("sealed", &self.sealed)
            .field("created_at", &self.created_at)
            .finish_non_exhaustive()
    }
}

/// Why a key can't be made or used. Every one of these stops the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("key `{kid}` is encrypted in the database, and ACTAS_KEY_ENCRYPTION_KEY is not set")]
    Sealed { kid: String },
    /// Also what a ciphertext changed by someone else looks like: an authenticated cipher can't tell the two apart.
    #[error("ACTAS_KEY_ENCRYPTION_KEY does not open key `{kid}`: it is not the one that the key was encrypted with")]
    WrongKeyEncryptionKey { kid: String },
    #[error("key `{kid}` is damaged in the database: {what}")]
    Damaged { kid: String, what: &'static str },
    #[error("must be 32 bytes, written as base64 or as 64 hexadecimal digits")]
    MalformedKeyEncryptionKey,
    #[error("there is no signing key")]
    NoSigningKey,
    #[error("the cryptographic library failed: {0}")]
    Crypto(&'static str),
}

/// The key that encrypts the other keys at rest (`ACTAS_KEY_ENCRYPTION_KEY`).
#[derive(Clone)]
pub struct KeyEncryptionKey([u8; 32]);

impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyEncryptionKey(…)")
    }
}

impl KeyEncryptionKey {
    /// A key that was parsed already.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 32 bytes written as base64 or base64url, padded or not, or as 64 hexadecimal digits. The three can't be confused: 64
    /// digits would be 48 bytes of base64.
    ///
    /// # Errors
    /// [`KeyError::MalformedKeyEncryptionKey`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let alphabet = if text.contains(['-', '_']) { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
        let bytes = decode_hex(text).or_else(|| GeneralPurpose::new(alphabet, config).decode(text).ok());
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(KeyError::MalformedKeyEncryptionKey)
    }

    fn seal(&self, key: &StoredKey, mut secret: Vec<u8>) -> Result<String, KeyError> {
        let nonce =
            self.cipher()?.seal_in_place_append_tag(associated_data(key), &mut secret).map_err(|_| KeyError::Crypto("sealing a key"))?;
        Ok(STANDARD.encode([nonce.as_ref().as_slice(), &secret].concat()))
    }

    fn open(&self, key: &StoredKey, sealed: Vec<u8>) -> Result<Vec<u8>, KeyError> {
        let damaged = || KeyError::Damaged { kid: key.kid.clone(), what: "the ciphertext is too short" };
        let (nonce, ciphertext) = sealed.split_at_checked(NONCE_BYTES).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let mut ciphertext = ciphertext.to_vec();
        let secret = self
            .cipher()?
            .open_in_place(nonce, associated_data(key), &mut ciphertext)
            .map_err(|_| KeyError::WrongKeyEncryptionKey { kid: key.kid.clone() })?;
        Ok(secret.to_vec())
    }

    fn cipher(&self) -> Result<RandomizedNonceKey, KeyError> {
        RandomizedNonceKey::new(&AES_256_GCM, &self.0).map_err(|_| KeyError::Crypto("setting up AES-256-GCM"))
    }
}

/// Binds a ciphertext to its row, so that someone who can write to the database can't put one key in another's place.
fn associated_data(key: &StoredKey) -> Aad<String> {
    Aad::from(format!("actas key v1\0{}\0{}\0{}", key.purpose, key.algorithm, key.kid))
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

impl StoredKey {
    /// Makes a new Ed25519 signing key, sealed if there is a key encryption key.
    ///
    /// # Errors
    /// [`KeyError::Crypto`].
    pub fn generate_signing(now: Time, encryption: Option<&KeyEncryptionKey>) -> Result<Self, KeyError> {
        let failed = |_| KeyError::Crypto("making an Ed25519 key");
        let pair = Ed25519KeyPair::generate().map_err(failed)?;
        let pkcs8 = pair.to_pkcs8().map_err(failed)?;
        Self::new(thumbprint(pair.public_key().as_ref()), KeyPurpose::Sign, Algorithm::EdDsa, pkcs8.as_ref(), now, encryption)
    }

    /// Makes a new key for deriving refresh tokens, sealed if there is a key encryption key. Its kid is random: a thumbprint
    /// of a secret would tell something about it.
    ///
    /// # Errors
    /// [`KeyError::Crypto`].
    pub fn generate_derivation(now: Time, encryption: Option<&KeyEncryptionKey>) -> Result<Self, KeyError> {
        let failed = |_| KeyError::Crypto("making random bytes");
        let kid = URL_SAFE_NO_PAD.encode(secret::random::<16>().map_err(failed)?);
        let key = DerivationKey::generate().map_err(failed)?;
        Self::new(kid, KeyPurpose::Refresh, Algorithm::Hs256, key.as_bytes(), now, encryption)
    }

    fn new(
        kid: String,
        purpose: KeyPurpose,
        algorithm: Algorithm,
        secret: &[u8],
        created_at: Time,
        encryption: Option<&KeyEncryptionKey>,
    ) -> Result<Self, KeyError> {
        let plain = Self { kid, purpose, algorithm, private: STANDARD.encode(secret), sealed: false, created_at };
        match encryption {
            Some(encryption) => Ok(plain.reseal(encryption)?.unwrap_or(plain)),
            None => Ok(plain),
        }
    }

    /// This key encrypted, if it isn't yet: what to keep once a key encryption key has been set. `None` for a sealed key, which
    /// [`StoredKey::open`] checks.
    ///
    /// # Errors
    /// [`KeyError::Damaged`], [`KeyError::Crypto`].
    pub fn reseal(&self, encryption: &KeyEncryptionKey) -> Result<Option<Self>, KeyError> {
        if self.sealed {
            return Ok(None);
        }
        let private = encryption.seal(self, self.decode()?)?;
        Ok(Some(Self { private, sealed: true, ..self.clone() }))
    }

    /// Makes this key usable. A plain key opens with or without a key encryption key.
    ///
    /// # Errors
    /// [`KeyError::Sealed`] without the key encryption key that it needs, [`KeyError::WrongKeyEncryptionKey`] with another,
    /// [`KeyError::Damaged`] where the row is not what was once written.
    pub fn open(&self, encryption: Option<&KeyEncryptionKey>) -> Result<OpenedKey, KeyError> {
        let private = self.decode()?;
        let secret = match (self.sealed, encryption) {
            (false, _) => private,
            (true, Some(encryption)) => encryption.open(self, private)?,
            (true, None) => return Err(KeyError::Sealed { kid: self.kid.clone() }),
        };
        match (self.purpose, self.algorithm) {
            (KeyPurpose::Sign, Algorithm::EdDsa) => self.open_ed25519(&secret).map(OpenedKey::Sign),
            (KeyPurpose::Refresh, Algorithm::Hs256) => {
                DerivationKey::from_bytes(&secret).map(OpenedKey::Refresh).ok_or_else(|| self.damaged("it is not 32 bytes long"))
            }
            (KeyPurpose::Sign, Algorithm::Hs256) | (KeyPurpose::Refresh, Algorithm::EdDsa) => {
                Err(self.damaged("its algorithm does not serve its purpose"))
            }
        }
    }

    fn open_ed25519(&self, pkcs8: &[u8]) -> Result<SigningKey, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| self.damaged("it is not an Ed25519 key in PKCS#8"))?;
        let public = pair.public_key().as_ref();
        if thumbprint(public) != self.kid {
            return Err(self.damaged("its kid is another key's"));
        }
        Ok(SigningKey {
            kid: self.kid.clone(),
            created_at: self.created_at,
            algorithm: jsonwebtoken::Algorithm::EdDSA,
            encoding: EncodingKey::from_ed_der(pkcs8),
            decoding: DecodingKey::from_ed_der(public),
        })
    }

    fn decode(&self) -> Result<Vec<u8>, KeyError> {
        STANDARD.decode(&self.private).map_err(|_| self.damaged("it is not base64"))
    }

    fn damaged(&self, what: &'static str) -> KeyError {
        KeyError::Damaged { kid: self.kid.clone(), what }
    }
}

/// A key ready for use, by its purpose.
#[derive(Debug, Clone)]
pub enum OpenedKey {
    Sign(SigningKey),
    Refresh(DerivationKey),
}

/// A key that signs access tokens and checks them.
#[derive(Clone)]
pub struct SigningKey {
    pub(super) kid: String,
    pub(super) created_at: Time,
    /// The one algorithm of this key; what a token's header says can't change it (RFC 8725 §3.1).
    pub(super) algorithm: jsonwebtoken::Algorithm,
    pub(super) encoding: EncodingKey,
    pub(super) decoding: DecodingKey,
}

impl SigningKey {
    pub fn kid(&self) -> &str {
        &self.kid
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The RFC 7638 thumbprint of an Ed25519 public key (RFC 8037 §2, Appendix A.3).
fn thumbprint(public: &[u8]) -> String {
    let x = URL_SAFE_NO_PAD.encode(public);
    secret::sha256(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Time {
        chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap()
    }

    fn encryption(byte: u8) -> KeyEncryptionKey {
        KeyEncryptionKey([byte; 32])
    }

    fn kid_of(key: &OpenedKey) -> &str {
        match key {
            OpenedKey::Sign(key) => key.kid(),
            OpenedKey::Refresh(_) => panic!("a derivation key has no kid"),
        }
    }

    #[test]
    fn a_kid_is_the_thumbprint_of_the_public_key() {
        // RFC 8037, Appendix A.3.
        let public = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        assert_eq!(thumbprint(&public), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_key_encryption_key_is_32_bytes_in_any_usual_spelling() {
        let bytes = [0xfb; 32];
        let hex = "fb".repeat(32);
        for text in [
            STANDARD.encode(bytes),
            STANDARD.encode(bytes).trim_end_matches('=').to_owned(),
            URL_SAFE_NO_PAD.encode(bytes),
            format!("{}=\n", URL_SAFE_NO_PAD.encode(bytes)),
            hex.to_uppercase(),
            hex.clone(),
        ] {
            assert_eq!(KeyEncryptionKey::parse(&text).unwrap().0, bytes, "{text}");
        }
        for text in ["", "secret", &hex[2..], &format!("{hex}fb"), &STANDARD.encode([1; 31]), &STANDARD.encode([1; 33]), &"é".repeat(32)] {
            assert_eq!(KeyEncryptionKey::parse(text).unwrap_err(), KeyError::MalformedKeyEncryptionKey, "{text}");
        }
    }

    #[test]
    fn a_sealed_key_opens_with_its_key_only() {
        for make in [StoredKey::generate_signing, StoredKey::generate_derivation] {
            let key = make(now(), Some(&encryption(1))).unwrap();
            assert!(key.sealed);
            key.open(Some(&encryption(1))).unwrap();
            assert_eq!(key.open(None).unwrap_err(), KeyError::Sealed { kid: key.kid.clone() });
            assert_eq!(key.open(Some(&encryption(2))).unwrap_err(), KeyError::WrongKeyEncryptionKey { kid: key.kid.clone() });
        }
    }

    #[test]
    fn a_plain_key_is_sealed_once_a_key_encryption_key_is_set() {
        let plain = StoredKey::generate_signing(now(), None).unwrap();
        assert!(!plain.sealed);
        assert_eq!(kid_of(&plain.open(Some(&encryption(1))).unwrap()), plain.kid);
        let sealed = plain.reseal(&encryption(1)).unwrap().unwrap();
        assert!(sealed.sealed);
        assert!(!sealed.private.contains(&plain.private));
        assert_eq!(kid_of(&sealed.open(Some(&encryption(1))).unwrap()), plain.kid);
        assert_eq!(sealed.reseal(&encryption(1)).unwrap(), None);
        assert_ne!(plain.reseal(&encryption(1)).unwrap().unwrap().private, sealed.private, "every sealing has its own nonce");
    }

    #[test]
    fn no_key_can_be_put_in_anothers_place() {
        let (one, other) = (StoredKey::generate_signing(now(), None).unwrap(), StoredKey::generate_signing(now(), None).unwrap());
        let swapped = StoredKey { private: other.private.clone(), ..one.clone() };
        assert!(matches!(swapped.open(None), Err(KeyError::Damaged { .. })));

        let sealed = |key: &StoredKey| key.reseal(&encryption(1)).unwrap().unwrap();
        let swapped = StoredKey { private: sealed(&other).private, ..sealed(&one) };
        assert!(matches!(swapped.open(Some(&encryption(1))), Err(KeyError::WrongKeyEncryptionKey { .. })));
        let (one, other) = (StoredKey::generate_derivation(now(), None).unwrap(), StoredKey::generate_derivation(now(), None).unwrap());
        let swapped = StoredKey { private: sealed(&other).private, ..sealed(&one) };
        assert!(matches!(swapped.open(Some(&encryption(1))), Err(KeyError::WrongKeyEncryptionKey { .. })));
    }

    #[test]
    fn damage_is_named_and_never_printed_with_the_secret() {
        let key = StoredKey::generate_signing(now(), None).unwrap();
        for private in ["", "%%%", "AAAA", &STANDARD.encode([7; 32])] {
            let broken = StoredKey { private: private.to_owned(), ..key.clone() };
            assert!(matches!(broken.open(None), Err(KeyError::Damaged { .. })), "{private}");
        }
        for private in ["", "AAAA"] {
            let broken = StoredKey { private: private.to_owned(), sealed: true, ..key.clone() };
            assert!(matches!(broken.open(Some(&encryption(1))), Err(KeyError::Damaged { .. })), "{private}");
        }
        let crossed = StoredKey { purpose: KeyPurpose::Refresh, ..key.clone() };
        assert!(matches!(crossed.open(None), Err(KeyError::Damaged { .. })));
        let printed = format!("{key:?} {:?} {:?}", key.open(None).unwrap(), encryption(1));
        assert!(!printed.contains(&key.private));
        assert!(printed.contains(&key.kid));
    }
}
