//! The clients of the token endpoint: who may ask for tokens, and for which.

use chrono::Duration;

use super::ending;
use super::gate::Tx;
pub use crate::auth::secret::ClientSecret;
use crate::domain::Time;
use crate::domain::client::{Client, ClientChange, ClientGrant, ClientId, ClientStatus, ClientTerms, first_party_refusal};
use crate::domain::error::{Error, Result};
use crate::domain::history::NewEntry;
use crate::domain::identity::Ctx;
use crate::domain::impersonation::EndCause;
use crate::domain::page::{Page, PageRequest};
use crate::domain::scope::Scope;
use crate::domain::text::DisplayName;
use crate::store::clients::{self, SecretHashes};
use crate::store::sessions::{self, Open};
use crate::store::{Conn, Db, Lock, token_sessions};

/// The longest that an old secret may still count after a new one was made, in seconds: a week.
pub const MAX_OVERLAP_SECONDS: u32 = 7 * 24 * 3600;

/// A client with the secret that is told once.
pub struct WithSecret {
    pub client: Client,
    pub secret: ClientSecret,
}

/// One page of the clients, newest first; the first-party client is before all of them.
pub fn list(conn: &mut Conn, page: &PageRequest<ClientId>) -> Result<Page<Client>> {
    clients::list(conn, page)
}

/// # Errors
/// 404 where there is no such client.
pub fn get(conn: &mut Conn, id: ClientId) -> Result<Client> {
    clients::find(conn, id, Lock::None)?.ok_or_else(Error::not_found)
}

/// Registers a confidential client. It has `secret`, of which only the hash is kept.
///
/// # Errors
/// 422 for terms that such a client can't have, and for presenters that are no clients.
pub fn create(tx: &mut Tx<'_>, id: ClientId, terms: &ClientTerms, secret: &ClientSecret) -> Result<WithSecret> {
    let terms = terms.clone().in_order();
    terms.require_fit(id)?;
    require_known(tx.conn, id, &terms.presenters)?;
    let client = Client { id, terms, version: 1, created_at: tx.ctx.now, updated_at: tx.ctx.now };
    clients::insert(tx.conn, &client, Some(&secret.hash()), &NewEntry::client_created(&tx.ctx, &client))?;
    Ok(WithSecret { client, secret: secret.clone() })
}

/// Changes a client. Its tokens keep what they were given; of a disabled client they end at once, and the impersonations that it started. A change that changes
/// nothing leaves no entry and no new version.
///
/// # Errors
/// 404; 403 `action_refused` for what the first-party client can't lose; 422 as [`create`]; what `precondition` says of the row's version.
pub fn update(tx: &mut Tx<'_>, id: ClientId, change: &ClientChange, precondition: impl FnOnce(i64) -> Result<()>) -> Result<Client> {
    if change.status == Some(ClientStatus::Disabled) {
        // Before the client's own row, as every request of theirs does.
        sessions::lock_open(tx.conn, Open::Through(id))?;
    }
    let before = clients::find(tx.conn, id, Lock::Update)?.ok_or_else(Error::not_found)?;
    let terms = before.terms.changed(change);
    terms.require_fit(id)?;
    require_known(tx.conn, id, &terms.presenters)?;
    precondition(before.version)?;
    if terms == before.terms {
        return Ok(before);
    }
    let after = Client { terms, version: before.version + 1, updated_at: tx.ctx.now, ..before.clone() };
    clients::update(tx.conn, &after, &NewEntry::client_updated(&tx.ctx, &before, &after))?;
    if before.is_active() && after.terms.status == ClientStatus::Disabled {
        token_sessions::end_all_of_client(tx.conn, id, tx.ctx.now)?;
        ending::end_impersonations(tx, Open::Through(id), EndCause::ClientDisabled)?;
    }
    Ok(after)
}

fn require_known(conn: &mut Conn, id: ClientId, presenters: &[ClientId]) -> Result<()> {
    for presenter in presenters {
        if *presenter != id && clients::find(conn, *presenter, Lock::None)?.is_none() {
            return Err(Error::invalid_field("/presenters", "unknown_client", format!("there is no client `{presenter}`")));
        }
    }
    Ok(())
}

/// Gives a client a new secret. The old one counts for `overlap_seconds` more, so that a service with many instances can be moved over; 0 ends it at once.
///
/// # Errors
/// 404; 403 `action_refused` for the first-party client, which has no secret; what `precondition` says of the row's version.
pub fn rotate_secret(
    tx: &mut Tx<'_>,
    id: ClientId,
    secret: &ClientSecret,
    overlap_seconds: u32,
    precondition: impl FnOnce(i64) -> Result<()>,
) -> Result<WithSecret> {
    let before = clients::find(tx.conn, id, Lock::Update)?.ok_or_else(Error::not_found)?;
    if id.is_first_party() {
        return Err(first_party_refusal());
    }
    precondition(before.version)?;
    let until = (overlap_seconds > 0).then(|| tx.ctx.now + Duration::seconds(i64::from(overlap_seconds.min(MAX_OVERLAP_SECONDS))));
    let old = clients::secrets(tx.conn, id)?.current.zip(until);
    let client = Client { version: before.version + 1, updated_at: tx.ctx.now, ..before };
    let entry = NewEntry::client_secret_rotated(&tx.ctx, id, until);
    clients::set_secret(tx.conn, &client, &SecretHashes { current: Some(secret.hash()), old }, &entry)?;
    Ok(WithSecret { client, secret: secret.clone() })
}

/// Makes the first-party client if there is none yet.
///
/// # Errors
/// Where the database says no.
pub fn ensure_first_party(db: &Db, now: Time) -> Result<()> {
    if db.read_blocking(|conn| clients::find(conn, ClientId::FirstParty, Lock::None))?.is_some() {
        return Ok(());
    }
    let made = db.write_blocking(|conn| {
        if clients::find(conn, ClientId::FirstParty, Lock::None)?.is_some() {
            return Ok(());
        }
        let terms = ClientTerms {
            name: DisplayName::from_stored("Actas".to_owned()),
            status: ClientStatus::Active,
            grants: vec![ClientGrant::RefreshToken, ClientGrant::TokenExchange],
            scope: Scope::EMPTY,
            audiences: Vec::new(),
            presenters: Vec::new(),
        };
        let client = Client { id: ClientId::FirstParty, terms, version: 1, created_at: now, updated_at: now };
        let ctx = Ctx::system("made at the first start", now);
        clients::insert(conn, &client, None, &NewEntry::client_created(&ctx, &client))
    });
    match made {
        // Another instance was quicker.
        Err(error) if db.read_blocking(|conn| clients::find(conn, ClientId::FirstParty, Lock::None))?.is_none() => Err(error),
        _ => Ok(()),
    }
}
