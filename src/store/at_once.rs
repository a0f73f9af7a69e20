//! Postgres: what is done most often, each in one statement, which is one round trip. Everything was read before, and decided by it. The statement takes the
//! locks that every write takes, looks whether what was read still holds, and does nothing where it doesn't: then the write begins again, the long way.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamp};
use serde_json::json;

use super::articles::{editor_id, search_text};
use super::conn::Conn;
use super::db::{Db, run};
use super::error::OrDomain as _;
use super::sessions::{NewSession, WayBack, way_back};
use super::statement::kept;
use crate::domain::Time;
use crate::domain::article::Article;
use crate::domain::error::{Error, Result};
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

impl Db {
    /// Whether writes can be done at once here.
    pub fn writes_at_once(&self) -> bool {
        self.lookups().is_some()
    }

    /// Writes `article`, whose version is one above the row's; `false` where something is no longer as it was read.
    ///
    /// # Errors
    /// 503 where the database can't be asked in time.
    pub async fn save_article(&self, ground: Ground, article: &Article, entry: &NewEntry) -> Result<bool> {
        let (article, entry) = (article.clone(), written(entry)?);
        self.at_once(move |conn| {
            let saving = kept!(
                "SELECT actas_save_article(", Text => ground.session.to_string(),
                ", ", Text => ground.kid,
                ", ", BigInt => ground.subject_version,
                ", ", Nullable<BigInt> => ground.actor_version,
                ", ", Nullable<BigInt> => ground.policy_version,
                ", ", Text => entry,
                "::json, ", Text => article.id.to_string(),
                ", ", BigInt => article.version,
                ", ", Text => article.title.as_str(),
                ", ", Text => article.r#abstract.as_str(),
                ", ", Text => article.body.as_str(),
                ", ", Text => search_text(&article),
                ", ", Text => article.status.as_str(),
                ", ", Nullable<Text> => editor_id(&article),
                ", ", Timestamp => article.updated_at.naive_utc(), ") AS done",
            );
            let done: Done = saving.get_result(conn).or_domain()?;
            Ok(done.done)
        })
        .await
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
        let (subject, subject_version, entry) = (subject.id, subject.version, written(entry)?);
        self.at_once(move |conn| {
            let starting = kept!(
                "SELECT actas_start(", Text => ground.session.to_string(),
                ", ", Text => ground.kid,
                ", ", BigInt => ground.subject_version,
                ", ", Nullable<BigInt> => ground.actor_version,
                ", ", Nullable<BigInt> => ground.policy_version,
                ", ", Text => entry,
                "::json, ", Text => subject.to_string(),
                ", ", BigInt => subject_version,
                ", ", Text => row.to_string(),
                "::json, ", Text => way.to_string(),
                "::json, ", Text => algorithm, ") AS kid",
            );
            let started: Started = starting.get_result(conn).or_domain()?;
            Ok(started.kid)
        })
        .await
    }

    /// Ends the impersonation of `ground`, closes its way back and answers that, if it was open; nothing where something is no longer as it was read.
    ///
    /// # Errors
    /// 503 where the database can't be asked in time.
    pub async fn leave_impersonation(&self, ground: Ground, at: Time, by: UserId, entry: &NewEntry) -> Result<Option<Option<WayBack>>> {
        let entry = written(entry)?;
        self.at_once(move |conn| {
            let leaving = kept!(
                "SELECT * FROM actas_leave(", Text => ground.session.to_string(),
                ", ", Text => ground.kid,
                ", ", BigInt => ground.subject_version,
                ", ", Nullable<BigInt> => ground.actor_version,
                ", ", Nullable<BigInt> => ground.policy_version,
                ", ", Text => entry,
                "::json, ", Timestamp => at.naive_utc(),
                ", ", Text => EndCause::Logout.as_str(),
                ", ", Text => by.to_string(), ")",
            );
            let left: Option<Left> = leaving.get_result(conn).optional().or_domain()?;
            Ok(left.map(Left::into_way_back))
        })
        .await
    }

    /// Runs one statement that is a transaction by itself. One that lost a race has done nothing.
    async fn at_once<T: Default + Send + 'static>(&self, work: impl FnOnce(&mut PgConnection) -> Result<T> + Send + 'static) -> Result<T> {
        let permit = self.enter().await?;
        let db = self.clone();
        run(move || {
            let _permit = permit;
            match &mut *db.lend()? {
                Conn::Postgres(conn) => match work(conn) {
                    Err(error) if error.is_transient() => Ok(T::default()),
                    done => done,
                },
                Conn::Sqlite(_) => Err(Error::internal("SQLite knows no such statement")),
            }
        })
        .await
    }
}

#[derive(QueryableByName)]
struct Done {
    #[diesel(sql_type = Bool)]
    done: bool,
}

#[derive(QueryableByName)]
struct Started {
    #[diesel(sql_type = Nullable<Text>)]
    kid: Option<String>,
}

#[derive(QueryableByName)]
struct Left {
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

/// An entry as the row that `actas_append` makes of it.
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
