//! What a login, a refresh, a start and a logout hand out: an access token, and what it stands for.

use chrono::{Duration, DurationRound as _};
use uuid::Uuid;

use super::office::{Office, Settings};
use crate::auth::secret::RefreshToken;
use crate::auth::tokens::{AccessClaims, Actor};
use crate::domain::Time;
use crate::domain::error::{Error, Result};
use crate::domain::session::Session;

/// The first-party client, for whom every login and every start issues its token.
const CLIENT_ID: &str = "actas";

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
    /// Signs an access token for `session` with the key `kid`, which the transaction found that opened or refreshed it.
    pub(super) async fn grant(
        &self,
        session: Session,
        kid: &str,
        now: Time,
        expires_at: Time,
        refresh: Option<(RefreshToken, Time)>,
    ) -> Result<Grant> {
        if !self.ensure_key(kid).await? {
            // It was retired since.
            return Err(Error::overloaded());
        }
        let claims = AccessClaims {
            iss: self.settings.issuer.clone(),
            sub: session.subject.id(),
            aud: self.settings.audience.clone(),
            client_id: CLIENT_ID.to_owned(),
            exp: expiry(expires_at, 0).timestamp(),
            iat: now.timestamp(),
            nbf: now.timestamp(),
            jti: Uuid::new_v4().to_string(),
            sid: session.id,
            act: session.acting_as().map(|acting| Actor { sub: acting.actor.id() }),
        };
        let access_token = self.tokens.sign(kid, &claims)?;
        Ok(Grant { access_token, expires_at, refresh, session })
    }
}
