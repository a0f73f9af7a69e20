//! The gate: from a bearer token to a caller, and from a caller to a connection.

use chrono::Duration;

use super::ending;
use super::office::{Event, Office};
use crate::auth::tokens::Verified;
use crate::domain::Time;
use crate::domain::error::{Code, Error, Result};
use crate::domain::identity::{By, Ctx, Identity};
use crate::domain::operation::{self, Requirements};
use crate::domain::session::{Session, Standing};
use crate::store::{Conn, Lock, sessions};

/// How stale an own session's last use may be, in seconds.
const OWN_LAST_USED_SECONDS: i64 = 60;

/// A bearer token whose signature and claims hold. Says nothing yet of its session.
#[derive(Debug, Clone)]
pub struct Presented {
    pub token: Verified,
}

/// Someone who may make the call that they are making.
#[derive(Debug, Clone)]
pub struct Caller {
    pub ctx: Ctx,
    /// The access token that was presented.
    pub token: Verified,
    requirements: Requirements,
}

impl Caller {
    /// Who this is, as far as the gate found out.
    ///
    /// # Errors
    /// None in practice: a caller has an identity.
    pub fn identity(&self) -> Result<&Identity> {
        self.ctx.identity()
    }
}

/// One write: the connection inside its transaction, on whose behalf, and what to tell once it is durable.
pub struct Tx<'a> {
    pub conn: &'a mut Conn,
    pub ctx: Ctx,
    pub events: Vec<Event>,
}

/// What became of a write whose caller was asked again.
enum Checked<T> {
    Done(T),
    /// The caller's session is over, and its row says so now.
    Over(Error),
}

impl Office {
    /// Checks a bearer token's form, signature and claims, but neither its session nor its expiry.
    ///
    /// # Errors
    /// 401 `invalid_token`.
    pub fn present(&self, token: &str, now: Time) -> Result<Presented> {
        match self.tokens.verify(token, now) {
            Ok(token) => Ok(Presented { token }),
            Err(error) => {
                tracing::debug!(%error, "a token was refused");
                Err(invalid_token())
            }
        }
    }

    /// Decides whether the bearer of `presented` may make a call with these `requirements`.
    ///
    /// # Errors
    /// 401 where the token or its session doesn't count, 403 as [`operation::permit`] says.
    pub async fn admit(&self, presented: Presented, requirements: Requirements, now: Time, request_id: Option<String>) -> Result<Caller> {
        let Presented { token } = presented;
        let id = token.claims.sid;
        let session = self.db.read(move |conn| sessions::find(conn, id, Lock::None)).await?;
        let session = matching(session, &token)?;
        match session.standing(now, self.settings.impersonation_idle) {
            Standing::Live => {}
            Standing::Over(cause) => return Err(ending::over(&session, cause)),
            Standing::MustEnd(_) => {
                // The row has to say so before anyone is told.
                let result = self.write_as(token, requirements, now, request_id, |_| Ok(())).await;
                return Err(result.err().unwrap_or_else(invalid_token));
            }
        }
        if session.acting_as().is_none() && token.is_expired(now) {
            return Err(Error::new(Code::TokenExpired, "the access token's time is over; refresh it"));
        }
        self.touch(&session, now).await?;
        let identity = Identity::of_live(session);
        operation::permit(&identity, &requirements)?;
        Ok(Caller { ctx: Ctx { by: By::Request(Box::new(identity)), now, request_id }, token, requirements })
    }

    /// Notes the use of a session, at most every tenth of an impersonation's idle limit.
    async fn touch(&self, session: &Session, now: Time) -> Result<()> {
        let stale = match session.acting_as() {
            Some(_) if self.settings.impersonation_idle > 0 => Duration::milliseconds(i64::from(self.settings.impersonation_idle) * 100),
            _ => Duration::seconds(OWN_LAST_USED_SECONDS),
        };
        if session.last_used_at + stale > now {
            return Ok(());
        }
        let id = session.id;
        self.db.write(move |conn| sessions::touch(conn, id, now)).await
    }

    /// Runs a use case that only reads.
    ///
    /// # Errors
    /// What `work` answers.
    pub async fn read<T: Send + 'static>(
        &self,
        caller: &Caller,
        work: impl FnOnce(&mut Conn, &Ctx) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let ctx = caller.ctx.clone();
        self.db.read(move |conn| work(conn, &ctx)).await
    }

    /// Runs a use case that writes, in one transaction that begins by asking again whether the caller may.
    ///
    /// # Errors
    /// What `work` answers; 401 and 403 as [`Office::admit`].
    pub async fn write<T: Send + 'static>(&self, caller: &Caller, work: impl Fn(&mut Tx<'_>) -> Result<T> + Send + 'static) -> Result<T> {
        let Caller { ctx, token, requirements } = caller.clone();
        self.write_as(token, requirements, ctx.now, ctx.request_id, work).await
    }

    async fn write_as<T: Send + 'static>(
        &self,
        token: Verified,
        requirements: Requirements,
        now: Time,
        request_id: Option<String>,
        work: impl Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let idle = self.settings.impersonation_idle;
        let ctx = Ctx { by: By::Anonymous, now, request_id };
        let checked = self.transact(ctx, move |tx| {
            // One write of a session at a time. Shared, the lock would let a stream of writes hold off the one that ends it for ever, and two writes that
            // both end sessions, which needs the lock to themselves, would wait for each other:
            //     A shares S     B shares S     A wants S, waits for B     B wants S, waits for A
            let session = matching(sessions::find(tx.conn, token.claims.sid, Lock::Update)?, &token)?;
            let standing = session.standing(now, idle);
            tx.ctx.by = By::Request(Box::new(Identity::of_live(session.clone())));
            match standing {
                Standing::Live => {
                    operation::permit(tx.ctx.identity()?, &requirements)?;
                    work(tx).map(Checked::Done)
                }
                Standing::Over(cause) => Ok(Checked::Over(ending::over(&session, cause))),
                Standing::MustEnd(cause) => {
                    ending::end_overdue(tx, &session, cause)?;
                    Ok(Checked::Over(ending::over(&session, cause)))
                }
            }
        });
        match checked.await? {
            Checked::Done(value) => Ok(value),
            Checked::Over(error) => Err(error),
        }
    }

    /// Runs `work` in one transaction on behalf of `ctx`, and tells the observer of its events once they are durable.
    pub(super) async fn transact<T: Send + 'static>(
        &self,
        ctx: Ctx,
        work: impl Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (value, events) = self
            .db
            .write(move |conn| {
                let mut tx = Tx { conn, ctx: ctx.clone(), events: Vec::new() };
                let value = work(&mut tx)?;
                Ok((value, tx.events))
            })
            .await?;
        events.iter().for_each(|event| (self.observer)(event));
        Ok(value)
    }
}

/// The session, if it is the one that the token was made for: both say the same of who acts as whom.
pub(super) fn matching(session: Option<Session>, token: &Verified) -> Result<Session> {
    let claims = &token.claims;
    let actor = claims.act.as_ref().map(|act| act.sub);
    session
        .filter(|session| session.subject.id() == claims.sub && session.acting_as().map(|acting| acting.actor.id()) == actor)
        .ok_or_else(invalid_token)
}

fn invalid_token() -> Error {
    Error::new(Code::InvalidToken, "the access token is not valid here")
}
