//! On whose behalf something is done.

use super::Time;
use super::error::Error;
use super::ids::SessionId;
use super::session::{Kind, Session};
use super::user::{Principal, UserRef};

/// Who a request is: its session, found live. The subject's rights are what counts; the actor is who is really there.
#[derive(Debug, Clone)]
pub struct Identity {
    session: Session,
}

impl Identity {
    /// Takes a session that [`Session::standing`] found live.
    pub fn of_live(session: Session) -> Self {
        Self { session }
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The user as whom this runs: the claim `sub`.
    pub fn subject(&self) -> &Principal {
        &self.session.subject
    }

    /// The person really at the keyboard, under impersonation: the claim `act.sub`.
    pub fn actor(&self) -> Option<&Principal> {
        self.session.acting_as().map(|acting| &acting.actor)
    }

    /// The impersonation, if this is one.
    pub fn impersonation_id(&self) -> Option<SessionId> {
        match self.session.kind {
            Kind::Own => None,
            Kind::Impersonation(_) => Some(self.session.id),
        }
    }
}

/// Who an entry names.
#[derive(Debug, Clone)]
pub enum By {
    /// A request with a token.
    Request(Box<Identity>),
    /// A request whose sender has just proved to be this user, by a password or by a one-time token, and has no session.
    Credential(UserRef),
    /// A request that proved nothing. Names nobody.
    Anonymous,
    /// The command line, on the machine itself. Names nobody; the text says why.
    CommandLine(&'static str),
    /// Actas itself. Names nobody; the text says why.
    System(&'static str),
}

/// The first argument of every use case: on whose behalf, when, and in which request.
#[derive(Debug, Clone)]
pub struct Ctx {
    pub by: By,
    /// The one instant of the whole use case. Nobody below asks a clock.
    pub now: Time,
    pub request_id: Option<String>,
}

impl Ctx {
    pub fn command_line(why: &'static str, now: Time) -> Self {
        Self { by: By::CommandLine(why), now, request_id: None }
    }

    pub fn system(why: &'static str, now: Time) -> Self {
        Self { by: By::System(why), now, request_id: None }
    }

    /// The identity of a request with a token.
    ///
    /// # Errors
    /// An internal error where there is none: a use case that needs a caller was called without one.
    pub fn identity(&self) -> Result<&Identity, Error> {
        match &self.by {
            By::Request(identity) => Ok(identity),
            By::Credential(_) | By::Anonymous | By::CommandLine(_) | By::System(_) => {
                Err(Error::internal("this use case needs a caller with a session"))
            }
        }
    }

    /// The caller's subject. Errors as [`Ctx::identity`].
    pub fn subject(&self) -> Result<&Principal, Error> {
        self.identity().map(Identity::subject)
    }
}
