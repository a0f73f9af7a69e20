//! Postgres: what is done most often, for all who wait for it at the same moment in one statement (`shared.rs`). Everything was read before, and decided by it. The
//! statement takes the locks that every write takes, looks whether what was read still holds, and does nothing for those for whom it doesn't, or whose rows somebody
//! else has locked: their writes begin again, the long way, each by itself.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamp};

use super::articles::search_text;
use super::columns;
use super::conn::Conn;
use super::db::Db;
use super::error::OrDomain as _;
use super::sessions::{NewSession, WayBack, way_back};
use super::shared::{Found, Sharing};
use super::statement::kept;
use crate::domain::Time;
use crate::domain::article::Article;
use crate::domain::error::{Code, Error, Result};
use crate::domain::history::NewEntry;
use crate::domain::ids::{SessionId, UserId};
use crate::domain::impersonation::EndCause;
use crate::domain::text::{Reason, RestoreChallenge, Ticket};
use crate::domain::user::User;

/// What a decision about a session rests on: all of what [`super::sessions::find_presented`] reads that can change, but for its last use.
#[derive(Debug, Clone)]
pub struct Ground {
    pub session: SessionId,
    /// The key that signed the token.
    pub kid: String,
    pub subject_version: i64,
    pub actor_version: Option<i64>,
    pub policy_version: Option<i64>,
}

/// A change of an article's text, whose version is one above the row's.
pub(super) struct Save {
    ground: Ground,
    article: Article,
    entry: String,
}

/// The start of an impersonation: its row, with its way back.
pub(super) struct Start {
    ground: Ground,
    subject: UserId,
    subject_version: i64,
    impersonation: String,
    algorithm: &'static str,
    entry: String,
}

/// The end of the impersonation of `ground` by logging out.
pub(super) struct Leave {
    ground: Ground,
    at: Time,
    by: UserId,
    entry: String,
}

/// What an impersonation leaves behind that was ended by logging out.
pub struct Departure {
    /// If it was open.
    pub way: Option<WayBack>,
    /// Of the session from which it was started.
    pub original_started_at: Time,
    /// Of the same.
    pub original_last_used_at: Time,
}

impl Db {
    /// Whether writes can be done at once here.
    pub fn writes_at_once(&self) -> bool {
        self.sharing().is_some()
    }

    fn sharing_writes(&self) -> Result<&Sharing> {
        self.sharing().ok_or_else(|| Error::internal("SQLite knows no such statement"))
    }

    /// Writes the text of `article`, whose version is one above the row's; `false` where something is no longer as it was read.
    ///
    /// # Errors
    /// 503 where the database can't be asked in time.
    pub async fn save_article(&self, ground: Ground, article: &Article, entry: &NewEntry) -> Result<bool> {
        let save = Save { ground, article: article.clone(), entry: written(entry)? };
        Ok(self.sharing_writes()?.saves.ask(self, save, self.patience()).await?.is_some())
    }

    /// Opens the impersonation `session` of `subject` and its way back, and answers the kid of the key that signs its token; nothing where something is no longer
    /// as it was read.
    ///
    /// # Errors
    /// 503 where the database can't be asked in time.
    pub async fn start_impersonation(
        &self,
        ground: Ground,
        subject: &User,
        session: &NewSession,
        way: &WayBack,
        entry: &NewEntry,
        algorithm: &'static str,
    ) -> Result<Option<String>> {
        let acting = session.acting.as_ref().ok_or_else(|| Error::internal("an impersonation needs an actor"))?;
        let (grant, bounds) = (&acting.grant, &acting.grant.bounds);
        let mut row = Composite::default();
        row.field(Some(&session.id.to_string()))
            .field(Some(&session.subject.to_string()))
            .field(Some(&acting.actor.to_string()))
            .field(Some(&acting.original_session.to_string()))
            .field(Some(grant.mode.as_str()))
            .field(grant.reason.as_ref().map(Reason::as_str))
            .field(grant.ticket.as_ref().map(Ticket::as_str))
            .field(bounds.permissions.map(|scope| scope.to_string()).as_deref())
            .field(bounds.resources().map(|resources| resources.join(" ")).as_deref())
            .time(session.started_at)
            .time(session.expires_at)
            .field(Some(&way.kid))
            .field(Some(&way.signing_input))
            .field(way.challenge.as_ref().map(RestoreChallenge::as_str))
            .time(way.expires_at);
        let start = Start {
            ground,
            subject: subject.id,
            subject_version: subject.version,
            impersonation: row.finish(),
            algorithm,
            entry: written(entry)?,
        };
        self.sharing_writes()?.starts.ask(self, start, self.patience()).await
    }

    /// Ends the impersonation of `ground`, and closes its way back; nothing where something is no longer as it was read.
    ///
    /// # Errors
    /// 503 where the database can't be asked in time.
    pub async fn leave_impersonation(&self, ground: Ground, at: Time, by: UserId, entry: &NewEntry) -> Result<Option<Departure>> {
        let leave = Leave { ground, at, by, entry: written(entry)? };
        self.sharing_writes()?.leaves.ask(self, leave, self.patience()).await
    }
}

/// The column of an array for each of the five parts of a ground.
struct Grounds<'a> {
    sessions: Vec<String>,
    kids: Vec<&'a str>,
    subjects: Vec<i64>,
    actors: Vec<Option<i64>>,
    policies: Vec<Option<i64>>,
}

impl<'a> Grounds<'a> {
    fn of(grounds: impl Iterator<Item = &'a Ground> + Clone) -> Self {
        Self {
            sessions: grounds.clone().map(|ground| ground.session.to_string()).collect(),
            kids: grounds.clone().map(|ground| &*ground.kid).collect(),
            subjects: grounds.clone().map(|ground| ground.subject_version).collect(),
            actors: grounds.clone().map(|ground| ground.actor_version).collect(),
            policies: grounds.map(|ground| ground.policy_version).collect(),
        }
    }
}

/// Runs a statement `$function(<ground>, …)` over many, and answers the rows that it gave, each with the number of whom it is for.
macro_rules! call {
    ($conn:expr, $row:ty, $text:literal, $grounds:expr $(, $type:ty => $value:expr, $rest:literal)*) => {{
        let grounds: Grounds<'_> = $grounds;
        match $conn {
            Conn::Postgres(conn) => {
                let calling = kept!(
                    $text, Array<Text> => grounds.sessions,
                    ", ", Array<Text> => grounds.kids,
                    ", ", Array<BigInt> => grounds.subjects,
                    ", ", Array<Nullable<BigInt>> => grounds.actors,
                    ", ", Array<Nullable<BigInt>> => grounds.policies,
                    ", " $(, $type => $value, $rest)*
                );
                let rows: QueryResult<Vec<$row>> = calling.load(conn);
                rows.or_domain()
            }
            Conn::Sqlite(_) => Err(Error::internal("SQLite knows no such statement")),
        }
    }};
}

/// Whatever stands in the way of one stands in the way of all, since they share a transaction. So each goes the long way then, and meets what is its own there.
fn each_by_itself<K, V>(asked: &[K], done: Result<Vec<(i64, V)>>) -> Result<Vec<Found<V>>> {
    let mut answers: Vec<Found<V>> = asked.iter().map(|_| Ok(None)).collect();
    match done {
        Ok(done) => {
            for (number, value) in done {
                let place = usize::try_from(number - 1).ok().and_then(|place| answers.get_mut(place));
                *place.ok_or_else(|| Error::internal("an answer that nobody waits for"))? = Ok(Some(value));
            }
        }
        Err(error) if error.code() == Code::DatabaseUnavailable => return Err(error),
        Err(error) => tracing::debug!(%error, writes = asked.len(), "writes that share a statement are tried each by itself"),
    }
    Ok(answers)
}

pub(super) fn save_many(conn: &mut Conn, asked: &[Save]) -> Result<Vec<Found<()>>> {
    let articles = || asked.iter().map(|save| &save.article);
    let saved: Result<Vec<Done>> = call!(
        conn, Done, "SELECT actas_save_rows(", Grounds::of(asked.iter().map(|save| &save.ground)),
        Array<Text> => asked.iter().map(|save| &*save.entry).collect::<Vec<_>>(), ", ",
        Array<Text> => articles().map(|article| article.id.to_string()).collect::<Vec<_>>(), ", ",
        Array<BigInt> => articles().map(|article| article.version).collect::<Vec<_>>(), ", ",
        Array<Text> => articles().map(|article| article.title.as_str()).collect::<Vec<_>>(), ", ",
        Array<Text> => articles().map(|article| article.r#abstract.as_str()).collect::<Vec<_>>(), ", ",
        Array<Text> => articles().map(|article| article.body.as_str()).collect::<Vec<_>>(), ", ",
        Array<Text> => articles().map(search_text).collect::<Vec<_>>(), ", ",
        Array<Timestamp> => articles().map(|article| article.updated_at.naive_utc()).collect::<Vec<_>>(), ") AS number"
    );
    each_by_itself(asked, saved.map(|rows| rows.into_iter().map(|row| (row.number, ())).collect()))
}

pub(super) fn start_many(conn: &mut Conn, asked: &[Start]) -> Result<Vec<Found<String>>> {
    let Some(algorithm) = asked.first().map(|start| start.algorithm) else { return Ok(Vec::new()) };
    let started: Result<Vec<Started>> = call!(
        conn, Started, "SELECT * FROM actas_start_rows(", Grounds::of(asked.iter().map(|start| &start.ground)),
        Array<Text> => asked.iter().map(|start| &*start.entry).collect::<Vec<_>>(), ", ",
        Array<Text> => asked.iter().map(|start| start.subject.to_string()).collect::<Vec<_>>(), ", ",
        Array<BigInt> => asked.iter().map(|start| start.subject_version).collect::<Vec<_>>(), ", ",
        Array<Text> => asked.iter().map(|start| &*start.impersonation).collect::<Vec<_>>(), ", ",
        // One setting of the whole process.
        Text => algorithm, ")"
    );
    each_by_itself(asked, started.map(|rows| rows.into_iter().map(|row| (row.started, row.signer)).collect()))
}

pub(super) fn leave_many(conn: &mut Conn, asked: &[Leave]) -> Result<Vec<Found<Departure>>> {
    let left: Result<Vec<Left>> = call!(
        conn, Left, "SELECT * FROM actas_leave_rows(", Grounds::of(asked.iter().map(|leave| &leave.ground)),
        Array<Text> => asked.iter().map(|leave| &*leave.entry).collect::<Vec<_>>(), ", ",
        Array<Timestamp> => asked.iter().map(|leave| leave.at.naive_utc()).collect::<Vec<_>>(), ", ",
        Array<Text> => asked.iter().map(|leave| leave.by.to_string()).collect::<Vec<_>>(), ", ",
        Text => EndCause::Logout.as_str(), ")"
    );
    each_by_itself(asked, left.map(|rows| rows.into_iter().map(|row| (row.ended, row.into_departure())).collect()))
}

#[derive(QueryableByName)]
struct Done {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

#[derive(QueryableByName)]
struct Started {
    #[diesel(sql_type = BigInt)]
    started: i64,
    #[diesel(sql_type = Text)]
    signer: String,
}

#[derive(QueryableByName)]
struct Left {
    #[diesel(sql_type = BigInt)]
    ended: i64,
    #[diesel(sql_type = Nullable<Text>)]
    way_kid: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    signing_input: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    challenge: Option<String>,
    #[diesel(sql_type = Nullable<Timestamp>)]
    expires_at: Option<NaiveDateTime>,
    #[diesel(sql_type = Timestamp)]
    original_started_at: NaiveDateTime,
    #[diesel(sql_type = Timestamp)]
    original_last_used_at: NaiveDateTime,
}

impl Left {
    fn into_departure(self) -> Departure {
        let way = match (self.way_kid, self.signing_input, self.expires_at) {
            (Some(kid), Some(signing_input), Some(expires_at)) => Some(way_back((kid, signing_input, self.challenge, expires_at))),
            _ => None,
        };
        let (original_started_at, original_last_used_at) =
            (columns::time(self.original_started_at), columns::time(self.original_last_used_at));
        Departure { way, original_started_at, original_last_used_at }
    }
}

/// An entry as `actas_new_entry`.
fn written(entry: &NewEntry) -> Result<String> {
    let (subject, actor) = (entry.subject.as_ref(), entry.actor.as_ref());
    let mut row = Composite::default();
    row.field(Some(&entry.id.to_string()))
        .time(entry.occurred_at)
        .field(Some(entry.origin.as_str()))
        .field(Some(entry.action.as_str()))
        .field(Some(entry.resource.r#type.as_str()))
        .field(Some(&entry.resource.id))
        .field(entry.resource.version.map(|version| version.to_string()).as_deref())
        .field(subject.map(|user| user.id.to_string()).as_deref())
        .field(subject.map(|user| user.email.as_str()))
        .field(subject.map(|user| user.display_name.as_str()))
        .field(actor.map(|user| user.id.to_string()).as_deref())
        .field(actor.map(|user| user.email.as_str()))
        .field(actor.map(|user| user.display_name.as_str()))
        .field(entry.impersonation_id.map(|id| id.to_string()).as_deref())
        .field(entry.note.as_deref())
        .field(Some(&serde_json::to_string(&entry.changes).map_err(Error::internal)?))
        .field(entry.request_id.as_deref());
    Ok(row.finish())
}

/// A row as Postgres reads it (<https://www.postgresql.org/docs/current/rowtypes.html#ROWTYPES-IO-SYNTAX>): every value that is there in quotes, of which
/// those inside are doubled, as backslashes are.
#[derive(Default)]
struct Composite(String);

impl Composite {
    fn field(&mut self, value: Option<&str>) -> &mut Self {
        self.0.push(if self.0.is_empty() { '(' } else { ',' });
        if let Some(value) = value {
            self.0.push('"');
            for c in value.chars() {
                if matches!(c, '"' | '\\') {
                    self.0.push(c);
                }
                self.0.push(c);
            }
            self.0.push('"');
        }
        self
    }

    fn time(&mut self, time: Time) -> &mut Self {
        self.field(Some(&time.naive_utc().to_string()))
    }

    fn finish(mut self) -> String {
        self.0.push(')');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_written_as_postgres_reads_it() {
        let mut row = Composite::default();
        let time = |micros| chrono::DateTime::from_timestamp_micros(micros).unwrap();
        row.field(None)
            .field(Some(""))
            .field(Some(r#"a "b", (c) \d'"#))
            .field(Some("e\nf"))
            .time(time(1_000_000))
            .time(time(1_000_001))
            .field(None);
        assert_eq!(
            row.finish(),
            concat!(r#"(,"","a ""b"", (c) \\d'","e"#, "\n", r#"f","1970-01-01 00:00:01","1970-01-01 00:00:01.000001",)"#)
        );
    }
}
