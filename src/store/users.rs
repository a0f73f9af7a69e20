//! The users' rows and, apart from them, their credentials.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::NaiveDateTime;
use diesel::prelude::*;

use super::columns::{self, required};
use super::conn::{Conn, Lock};
use super::error::{OrDomain as _, email_taken};
use super::schema::{credentials, users};
use super::shared::Found;
use super::statement::on_either;
use super::{entries, presence};
use crate::domain::Time;
use crate::domain::error::{Code, Error, Result};
use crate::domain::history::NewEntry;
use crate::domain::ids::UserId;
use crate::domain::page::{Page, PageRequest};
use crate::domain::role::Role;
use crate::domain::text::{DisplayName, Email, SearchText, fold};
use crate::domain::user::{User, UserStatus};

type Columns =
    (users::id, users::email, users::display_name, users::role, users::status, users::version, users::created_at, users::updated_at);
const COLUMNS: Columns =
    (users::id, users::email, users::display_name, users::role, users::status, users::version, users::created_at, users::updated_at);

#[derive(Queryable)]
struct Row {
    id: String,
    email: String,
    display_name: String,
    role: String,
    status: String,
    version: i64,
    created_at: NaiveDateTime,
    updated_at: NaiveDateTime,
}

impl Row {
    fn into_user(self) -> Result<User> {
        Ok(User {
            id: columns::user_id(&self.id)?,
            email: Email::from_stored(self.email),
            display_name: DisplayName::from_stored(self.display_name),
            role: required("role", Role::parse(&self.role))?,
            status: required("user status", UserStatus::parse(&self.status))?,
            version: self.version,
            created_at: columns::time(self.created_at),
            updated_at: columns::time(self.updated_at),
        })
    }
}

fn search_text(user: &User) -> String {
    fold(&format!("{}\n{}", user.email, user.display_name))
}

/// Adds a user, who can't log in until a password is set.
///
/// # Errors
/// 409 `email_taken`.
pub fn insert(conn: &mut Conn, user: &User, entry: &NewEntry) -> Result<()> {
    refuse_taken_email(conn, user)?;
    entries::append(conn, entry)?;
    diesel::insert_into(users::table)
        .values((
            users::id.eq(user.id.to_string()),
            users::email.eq(user.email.as_str()),
            users::email_key.eq(user.email.key()),
            users::display_name.eq(user.display_name.as_str()),
            users::search.eq(search_text(user)),
            users::role.eq(user.role.as_str()),
            users::status.eq(user.status.as_str()),
            users::version.eq(user.version),
            users::created_at.eq(user.created_at.naive_utc()),
            users::updated_at.eq(user.updated_at.naive_utc()),
        ))
        .execute(conn)
        .or_domain()?;
    diesel::insert_into(credentials::table).values(credentials::user_id.eq(user.id.to_string())).execute(conn).or_domain()?;
    Ok(())
}

/// Writes `user`, whose version is one above the row's.
///
/// # Errors
/// 409 `email_taken`, 412 where the row has another version by now.
pub fn update(conn: &mut Conn, user: &User, entry: &NewEntry) -> Result<()> {
    refuse_taken_email(conn, user)?;
    entries::append(conn, entry)?;
    let row = users::table.filter(users::id.eq(user.id.to_string())).filter(users::version.eq(user.version - 1));
    let changed = diesel::update(row)
        .set((
            users::email.eq(user.email.as_str()),
            users::email_key.eq(user.email.key()),
            users::display_name.eq(user.display_name.as_str()),
            users::search.eq(search_text(user)),
            users::role.eq(user.role.as_str()),
            users::status.eq(user.status.as_str()),
            users::version.eq(user.version),
            users::updated_at.eq(user.updated_at.naive_utc()),
        ))
        .execute(conn)
        .or_domain()?;
    if changed == 1 { Ok(()) } else { Err(Error::new(Code::VersionMismatch, "the user was changed meanwhile")) }
}

/// Postgres would break the transaction at the unique index, and SQLite's trigger has no name for it.
fn refuse_taken_email(conn: &mut Conn, user: &User) -> Result<()> {
    match find_by_email(conn, &user.email)? {
        Some(other) if other.id != user.id => Err(email_taken()),
        _ => Ok(()),
    }
}

/// The user with this id, locked as asked.
pub fn find(conn: &mut Conn, id: UserId, lock: Lock) -> Result<Option<User>> {
    if let Some(known) = presence::user_here(id) {
        return Ok(Some(User::clone(&known)));
    }
    let query = users::table.find(id.to_string()).select(COLUMNS);
    let row: Option<Row> = match (conn, lock) {
        (Conn::Postgres(conn), Lock::Share) => query.for_share().first(conn).optional().or_domain()?,
        (Conn::Postgres(conn), Lock::Update) => query.for_no_key_update().first(conn).optional().or_domain()?,
        (Conn::Postgres(conn), Lock::None) => query.first(conn).optional().or_domain()?,
        (Conn::Sqlite(conn), _) => query.first(conn).optional().or_domain()?,
    };
    let found = row.map(Row::into_user).transpose()?;
    if let Some(user) = &found {
        presence::read_user_here(user);
    }
    Ok(found)
}

/// The version of the user with this id.
pub(super) fn version(conn: &mut Conn, id: UserId) -> Result<Option<i64>> {
    if let Some(known) = presence::user_here(id) {
        return Ok(Some(known.version));
    }
    Ok(find(conn, id, Lock::None)?.map(|user| user.version))
}

/// The users with these ids, each or nothing, in one select. Not locked.
pub(super) fn find_many(conn: &mut Conn, ids: &[UserId]) -> Result<Vec<Found<Arc<User>>>> {
    let rows = users::table.filter(users::id.eq_any(ids.iter().map(ToString::to_string).collect::<Vec<_>>())).select(COLUMNS);
    let rows: Vec<Row> = on_either!(conn, conn => rows.load(conn)).or_domain()?;
    let found: HashMap<String, Result<Arc<User>>> = rows.into_iter().map(|row| (row.id.clone(), row.into_user().map(Arc::new))).collect();
    Ok(ids.iter().map(|id| found.get(&id.to_string()).cloned().transpose()).collect())
}

/// The user with this address, whatever its case.
pub fn find_by_email(conn: &mut Conn, email: &Email) -> Result<Option<User>> {
    let row: Option<Row> = users::table.filter(users::email_key.eq(email.key())).select(COLUMNS).first(conn).optional().or_domain()?;
    row.map(Row::into_user).transpose()
}

/// Which users a listing shows. All given conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct UserFilter {
    /// Part of the e-mail address or of the name, in any case.
    pub q: Option<SearchText>,
    pub email: Option<Email>,
    pub role: Option<Role>,
    pub status: Option<UserStatus>,
}

/// One page of users, newest first.
pub fn list(conn: &mut Conn, filter: &UserFilter, page: &PageRequest<UserId>) -> Result<Page<User>> {
    let mut query = users::table.select(COLUMNS).into_boxed();
    if let Some(q) = &filter.q {
        query = query.filter(users::search.like(columns::contains(q.as_str())).escape('\\'));
    }
    if let Some(email) = &filter.email {
        query = query.filter(users::email_key.eq(email.key()));
    }
    if let Some(role) = filter.role {
        query = query.filter(users::role.eq(role.as_str()));
    }
    if let Some(status) = filter.status {
        query = query.filter(users::status.eq(status.as_str()));
    }
    if let Some(after) = page.after {
        query = query.filter(users::id.lt(after.to_string()));
    }
    let rows: Vec<Row> = query.order(users::id.desc()).limit(page.limit.rows()).load(conn).or_domain()?;
    let items = rows.into_iter().map(Row::into_user).collect::<Result<Vec<_>>>()?;
    Ok(Page::from_rows(items, page.limit, |user| user.id))
}

/// Makes everything that concerns accounts wait until this transaction ends. Comes before any other lock.
pub fn lock_accounts(conn: &mut Conn) -> Result<()> {
    match conn {
        Conn::Postgres(conn) => {
            diesel::sql_query(format!("SELECT pg_advisory_xact_lock({ACCOUNTS_LOCK})")).execute(conn).or_domain()?;
        }
        // One writer at a time anyway.
        Conn::Sqlite(_) => {}
    }
    Ok(())
}

/// Makes every other start of this actor's wait until this transaction ends, and nothing else.
pub fn lock_starts(conn: &mut Conn, actor: UserId) -> Result<()> {
    conn.lock_name(STARTS_LOCK, &actor.to_string())
}

/// Any number, another than every other kind's.
const STARTS_LOCK: i32 = 1;

/// Any number, the same in every instance.
const ACCOUNTS_LOCK: i64 = 0x61_63_63_6f_75_6e_74_73;

/// The ids of the active administrators, their rows locked so that none of them can be demoted meanwhile.
pub fn lock_active_administrators(conn: &mut Conn) -> Result<Vec<UserId>> {
    let query = users::table
        .filter(users::role.eq(Role::Administrator.as_str()))
        .filter(users::status.eq(UserStatus::Active.as_str()))
        .order(users::id)
        .select(users::id);
    let ids: Vec<String> = match conn {
        Conn::Postgres(conn) => query.for_no_key_update().load(conn).or_domain()?,
        conn => query.load(conn).or_domain()?,
    };
    ids.iter().map(|id| columns::user_id(id)).collect()
}

/// Whether there is any user at all.
pub fn is_empty(conn: &mut Conn) -> Result<bool> {
    let any: bool = diesel::select(diesel::dsl::exists(users::table.select(users::id))).get_result(conn).or_domain()?;
    Ok(!any)
}

/// The user's password hash; `None` where no password is set.
pub fn password_hash(conn: &mut Conn, id: UserId) -> Result<Option<String>> {
    let hash: Option<Option<String>> =
        credentials::table.find(id.to_string()).select(credentials::password_hash).first(conn).optional().or_domain()?;
    Ok(hash.flatten())
}

/// Sets the password hash, which voids a setup token. The entry comes first.
pub fn set_password(conn: &mut Conn, id: UserId, hash: &str, entry: &NewEntry) -> Result<()> {
    entries::append(conn, entry)?;
    diesel::update(credentials::table.find(id.to_string()))
        .set((
            credentials::password_hash.eq(Some(hash)),
            credentials::setup_token_hash.eq(None::<String>),
            credentials::setup_expires_at.eq(None::<NaiveDateTime>),
        ))
        .execute(conn)
        .or_domain()?;
    Ok(())
}

/// Replaces the hash of an unchanged password, unless the password was changed since `old` was read. No mutation: nobody can tell the difference.
pub fn renew_hash(conn: &mut Conn, id: UserId, old: &str, new: &str) -> Result<()> {
    let row = credentials::table.find(id.to_string()).filter(credentials::password_hash.eq(old));
    diesel::update(row).set(credentials::password_hash.eq(Some(new))).execute(conn).or_domain()?;
    Ok(())
}

/// Sets the one-time token with which the user sets a password, and voids the password. Its entry is written by the caller.
pub fn set_setup_token(conn: &mut Conn, id: UserId, token_hash: &str, expires_at: Time) -> Result<()> {
    diesel::update(credentials::table.find(id.to_string()))
        .set((
            credentials::password_hash.eq(None::<String>),
            credentials::setup_token_hash.eq(Some(token_hash)),
            credentials::setup_expires_at.eq(Some(expires_at.naive_utc())),
        ))
        .execute(conn)
        .or_domain()?;
    Ok(())
}

/// The user to whom an unexpired setup token belongs.
pub fn find_by_setup_token(conn: &mut Conn, token_hash: &str, now: Time) -> Result<Option<User>> {
    let row: Option<Row> = users::table
        .inner_join(credentials::table)
        .filter(credentials::setup_token_hash.eq(token_hash))
        .filter(credentials::setup_expires_at.gt(now.naive_utc()))
        .select(COLUMNS)
        .first(conn)
        .optional()
        .or_domain()?;
    row.map(Row::into_user).transpose()
}

/// Voids a setup token; `false` where somebody else has used it meanwhile.
pub fn take_setup_token(conn: &mut Conn, id: UserId, token_hash: &str) -> Result<bool> {
    let row = credentials::table.find(id.to_string()).filter(credentials::setup_token_hash.eq(token_hash));
    let taken = diesel::update(row)
        .set((credentials::setup_token_hash.eq(None::<String>), credentials::setup_expires_at.eq(None::<NaiveDateTime>)))
        .execute(conn)
        .or_domain()?;
    Ok(taken == 1)
}
