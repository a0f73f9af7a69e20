//! Sessions: the rows that decide whether a token still counts.

use super::ids::SessionId;
use super::impersonation::{EndCause, Grant};
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
    /// Decides what this session is worth at `now`. `idle_seconds` is how long an impersonation may go unused; 0 means no limit.
    ///
    /// This is asked at every request and again inside every write's transaction.
    pub fn standing(&self, now: Time, idle_seconds: u32) -> Standing {
        if let Some(ended) = self.ended {
            return Standing::Over(ended.cause);
        }
        match &self.kind {
            Kind::Own if self.expires_at <= now => Standing::MustEnd(EndCause::Expired),
            Kind::Own if !self.subject.is_active() => Standing::MustEnd(EndCause::UserDisabled),
            Kind::Own => Standing::Live,
            Kind::Impersonation(acting) => {
                let original_over = acting.original_ended_at.is_some() || acting.original_expires_at <= now;
                let idle = chrono::Duration::seconds(i64::from(idle_seconds));
                if self.expires_at <= now {
                    Standing::MustEnd(EndCause::Expired)
                } else if let Some(cause) = impersonation::broken_ceiling(&acting.actor, &self.subject) {
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
