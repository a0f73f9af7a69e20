//! What a login, a refresh, a start and a logout hand out: an access token, and what it stands for.

use std::sync::Arc;

use chrono::{Duration, DurationRound as _};
use uuid::Uuid;

use super::office::{Office, Settings};
use crate::auth::secret::RefreshToken;
use crate::auth::tokens::{AccessClaims, Actor, AuthorizationDetail, Subject};
use crate::domain::Time;
use crate::domain::client::{Audience, ClientId};
use crate::domain::error::{Error, Result};
use crate::domain::ids::{ArticleId, SessionId};
use crate::domain::impersonation::Bounds;
use crate::domain::policy::Policy;
use crate::domain::scope::Scope;
use crate::domain::session::{Session, TokenTerms};

/// An access token and its session. The token is a secret.
pub struct Grant {
    pub access_token: String,
    /// The token's expiry, exclusive.
    pub expires_at: Time,
    /// At login and refresh only: the token, and its expiry.
    pub refresh: Option<(RefreshToken, Time)>,
    pub session: Arc<Session>,
    /// The policy under which it was given.
    pub policy: Arc<Policy>,
}

/// The first whole second at least `seconds` after `now`: `exp` counts whole seconds (RFC 7519 §2), and a token must not live shorter than promised.
pub(super) fn expiry(now: Time, seconds: u32) -> Time {
    let whole = now.duration_trunc(Duration::seconds(1)).unwrap_or(now);
    let start = if whole < now { whole + Duration::seconds(1) } else { whole };
    start + Duration::seconds(i64::from(seconds))
}

/// When an own session's access token made at `now` expires: never after its session.
pub(super) fn own_expiry(settings: &Settings, session: &Session, now: Time) -> Time {
    expiry(now, settings.access_token_ttl).min(expiry(session.expires_at, 0))
}

/// The articles to which a token reaches, as other services read them (RFC 9396 §2).
pub(super) fn details_of(articles: &[ArticleId]) -> Vec<AuthorizationDetail> {
    articles.iter().map(|id| AuthorizationDetail::article(*id)).collect()
}

impl Office {
    /// Signs an access token for `session` with the key `kid`, which the transaction found that opened or refreshed it.
    pub(super) async fn grant(
        &self,
        session: Arc<Session>,
        kid: &str,
        now: Time,
        expires_at: Time,
        refresh: Option<(RefreshToken, Time)>,
    ) -> Result<Grant> {
        // What the token endpoint did not give is the first-party client's, and reaches as far as the user does.
        let first_party = TokenTerms {
            client: ClientId::FirstParty,
            scope: Scope::EMPTY,
            audiences: vec![Audience::from_stored(&*self.settings.audience)],
        };
        let terms = session.terms.as_ref().unwrap_or(&first_party);
        let mut claims = self.claims(Subject::User(session.subject.id()), terms, session.id, expires_at, now);
        claims.scope = claims.scope.take().filter(|_| session.terms.is_some());
        if let Some(Bounds { permissions, articles }) = session.acting_as().map(|acting| &acting.grant.bounds) {
            claims.scope = claims.scope.take().or_else(|| permissions.map(|permissions| permissions.to_string()));
            claims.authorization_details = articles.as_deref().map(details_of);
        }
        claims.act = session.acting_as().map(|acting| Actor { sub: acting.actor.id() });
        let access_token = self.sign(kid, &claims).await?;
        Ok(Grant { access_token, expires_at, refresh, session, policy: self.policies.known() })
    }

    /// What an access token on these terms claims, but for what only some have.
    pub(super) fn claims(&self, sub: Subject, terms: &TokenTerms, sid: SessionId, expires_at: Time, now: Time) -> AccessClaims {
        AccessClaims {
            iss: self.settings.issuer.clone(),
            sub,
            aud: terms.audiences.clone(),
            client_id: terms.client,
            exp: expiry(expires_at, 0).timestamp(),
            iat: now.timestamp(),
            nbf: now.timestamp(),
            jti: Uuid::new_v4().to_string(),
            sid,
            scope: Some(terms.scope.to_string()),
            authorization_details: None,
            root_sid: None,
            act: None,
        }
    }

    /// Signs an access token with the key `kid`, which the transaction found that opened or refreshed its session.
    pub(super) async fn sign(&self, kid: &str, claims: &AccessClaims) -> Result<String> {
        if !self.ensure_key(kid).await? {
            // It was retired since.
            return Err(Error::overloaded());
        }
        self.tokens.sign(kid, claims)
    }
}
