//! Accounts. Nobody sets another's password, reaches above their own rank, or changes their own role or status.

use chrono::Duration;

use super::ending;
use super::gate::Tx;
use crate::auth::passwords::PasswordHash;
use crate::domain::Time;
use crate::domain::error::{Code, Error, Reason, ReasonCode, Result};
use crate::domain::history::NewEntry;
use crate::domain::identity::Ctx;
use crate::domain::ids::UserId;
use crate::domain::page::{Page, PageRequest};
use crate::domain::role::Role;
use crate::domain::text::{DisplayName, Email};
use crate::domain::user::{Principal, User, UserChange, UserStatus};
use crate::store::{Conn, Lock, entries, users};

pub use crate::auth::secret::SetupToken;
pub use crate::store::users::UserFilter as Filter;

/// How long a setup token is good for.
const SETUP_TOKEN_HOURS: i64 = 72;

/// A user about to be created.
#[derive(Debug, Clone)]
pub struct NewUser {
    pub id: UserId,
    pub email: Email,
    pub display_name: DisplayName,
    pub role: Role,
}

/// A one-time token to set a password, told once.
pub struct Setup {
    pub user: User,
    pub token: SetupToken,
    pub expires_at: Time,
}

/// One page of users, newest first.
pub fn list(conn: &mut Conn, filter: &Filter, page: &PageRequest<UserId>) -> Result<Page<User>> {
    users::list(conn, filter, page)
}

/// # Errors
/// 404 where there is no such user.
pub fn get(conn: &mut Conn, id: UserId) -> Result<User> {
    users::find(conn, id, Lock::None)?.ok_or_else(Error::not_found)
}

/// The user with this address.
pub fn find_by_email(conn: &mut Conn, email: &Email) -> Result<Option<User>> {
    users::find_by_email(conn, email)
}

/// Whether nobody can log in yet, because there is nobody.
pub fn is_empty(conn: &mut Conn) -> Result<bool> {
    users::is_empty(conn)
}

/// Creates an account whose user sets a password with the token.
///
/// # Errors
/// 403 where the role is beyond the caller's own; 409 `email_taken`.
pub fn create(tx: &mut Tx<'_>, new: &NewUser, token: &SetupToken) -> Result<Setup> {
    require_not_outranked(tx.ctx.subject()?, new.role)?;
    let user = insert(tx.conn, &tx.ctx, new)?;
    let expires_at = tx.ctx.now + Duration::hours(SETUP_TOKEN_HOURS);
    users::set_setup_token(tx.conn, user.id, &token.hash(), expires_at)?;
    Ok(Setup { user, token: token.clone(), expires_at })
}

fn insert(conn: &mut Conn, ctx: &Ctx, new: &NewUser) -> Result<User> {
    let user = User {
        id: new.id,
        email: new.email.clone(),
        display_name: new.display_name.clone(),
        role: new.role,
        status: UserStatus::Active,
        version: 1,
        created_at: ctx.now,
        updated_at: ctx.now,
    };
    users::insert(conn, &user, &NewEntry::user_created(ctx, &user))?;
    Ok(user)
}

/// Creates an account with a password, as the command line does.
///
/// # Errors
/// 409 `email_taken`.
pub fn create_with_password(conn: &mut Conn, ctx: &Ctx, new: &NewUser, hash: &PasswordHash) -> Result<User> {
    let user = insert(conn, ctx, new)?;
    users::set_password(conn, user.id, hash.as_str(), &NewEntry::user_password_changed(ctx, user.id))?;
    Ok(user)
}

/// Hands out a new setup token for a forgotten password. The old password is void, and the user's sessions end.
///
/// # Errors
/// 404 where there is no such user; 403 where they outrank the caller, or are the caller, who changes a password with the old one.
pub fn renew_setup_token(tx: &mut Tx<'_>, id: UserId, token: &SetupToken) -> Result<Setup> {
    ending::lock_originals(tx, id)?;
    let user = users::find(tx.conn, id, Lock::Update)?.ok_or_else(Error::not_found)?;
    let caller = tx.ctx.subject()?;
    require_not_outranked(caller, user.role)?;
    if caller.id() == id {
        return Err(own_account("you change your own password with `PUT /v1/me/password`"));
    }
    let expires_at = tx.ctx.now + Duration::hours(SETUP_TOKEN_HOURS);
    entries::append(tx.conn, &NewEntry::user_setup_token_issued(&tx.ctx, id))?;
    users::set_setup_token(tx.conn, id, &token.hash(), expires_at)?;
    ending::end_after_password_change(tx, id, None)?;
    Ok(Setup { user, token: token.clone(), expires_at })
}

/// Changes an account. Impersonations that the policy no longer allows afterwards end with it, and a disabled user's sessions too.
///
/// # Errors
/// 404; 403 `action_refused`; 409 `email_taken` or `last_administrator`; what `precondition` says of the row's version.
pub fn update(tx: &mut Tx<'_>, id: UserId, change: &UserChange, precondition: impl FnOnce(i64) -> Result<()>) -> Result<User> {
    ending::lock_originals(tx, id)?;
    let administrators = lock_administrators_for(tx.conn, change)?;
    let before = users::find(tx.conn, id, Lock::Update)?.ok_or_else(Error::not_found)?;
    require_allowed(tx.ctx.subject()?, &before, change)?;
    precondition(before.version)?;
    apply(tx, &before, change, &administrators)
}

/// Disables an account from the command line.
///
/// # Errors
/// 409 `last_administrator`.
pub fn disable(tx: &mut Tx<'_>, id: UserId) -> Result<User> {
    let change = UserChange { status: Some(UserStatus::Disabled), ..UserChange::default() };
    users::lock_accounts(tx.conn)?;
    ending::lock_originals(tx, id)?;
    let administrators = lock_administrators_for(tx.conn, &change)?;
    let before = users::find(tx.conn, id, Lock::Update)?.ok_or_else(Error::not_found)?;
    apply(tx, &before, &change, &administrators)
}

/// Locks the administrators before anyone else's row, so that two who demote each other wait rather than both succeed.
fn lock_administrators_for(conn: &mut Conn, change: &UserChange) -> Result<Vec<UserId>> {
    let may_demote = change.role.is_some_and(|role| role != Role::Administrator) || change.status == Some(UserStatus::Disabled);
    if may_demote { users::lock_active_administrators(conn) } else { Ok(Vec::new()) }
}

fn apply(tx: &mut Tx<'_>, before: &User, change: &UserChange, active_administrators: &[UserId]) -> Result<User> {
    let mut after = User {
        email: change.email.clone().unwrap_or_else(|| before.email.clone()),
        display_name: change.display_name.clone().unwrap_or_else(|| before.display_name.clone()),
        role: change.role.unwrap_or(before.role),
        status: change.status.unwrap_or(before.status),
        ..before.clone()
    };
    if after == *before {
        return Ok(after);
    }
    let is_administrator = |user: &User| user.role == Role::Administrator && user.status == UserStatus::Active;
    if is_administrator(before) && !is_administrator(&after) && active_administrators == [before.id] {
        return Err(Error::new(Code::LastAdministrator, "this is the last active administrator; make another one first"));
    }
    after.version += 1;
    after.updated_at = tx.ctx.now;
    users::update(tx.conn, &after, &NewEntry::user_updated(&tx.ctx, before, &after))?;
    if after.role != before.role || after.status != before.status {
        ending::enforce_ceiling(tx, after.id)?;
    }
    if after.status == UserStatus::Disabled && before.status == UserStatus::Active {
        ending::end_all_own(tx, after.id, None, crate::domain::impersonation::EndCause::UserDisabled)?;
    }
    Ok(after)
}

/// The rules on accounts: not above one's rank, and not one's own role or status.
fn require_allowed(caller: &Principal, user: &User, change: &UserChange) -> Result<()> {
    require_not_outranked(caller, user.role)?;
    if let Some(role) = change.role {
        require_not_outranked(caller, role)?;
    }
    let changes_itself = change.role.is_some_and(|role| role != user.role) || change.status.is_some_and(|status| status != user.status);
    if caller.id() == user.id && changes_itself {
        return Err(own_account("nobody changes their own role or status; ask another administrator"));
    }
    Ok(())
}

fn own_account(detail: &str) -> Error {
    Error::refused(Code::ActionRefused, "this is your own account", vec![Reason::new(ReasonCode::OwnAccount, detail)])
}

/// # Errors
/// 403 where `role` holds privileged permissions that the caller does not, whether by role or by the token's scope: or a narrower token could make an account that
/// may do more than it.
pub(super) fn require_not_outranked(caller: &Principal, role: Role) -> Result<()> {
    if role.privileged().all(|permission| caller.holds(permission)) {
        return Ok(());
    }
    let reason = Reason::new(ReasonCode::OutranksCaller, format!("`{role}` holds privileged permissions that you do not hold"));
    Err(Error::refused(Code::ActionRefused, "the account is, or would be, above your own", vec![reason]))
}
