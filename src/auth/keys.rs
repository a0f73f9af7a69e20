//! Keys at rest: made at the first start, kept in the database, encrypted when a key encryption key is set.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;

use super::pem::{self, PrivateDer};
use super::secret::{self, DerivationKey};
use crate::domain::{Time, string_enum};

pub use super::pem::ImportError;

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
        /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3): signs access tokens for those who don't know Ed25519. Deterministic too.
        Rs256 => "RS256",
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
    #[error("{0} signs no access tokens")]
    NotForSigning(Algorithm),
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
    /// Makes a new signing key, sealed if there is a key encryption key. An RSA key has 2048 bits.
    ///
    /// # Errors
    /// [`KeyError::NotForSigning`], [`KeyError::Crypto`].
    pub fn generate_signing(algorithm: Algorithm, now: Time, encryption: Option<&KeyEncryptionKey>) -> Result<Self, KeyError> {
        let failed = |_| KeyError::Crypto("making a signing key");
        let pair = match algorithm {
            Algorithm::EdDsa => Pair::Ed25519(Arc::new(Ed25519KeyPair::generate().map_err(failed)?)),
            Algorithm::Rs256 => Pair::Rsa(Arc::new(RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?)),
            Algorithm::Hs256 => return Err(KeyError::NotForSigning(algorithm)),
        };
        Self::of_pair(&pair, now, encryption)
    }

    /// Takes over a private key written in PEM: Ed25519 in PKCS#8, or RSA of 2048 to 8192 bits in PKCS#8 or PKCS#1. Sealed if there is a
    /// key encryption key.
    ///
    /// # Errors
    /// [`ImportError`], which never repeats any of the key.
    pub fn import(pem: &str, now: Time, encryption: Option<&KeyEncryptionKey>) -> Result<Self, ImportError> {
        let pair = match pem::read(pem)? {
            PrivateDer::Ed25519(pkcs8) => Ed25519KeyPair::from_pkcs8(&pkcs8).map(|pair| Pair::Ed25519(Arc::new(pair))),
            PrivateDer::Rsa(pkcs1) => RsaKeyPair::from_der(&pkcs1).map(|pair| Pair::Rsa(Arc::new(pair))),
        };
        let pair = pair.map_err(|_| ImportError::Unsound)?;
        Self::of_pair(&pair, now, encryption).map_err(|_| ImportError::Crypto)
    }

    fn of_pair(pair: &Pair, now: Time, encryption: Option<&KeyEncryptionKey>) -> Result<Self, KeyError> {
        let failed = || KeyError::Crypto("writing a signing key down");
        let kid = pair.public().ok_or_else(failed)?.thumbprint();
        match pair {
            Pair::Ed25519(pair) => {
                let pkcs8 = pair.to_pkcs8().map_err(|_| failed())?;
                Self::new(kid, KeyPurpose::Sign, Algorithm::EdDsa, pkcs8.as_ref(), now, encryption)
            }
            Pair::Rsa(pair) => {
                let pkcs8 = pair.as_der().map_err(|_| failed())?;
                Self::new(kid, KeyPurpose::Sign, Algorithm::Rs256, pkcs8.as_ref(), now, encryption)
            }
        }
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
            (KeyPurpose::Sign, Algorithm::EdDsa) => {
                let pair = Ed25519KeyPair::from_pkcs8(&secret).map_err(|_| self.damaged("it is not an Ed25519 key in PKCS#8"))?;
                self.open_pair(Pair::Ed25519(Arc::new(pair))).map(OpenedKey::Sign)
            }
            (KeyPurpose::Sign, Algorithm::Rs256) => {
                let pair = RsaKeyPair::from_pkcs8(&secret).map_err(|_| self.damaged("it is not an RSA key in PKCS#8"))?;
                self.open_pair(Pair::Rsa(Arc::new(pair))).map(OpenedKey::Sign)
            }
            (KeyPurpose::Refresh, Algorithm::Hs256) => {
                DerivationKey::from_bytes(&secret).map(OpenedKey::Refresh).ok_or_else(|| self.damaged("it is not 32 bytes long"))
            }
            (KeyPurpose::Sign, Algorithm::Hs256) | (KeyPurpose::Refresh, Algorithm::EdDsa | Algorithm::Rs256) => {
                Err(self.damaged("its algorithm does not serve its purpose"))
            }
        }
    }

    fn open_pair(&self, pair: Pair) -> Result<SigningKey, KeyError> {
        let public = pair.public().ok_or_else(|| self.damaged("its public half can't be read"))?;
        if public.thumbprint() != self.kid {
            return Err(self.damaged("its kid is another key's"));
        }
        let decoding = match &pair {
            Pair::Ed25519(pair) => DecodingKey::from_ed_der(pair.public_key().as_ref()),
            Pair::Rsa(pair) => DecodingKey::from_rsa_der(pair.public_key().as_ref()),
        };
        Ok(SigningKey { kid: self.kid.clone(), algorithm: self.algorithm, pair, decoding, public })
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
    /// The one algorithm of this key; what a token's header says can't change it (RFC 8725 §3.1).
    pub(super) algorithm: Algorithm,
    pair: Pair,
    pub(super) decoding: DecodingKey,
    public: PublicHalf,
}

/// Kept as the library has it: to take an RSA key apart for every signature would cost as much as the signature.
#[derive(Clone)]
enum Pair {
    Ed25519(Arc<Ed25519KeyPair>),
    Rsa(Arc<RsaKeyPair>),
}

impl Pair {
    fn public(&self) -> Option<PublicHalf> {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Ed25519(pair) => Some(PublicHalf::Ed25519 { x: encode(pair.public_key().as_ref()) }),
            Self::Rsa(pair) => {
                let (n, e) = pem::read_rsa_public(pair.public_key().as_ref())?;
                Some(PublicHalf::Rsa { n: encode(n), e: encode(e) })
            }
        }
    }
}

/// What anybody may know of a key, in the words of RFC 7518 §6.3.1 and RFC 8037 §2: base64url without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicHalf {
    Ed25519 { x: String },
    Rsa { n: String, e: String },
}

impl PublicHalf {
    /// The RFC 7638 thumbprint: of the required members alone, in the order of their names, without white space.
    fn thumbprint(&self) -> String {
        let members = match self {
            Self::Ed25519 { x } => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#),
            Self::Rsa { n, e } => format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#),
        };
        secret::sha256(members.as_bytes())
    }
}

/// Whether this may be a signing key's kid: 43 characters of base64url. What isn't one names no key, and nobody has to look for it.
pub fn is_kid(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// An entity tag's content for these kids in this order. A kid says all of a key, so other keys have another tag.
pub fn tag_of<'a>(kids: impl Iterator<Item = &'a str>) -> String {
    secret::sha256(kids.collect::<Vec<_>>().join(" ").as_bytes())
}

impl SigningKey {
    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub fn public(&self) -> &PublicHalf {
        &self.public
    }

    /// Signs, always alike: Ed25519 (RFC 8032 §5.1.6) and PKCS #1 v1.5 (RFC 8017 §8.2) are deterministic. The signature is in base64url.
    ///
    /// # Errors
    /// [`KeyError::Crypto`].
    pub(super) fn sign(&self, message: &[u8]) -> Result<String, KeyError> {
        match &self.pair {
            Pair::Ed25519(pair) => Ok(URL_SAFE_NO_PAD.encode(pair.sign(message))),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                    .map_err(|_| KeyError::Crypto("signing with RSA"))?;
                Ok(URL_SAFE_NO_PAD.encode(signature))
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
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
        let ed25519 = PublicHalf::Ed25519 { x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned() };
        assert_eq!(ed25519.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        // RFC 7638 §3.1.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W\
                 -5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyr\
                 dkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let rsa = PublicHalf::Rsa { n: n.to_owned(), e: "AQAB".to_owned() };
        assert_eq!(rsa.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
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
        let key = encryption(1);
        let signing = |algorithm| StoredKey::generate_signing(algorithm, now(), Some(&key)).unwrap();
        let keys = [signing(Algorithm::EdDsa), signing(Algorithm::Rs256), StoredKey::generate_derivation(now(), Some(&key)).unwrap()];
        for key in keys {
            assert!(key.sealed);
            key.open(Some(&encryption(1))).unwrap();
            assert_eq!(key.open(None).unwrap_err(), KeyError::Sealed { kid: key.kid.clone() });
            assert_eq!(key.open(Some(&encryption(2))).unwrap_err(), KeyError::WrongKeyEncryptionKey { kid: key.kid.clone() });
        }
    }

    #[test]
    fn a_plain_key_is_sealed_once_a_key_encryption_key_is_set() {
        let plain = StoredKey::generate_signing(Algorithm::EdDsa, now(), None).unwrap();
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
        let (one, other) = (
            StoredKey::generate_signing(Algorithm::EdDsa, now(), None).unwrap(),
            StoredKey::generate_signing(Algorithm::EdDsa, now(), None).unwrap(),
        );
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
    fn an_rsa_key_is_kept_as_any_other() {
        let key = StoredKey::generate_signing(Algorithm::Rs256, now(), None).unwrap();
        let OpenedKey::Sign(opened) = key.open(None).unwrap() else { panic!("no signing key") };
        assert_eq!((opened.kid(), opened.algorithm()), (key.kid.as_str(), Algorithm::Rs256));
        let PublicHalf::Rsa { n, e } = opened.public() else { panic!("no RSA key") };
        assert_eq!((URL_SAFE_NO_PAD.decode(n).unwrap().len(), e.as_str()), (256, "AQAB"));
        assert!(is_kid(&key.kid));
        // Neither another key, nor the same under another algorithm or purpose.
        let other = StoredKey::generate_signing(Algorithm::Rs256, now(), None).unwrap();
        for bent in [
            StoredKey { private: other.private.clone(), ..key.clone() },
            StoredKey { algorithm: Algorithm::EdDsa, ..key.clone() },
            StoredKey { algorithm: Algorithm::Hs256, ..key.clone() },
            StoredKey { purpose: KeyPurpose::Refresh, ..key.clone() },
            StoredKey { private: String::new(), ..key.clone() },
        ] {
            assert!(matches!(bent.open(None), Err(KeyError::Damaged { .. })), "{bent:?}");
        }
        let printed = format!("{key:?} {opened:?}");
        assert!(!printed.contains(&key.private) && printed.contains(&key.kid));
        let none = StoredKey::generate_signing(Algorithm::Hs256, now(), None);
        assert_eq!(none.unwrap_err(), KeyError::NotForSigning(Algorithm::Hs256));
    }

    #[test]
    fn an_imported_key_is_the_key_that_was_exported() {
        let pem = |label: &str, der: &[u8]| format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der));
        for algorithm in [Algorithm::EdDsa, Algorithm::Rs256] {
            let key = StoredKey::generate_signing(algorithm, now(), None).unwrap();
            let pkcs8 = key.decode().unwrap();
            assert_eq!(StoredKey::import(&pem("PRIVATE KEY", &pkcs8), now(), None).unwrap(), key);
            let sealed = StoredKey::import(&pem("PRIVATE KEY", &pkcs8), now(), Some(&encryption(1))).unwrap();
            assert_eq!((&sealed.kid, sealed.sealed), (&key.kid, true));
            sealed.open(Some(&encryption(1))).unwrap();
            if algorithm == Algorithm::Rs256 {
                // PKCS#1 is what PKCS#8 has inside.
                assert_eq!(StoredKey::import(&pem("RSA PRIVATE KEY", &pkcs8[26..]), now(), None).unwrap(), key);
            }
            // Cut anywhere it is no key, and no panic.
            for end in 0..pkcs8.len() {
                assert!(StoredKey::import(&pem("PRIVATE KEY", &pkcs8[..end]), now(), None).is_err(), "{end}");
                assert!(StoredKey::import(&pem("RSA PRIVATE KEY", &pkcs8[end..]), now(), None).is_err() || end == 26, "{end}");
            }
        }
    }

    #[test]
    fn damage_is_named_and_never_printed_with_the_secret() {
        let key = StoredKey::generate_signing(Algorithm::EdDsa, now(), None).unwrap();
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
