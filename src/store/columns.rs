//! Between columns and domain values. What a row holds was parsed before it was written; a row that doesn't parse was bent by someone else.

use chrono::NaiveDateTime;
use diesel::pg::Pg;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::Timestamp;
use diesel::sqlite::Sqlite;

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

/// A time as every mutation writes it: the text that diesel makes for SQLite, but made without reading a format each time.
#[derive(Debug)]
pub(super) struct Moment(NaiveDateTime);

impl From<Time> for Moment {
    fn from(time: Time) -> Self {
        Self(time.naive_utc())
    }
}

impl ToSql<Timestamp, Sqlite> for Moment {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(self.0.to_string());
        Ok(IsNull::No)
    }
}

impl ToSql<Timestamp, Pg> for Moment {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        ToSql::<Timestamp, Pg>::to_sql(&self.0, out)
    }
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

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection as _;
    use diesel::dsl::sql;
    use diesel::sql_types::Text;
    use diesel::{Connection as _, ExpressionMethods as _, QueryDsl as _, RunQueryDsl as _, SqliteConnection};

    use super::*;
    use crate::store::statement::kept;

    diesel::table! {
        times (at) {
            at -> Timestamp,
        }
    }

    #[test]
    fn a_moment_is_written_as_diesel_writes_a_time() {
        let mut conn = SqliteConnection::establish(":memory:").unwrap();
        conn.batch_execute("CREATE TABLE times (at TIMESTAMP)").unwrap();
        for text in [
            "2026-11-28T00:00:00Z",
            "2026-01-02T03:04:05.120Z",
            "1999-12-31T23:59:59.000001Z",
            "2026-11-28T10:00:00.999999999Z",
            "0001-01-01T00:00:00Z",
        ] {
            let time: Time = text.parse().unwrap();
            diesel::insert_into(times::table).values(times::at.eq(time.naive_utc())).execute(&mut conn).unwrap();
            kept!("INSERT INTO times VALUES (", Timestamp => Moment::from(time), ")").execute(&mut conn).unwrap();
            let written: Vec<String> = times::table.select(sql::<Text>("CAST(at AS TEXT)")).load(&mut conn).unwrap();
            assert_eq!(written[0], written[1]);
            diesel::delete(times::table).execute(&mut conn).unwrap();
        }
    }
}
