//! What a login, a refresh, a start and a logout hand out: an access token, and what it stands for.

use chrono::{Duration, DurationRound as _};
use uuid::Uuid;

use super::office::{Office, Settings};
use crate::auth::secret::RefreshToken;
use crate::auth::tokens::{AccessClaims, Actor, Subject};
use crate::domain::Time;
use crate::domain::client::{Audience, ClientId};
use crate::domain::error::{Error, Result};
use crate::domain::ids::SessionId;
use crate::domain::scope::Scope;
use crate::domain::session::{Session, TokenTerms};

/// An access token and its session. The token is a secret.
pub struct Grant {
    pub access_token: String,
    /// The token's expiry, exclusive.
    pub expires_at: Time,
    /// At login and refresh only: the token, and its expiry.
    pub refresh: Option<(RefreshToken, Time)>,
    pub session: Session,
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

impl Office {
    /// Signs an access token for `session`.
    pub(super) fn grant(&self, session: Session, now: Time, expires_at: Time, refresh: Option<(RefreshToken, Time)>) -> Result<Grant> {
        // What the token endpoint did not give is the first-party client's, and reaches as far as the user does.
        let first_party = TokenTerms {
            client: ClientId::FirstParty,
            scope: Scope::EMPTY,
            audiences: vec![Audience::from_stored(&*self.settings.audience)],
        };
        let terms = session.terms.as_ref().unwrap_or(&first_party);
        let access_token = self.sign_claims(Subject::User(session.subject.id()), terms, session.id, expires_at, now, |claims| {
            claims.scope = claims.scope.take().filter(|_| session.terms.is_some());
            claims.act = session.acting_as().map(|acting| Actor { sub: acting.actor.id() });
        })?;
        Ok(Grant { access_token, expires_at, refresh, session })
    }

    /// Signs an access token on these terms; `complete` adds what only some have.
    pub(super) fn sign_claims(
        &self,
        sub: Subject,
        terms: &TokenTerms,
        sid: SessionId,
        expires_at: Time,
        now: Time,
        complete: impl FnOnce(&mut AccessClaims),
    ) -> Result<String> {
        let mut claims = AccessClaims {
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
            root_sid: None,
            act: None,
        };
        complete(&mut claims);
        self.tokens.sign(&claims).map_err(Error::internal)
    }
}
