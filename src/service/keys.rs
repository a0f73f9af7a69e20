//! The keys that every instance shares: made at the first start, sealed as soon as there is something to seal them with, rotated, imported
//! and retired from the command line beside running servers.
//!
//! **Architecture Invariant:** which key signs and which one counts is the database's to say, at every request. A ring of opened keys
//! ([`Tokens`]) saves the opening and decides nothing.

use chrono::Duration;

use super::ending;
use super::gate::Tx;
use super::office::{Event, Office};
use crate::auth::keys::{Algorithm, KeyEncryptionKey, KeyPurpose, OpenedKey, SigningKey, StoredKey, tag_of};
use crate::auth::secret::DerivationKey;
use crate::auth::tokens::Tokens;
use crate::domain::Time;
use crate::domain::error::{Error, Result};
use crate::domain::history::NewEntry;
use crate::domain::identity::Ctx;
use crate::store::keys::{self, KeyRow};
use crate::store::{Conn, Db, sessions, token_sessions};

pub use crate::auth::keys::PublicHalf;

/// Loads the keys, and makes those that are missing: one that signs with `algorithm`, and one for refresh tokens. With an encryption key,
/// those that are stored plain are sealed.
///
/// # Errors
/// Where a key is sealed and `encryption` is missing or wrong.
pub fn load_or_create(
    db: &Db,
    algorithm: Algorithm,
    encryption: Option<&KeyEncryptionKey>,
    issuer: &str,
    audience: &str,
    now: Time,
) -> Result<(Tokens, DerivationKey)> {
    let stored = db.write_blocking(|conn| {
        let ctx = Ctx::system("made at the first start", now);
        keys::lock(conn)?;
        let mut stored = current(keys::list(conn)?)?;
        for (purpose, algorithm) in [(KeyPurpose::Sign, algorithm), (KeyPurpose::Refresh, Algorithm::Hs256)] {
            if stored.iter().any(|key| (key.purpose, key.algorithm) == (purpose, algorithm)) {
                continue;
            }
            let key = match purpose {
                KeyPurpose::Sign => StoredKey::generate_signing(algorithm, now, encryption),
                KeyPurpose::Refresh => StoredKey::generate_derivation(now, encryption),
            };
            let key = key.map_err(Error::internal)?;
            keys::insert(conn, &to_row(&key), &NewEntry::key_created(&ctx, &key.kid, key.algorithm.as_str()))?;
            stored.push(key);
        }
        // A wrong encryption key stops the start here, before anything is sealed with it.
        for key in &stored {
            key.open(encryption).map_err(Error::internal)?;
        }
        if let Some(encryption) = encryption {
            for key in &mut stored {
                if let Some(sealed) = key.reseal(encryption).map_err(Error::internal)? {
                    keys::reseal(conn, &to_row(&sealed))?;
                    *key = sealed;
                }
            }
        }
        Ok(stored)
    })?;
    let mut signing = Vec::new();
    let mut refresh = None;
    for key in stored {
        match key.open(encryption).map_err(Error::internal)? {
            OpenedKey::Sign(key) => signing.push(key),
            OpenedKey::Refresh(key) => refresh = Some(key),
        }
    }
    let refresh = refresh.ok_or_else(|| Error::internal("there is no key to derive refresh tokens with"))?;
    Ok((Tokens::new(signing, issuer, audience), refresh))
}

/// The kid of the key that signs now with this algorithm, asked in the very transaction that needs a token.
///
/// # Errors
/// An internal error where there is none: at the start there was one.
pub(super) fn signer(conn: &mut Conn, algorithm: Algorithm) -> Result<String> {
    let missing = || Error::internal(format!("there is no {algorithm} signing key in the database; `actas keys rotate` makes one"));
    keys::newest(conn, KeyPurpose::Sign.as_str(), algorithm.as_str())?.ok_or_else(missing)
}

/// The public halves of the keys whose tokens count.
pub struct PublicKeys {
    /// Newest first.
    pub keys: Vec<PublicKey>,
    /// The content of an entity tag for them.
    pub tag: String,
}

/// The public half of a key.
pub struct PublicKey {
    pub kid: String,
    pub algorithm: Algorithm,
    pub half: PublicHalf,
}

impl Office {
    /// Sees to it that the key is on the ring, and says whether it is: an unknown or retired one is not.
    pub(super) async fn ensure_key(&self, kid: &str) -> Result<bool> {
        if self.tokens.key(kid).is_some() {
            return Ok(true);
        }
        let asked = kid.to_owned();
        let found = self.db.read(move |conn| keys::find(conn, &asked)).await?;
        match found.filter(|row| row.retired_at.is_none() && row.purpose == KeyPurpose::Sign.as_str()) {
            Some(row) => self.open_key(row).map(|()| true),
            None => Ok(false),
        }
    }

    /// Whether the key counts no more, by the database.
    pub(super) async fn is_retired(&self, kid: &str) -> Result<bool> {
        let asked = kid.to_owned();
        let found = self.db.read(move |conn| keys::find(conn, &asked)).await?;
        Ok(found.is_none_or(|row| row.retired_at.is_some()))
    }

    fn open_key(&self, row: KeyRow) -> Result<()> {
        match from_row(row)?.open(self.key_encryption.as_ref()).map_err(Error::internal)? {
            OpenedKey::Sign(key) => self.tokens.add(key),
            OpenedKey::Refresh(_) => return Err(Error::internal("a key for refresh tokens can't sign access tokens")),
        }
        Ok(())
    }

    /// The keys with which the tokens of every instance can be checked, as the database has them now.
    ///
    /// # Errors
    /// Where the database can't be reached.
    pub async fn public_keys(&self) -> Result<PublicKeys> {
        let rows = self.db.read(|conn| keys::list_current(conn, KeyPurpose::Sign.as_str())).await?;
        let mut public = Vec::new();
        for row in rows {
            let kid = row.kid.clone();
            // One that this instance can't open must not hide the others.
            if self.tokens.key(&kid).is_none()
                && let Err(error) = self.open_key(row)
            {
                tracing::warn!(%error, kid, "a key is not published");
            }
            let publish = |key: &SigningKey| PublicKey { kid: kid.clone(), algorithm: key.algorithm(), half: key.public().clone() };
            public.extend(self.tokens.key(&kid).map(|key| publish(&key)));
        }
        let tag = tag_of(public.iter().map(|key| key.kid.as_str()));
        Ok(PublicKeys { keys: public, tag })
    }
}

/// A signing key as the command line shows it.
#[derive(Debug, Clone)]
pub struct KeyView {
    pub kid: String,
    pub algorithm: Algorithm,
    pub created_at: Time,
    pub retired_at: Option<Time>,
    /// Whether new tokens of its algorithm are signed with it.
    pub signs: bool,
}

/// Every signing key, newest first.
pub fn list(conn: &mut Conn) -> Result<Vec<KeyView>> {
    let mut views: Vec<KeyView> = Vec::new();
    for row in keys::list(conn)?.into_iter().rev().filter(is_for_signing) {
        let key = from_row(row.clone())?;
        let signs = row.retired_at.is_none() && !views.iter().any(|newer| newer.signs && newer.algorithm == key.algorithm);
        let KeyRow { kid, created_at, retired_at, .. } = row;
        views.push(KeyView { kid, algorithm: key.algorithm, created_at, retired_at, signs });
    }
    Ok(views)
}

/// What became of a new key.
pub struct Added {
    pub key: KeyView,
    /// Whether it is sealed and others are not: a server that runs without the encryption key can't use it.
    pub alone_sealed: bool,
}

/// Adds a key that was just made. From now on it signs, everywhere.
///
/// # Errors
/// Where other keys are sealed and this one is not, or with another encryption key.
pub fn rotate(tx: &mut Tx<'_>, key: &StoredKey, encryption: Option<&KeyEncryptionKey>) -> Result<Added> {
    keys::lock(tx.conn)?;
    let entry = NewEntry::key_created(&tx.ctx, &key.kid, key.algorithm.as_str());
    add(tx, key, encryption, &entry)
}

/// What became of a key that was to be taken over.
pub enum Imported {
    Added(Added),
    /// It is here.
    Exists,
    /// It was here, and was retired.
    Retired,
}

/// Takes over a key that was made elsewhere. From now on it signs, everywhere.
///
/// # Errors
/// As [`rotate`].
pub fn import(tx: &mut Tx<'_>, key: &StoredKey, encryption: Option<&KeyEncryptionKey>) -> Result<Imported> {
    keys::lock(tx.conn)?;
    match keys::find(tx.conn, &key.kid)? {
        Some(KeyRow { retired_at: Some(_), .. }) => Ok(Imported::Retired),
        Some(_) => Ok(Imported::Exists),
        None => {
            let entry = NewEntry::key_imported(&tx.ctx, &key.kid, key.algorithm.as_str());
            add(tx, key, encryption, &entry).map(Imported::Added)
        }
    }
}

fn add(tx: &mut Tx<'_>, key: &StoredKey, encryption: Option<&KeyEncryptionKey>, entry: &NewEntry) -> Result<Added> {
    let rows = keys::list(tx.conn)?;
    let newest = rows.iter().filter(|row| is_for_signing(row)).map(|row| row.created_at).max();
    let others = current(rows)?;
    // A server that reads the sealed ones must be able to read this one too.
    for other in &others {
        other.open(encryption).map_err(Error::internal)?;
    }
    // The newest signs, also where the clock of whoever made the one before was ahead of ours.
    let created_at = newest.map_or(key.created_at, |newest| key.created_at.max(newest + Duration::microseconds(1)));
    let key = StoredKey { created_at, ..key.clone() };
    keys::insert(tx.conn, &to_row(&key), entry)?;
    Ok(Added {
        alone_sealed: key.sealed && others.iter().any(|other| !other.sealed),
        key: KeyView { kid: key.kid, algorithm: key.algorithm, created_at, retired_at: None, signs: true },
    })
}

/// What became of a key that was to be retired.
pub enum Retirement {
    Done {
        impersonations: usize,
    },
    /// It was retired before; nothing was changed.
    WasDone,
    Unknown,
    /// It signs new tokens; another key has to first.
    Signs(Algorithm),
    /// It signs nothing: it derives refresh tokens.
    NotForSigning,
}

/// Retires a key for good. Its tokens are dead at once, everywhere; impersonations that were started with one of them end, because their
/// way back is closed, and tokens that were made of one of them. Sessions live on, and a refresh gives a token by the key that signs.
///
/// # Errors
/// Where the database says no.
pub fn retire(tx: &mut Tx<'_>, kid: &str) -> Result<Retirement> {
    keys::lock(tx.conn)?;
    let Some(row) = keys::find(tx.conn, kid)? else { return Ok(Retirement::Unknown) };
    if !is_for_signing(&row) {
        return Ok(Retirement::NotForSigning);
    }
    if row.retired_at.is_some() {
        return Ok(Retirement::WasDone);
    }
    if keys::newest(tx.conn, &row.purpose, &row.algorithm)?.as_deref() == Some(kid) {
        return from_row(row).map(|key| Retirement::Signs(key.algorithm));
    }
    // Once before the key's row is locked, as everybody locks sessions first, and once after: whoever was about to start an impersonation
    // with its token held the row. The ways back close last, for by them the impersonations are found.
    ending::end_started_with(tx, kid)?;
    keys::retire(tx.conn, kid, tx.ctx.now, &NewEntry::key_retired(&tx.ctx, kid))?;
    ending::end_started_with(tx, kid)?;
    sessions::close_ways_back_of_key(tx.conn, kid)?;
    token_sessions::end_all_of_key(tx.conn, kid, tx.ctx.now)?;
    let ended = tx.events.iter().filter(|event| matches!(event, Event::ImpersonationEnded(_)));
    Ok(Retirement::Done { impersonations: ended.count() })
}

fn is_for_signing(row: &KeyRow) -> bool {
    row.purpose == KeyPurpose::Sign.as_str()
}

/// Those that were not retired.
fn current(rows: Vec<KeyRow>) -> Result<Vec<StoredKey>> {
    rows.into_iter().filter(|row| row.retired_at.is_none()).map(from_row).collect()
}

fn from_row(row: KeyRow) -> Result<StoredKey> {
    let unknown = |what: &str| Error::internal(format!("key {} has an unknown {what}; was it made by a newer Actas?", row.kid));
    Ok(StoredKey {
        purpose: KeyPurpose::parse(&row.purpose).ok_or_else(|| unknown("purpose"))?,
        algorithm: Algorithm::parse(&row.algorithm).ok_or_else(|| unknown("algorithm"))?,
        private: row.private_key.clone(),
        sealed: row.sealed,
        created_at: row.created_at,
        kid: row.kid,
    })
}

fn to_row(key: &StoredKey) -> KeyRow {
    KeyRow {
        kid: key.kid.clone(),
        purpose: key.purpose.as_str().to_owned(),
        algorithm: key.algorithm.as_str().to_owned(),
        private_key: key.private.clone(),
        sealed: key.sealed,
        created_at: key.created_at,
        retired_at: None,
    }
}
