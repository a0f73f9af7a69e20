//! How sessions end: always with an entry, always together with what hangs on them.

use super::gate::Tx;
use super::office::Event;
use crate::domain::Time;
use crate::domain::error::{Code, Error, Result};
use crate::domain::history::NewEntry;
use crate::domain::identity::Identity;
use crate::domain::ids::{SessionId, UserId};
use crate::domain::impersonation::EndCause;
use crate::domain::session::{Exchange, Session, Standing};
use crate::store::sessions::{self, Open};
use crate::store::{Lock, entries, token_sessions};

/// What the bearer of a token is told whose session ended for `cause`.
pub(super) fn over(session: &Session, cause: EndCause) -> Error {
    match session.acting_as() {
        Some(_) => Error::impersonation_ended(cause),
        None => Error::new(Code::SessionEnded, format!("the session is over: {cause}; log in again")),
    }
}

/// Ends an open impersonation. Unless it ends by itself, its way back closes with it.
pub(super) fn end_impersonation(tx: &mut Tx<'_>, id: SessionId, at: Time, cause: EndCause, by: Option<UserId>) -> Result<()> {
    end_beside_its_way(tx, id, at, cause, by)?;
    if !cause.leaves_the_way_back() {
        sessions::take_way_back(tx.conn, id)?;
    }
    Ok(())
}

/// As [`end_impersonation`], where the way back was taken before.
pub(super) fn end_beside_its_way(tx: &mut Tx<'_>, id: SessionId, at: Time, cause: EndCause, by: Option<UserId>) -> Result<()> {
    entries::append(tx.conn, &NewEntry::impersonation_ended(&tx.ctx, id, cause))?;
    if !sessions::end(tx.conn, id, at, cause, by)? {
        return Err(Error::lost_race("an impersonation ended while it was being ended"));
    }
    tx.events.push(Event::ImpersonationEnded(cause));
    Ok(())
}

/// Ends the session of a narrower token, and all that were made from it. What it hangs on goes on.
pub(super) fn end_exchange(tx: &mut Tx<'_>, exchange: &Exchange, cause: EndCause) -> Result<()> {
    entries::append(tx.conn, &NewEntry::token_session_ended(&tx.ctx, exchange.id, exchange.terms.client, cause))?;
    if token_sessions::end_exchange(tx.conn, exchange.id, tx.ctx.now)? {
        Ok(())
    } else {
        Err(Error::lost_race("a session ended while it was being ended"))
    }
}

/// Ends an open own session, and with it every impersonation that was started from it.
pub(super) fn end_own(tx: &mut Tx<'_>, id: SessionId, user: UserId, cause: EndCause) -> Result<()> {
    end_own_at(tx, id, user, tx.ctx.now, cause)
}

fn end_own_at(tx: &mut Tx<'_>, id: SessionId, user: UserId, at: Time, cause: EndCause) -> Result<()> {
    end_impersonations(tx, Open::From(id), EndCause::OriginalSessionEnded)?;
    entries::append(tx.conn, &NewEntry::session_ended(&tx.ctx, id, user, cause))?;
    if sessions::end(tx.conn, id, at, cause, caller_id(&tx.ctx))? {
        Ok(())
    } else {
        Err(Error::lost_race("a session ended while it was being ended"))
    }
}

fn caller_id(ctx: &crate::domain::identity::Ctx) -> Option<UserId> {
    ctx.identity().ok().map(Identity::subject).map(crate::domain::user::Principal::id)
}

/// Ends all of a user's own sessions but `spared`.
pub(super) fn end_all_own(tx: &mut Tx<'_>, user: UserId, spared: Option<SessionId>, cause: EndCause) -> Result<()> {
    for id in sessions::lock_open(tx.conn, Open::Own(user))? {
        if Some(id) != spared {
            end_own(tx, id, user, cause)?;
        }
    }
    Ok(())
}

/// Ends impersonations, whatever their standing; those whose time was already over ended then.
pub(super) fn end_impersonations(tx: &mut Tx<'_>, which: Open, cause: EndCause) -> Result<()> {
    for id in sessions::lock_open(tx.conn, which)? {
        match sessions::find(tx.conn, id, Lock::None)? {
            Some(session) if session.expires_at <= tx.ctx.now => {
                end_overdue(tx, &session, EndCause::Expired)?;
                sessions::take_way_back(tx.conn, id)?;
            }
            _ => end_impersonation(tx, id, tx.ctx.now, cause, None)?,
        }
    }
    Ok(())
}

/// Ends every open impersonation whose original token was signed with this key.
pub(super) fn end_started_with(tx: &mut Tx<'_>, kid: &str) -> Result<()> {
    for id in sessions::open_by_key(tx.conn, kid)? {
        let Some(session) = sessions::find(tx.conn, id, Lock::Update)?.filter(|session| session.ended.is_none()) else { continue };
        if session.expires_at <= tx.ctx.now {
            end_overdue(tx, &session, EndCause::Expired)?;
        } else {
            end_impersonation(tx, id, tx.ctx.now, EndCause::OriginalSessionEnded, None)?;
        }
    }
    Ok(())
}

/// Ends a session that has to end, at the instant at which it had to where that is known.
pub(super) fn end_overdue(tx: &mut Tx<'_>, session: &Session, cause: EndCause) -> Result<()> {
    let at = if cause == EndCause::Expired { session.expires_at } else { tx.ctx.now };
    if session.acting_as().is_none() {
        return end_own_at(tx, session.id, session.subject.id(), at, cause);
    }
    end_impersonation(tx, session.id, at, cause, None)
}

/// Locks a user's own sessions before the user's row, and before the impersonations that were started from them, as every request of theirs does: in another
/// order a stream of writes and the end of their actor would wait for each other.
pub(super) fn lock_originals(tx: &mut Tx<'_>, user: UserId) -> Result<()> {
    sessions::lock_open(tx.conn, Open::Own(user)).map(drop)
}

/// Ends every impersonation of and by `user` that the policy no longer allows: the ceiling, at once rather than at the next request.
pub(super) fn enforce_ceiling(tx: &mut Tx<'_>, user: UserId) -> Result<()> {
    lock_originals(tx, user)?;
    for which in [Open::By(user), Open::Of(user)] {
        for id in sessions::lock_open(tx.conn, which)? {
            let Some(session) = sessions::find(tx.conn, id, Lock::None)? else { continue };
            end_if_ruled_out(tx, &session)?;
        }
    }
    Ok(())
}

/// Ends every impersonation that the transaction's policy rules out.
pub(super) fn enforce_policy(tx: &mut Tx<'_>) -> Result<()> {
    for id in sessions::lock_open(tx.conn, Open::Impersonations)? {
        if let Some(session) = sessions::find(tx.conn, id, Lock::None)? {
            end_if_ruled_out(tx, &session)?;
        }
    }
    Ok(())
}

fn end_if_ruled_out(tx: &mut Tx<'_>, session: &Session) -> Result<()> {
    match session.standing(tx.ctx.now, &tx.policy) {
        // That it went unused is its next request's to find, or the sweep's.
        Standing::MustEnd(EndCause::Idle) | Standing::Live | Standing::Over(_) => Ok(()),
        Standing::MustEnd(cause) => end_overdue(tx, session, cause),
    }
}

/// After a password changed: every impersonation of and by the user ends, and every own session but `spared`. The ways back close too that impersonations left
/// open which had ended by themselves: whoever changes a password means to shut everyone out.
pub(super) fn end_after_password_change(tx: &mut Tx<'_>, user: UserId, spared: Option<SessionId>) -> Result<()> {
    lock_originals(tx, user)?;
    sessions::close_ways_back(tx.conn, user)?;
    end_impersonations(tx, Open::By(user), EndCause::PasswordChanged)?;
    end_impersonations(tx, Open::Of(user), EndCause::PasswordChanged)?;
    end_all_own(tx, user, spared, EndCause::PasswordChanged)
}
