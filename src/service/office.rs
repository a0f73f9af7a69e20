//! What every use case shares.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::policy::Policies;
use crate::auth::keys::{Algorithm, KeyEncryptionKey};
use crate::auth::limiter::{Limiter, origin_of};
use crate::auth::passwords::Passwords;
use crate::auth::secret::DerivationKey;
use crate::auth::tokens::Tokens;
use crate::domain::client::ClientGrant;
use crate::domain::error::ReasonCode;
use crate::domain::impersonation::{EndCause, Mode};
use crate::store::Db;

/// The rules that the operator sets, but for those of impersonation, which are the policy's. Times in seconds.
#[derive(Debug, Clone)]
pub struct Settings {
    pub issuer: String,
    pub audience: String,
    /// What new tokens are signed with.
    pub signing_algorithm: Algorithm,
    pub access_token_ttl: u32,
    /// From login, not extended.
    pub refresh_token_ttl: u32,
    pub refresh_grace: u32,
}

/// Something that the metrics count, told once it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    LoginSucceeded,
    LoginFailed,
    LoginLimited,
    LoginOverloaded,
    ImpersonationStarted(Mode),
    ImpersonationRefused(ReasonCode),
    ImpersonationEnded(EndCause),
    /// A start was tried without starting; whether it would have been allowed.
    ImpersonationTried(bool),
    /// The token endpoint gave a token.
    TokenIssued(ClientGrant),
}

/// Who is told of events.
pub type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

/// Everything that the use cases share. Cheap to pass around behind an `Arc`.
pub struct Office {
    pub db: Db,
    pub tokens: Tokens,
    /// What opens the signing keys that are sealed.
    pub key_encryption: Option<KeyEncryptionKey>,
    pub refresh_key: DerivationKey,
    pub passwords: Passwords,
    pub limiter: Limiter,
    pub settings: Settings,
    pub policies: Arc<Policies>,
    pub observer: Observer,
}

/// What is known of the sender of a request beside its token.
#[derive(Debug, Clone)]
pub struct Client {
    /// The address; unspecified where it is not known.
    pub ip: IpAddr,
    pub user_agent: Option<String>,
    pub request_id: Option<String>,
}

impl Client {
    /// The address in the form in which failures are counted and addresses are known again: an IPv6 address by its /64.
    pub(super) fn address(&self) -> IpAddr {
        origin_of(self.ip)
    }

    /// A sender of whom nothing is known.
    pub fn unknown() -> Self {
        Self { ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED), user_agent: None, request_id: None }
    }
}
