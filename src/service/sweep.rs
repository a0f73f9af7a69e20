//! What time ends by itself. Requests don't depend on it: they ask the clock. It completes the history and frees space.

use chrono::Duration;

use super::ending;
use super::office::Office;
use crate::domain::Time;
use crate::domain::error::Result;
use crate::domain::identity::{By, Ctx};
use crate::domain::impersonation::EndCause;
use crate::domain::session::Standing;
use crate::store::{Lock, sessions, token_sessions};

/// How many sessions one transaction ends, so that it stays short.
const BATCH: i64 = 100;

/// Why a session is ended that nobody used.
const OVERDUE: &str = "nobody asked: its time was over";

impl Office {
    /// Ends sessions and impersonations whose time is over, each with its entry, and forgets tokens that nothing accepts any more. Any number of instances may
    /// do so at once.
    ///
    /// # Errors
    /// Where the database can't be reached.
    pub async fn sweep(&self, now: Time) -> Result<()> {
        loop {
            let policies = std::sync::Arc::clone(&self.policies);
            let ctx = Ctx::system(OVERDUE, now);
            let ended = self.transact(ctx, move |tx| {
                let mut ended = 0;
                tx.policy = policies.read(tx.conn, Lock::None)?;
                let idle = i64::from(tx.policy.terms.idle_seconds);
                let idle_since = (idle > 0).then(|| now - Duration::seconds(idle));
                let overdue = if tx.policy.freeze.is_some() {
                    // Frozen by the environment: nobody asked for their ends yet, nor closed the ways back.
                    sessions::close_all_ways_back(tx.conn)?;
                    sessions::open_impersonations(tx.conn, BATCH)?
                } else {
                    Vec::new()
                };
                for id in sessions::overdue(tx.conn, now, idle_since, BATCH)?.into_iter().chain(overdue) {
                    // Found again under its lock: another instance may have been here, or its user.
                    let Some(session) = sessions::find(tx.conn, id, Lock::Update)? else { continue };
                    if let Standing::MustEnd(cause) = session.standing(now, &tx.policy) {
                        let why = if cause == EndCause::Frozen { "impersonation is frozen by the environment" } else { OVERDUE };
                        tx.ctx.by = By::System(why);
                        ending::end_overdue(tx, &session, cause)?;
                        ended += 1;
                    }
                }
                Ok(ended)
            });
            if ended.await? == 0 {
                break;
            }
        }
        while self.db.write(move |conn| sessions::forget_expired(conn, now, BATCH)).await? > 0 {}
        while self.db.write(move |conn| token_sessions::forget_expired(conn, now, BATCH)).await? > 0 {}
        Ok(())
    }
}
