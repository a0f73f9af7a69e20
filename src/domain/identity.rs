//! On whose behalf something is done.

use std::sync::Arc;

use super::Time;
use super::client::ClientPrincipal;
use super::error::{Code, Error};
use super::ids::{SessionId, UserId};
use super::impersonation::Hold;
use super::policy::Policy;
use super::role::Permission;
use super::session::{Exchange, Kind, Session};
use super::user::{Principal, UserRef};

/// Who a request is: its session, found live. The subject's rights are what counts; the actor is who is really there.
#[derive(Debug, Clone)]
pub struct Identity {
    session: Arc<Session>,
    exchange: Option<Exchange>,
    policy: Arc<Policy>,
}

impl Identity {
    /// Takes a session that [`Session::standing`] found live under this policy.
    pub fn of_live(session: impl Into<Arc<Session>>, policy: Arc<Policy>) -> Self {
        Self { session: session.into(), exchange: None, policy }
    }

    /// The same with a narrower token, whose own row was found live too: nobody holds more than its scope names.
    pub fn of_exchanged(mut session: Arc<Session>, exchange: Exchange, policy: Arc<Policy>) -> Self {
        let scope = exchange.terms.scope;
        let subject = &mut Arc::make_mut(&mut session).subject;
        subject.scope = Some(subject.scope.map_or(scope, |wider| wider.and(scope)));
        Self { session, exchange: Some(exchange), policy }
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The policy under which the session was found live.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What holds an actor back from what the subject may; nothing where the subject is here in person.
    pub fn hold(&self) -> Option<Hold<'_>> {
        let acting = self.session.acting_as()?;
        let mode = self.policy.mode_for(acting.actor.role, acting.grant.mode);
        let is_read_only_by_policy = mode != acting.grant.mode;
        Some(Hold { mode, is_read_only_by_policy, bounds: &acting.grant.bounds, policy: &self.policy })
    }

    /// The session of the token itself, where it is a narrower one.
    pub fn exchange(&self) -> Option<&Exchange> {
        self.exchange.as_ref()
    }

    /// The claim `sid`.
    pub fn sid(&self) -> SessionId {
        self.exchange.as_ref().map_or(self.session.id, |exchange| exchange.id)
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
    /// A request of a client by itself, without a user. Names nobody, and changes nothing but what is the client's own.
    Client(Box<ClientPrincipal>),
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

    /// Who looks: a user, or a client by itself.
    ///
    /// # Errors
    /// An internal error where there is nobody.
    pub fn viewer(&self) -> Result<Viewer<'_>, Error> {
        match &self.by {
            By::Client(client) => Ok(Viewer::Client(client)),
            _ => self.subject().map(Viewer::User),
        }
    }

    /// The identity of a request with a token.
    ///
    /// # Errors
    /// 403 `user_required` for a client by itself; an internal error where there is none: a use case that needs a caller was called without one.
    pub fn identity(&self) -> Result<&Identity, Error> {
        match &self.by {
            By::Request(identity) => Ok(identity),
            By::Client(_) => Err(user_required()),
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

/// 403: a client by itself can't do this.
pub fn user_required() -> Error {
    Error::new(Code::UserRequired, "this needs a user, and the token is a client's own")
}

/// Whoever looks at something: a user, or a client by itself.
#[derive(Debug, Clone, Copy)]
pub enum Viewer<'a> {
    User(&'a Principal),
    Client(&'a ClientPrincipal),
}

impl<'a> Viewer<'a> {
    pub fn holds(self, permission: Permission) -> bool {
        match self {
            Self::User(user) => user.holds(permission),
            Self::Client(client) => client.scope.contains(permission),
        }
    }

    /// The user that this is, if it is one.
    pub fn user(self) -> Option<&'a Principal> {
        match self {
            Self::User(user) => Some(user),
            Self::Client(_) => None,
        }
    }

    /// Whether this is the user with that id.
    pub fn is(self, id: UserId) -> bool {
        self.user().is_some_and(|user| user.id() == id)
    }
}
