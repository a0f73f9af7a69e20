//! Text that people write: parsed once at the edge, trusted everywhere below.
//!
//! NUL is refused everywhere (Postgres can't keep it). Names and other single lines also refuse control characters and
//! everything that turns or hides text (bidirectional controls, zero-width characters), so that a display name can't
//! forge the note of an entry.

use std::fmt;

/// Why a text was refused: a stable code and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextError {
    pub code: &'static str,
    pub detail: String,
}

impl TextError {
    fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// Characters that a single line may not contain: controls, line separators, and what changes direction or is invisible
/// (Unicode TR 36 and CVE-2021-42574).
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00AD}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{180E}' | '\u{200B}' | '\u{200E}' | '\u{200F}'
            | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF9}'..='\u{FFFB}'
            | '\u{E0000}'..='\u{E0FFF}')
}

fn check_length(text: &str, min: usize, max: usize) -> Result<(), TextError> {
    let length = text.chars().count();
    if length < min {
        let detail = if min == 1 { "must not be empty".to_owned() } else { format!("must have at least {min} characters") };
        return Err(TextError::new("too_short", detail));
    }
    if length > max {
        return Err(TextError::new("too_long", format!("must have at most {max} characters")));
    }
    Ok(())
}

fn parse_line(text: &str, min: usize, max: usize) -> Result<String, TextError> {
    let text = text.trim();
    check_length(text, min, max)?;
    // Joiners and variation selectors belong to scripts and emoji, but a name of nothing else would be invisible.
    let is_joiner = |c: char| matches!(c, '\u{200C}' | '\u{200D}' | '\u{FE00}'..='\u{FE0F}');
    if text.chars().any(is_deceptive) || (min > 0 && text.chars().all(|c| c.is_whitespace() || is_joiner(c))) {
        return Err(TextError::new("invalid_characters", "must not contain control, bidirectional or invisible characters"));
    }
    Ok(text.to_owned())
}

fn parse_block(text: &str, max: usize) -> Result<String, TextError> {
    check_length(text, 0, max)?;
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(TextError::new("invalid_characters", "must not contain control characters other than line breaks and tabs"));
    }
    Ok(text.to_owned())
}

macro_rules! text {
    ($(#[$meta:meta])* $name:ident, $parse:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Accepts `text`, or says why not.
            pub fn parse(text: &str) -> Result<Self, TextError> {
                let parse: fn(&str) -> Result<String, TextError> = $parse;
                parse(text).map(Self)
            }

            /// Takes a text that was parsed before it was stored.
            pub fn from_stored(text: String) -> Self { Self(text) }

            pub fn as_str(&self) -> &str { &self.0 }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
    };
}

text!(
    /// A person's name as others see it: one line of 1 to 100 characters.
    DisplayName,
    |text| parse_line(text, 1, 100)
);
text!(
    /// An article's title: one line of 1 to 200 characters.
    Title,
    |text| parse_line(text, 1, 200)
);
text!(
    /// An article's abstract: up to 5,000 characters, line breaks allowed.
    Abstract,
    |text| parse_block(text, 5_000)
);
text!(
    /// An article's text: up to 100,000 characters, line breaks allowed.
    Body,
    |text| parse_block(text, 100_000)
);
text!(
    /// Why an impersonation is started: one line of 1 to 500 characters.
    Reason,
    |text| parse_line(text, 1, 500)
);
text!(
    /// The support ticket that an impersonation belongs to: one line of 1 to 100 characters.
    Ticket,
    |text| parse_line(text, 1, 100)
);
text!(
    /// A remark on a step of the workflow: up to 2,000 characters, line breaks allowed.
    Comment,
    |text| parse_block(text, 2_000)
);
text!(
    /// What is searched for: one line of up to 200 characters.
    SearchText,
    |text| parse_line(text, 0, 200)
);
text!(
    /// An e-mail address (RFC 5321 mailbox, ASCII, no quoted local part, no address literal), at most 254 characters. Kept as
    /// written; [`Email::key`] is what makes it unique.
    Email,
    |text| {
        let text = text.trim();
        check_length(text, 1, 254)?;
        let options = email_address::Options::default().without_display_text().without_domain_literal().with_required_tld();
        let valid = text.is_ascii() && !text.contains(['"', '(', ')']) && email_address::EmailAddress::parse_with_options(text, options).is_ok();
        if !valid {
            return Err(TextError::new("invalid_email", "must be an e-mail address such as name@example.org"));
        }
        Ok(text.to_owned())
    }
);

impl Email {
    /// The form in which two addresses are the same: lower case.
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

/// A new password: 8 characters to 72 bytes, which is all that bcrypt reads, without NUL. Never printed.
#[derive(Clone)]
pub struct NewPassword(String);

impl NewPassword {
    /// The most that bcrypt takes; more would be cut off in silence.
    pub const MAX_BYTES: usize = 72;

    pub fn parse(text: &str) -> Result<Self, TextError> {
        check_length(text, 8, usize::MAX)?;
        if text.len() > Self::MAX_BYTES {
            return Err(TextError::new("too_long", "must have at most 72 bytes, which is all that bcrypt reads"));
        }
        if text.contains('\0') {
            return Err(TextError::new("invalid_characters", "must not contain NUL"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The secret itself, for hashing only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewPassword(…)")
    }
}

/// The S256 challenge of a restore proof: base64url without padding of a SHA-256, 43 characters (RFC 7636 §4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreChallenge(String);

impl RestoreChallenge {
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let well_formed = text.len() == 43 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !well_formed {
            return Err(TextError::new("invalid_challenge", "must be base64url(SHA-256(verifier)) without padding, 43 characters"));
        }
        Ok(Self(text.to_owned()))
    }

    /// One that no verifier meets: nothing comes back.
    pub fn unmeetable() -> Self {
        Self(String::new())
    }

    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a caller sends of itself (`X-Request-Id`, `User-Agent`): kept only if it is sane.
pub fn is_sane_request_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
}

/// Lower-cases `text` for searching, alike on both databases.
pub fn fold(text: &str) -> String {
    text.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_forge_a_note_is_refused() {
        for name in ["Ada\nAdmin", "Ada\u{202E}nimdA", "\u{200B}", "  ", "Ada\u{0}", "a\u{2028}b"] {
            assert!(DisplayName::parse(name).is_err(), "{name:?}");
        }
        assert_eq!(DisplayName::parse("  Zoë O’Brien ").unwrap().as_str(), "Zoë O’Brien");
    }

    #[test]
    fn an_email_is_an_address_and_nothing_more() {
        for email in [
            "",
            "a",
            "a@b@c.org",
            "a b@c.org",
            "Ada <ada@example.org>",
            "ada@[127.0.0.1]",
            "ada@exämple.org",
            "\"a b\"@c.org",
            "ada@localhost",
        ] {
            assert!(Email::parse(email).is_err(), "{email:?}");
        }
        assert_eq!(Email::parse("Ada@Example.org").unwrap().key(), "ada@example.org");
    }

    #[test]
    fn a_password_is_never_truncated_nor_printed() {
        assert!(NewPassword::parse(&"x".repeat(72)).is_ok());
        assert!(NewPassword::parse(&"x".repeat(73)).is_err());
        assert!(NewPassword::parse(&"é".repeat(37)).is_err());
        assert!(NewPassword::parse("1234567\0").is_err());
        assert!(NewPassword::parse("1234567").is_err());
        assert!(!format!("{:?}", NewPassword::parse("correct horse").unwrap()).contains("horse"));
    }
}
