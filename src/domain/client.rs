//! OAuth clients (RFC 6749 §2): the programs that ask the token endpoint for tokens.

use std::fmt;

use uuid::Uuid;

use super::error::{Code, Error, Reason, ReasonCode, Result};
use super::scope::Scope;
use super::text::TextError;
use super::{Time, string_enum};

/// Names a client: the claim `client_id`, and `sub` in a client's own tokens. A registered client's is a UUID, so it can be no user's either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientId {
    /// `actas`: every login's and every plain start's. It is public and built in.
    FirstParty,
    Registered(Uuid),
}

impl ClientId {
    /// How the first-party client is written.
    pub const FIRST_PARTY: &'static str = "actas";

    /// A new registered client's id that sorts by `now`.
    pub fn new(now: Time) -> Self {
        Self::Registered(super::ids::next(now))
    }

    /// The id written as `text`, in its one spelling.
    pub fn parse(text: &str) -> Option<Self> {
        if text == Self::FIRST_PARTY {
            return Some(Self::FirstParty);
        }
        let id = Uuid::try_parse(text).ok()?;
        (id.hyphenated().to_string() == text).then_some(Self::Registered(id))
    }

    pub fn is_first_party(self) -> bool {
        self == Self::FirstParty
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstParty => f.write_str(Self::FIRST_PARTY),
            Self::Registered(id) => id.hyphenated().fmt(f),
        }
    }
}

impl serde::Serialize for ClientId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ClientId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("must be `actas` or a UUID in lower case with hyphens"))
    }
}

string_enum! {
    /// What a client may ask the token endpoint for.
    pub enum ClientGrant {
        /// A token for itself, without a user (RFC 6749 §4.4).
        ClientCredentials => "client_credentials",
        /// To begin to act as a user with an administrator's token as `actor_token` (RFC 8693).
        Impersonate => "impersonate",
        /// New tokens of an own session (RFC 6749 §6). The first-party client's alone, because refresh tokens are.
        RefreshToken => "refresh_token",
        /// A narrower token for a token (RFC 8693).
        TokenExchange => "token_exchange",
    }
}

string_enum! {
    /// Whether a client may ask for anything. Clients are disabled, never deleted, so that the history keeps them.
    pub enum ClientStatus {
        Active => "active",
        Disabled => "disabled",
    }
}

/// Whom a token is for: the claim `aud`. One word of printable ASCII characters; often a URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Audience(String);

impl Audience {
    /// The longest that is accepted, in bytes.
    pub const MAX_BYTES: usize = 200;

    /// Accepts 1 to 200 printable ASCII characters without a space, a quotation mark or a backslash.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let is_word = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
        if text.is_empty() || text.len() > Self::MAX_BYTES || !text.bytes().all(is_word) {
            let detail = "must be 1 to 200 printable ASCII characters without a space, a quotation mark or a backslash";
            return Err(TextError { code: "invalid_audience", detail: detail.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }

    /// Takes what was parsed before it was stored.
    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client may be and have, beside its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTerms {
    pub name: super::text::DisplayName,
    pub status: ClientStatus,
    /// In alphabetical order, each once.
    pub grants: Vec<ClientGrant>,
    /// The most that its tokens reach.
    pub scope: Scope,
    /// For whom it may ask tokens, and whose tokens it may introspect. In alphabetical order, each once.
    pub audiences: Vec<Audience>,
    /// The clients that may present this one's tokens for an exchange as if they were theirs.
    pub presenters: Vec<ClientId>,
}

/// A client's row, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    pub id: ClientId,
    pub terms: ClientTerms,
    /// Raised by one with every change.
    pub version: i64,
    pub created_at: Time,
    pub updated_at: Time,
}

impl Client {
    pub fn is_active(&self) -> bool {
        self.terms.status == ClientStatus::Active
    }

    pub fn has(&self, grant: ClientGrant) -> bool {
        self.terms.grants.contains(&grant)
    }

    /// The most that its tokens reach: everything for the first-party client, whose tokens are its users' own.
    pub fn scope(&self) -> Scope {
        if self.id.is_first_party() { Scope::all() } else { self.terms.scope }
    }

    /// Whether it may have tokens for `audience`, and may introspect such. `ours` is Actas' own audience, which the first-party client always has. Every
    /// client is an audience by its id, too.
    pub fn may_address(&self, audience: &str, ours: &str) -> bool {
        self.terms.audiences.iter().any(|known| known.as_str() == audience)
            || (self.id.is_first_party() && audience == ours)
            || (!self.id.is_first_party() && audience == self.id.to_string())
    }

    /// Whether this client's tokens may be presented by `other` for an exchange: by itself, and by those that it lists. So a service that merely received a
    /// token can't use it (the confused deputy).
    pub fn lets_present(&self, other: ClientId) -> bool {
        self.id == other || self.terms.presenters.contains(&other)
    }
}

/// A change of a client. `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct ClientChange {
    pub name: Option<super::text::DisplayName>,
    pub status: Option<ClientStatus>,
    pub grants: Option<Vec<ClientGrant>>,
    pub scope: Option<Scope>,
    pub audiences: Option<Vec<Audience>>,
    pub presenters: Option<Vec<ClientId>>,
}

impl ClientTerms {
    /// How many audiences a client may have, and how many presenters.
    pub const MAX_LISTED: usize = 50;

    /// Accepts as many audiences, or presenters, as a client may have.
    ///
    /// # Errors
    /// That there are too many.
    pub fn check_count(count: usize) -> Result<(), TextError> {
        if count <= Self::MAX_LISTED {
            return Ok(());
        }
        Err(TextError { code: "too_many", detail: format!("must have at most {} items", Self::MAX_LISTED) })
    }

    /// These terms after `change`, in their one order.
    #[must_use]
    pub fn changed(&self, change: &ClientChange) -> Self {
        Self {
            name: change.name.clone().unwrap_or_else(|| self.name.clone()),
            status: change.status.unwrap_or(self.status),
            grants: change.grants.clone().unwrap_or_else(|| self.grants.clone()),
            scope: change.scope.unwrap_or(self.scope),
            audiences: change.audiences.clone().unwrap_or_else(|| self.audiences.clone()),
            presenters: change.presenters.clone().unwrap_or_else(|| self.presenters.clone()),
        }
        .in_order()
    }

    /// The same terms, each list in its one order and without repetitions.
    #[must_use]
    pub fn in_order(mut self) -> Self {
        self.grants.sort_unstable();
        self.grants.dedup();
        self.audiences.sort_unstable();
        self.audiences.dedup();
        self.presenters.sort_unstable();
        self.presenters.dedup();
        self
    }

    /// Whether a client with this id may have these terms.
    ///
    /// # Errors
    /// 403 `action_refused` where the first-party client would lose what it is; 422 where a grant is not for such a client, and for too many of anything.
    pub fn require_fit(&self, id: ClientId) -> Result<()> {
        for (pointer, count) in [("/audiences", self.audiences.len()), ("/presenters", self.presenters.len())] {
            Self::check_count(count).map_err(|error| Error::invalid_field(pointer, error.code, error.detail))?;
        }
        let refuse = |grant: ClientGrant, detail: &str| {
            let refused = Err(Error::invalid_field("/grants", "not_applicable", detail));
            if self.grants.contains(&grant) { refused } else { Ok(()) }
        };
        if !id.is_first_party() {
            return refuse(ClientGrant::RefreshToken, "refresh tokens are the first-party client's alone");
        }
        refuse(ClientGrant::ClientCredentials, "the first-party client is public: it has no credentials")?;
        if self.status == ClientStatus::Disabled || !self.scope.is_empty() {
            return Err(first_party_refusal());
        }
        Ok(())
    }
}

/// 403 `action_refused`: this can't be done to the first-party client.
pub fn first_party_refusal() -> Error {
    let detail = "the first-party client is public and built in: it has no secret and no scope of its own, and can't be disabled";
    Error::refused(Code::ActionRefused, "this is not possible with this client", vec![Reason::new(ReasonCode::FirstPartyClient, detail)])
}

/// A client as it acts by itself, in a token without a user.
#[derive(Debug, Clone)]
pub struct ClientPrincipal {
    pub id: ClientId,
    pub name: super::text::DisplayName,
    /// What its token names of what the client may.
    pub scope: Scope,
}
