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
    let mut span = Span::of(conn, filter, page)?;
    // Which first, and how long they are; then what is in them.
    let keys = match (&*conn, &filter.resource_id) {
        (Conn::Sqlite(_), Some(id)) => {
            let below = span.before.map_or(Ok(i64::MAX), |seq| versions_before(conn, id, seq).map(|below| below + 1))?;
            let from = span.from.map_or(Ok(1), |seq| versions_before(conn, id, seq).map(|below| below + 1))?;
            // The two are read one after the other: with what is written meanwhile, an entry of the second could be newer than one that the first lacks.
            let beyond = newest_place(conn)? + 1;
            span.before = Some(span.before.map_or(beyond, |before| before.min(beyond)));
            let mut keys = find_places(conn, filter, &span, Some(Run::Versions { from, below }), page)?;
            keys.extend(find_places(conn, filter, &span, Some(Run::NoVersions), page)?);
            keys.sort_unstable_by_key(|(seq, _)| std::cmp::Reverse(*seq));
            keys.truncate(usize::try_from(page.limit.rows()).map_err(Error::internal)?);
            keys
        }
        _ => find_places(conn, filter, &span, None, page)?,
    };
    let (chosen, has_more) = page.limit.fit(keys);
    let rows: Vec<Row> = entries::table.filter(entries::seq.eq_any(chosen)).order(entries::seq.desc()).load(conn).or_domain()?;
    let mut items = rows.into_iter().map(Row::into_entry).collect::<Result<Vec<_>>>()?;
    fill_counts(conn, &mut items)?;
    Ok(Page::from_chosen(items, has_more, |entry| Seq(entry.seq)))
}

/// Which places a page can be at. A span of time becomes one of places, so that every index that ends in `seq` finds it at once, however long the history is.
struct Span {
    from: Option<i64>,
    before: Option<i64>,
}

impl Span {
    fn of(conn: &mut Conn, filter: &HistoryFilter, page: &PageRequest<Seq>) -> Result<Self> {
        let from = match filter.from {
            Some(from) => place_of_last_before(conn, from.naive_utc() - CLOCK_SKEW)?,
            None => None,
        };
        let mut before = page.after.map(|after| after.0);
        if let Some(to) = filter.to {
            let later = to.naive_utc() + CLOCK_SKEW;
            // SQLite compares times as texts, which five digits of a year would upset.
            if chrono::Datelike::year(&later) <= 9999
                && let Some(last) = place_of_first_after(conn, later)?
            {
                before = Some(before.map_or(last + 1, |before| before.min(last + 1)));
            }
        }
        Ok(Self { from, before })
    }
}

/// On SQLite, the two rows in which the entries of one thing are, both as the index of the UNIQUE constraint has them: those that carry a version, which rise with their
/// places, and those that carry none, by their places.
enum Run {
    Versions { from: i64, below: i64 },
    NoVersions,
}

/// The places of a page's entries, newest first, and how long the entries are.
fn find_places(conn: &mut Conn, filter: &HistoryFilter, span: &Span, run: Option<Run>, page: &PageRequest<Seq>) -> Result<Vec<(i64, i32)>> {
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
    if let Some(from) = filter.from {
        query = query.filter(entries::occurred_at.ge(from.naive_utc()));
    }
    if let Some(to) = filter.to {
        query = query.filter(entries::occurred_at.lt(to.naive_utc()));
    }
    if let Some(before) = span.before {
        query = query.filter(entries::seq.lt(before));
    }
    if let Some(Run::Versions { from, below }) = run {
        query = query.filter(entries::resource_version.ge(from)).filter(entries::resource_version.lt(below));
        query = query.order(entries::resource_version.desc());
    } else {
        if run.is_some() {
            query = query.filter(entries::resource_version.is_null());
        }
        if let Some(from) = span.from {
            query = query.filter(entries::seq.ge(from));
        }
        query = query.order(entries::seq.desc());
    }
    query.select((entries::seq, octet_length(entries::changes))).limit(page.limit.rows()).load(conn).or_domain()
}

fn newest_place(conn: &mut Conn) -> Result<i64> {
    let newest: Option<i64> = entries::table.select(diesel::dsl::max(entries::seq)).first(conn).or_domain()?;
    Ok(newest.unwrap_or_default())
}

/// How many versions of a thing have their entry before this place. They are found by halves, because they rise with their places, without a gap.
fn versions_before(conn: &mut Conn, id: &str, seq: i64) -> Result<i64> {
    let newest = entries::table.filter(entries::resource_id.eq(id)).select(diesel::dsl::max(entries::resource_version));
    let (mut least, mut most) = (0, newest.first::<Option<i64>>(conn).or_domain()?.unwrap_or_default());
    while least < most {
        let middle = least + (most - least + 1) / 2;
        let of_it = entries::table.filter(entries::resource_id.eq(id)).filter(entries::resource_version.eq(middle));
        let place: i64 = of_it.select(entries::seq).first(conn).or_domain()?;
        if place < seq { least = middle } else { most = middle - 1 }
    }
    Ok(least)
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

/// The newest of an article's entries of a version below `before`, if it is none before `first`. One at a time: each may hold two long texts.
pub fn of_article_before(conn: &mut Conn, id: ArticleId, first: Seq, before: Option<i64>) -> Result<Option<Entry>> {
    let row: Option<Row> = entries::table
        .filter(entries::resource_id.eq(id.to_string()))
        .filter(entries::resource_version.lt(before.unwrap_or(i64::MAX)))
        .order(entries::resource_version.desc())
        .first(conn)
        .optional()
        .or_domain()?;
    row.filter(|row| row.seq >= first.0).map(Row::into_entry).transpose()
}

/// The version that an article's newest entry tells of; 0 where there is none.
pub fn version_of(conn: &mut Conn, id: ArticleId) -> Result<i64> {
    let newest = entries::table.filter(entries::resource_id.eq(id.to_string())).select(diesel::dsl::max(entries::resource_version));
    let newest: Option<i64> = newest.first(conn).or_domain()?;
    Ok(newest.unwrap_or_default())
}

/// The id of whoever wrote an article that was deleted, as the entry of its last deletion has it.
pub fn author_of_deleted(conn: &mut Conn, id: ArticleId) -> Result<Option<String>> {
    // It is the newest.
    let entry = of_article_before(conn, id, Seq(0), None)?.filter(|entry| entry.written.action == EntryAction::ArticleDeleted);
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
    let begun = entries::table
        .filter(entries::resource_id.eq(id.to_string()))
        .filter(entries::resource_version.eq(1))
        .select(entries::resource_type);
    let begun: Option<String> = begun.first(conn).optional().or_domain()?;
    Ok(begun.as_deref() == Some(ResourceType::Article.as_str()))
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

    fn database() -> (tempfile::TempDir, Conn) {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("actas.db").display());
        let db = Db::open(&Options { url, pool_size: 1, patience: Duration::from_secs(10), is_pooled: false }).unwrap();
        migrate::run(&db).unwrap();
        let conn = db.dedicated().unwrap();
        (directory, conn)
    }

    fn explain(conn: &mut Conn, sql: &str) -> String {
        let steps: Vec<Step> = diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}")).load(conn).unwrap();
        steps.into_iter().map(|step| step.detail + "\n").collect()
    }

    /// How SQLite finds the places of a page, by the very statements that are sent.
    fn plan(conn: &mut Conn, filter: &HistoryFilter, after: Option<Seq>) -> String {
        let sent = std::sync::Arc::new(Mutex::new(Vec::new()));
        let noted = std::sync::Arc::clone(&sent);
        conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::StartQuery { query, .. } = event {
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(query.to_string());
            }
        });
        list(conn, filter, &PageRequest { limit: Limit::DEFAULT, after }).unwrap();
        conn.set_instrumentation(|_: InstrumentationEvent<'_>| {});
        let sent = std::mem::take(&mut *sent.lock().unwrap());
        // The last one reads what was found.
        let (_, looking) = sent.split_last().unwrap();
        looking.iter().map(|sql| explain(conn, sql.split("-- binds").next().unwrap())).collect()
    }

    #[test]
    fn on_sqlite_the_narrowest_condition_finds_the_page() {
        let (_directory, mut conn) = database();
        let now = Time::from_timestamp(1_800_000_000, 0).unwrap();
        let (user, session) = (Some(UserId::new(now)), Some(SessionId::new(now)));
        let of_articles = HistoryFilter {
            resource_type: Some(ResourceType::Article),
            action: Some(EntryAction::ArticleUpdated),
            ..HistoryFilter::default()
        };
        let of_one = HistoryFilter { resource_id: Some("an article".to_owned()), actor: user, ..of_articles.clone() };
        for (filter, index) in [
            (of_one.clone(), "sqlite_autoindex_entries_2 (resource_id=? AND resource_version"),
            (HistoryFilter { from: Some(now), to: Some(now), ..of_one }, "sqlite_autoindex_entries_2 (resource_id=? AND resource_version"),
            (HistoryFilter { impersonation: session, actor: user, ..of_articles.clone() }, "entries_by_impersonation ("),
            (HistoryFilter { actor: user, subject: user, ..of_articles.clone() }, "entries_by_actor ("),
            (HistoryFilter { subject: user, ..of_articles.clone() }, "entries_by_subject ("),
            (of_articles, "entries_by_action ("),
        ] {
            for after in [None, Some(Seq(1000))] {
                let plan = plan(&mut conn, &filter, after);
                let is_found = |step: &&str| step.contains(index) || step.contains("entries_by_time (");
                assert!(plan.contains(index), "{index}: {plan}");
                // But for the newest version of one thing, which is the end of the same index, and the newest place of all, which is that of the table.
                let is_an_end = |step: &&str| step.contains("sqlite_autoindex_entries_2 (resource_id=?)") || *step == "SEARCH entries";
                assert!(plan.lines().filter(|step| !is_an_end(step)).all(|step| is_found(&step)), "{index}: {plan}");
            }
        }
    }

    /// Where a history is long, there are many of each kind and of each action.
    #[test]
    fn what_triggers_look_for_is_found_by_what_it_is_about() {
        let (_directory, mut conn) = database();
        let triggers: Vec<Step> =
            diesel::sql_query("SELECT sql AS detail FROM sqlite_schema WHERE type = 'trigger'").load(&mut conn).unwrap();
        let mut count = 0;
        for trigger in &triggers {
            let lines = trigger.detail.lines().map(str::trim).filter(|line| !line.starts_with("--"));
            let text = lines.collect::<Vec<_>>().join(" ").replace("( SELECT", "(SELECT");
            let about = text.match_indices("(SELECT ").filter_map(|(start, _)| {
                let rest = &text[start + 1..];
                let mut depth = 0;
                let end = rest.find(|c| {
                    depth += i32::from(c == '(') - i32::from(c == ')');
                    depth < 0
                });
                Some(&rest[..end?]).filter(|select| select.contains(" FROM entries "))
            });
            for select in about {
                // What it has of its own row is bound.
                let bound = |word: &str| match word.strip_prefix("NEW.").or_else(|| word.strip_prefix("OLD.")) {
                    Some(column) => format!("?{}", column.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')),
                    None => word.to_owned(),
                };
                let select = select.split(' ').map(bound).collect::<Vec<_>>().join(" ");
                let plan = explain(&mut conn, &select);
                let is_narrow = ["autoindex_entries_1 (id=?", "autoindex_entries_2 (resource_id=?", "PRIMARY KEY (rowid"];
                assert!(is_narrow.iter().any(|index| plan.contains(index)), "{select}: {plan}");
                count += 1;
            }
        }
        assert!(count >= 20, "{count} were found");
    }

    /// An entry at this place, and this hour.
    fn write(conn: &mut Conn, place: i64, id: &str, version: Option<i64>) {
        use diesel::connection::SimpleConnection as _;

        let version = version.map_or("NULL".to_owned(), |version| version.to_string());
        let row = format!(
            "INSERT INTO entries (id, occurred_at, origin, action, resource_type, resource_id, resource_version, note, changes) VALUES
                ('019aa0f0-0000-7000-8000-0000000000{place:02}', '2026-11-23 {place:02}:00:00', 'cli', 'user.updated', 'user', '{id}', {version}, '-', '{{}}')"
        );
        conn.batch_execute(&row).unwrap();
    }

    #[test]
    fn on_sqlite_a_page_has_no_gap_where_entries_are_written_while_it_is_read() {
        let (directory, mut conn) = database();
        let mut other = SqliteConnection::establish(&directory.path().join("actas.db").display().to_string()).map(Conn::Sqlite).unwrap();
        write(&mut conn, 1, "ann", Some(1));
        write(&mut conn, 2, "ann", None);
        let is_next = std::sync::atomic::AtomicBool::new(true);
        conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            // Those with a version were read by then.
            if let InstrumentationEvent::StartQuery { query, .. } = event
                && query.to_string().contains("IS NULL")
                && is_next.swap(false, std::sync::atomic::Ordering::Relaxed)
            {
                write(&mut other, 3, "ann", Some(2));
                write(&mut other, 4, "ann", None);
            }
        });
        let of_one = HistoryFilter { resource_id: Some("ann".to_owned()), ..HistoryFilter::default() };
        for expected in [vec![2, 1], vec![4, 3, 2, 1]] {
            let page = list(&mut conn, &of_one, &PageRequest { limit: Limit::DEFAULT, after: None }).unwrap();
            assert_eq!(page.items.iter().map(|entry| entry.seq).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn on_sqlite_the_entries_of_one_thing_are_in_their_order_whether_they_carry_a_version_or_not() {
        let (_directory, mut conn) = database();
        let mut version = 0;
        for place in 1..=12 {
            // Of two things, in turns; of every third entry no version.
            let id = if place % 2 == 0 { "ann" } else { "ada" };
            let carried = (id == "ann" && place % 3 != 0).then(|| {
                version += 1;
                version
            });
            write(&mut conn, place, id, carried);
        }
        let hour = |hour: u32| Some(format!("2026-11-23T{hour:02}:00:00Z").parse::<Time>().unwrap());
        let all = HistoryFilter { resource_id: Some("ann".to_owned()), ..HistoryFilter::default() };
        for (filter, expected) in [
            (all.clone(), vec![12, 10, 8, 6, 4, 2]),
            (HistoryFilter { from: hour(4), ..all.clone() }, vec![12, 10, 8, 6, 4]),
            (HistoryFilter { to: hour(10), ..all.clone() }, vec![8, 6, 4, 2]),
            (HistoryFilter { from: hour(3), to: hour(9), ..all.clone() }, vec![8, 6, 4]),
            (HistoryFilter { action: Some(EntryAction::UserCreated), ..all.clone() }, vec![]),
            (HistoryFilter { resource_id: Some("nobody".to_owned()), ..all }, vec![]),
        ] {
            for limit in [1, 2, 3, 50] {
                let (mut seen, mut after) = (Vec::new(), None);
                loop {
                    let page = list(&mut conn, &filter, &PageRequest { limit: Limit::new(limit).unwrap(), after }).unwrap();
                    seen.extend(page.items.iter().map(|entry| entry.seq));
                    assert!(page.items.len() <= limit as usize);
                    after = page.items.last().map(|entry| Seq(entry.seq));
                    if page.next_cursor.is_none() {
                        break;
                    }
                }
                assert_eq!(seen, expected, "{filter:?}, {limit} a page");
            }
        }
    }
}
