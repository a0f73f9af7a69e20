//! Opening own sessions, and keeping them open.

use std::sync::Arc;

use chrono::Duration;

use super::ending;
use super::gate::Tx;
use super::grants::{Grant, own_expiry};
use super::keys::signer;
use super::office::{Client, Event, Office};
use crate::auth::limiter::Tripped;
use crate::auth::passwords::PasswordHash;
use crate::auth::secret::RefreshToken;
use crate::domain::Time;
use crate::domain::error::{Code, Error, Result};
use crate::domain::history::NewEntry;
use crate::domain::identity::{By, Ctx};
use crate::domain::ids::{SessionId, UserId};
use crate::domain::impersonation::EndCause;
use crate::domain::session::{Session, Standing};
use crate::domain::text::{Email, NewPassword};
use crate::domain::user::User;
use crate::store::sessions::{self, NewSession};
use crate::store::{Lock, entries, users};

/// The same for an unknown address, a wrong password and a disabled account.
pub(super) fn invalid_credentials() -> Error {
    Error::new(Code::InvalidCredentials, "the credentials are wrong")
}

/// What is known of an account that somebody tries to log in to.
struct Found {
    id: Option<UserId>,
    user: Option<User>,
    hash: Option<PasswordHash>,
    /// Whether it has logged in from this address before.
    is_known_address: bool,
}

impl Office {
    /// Opens an own session for whoever knows the password. What is wrong can't be told from the answer, nor from the time it takes.
    ///
    /// # Errors
    /// 401 `invalid_credentials`, 429 `too_many_attempts`, 503 `overloaded`.
    pub async fn log_in(&self, email: &str, password: String, client: Client, now: Time) -> Result<Grant> {
        let address = client.address();
        let account = Email::parse(email).ok();
        let key = account.as_ref().map_or_else(|| email.to_lowercase(), Email::key);
        let mut found = self.look_up(account.clone(), address.to_string()).await?;
        let begun = self.limiter.begin(&key, address, found.is_known_address, now).await;
        let attempt = begun.inspect_err(|error| self.tell_refusal(error))?;
        // Twice, if the account changes while its hash is computed: another login may have renewed the hash of the same password.
        for _ in 0..2 {
            // A disabled account has no password, as it were: its answer must not tell that the password was right.
            let may_log_in = found.user.as_ref().is_some_and(|user| user.to_principal().is_active());
            let checked = self.passwords.verify(password.clone(), found.hash.clone().filter(|_| may_log_in)).await;
            let verdict = checked.inspect_err(|error| self.tell_refusal(error))?;
            let Some(user) = found.user.filter(|_| verdict.matches) else {
                let tripped = attempt.fail(now);
                self.tell_failure(found.id, tripped, client, now).await;
                return Err(invalid_credentials());
            };
            if let Some(grant) = self.open_session(&user, found.hash.as_ref(), client.clone(), now).await? {
                attempt.succeed();
                (self.observer)(&Event::LoginSucceeded);
                if let Some(old) = found.hash.filter(|_| verdict.needs_rehash) {
                    self.renew_hash(&user, old, &password).await;
                }
                return Ok(grant);
            }
            found = self.look_up(account.clone(), address.to_string()).await?;
        }
        Err(invalid_credentials())
    }

    pub(super) fn tell_refusal(&self, error: &Error) {
        (self.observer)(if error.code() == Code::TooManyAttempts { &Event::LoginLimited } else { &Event::LoginOverloaded });
    }

    /// The same queries whether there is such an account or not, so that their time doesn't tell.
    async fn look_up(&self, account: Option<Email>, address: String) -> Result<Found> {
        let found = self.db.read(move |conn| {
            let user = account.map(|email| users::find_by_email(conn, &email)).transpose()?.flatten();
            let id = user.as_ref().map(|user| user.id);
            let asked = id.unwrap_or(UserId::NOBODY);
            let hash = users::password_hash(conn, asked)?.map(PasswordHash::from_stored);
            let is_known_address = sessions::is_known_address(conn, asked, &address)?;
            Ok(Found { id, user, hash, is_known_address })
        });
        found.await
    }

    /// A failed attempt is a line in the log and a count, and one entry where a known account's limit trips: a stranger's guesses at unknown accounts leave
    /// none. Best effort, for the answer must not depend on whether the account is known.
    pub(super) async fn tell_failure(&self, user: Option<UserId>, tripped: Tripped, client: Client, now: Time) {
        (self.observer)(&Event::LoginFailed);
        let address = client.address().to_string();
        tracing::info!(
            request_id = client.request_id,
            user = user.map(tracing::field::display),
            client_ip = address,
            "an attempt with a wrong password failed"
        );
        let Some(user) = user.filter(|_| tripped.account) else { return };
        let ctx = Ctx { by: By::Anonymous, now, request_id: client.request_id };
        let written = self.transact(ctx, move |tx| entries::append(tx.conn, &NewEntry::session_refused(&tx.ctx, user, &address)));
        if let Err(error) = written.await {
            tracing::warn!(%error, %user, "that the limit of an account tripped could not be recorded");
        }
    }

    /// Nothing, if the account is not as it was when its hash was read.
    async fn open_session(&self, user: &User, hash: Option<&PasswordHash>, client: Client, now: Time) -> Result<Option<Grant>> {
        let id = SessionId::new(now);
        let expires_at = now + Duration::seconds(i64::from(self.settings.refresh_token_ttl));
        let refresh = RefreshToken::generate()?;
        let address = client.address().to_string();
        let (user_id, seen_hash, refresh_hash) = (user.id, hash.map(|hash| hash.as_str().to_owned()), refresh.hash());
        let ctx = Ctx { by: By::Credential(user.to_ref()), now, request_id: client.request_id };
        let algorithm = self.settings.signing_algorithm;
        let session = self.transact(ctx, move |tx| {
            // Whatever changed while the hash was computed counts: a disabled account, another password.
            let user = users::find(tx.conn, user_id, Lock::Share)?.filter(|user| user.to_principal().is_active());
            if user.is_none() || users::password_hash(tx.conn, user_id)? != seen_hash {
                return Ok(None);
            }
            let session = NewSession {
                id,
                subject: user_id,
                acting: None,
                terms: None,
                client_ip: Some(address.clone()),
                user_agent: client.user_agent.clone(),
                started_at: now,
                expires_at,
            };
            sessions::insert(tx.conn, &session, &NewEntry::session_started(&tx.ctx, id))?;
            sessions::insert_refresh_token(tx.conn, &refresh_hash, id, expires_at)?;
            Ok(Some((load(tx, id)?, signer(tx.conn, algorithm)?)))
        });
        let Some((session, kid)) = session.await? else { return Ok(None) };
        let access_expires_at = own_expiry(&self.settings, &session, now);
        self.grant(session, &kid, now, access_expires_at, Some((refresh, expires_at))).await.map(Some)
    }

    /// Best effort: the login has succeeded already.
    async fn renew_hash(&self, user: &User, old: PasswordHash, password: &str) {
        let Ok(password) = NewPassword::parse(password) else { return };
        let id = user.id;
        let renewed = match self.passwords.hash(password).await {
            Ok(new) => self.db.write(move |conn| users::renew_hash(conn, id, old.as_str(), new.as_str())).await,
            Err(error) => Err(error),
        };
        if let Err(error) = renewed {
            tracing::warn!(%error, user = %id, "a password hash of another cost could not be renewed");
        }
    }

    /// Exchanges a refresh token for its successor and a new access token.
    ///
    /// The direct predecessor counts again for some seconds, as long as its successor is unused, and gives the same successor: two tabs that refresh at once, or
    /// an answer that got lost, do no harm. Anything older means that somebody else has a copy (RFC 9700 §4.14.2), and the session ends.
    ///
    /// # Errors
    /// 401 `refresh_token_invalid`, `refresh_token_reused` or `session_ended`.
    pub async fn refresh(&self, token: &str, client: Client, now: Time) -> Result<Grant> {
        let invalid = || Error::new(Code::RefreshTokenInvalid, "the refresh token is not valid here");
        let token = RefreshToken::parse(token).ok_or_else(invalid)?;
        let successor = token.successor(&self.refresh_key);
        let (hash, next_hash) = (token.hash(), successor.hash());
        let grace = Duration::seconds(i64::from(self.settings.refresh_grace));
        let algorithm = self.settings.signing_algorithm;
        let ctx = Ctx { by: By::Anonymous, now, request_id: client.request_id };
        let refreshed = self.transact(ctx, move |tx| {
            let row = sessions::find_refresh_token(tx.conn, &hash)?.ok_or_else(invalid)?;
            let session = sessions::find(tx.conn, row.session, Lock::Update)?.ok_or_else(invalid)?;
            // Read again under the session's lock: whoever held it before may have replaced the token.
            let row = sessions::find_refresh_token(tx.conn, &hash)?.ok_or_else(invalid)?;
            tx.ctx.by = By::Credential(session.subject.user.clone());
            match session.standing(now, &tx.policy) {
                Standing::Live => {}
                Standing::Over(cause) => return Ok(Err(ending::over(&session, cause))),
                Standing::MustEnd(cause) => {
                    ending::end_overdue(tx, &session, cause)?;
                    return Ok(Err(ending::over(&session, cause)));
                }
            }
            match row.replaced_at {
                None => {
                    sessions::insert_refresh_token(tx.conn, &next_hash, session.id, session.expires_at)?;
                    sessions::replace_refresh_token(tx.conn, &hash, now)?;
                }
                Some(replaced_at) => {
                    let next = sessions::find_refresh_token(tx.conn, &next_hash)?;
                    let is_unused = next.is_some_and(|next| next.replaced_at.is_none());
                    if !is_unused || replaced_at + grace < now {
                        ending::end_own(tx, session.id, session.subject.id(), EndCause::RefreshTokenReused)?;
                        return Ok(Err(Error::new(
                            Code::RefreshTokenReused,
                            "this refresh token was replaced; its session is over, log in again",
                        )));
                    }
                }
            }
            let kid = signer(tx.conn, algorithm)?;
            Ok(Ok((session, kid)))
        });
        let (session, kid) = refreshed.await??;
        let refresh_expires_at = session.expires_at;
        let expires_at = own_expiry(&self.settings, &session, now);
        self.grant(session, &kid, now, expires_at, Some((successor, refresh_expires_at))).await
    }
}

/// The session that was just written.
pub(super) fn load(tx: &mut Tx<'_>, id: SessionId) -> Result<Arc<Session>> {
    sessions::find(tx.conn, id, Lock::None)?.ok_or_else(|| Error::internal("a session that was just written is not there"))
}
