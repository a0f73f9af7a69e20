//! Sessions: the rows that decide whether a token still counts.

use super::client::{Audience, ClientId};
use super::ids::SessionId;
use super::impersonation::{EndCause, Grant};
use super::policy::Policy;
use super::scope::Scope;
use super::user::Principal;
use super::{Time, impersonation};

/// A session as a request finds it: its row, and its people as they are now.
///
/// An impersonation can't be written down without its actor and its original session, and an own session can't have
/// any.
#[derive(Debug, Clone)]
pub struct Session {
    pub id: SessionId,
    pub subject: Principal,
    pub kind: Kind,
    pub started_at: Time,
    /// The last instant at which the session may live: an own session's refresh token ends then, an impersonation's
    /// access token too. Exclusive.
    pub expires_at: Time,
    pub last_used_at: Time,
    pub ended: Option<Ended>,
    /// What the token endpoint made of it, where a client started it; `None` for what a login or a plain start opened.
    pub terms: Option<TokenTerms>,
}

/// What the token endpoint lays down about a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenTerms {
    /// The client that it was given to.
    pub client: ClientId,
    pub scope: Scope,
    /// Whom it is for; at least one.
    pub audiences: Vec<Audience>,
}

/// The session of a narrower token: a row of its own, which hangs on the session from which it was made. That session's people and its end are this one's too.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub id: SessionId,
    /// The exchanged session whose token was presented, where it was one.
    pub parent: Option<SessionId>,
    pub terms: TokenTerms,
    pub started_at: Time,
    /// Exclusive; not after the presented token's expiry.
    pub expires_at: Time,
    pub ended_at: Option<Time>,
    /// Whether the client that it was given to may still do anything.
    pub client_is_active: bool,
}

/// The session of a token that a client has for itself, without a user.
#[derive(Debug, Clone)]
pub struct ClientSession {
    pub id: SessionId,
    pub name: super::text::DisplayName,
    pub terms: TokenTerms,
    pub started_at: Time,
    /// Exclusive.
    pub expires_at: Time,
    pub ended_at: Option<Time>,
    pub client_is_active: bool,
}

/// What a token's own row is worth, beside the session that it hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenStanding {
    Live,
    Expired,
    /// Revoked, or its client was disabled.
    Ended,
}

fn token_standing(now: Time, expires_at: Time, ended_at: Option<Time>, client_is_active: bool) -> TokenStanding {
    if ended_at.is_some() || !client_is_active {
        TokenStanding::Ended
    } else if expires_at <= now {
        TokenStanding::Expired
    } else {
        TokenStanding::Live
    }
}

impl Exchange {
    pub fn standing(&self, now: Time) -> TokenStanding {
        token_standing(now, self.expires_at, self.ended_at, self.client_is_active)
    }
}

impl ClientSession {
    pub fn standing(&self, now: Time) -> TokenStanding {
        token_standing(now, self.expires_at, self.ended_at, self.client_is_active)
    }
}

/// Own or impersonation, with what belongs to each.
#[derive(Debug, Clone)]
pub enum Kind {
    Own,
    Impersonation(Box<ActingAs>),
}

/// The half of a session that only an impersonation has.
#[derive(Debug, Clone)]
pub struct ActingAs {
    pub actor: Principal,
    pub original_session: SessionId,
    /// Whether the original session is over, by its end or by its time.
    pub original_ended_at: Option<Time>,
    pub original_expires_at: Time,
    pub grant: Grant,
}

impl ActingAs {
    /// The own session from which it was started, as long as that lives: all else of it is known.
    pub fn original(&self, started_at: Time, last_used_at: Time) -> Session {
        Session {
            id: self.original_session,
            subject: self.actor.clone(),
            kind: Kind::Own,
            started_at,
            expires_at: self.original_expires_at,
            last_used_at,
            ended: None,
            terms: None,
        }
    }
}

/// When and why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub at: Time,
    pub cause: EndCause,
}

/// What a session is worth at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Requests may run in it.
    Live,
    /// Its row says that it is over.
    Over(EndCause),
    /// It has to end now, for this cause, which its row doesn't say yet.
    MustEnd(EndCause),
}

impl Session {
    /// Decides what this session is worth at `now`, under `policy`.
    ///
    /// This is asked at every request and again inside every write's transaction.
    pub fn standing(&self, now: Time, policy: &Policy) -> Standing {
        if let Some(ended) = self.ended {
            return Standing::Over(ended.cause);
        }
        match &self.kind {
            Kind::Own if self.expires_at <= now => Standing::MustEnd(EndCause::Expired),
            Kind::Own if !self.subject.is_active() => Standing::MustEnd(EndCause::UserDisabled),
            Kind::Own => Standing::Live,
            Kind::Impersonation(acting) => {
                let original_over = acting.original_ended_at.is_some() || acting.original_expires_at <= now;
                let idle_seconds = policy.terms.idle_seconds;
                let idle = chrono::Duration::seconds(i64::from(idle_seconds));
                if self.expires_at <= now {
                    Standing::MustEnd(EndCause::Expired)
                } else if let Some(cause) = impersonation::broken_ceiling(&acting.actor, &self.subject, policy) {
                    Standing::MustEnd(cause)
                } else if original_over {
                    Standing::MustEnd(EndCause::OriginalSessionEnded)
                } else if idle_seconds > 0 && self.last_used_at + idle <= now {
                    Standing::MustEnd(EndCause::Idle)
                } else {
                    Standing::Live
                }
            }
        }
    }

    /// Who acts in this session.
    pub fn acting_as(&self) -> Option<&ActingAs> {
        match &self.kind {
            Kind::Own => None,
            Kind::Impersonation(acting) => Some(acting),
        }
    }
}
