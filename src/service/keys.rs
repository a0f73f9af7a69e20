//! The keys that every instance shares: made at the first start, sealed as soon as there is something to seal them with.

use crate::auth::keys::{Algorithm, KeyEncryptionKey, KeyPurpose, OpenedKey, StoredKey};
use crate::auth::secret::DerivationKey;
use crate::auth::tokens::Tokens;
use crate::domain::Time;
use crate::domain::error::{Error, Result};
use crate::domain::history::NewEntry;
use crate::domain::identity::Ctx;
use crate::store::Db;
use crate::store::keys::{self, KeyRow};

/// Loads the keys, and makes those that are missing. With an encryption key, those that are stored plain are sealed.
///
/// # Errors
/// Where a key is sealed and `encryption` is missing or wrong.
pub fn load_or_create(
    db: &Db,
    encryption: Option<&KeyEncryptionKey>,
    issuer: &str,
    audience: &str,
    now: Time,
) -> Result<(Tokens, DerivationKey)> {
    let stored = db.write_blocking(|conn| {
        let ctx = Ctx::system("made at the first start", now);
        let mut stored = keys::list(conn, true)?.into_iter().map(from_row).collect::<Result<Vec<_>>>()?;
        for purpose in [KeyPurpose::Sign, KeyPurpose::Refresh] {
            if stored.iter().any(|key| key.purpose == purpose) {
                continue;
            }
            let key = match purpose {
                KeyPurpose::Sign => StoredKey::generate_signing(now, encryption),
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
    let tokens = Tokens::new(signing, issuer, audience).map_err(Error::internal)?;
    let refresh = refresh.ok_or_else(|| Error::internal("there is no key to derive refresh tokens with"))?;
    Ok((tokens, refresh))
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
    }
}
