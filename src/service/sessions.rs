//! Own sessions, seen and ended by their user, or by whoever may end anyone's.

use super::ending;
use super::gate::Tx;
use super::office::Event;
use super::users::require_not_outranked;
use crate::domain::error::{Error, Result};
use crate::domain::identity::Ctx;
use crate::domain::ids::{SessionId, UserId};
use crate::domain::impersonation::EndCause;
use crate::domain::page::{Page, PageRequest};
use crate::store::{Conn, Lock, sessions, users};

pub use crate::store::sessions::OwnSession;

/// The caller's live own sessions, newest first.
pub fn list_mine(conn: &mut Conn, ctx: &Ctx, page: &PageRequest<SessionId>) -> Result<Page<OwnSession>> {
    sessions::list_own(conn, ctx.subject()?.id(), ctx.now, page)
}

/// Ends one of the caller's own sessions, with the impersonations that were started from it. One that is over already stays so.
///
/// # Errors
/// 404 where it isn't one of theirs.
pub fn end_mine(tx: &mut Tx<'_>, id: SessionId) -> Result<()> {
    let caller = tx.ctx.subject()?.id();
    let session = sessions::find(tx.conn, id, Lock::Update)?;
    let mine = session.filter(|session| session.acting_as().is_none() && session.subject.id() == caller).ok_or_else(Error::not_found)?;
    if mine.ended.is_some() {
        return Ok(());
    }
    ending::end_own(tx, id, caller, EndCause::EndedByPerson)
}

/// Ends all own sessions of `user`, with the impersonations that were started from them.
///
/// # Errors
/// 404 where there is no such user; 403 where they outrank the caller.
pub fn end_all_of(tx: &mut Tx<'_>, user: UserId) -> Result<()> {
    // Locked as for a change, so that a login that is under way comes before this, and is ended, or after it.
    ending::lock_originals(tx, user)?;
    let user = users::find(tx.conn, user, Lock::Update)?.ok_or_else(Error::not_found)?;
    require_not_outranked(tx.ctx.subject()?, user.role)?;
    ending::end_all_own(tx, user.id, None, EndCause::EndedByPerson)
}

/// How many sessions one transaction of a command ends, so that it stays short beside a running server.
const BATCH: i64 = 100;

/// What a command ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndedByCommand {
    pub own: usize,
    pub impersonations: usize,
}

/// Ends some open sessions from the command line, impersonations of the user included: `user`'s, or everyone's. Nothing is left when it
/// answers that it ended nothing.
///
/// # Errors
/// Where the database says no.
pub fn end_batch_by_command(tx: &mut Tx<'_>, user: Option<UserId>) -> Result<EndedByCommand> {
    let mut own = 0;
    // Oldest first, so an own session takes the impersonations along that were started from it.
    for id in sessions::open(tx.conn, user, BATCH)? {
        let Some(session) = sessions::find(tx.conn, id, Lock::Update)?.filter(|session| session.ended.is_none()) else { continue };
        if session.acting_as().is_some() {
            ending::end_impersonation(tx, id, tx.ctx.now, EndCause::EndedByPerson, None)?;
        } else {
            ending::end_own(tx, id, session.subject.id(), EndCause::EndedByPerson)?;
            own += 1;
        }
    }
    let impersonations = tx.events.iter().filter(|event| matches!(event, Event::ImpersonationEnded(_))).count();
    Ok(EndedByCommand { own, impersonations })
}
