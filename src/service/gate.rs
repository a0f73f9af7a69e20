//! The gate: from a bearer token to a caller, and from a caller to a connection.

use std::sync::Arc;

use chrono::Duration;

use super::ending;
use super::office::{Event, Office};
use super::policy::{Policies, of_row};
use crate::auth::tokens::{Subject, TokenError, Tokens, Unverified, Verified};
use crate::domain::Time;
use crate::domain::client::ClientPrincipal;
use crate::domain::error::{Code, Error, Result};
use crate::domain::identity::{By, Ctx, Identity, user_required};
use crate::domain::ids::{ArticleId, UserId};
use crate::domain::operation::{self, Requirements};
use crate::domain::policy::Policy;
use crate::domain::session::{ClientSession, Exchange, Session, Standing, TokenStanding, TokenTerms};
use crate::store::sessions::Sought;
use crate::store::{Conn, Db, Ground, Lock, sessions, token_sessions, users};

/// How stale an own session's last use may be, in seconds.
const OWN_LAST_USED_SECONDS: i64 = 60;

/// After how long what was seen of an article is looked for again, because its body took that long to arrive.
const LATE: Duration = Duration::milliseconds(100);

/// How long an answer waits for the use of its session to be noted.
const TOUCH_PATIENCE: std::time::Duration = std::time::Duration::from_millis(500);

/// A bearer token whose signature and claims hold. Says nothing yet of its session.
#[derive(Debug, Clone)]
pub struct Presented {
    pub token: Arc<Verified>,
    /// The article that the call is about, so that it can be looked up together with the session.
    pub about: Option<ArticleId>,
}

/// Someone who may make the call that they are making.
#[derive(Debug, Clone)]
pub struct Caller {
    pub ctx: Ctx,
    /// The access token that was presented.
    pub token: Arc<Verified>,
    requirements: Requirements,
    ground: Option<Ground>,
    /// The article that the call is about, and what was found of it when the caller was admitted.
    sight: Option<(ArticleId, Sought)>,
}

impl Caller {
    /// The same caller at a later instant: after the body has arrived, which may take a while.
    #[must_use]
    pub fn at(&self, now: Time) -> Self {
        let mut later = self.clone();
        if now - self.ctx.now > LATE {
            later.sight = None;
        }
        later.ctx.now = now;
        later
    }

    /// What the caller was admitted on, where that still lets them write at this instant, and it is enough to look at it once more while writing. Nothing where a
    /// write has to ask again by itself.
    pub(super) fn standing_ground(&self) -> Option<Ground> {
        let identity = self.ctx.identity().ok()?;
        let is_live = identity.session().standing(self.ctx.now, identity.policy()) == Standing::Live
            && check_token(&self.token, None, self.ctx.now).is_ok()
            && operation::permit(identity, &self.requirements).is_ok();
        self.ground.clone().filter(|_| is_live && !self.requirements.concerns_accounts())
    }

    /// What was found of the article with this id when the caller was admitted. Told once.
    pub(super) fn take_sight_of(&mut self, id: ArticleId) -> Sought {
        self.sight.take().filter(|(about, _)| *about == id).map_or(Sought::Unknown, |(_, sought)| sought)
    }

    /// Who this is, as far as the gate found out.
    ///
    /// # Errors
    /// 403 `user_required` for a client by itself.
    pub fn identity(&self) -> Result<&Identity> {
        self.ctx.identity()
    }
}

/// One write: the connection inside its transaction, on whose behalf, and what to tell once it is durable.
pub struct Tx<'a> {
    pub conn: &'a mut Conn,
    pub ctx: Ctx,
    /// The policy under which it runs.
    pub policy: Arc<Policy>,
    pub events: Vec<Event>,
}

/// Runs `work` in one transaction for the command line, which may block and keeps no metrics.
///
/// # Errors
/// What `work` answers.
pub fn run_command<T>(db: &Db, ctx: &Ctx, work: impl Fn(&mut Tx<'_>) -> Result<T>) -> Result<T> {
    db.write_blocking(|conn| {
        let policy = Arc::new(of_row(conn, ctx.now)?);
        work(&mut Tx { conn, ctx: ctx.clone(), policy, events: Vec::new() })
    })
}

/// How a token is checked.
type Verify = fn(&Tokens, &str, Time) -> Result<Arc<Verified>, Unverified>;

/// What became of a write whose caller was asked again.
enum Checked<T> {
    Done(T),
    /// The caller's session is over, and its row says so now.
    Over(Error),
}

impl Office {
    /// Checks a bearer token's form, signature and claims, but neither its session nor its expiry. A key that this instance has not met yet is looked for in
    /// the database.
    ///
    /// # Errors
    /// 401 `invalid_token`.
    pub async fn present(&self, token: &str, now: Time) -> Result<Presented> {
        self.verify(token, now, Tokens::verify).await.map(|token| Presented { token, about: None })
    }

    /// As [`Office::present`], for logging out: also an impersonation's own token that is for others than Actas, so that whoever holds it can end it.
    ///
    /// # Errors
    /// 401 `invalid_token`.
    pub async fn present_to_log_out(&self, token: &str, now: Time) -> Result<Presented> {
        let token = self.present_for_anyone(token, now).await?;
        let claims = &token.claims;
        let is_impersonation = claims.act.is_some() && claims.root_sid.is_none();
        if is_impersonation || claims.is_for(&self.settings.audience) { Ok(Presented { token, about: None }) } else { Err(invalid_token()) }
    }

    /// As [`Office::present`], whomever the token is for.
    ///
    /// # Errors
    /// 401 `invalid_token`.
    pub(super) async fn present_for_anyone(&self, token: &str, now: Time) -> Result<Arc<Verified>> {
        self.verify(token, now, Tokens::verify_for_anyone).await
    }

    async fn verify(&self, token: &str, now: Time, verify: Verify) -> Result<Arc<Verified>> {
        let mut verified = verify(&self.tokens, token, now);
        if let Err(Unverified::UnknownKey(kid)) = &verified
            && self.ensure_key(kid).await?
        {
            verified = verify(&self.tokens, token, now);
        }
        verified.map_err(|unverified| {
            tracing::debug!(error = %TokenError::from(unverified), "a token was refused");
            invalid_token()
        })
    }

    /// Forgets a key that was retired, where its token was found to count no more. Only then: a token can be of no use for other reasons, and whoever has such a
    /// one must not make us forget a key that others need.
    pub(super) async fn heed<T>(&self, kid: &str, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && error.code() == Code::InvalidToken
            && self.is_retired(kid).await?
        {
            self.tokens.forget(kid);
        }
        result
    }

    /// Decides whether the bearer of `presented` may make a call with these `requirements`.
    ///
    /// # Errors
    /// 401 where the token or its session doesn't count, 403 as [`operation::permit`] says.
    pub async fn admit(&self, presented: Presented, requirements: Requirements, now: Time, request_id: Option<String>) -> Result<Caller> {
        let Presented { token, about } = presented;
        let mut holder = match self.look(&token, about).await {
            // Its row may have been swept by now, and this is the better answer.
            Err(error) if error.code() == Code::InvalidToken && token.claims.has_row_of_its_own() && token.is_expired(now) => {
                return Err(token_expired());
            }
            found => found?,
        };
        if let Holder::User { session, policy, .. } = &holder
            && let Standing::MustEnd(_) = session.standing(now, policy)
        {
            // The row has to say so before anyone is told. Unless another request has just kept it alive: then it is looked at again.
            self.write_as(token.clone(), requirements, now, request_id.clone(), |_| Ok(None), |_| Ok(())).await?;
            holder = self.look(&token, about).await?;
        }
        let (mut stands_on, mut sight) = (None, None);
        let by = match holder {
            Holder::User { session, exchange, policy, ground, sought } => {
                (stands_on, sight) = (ground, about.map(|about| (about, sought)));
                if let Standing::Over(cause) | Standing::MustEnd(cause) = session.standing(now, &policy) {
                    return Err(ending::over(&session, cause));
                }
                check_token(&token, exchange.as_deref(), now)?;
                self.touch(&session, &policy, now).await;
                let identity = identity(session, exchange, policy);
                operation::permit(&identity, &requirements)?;
                By::Request(Box::new(identity))
            }
            Holder::Client(session) => {
                check_token(&token, None, now)?;
                check_standing(session.standing(now))?;
                let client = ClientPrincipal { id: session.terms.client, name: session.name, scope: session.terms.scope };
                operation::permit_client(&client, &requirements)?;
                By::Client(Box::new(client))
            }
        };
        Ok(Caller { ctx: Ctx { by, now, request_id }, token, requirements, ground: stands_on, sight })
    }

    pub(super) async fn look(&self, token: &Arc<Verified>, about: Option<ArticleId>) -> Result<Holder> {
        let looked = match token.claims.sub {
            Subject::User(user) if token.claims.root_sid.is_none() => self.look_for_session(token, user, about).await,
            _ => {
                let (token, policies) = (Arc::clone(token), Arc::clone(&self.policies));
                self.db.glance(move |conn| find_holder(conn, &policies, &token, Lock::None)).await
            }
        };
        match looked {
            Ok(holder) => Ok(holder),
            looked => self.heed(&token.kid, looked).await,
        }
    }

    /// [`find_holder`] for a token that names a session and nothing else: nearly all of them.
    async fn look_for_session(&self, token: &Verified, user: UserId, about: Option<ArticleId>) -> Result<Holder> {
        let found = self.db.present_with(token.claims.sid, &token.kid, about).await?;
        let (found, looked) = found.filter(|(found, _)| named_by(token, user, found)).ok_or_else(invalid_token)?;
        let policy = match self.policies.known_at(found.ground.policy_version) {
            Some(policy) => policy,
            None => {
                let policies = Arc::clone(&self.policies);
                self.db.read(move |conn| policies.learn(conn)).await?
            }
        };
        let mut holder = user_holder(token, Arc::clone(&found.session), None, policy)?;
        if let Holder::User { ground, sought, .. } = &mut holder {
            *ground = Some(found.ground.clone());
            *sought = looked;
        }
        Ok(holder)
    }

    /// Notes the use of a session, at most every tenth of an impersonation's idle limit. Best effort: a read must not fail because nothing can be written.
    async fn touch(&self, session: &Session, policy: &Policy, now: Time) {
        let idle = policy.terms.idle_seconds;
        let stale = match session.acting_as() {
            Some(_) if idle > 0 => Duration::milliseconds(i64::from(idle) * 100),
            _ => Duration::seconds(OWN_LAST_USED_SECONDS),
        };
        if session.last_used_at + stale > now {
            return;
        }
        let id = session.id;
        let noted = tokio::time::timeout(TOUCH_PATIENCE, self.db.write(move |conn| sessions::touch(conn, id, now))).await;
        if !matches!(noted, Ok(Ok(()))) {
            tracing::warn!(session = %id, "the use of a session could not be noted in time");
        }
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
        self.write_decided(caller, |_| Ok(None), work).await
    }

    /// As [`Office::write`], where it may have been decided already: `decided` comes first, looks by itself whether the caller still may, and answers nothing where it
    /// has done nothing.
    pub(super) async fn write_decided<T: Send + 'static>(
        &self,
        caller: &Caller,
        decided: impl Fn(&mut Tx<'_>) -> Result<Option<T>> + Send + 'static,
        work: impl Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Caller { ctx, token, requirements, .. } = caller.clone();
        self.write_as(token, requirements, ctx.now, ctx.request_id, decided, work).await
    }

    async fn write_as<T: Send + 'static>(
        &self,
        token: Arc<Verified>,
        requirements: Requirements,
        now: Time,
        request_id: Option<String>,
        decided: impl Fn(&mut Tx<'_>) -> Result<Option<T>> + Send + 'static,
        work: impl Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (kid, policies) = (token.kid.clone(), Arc::clone(&self.policies));
        let ctx = Ctx { by: By::Anonymous, now, request_id };
        let checked = self.transact(ctx, move |tx| {
            if let Some(value) = decided(tx)? {
                return Ok(Checked::Done(value));
            }
            // A role that another such call is taking away is read after that has committed.
            if requirements.concerns_accounts() {
                users::lock_accounts(tx.conn)?;
            }
            // One write of a session at a time. Shared, the lock would let a stream of writes hold off the one that ends it for ever, and two writes that
            // both end sessions, which needs the lock to themselves, would wait for each other:
            //     A shares S     B shares S     A wants S, waits for B     B wants S, waits for A
            let found = find_holder(tx.conn, &policies, &token, Lock::Update)?;
            let Holder::User { session, exchange, policy, .. } = found else { return Err(user_required()) };
            let standing = session.standing(now, &policy);
            tx.policy = Arc::clone(&policy);
            match standing {
                Standing::Live => {
                    if let Err(error) = check_token(&token, exchange.as_deref(), now) {
                        return Ok(Checked::Over(error));
                    }
                    tx.ctx.by = By::Request(Box::new(identity(session, exchange, policy)));
                    operation::permit(tx.ctx.identity()?, &requirements)?;
                    work(tx).map(Checked::Done)
                }
                Standing::Over(cause) => Ok(Checked::Over(ending::over(&session, cause))),
                Standing::MustEnd(cause) => {
                    tx.ctx.by = By::Request(Box::new(identity(Arc::clone(&session), exchange, policy)));
                    ending::end_overdue(tx, &session, cause)?;
                    Ok(Checked::Over(ending::over(&session, cause)))
                }
            }
        });
        match self.heed(&kid, checked.await).await? {
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
        let policy = self.policies.known();
        let (value, events) = self
            .db
            .write(move |conn| {
                let mut tx = Tx { conn, ctx: ctx.clone(), policy: Arc::clone(&policy), events: Vec::new() };
                let value = work(&mut tx)?;
                Ok((value, tx.events))
            })
            .await?;
        events.iter().for_each(|event| (self.observer)(event));
        Ok(value)
    }
}

/// Whose a token is, by its rows.
pub(super) enum Holder {
    User {
        session: Arc<Session>,
        /// The token's own row, where it is a narrower one that hangs on `session`.
        exchange: Option<Box<Exchange>>,
        /// The policy that holds now.
        policy: Arc<Policy>,
        /// What was read rests on this, where nothing else was read.
        ground: Option<Ground>,
        /// What was found with it of the article that the call is about.
        sought: Sought,
    },
    Client(Box<ClientSession>),
}

/// Finds the rows that a token was made for, locked as asked. What the token says of people, client and audience, they say too; and its key
/// counts.
///
/// # Errors
/// 401 `invalid_token`.
pub(super) fn find_holder(conn: &mut Conn, policies: &Policies, token: &Verified, lock: Lock) -> Result<Holder> {
    let claims = &token.claims;
    let user = match claims.sub {
        Subject::User(user) => user,
        // It hangs on nothing.
        Subject::Client(_) if claims.root_sid.is_some() => return Err(invalid_token()),
        Subject::Client(_) => {
            let found = token_sessions::find_client_session(conn, claims.sid, &token.kid)?;
            let session = found.filter(|(session, key_counts)| *key_counts && agrees(token, &session.terms)).ok_or_else(invalid_token)?.0;
            return Ok(Holder::Client(Box::new(session)));
        }
    };
    let found = sessions::find_presented(conn, claims.root_sid.unwrap_or(claims.sid), &token.kid, lock)?;
    let session = found.and_then(|found| named_by(token, user, &found).then_some(found)).ok_or_else(invalid_token)?;
    let policy = policies.at(conn, session.ground.policy_version)?;
    let exchange = match claims.root_sid {
        None => None,
        Some(root) => {
            let found = token_sessions::find_exchange(conn, claims.sid, lock)?;
            Some(found.filter(|(_, session)| *session == root).ok_or_else(invalid_token)?.0)
        }
    };
    user_holder(token, session.session, exchange, policy)
}

/// Whether the session that was found is the one of which the token speaks, and the token's key counts.
fn named_by(token: &Verified, user: UserId, found: &sessions::Presented) -> bool {
    let actor = token.claims.act.map(|act| act.sub);
    let session = &found.session;
    found.key_counts && session.subject.id() == user && session.acting_as().map(|acting| acting.actor.id()) == actor
}

fn user_holder(token: &Verified, session: Arc<Session>, exchange: Option<Exchange>, policy: Arc<Policy>) -> Result<Holder> {
    let claims = &token.claims;
    let terms = exchange.as_ref().map(|exchange| &exchange.terms).or(session.terms.as_ref());
    // What the token endpoint did not give is the first-party client's, and for Actas.
    if !terms.map_or(claims.client_id.is_first_party() && token.is_for_us, |terms| agrees(token, terms)) {
        return Err(invalid_token());
    }
    Ok(Holder::User { session, exchange: exchange.map(Box::new), policy, ground: None, sought: Sought::Unknown })
}

fn agrees(token: &Verified, terms: &TokenTerms) -> bool {
    terms.client == token.claims.client_id && terms.audiences == token.claims.aud
}

/// Who somebody is whose session was found live.
pub(super) fn identity(session: Arc<Session>, exchange: Option<Box<Exchange>>, policy: Arc<Policy>) -> Identity {
    match exchange {
        Some(exchange) => Identity::of_exchanged(session, *exchange, policy),
        None => Identity::of_live(session, policy),
    }
}

/// Whether a token still counts whose session does: its own time, and its own row where it has one. The rows of impersonations and of narrower tokens are exact,
/// and end no later than their tokens say: a token that says less was not made for its row.
pub(super) fn check_token(token: &Verified, exchange: Option<&Exchange>, now: Time) -> Result<()> {
    if token.is_expired(now) {
        return Err(token_expired());
    }
    exchange.map_or(Ok(()), |exchange| check_standing(exchange.standing(now)))
}

/// # Errors
/// 401 `token_expired` or `session_ended`.
pub(super) fn check_standing(standing: TokenStanding) -> Result<()> {
    match standing {
        TokenStanding::Live => Ok(()),
        TokenStanding::Expired => Err(token_expired()),
        TokenStanding::Ended => Err(Error::new(Code::SessionEnded, "the token was revoked, or its client was disabled")),
    }
}

/// 401: an own session's access token is past its time.
pub(super) fn token_expired() -> Error {
    Error::new(Code::TokenExpired, "the access token's time is over; get a new one")
}

pub(super) fn invalid_token() -> Error {
    Error::new(Code::InvalidToken, "the access token is not valid here")
}
