//! Between columns and domain values. What a row holds was parsed before it was written; a row that doesn't parse was bent by someone else.

use chrono::NaiveDateTime;

use crate::domain::Time;
use crate::domain::client::ClientId;
use crate::domain::error::{Error, Result};
use crate::domain::ids::{ArticleId, EntryId, SessionId, UserId};
use crate::domain::role::Role;
use crate::domain::text::{DisplayName, Email};
use crate::domain::user::{Principal, UserRef, UserStatus};

/// `parsed`, or an internal error that names the column but not its content.
pub(super) fn required<T>(column: &str, parsed: Option<T>) -> Result<T> {
    parsed.ok_or_else(|| Error::internal(format!("a stored {column} is not one")))
}

pub(super) fn user_id(text: &str) -> Result<UserId> {
    required("user id", UserId::parse(text))
}

pub(super) fn session_id(text: &str) -> Result<SessionId> {
    required("session id", SessionId::parse(text))
}

pub(super) fn client_id(text: &str) -> Result<ClientId> {
    required("client id", ClientId::parse(text))
}

pub(super) fn article_id(text: &str) -> Result<ArticleId> {
    required("article id", ArticleId::parse(text))
}

pub(super) fn entry_id(text: &str) -> Result<EntryId> {
    required("entry id", EntryId::parse(text))
}

pub(super) fn time(time: NaiveDateTime) -> Time {
    time.and_utc()
}

/// Id, e-mail address, display name.
pub(super) type NameRow = (String, String, String);

pub(super) fn name((id, email, display_name): NameRow) -> Result<UserRef> {
    Ok(UserRef { id: user_id(&id)?, email: Email::from_stored(email), display_name: DisplayName::from_stored(display_name) })
}

/// Id, e-mail address, display name, role, status.
pub(super) type PrincipalRow = (String, String, String, String, String);

pub(super) fn principal((id, email, display_name, role, status): PrincipalRow) -> Result<Principal> {
    Ok(Principal {
        user: name((id, email, display_name))?,
        role: required("role", Role::parse(&role))?,
        status: required("user status", UserStatus::parse(&status))?,
        scope: None,
    })
}

diesel::define_sql_function! {
    /// How long a text is in bytes, found without reading it. Both databases have it.
    fn octet_length(text: diesel::sql_types::Text) -> diesel::sql_types::Integer;
}

/// A pattern for `LIKE … ESCAPE '\'` that finds `text` anywhere.
pub(super) fn contains(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for c in crate::domain::text::fold(text).chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}
