//! The keys' rows. What a private key is, and whether it is sealed, is the auth floor's business: here it is text.

use chrono::NaiveDateTime;
use diesel::prelude::*;

use super::columns;
use super::conn::Conn;
use super::entries;
use super::error::OrDomain as _;
use super::schema::keys;
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
}

#[derive(Queryable)]
struct Row {
    kid: String,
    purpose: String,
    algorithm: String,
    private_key: String,
    sealed: bool,
    created_at: NaiveDateTime,
}

/// Every key that was not retired, oldest first. With `lock`, nobody adds or changes one until the transaction ends.
pub fn list(conn: &mut Conn, lock: bool) -> Result<Vec<KeyRow>> {
    if let (true, Conn::Postgres(conn)) = (lock, &mut *conn) {
        diesel::sql_query("LOCK TABLE keys IN SHARE ROW EXCLUSIVE MODE").execute(conn).or_domain()?;
    }
    let rows: Vec<Row> = keys::table
        .filter(keys::retired_at.is_null())
        .order((keys::created_at, keys::kid))
        .select((keys::kid, keys::purpose, keys::algorithm, keys::private_key, keys::sealed, keys::created_at))
        .load(conn)
        .or_domain()?;
    Ok(rows
        .into_iter()
        .map(|row| KeyRow {
            kid: row.kid,
            purpose: row.purpose,
            algorithm: row.algorithm,
            private_key: row.private_key,
            sealed: row.sealed,
            created_at: columns::time(row.created_at),
        })
        .collect())
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
