//! Setting and changing one's own password. There is no call that sets another's; the command line can.

use super::ending;
use super::gate::{Caller, Tx};
use super::login::invalid_credentials;
use super::office::{Client, Office};
use crate::auth::passwords::PasswordHash;
use crate::auth::secret::SetupToken;
use crate::domain::Time;
use crate::domain::error::{Error, Result};
use crate::domain::history::NewEntry;
use crate::domain::identity::{By, Ctx};
use crate::domain::ids::UserId;
use crate::domain::text::NewPassword;
use crate::store::{Lock, users};

impl Office {
    /// Sets the password of a new or reset account. The token is good once.
    ///
    /// # Errors
    /// 401 `invalid_credentials` where the token is unknown, used or expired.
    pub async fn set_password(&self, token: &str, password: NewPassword, client: Client, now: Time) -> Result<()> {
        let token_hash = SetupToken::parse(token).ok_or_else(invalid_credentials)?.hash();
        // Looked up first: nobody gets a hash computed for nothing.
        let wanted = token_hash.clone();
        let user = self.db.read(move |conn| users::find_by_setup_token(conn, &wanted, now)).await?.ok_or_else(invalid_credentials)?;
        let hash = self.passwords.hash(password).await?;
        let ctx = Ctx { by: By::Credential(user.to_ref()), now, request_id: client.request_id };
        self.transact(ctx, move |tx| {
            // Locked before anything is read: a login that is under way with the old password comes before this, and is ended, or after it, and fails.
            ending::lock_originals(tx, user.id)?;
            users::find(tx.conn, user.id, Lock::Update)?;
            if !users::take_setup_token(tx.conn, user.id, &token_hash)? {
                return Err(invalid_credentials());
            }
            users::set_password(tx.conn, user.id, hash.as_str(), &NewEntry::user_password_changed(&tx.ctx, user.id))?;
            ending::end_after_password_change(tx, user.id, None)
        })
        .await
    }

    /// Changes the caller's password. Their other sessions end, and the impersonations of and by them.
    ///
    /// # Errors
    /// 401 `invalid_credentials` where the current password is wrong, which counts as a failed login; 429.
    pub async fn change_password(&self, caller: &Caller, current: String, new: NewPassword, client: Client) -> Result<()> {
        let identity = caller.identity()?;
        let (user, session) = (identity.subject().user.clone(), identity.session().id);
        let id = user.id;
        let stored = self.db.read(move |conn| users::password_hash(conn, id)).await?;
        // Counted by the session: its holder may guess no faster from many addresses, and a stranger at the login doesn't stand in the way.
        let key = format!("session {session}");
        let attempt =
            self.limiter.begin(&key, client.address(), false, caller.ctx.now).await.inspect_err(|error| self.tell_refusal(error))?;
        let verdict = self.passwords.verify(current, stored.clone().map(PasswordHash::from_stored)).await?;
        if !verdict.matches {
            let tripped = attempt.fail(caller.ctx.now);
            self.tell_failure(Some(id), tripped, client, caller.ctx.now).await;
            return Err(invalid_credentials());
        }
        attempt.succeed();
        let hash = self.passwords.hash(new).await?;
        self.write(caller, move |tx| {
            ending::lock_originals(tx, id)?;
            users::find(tx.conn, id, Lock::Update)?;
            if users::password_hash(tx.conn, id)? != stored {
                return Err(invalid_credentials());
            }
            users::set_password(tx.conn, id, hash.as_str(), &NewEntry::user_password_changed(&tx.ctx, id))?;
            ending::end_after_password_change(tx, id, Some(session))
        })
        .await
    }
}

/// Sets a user's password from the command line; their sessions end, and the impersonations of and by them.
///
/// # Errors
/// 404 where there is no such user.
pub fn set_by_command(tx: &mut Tx<'_>, id: UserId, hash: &PasswordHash) -> Result<()> {
    let user = users::find(tx.conn, id, Lock::Update)?.ok_or_else(Error::not_found)?;
    users::set_password(tx.conn, user.id, hash.as_str(), &NewEntry::user_password_changed(&tx.ctx, user.id))?;
    ending::end_after_password_change(tx, user.id, None)
}
