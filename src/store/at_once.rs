//! What is done most often, decided before by what was read then: the write looks whether that still holds, and does nothing where it doesn't. Then it goes the long way,
//! and is decided inside its transaction.
//!
//! Postgres does it for all who wait for it at the same moment in one statement (`shared.rs`), which takes the locks that every write takes, and does nothing either for
//! those whose rows somebody else has locked: their writes begin again, each by itself. On SQLite one thread writes for all (`writer.rs`), and the less it has to do for
//! each, the more it writes; so what was decided comes first in the very transaction of the long way.

use std::sync::Arc;

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamp};

use super::articles::{self, search_text};
use super::columns;
use super::conn::{Conn, Lock};
use super::db::Db;
use super::entries;
use super::error::OrDomain as _;
use super::keys;
use super::presence;
use super::sessions::{self, NewImpersonation, Presented, WayBack, way_back};
use super::shared::Found;
use super::statement::kept;
use super::users;
use crate::domain::Time;
use crate::domain::article::Article;
use crate::domain::error::{Code, Error, Result};
use crate::domain::history::NewEntry;
use crate::domain::ids::{SessionId, UserId};
use crate::domain::impersonation::EndCause;
use crate::domain::session::Session;
use crate::domain::text::{Reason, RestoreChallenge, Ticket};

/// What a decision about a session rests on: all of what [`super::sessions::find_presented`] reads that can change, but for its last use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ground {
    pub session: SessionId,
    /// The key that signed the token.
    pub kid: String,
    pub subject_version: i64,
    pub actor_version: Option<i64>,
    pub policy_version: Option<i64>,
}

/// The purpose of the keys that sign, as `actas_start_rows` names it too.
const SIGNS: &str = "sign";

/// A [`DecidedChange`], as it is asked for.
pub(super) struct Save {
    ground: Ground,
    article: Arc<Article>,
    entry: String,
}

/// A [`DecidedStart`]: its row, with its way back.
pub(super) struct Start {
    ground: Ground,
    subject: UserId,
    subject_version: i64,
    impersonation: String,
    algorithm: &'static str,
    entry: String,
}

/// A [`DecidedLeave`].
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

/// A change of an article's text that was decided.
pub struct DecidedChange {
    pub ground: Ground,
    /// Its version is one above the row's.
    pub article: Arc<Article>,
    pub entry: NewEntry,
}

/// The start of an impersonation that was decided.
pub struct DecidedStart {
    pub ground: Ground,
    pub new: NewImpersonation,
    /// Of the key that is to sign the token.
    pub algorithm: &'static str,
}

/// The end of the impersonation of `ground` by logging out.
pub struct DecidedLeave {
    pub ground: Ground,
    pub at: Time,
    pub by: UserId,
    pub entry: NewEntry,
}

impl DecidedChange {
    /// Writes it, inside of SQLite's transaction; `false` where something is no longer as it was read. On Postgres always, where [`Db::save_article`] comes first.
    ///
    /// # Errors
    /// What the database says.
    pub fn apply(&self, conn: &mut Conn) -> Result<bool> {
        let Self { ground, article, entry } = self;
        let is_as_read =
            conn.stands_still() && standing(conn, ground)?.is_some() && articles::version(conn, article.id)? == Some(article.version - 1);
        if is_as_read {
            articles::update_text(conn, article, entry)?;
        }
        Ok(is_as_read)
    }
}

impl DecidedStart {
    /// Opens it with its way back, inside of SQLite's transaction, and answers the kid of the key that signs its token; nothing where something is no longer as it
    /// was read. On Postgres always, where [`Db::start_impersonation`] comes first.
    ///
    /// # Errors
    /// What the database says.
    pub fn apply(&self, conn: &mut Conn) -> Result<Option<String>> {
        let Self { ground, new, algorithm } = self;
        let is_as_read =
            conn.stands_still() && standing(conn, ground)?.is_some() && users::version(conn, new.row.subject)? == Some(new.subject_version);
        if !is_as_read {
            return Ok(None);
        }
        let Some(kid) = keys::newest(conn, SIGNS, algorithm)? else { return Ok(None) };
        sessions::open_impersonation(conn, new, &kid)?;
        Ok(Some(kid))
    }
}

impl DecidedLeave {
    /// Ends it and closes its way back, inside of SQLite's transaction; nothing where something is no longer as it was read. On Postgres always, where
    /// [`Db::leave_impersonation`] comes first.
    ///
    /// # Errors
    /// What the database says.
    pub fn apply(&self, conn: &mut Conn) -> Result<Option<Departure>> {
        let Self { ground, at, by, entry } = self;
        let session = if conn.stands_still() { standing(conn, ground)? } else { None };
        let Some(acting) = session.as_ref().and_then(|session| session.acting_as()) else { return Ok(None) };
        let original = sessions::find(conn, acting.original_session, Lock::None)?;
        let original = original.ok_or_else(|| Error::internal("an impersonation lacks its original session"))?;
        let way = sessions::take_way_back(conn, ground.session)?;
        entries::append(conn, entry)?;
        if !sessions::end(conn, ground.session, *at, EndCause::Logout, Some(*by))? {
            return Err(Error::lost_race("an impersonation ended while it was being ended"));
        }
        Ok(Some(Departure { way, original_started_at: original.started_at, original_last_used_at: original.last_used_at }))
    }
}

impl Db {
    /// Writes it together with those of others, on Postgres; `false` where something is no longer as it was read, and on SQLite, where
    /// [`DecidedChange::apply`] is for the transaction of a write.
    ///
    /// # Errors
    /// 503 where the database can't be asked in time.
    pub async fn save_article(&self, change: &DecidedChange) -> Result<bool> {
        let Some(sharing) = self.sharing() else { return Ok(false) };
        let save = Save { ground: change.ground.clone(), article: Arc::clone(&change.article), entry: written(&change.entry)? };
        Ok(sharing.saves.ask(self, save, self.patience()).await?.is_some())
    }

    /// Opens it and its way back together with those of others, on Postgres, and answers the kid of the key that signs its token; nothing where something is no
    /// longer as it was read, and on SQLite, as [`Db::save_article`].
    ///
    /// # Errors
    /// 503 where the database can't be asked in time.
    pub async fn start_impersonation(&self, start: &DecidedStart) -> Result<Option<String>> {
        let Some(sharing) = self.sharing() else { return Ok(None) };
        let DecidedStart { ground, new, algorithm } = start;
        let start = Start {
            ground: ground.clone(),
            subject: new.row.subject,
            subject_version: new.subject_version,
            impersonation: impersonation(new)?,
            algorithm,
            entry: written(&new.entry)?,
        };
        sharing.starts.ask(self, start, self.patience()).await
    }

    /// Ends it and closes its way back together with those of others, on Postgres; nothing where something is no longer as it was read, and on SQLite, as
    /// [`Db::save_article`].
    ///
    /// # Errors
    /// 503 where the database can't be asked in time.
    pub async fn leave_impersonation(&self, leave: &DecidedLeave) -> Result<Option<Departure>> {
        let Some(sharing) = self.sharing() else { return Ok(None) };
        let leave = Leave { ground: leave.ground.clone(), at: leave.at, by: leave.by, entry: written(&leave.entry)? };
        sharing.leaves.ask(self, leave, self.patience()).await
    }
}

/// The session of `ground`, inside of SQLite's transaction: nothing where it is over, or what was decided about it rests on something that has changed.
fn standing(conn: &mut Conn, ground: &Ground) -> Result<Option<Arc<Session>>> {
    let stands = |found: &Presented| {
        let original_is_open = found.session.acting_as().is_none_or(|acting| acting.original_ended_at.is_none());
        (found.key_counts && found.ground == *ground && found.session.ended.is_none() && original_is_open)
            .then(|| Arc::clone(&found.session))
    };
    match presence::session_here(ground.session, Some(&ground.kid)) {
        Some(known) => Ok(stands(&known)),
        None => Ok(sessions::find_presented(conn, ground.session, &ground.kid, Lock::Update)?.and_then(|found| stands(&found))),
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
    let articles = || asked.iter().map(|save| &*save.article);
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

/// An impersonation as `actas_new_impersonation`.
fn impersonation(new: &NewImpersonation) -> Result<String> {
    let NewImpersonation { row: session, way, .. } = new;
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
    Ok(row.finish())
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

    use std::time::Duration;

    use diesel::connection::SimpleConnection as _;

    use crate::domain::history::{Changes, EntryAction, Origin, Resource, ResourceType};
    use crate::domain::ids::{ArticleId, EntryId};
    use crate::domain::impersonation::{Bounds, Grant, Mode};
    use crate::domain::text::Title;
    use crate::store::sessions::{NewActing, NewSession};
    use crate::store::{Options, migrate};

    /// What the rows of an entry have in common.
    const ENTRY: &str =
        "INSERT INTO entries (id, occurred_at, origin, action, resource_type, resource_id, resource_version, note, changes) VALUES";

    /// Ann has an article; Ada is logged in, and acts as Ann; and there are a policy and two keys, of which `old` signed their tokens.
    const OFFICE: &str = "
        ('entry-1', '2026-11-23 10:00:00', 'cli', 'user.created', 'user', '019aa0f0-0000-7000-8000-00000000000a', 1, '-', '{}'),
        ('entry-2', '2026-11-23 10:00:00', 'cli', 'user.created', 'user', '019aa0f0-0000-7000-8000-00000000000b', 1, '-', '{}'),
        ('entry-3', '2026-11-23 10:00:00', 'cli', 'article.created', 'article', '019aa0f0-0000-7000-8000-00000000000c', 1, '-', '{}'),
        ('entry-4', '2026-11-23 10:00:00', 'cli', 'policy.created', 'policy', 'policy', NULL, '-', '{}'),
        ('entry-5', '2026-11-23 10:00:00', 'cli', 'key.created', 'key', 'old', NULL, '-', '{}'),
        ('entry-6', '2026-11-23 10:00:00', 'cli', 'key.created', 'key', 'new', NULL, '-', '{}');
        INSERT INTO users VALUES
            ('019aa0f0-0000-7000-8000-00000000000a', 'ann@example.org', 'ann@example.org', 'Ann', 'ann', 'author', 'active', 1,
                '2026-11-23 10:00:00', '2026-11-23 10:00:00'),
            ('019aa0f0-0000-7000-8000-00000000000b', 'ada@example.org', 'ada@example.org', 'Ada', 'ada', 'administrator', 'active', 1,
                '2026-11-23 10:00:00', '2026-11-23 10:00:00');
        INSERT INTO articles VALUES ('019aa0f0-0000-7000-8000-00000000000c', 'Before', '', '', '', 'draft',
            '019aa0f0-0000-7000-8000-00000000000a', NULL, 1, '2026-11-23 10:00:00', '2026-11-23 10:00:00');
        INSERT INTO policies VALUES ('policy', '{}', NULL, NULL, NULL, 1, '2026-11-23 10:00:00', 'entry-4');
        INSERT INTO keys VALUES ('old', 'sign', 'EdDSA', '-', FALSE, '2026-11-23 10:00:00', NULL), ('new', 'sign', 'EdDSA', '-', FALSE, '2026-11-23 11:00:00', NULL);
        INSERT INTO sessions (id, subject_id, started_at, expires_at, last_used_at) VALUES ('019aa0f0-0000-7000-8000-00000000000d',
            '019aa0f0-0000-7000-8000-00000000000b', '2026-11-23 10:00:00', '2026-11-23 20:00:00', '2026-11-23 10:00:00');
        INSERT INTO sessions (id, subject_id, actor_id, original_session_id, mode, started_at, expires_at, last_used_at) VALUES (
            '019aa0f0-0000-7000-8000-00000000000e', '019aa0f0-0000-7000-8000-00000000000a', '019aa0f0-0000-7000-8000-00000000000b',
            '019aa0f0-0000-7000-8000-00000000000d', 'full', '2026-11-23 10:00:00', '2026-11-23 12:00:00', '2026-11-23 10:00:00');
        INSERT INTO ways_back VALUES ('019aa0f0-0000-7000-8000-00000000000e', 'old', 'header.payload', NULL, '2026-11-23 20:00:00')";

    fn id(last: char) -> String {
        format!("019aa0f0-0000-7000-8000-00000000000{last}")
    }

    fn now() -> Time {
        "2026-11-23T11:30:00Z".parse().unwrap()
    }

    fn entry(resource: ResourceType, of: &str, version: Option<i64>) -> NewEntry {
        NewEntry {
            id: EntryId::new(now()),
            occurred_at: now(),
            origin: Origin::Cli,
            action: EntryAction::ArticleUpdated,
            resource: Resource { r#type: resource, id: of.to_owned(), version },
            subject: None,
            actor: None,
            impersonation_id: None,
            note: Some("decided".to_owned()),
            changes: Changes::default(),
            request_id: None,
        }
    }

    /// What is decided by what stands in the database now: a change of the article under the impersonation, its end, and the start of another.
    fn decide(conn: &mut Conn) -> (DecidedChange, DecidedLeave, DecidedStart) {
        let (acting, own) = (SessionId::parse(&id('e')).unwrap(), SessionId::parse(&id('d')).unwrap());
        let ground = |conn: &mut Conn, session| sessions::find_presented(conn, session, "old", Lock::None).unwrap().unwrap().ground;
        let article = articles::find(conn, ArticleId::parse(&id('c')).unwrap(), Lock::None).unwrap().unwrap();
        let after = Article { title: Title::from_stored("After".to_owned()), version: article.version + 1, updated_at: now(), ..article };
        let change = DecidedChange {
            ground: ground(conn, acting),
            entry: entry(ResourceType::Article, &after.id.to_string(), Some(after.version)),
            article: Arc::new(after),
        };
        let leave = DecidedLeave {
            ground: ground(conn, acting),
            at: now(),
            by: UserId::parse(&id('b')).unwrap(),
            entry: entry(ResourceType::Session, &acting.to_string(), None),
        };
        let session = Session::clone(&sessions::find(conn, acting, Lock::None).unwrap().unwrap());
        let new = SessionId::new(now());
        let grant = Grant { reason: None, ticket: None, mode: Mode::Full, bounds: Bounds::default() };
        let start = DecidedStart {
            ground: ground(conn, own),
            new: NewImpersonation {
                row: NewSession {
                    id: new,
                    subject: UserId::parse(&id('a')).unwrap(),
                    acting: Some(NewActing { actor: UserId::parse(&id('b')).unwrap(), original_session: own, grant }),
                    terms: None,
                    client_ip: None,
                    user_agent: None,
                    started_at: now(),
                    expires_at: now(),
                },
                way: WayBack { kid: "old".to_owned(), signing_input: "header.payload".to_owned(), challenge: None, expires_at: now() },
                entry: entry(ResourceType::Session, &new.to_string(), None),
                session: Arc::new(Session { id: new, ..session }),
                subject_version: users::find(conn, UserId::parse(&id('a')).unwrap(), Lock::None).unwrap().unwrap().version,
            },
            algorithm: "EdDSA",
        };
        (change, leave, start)
    }

    fn applied(
        conn: &mut Conn,
        (change, leave, start): &(DecidedChange, DecidedLeave, DecidedStart),
    ) -> Result<(bool, bool, Option<String>)> {
        // In this order, because the end of the impersonation is one of what speaks against a change under it.
        let (started, is_changed) = (start.apply(conn)?, change.apply(conn)?);
        let left = leave.apply(conn)?;
        if let Some(left) = &left {
            assert_eq!(left.way.as_ref().map(|way| &*way.signing_input), Some("header.payload"));
            assert_eq!(left.original_started_at, "2026-11-23T10:00:00Z".parse::<Time>().unwrap());
        }
        Ok((is_changed, left.is_some(), started))
    }

    /// Of each kind that a decision rests on: what changes, and whether the article's change, the end of the impersonation and the start of another still stand then.
    const MEANWHILE: [(&str, &str, (bool, bool, bool)); 10] = [
        ("nothing", "('entry-7', '2026-11-23 11:00:00', 'cli', 'other', 'key', 'any', NULL, '-', '{}')", (true, true, true)),
        (
            "the article",
            "('entry-7', '2026-11-23 11:00:00', 'cli', 'article.updated', 'article', '019aa0f0-0000-7000-8000-00000000000c', 2, '-', '{}');
                UPDATE articles SET version = 2, title = 'Meanwhile'",
            (false, true, true),
        ),
        (
            "the subject",
            "('entry-7', '2026-11-23 11:00:00', 'cli', 'user.updated', 'user', '019aa0f0-0000-7000-8000-00000000000a', 2, '-', '{}');
                UPDATE users SET version = 2, role = 'editor' WHERE email = 'ann@example.org'",
            (false, false, false),
        ),
        (
            "the actor",
            "('entry-7', '2026-11-23 11:00:00', 'cli', 'user.updated', 'user', '019aa0f0-0000-7000-8000-00000000000b', 2, '-', '{}');
                UPDATE users SET version = 2, role = 'author' WHERE email = 'ada@example.org'",
            (false, false, false),
        ),
        (
            "the policy",
            "('entry-7', '2026-11-23 11:00:00', 'cli', 'policy.frozen', 'policy', 'policy', NULL, '-', '{}');
                UPDATE policies SET version = 2, frozen_at = '2026-11-23 11:00:00', freeze_reason = '-', entry_id = 'entry-7'",
            (false, false, false),
        ),
        (
            "the impersonation",
            "('entry-7', '2026-11-23 11:00:00', 'cli', 'impersonation.ended', 'session', '-', NULL, '-', '{}');
                UPDATE sessions SET ended_at = '2026-11-23 11:00:00', end_cause = 'revoked' WHERE actor_id IS NOT NULL",
            (false, false, true),
        ),
        (
            "the original session",
            "('entry-7', '2026-11-23 11:00:00', 'cli', 'session.ended', 'session', '-', NULL, '-', '{}');
                UPDATE sessions SET ended_at = '2026-11-23 11:00:00', end_cause = 'logout' WHERE actor_id IS NULL",
            (false, false, false),
        ),
        (
            "the token's key",
            "('entry-7', '2026-11-23 11:00:00', 'cli', 'key.retired', 'key', 'old', NULL, '-', '{}');
                UPDATE keys SET retired_at = '2026-11-23 11:00:00', private_key = '' WHERE kid = 'old'",
            (false, false, false),
        ),
        (
            "the way back",
            "('entry-7', '2026-11-23 11:00:00', 'cli', 'other', 'key', 'any', NULL, '-', '{}');
                UPDATE ways_back SET expires_at = '2026-11-23 19:00:00'",
            (true, true, true),
        ),
        (
            "the use of a session",
            "('entry-7', '2026-11-23 11:00:00', 'cli', 'other', 'key', 'any', NULL, '-', '{}');
                UPDATE sessions SET last_used_at = '2026-11-23 11:00:00'",
            (true, true, true),
        ),
    ];

    #[test]
    fn what_was_decided_is_done_only_if_all_is_as_it_was() {
        for remembers in [false, true] {
            for (what, change, expected) in MEANWHILE {
                let directory = tempfile::tempdir().unwrap();
                let url = format!("sqlite://{}", directory.path().join("actas.db").display());
                let options = Options { url, pool_size: 1, patience: Duration::from_secs(10), is_pooled: false };
                let db = if remembers { Db::open_for_serving(&options) } else { Db::open(&options) }.unwrap();
                migrate::run(&db).unwrap();
                let execute = |sql: String| move |conn: &mut Conn| conn.batch_execute(&sql).map_err(Error::internal);
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(async {
                    db.write(execute(format!("{ENTRY} {OFFICE}"))).await.unwrap();
                    // As whoever is admitted looks, so that the writer finds it remembered.
                    for session in ['d', 'e'] {
                        db.present(SessionId::parse(&id(session)).unwrap(), "old").await.unwrap().unwrap();
                    }
                    db.article(ArticleId::parse(&id('c')).unwrap()).await.unwrap().unwrap();
                    db.user(UserId::parse(&id('a')).unwrap()).await.unwrap().unwrap();
                    let decided = db.read(|conn| Ok(decide(conn))).await.unwrap();
                    db.write(execute(format!("{ENTRY} {change}"))).await.unwrap();
                    let entries = |conn: &mut Conn| super::super::schema::entries::table.count().get_result::<i64>(conn).or_domain();
                    let before = db.read(entries).await.unwrap();
                    let (is_changed, is_left, started) = db.write(move |conn| applied(conn, &decided)).await.unwrap();
                    assert_eq!((is_changed, is_left, started.is_some()), expected, "{what} changed, {remembers}");
                    assert!(started.is_none_or(|kid| kid == "new"));
                    let after = db.read(entries).await.unwrap();
                    let done = [is_changed, is_left, expected.2].iter().filter(|is_done| **is_done).count();
                    assert_eq!(usize::try_from(after - before).unwrap(), done, "{what} changed, {remembers}");
                });
            }
        }
    }

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
