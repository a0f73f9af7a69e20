//! The policy's row. There is one.

use chrono::NaiveDateTime;
use diesel::prelude::*;

use super::columns::{self, NameRow};
use super::conn::{Conn, Lock};
use super::entries;
use super::error::OrDomain as _;
use super::schema::{policies, users};
use crate::domain::error::{Code, Error, Result};
use crate::domain::history::NewEntry;
use crate::domain::policy::{Freeze, PolicyTerms, StoredPolicy};
use crate::domain::text::Reason;

/// The id of the only row.
pub(super) const ID: &str = "policy";

#[derive(Queryable)]
struct Row {
    terms: String,
    frozen_at: Option<NaiveDateTime>,
    freeze_reason: Option<String>,
    version: i64,
    updated_at: NaiveDateTime,
    frozen_by: Option<NameRow>,
}

impl Row {
    fn into_policy(self) -> Result<StoredPolicy> {
        let terms =
            serde_json::from_str(&self.terms).map_err(|error| Error::internal(format!("the stored policy can't be read: {error}")))?;
        let by = self.frozen_by.map(columns::name).transpose()?;
        let freeze = self.frozen_at.zip(self.freeze_reason).map(|(since, reason)| Freeze {
            reason: Reason::from_stored(reason),
            since: Some(columns::time(since)),
            by,
        });
        Ok(StoredPolicy { terms, freeze, version: self.version, updated_at: columns::time(self.updated_at) })
    }
}

fn written(terms: &PolicyTerms) -> Result<String> {
    serde_json::to_string(terms).map_err(Error::internal)
}

/// The policy, locked as asked; nothing before the first start.
pub fn find(conn: &mut Conn, lock: Lock) -> Result<Option<StoredPolicy>> {
    if let Conn::Postgres(conn) = conn {
        // A row lock can't stand on the nullable side of a join, so the row is locked before it is read.
        let row = policies::table.find(ID).select(policies::version);
        let _: Option<i64> = match lock {
            Lock::None => None,
            Lock::Share => row.for_share().first(conn).optional().or_domain()?,
            Lock::Update => row.for_no_key_update().first(conn).optional().or_domain()?,
        };
    }
    let row: Option<Row> = policies::table
        .left_join(users::table.on(users::id.nullable().eq(policies::frozen_by_id)))
        .filter(policies::id.eq(ID))
        .select((
            policies::terms,
            policies::frozen_at,
            policies::freeze_reason,
            policies::version,
            policies::updated_at,
            (users::id, users::email, users::display_name).nullable(),
        ))
        .first(conn)
        .optional()
        .or_domain()?;
    row.map(Row::into_policy).transpose()
}

/// Writes the first policy.
pub fn insert(conn: &mut Conn, policy: &StoredPolicy, entry: &NewEntry) -> Result<()> {
    entries::append(conn, entry)?;
    diesel::insert_into(policies::table)
        .values((
            policies::id.eq(ID),
            policies::terms.eq(written(&policy.terms)?),
            policies::version.eq(policy.version),
            policies::updated_at.eq(policy.updated_at.naive_utc()),
            policies::entry_id.eq(entry.id.to_string()),
        ))
        .execute(conn)
        .or_domain()?;
    Ok(())
}

/// Writes `policy`, whose version is one above the row's.
///
/// # Errors
/// 412 where the row has another version by now.
pub fn update(conn: &mut Conn, policy: &StoredPolicy, entry: &NewEntry) -> Result<()> {
    entries::append(conn, entry)?;
    let freeze = policy.freeze.as_ref();
    let changed = diesel::update(policies::table.filter(policies::id.eq(ID)).filter(policies::version.eq(policy.version - 1)))
        .set((
            policies::terms.eq(written(&policy.terms)?),
            policies::frozen_at.eq(freeze.and_then(|freeze| freeze.since).map(|since| since.naive_utc())),
            policies::freeze_reason.eq(freeze.map(|freeze| freeze.reason.as_str())),
            policies::frozen_by_id.eq(freeze.and_then(|freeze| freeze.by.as_ref()).map(|by| by.id.to_string())),
            policies::version.eq(policy.version),
            policies::updated_at.eq(policy.updated_at.naive_utc()),
            policies::entry_id.eq(entry.id.to_string()),
        ))
        .execute(conn)
        .or_domain()?;
    if changed == 1 { Ok(()) } else { Err(Error::new(Code::VersionMismatch, "the policy was changed meanwhile")) }
}
