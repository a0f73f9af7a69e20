//! Logging out: of an own session for good, of an impersonation back into the administrator's own.

use std::sync::Arc;

use super::ending;
use super::gate::{Holder, Presented, Tx, check_standing, find_holder, identity, token_expired};
use super::grants::Grant;
use super::office::{Client, Event, Office};
use crate::auth::secret::proof_matches;
use crate::auth::tokens::Verified;
use crate::domain::Time;
use crate::domain::error::{Code, Error, Result};
use crate::domain::history::NewEntry;
use crate::domain::identity::{By, Ctx, user_required};
use crate::domain::impersonation::EndCause;
use crate::domain::policy::Policy;
use crate::domain::session::{ActingAs, Exchange, Kind, Session, Standing};
use crate::store::sessions::{self, WayBack};
use crate::store::{DecidedLeave, Departure, Lock};

/// What logging out led to.
pub enum LoggedOut {
    /// An own session is over, or a narrower token.
    Own,
    /// An impersonation is over, and this is the original token, byte for byte.
    Restored(Box<Grant>),
}

/// What the transaction leaves to be done once it is durable.
enum Outcome {
    Own,
    WayBack(WayBack, Arc<Session>),
    /// The session is over all the same.
    Refused(Error),
}

impl Office {
    /// Ends the session of the presented token. Where it is an impersonation, gives the original token back: exactly once, with the restore proof if the start
    /// asked for one, as long as the original session and its user are alive; also after it ended by itself. Whatever the answer, the impersonation is over.
    ///
    /// # Errors
    /// 401 `session_ended`, `token_expired`, `impersonation_ended`, `original_session_ended` or `restore_proof_required`.
    pub async fn log_out(&self, presented: Presented, verifier: Option<String>, client: Client, now: Time) -> Result<LoggedOut> {
        let token = presented.token;
        let decided = self.decide_leave(&token, client.request_id.as_deref(), now).await?.map(Arc::new);
        if let Some(decided) = &decided
            && let Some(left) = self.db.leave_impersonation(&decided.leave).await?
        {
            (self.observer)(&Event::ImpersonationEnded(EndCause::Logout));
            return self.lead_back(decided.leads_to(left, verifier.as_deref(), now)).await;
        }
        let (kid, policies) = (token.kid.clone(), Arc::clone(&self.policies));
        let ctx = Ctx { by: By::Anonymous, now, request_id: client.request_id };
        let outcome = self.transact(ctx, move |tx| {
            if let Some(decided) = &decided
                && let Some(left) = decided.leave.apply(tx.conn)?
            {
                tx.events.push(Event::ImpersonationEnded(EndCause::Logout));
                return Ok(decided.leads_to(left, verifier.as_deref(), now));
            }
            let found = find_holder(tx.conn, &policies, &token, Lock::Update)?;
            let Holder::User { session, exchange, policy, .. } = found else { return Err(user_required()) };
            let standing = session.standing(now, &policy);
            tx.policy = Arc::clone(&policy);
            tx.ctx.by = By::Request(Box::new(identity(Arc::clone(&session), exchange.clone(), policy)));
            if let Some(exchange) = exchange {
                return leave_narrower(tx, &session, &exchange, standing);
            }
            match &session.kind {
                Kind::Own => match standing {
                    Standing::Over(cause) => Ok(Outcome::Refused(ending::over(&session, cause))),
                    Standing::Live if token.is_expired(now) => Ok(Outcome::Refused(token_expired())),
                    Standing::Live => {
                        ending::end_own(tx, session.id, session.subject.id(), EndCause::Logout)?;
                        Ok(Outcome::Own)
                    }
                    Standing::MustEnd(cause) => {
                        ending::end_overdue(tx, &session, cause)?;
                        Ok(Outcome::Refused(ending::over(&session, cause)))
                    }
                },
                // Its row ends no later than it says: it was not made for this one.
                Kind::Impersonation(_) if standing == Standing::Live && token.is_expired(now) => Ok(Outcome::Refused(token_expired())),
                Kind::Impersonation(acting) => leave(tx, &session, acting, standing, verifier.as_deref()),
            }
        });
        self.lead_back(self.heed(&kid, outcome.await).await?).await
    }

    /// Decides before it is written that a live impersonation is left, by what is read now. Nothing where there is more to it.
    async fn decide_leave(&self, token: &Arc<Verified>, request_id: Option<&str>, now: Time) -> Result<Option<Leaving>> {
        if token.claims.act.is_none() || token.is_expired(now) {
            return Ok(None);
        }
        let Ok(Holder::User { session, policy, ground: Some(ground), .. }) = self.look(token, None).await else { return Ok(None) };
        let Kind::Impersonation(acting) = &session.kind else { return Ok(None) };
        if session.standing(now, &policy) != Standing::Live {
            return Ok(None);
        }
        let by = By::Request(Box::new(identity(Arc::clone(&session), None, Arc::clone(&policy))));
        let ctx = Ctx { by, now, request_id: request_id.map(str::to_owned) };
        let entry = NewEntry::impersonation_ended(&ctx, session.id, EndCause::Logout);
        let leave = DecidedLeave { ground, at: now, by: acting.actor.id(), entry };
        Ok(Some(Leaving { leave, acting: ActingAs::clone(acting), policy }))
    }

    async fn lead_back(&self, outcome: Outcome) -> Result<LoggedOut> {
        match outcome {
            Outcome::Own => Ok(LoggedOut::Own),
            Outcome::Refused(error) => Err(error),
            Outcome::WayBack(way, session) => {
                if !self.ensure_key(&way.kid).await? {
                    // It was retired since, and its token with it.
                    return Err(Error::impersonation_ended(EndCause::OriginalSessionEnded));
                }
                let access_token = self.tokens.resign(&way.kid, &way.signing_input, session.subject.id(), session.id)?;
                let policy = self.policies.known();
                let grant = Grant { access_token, expires_at: way.expires_at, refresh: None, session, policy };
                Ok(LoggedOut::Restored(Box::new(grant)))
            }
        }
    }
}

/// The end of a live impersonation that was decided.
struct Leaving {
    leave: DecidedLeave,
    acting: ActingAs,
    policy: Arc<Policy>,
}

impl Leaving {
    /// Where to, now that it is over.
    fn leads_to(&self, left: Departure, verifier: Option<&str>, now: Time) -> Outcome {
        match way_out(&self.acting, true, EndCause::Logout, &self.policy, left.way, verifier, now) {
            Ok(way) => Outcome::WayBack(way, Arc::new(self.acting.original(left.original_started_at, left.original_last_used_at))),
            Err(error) => Outcome::Refused(error),
        }
    }
}

/// A narrower token ends itself and nothing else: it gives nothing back, and the session on which it hangs goes on.
fn leave_narrower(tx: &mut Tx<'_>, session: &Session, exchange: &Exchange, standing: Standing) -> Result<Outcome> {
    match standing {
        Standing::Over(cause) => return Ok(Outcome::Refused(ending::over(session, cause))),
        Standing::MustEnd(cause) => {
            ending::end_overdue(tx, session, cause)?;
            return Ok(Outcome::Refused(ending::over(session, cause)));
        }
        Standing::Live => {}
    }
    if let Err(error) = check_standing(exchange.standing(tx.ctx.now)) {
        return Ok(Outcome::Refused(error));
    }
    ending::end_exchange(tx, exchange, EndCause::Logout)?;
    Ok(Outcome::Own)
}

fn leave(tx: &mut Tx<'_>, session: &Session, acting: &ActingAs, standing: Standing, verifier: Option<&str>) -> Result<Outcome> {
    // Taken before the end, which would close it.
    let way = sessions::take_way_back(tx.conn, session.id)?;
    let cause = match standing {
        Standing::Live => {
            ending::end_beside_its_way(tx, session.id, tx.ctx.now, EndCause::Logout, Some(acting.actor.id()))?;
            EndCause::Logout
        }
        Standing::MustEnd(cause) => {
            ending::end_overdue(tx, session, cause)?;
            cause
        }
        Standing::Over(cause) => cause,
    };
    let way = match way_out(acting, standing == Standing::Live, cause, &tx.policy, way, verifier, tx.ctx.now) {
        Ok(way) => way,
        Err(error) => return Ok(Outcome::Refused(error)),
    };
    let original = sessions::find(tx.conn, acting.original_session, Lock::None)?;
    let original = original.ok_or_else(|| Error::internal("an impersonation lacks its original session"))?;
    Ok(Outcome::WayBack(way, original))
}

/// Whether the way back out of an impersonation that is over now, for `cause`, leads anywhere.
fn way_out(
    acting: &ActingAs,
    is_left: bool,
    cause: EndCause,
    policy: &Policy,
    way: Option<WayBack>,
    verifier: Option<&str>,
    now: Time,
) -> Result<WayBack> {
    let original_is_over = acting.original_ended_at.is_some() || acting.original_expires_at <= now || !acting.actor.is_active();
    if original_is_over {
        let detail = "the impersonation is over, and so is the session that it was started from; log in again";
        return Err(Error::new(Code::OriginalSessionEnded, detail));
    }
    // Nothing comes back while impersonation is frozen, also where the environment froze it and nobody has closed the way yet.
    let is_open = (is_left || cause.leaves_the_way_back()) && policy.freeze.is_none();
    let way = way.filter(|way| is_open && way.expires_at > now).ok_or_else(|| Error::impersonation_ended(cause))?;
    if !proves(&way, verifier) {
        let detail =
            "the impersonation is over; its original token comes back only with the right `restore_verifier`: refresh the original session";
        return Err(Error::new(Code::RestoreProofRequired, detail));
    }
    Ok(way)
}

/// Whether the proof that the start asked for is there. A verifier where none was asked for is refused too (RFC 9700 §2.1.1): somebody took the challenge away.
fn proves(way: &WayBack, verifier: Option<&str>) -> bool {
    match (&way.challenge, verifier) {
        (None, None) => true,
        (Some(challenge), Some(verifier)) => proof_matches(challenge.as_str(), verifier),
        (None, Some(_)) | (Some(_), None) => false,
    }
}
