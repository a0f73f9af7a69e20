//! The keys' rows. What a private key is, and whether it is sealed, is the auth floor's business: here it is text.

use chrono::NaiveDateTime;
use diesel::prelude::*;

use super::columns;
use super::conn::Conn;
use super::error::OrDomain as _;
use super::schema::keys;
use super::statement::on_either;
use super::{entries, presence};
use crate::domain::Time;
use crate::domain::error::Result;
use crate::domain::history::NewEntry;

/// A key as it is stored.
#[derive(Clone)]
pub struct KeyRow {
    pub kid: String,
    pub purpose: String,
    pub algorithm: String,
    /// Base64, sealed or plain.
    pub private_key: String,
    pub sealed: bool,
    pub created_at: Time,
    /// Since when it counts no more. A retired key has no private half.
    pub retired_at: Option<Time>,
}

#[derive(Queryable)]
struct Row {
    kid: String,
    purpose: String,
    algorithm: String,
    private_key: String,
    sealed: bool,
    created_at: NaiveDateTime,
    retired_at: Option<NaiveDateTime>,
}

impl From<Row> for KeyRow {
    fn from(row: Row) -> Self {
        Self {
            kid: row.kid,
            purpose: row.purpose,
            algorithm: row.algorithm,
            private_key: row.private_key,
            sealed: row.sealed,
            created_at: columns::time(row.created_at),
            retired_at: row.retired_at.map(columns::time),
        }
    }
}

/// Lets nobody add or change a key until the transaction ends.
pub fn lock(conn: &mut Conn) -> Result<()> {
    if let Conn::Postgres(conn) = conn {
        diesel::sql_query("LOCK TABLE keys IN SHARE ROW EXCLUSIVE MODE").execute(conn).or_domain()?;
    }
    Ok(())
}

/// Every key, retired ones too, oldest first.
pub fn list(conn: &mut Conn) -> Result<Vec<KeyRow>> {
    let rows: Vec<Row> = keys::table.order((keys::created_at, keys::kid)).load(conn).or_domain()?;
    Ok(rows.into_iter().map(KeyRow::from).collect())
}

/// The keys of this purpose that were not retired, newest first.
pub fn list_current(conn: &mut Conn, purpose: &str) -> Result<Vec<KeyRow>> {
    let current = keys::table.filter(keys::purpose.eq(purpose)).filter(keys::retired_at.is_null());
    let rows: Vec<Row> = current.order((keys::created_at.desc(), keys::kid.desc())).load(conn).or_domain()?;
    Ok(rows.into_iter().map(KeyRow::from).collect())
}

/// The key with this kid, retired or not.
pub fn find(conn: &mut Conn, kid: &str) -> Result<Option<KeyRow>> {
    let row: Option<Row> = keys::table.find(kid).first(conn).optional().or_domain()?;
    Ok(row.map(KeyRow::from))
}

/// The kid of the newest key for this purpose and algorithm that was not retired; of keys of one instant, the one with the greatest kid.
pub fn newest(conn: &mut Conn, purpose: &str, algorithm: &str) -> Result<Option<String>> {
    if let Some(known) = presence::newest_key_here(purpose, algorithm) {
        return Ok(Some(known.to_string()));
    }
    let current = keys::table.filter(keys::purpose.eq(purpose)).filter(keys::algorithm.eq(algorithm)).filter(keys::retired_at.is_null());
    let newest = current.order((keys::created_at.desc(), keys::kid.desc())).select(keys::kid);
    let found: Option<String> = on_either!(conn, conn => newest.first(conn)).optional().or_domain()?;
    if let Some(kid) = &found {
        presence::read_newest_key_here(purpose, algorithm, kid);
    }
    Ok(found)
}

/// Whether there is this key, not retired; it then stays so until the transaction ends.
pub fn hold(conn: &mut Conn, kid: &str) -> Result<bool> {
    let current = keys::table.find(kid).filter(keys::retired_at.is_null()).select(keys::kid);
    let found: Option<String> = match conn {
        Conn::Postgres(conn) => current.for_share().first(conn).optional().or_domain()?,
        Conn::Sqlite(conn) => current.first(conn).optional().or_domain()?,
    };
    Ok(found.is_some())
}

/// Adds a key.
pub fn insert(conn: &mut Conn, key: &KeyRow, entry: &NewEntry) -> Result<()> {
    entries::append(conn, entry)?;
    diesel::insert_into(keys::table)
        .values((
            keys::kid.eq(&key.kid),
            keys::purpose.eq(&key.purpose),
            keys::algorithm.eq(&key.algorithm),
            keys::private_key.eq(&key.private_key),
            keys::sealed.eq(key.sealed),
            keys::created_at.eq(key.created_at.naive_utc()),
        ))
        .execute(conn)
        .or_domain()?;
    Ok(())
}

/// Replaces how a key is stored, not the key. No mutation: what it signs stays the same.
pub fn reseal(conn: &mut Conn, key: &KeyRow) -> Result<()> {
    diesel::update(keys::table.find(&key.kid))
        .set((keys::private_key.eq(&key.private_key), keys::sealed.eq(key.sealed)))
        .execute(conn)
        .or_domain()?;
    Ok(())
}

/// Retires a key for good, and erases its private half.
pub fn retire(conn: &mut Conn, kid: &str, now: Time, entry: &NewEntry) -> Result<()> {
    entries::append(conn, entry)?;
    diesel::update(keys::table.find(kid))
        .set((keys::private_key.eq(""), keys::sealed.eq(false), keys::retired_at.eq(Some(now.naive_utc()))))
        .execute(conn)
        .or_domain()?;
    Ok(())
}
