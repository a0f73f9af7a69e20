//! What time ends by itself. Requests don't depend on it: they ask the clock. It completes the history and frees space.

use super::ending;
use super::office::Office;
use crate::domain::Time;
use crate::domain::error::Result;
use crate::domain::identity::Ctx;
use crate::domain::impersonation::EndCause;
use crate::store::{Lock, sessions};

/// How many sessions one transaction ends, so that it stays short.
const BATCH: i64 = 100;

impl Office {
    /// Ends sessions and impersonations whose time is over, each with its entry, and forgets tokens that nothing accepts any more. Any number of instances may
    /// do so at once.
    ///
    /// # Errors
    /// Where the database can't be reached.
    pub async fn sweep(&self, now: Time) -> Result<()> {
        loop {
            let ctx = Ctx::system("its time was over", now);
            let swept = self.transact(ctx, move |tx| {
                let expired = sessions::expired(tx.conn, now, BATCH)?;
                for (id, _, _) in &expired {
                    // Found again under its lock: another instance may have been here.
                    let session = sessions::find(tx.conn, *id, Lock::Update)?;
                    if let Some(session) = session.filter(|session| session.ended.is_none()) {
                        ending::end_overdue(tx, &session, EndCause::Expired)?;
                    }
                }
                Ok(expired.len())
            });
            if swept.await? < usize::try_from(BATCH).unwrap_or(usize::MAX) {
                break;
            }
        }
        self.db.write(move |conn| sessions::forget_expired(conn, now)).await?;
        Ok(())
    }
}
