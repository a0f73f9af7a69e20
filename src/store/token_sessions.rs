//! The rows of tokens that the token endpoint gave: narrower ones, which hang on a session, and clients' own.

use chrono::NaiveDateTime;
use diesel::prelude::*;

use super::columns::{self, required};
use super::conn::{Conn, Lock};
use super::entries;
use super::error::OrDomain as _;
use super::schema::{client_sessions, clients, exchanged_sessions, keys};
use crate::domain::Time;
use crate::domain::client::{Audience, ClientId, ClientStatus};
use crate::domain::error::Result;
use crate::domain::history::NewEntry;
use crate::domain::ids::SessionId;
use crate::domain::scope::Scope;
use crate::domain::session::{ClientSession, Exchange, TokenTerms};
use crate::domain::text::DisplayName;

pub(super) fn write_audiences(audiences: &[Audience]) -> String {
    audiences.iter().map(Audience::as_str).collect::<Vec<_>>().join(" ")
}

pub(super) fn read_terms(client: &str, scope: &str, audience: &str) -> Result<TokenTerms> {
    Ok(TokenTerms {
        client: columns::client_id(client)?,
        scope: Scope::from_stored(scope),
        audiences: audience.split(' ').map(Audience::from_stored).collect(),
    })
}

/// Opens the session of a narrower token, which hangs on `session` and was made of a token by the key `source_kid`. The entry comes first.
pub fn insert_exchange(conn: &mut Conn, exchange: &Exchange, session: SessionId, source_kid: &str, entry: &NewEntry) -> Result<()> {
    entries::append(conn, entry)?;
    diesel::insert_into(exchanged_sessions::table)
        .values((
            exchanged_sessions::id.eq(exchange.id.to_string()),
            exchanged_sessions::session_id.eq(session.to_string()),
            exchanged_sessions::parent_id.eq(exchange.parent.map(|id| id.to_string())),
            exchanged_sessions::source_kid.eq(source_kid),
            exchanged_sessions::client_id.eq(exchange.terms.client.to_string()),
            exchanged_sessions::scope.eq(exchange.terms.scope.to_string()),
            exchanged_sessions::audience.eq(write_audiences(&exchange.terms.audiences)),
            exchanged_sessions::started_at.eq(exchange.started_at.naive_utc()),
            exchanged_sessions::expires_at.eq(exchange.expires_at.naive_utc()),
            exchanged_sessions::entry_id.eq(entry.id.to_string()),
        ))
        .execute(conn)
        .or_domain()?;
    Ok(())
}

/// Opens the session of a client's own token. The entry comes first.
pub fn insert_client_session(conn: &mut Conn, session: &ClientSession, entry: &NewEntry) -> Result<()> {
    entries::append(conn, entry)?;
    diesel::insert_into(client_sessions::table)
        .values((
            client_sessions::id.eq(session.id.to_string()),
            client_sessions::client_id.eq(session.terms.client.to_string()),
            client_sessions::scope.eq(session.terms.scope.to_string()),
            client_sessions::audience.eq(write_audiences(&session.terms.audiences)),
            client_sessions::started_at.eq(session.started_at.naive_utc()),
            client_sessions::expires_at.eq(session.expires_at.naive_utc()),
            client_sessions::entry_id.eq(entry.id.to_string()),
        ))
        .execute(conn)
        .or_domain()?;
    Ok(())
}

/// The exchanged session with this id, and the session on which it hangs. Locked as asked: its client before it, as everyone does, so that nothing is written
/// under it any more once its end, or its client's, has been answered. Its row is only ever shared: who ends it locks the session on which it hangs, or waits.
pub fn find_exchange(conn: &mut Conn, id: SessionId, lock: Lock) -> Result<Option<(Exchange, SessionId)>> {
    type Row = (String, Option<String>, String, String, String, NaiveDateTime, NaiveDateTime, Option<NaiveDateTime>, String);
    let id_text = id.to_string();
    if let (Conn::Postgres(conn), Lock::Share | Lock::Update) = (&mut *conn, lock) {
        let row = exchanged_sessions::table.filter(exchanged_sessions::id.eq(&id_text));
        let client: Option<String> = row.select(exchanged_sessions::client_id).first(conn).optional().or_domain()?;
        if let Some(client) = client {
            let client = clients::table.filter(clients::id.eq(client)).select(clients::id);
            let _: Option<String> = client.for_share().first(conn).optional().or_domain()?;
            let _: Option<String> = row.select(exchanged_sessions::id).for_share().first(conn).optional().or_domain()?;
        }
    }
    let row: Option<Row> = exchanged_sessions::table
        .inner_join(clients::table)
        .filter(exchanged_sessions::id.eq(&id_text))
        .select((
            exchanged_sessions::session_id,
            exchanged_sessions::parent_id,
            exchanged_sessions::client_id,
            exchanged_sessions::scope,
            exchanged_sessions::audience,
            exchanged_sessions::started_at,
            exchanged_sessions::expires_at,
            exchanged_sessions::ended_at,
            clients::status,
        ))
        .first(conn)
        .optional()
        .or_domain()?;
    row.map(|(session, parent, client, scope, audience, started_at, expires_at, ended_at, status)| {
        let exchange = Exchange {
            id,
            parent: parent.as_deref().map(columns::session_id).transpose()?,
            terms: read_terms(&client, &scope, &audience)?,
            started_at: columns::time(started_at),
            expires_at: columns::time(expires_at),
            ended_at: ended_at.map(columns::time),
            client_is_active: required("client status", ClientStatus::parse(&status))? == ClientStatus::Active,
        };
        Ok((exchange, columns::session_id(&session)?))
    })
    .transpose()
}

/// The exchanged session of whose token this one was made, if of one.
pub fn parent_of(conn: &mut Conn, id: SessionId) -> Result<Option<SessionId>> {
    let row = exchanged_sessions::table.filter(exchanged_sessions::id.eq(id.to_string())).select(exchanged_sessions::parent_id);
    let parent: Option<Option<String>> = row.first(conn).optional().or_domain()?;
    parent.flatten().as_deref().map(columns::session_id).transpose()
}

/// The session of a client's own token, and in the same select whether the key `kid`, which signed the token, is there and was not retired.
pub fn find_client_session(conn: &mut Conn, id: SessionId, kid: &str) -> Result<Option<(ClientSession, bool)>> {
    type Row = (String, String, String, NaiveDateTime, NaiveDateTime, Option<NaiveDateTime>, String, String, Option<bool>);
    let row: Option<Row> = client_sessions::table
        .inner_join(clients::table)
        .filter(client_sessions::id.eq(id.to_string()))
        .select((
            client_sessions::client_id,
            client_sessions::scope,
            client_sessions::audience,
            client_sessions::started_at,
            client_sessions::expires_at,
            client_sessions::ended_at,
            clients::status,
            clients::name,
            keys::table.find(kid).select(keys::retired_at.is_not_null()).single_value(),
        ))
        .first(conn)
        .optional()
        .or_domain()?;
    row.map(|(client, scope, audience, started_at, expires_at, ended_at, status, name, key_is_retired)| {
        let session = ClientSession {
            id,
            name: DisplayName::from_stored(name),
            terms: read_terms(&client, &scope, &audience)?,
            started_at: columns::time(started_at),
            expires_at: columns::time(expires_at),
            ended_at: ended_at.map(columns::time),
            client_is_active: required("client status", ClientStatus::parse(&status))? == ClientStatus::Active,
        };
        Ok((session, key_is_retired == Some(false)))
    })
    .transpose()
}

/// Ends an exchanged session and all that were made from its token, and from theirs. `false` where it is over already.
pub fn end_exchange(conn: &mut Conn, id: SessionId, now: Time) -> Result<bool> {
    let ended = end_exchanges(conn, vec![id.to_string()], now)?;
    Ok(ended > 0)
}

/// Ends every open token of a client that hangs on a session, and all that were made from them; and its own tokens. Answers how many.
pub fn end_all_of_client(conn: &mut Conn, client: ClientId, now: Time) -> Result<usize> {
    let client = client.to_string();
    let ids: Vec<String> = exchanged_sessions::table
        .filter(exchanged_sessions::client_id.eq(&client))
        .filter(exchanged_sessions::ended_at.is_null())
        .select(exchanged_sessions::id)
        .load(conn)
        .or_domain()?;
    let exchanged = end_exchanges(conn, ids, now)?;
    let own = client_sessions::table.filter(client_sessions::client_id.eq(&client)).filter(client_sessions::ended_at.is_null());
    let own = diesel::update(own).set(client_sessions::ended_at.eq(Some(now.naive_utc()))).execute(conn).or_domain()?;
    Ok(exchanged + own)
}

/// Ends every open exchanged session that was made of a token by this key, and all that were made from them: whoever had the key could have forged that token.
pub fn end_all_of_key(conn: &mut Conn, kid: &str, now: Time) -> Result<usize> {
    let ids: Vec<String> = exchanged_sessions::table
        .filter(exchanged_sessions::source_kid.eq(kid))
        .filter(exchanged_sessions::ended_at.is_null())
        .select(exchanged_sessions::id)
        .load(conn)
        .or_domain()?;
    end_exchanges(conn, ids, now)
}

/// One query a generation, not one a row.
fn end_exchanges(conn: &mut Conn, mut ids: Vec<String>, now: Time) -> Result<usize> {
    let mut ended = 0;
    while !ids.is_empty() {
        let mut next = Vec::new();
        for some in ids.chunks(500) {
            let rows = exchanged_sessions::table.filter(exchanged_sessions::id.eq_any(some)).filter(exchanged_sessions::ended_at.is_null());
            ended += diesel::update(rows).set(exchanged_sessions::ended_at.eq(Some(now.naive_utc()))).execute(conn).or_domain()?;
            let children: Vec<String> = exchanged_sessions::table
                .filter(exchanged_sessions::parent_id.eq_any(some))
                .filter(exchanged_sessions::ended_at.is_null())
                .select(exchanged_sessions::id)
                .load(conn)
                .or_domain()?;
            next.extend(children);
        }
        ids = next;
    }
    Ok(ended)
}

/// Ends a client's own token. `false` where it is over already.
pub fn end_client_session(conn: &mut Conn, id: SessionId, now: Time) -> Result<bool> {
    let row = client_sessions::table.filter(client_sessions::id.eq(id.to_string())).filter(client_sessions::ended_at.is_null());
    let ended = diesel::update(row).set(client_sessions::ended_at.eq(Some(now.naive_utc()))).execute(conn).or_domain()?;
    Ok(ended == 1)
}

/// Forgets tokens past their expiry, at most `limit` of each kind, and answers how many. No mutation: nothing accepts them any more.
pub fn forget_expired(conn: &mut Conn, now: Time, limit: i64) -> Result<usize> {
    let now = now.naive_utc();
    let exchanged: Vec<String> = exchanged_sessions::table
        .filter(exchanged_sessions::expires_at.le(now))
        .order(exchanged_sessions::expires_at)
        .limit(limit)
        .select(exchanged_sessions::id)
        .load(conn)
        .or_domain()?;
    let own: Vec<String> = client_sessions::table
        .filter(client_sessions::expires_at.le(now))
        .order(client_sessions::expires_at)
        .limit(limit)
        .select(client_sessions::id)
        .load(conn)
        .or_domain()?;
    let exchanged = diesel::delete(exchanged_sessions::table.filter(exchanged_sessions::id.eq_any(exchanged))).execute(conn).or_domain()?;
    let own = diesel::delete(client_sessions::table.filter(client_sessions::id.eq_any(own))).execute(conn).or_domain()?;
    Ok(exchanged + own)
}
