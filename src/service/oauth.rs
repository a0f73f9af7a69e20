//! The authorization server for our own tokens: what clients ask for at the token endpoint and its neighbours.
//!
//! Who may act as whom, and whether a session still counts, is decided where it always is; here is only what clients add: who they are, what they may have, and
//! whose tokens they may present.

use std::sync::Arc;

use chrono::Duration;

use super::ending;
use super::gate::{Caller, Holder, Presented, check_standing, check_token, find_holder, identity, invalid_token};
use super::grants::Grant;
use super::keys::signer;
use super::office::{Client as Sender, Event, Office};
use crate::auth::secret::{ClientSecret, RefreshToken};
use crate::auth::tokens::{AccessClaims, Actor, Subject, Verified};
use crate::domain::Time;
use crate::domain::client::{Audience, Client, ClientGrant, ClientId, ClientPrincipal};
use crate::domain::error::{Code, Error, Result};
use crate::domain::history::NewEntry;
use crate::domain::identity::{By, Ctx, Identity};
use crate::domain::ids::{ArticleId, SessionId, UserId};
use crate::domain::impersonation::{EndCause, Mode, StartRequest};
use crate::domain::oauth::OAuthCode;
use crate::domain::operation::{EXCHANGE_TOKEN, Operation as _, StartImpersonation};
use crate::domain::scope::Scope;
use crate::domain::session::{ClientSession, Exchange, Kind, Session, Standing, TokenStanding, TokenTerms};
use crate::store::clients::SecretHashes;
use crate::store::{Conn, Lock, clients, entries, keys, sessions, token_sessions};

/// How many audiences one token may have.
const MAX_AUDIENCES: usize = 10;

/// How many exchanges may lie between a token and the session on which it hangs, less two.
const MAX_DEPTH: usize = 8;

/// What a token endpoint's success says.
pub struct Issued {
    /// A secret.
    pub access_token: String,
    /// The token's expiry, exclusive.
    pub expires_at: Time,
    pub scope: Scope,
    /// The articles to which it reaches, where that is not all.
    pub articles: Option<Vec<ArticleId>>,
    /// Whose it is, for the log; nobody's where a client has it for itself.
    pub whose: Option<Whose>,
}

/// The people of a token.
#[derive(Debug, Clone, Copy)]
pub struct Whose {
    pub subject: UserId,
    pub actor: Option<UserId>,
    pub impersonation: Option<SessionId>,
}

impl Whose {
    /// The people of a session.
    pub fn of(session: &Session) -> Self {
        let actor = session.acting_as().map(|acting| acting.actor.id());
        Self { subject: session.subject.id(), actor, impersonation: actor.map(|_| session.id) }
    }
}

/// For whom a token is asked for, as the request has it.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    /// Logical names (RFC 8693 §2.1).
    pub audience: Vec<String>,
    /// Absolute URIs (RFC 8707 §2). Either kind is an audience here.
    pub resource: Vec<String>,
}

/// What is asked of a narrower token.
#[derive(Debug, Clone, Default)]
pub struct Narrowing {
    pub scope: Option<Scope>,
    pub targets: Targets,
    /// Cut to the presented token's remaining life.
    pub duration_seconds: Option<u32>,
}

/// What is asked of the start of an impersonation.
#[derive(Debug)]
pub struct StartByExchange<'a> {
    /// The administrator's own access token.
    pub actor_token: &'a str,
    /// As whom to act.
    pub subject: UserId,
    pub request: StartRequest,
}

/// What is known of a token that counts (RFC 7662 §2.2).
pub struct Introspection {
    pub claims: AccessClaims,
    /// What may be done with it now.
    pub scope: Scope,
    /// Of an impersonation.
    pub mode: Option<Mode>,
    /// The articles to which it reaches, where that is not all.
    pub articles: Option<Vec<ArticleId>>,
}

fn refuse(code: OAuthCode, detail: impl Into<String>) -> Error {
    Error::oauth(code, detail)
}

fn invalid_client() -> Error {
    refuse(OAuthCode::InvalidClient, "the client is unknown or did not prove who it is")
}

/// What a refusal means for a request that presented a token as the parameter `parameter`: the request is at fault (RFC 8693 §2.2.2). What is our own fault
/// stays so.
fn refuse_token(parameter: &str, error: Error) -> Error {
    match error.code() {
        Code::Internal | Code::Overloaded | Code::DatabaseUnavailable | Code::TooManyAttempts => error,
        _ if error.oauth_code().is_some() => error,
        Code::NotFound => refuse(OAuthCode::InvalidRequest, "subject_token: there is no such user"),
        Code::InvalidRequest if error.errors().iter().any(|error| error.pointer.starts_with("/resources")) => {
            refuse(OAuthCode::InvalidAuthorizationDetails, "authorization_details: names an article that is not there for the user to see")
        }
        Code::InvalidRequest => {
            let field = |pointer: &str| match pointer.trim_start_matches('/') {
                "duration_seconds" => "requested_duration".to_owned(),
                name => name.to_owned(),
            };
            let told = error.errors().iter().map(|error| format!("{}: {}", field(&error.pointer), error.detail));
            refuse(OAuthCode::InvalidRequest, told.collect::<Vec<_>>().join("; "))
        }
        _ => {
            // A refusal of the policy is nobody's token's fault.
            let is_policy = error.code() == Code::ImpersonationRefused;
            let mut detail = if is_policy { error.detail().to_owned() } else { format!("{parameter}: {}", error.detail()) };
            for reason in error.reasons().iter().filter(|reason| reason.detail != error.detail()) {
                detail = format!("{detail}; {}", reason.detail);
            }
            refuse(OAuthCode::InvalidRequest, detail)
        }
    }
}

fn require_grant(client: &Client, grant: ClientGrant) -> Result<()> {
    if !client.is_active() {
        return Err(invalid_client());
    }
    if client.has(grant) {
        return Ok(());
    }
    Err(refuse(OAuthCode::UnauthorizedClient, format!("the client does not have the grant `{grant}`")))
}

/// The client as it is now, kept so until the transaction ends: disabling it waits, and then ends what this began.
fn lock_client(conn: &mut Conn, id: ClientId, grant: ClientGrant) -> Result<Client> {
    let client = clients::find(conn, id, Lock::Share)?.ok_or_else(invalid_client)?;
    require_grant(&client, grant)?;
    Ok(client)
}

/// Whether the client that a token was given to lets `client` present it.
fn may_present(conn: &mut Conn, token_client: ClientId, client: ClientId) -> Result<bool> {
    if token_client == client {
        return Ok(true);
    }
    Ok(clients::find(conn, token_client, Lock::None)?.is_some_and(|owner| owner.lets_present(client)))
}

/// The audiences that are asked for, each one that the client may have tokens for; `default` where none is named.
fn resolve(targets: &Targets, client: &Client, ours: &str, default: &[Audience]) -> Result<Vec<Audience>> {
    let refused = |what: &str| refuse(OAuthCode::InvalidTarget, what);
    // Before anything is looked at: what follows compares each with each.
    if targets.audience.len() + targets.resource.len() > MAX_AUDIENCES {
        return Err(refused("a token has at most 10 audiences"));
    }
    for resource in &targets.resource {
        if !is_absolute_uri(resource) {
            return Err(refused("`resource` must be an absolute URI without a fragment (RFC 8707 section 2)"));
        }
    }
    let mut audiences = Vec::new();
    for name in targets.audience.iter().chain(&targets.resource) {
        let audience = Audience::parse(name).map_err(|error| refused(&error.detail))?;
        if !audiences.contains(&audience) {
            audiences.push(audience);
        }
    }
    if audiences.is_empty() {
        audiences = default.to_vec();
    }
    if audiences.is_empty() {
        return Err(refused("say for whom the token is to be: `audience`"));
    }
    if !audiences.iter().all(|audience| client.may_address(audience.as_str(), ours)) {
        return Err(refused("the client may not have tokens for this audience"));
    }
    Ok(audiences)
}

/// A scheme, a colon, something, and no fragment (RFC 3986 §4.3).
fn is_absolute_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    is_scheme && !rest.is_empty() && !text.contains('#')
}

fn narrow(asked: Option<Scope>, most: Scope, hint: &str) -> Result<Scope> {
    match asked {
        Some(asked) if asked.is_within(most) => Ok(asked),
        Some(_) => Err(refuse(OAuthCode::InvalidScope, format!("the scope is wider than what can be given{hint}"))),
        None => Ok(most),
    }
}

/// What a client adds to the start of an impersonation.
#[derive(Debug, Clone)]
pub(super) struct Through {
    client: ClientId,
    /// The client that the `actor_token` was given to.
    token_client: ClientId,
    ours: Audience,
    scope: Option<Scope>,
    targets: Targets,
}

impl Through {
    /// Asks again, under lock, whether the client may, and lays down the token's terms: `rights` are the subject's.
    pub(super) fn terms(&self, conn: &mut Conn, rights: Scope) -> Result<TokenTerms> {
        let client = lock_client(conn, self.client, ClientGrant::Impersonate)?;
        require_presenter(conn, self.token_client, self.client)?;
        let audiences = resolve(&self.targets, &client, self.ours.as_str(), std::slice::from_ref(&self.ours))?;
        let scope = narrow(self.scope, rights.and(client.scope()), "")?;
        Ok(TokenTerms { client: client.id, scope, audiences })
    }
}

fn require_presenter(conn: &mut Conn, token_client: ClientId, client: ClientId) -> Result<()> {
    if may_present(conn, token_client, client)? {
        return Ok(());
    }
    let detail = "actor_token: it was given to another client, which does not list this one as a presenter";
    Err(refuse(OAuthCode::InvalidRequest, detail))
}

impl Office {
    /// The client that a request's credentials name and prove. `secret` is `None` for the public first-party client, which has none.
    ///
    /// # Errors
    /// `invalid_client`, the same for an unknown client, a wrong secret and a disabled client.
    pub async fn authenticate_client(&self, id: &str, secret: Option<&str>, now: Time) -> Result<Client> {
        let id = ClientId::parse(id).ok_or_else(invalid_client)?;
        let found = self.db.read(move |conn| Ok((clients::find(conn, id, Lock::None)?, clients::secrets(conn, id)?))).await?;
        let (client, hashes) = found;
        let proved = match (id, secret) {
            (ClientId::FirstParty, None) => true,
            (ClientId::FirstParty, Some(_)) | (ClientId::Registered(_), None) => false,
            (ClientId::Registered(_), Some(secret)) => ClientSecret::parse(secret).is_some_and(|secret| matches(&secret, &hashes, now)),
        };
        client.filter(|client| proved && client.is_active()).ok_or_else(invalid_client)
    }

    /// Begins to act as a user at the request of a client, which presents an administrator's token as `actor_token` (RFC 8693 §2.1). One way to decide: the same
    /// policy, the same records and the same way back as at `POST /v1/users/{id}/impersonate`.
    ///
    /// # Errors
    /// `unauthorized_client` without the grant; `invalid_request` for an `actor_token` that is of no use, not ours, not the client's to present, or whose user may
    /// not act as this one; `invalid_scope`, `invalid_target`.
    pub async fn start_by_exchange(
        &self,
        client: &Client,
        start: StartByExchange<'_>,
        asked: Narrowing,
        sender: &Sender,
        now: Time,
    ) -> Result<Issued> {
        require_grant(client, ClientGrant::Impersonate)?;
        let refused = |error| refuse_token("actor_token", error);
        let presented = self.present(start.actor_token, now).await.map_err(refused)?;
        let (id, token_client) = (client.id, presented.token.claims.client_id);
        self.db.read(move |conn| require_presenter(conn, token_client, id)).await?;
        // Before anything is refused and recorded: whether the client could have such a token at all.
        resolve(&asked.targets, client, &self.settings.audience, &[self.our_audience()])?;
        let requirements = StartImpersonation::REQUIREMENTS;
        let caller = self.admit(presented, requirements, now, sender.request_id.clone()).await.map_err(refused)?;
        let through = Through { client: id, token_client, ours: self.our_audience(), scope: asked.scope, targets: asked.targets };
        let Grant { access_token, expires_at, session, .. } =
            self.start_through(&caller, start.subject, start.request, Some(through)).await.map_err(refused)?;
        self.tell_issued(ClientGrant::Impersonate);
        Ok(Issued {
            access_token,
            expires_at,
            scope: session.subject.rights(),
            articles: articles_of(&session),
            whose: Some(Whose::of(&session)),
        })
    }

    /// Exchanges a token for a narrower one: fewer scopes, another audience, a shorter life; `act` stays. The new token's session hangs on the presented one's: its
    /// end is the new one's too, and not the other way round.
    ///
    /// # Errors
    /// `unauthorized_client` without the grant; `invalid_request` for a `subject_token` that is of no use or not the client's to present; `invalid_scope`,
    /// `invalid_target`.
    pub async fn exchange(&self, client: &Client, subject_token: &str, asked: Narrowing, sender: &Sender, now: Time) -> Result<Issued> {
        require_grant(client, ClientGrant::TokenExchange)?;
        let refused = |error| refuse_token("subject_token", error);
        let token = self.present_for_anyone(subject_token, now).await.map_err(refused)?;
        if token.claims.user().is_none() {
            return Err(refuse(OAuthCode::InvalidRequest, "subject_token: a client's own token is not exchanged; ask for another one"));
        }
        let presented = Presented { token: token.clone(), about: None };
        let caller = self.admit(presented, EXCHANGE_TOKEN, now, sender.request_id.clone()).await.map_err(refused)?;
        let (identity, exchange, kid) = self.narrow(&caller, client.id, asked).await.map_err(refused)?;
        let access_token = self.sign(&kid, &self.claims_of_exchange(&token, &identity, &exchange, now)).await?;
        self.tell_issued(ClientGrant::TokenExchange);
        Ok(Issued {
            access_token,
            expires_at: exchange.expires_at,
            scope: exchange.terms.scope,
            articles: articles_of(identity.session()),
            whose: Some(Whose::of(identity.session())),
        })
    }

    async fn narrow(&self, caller: &Caller, client: ClientId, asked: Narrowing) -> Result<(Identity, Exchange, String)> {
        let (ours, token, ttl) = (self.settings.audience.clone(), caller.token.clone(), self.settings.access_token_ttl);
        let algorithm = self.settings.signing_algorithm;
        self.write(caller, move |tx| {
            let identity = tx.ctx.identity()?.clone();
            let client = lock_client(tx.conn, client, ClientGrant::TokenExchange)?;
            let claims = &token.claims;
            // Its own, one that it may present, or one that is addressed to it. Our own audience addresses nobody else: a client that may have tokens for Actas
            // is not Actas. And nobody proves to be the public client, so nothing is addressed to it.
            let is_addressed = !client.id.is_first_party()
                && claims.aud.iter().any(|aud| aud.as_str() != ours && client.may_address(aud.as_str(), &ours));
            if !is_addressed && !may_present(tx.conn, claims.client_id, client.id)? {
                let detail = "subject_token: it was given to another client, which does not list this one as a presenter, and is not addressed to it";
                return Err(refuse(OAuthCode::InvalidRequest, detail));
            }
            let hint = if identity.actor().is_some() {
                "; the original token comes back by logging out of the impersonation: POST /v1/auth/logout"
            } else {
                ""
            };
            let scope = narrow(asked.scope, reach(&identity).and(client.scope()), hint)?;
            let audiences = resolve(&asked.targets, &client, &ours, &claims.aud)?;
            if client.id.is_first_party() && !claims.is_for(&ours) && !audiences.iter().all(|audience| claims.aud.contains(audience)) {
                // Or whoever was given a token of another audience could make one for Actas of it, as the client that everybody may be.
                return Err(refuse(OAuthCode::InvalidTarget, "a token that is not for Actas can't be exchanged for another audience by the public client"));
            }
            require_depth(tx.conn, identity.exchange())?;
            let seconds = asked.duration_seconds.unwrap_or(ttl);
            let expires_at = (tx.ctx.now + Duration::seconds(i64::from(seconds))).min(end_of(&token, &identity)?);
            let exchange = Exchange {
                id: SessionId::new(tx.ctx.now),
                parent: identity.exchange().map(|exchange| exchange.id),
                terms: TokenTerms { client: client.id, scope, audiences },
                started_at: tx.ctx.now,
                expires_at,
                ended_at: None,
                client_is_active: true,
            };
            // Retiring the key waits for this, and then ends it; or was first.
            if !keys::hold(tx.conn, &token.kid)? {
                return Err(invalid_token());
            }
            let entry = NewEntry::session_exchanged(&tx.ctx, &exchange, identity.sid());
            token_sessions::insert_exchange(tx.conn, &exchange, identity.session().id, &token.kid, &entry)?;
            Ok((identity, exchange, signer(tx.conn, algorithm)?))
        })
        .await
    }

    fn claims_of_exchange(&self, source: &Verified, identity: &Identity, exchange: &Exchange, now: Time) -> AccessClaims {
        let session = identity.session();
        AccessClaims {
            root_sid: Some(session.id),
            authorization_details: source.claims.authorization_details.clone(),
            // As it is: whatever the request said.
            act: source.claims.act.map(|act| Actor { sub: act.sub }),
            ..self.claims(Subject::User(session.subject.id()), &exchange.terms, exchange.id, exchange.expires_at, now)
        }
    }

    /// Gives a client a token for itself, without a user (RFC 6749 §4.4).
    ///
    /// # Errors
    /// `unauthorized_client` without the grant; `invalid_scope`, `invalid_target`.
    pub async fn client_credentials(
        &self,
        client: &Client,
        scope: Option<Scope>,
        targets: Targets,
        sender: &Sender,
        now: Time,
    ) -> Result<Issued> {
        require_grant(client, ClientGrant::ClientCredentials)?;
        let (id, ours, ttl) = (client.id, self.settings.audience.clone(), self.settings.access_token_ttl);
        let algorithm = self.settings.signing_algorithm;
        let by = ClientPrincipal { id, name: client.terms.name.clone(), scope: client.scope() };
        let ctx = Ctx { by: By::Client(Box::new(by)), now, request_id: sender.request_id.clone() };
        let session = self.transact(ctx, move |tx| {
            let client = lock_client(tx.conn, id, ClientGrant::ClientCredentials)?;
            // Actas itself, if the client may; else its one audience, if it has but one.
            let default = match client.terms.audiences.as_slice() {
                [one] => vec![one.clone()],
                several => several.iter().filter(|audience| audience.as_str() == ours).cloned().collect(),
            };
            let audiences = resolve(&targets, &client, &ours, &default)?;
            let session = ClientSession {
                id: SessionId::new(now),
                name: client.terms.name.clone(),
                terms: TokenTerms { client: id, scope: narrow(scope, client.scope(), "")?, audiences },
                started_at: now,
                expires_at: super::grants::expiry(now, ttl),
                ended_at: None,
                client_is_active: true,
            };
            let entry = NewEntry::client_session_started(&tx.ctx, session.id, &session.terms, session.expires_at);
            token_sessions::insert_client_session(tx.conn, &session, &entry)?;
            Ok((session, signer(tx.conn, algorithm)?))
        });
        let (session, kid) = session.await?;
        let claims = self.claims(Subject::Client(id), &session.terms, session.id, session.expires_at, now);
        let access_token = self.sign(&kid, &claims).await?;
        self.tell_issued(ClientGrant::ClientCredentials);
        Ok(Issued { access_token, expires_at: session.expires_at, scope: session.terms.scope, articles: None, whose: None })
    }

    /// Renews an own session at the request of the first-party client, as [`Office::refresh`] does.
    ///
    /// # Errors
    /// `unauthorized_client` for every other client; `invalid_grant` for a refresh token that is of no use; `invalid_scope` and `invalid_target` where less is asked
    /// for than an own session's token is: that takes an exchange.
    pub async fn refresh_by_client(
        &self,
        client: &Client,
        refresh_token: &str,
        asked: Narrowing,
        sender: Sender,
        now: Time,
    ) -> Result<Grant> {
        require_grant(client, ClientGrant::RefreshToken)?;
        let ours = &self.settings.audience;
        if asked.targets.audience.iter().chain(&asked.targets.resource).any(|target| target != ours) {
            let detail = "an own session's token is for Actas; exchange it for one that is for others";
            return Err(refuse(OAuthCode::InvalidTarget, detail));
        }
        if let Some(scope) = asked.scope {
            self.require_whole_scope(refresh_token, scope).await?;
        }
        let refreshed = self.refresh(refresh_token, sender, now).await;
        let grant = refreshed.map_err(|error| match error.code() {
            Code::RefreshTokenInvalid | Code::RefreshTokenReused | Code::SessionEnded => {
                refuse(OAuthCode::InvalidGrant, error.detail().to_owned())
            }
            _ => error,
        })?;
        self.tell_issued(ClientGrant::RefreshToken);
        Ok(grant)
    }

    /// Before the token is replaced. Whether it is of any use is for later to say.
    async fn require_whole_scope(&self, refresh_token: &str, scope: Scope) -> Result<()> {
        let Some(hash) = RefreshToken::parse(refresh_token).map(|token| token.hash()) else { return Ok(()) };
        let found = self.db.read(move |conn| {
            let row = sessions::find_refresh_token(conn, &hash)?;
            row.map(|row| sessions::find(conn, row.session, Lock::None)).transpose().map(Option::flatten)
        });
        match found.await? {
            Some(session) if session.subject.rights() != scope => {
                let detail = "an own session's token reaches as far as its user does; exchange it for a narrower one";
                Err(refuse(OAuthCode::InvalidScope, detail))
            }
            _ => Ok(()),
        }
    }

    /// What is known of a token, as it is now (RFC 7662): nothing of one that does not count, or that is not for the client's audience.
    ///
    /// # Errors
    /// `invalid_client` for the public client, which proves nothing.
    pub async fn introspect(&self, client: &Client, token: &str, now: Time) -> Result<Option<Introspection>> {
        if client.id.is_first_party() {
            return Err(invalid_client());
        }
        let token = match self.present_for_anyone(token, now).await {
            Err(error) if error.code() == Code::InvalidToken => return Ok(None),
            token => token?,
        };
        let ours = &self.settings.audience;
        if !token.claims.aud.iter().any(|aud| client.may_address(aud.as_str(), ours)) {
            return Ok(None);
        }
        let (asked, policies) = (token.clone(), Arc::clone(&self.policies));
        let holder = match self.db.read(move |conn| find_holder(conn, &policies, &asked, Lock::None)).await {
            Err(error) if error.code() == Code::InvalidToken => return Ok(None),
            holder => holder?,
        };
        let known = match holder {
            Holder::User { session, exchange, policy, .. } => {
                let is_live = session.standing(now, &policy) == Standing::Live && check_token(&token, exchange.as_deref(), now).is_ok();
                let identity = identity(session, exchange, policy);
                let mode = identity.hold().map(|hold| hold.mode);
                is_live.then(|| (reach(&identity), mode, articles_of(identity.session())))
            }
            Holder::Client(session) => {
                let is_live = session.standing(now) == TokenStanding::Live && !token.is_expired(now);
                is_live.then_some((session.terms.scope, None, None))
            }
        };
        Ok(known.map(|(scope, mode, articles)| Introspection { claims: token.claims.clone(), scope, mode, articles }))
    }

    /// Ends what a token stands for (RFC 7009): an own session, an impersonation without giving anything back, a narrower token alone, a client's own token. One that
    /// is unknown or over already changes nothing.
    ///
    /// # Errors
    /// `invalid_grant` for a token that was given to another client.
    pub async fn revoke(&self, client: &Client, token: &str, sender: &Sender, now: Time) -> Result<()> {
        if let Some(token) = RefreshToken::parse(token) {
            return self.revoke_refresh_token(client, &token, sender, now).await;
        }
        let token = match self.present_for_anyone(token, now).await {
            Err(error) if error.code() == Code::InvalidToken => return Ok(()),
            token => token?,
        };
        if token.claims.client_id != client.id {
            return Err(other_clients());
        }
        let policies = Arc::clone(&self.policies);
        let ctx = Ctx { by: By::Anonymous, now, request_id: sender.request_id.clone() };
        let revoked = self.transact(ctx, move |tx| match find_holder(tx.conn, &policies, &token, Lock::Update)? {
            Holder::Client(session) => {
                let id = session.terms.client;
                tx.ctx.by = By::Client(Box::new(ClientPrincipal { id, name: session.name.clone(), scope: session.terms.scope }));
                if check_standing(session.standing(now)).is_err() {
                    return Ok(());
                }
                entries::append(tx.conn, &NewEntry::token_session_ended(&tx.ctx, session.id, id, EndCause::Revoked))?;
                if token_sessions::end_client_session(tx.conn, session.id, now)? {
                    Ok(())
                } else {
                    Err(Error::lost_race("a client's token was ended while it was being ended"))
                }
            }
            Holder::User { session, exchange, policy, .. } => {
                tx.ctx.by = By::Request(Box::new(identity(Arc::clone(&session), exchange.clone(), Arc::clone(&policy))));
                tx.policy = policy;
                match exchange {
                    // Over with the session on which it hangs: nothing is written under that any more.
                    Some(_) if session.standing(now, &tx.policy) != Standing::Live => Ok(()),
                    Some(exchange) if check_standing(exchange.standing(now)).is_ok() => {
                        ending::end_exchange(tx, &exchange, EndCause::Revoked)
                    }
                    Some(_) => Ok(()),
                    None if session.acting_as().is_none() && token.is_expired(now) => Ok(()),
                    None => revoke_session(tx, &session),
                }
            }
        });
        match revoked.await {
            Err(error) if error.code() == Code::InvalidToken => Ok(()),
            revoked => revoked,
        }
    }

    async fn revoke_refresh_token(&self, client: &Client, token: &RefreshToken, sender: &Sender, now: Time) -> Result<()> {
        let (hash, is_first_party) = (token.hash(), client.id.is_first_party());
        let ctx = Ctx { by: By::Anonymous, now, request_id: sender.request_id.clone() };
        self.transact(ctx, move |tx| {
            let Some(row) = sessions::find_refresh_token(tx.conn, &hash)? else { return Ok(()) };
            if !is_first_party {
                return Err(other_clients());
            }
            let Some(session) = sessions::find(tx.conn, row.session, Lock::Update)? else { return Ok(()) };
            tx.ctx.by = By::Credential(session.subject.user.clone());
            revoke_session(tx, &session)
        })
        .await
    }

    fn our_audience(&self) -> Audience {
        Audience::from_stored(&*self.settings.audience)
    }

    fn tell_issued(&self, grant: ClientGrant) {
        (self.observer)(&Event::TokenIssued(grant));
    }
}

fn matches(secret: &ClientSecret, hashes: &SecretHashes, now: Time) -> bool {
    let is = |hash: &String| secret.has_hash(hash);
    hashes.current.as_ref().is_some_and(is) || hashes.old.as_ref().is_some_and(|(hash, until)| *until > now && is(hash))
}

fn other_clients() -> Error {
    refuse(OAuthCode::InvalidGrant, "the token was given to another client")
}

/// The articles to which an impersonation reaches, where that is not all.
fn articles_of(session: &Session) -> Option<Vec<ArticleId>> {
    session.acting_as().and_then(|acting| acting.grant.bounds.articles.clone())
}

/// What may be done with a token: what the subject may, less what the impersonation was not started for.
fn reach(identity: &Identity) -> Scope {
    let rights = identity.subject().rights();
    identity.hold().and_then(|hold| hold.bounds.permissions).map_or(rights, |bound| bound.and(rights))
}

/// When what was presented is over: the token, its row, and the session on which it hangs.
fn end_of(token: &Verified, identity: &Identity) -> Result<Time> {
    let exp = Time::from_timestamp(token.claims.exp, 0).ok_or_else(|| Error::internal("a token's expiry is no time"))?;
    let row = identity.exchange().map_or(identity.session().expires_at, |exchange| exchange.expires_at);
    Ok(exp.min(row).min(identity.session().expires_at))
}

/// # Errors
/// `invalid_request` for a token of a token of a token, too many times: whoever revokes the first ends them all, in one go.
fn require_depth(conn: &mut Conn, source: Option<&Exchange>) -> Result<()> {
    let mut parent = source.and_then(|source| source.parent);
    for _ in 0..MAX_DEPTH {
        let Some(id) = parent else { return Ok(()) };
        parent = token_sessions::parent_of(conn, id)?;
    }
    Err(refuse(OAuthCode::InvalidRequest, "subject_token: it was exchanged too many times already"))
}

/// Ends a session for good, whatever its standing; an impersonation's way back closes with it.
fn revoke_session(tx: &mut super::gate::Tx<'_>, session: &Session) -> Result<()> {
    match (&session.kind, session.standing(tx.ctx.now, &tx.policy)) {
        (Kind::Own, Standing::Live) => ending::end_own(tx, session.id, session.subject.id(), EndCause::Revoked),
        (Kind::Own, Standing::MustEnd(cause)) => ending::end_overdue(tx, session, cause),
        (Kind::Own, Standing::Over(_)) => Ok(()),
        (Kind::Impersonation(acting), Standing::Live) => {
            ending::end_impersonation(tx, session.id, tx.ctx.now, EndCause::Revoked, Some(acting.actor.id()))
        }
        (Kind::Impersonation(_), standing) => {
            if let Standing::MustEnd(cause) = standing {
                ending::end_overdue(tx, session, cause)?;
            }
            sessions::take_way_back(tx.conn, session.id).map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_an_absolute_uri_without_a_fragment() {
        for good in ["https://billing.example", "urn:example:billing", "x-y.z+1:a"] {
            assert!(is_absolute_uri(good), "{good}");
        }
        for bad in ["", "billing", "/path", "https:", "1a:b", ":b", "https://billing.example#part", "//billing.example"] {
            assert!(!is_absolute_uri(bad), "{bad}");
        }
    }
}
