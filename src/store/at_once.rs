//! Postgres: what is done most often, for all who wait for it at the same moment in one statement (`shared.rs`). Everything was read before, and decided by it. The
//! statement takes the locks that every write takes, looks whether what was read still holds, and does nothing for those for whom it doesn't, or whose rows somebody
//! else has locked: their writes begin again, the long way, each by itself.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamp};
use serde_json::json;

use super::articles::search_text;
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

/// The start of an impersonation: its row, and that of its way back.
pub(super) struct Start {
    ground: Ground,
    subject: UserId,
    subject_version: i64,
    impersonation: String,
    way_back: String,
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
        let row = json!({
            "id": session.id.to_string(),
            "subject_id": session.subject.to_string(),
            "actor_id": acting.actor.to_string(),
            "original_session_id": acting.original_session.to_string(),
            "mode": acting.grant.mode.as_str(),
            "reason": acting.grant.reason.as_ref().map(Reason::as_str),
            "ticket": acting.grant.ticket.as_ref().map(Ticket::as_str),
            "bound_permissions": acting.grant.bounds.permissions.map(|scope| scope.to_string()),
            "bound_resources": acting.grant.bounds.resources().map(|resources| resources.join(" ")),
            "started_at": session.started_at.naive_utc(),
            "expires_at": session.expires_at.naive_utc(),
            "last_used_at": session.started_at.naive_utc(),
        });
        let way = json!({
            "impersonation_id": session.id.to_string(),
            "kid": way.kid,
            "signing_input": way.signing_input,
            "challenge": way.challenge.as_ref().map(RestoreChallenge::as_str),
            "expires_at": way.expires_at.naive_utc(),
        });
        let start = Start {
            ground,
            subject: subject.id,
            subject_version: subject.version,
            impersonation: row.to_string(),
            way_back: way.to_string(),
            algorithm,
            entry: written(entry)?,
        };
        self.sharing_writes()?.starts.ask(self, start, self.patience()).await
    }

    /// Ends the impersonation of `ground`, closes its way back and answers that, if it was open; nothing where something is no longer as it was read.
    ///
    /// # Errors
    /// 503 where the database can't be asked in time.
    pub async fn leave_impersonation(&self, ground: Ground, at: Time, by: UserId, entry: &NewEntry) -> Result<Option<Option<WayBack>>> {
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
        conn, Done, "SELECT actas_save_articles(", Grounds::of(asked.iter().map(|save| &save.ground)),
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
        conn, Started, "SELECT * FROM actas_start_many(", Grounds::of(asked.iter().map(|start| &start.ground)),
        Array<Text> => asked.iter().map(|start| &*start.entry).collect::<Vec<_>>(), ", ",
        Array<Text> => asked.iter().map(|start| start.subject.to_string()).collect::<Vec<_>>(), ", ",
        Array<BigInt> => asked.iter().map(|start| start.subject_version).collect::<Vec<_>>(), ", ",
        Array<Text> => asked.iter().map(|start| &*start.impersonation).collect::<Vec<_>>(), ", ",
        Array<Text> => asked.iter().map(|start| &*start.way_back).collect::<Vec<_>>(), ", ",
        // One setting of the whole process.
        Text => algorithm, ")"
    );
    each_by_itself(asked, started.map(|rows| rows.into_iter().map(|row| (row.started, row.signer)).collect()))
}

pub(super) fn leave_many(conn: &mut Conn, asked: &[Leave]) -> Result<Vec<Found<Option<WayBack>>>> {
    let left: Result<Vec<Left>> = call!(
        conn, Left, "SELECT * FROM actas_leave_many(", Grounds::of(asked.iter().map(|leave| &leave.ground)),
        Array<Text> => asked.iter().map(|leave| &*leave.entry).collect::<Vec<_>>(), ", ",
        Array<Timestamp> => asked.iter().map(|leave| leave.at.naive_utc()).collect::<Vec<_>>(), ", ",
        Array<Text> => asked.iter().map(|leave| leave.by.to_string()).collect::<Vec<_>>(), ", ",
        Text => EndCause::Logout.as_str(), ")"
    );
    each_by_itself(asked, left.map(|rows| rows.into_iter().map(|row| (row.ended, row.into_way_back())).collect()))
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
}

impl Left {
    fn into_way_back(self) -> Option<WayBack> {
        match (self.way_kid, self.signing_input, self.expires_at) {
            (Some(kid), Some(signing_input), Some(expires_at)) => Some(way_back((kid, signing_input, self.challenge, expires_at))),
            _ => None,
        }
    }
}

/// An entry as the row that `actas_append_many` makes of it.
fn written(entry: &NewEntry) -> Result<String> {
    let (subject, actor) = (entry.subject.as_ref(), entry.actor.as_ref());
    let row = json!({
        "id": entry.id.to_string(),
        "occurred_at": entry.occurred_at.naive_utc(),
        "origin": entry.origin.as_str(),
        "action": entry.action.as_str(),
        "resource_type": entry.resource.r#type.as_str(),
        "resource_id": entry.resource.id,
        "resource_version": entry.resource.version,
        "subject_id": subject.map(|user| user.id.to_string()),
        "subject_email": subject.map(|user| user.email.as_str()),
        "subject_name": subject.map(|user| user.display_name.as_str()),
        "actor_id": actor.map(|user| user.id.to_string()),
        "actor_email": actor.map(|user| user.email.as_str()),
        "actor_name": actor.map(|user| user.display_name.as_str()),
        "impersonation_id": entry.impersonation_id.map(|id| id.to_string()),
        "note": entry.note,
        "changes": serde_json::to_string(&entry.changes).map_err(Error::internal)?,
        "request_id": entry.request_id,
    });
    Ok(row.to_string())
}
