//! The history's rows: appended and read, nothing else.

use std::cell::Cell;
use std::fmt::Display;

use chrono::{Duration, NaiveDateTime};
use diesel::dsl::count_star;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp};

use super::columns::{self, Moment, octet_length, required};
use super::conn::Conn;
use super::error::OrDomain as _;
use super::schema::{entries, refusals};
use super::statement::kept;
use crate::domain::Time;
use crate::domain::error::{Error, Result};
use crate::domain::history::{Changes, Entry, EntryAction, HistoryFilter, NewEntry, Origin, Resource, ResourceType};
use crate::domain::ids::{ArticleId, SessionId, UserId};
use crate::domain::page::{Page, PageRequest, Seq};
use crate::domain::text::{DisplayName, Email};
use crate::domain::user::UserRef;

/// Appends `entry`. Comes before the change that it tells of, in the same transaction.
pub fn append(conn: &mut Conn, entry: &NewEntry) -> Result<()> {
    let changes = serde_json::to_string(&entry.changes).map_err(Error::internal)?;
    let (subject, actor) = (entry.subject.as_ref(), entry.actor.as_ref());
    macro_rules! insertion {
        ($insert:literal) => {
            kept!(
                concat!(
                    $insert,
                    " INTO entries (id, occurred_at, origin, action, resource_type, resource_id, resource_version, subject_id, subject_email, subject_name, \
                     actor_id, actor_email, actor_name, impersonation_id, note, changes, request_id) VALUES ("
                ),
                Text => entry.id.to_string(), ", ",
                Timestamp => Moment::from(entry.occurred_at), ", ",
                Text => entry.origin.as_str(), ", ",
                Text => entry.action.as_str(), ", ",
                Text => entry.resource.r#type.as_str(), ", ",
                Text => entry.resource.id.as_str(), ", ",
                Nullable<BigInt> => entry.resource.version, ", ",
                Nullable<Text> => subject.map(|user| user.id.to_string()), ", ",
                Nullable<Text> => subject.map(|user| user.email.as_str()), ", ",
                Nullable<Text> => subject.map(|user| user.display_name.as_str()), ", ",
                Nullable<Text> => actor.map(|user| user.id.to_string()), ", ",
                Nullable<Text> => actor.map(|user| user.email.as_str()), ", ",
                Nullable<Text> => actor.map(|user| user.display_name.as_str()), ", ",
                Nullable<Text> => entry.impersonation_id.map(|id| id.to_string()), ", ",
                Nullable<Text> => entry.note.as_deref(), ", ",
                Text => changes.as_str(), ", ",
                Nullable<Text> => entry.request_id.as_deref(), ")",
            )
        };
    }
    match conn {
        Conn::Postgres(conn) => insertion!("INSERT").execute(conn),
        Conn::Sqlite(conn) => insertion!("INSERT OR FAIL").execute(conn),
    }
    .or_domain()?;
    Ok(())
}

/// Writes that `caller`, a user or an impersonation, was refused to act as `subject`: one entry in a minute, and a count beside it.
pub fn append_refusal(conn: &mut Conn, caller: impl Display, subject: UserId, entry: &NewEntry) -> Result<()> {
    let (caller, subject) = (caller.to_string(), subject.to_string());
    let minute = chrono::DurationRound::duration_trunc(entry.occurred_at.naive_utc(), Duration::minutes(1)).map_err(Error::internal)?;
    let row = refusals::table.find((&caller, &subject, minute));
    let counted = diesel::update(row).set(refusals::count.eq(refusals::count + 1)).execute(conn).or_domain()?;
    if counted > 0 {
        return Ok(());
    }
    append(conn, entry)?;
    diesel::insert_into(refusals::table)
        .values((
            refusals::caller_id.eq(caller),
            refusals::subject_id.eq(subject),
            refusals::minute.eq(minute),
            refusals::entry_id.eq(entry.id.to_string()),
            refusals::count.eq(1_i64),
        ))
        .execute(conn)
        .or_domain()?;
    Ok(())
}

/// The clocks of instances that share a database differ by less than this, so an entry's place in the history and its time do too.
const CLOCK_SKEW: Duration = Duration::minutes(5);

/// One page of the entries that `filter` lets through, newest first.
pub fn list(conn: &mut Conn, filter: &HistoryFilter, page: &PageRequest<Seq>) -> Result<Page<Entry>> {
    let mut query = entries::table.into_boxed();
    // One index finds the page, and the rest is looked at row by row. SQLite, which knows nothing of the values, would take the one of all articles rather than the
    // one of this article; so the first of these that is asked for is found by its index, and the others are kept from it by a text that adds nothing.
    let is_found = Cell::new(false);
    macro_rules! narrow {
        ($column:expr, $value:expr) => {
            if let Some(value) = $value {
                query = if is_found.replace(true) { query.filter($column.concat("").eq(value)) } else { query.filter($column.eq(value)) };
            }
        };
    }
    narrow!(entries::resource_id, filter.resource_id.clone());
    narrow!(entries::impersonation_id, filter.impersonation.map(|id| id.to_string()));
    narrow!(entries::actor_id, filter.actor.map(|id| id.to_string()));
    narrow!(entries::subject_id, filter.subject.map(|id| id.to_string()));
    narrow!(entries::action, filter.action.map(EntryAction::as_str));
    narrow!(entries::resource_type, filter.resource_type.map(ResourceType::as_str));
    match filter.impersonated {
        Some(true) => query = query.filter(entries::actor_id.is_not_null()),
        Some(false) => query = query.filter(entries::actor_id.is_null()),
        None => {}
    }
    // A span of time becomes a span of places first, so that every index that ends in `seq` finds it at once, however long the history is.
    if let Some(from) = filter.from {
        let from = from.naive_utc();
        query = query.filter(entries::occurred_at.ge(from));
        if let Some(first) = place_of_last_before(conn, from - CLOCK_SKEW)? {
            query = query.filter(entries::seq.ge(first));
        }
    }
    if let Some(to) = filter.to {
        let to = to.naive_utc();
        query = query.filter(entries::occurred_at.lt(to));
        let later = to + CLOCK_SKEW;
        // SQLite compares times as texts, which five digits of a year would upset.
        if chrono::Datelike::year(&later) <= 9999
            && let Some(last) = place_of_first_after(conn, later)?
        {
            query = query.filter(entries::seq.le(last));
        }
    }
    if let Some(after) = page.after {
        query = query.filter(entries::seq.lt(after.0));
    }
    // Which first, and how long they are; then what is in them.
    let keys: Vec<(i64, i32)> = query
        .select((entries::seq, octet_length(entries::changes)))
        .order(entries::seq.desc())
        .limit(page.limit.rows())
        .load(conn)
        .or_domain()?;
    let (chosen, has_more) = page.limit.fit(keys);
    let rows: Vec<Row> = entries::table.filter(entries::seq.eq_any(chosen)).order(entries::seq.desc()).load(conn).or_domain()?;
    let mut items = rows.into_iter().map(Row::into_entry).collect::<Result<Vec<_>>>()?;
    fill_counts(conn, &mut items)?;
    Ok(Page::from_chosen(items, has_more, |entry| Seq(entry.seq)))
}

fn place_of_last_before(conn: &mut Conn, time: NaiveDateTime) -> Result<Option<i64>> {
    let newest = entries::table.filter(entries::occurred_at.lt(time)).order((entries::occurred_at.desc(), entries::seq.desc()));
    newest.select(entries::seq).first(conn).optional().or_domain()
}

fn place_of_first_after(conn: &mut Conn, time: NaiveDateTime) -> Result<Option<i64>> {
    let oldest = entries::table.filter(entries::occurred_at.gt(time)).order((entries::occurred_at.asc(), entries::seq.asc()));
    oldest.select(entries::seq).first(conn).optional().or_domain()
}

fn fill_counts(conn: &mut Conn, items: &mut [Entry]) -> Result<()> {
    let refused = |entry: &&mut Entry| entry.written.action == EntryAction::ImpersonationRefused;
    let ids: Vec<String> = items.iter_mut().filter(refused).map(|entry| entry.written.id.to_string()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let counts: Vec<(String, i64)> =
        refusals::table.filter(refusals::entry_id.eq_any(&ids)).select((refusals::entry_id, refusals::count)).load(conn).or_domain()?;
    let counts: std::collections::HashMap<_, _> = counts.into_iter().collect();
    for entry in items.iter_mut().filter(refused) {
        entry.count = counts.get(&entry.written.id.to_string()).copied();
    }
    Ok(())
}

/// How many entries each of these impersonations has, in one query.
pub fn count_by_impersonation(conn: &mut Conn, ids: &[SessionId]) -> Result<Vec<(SessionId, i64)>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Option<String>> = ids.iter().map(|id| Some(id.to_string())).collect();
    let rows: Vec<(Option<String>, i64)> = entries::table
        .filter(entries::impersonation_id.eq_any(ids))
        .group_by(entries::impersonation_id)
        .select((entries::impersonation_id, count_star()))
        .load(conn)
        .or_domain()?;
    rows.into_iter().filter_map(|(id, count)| id.map(|id| Ok((columns::session_id(&id)?, count)))).collect()
}

/// Which articles were changed under an impersonation, and for each the place of its first such entry; in the order of their ids. Not locked.
pub fn articles_changed_under(conn: &mut Conn, impersonation: SessionId) -> Result<Vec<(ArticleId, Seq)>> {
    let rows: Vec<(String, Option<i64>)> = entries::table
        .filter(entries::impersonation_id.eq(impersonation.to_string()))
        .filter(entries::resource_type.eq(ResourceType::Article.as_str()))
        .group_by(entries::resource_id)
        .order(entries::resource_id)
        .select((entries::resource_id, diesel::dsl::min(entries::seq)))
        .load(conn)
        .or_domain()?;
    let articles = rows.into_iter().map(|(id, first)| Ok((columns::article_id(&id)?, Seq(first.unwrap_or_default()))));
    articles.collect()
}

/// The newest of an article's entries that is older than `before`, if it is none before `first`. One at a time: each may hold two long texts.
pub fn of_article_before(conn: &mut Conn, id: ArticleId, first: Seq, before: Option<Seq>) -> Result<Option<Entry>> {
    let row: Option<Row> = entries::table
        .filter(entries::resource_id.eq(id.to_string()))
        .filter(entries::seq.ge(first.0))
        .filter(entries::seq.lt(before.map_or(i64::MAX, |before| before.0)))
        .order(entries::seq.desc())
        .first(conn)
        .optional()
        .or_domain()?;
    row.map(Row::into_entry).transpose()
}

/// The version that an article's newest entry tells of; 0 where there is none.
pub fn version_of(conn: &mut Conn, id: ArticleId) -> Result<i64> {
    let newest = entries::table.filter(entries::resource_id.eq(id.to_string())).select(diesel::dsl::max(entries::resource_version));
    let newest: Option<i64> = newest.first(conn).or_domain()?;
    Ok(newest.unwrap_or_default())
}

/// The id of whoever wrote an article that was deleted, as the entry of its last deletion has it.
pub fn author_of_deleted(conn: &mut Conn, id: ArticleId) -> Result<Option<String>> {
    let row: Option<Row> = entries::table
        .filter(entries::resource_id.eq(id.to_string()))
        .filter(entries::action.eq(EntryAction::ArticleDeleted.as_str()))
        .order(entries::seq.desc())
        .first(conn)
        .optional()
        .or_domain()?;
    let entry = row.map(Row::into_entry).transpose()?;
    Ok(entry.and_then(|entry| entry.written.changes.0.get("author_id")?.from.as_str().map(str::to_owned)))
}

/// When an article was created.
pub fn article_created_at(conn: &mut Conn, id: ArticleId) -> Result<Option<Time>> {
    let created: Option<NaiveDateTime> = entries::table
        .filter(entries::resource_id.eq(id.to_string()))
        .filter(entries::resource_version.eq(1))
        .select(entries::occurred_at)
        .first(conn)
        .optional()
        .or_domain()?;
    Ok(created.map(columns::time))
}

/// Whether the history knows this article: a user's or a session's id is none, whoever asks for it as one.
pub fn knows_article(conn: &mut Conn, id: ArticleId) -> Result<bool> {
    let of_it =
        entries::table.filter(entries::resource_id.eq(id.to_string())).filter(entries::resource_type.eq(ResourceType::Article.as_str()));
    diesel::select(diesel::dsl::exists(of_it)).get_result(conn).or_domain()
}

#[derive(Queryable)]
struct Row {
    seq: i64,
    id: String,
    occurred_at: NaiveDateTime,
    origin: String,
    action: String,
    resource_type: String,
    resource_id: String,
    resource_version: Option<i64>,
    subject_id: Option<String>,
    subject_email: Option<String>,
    subject_name: Option<String>,
    actor_id: Option<String>,
    actor_email: Option<String>,
    actor_name: Option<String>,
    impersonation_id: Option<String>,
    note: Option<String>,
    changes: String,
    request_id: Option<String>,
}

impl Row {
    fn into_entry(self) -> Result<Entry> {
        let occurred_at: Time = columns::time(self.occurred_at);
        let changes: Changes = serde_json::from_str(&self.changes).map_err(|_| Error::internal("an entry's changes are not JSON"))?;
        Ok(Entry {
            seq: self.seq,
            written: NewEntry {
                id: columns::entry_id(&self.id)?,
                occurred_at,
                origin: required("origin", Origin::parse(&self.origin))?,
                action: required("action", EntryAction::parse(&self.action))?,
                resource: Resource {
                    r#type: required("resource type", ResourceType::parse(&self.resource_type))?,
                    id: self.resource_id,
                    version: self.resource_version,
                },
                subject: name(self.subject_id, self.subject_email, self.subject_name)?,
                actor: name(self.actor_id, self.actor_email, self.actor_name)?,
                impersonation_id: self.impersonation_id.as_deref().map(columns::session_id).transpose()?,
                note: self.note,
                changes,
                request_id: self.request_id,
            },
            count: None,
        })
    }
}

fn name(id: Option<String>, email: Option<String>, display_name: Option<String>) -> Result<Option<UserRef>> {
    match (id, email, display_name) {
        (Some(id), Some(email), Some(name)) => {
            let user =
                UserRef { id: columns::user_id(&id)?, email: Email::from_stored(email), display_name: DisplayName::from_stored(name) };
            Ok(Some(user))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use diesel::connection::{Connection as _, InstrumentationEvent};

    use super::*;
    use crate::domain::page::Limit;
    use crate::store::{Db, Options, migrate};

    #[derive(QueryableByName)]
    struct Step {
        #[diesel(sql_type = diesel::sql_types::Text)]
        detail: String,
    }

    /// How SQLite finds the places of a page, by the very statement that is sent.
    fn plan(conn: &mut Conn, filter: &HistoryFilter) -> String {
        let sent = std::sync::Arc::new(Mutex::new(Vec::new()));
        let noted = std::sync::Arc::clone(&sent);
        conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::StartQuery { query, .. } = event {
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(query.to_string());
            }
        });
        list(conn, filter, &PageRequest { limit: Limit::DEFAULT, after: None }).unwrap();
        let first = sent.lock().unwrap().remove(0);
        let sql = first.split("-- binds").next().unwrap();
        let steps: Vec<Step> = diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}")).load(conn).unwrap();
        steps.into_iter().map(|step| step.detail + "\n").collect()
    }

    #[test]
    fn on_sqlite_the_narrowest_condition_finds_the_page() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("actas.db").display());
        let db = Db::open(&Options { url, pool_size: 1, patience: Duration::from_secs(10), is_pooled: false }).unwrap();
        migrate::run(&db).unwrap();
        let mut conn = db.dedicated().unwrap();
        let now = Time::from_timestamp(1_800_000_000, 0).unwrap();
        let (user, session) = (Some(UserId::new(now)), Some(SessionId::new(now)));
        let of_articles = HistoryFilter {
            resource_type: Some(ResourceType::Article),
            action: Some(EntryAction::ArticleUpdated),
            ..HistoryFilter::default()
        };
        for (filter, index) in [
            (HistoryFilter { resource_id: Some("an article".to_owned()), actor: user, ..of_articles.clone() }, "entries_by_resource"),
            (HistoryFilter { impersonation: session, actor: user, ..of_articles.clone() }, "entries_by_impersonation"),
            (HistoryFilter { actor: user, subject: user, ..of_articles.clone() }, "entries_by_actor"),
            (HistoryFilter { subject: user, ..of_articles.clone() }, "entries_by_subject"),
            (of_articles, "entries_by_action"),
        ] {
            let plan = plan(&mut conn, &filter);
            assert!(plan.contains(&format!("USING INDEX {index} (")), "{index}: {plan}");
        }
    }
}
