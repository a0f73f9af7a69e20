//! Private keys in PEM (RFC 7468), taken apart as far as it takes to say what is wrong with one.
//!
//! Whether a key is sound is the cryptographic library's to say; here is only decided which kind it is, and how large.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The smallest and the largest RSA key that signs, in bits: RFC 7518 §3.3, and what verifiers still accept.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The longest text that is looked at. An RSA key of 8192 bits has about 6,500 bytes.
const MAX_BYTES: usize = 64 * 1024;

/// A private key of a kind that can sign access tokens, not yet checked.
pub(super) enum PrivateDer {
    /// PKCS#8.
    Ed25519(Vec<u8>),
    /// PKCS#1, also where it came inside PKCS#8.
    Rsa(Vec<u8>),
}

/// Why a text is no key that can be imported. Never repeats any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    #[error("it is larger than any key")]
    TooLong,
    #[error("it holds no PEM: there is no line `-----BEGIN … KEY-----`")]
    NoPem,
    #[error("it holds several PEM blocks; it must hold one private key alone")]
    Several,
    #[error("it is damaged: not well-formed PEM")]
    MalformedPem,
    #[error("it is damaged: not a well-formed private key")]
    MalformedKey,
    #[error("the key is encrypted; decrypt it first, such as with `openssl pkey`")]
    Encrypted,
    #[error("it is a public key; a private key is needed to sign")]
    Public,
    #[error("it is a certificate; a private key is needed to sign")]
    Certificate,
    #[error("it is in OpenSSH's own format; PKCS#8 is needed")]
    OpenSsh,
    #[error("it is an elliptic-curve (EC) key; only Ed25519 and RSA keys sign here")]
    Ec,
    #[error("it is a key of another kind; only Ed25519 and RSA keys sign here")]
    OtherKind,
    #[error("it is an RSA key of {0} bits; it must have 2048 to 8192")]
    RsaSize(usize),
    #[error("it is an RSA key whose public exponent is below 65537")]
    RsaExponent,
    #[error("the cryptographic library refuses the key: its parts don't belong together")]
    Unsound,
    #[error("the cryptographic library failed")]
    Crypto,
}

/// The private key in `text`, which must hold that and nothing else in PEM.
///
/// # Errors
/// Everything but [`ImportError::Unsound`] and [`ImportError::Crypto`].
pub(super) fn read(text: &str) -> Result<PrivateDer, ImportError> {
    if text.len() > MAX_BYTES {
        return Err(ImportError::TooLong);
    }
    let (label, body) = only_block(text)?;
    match label {
        "PRIVATE KEY" => read_pkcs8(decode(body)?),
        "RSA PRIVATE KEY" => decode(body).and_then(read_rsa),
        "ENCRYPTED PRIVATE KEY" => Err(ImportError::Encrypted),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => Err(ImportError::Public),
        "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => Err(ImportError::Certificate),
        "OPENSSH PRIVATE KEY" => Err(ImportError::OpenSsh),
        "EC PRIVATE KEY" | "EC PARAMETERS" => Err(ImportError::Ec),
        _ => Err(ImportError::OtherKind),
    }
}

/// Label and body of the one block. What stands around it is a remark (RFC 7468 §2).
fn only_block(text: &str) -> Result<(&str, &str), ImportError> {
    const BEGIN: &str = "-----BEGIN ";
    match text.matches(BEGIN).count() {
        0 => return Err(ImportError::NoPem),
        1 => {}
        _ => return Err(ImportError::Several),
    }
    let (_, rest) = text.split_once(BEGIN).ok_or(ImportError::NoPem)?;
    let (label, rest) = rest.split_once("-----").ok_or(ImportError::MalformedPem)?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----")).ok_or(ImportError::MalformedPem)?;
    Ok((label, body))
}

fn decode(body: &str) -> Result<Vec<u8>, ImportError> {
    if body.contains("ENCRYPTED") && body.contains(':') {
        // The headers of RFC 1421, as OpenSSL once wrote them.
        return Err(ImportError::Encrypted);
    }
    let base64: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(base64).map_err(|_| ImportError::MalformedPem)
}

const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// PrivateKeyInfo (RFC 5208 §5) or OneAsymmetricKey (RFC 5958 §2).
fn read_pkcs8(der: Vec<u8>) -> Result<PrivateDer, ImportError> {
    let parts = || {
        let mut key = Der(&der).only(SEQUENCE)?;
        key.next(INTEGER)?;
        let kind = Der(key.next(SEQUENCE)?).next(OBJECT_IDENTIFIER)?;
        Some((kind, key.next(OCTET_STRING)?))
    };
    let (kind, private) = parts().ok_or(ImportError::MalformedKey)?;
    match kind {
        RSA => read_rsa(private.to_vec()),
        ED25519 => Ok(PrivateDer::Ed25519(der)),
        EC => Err(ImportError::Ec),
        _ => Err(ImportError::OtherKind),
    }
}

/// RSAPrivateKey (RFC 8017 §A.1.2). Its size is looked at before anything is computed with it.
fn read_rsa(der: Vec<u8>) -> Result<PrivateDer, ImportError> {
    let numbers = || {
        let mut key = Der(&der).only(SEQUENCE)?;
        key.next(INTEGER)?;
        Some((key.number()?, key.number()?))
    };
    let (modulus, exponent) = numbers().ok_or(ImportError::MalformedKey)?;
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err(ImportError::RsaSize(bits));
    }
    if exponent.len() < 3 {
        return Err(ImportError::RsaExponent);
    }
    Ok(PrivateDer::Rsa(der))
}

/// Modulus and exponent of an RSAPublicKey (RFC 8017 §A.1.1), as RFC 7518 §6.3.1 wants them: without leading zeros.
pub(super) fn read_rsa_public(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut key = Der(der).only(SEQUENCE)?;
    Some((key.number()?, key.number()?))
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// What is left to read of some DER.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next element, if it has this tag.
    fn next(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&found, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            // The long form: so many bytes of length follow. Two are enough for every key.
            let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if bytes.is_empty() || bytes.len() > 2 {
                return None;
            }
            length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = after;
        }
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        (found == tag).then_some(content)
    }

    /// The one element that there is.
    fn only(mut self, tag: u8) -> Option<Der<'a>> {
        let content = self.next(tag)?;
        self.0.is_empty().then_some(Der(content))
    }

    /// A positive integer without its leading zeros.
    fn number(&mut self) -> Option<&'a [u8]> {
        let bytes = self.next(INTEGER)?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let is_negative = bytes.first().is_none_or(|byte| *byte >= 0x80);
        bytes.get(zeros..).filter(|number| !number.is_empty() && !is_negative)
    }
}
