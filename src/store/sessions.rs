//! The sessions' rows, own ones and impersonations, and what hangs on them: refresh tokens and ways back.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel::sql_types::{Array, Nullable, Text, Timestamp};

use super::at_once::Ground;
use super::columns::{self, Moment, NameRow, PrincipalRow, required};
use super::conn::{Conn, Lock};
use super::entries;
use super::error::OrDomain as _;
use super::schema::{
    actors, articles, authors, editors, enders, keys, originals, policies as policy_rows, refresh_tokens, sessions, subjects, users,
    ways_back,
};
use super::shared::Found;
use super::statement::{kept, on_either};
use super::token_sessions::{read_terms, write_audiences};
use super::{policies, presence};
use crate::domain::Time;
use crate::domain::article::Article;
use crate::domain::client::ClientId;
use crate::domain::error::{Error, Result};
use crate::domain::history::NewEntry;
use crate::domain::ids::{ArticleId, SessionId, UserId};
use crate::domain::impersonation::{Bounds, End, EndCause, Grant, Impersonation, ImpersonationStatus, Mode};
use crate::domain::page::{Page, PageRequest};
use crate::domain::scope::Scope;
use crate::domain::session::{ActingAs, Ended, Kind, Session, TokenTerms};
use crate::domain::text::{Reason, RestoreChallenge, Ticket};

/// A session about to be written.
#[derive(Debug, Clone)]
pub struct NewSession {
    pub id: SessionId,
    pub subject: UserId,
    pub acting: Option<NewActing>,
    /// What the token endpoint lays down, where a client starts it.
    pub terms: Option<TokenTerms>,
    pub client_ip: Option<String>,
    pub user_agent: Option<String>,
    pub started_at: Time,
    pub expires_at: Time,
}

/// The half of a new session that only an impersonation has.
#[derive(Debug, Clone)]
pub struct NewActing {
    pub actor: UserId,
    pub original_session: SessionId,
    pub grant: Grant,
}

/// An impersonation about to be opened.
#[derive(Debug)]
pub struct NewImpersonation {
    pub row: NewSession,
    pub way: WayBack,
    pub entry: NewEntry,
    /// As its bearer will find it.
    pub session: Arc<Session>,
    /// Of the row of whom it acts as.
    pub subject_version: i64,
}

/// Opens an impersonation with its way back; the key `kid` signs its token. Where sessions are remembered, its first request needs no look-up.
pub fn open_impersonation(conn: &mut Conn, new: &NewImpersonation, kid: &str) -> Result<()> {
    insert(conn, &new.row, &new.entry)?;
    insert_way_back(conn, new.row.id, &new.way)?;
    presence::began_here(&new.session, kid, new.subject_version);
    Ok(())
}

/// Opens a session. The entry comes first.
pub fn insert(conn: &mut Conn, session: &NewSession, entry: &NewEntry) -> Result<()> {
    entries::append(conn, entry)?;
    let acting = session.acting.as_ref();
    let grant = acting.map(|acting| &acting.grant);
    let terms = session.terms.as_ref();
    macro_rules! insertion {
        ($insert:literal) => {
            kept!(
                concat!(
                    $insert,
                    " INTO sessions (id, subject_id, actor_id, original_session_id, mode, reason, ticket, client_id, scope, audience, bound_permissions, \
                     bound_resources, client_ip, user_agent, started_at, expires_at, last_used_at) VALUES ("
                ),
                Text => session.id.to_string(), ", ",
                Text => session.subject.to_string(), ", ",
                Nullable<Text> => acting.map(|acting| acting.actor.to_string()), ", ",
                Nullable<Text> => acting.map(|acting| acting.original_session.to_string()), ", ",
                Nullable<Text> => grant.map(|grant| grant.mode.as_str()), ", ",
                Nullable<Text> => grant.and_then(|grant| grant.reason.as_ref()).map(Reason::as_str), ", ",
                Nullable<Text> => grant.and_then(|grant| grant.ticket.as_ref()).map(Ticket::as_str), ", ",
                Nullable<Text> => terms.map(|terms| terms.client.to_string()), ", ",
                Nullable<Text> => terms.map(|terms| terms.scope.to_string()), ", ",
                Nullable<Text> => terms.map(|terms| write_audiences(&terms.audiences)), ", ",
                Nullable<Text> => grant.and_then(|grant| grant.bounds.permissions).map(|scope| scope.to_string()), ", ",
                Nullable<Text> => grant.and_then(|grant| grant.bounds.resources()).map(|resources| resources.join(" ")), ", ",
                Nullable<Text> => session.client_ip.as_deref(), ", ",
                Nullable<Text> => session.user_agent.as_deref(), ", ",
                Timestamp => Moment::from(session.started_at), ", ",
                Timestamp => Moment::from(session.expires_at), ", ",
                Timestamp => Moment::from(session.started_at), ")",
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

#[derive(Queryable)]
struct Row {
    id: String,
    mode: Option<String>,
    reason: Option<String>,
    ticket: Option<String>,
    started_at: NaiveDateTime,
    expires_at: NaiveDateTime,
    last_used_at: NaiveDateTime,
    ended_at: Option<NaiveDateTime>,
    end_cause: Option<String>,
    subject: PrincipalRow,
    actor: Option<PrincipalRow>,
    original: Option<(String, Option<NaiveDateTime>, NaiveDateTime)>,
    client_id: Option<String>,
    scope: Option<String>,
    audience: Option<String>,
    bounds: BoundsRow,
    key_is_retired: Option<bool>,
    policy_version: Option<i64>,
    /// The subject's and the actor's.
    versions: (i64, Option<i64>),
}

/// Permissions and resources, each with spaces between.
type BoundsRow = (Option<String>, Option<String>);

impl Row {
    fn into_presented(self, kid: &str) -> Result<Presented> {
        let key_counts = self.key_is_retired == Some(false);
        let (subject_version, actor_version) = self.versions;
        let policy_version = self.policy_version;
        let session = Arc::new(self.into_session()?);
        let ground = Ground { session: session.id, kid: kid.to_owned(), subject_version, actor_version, policy_version };
        Ok(Presented { session, ground, key_counts })
    }

    fn into_session(self) -> Result<Session> {
        let kind = match (self.actor, self.original) {
            (Some(actor), Some((original, original_ended_at, original_expires_at))) => Kind::Impersonation(Box::new(ActingAs {
                actor: columns::principal(actor)?,
                original_session: columns::session_id(&original)?,
                original_ended_at: original_ended_at.map(columns::time),
                original_expires_at: columns::time(original_expires_at),
                grant: grant(self.mode.as_deref(), self.reason, self.ticket, self.bounds)?,
            })),
            _ => Kind::Own,
        };
        let terms = match (self.client_id, self.scope, self.audience) {
            (Some(client), Some(scope), Some(audience)) => Some(read_terms(&client, &scope, &audience)?),
            _ => None,
        };
        let mut subject = columns::principal(self.subject)?;
        subject.scope = terms.as_ref().map(|terms| terms.scope);
        Ok(Session {
            id: columns::session_id(&self.id)?,
            subject,
            kind,
            started_at: columns::time(self.started_at),
            expires_at: columns::time(self.expires_at),
            last_used_at: columns::time(self.last_used_at),
            ended: ended(self.ended_at, self.end_cause.as_deref())?,
            terms,
        })
    }
}

fn grant(mode: Option<&str>, reason: Option<String>, ticket: Option<String>, (permissions, resources): BoundsRow) -> Result<Grant> {
    // What this version doesn't know is inside of nothing.
    let articles = resources.map(|resources| resources.split(' ').filter_map(Bounds::read_article).collect());
    Ok(Grant {
        reason: reason.map(Reason::from_stored),
        ticket: ticket.map(Ticket::from_stored),
        mode: required("mode", mode.and_then(Mode::parse))?,
        bounds: Bounds { permissions: permissions.as_deref().map(Scope::from_stored), articles },
    })
}

fn ended(at: Option<NaiveDateTime>, cause: Option<&str>) -> Result<Option<Ended>> {
    let Some(at) = at else { return Ok(None) };
    Ok(Some(Ended { at: columns::time(at), cause: required("end cause", cause.and_then(EndCause::parse))? }))
}

/// Sessions with what `presented_columns!` reads.
macro_rules! presented_tables {
    () => {
        sessions::table
            .inner_join(subjects.on(subjects.field(users::id).eq(sessions::subject_id)))
            .left_join(actors.on(actors.field(users::id).nullable().eq(sessions::actor_id)))
            .left_join(originals.on(originals.field(sessions::id).nullable().eq(sessions::original_session_id)))
    };
}

/// All that decides whether a session still counts, whether the key `$kid` does, and the policy's version.
macro_rules! presented_columns {
    ($kid:expr) => {
        (
            sessions::id,
            sessions::mode,
            sessions::reason,
            sessions::ticket,
            sessions::started_at,
            sessions::expires_at,
            sessions::last_used_at,
            sessions::ended_at,
            sessions::end_cause,
            subjects.fields((users::id, users::email, users::display_name, users::role, users::status)),
            actors.fields((users::id, users::email, users::display_name, users::role, users::status)).nullable(),
            originals.fields((sessions::id, sessions::ended_at, sessions::expires_at)).nullable(),
            sessions::client_id,
            sessions::scope,
            sessions::audience,
            (sessions::bound_permissions, sessions::bound_resources),
            keys::table.find($kid).select(keys::retired_at.is_not_null()).single_value(),
            policy_rows::table.find(policies::ID).select(policy_rows::version).single_value(),
            (subjects.field(users::version), actors.field(users::version).nullable()),
        )
    };
}

macro_rules! select_presented {
    ($kid:expr) => {
        presented_tables!().select(presented_columns!($kid))
    };
}

/// A session, as the bearer of a token for it finds it.
#[derive(Debug, Clone)]
pub struct Presented {
    pub session: Arc<Session>,
    /// What a decision about it rests on.
    pub ground: Ground,
    /// Whether the key that signed the token is there and was not retired.
    pub key_counts: bool,
}

/// The session with this id, with all that decides whether it still counts, in one select. Locked as asked, an impersonation together with its original.
pub fn find(conn: &mut Conn, id: SessionId, lock: Lock) -> Result<Option<Arc<Session>>> {
    if let Some(known) = presence::session_here(id, None) {
        return Ok(Some(Arc::clone(&known.session)));
    }
    Ok(find_presented(conn, id, "", lock)?.map(|presented| presented.session))
}

/// As [`find`], and in the same select whether the key `kid`, which signed the token that names the session, still counts, and which version the policy has.
pub fn find_presented(conn: &mut Conn, id: SessionId, kid: &str, lock: Lock) -> Result<Option<Presented>> {
    if let Some(known) = presence::session_here(id, Some(kid)) {
        return Ok(Some(Presented::clone(&known)));
    }
    let id = id.to_string();
    if let Conn::Postgres(conn) = conn {
        lock_rows(conn, &id, lock)?;
    }
    let found = select_presented!(kid).filter(sessions::id.eq(id));
    let row: Option<Row> = on_either!(conn, conn => found.first(conn)).optional().or_domain()?;
    row.map(|row| row.into_presented(kid)).transpose()
}

/// As [`find_presented`] for each of these, not locked: one select for all whose tokens one key signed, which is nearly always all of them.
pub(super) fn find_presented_many(conn: &mut Conn, asked: &[(SessionId, String)]) -> Result<Vec<Found<Arc<Presented>>>> {
    let mut found: HashMap<(String, &str), Result<Arc<Presented>>> = HashMap::with_capacity(asked.len());
    let mut kids: Vec<&str> = asked.iter().map(|(_, kid)| kid.as_str()).collect();
    kids.sort_unstable();
    kids.dedup();
    for kid in kids {
        let ids: Vec<String> = asked.iter().filter(|(_, of)| of == kid).map(|(id, _)| id.to_string()).collect();
        let rows = select_presented!(kid).filter(sessions::id.eq_any(ids));
        let rows: Vec<Row> = on_either!(&mut *conn, conn => rows.load(conn)).or_domain()?;
        for row in rows {
            found.insert((row.id.clone(), kid), row.into_presented(kid).map(Arc::new));
        }
    }
    Ok(asked.iter().map(|(id, kid)| found.get(&(id.to_string(), kid.as_str())).cloned().transpose()).collect())
}

diesel::define_sql_function! {
    /// Of a migration: the item at the place where `ids` has `id`.
    fn actas_beside(items: Array<Text>, ids: Array<Text>, id: Text) -> Nullable<Text>;
}

/// What is known of an article that somebody asks for.
#[derive(Debug, Clone)]
pub enum Sought {
    /// It was not looked for, or can't be read: whoever asks for it by itself is told.
    Unknown,
    Missing,
    Found(Arc<Article>),
}

/// A session with the article that its bearer asks for.
pub type Scene = (Arc<Presented>, Sought);

/// As [`find_presented_many`], each together with an article, all in one select. Of a session that asks for several at once only the first is looked for.
pub(super) fn find_scenes(conn: &mut Conn, asked: &[(SessionId, String, ArticleId)]) -> Result<Vec<Found<Scene>>> {
    let Conn::Postgres(conn) = conn else { return Err(Error::internal("SQLite knows no such statement")) };
    let mut found: HashMap<(String, &str), Result<Scene>> = HashMap::with_capacity(asked.len());
    let mut looked_for: HashMap<(SessionId, &str), ArticleId> = HashMap::with_capacity(asked.len());
    for (id, kid, article) in asked {
        looked_for.entry((*id, kid)).or_insert(*article);
    }
    let mut kids: Vec<&str> = asked.iter().map(|(_, kid, _)| kid.as_str()).collect();
    kids.sort_unstable();
    kids.dedup();
    for kid in kids {
        let of_kid = looked_for.iter().filter(|((_, of), _)| *of == kid);
        let (ids, wanted): (Vec<String>, Vec<String>) = of_kid.map(|((id, _), article)| (id.to_string(), article.to_string())).unzip();
        let wanted = actas_beside(wanted, ids.clone(), sessions::id);
        let rows = presented_tables!()
            .left_join(articles::table.on(articles::id.nullable().eq(wanted)))
            .left_join(authors.on(authors.field(users::id).eq(articles::author_id)))
            .left_join(editors.on(editors.field(users::id).nullable().eq(articles::editor_id)))
            .filter(sessions::id.eq_any(ids))
            .select((presented_columns!(kid), super::articles::article_columns!().nullable()));
        let rows: Vec<(Row, Option<super::articles::Row>)> = rows.load(conn).or_domain()?;
        for (row, article) in rows {
            let sought = match article.map(super::articles::Row::into_article) {
                None => Sought::Missing,
                Some(Ok(article)) => Sought::Found(Arc::new(article)),
                // No fault of the session's.
                Some(Err(_)) => Sought::Unknown,
            };
            found.insert((row.id.clone(), kid), row.into_presented(kid).map(|presented| (Arc::new(presented), sought)));
        }
    }
    let scene = |(id, kid, article): &(SessionId, String, ArticleId)| {
        let found = found.get(&(id.to_string(), kid.as_str())).cloned().transpose()?;
        let is_it = looked_for.get(&(*id, kid.as_str())) == Some(article);
        Ok(found.map(|(presented, sought)| (presented, if is_it { sought } else { Sought::Unknown })))
    };
    Ok(asked.iter().map(scene).collect())
}

/// Locks a session's row, and before it its original's, as everyone does. Both in the same way: if writes only shared the original, a stream of them could hold off
/// the one that ends it, because Postgres lets those who share a lock pass by one who waits for it alone.
fn lock_rows(conn: &mut diesel::PgConnection, id: &str, lock: Lock) -> Result<()> {
    let original =
        originals.filter(originals.field(sessions::id).eq(id)).select(originals.field(sessions::original_session_id)).single_value();
    let original = sessions::table.filter(sessions::id.nullable().eq(original)).select(sessions::id);
    let own = sessions::table.filter(sessions::id.eq(id)).select(sessions::id);
    let _: [Option<String>; 2] = match lock {
        Lock::None => [None, None],
        Lock::Share => [original.for_share().first(conn).optional().or_domain()?, own.for_share().first(conn).optional().or_domain()?],
        Lock::Update => {
            [original.for_no_key_update().first(conn).optional().or_domain()?, own.for_no_key_update().first(conn).optional().or_domain()?]
        }
    };
    Ok(())
}

/// Ends a session, unless it is over already: `false` then. The entry is written by the caller, before, for those that it found live under lock.
pub fn end(conn: &mut Conn, id: SessionId, at: Time, cause: EndCause, by: Option<UserId>) -> Result<bool> {
    let ending = kept!(
        "UPDATE sessions SET ended_at = ", Timestamp => Moment::from(at),
        ", end_cause = ", Text => cause.as_str(),
        ", ended_by_id = ", Nullable<Text> => by.map(|id| id.to_string()),
        " WHERE ended_at IS NULL AND id = ", Text => id.to_string(), "",
    );
    Ok(on_either!(conn, conn => ending.execute(conn)).or_domain()? == 1)
}

/// Notes that a session was used. No mutation.
pub fn touch(conn: &mut Conn, id: SessionId, now: Time) -> Result<()> {
    let touching = kept!(
        "UPDATE sessions SET last_used_at = ", Timestamp => Moment::from(now),
        " WHERE ended_at IS NULL AND id = ", Text => id.to_string(), "",
    );
    on_either!(conn, conn => touching.execute(conn)).or_domain()?;
    Ok(())
}

/// Sessions whose rows are still open, as they are found for ending them.
#[derive(Debug, Clone, Copy)]
pub enum Open {
    /// A user's own sessions.
    Own(UserId),
    /// Impersonations started from this session.
    From(SessionId),
    /// Impersonations of this user.
    Of(UserId),
    /// Impersonations by this user.
    By(UserId),
    /// Impersonations that this client started.
    Through(ClientId),
    /// Every impersonation.
    Impersonations,
}

/// The sessions of that kind whose rows are open, oldest first, locked for their end.
pub fn lock_open(conn: &mut Conn, which: Open) -> Result<Vec<SessionId>> {
    let mut query = sessions::table.filter(sessions::ended_at.is_null()).order(sessions::id).select(sessions::id).into_boxed();
    query = match which {
        Open::Own(user) => query.filter(sessions::actor_id.is_null()).filter(sessions::subject_id.eq(user.to_string())),
        Open::From(session) => query.filter(sessions::original_session_id.eq(session.to_string())),
        Open::Of(user) => query.filter(sessions::actor_id.is_not_null()).filter(sessions::subject_id.eq(user.to_string())),
        Open::By(user) => query.filter(sessions::actor_id.is_not_null()).filter(sessions::actor_id.eq(user.to_string())),
        Open::Through(client) => query.filter(sessions::client_id.eq(client.to_string())),
        Open::Impersonations => query.filter(sessions::actor_id.is_not_null()),
    };
    let mut ids: Vec<String> = query.load(conn).or_domain()?;
    if let Conn::Postgres(conn) = conn {
        // A boxed query takes no locking clause. What ended while this waited for it is no longer open.
        let rows = sessions::table.filter(sessions::id.eq_any(&ids)).filter(sessions::ended_at.is_null());
        ids = rows.order(sessions::id).select(sessions::id).for_no_key_update().load(conn).or_domain()?;
    }
    ids.iter().map(|id| columns::session_id(id)).collect()
}

/// Sessions of `user`, or of everyone, whose rows are open, oldest first, at most `limit` of them. Not locked.
pub fn open(conn: &mut Conn, user: Option<UserId>, limit: i64) -> Result<Vec<SessionId>> {
    let mut query = sessions::table.filter(sessions::ended_at.is_null()).order(sessions::id).select(sessions::id).limit(limit).into_boxed();
    if let Some(user) = user {
        query = query.filter(sessions::subject_id.eq(user.to_string()));
    }
    let ids: Vec<String> = query.load(conn).or_domain()?;
    ids.iter().map(|id| columns::session_id(id)).collect()
}

/// Open impersonations, oldest first, at most `limit` of them. Not locked.
pub fn open_impersonations(conn: &mut Conn, limit: i64) -> Result<Vec<SessionId>> {
    let open = sessions::table.filter(sessions::actor_id.is_not_null()).filter(sessions::ended_at.is_null());
    let ids: Vec<String> = open.order(sessions::id).limit(limit).select(sessions::id).load(conn).or_domain()?;
    ids.iter().map(|id| columns::session_id(id)).collect()
}

/// Open sessions whose time is over, and open impersonations that nobody used since `idle_since`; at most `limit` of each.
pub fn overdue(conn: &mut Conn, now: Time, idle_since: Option<Time>, limit: i64) -> Result<Vec<SessionId>> {
    let mut ids: Vec<String> = sessions::table
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.le(now.naive_utc()))
        .order(sessions::expires_at)
        .limit(limit)
        .select(sessions::id)
        .load(conn)
        .or_domain()?;
    if let Some(idle_since) = idle_since {
        let idle: Vec<String> = sessions::table
            .filter(sessions::actor_id.is_not_null())
            .filter(sessions::ended_at.is_null())
            .filter(sessions::expires_at.gt(now.naive_utc()))
            .filter(sessions::last_used_at.le(idle_since.naive_utc()))
            .order(sessions::id)
            .limit(limit)
            .select(sessions::id)
            .load(conn)
            .or_domain()?;
        ids.extend(idle);
    }
    ids.iter().map(|id| columns::session_id(id)).collect()
}

/// An own session as its user sees it.
#[derive(Debug, Clone)]
pub struct OwnSession {
    pub id: SessionId,
    pub started_at: Time,
    pub expires_at: Time,
    pub last_used_at: Time,
    pub client_ip: Option<String>,
    pub user_agent: Option<String>,
}

/// One page of a user's own live sessions, newest first.
pub fn list_own(conn: &mut Conn, user: UserId, now: Time, page: &PageRequest<SessionId>) -> Result<Page<OwnSession>> {
    let mut query = sessions::table
        .filter(sessions::subject_id.eq(user.to_string()))
        .filter(sessions::actor_id.is_null())
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.gt(now.naive_utc()))
        .select((
            sessions::id,
            sessions::started_at,
            sessions::expires_at,
            sessions::last_used_at,
            sessions::client_ip,
            sessions::user_agent,
        ))
        .into_boxed();
    if let Some(after) = page.after {
        query = query.filter(sessions::id.lt(after.to_string()));
    }
    type OwnRow = (String, NaiveDateTime, NaiveDateTime, NaiveDateTime, Option<String>, Option<String>);
    let rows: Vec<OwnRow> = query.order(sessions::id.desc()).limit(page.limit.rows()).load(conn).or_domain()?;
    let items = rows
        .into_iter()
        .map(|(id, started_at, expires_at, last_used_at, client_ip, user_agent)| {
            Ok(OwnSession {
                id: columns::session_id(&id)?,
                started_at: columns::time(started_at),
                expires_at: columns::time(expires_at),
                last_used_at: columns::time(last_used_at),
                client_ip,
                user_agent,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Page::from_rows(items, page.limit, |session| session.id))
}

/// Whether this user has logged in from this address before.
pub fn is_known_address(conn: &mut Conn, user: UserId, address: &str) -> Result<bool> {
    let known = sessions::table
        .filter(sessions::subject_id.eq(user.to_string()))
        .filter(sessions::actor_id.is_null())
        .filter(sessions::client_ip.eq(address));
    diesel::select(diesel::dsl::exists(known)).get_result(conn).or_domain()
}

/// Which impersonations a listing shows. All given conditions must hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct ImpersonationFilter {
    pub id: Option<SessionId>,
    pub status: Option<ImpersonationStatus>,
    pub actor: Option<UserId>,
    pub subject: Option<UserId>,
}

#[derive(Queryable)]
struct ImpersonationRow {
    id: String,
    mode: Option<String>,
    reason: Option<String>,
    ticket: Option<String>,
    started_at: NaiveDateTime,
    expires_at: NaiveDateTime,
    ended_at: Option<NaiveDateTime>,
    end_cause: Option<String>,
    subject: NameRow,
    actor: NameRow,
    ended_by: Option<NameRow>,
    bounds: BoundsRow,
}

impl ImpersonationRow {
    /// One whose time is over has ended then, whether its row says so yet or not.
    fn into_impersonation(self, now: Time) -> Result<Impersonation> {
        let expires_at = columns::time(self.expires_at);
        let end = match ended(self.ended_at, self.end_cause.as_deref())? {
            Some(ended) => Some(End { at: ended.at, cause: ended.cause, by: self.ended_by.map(columns::name).transpose()? }),
            None if expires_at <= now => Some(End { at: expires_at, cause: EndCause::Expired, by: None }),
            None => None,
        };
        Ok(Impersonation {
            id: columns::session_id(&self.id)?,
            subject: columns::name(self.subject)?,
            actor: columns::name(self.actor)?,
            grant: grant(self.mode.as_deref(), self.reason, self.ticket, self.bounds)?,
            started_at: columns::time(self.started_at),
            expires_at,
            end,
            entry_count: 0,
        })
    }
}

/// One page of impersonations, newest first. Two queries, however many there are.
pub fn list_impersonations(
    conn: &mut Conn,
    filter: &ImpersonationFilter,
    now: Time,
    page: &PageRequest<SessionId>,
) -> Result<Page<Impersonation>> {
    let mut query = sessions::table
        .inner_join(subjects.on(subjects.field(users::id).eq(sessions::subject_id)))
        .inner_join(actors.on(actors.field(users::id).nullable().eq(sessions::actor_id)))
        .left_join(enders.on(enders.field(users::id).nullable().eq(sessions::ended_by_id)))
        .filter(sessions::actor_id.is_not_null())
        .select((
            sessions::id,
            sessions::mode,
            sessions::reason,
            sessions::ticket,
            sessions::started_at,
            sessions::expires_at,
            sessions::ended_at,
            sessions::end_cause,
            subjects.fields((users::id, users::email, users::display_name)),
            actors.fields((users::id, users::email, users::display_name)),
            enders.fields((users::id, users::email, users::display_name)).nullable(),
            (sessions::bound_permissions, sessions::bound_resources),
        ))
        .into_boxed();
    if let Some(id) = filter.id {
        query = query.filter(sessions::id.eq(id.to_string()));
    }
    match filter.status {
        Some(ImpersonationStatus::Live) => {
            query = query.filter(sessions::ended_at.is_null()).filter(sessions::expires_at.gt(now.naive_utc()));
        }
        Some(ImpersonationStatus::Ended) => {
            query = query.filter(sessions::ended_at.is_not_null().or(sessions::expires_at.le(now.naive_utc())));
        }
        None => {}
    }
    if let Some(actor) = filter.actor {
        query = query.filter(sessions::actor_id.eq(actor.to_string()));
    }
    if let Some(subject) = filter.subject {
        query = query.filter(sessions::subject_id.eq(subject.to_string()));
    }
    if let Some(after) = page.after {
        query = query.filter(sessions::id.lt(after.to_string()));
    }
    let rows: Vec<ImpersonationRow> = query.order(sessions::id.desc()).limit(page.limit.rows()).load(conn).or_domain()?;
    let mut items = rows.into_iter().map(|row| row.into_impersonation(now)).collect::<Result<Vec<_>>>()?;
    let ids: Vec<SessionId> = items.iter().map(|item| item.id).collect();
    for (id, count) in entries::count_by_impersonation(conn, &ids)? {
        if let Some(item) = items.iter_mut().find(|item| item.id == id) {
            item.entry_count = count;
        }
    }
    Ok(Page::from_rows(items, page.limit, |item| item.id))
}

/// How many impersonations run.
pub fn count_live_impersonations(conn: &mut Conn, now: Time) -> Result<i64> {
    sessions::table
        .filter(sessions::actor_id.is_not_null())
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.gt(now.naive_utc()))
        .count()
        .get_result(conn)
        .or_domain()
}

/// How many impersonations by this actor run, counted as far as `most`.
pub fn count_live_by(conn: &mut Conn, actor: UserId, now: Time, most: u32) -> Result<i64> {
    let live = sessions::table
        .filter(sessions::actor_id.eq(actor.to_string()))
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.gt(now.naive_utc()));
    let ids: Vec<String> = live.select(sessions::id).limit(i64::from(most)).load(conn).or_domain()?;
    Ok(count(&ids))
}

/// How many impersonations this actor started after `since`, counted as far as `most`.
pub fn count_started_by(conn: &mut Conn, actor: UserId, since: Time, most: u32) -> Result<i64> {
    let started = sessions::table
        .filter(sessions::actor_id.eq(actor.to_string()))
        // What finds them: what is made within a process has an id no older than its time.
        .filter(sessions::id.ge(SessionId::floor(since).to_string()))
        .filter(sessions::started_at.gt(since.naive_utc()));
    let ids: Vec<String> = started.select(sessions::id).limit(i64::from(most)).load(conn).or_domain()?;
    Ok(count(&ids))
}

fn count(ids: &[String]) -> i64 {
    i64::try_from(ids.len()).unwrap_or(i64::MAX)
}

/// What logout of an impersonation gives back.
#[derive(Debug, Clone)]
pub struct WayBack {
    pub kid: String,
    /// The exact `header.payload` of the original token.
    pub signing_input: String,
    pub challenge: Option<RestoreChallenge>,
    /// The original token's expiry.
    pub expires_at: Time,
}

/// Opens the way back of an impersonation.
fn insert_way_back(conn: &mut Conn, impersonation: SessionId, way: &WayBack) -> Result<()> {
    let insertion = diesel::insert_into(ways_back::table).values((
        ways_back::impersonation_id.eq(impersonation.to_string()),
        ways_back::kid.eq(&way.kid),
        ways_back::signing_input.eq(&way.signing_input),
        ways_back::challenge.eq(way.challenge.as_ref().map(RestoreChallenge::as_str)),
        ways_back::expires_at.eq(way.expires_at.naive_utc()),
    ));
    on_either!(conn, conn => insertion.execute(conn)).or_domain()?;
    Ok(())
}

/// Closes the way back and answers it, if it was still open: whoever gets it is the only one.
pub fn take_way_back(conn: &mut Conn, impersonation: SessionId) -> Result<Option<WayBack>> {
    let taking = diesel::delete(ways_back::table.find(impersonation.to_string())).returning((
        ways_back::kid,
        ways_back::signing_input,
        ways_back::challenge,
        ways_back::expires_at,
    ));
    let row: Option<WayBackRow> = on_either!(conn, conn => taking.get_result(conn)).optional().or_domain()?;
    Ok(row.map(way_back))
}

/// Kid, signing input, challenge, expiry.
type WayBackRow = (String, String, Option<String>, NaiveDateTime);

pub(super) fn way_back((kid, signing_input, challenge, expires_at): WayBackRow) -> WayBack {
    WayBack { kid, signing_input, challenge: challenge.map(RestoreChallenge::from_stored), expires_at: columns::time(expires_at) }
}

/// Closes every way back of impersonations of and by this user.
pub fn close_ways_back(conn: &mut Conn, user: UserId) -> Result<()> {
    let user = user.to_string();
    let theirs = sessions::table
        .filter(sessions::actor_id.is_not_null())
        .filter(sessions::subject_id.eq(user.clone()).or(sessions::actor_id.assume_not_null().eq(user)))
        .select(sessions::id);
    diesel::delete(ways_back::table.filter(ways_back::impersonation_id.eq_any(theirs))).execute(conn).or_domain()?;
    Ok(())
}

/// Closes every way back.
pub fn close_all_ways_back(conn: &mut Conn) -> Result<()> {
    diesel::delete(ways_back::table).execute(conn).or_domain()?;
    Ok(())
}

/// Open impersonations whose original token was signed with this key, oldest first. Not locked.
pub fn open_by_key(conn: &mut Conn, kid: &str) -> Result<Vec<SessionId>> {
    let open = ways_back::table.inner_join(sessions::table.on(sessions::id.eq(ways_back::impersonation_id)));
    let ids: Vec<String> = open
        .filter(ways_back::kid.eq(kid))
        .filter(sessions::ended_at.is_null())
        .order(sessions::id)
        .select(sessions::id)
        .load(conn)
        .or_domain()?;
    ids.iter().map(|id| columns::session_id(id)).collect()
}

/// Closes every way back to a token that was signed with this key.
pub fn close_ways_back_of_key(conn: &mut Conn, kid: &str) -> Result<()> {
    diesel::delete(ways_back::table.filter(ways_back::kid.eq(kid))).execute(conn).or_domain()?;
    Ok(())
}

/// A refresh token as it is stored: by its hash alone.
#[derive(Debug, Clone)]
pub struct RefreshRow {
    pub session: SessionId,
    pub replaced_at: Option<Time>,
}

/// Adds a refresh token's hash.
pub fn insert_refresh_token(conn: &mut Conn, hash: &str, session: SessionId, expires_at: Time) -> Result<()> {
    diesel::insert_into(refresh_tokens::table)
        .values((
            refresh_tokens::hash.eq(hash),
            refresh_tokens::session_id.eq(session.to_string()),
            refresh_tokens::expires_at.eq(expires_at.naive_utc()),
        ))
        .execute(conn)
        .or_domain()?;
    Ok(())
}

/// The refresh token with this hash.
pub fn find_refresh_token(conn: &mut Conn, hash: &str) -> Result<Option<RefreshRow>> {
    let row: Option<(String, Option<NaiveDateTime>)> = refresh_tokens::table
        .find(hash)
        .select((refresh_tokens::session_id, refresh_tokens::replaced_at))
        .first(conn)
        .optional()
        .or_domain()?;
    row.map(|(session, replaced_at)| {
        Ok(RefreshRow { session: columns::session_id(&session)?, replaced_at: replaced_at.map(columns::time) })
    })
    .transpose()
}

/// Marks a refresh token as replaced.
pub fn replace_refresh_token(conn: &mut Conn, hash: &str, now: Time) -> Result<()> {
    diesel::update(refresh_tokens::table.find(hash))
        .set(refresh_tokens::replaced_at.eq(Some(now.naive_utc())))
        .execute(conn)
        .or_domain()?;
    Ok(())
}

/// Forgets what time has made useless: refresh tokens and ways back past their expiry, at most `limit` of each, and answers how many. No mutation.
pub fn forget_expired(conn: &mut Conn, now: Time, limit: i64) -> Result<usize> {
    let now = now.naive_utc();
    let hashes: Vec<String> = refresh_tokens::table
        .filter(refresh_tokens::expires_at.le(now))
        .order(refresh_tokens::expires_at)
        .limit(limit)
        .select(refresh_tokens::hash)
        .load(conn)
        .or_domain()?;
    let ids: Vec<String> = ways_back::table
        .filter(ways_back::expires_at.le(now))
        .order(ways_back::expires_at)
        .limit(limit)
        .select(ways_back::impersonation_id)
        .load(conn)
        .or_domain()?;
    let tokens = diesel::delete(refresh_tokens::table.filter(refresh_tokens::hash.eq_any(hashes))).execute(conn).or_domain()?;
    let ways = diesel::delete(ways_back::table.filter(ways_back::impersonation_id.eq_any(ids))).execute(conn).or_domain()?;
    Ok(tokens + ways)
}
