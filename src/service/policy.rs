//! The policy: what holds now, and who may change it. And the freeze, which ends every impersonation in one call.

use std::sync::{Arc, PoisonError, RwLock};

use super::ending;
use super::gate::Tx;
use crate::domain::Time;
use crate::domain::error::{Error, Result};
use crate::domain::history::NewEntry;
use crate::domain::identity::Ctx;
use crate::domain::impersonation::EndCause;
use crate::domain::policy::{Freeze, Pins, Policy, PolicyChange, PolicySetting, PolicyTerms, StoredPolicy};
use crate::domain::text::Reason;
use crate::store::sessions::{self, Open};
use crate::store::{Conn, Db, Lock, policies};

/// The policy as this instance knows it. The version comes with the select that finds a session, so a policy that was changed elsewhere is read anew before
/// anything is decided, and no request asks for what it knows.
pub struct Policies {
    pins: Pins,
    known: RwLock<Arc<Policy>>,
}

impl Policies {
    /// Begins with what the database says.
    ///
    /// # Errors
    /// Where it can't be asked.
    pub fn open(db: &Db, pins: Pins, now: Time) -> Result<Self> {
        ensure(db, now)?;
        let stored = db.read_blocking(|conn| policies::find(conn, Lock::None))?;
        let policy = Policy::of(stored.unwrap_or_else(|| initial(now)), &pins);
        Ok(Self { pins, known: RwLock::new(Arc::new(policy)) })
    }

    /// What was known last. For what is told, not for what is decided.
    pub fn known(&self) -> Arc<Policy> {
        // A panic elsewhere can't leave a pointer half changed, so its poison means nothing.
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The policy, which has this version now.
    pub(super) fn at(&self, conn: &mut Conn, version: Option<i64>) -> Result<Arc<Policy>> {
        self.known_at(version).map_or_else(|| self.read(conn, Lock::None), Ok)
    }

    /// The policy that is known, if it isn't older than this version.
    pub(super) fn known_at(&self, version: Option<i64>) -> Option<Arc<Policy>> {
        Some(self.known()).filter(|known| version.unwrap_or_default() <= known.version)
    }

    /// The policy as it is now, read anew; locked as asked.
    pub(super) fn read(&self, conn: &mut Conn, lock: Lock) -> Result<Arc<Policy>> {
        let stored = policies::find(conn, lock)?;
        Ok(stored.map_or_else(|| self.known(), |stored| Arc::new(Policy::of(stored, &self.pins))))
    }

    /// As [`Policies::read`], to be known from now on. Never inside a write, which may see what is not committed, its own or that of others who share the commit.
    pub(super) fn learn(&self, conn: &mut Conn) -> Result<Arc<Policy>> {
        let policy = self.read(conn, Lock::None)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if policy.version > known.version {
            *known = Arc::clone(&policy);
        }
        Ok(policy)
    }

    fn of(&self, stored: StoredPolicy) -> Policy {
        Policy::of(stored, &self.pins)
    }
}

fn initial(now: Time) -> StoredPolicy {
    StoredPolicy { terms: PolicyTerms::default(), freeze: None, version: 1, updated_at: now }
}

/// Makes the policy if there is none yet.
fn ensure(db: &Db, now: Time) -> Result<()> {
    let is_there = |db: &Db| db.read_blocking(|conn| policies::find(conn, Lock::None)).map(|found| found.is_some());
    if is_there(db)? {
        return Ok(());
    }
    let made = db.write_blocking(|conn| {
        if policies::find(conn, Lock::None)?.is_some() {
            return Ok(());
        }
        let policy = initial(now);
        let ctx = Ctx::system("made at the first start", now);
        policies::insert(conn, &policy, &NewEntry::policy_created(&ctx, &policy.terms))
    });
    match made {
        // Another instance was quicker.
        Err(error) if !is_there(db)? => Err(error),
        _ => Ok(()),
    }
}

/// The policy of the row alone, for the command line, which knows no pins.
pub(super) fn of_row(conn: &mut Conn, now: Time) -> Result<Policy> {
    let stored = policies::find(conn, Lock::None)?.unwrap_or_else(|| initial(now));
    Ok(Policy::of(stored, &Pins::default()))
}

/// The policy as it holds.
pub fn get(conn: &mut Conn, policies: &Policies) -> Result<Arc<Policy>> {
    policies.read(conn, Lock::None)
}

fn find(conn: &mut Conn) -> Result<StoredPolicy> {
    policies::find(conn, Lock::Update)?.ok_or_else(|| Error::internal("there is no policy"))
}

/// Changes the policy. Impersonations that it rules out now end with it. A change that changes nothing leaves no entry and no new version.
///
/// # Errors
/// 409 `setting_pinned`; 422 for what can't be; what `precondition` says of the row's version.
pub fn update(tx: &mut Tx<'_>, policies: &Policies, change: &PolicyChange, precondition: impl FnOnce(i64) -> Result<()>) -> Result<Policy> {
    let before = find(tx.conn)?;
    let held = policies.of(before.clone());
    held.require_unpinned(&change.settings())?;
    let mut terms = before.terms.changed(change).in_order();
    terms.require_sane()?;
    require_order(&policies.of(StoredPolicy { terms: terms.clone(), ..before.clone() }), change)?;
    precondition(before.version)?;
    if change.max_duration_seconds.is_some() {
        terms.default_duration_seconds = terms.usual_duration();
    }
    if terms == before.terms {
        return Ok(held);
    }
    let after = StoredPolicy { terms, version: before.version + 1, updated_at: tx.ctx.now, ..before.clone() };
    policies::update(tx.conn, &after, &NewEntry::policy_updated(&tx.ctx, &before.terms, &after.terms))?;
    let protects_more = after.terms.protected_roles.iter().any(|role| !before.terms.protected_roles.contains(role));
    let after = policies.of(after);
    tx.policy = Arc::new(after.clone());
    if protects_more {
        ending::enforce_policy(tx)?;
    }
    Ok(after)
}

/// A default that is asked for is not above the maximum. A shorter maximum alone is a whole choice: the default follows it.
fn require_order(after: &Policy, change: &PolicyChange) -> Result<()> {
    let most = after.terms.max_duration_seconds;
    match change.default_duration_seconds {
        Some(default) if default > most => {
            let detail = format!("must not be above the maximum, which is {most}");
            Err(Error::invalid_field("/default_duration_seconds", "out_of_range", detail))
        }
        _ => Ok(()),
    }
}

/// Freezes: no impersonation starts, and every one that runs ends now, in this transaction. Doing so twice changes nothing.
///
/// # Errors
/// 409 `setting_pinned` where the environment freezes; what `precondition` says of the row's version.
pub fn freeze(tx: &mut Tx<'_>, policies: &Policies, reason: &Reason, precondition: impl FnOnce(i64) -> Result<()>) -> Result<Policy> {
    // The policy's row before the sessions': a start holds it, shared, to its commit, so it comes before this, and is ended, or after it, and is refused.
    let before = find(tx.conn)?;
    policies.of(before.clone()).require_unpinned(&[PolicySetting::Freeze])?;
    precondition(before.version)?;
    let by = tx.ctx.subject()?.user.clone();
    let after = match before.freeze {
        Some(_) => before,
        None => {
            let freeze = Freeze { reason: reason.clone(), since: Some(tx.ctx.now), by: Some(by.clone()) };
            let after = StoredPolicy { freeze: Some(freeze), version: before.version + 1, updated_at: tx.ctx.now, ..before };
            policies::update(tx.conn, &after, &NewEntry::policy_frozen(&tx.ctx, reason))?;
            after
        }
    };
    for id in sessions::lock_open(tx.conn, Open::Impersonations)? {
        match sessions::find(tx.conn, id, Lock::None)? {
            Some(session) if session.expires_at <= tx.ctx.now => ending::end_overdue(tx, &session, EndCause::Expired)?,
            _ => ending::end_impersonation(tx, id, tx.ctx.now, EndCause::Frozen, Some(by.id))?,
        }
    }
    // Nor does one come back that had ended by itself.
    sessions::close_all_ways_back(tx.conn)?;
    let after = policies.of(after);
    tx.policy = Arc::new(after.clone());
    Ok(after)
}

/// Lifts the freeze: impersonations may start again. Where nothing is frozen it changes nothing.
///
/// # Errors
/// 409 `setting_pinned` where the environment freezes; what `precondition` says of the row's version.
pub fn unfreeze(
    tx: &mut Tx<'_>,
    policies: &Policies,
    why: Option<&Reason>,
    precondition: impl FnOnce(i64) -> Result<()>,
) -> Result<Policy> {
    let before = find(tx.conn)?;
    policies.of(before.clone()).require_unpinned(&[PolicySetting::Freeze])?;
    precondition(before.version)?;
    if before.freeze.is_none() {
        return Ok(policies.of(before));
    }
    let after = StoredPolicy { freeze: None, version: before.version + 1, updated_at: tx.ctx.now, ..before.clone() };
    policies::update(tx.conn, &after, &NewEntry::policy_unfrozen(&tx.ctx, &before, why))?;
    Ok(policies.of(after))
}
