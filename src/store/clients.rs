//! The clients' rows. Of a secret only the hash is ever here.

use chrono::NaiveDateTime;
use diesel::prelude::*;

use super::columns::{self, required};
use super::conn::{Conn, Lock};
use super::entries;
use super::error::OrDomain as _;
use super::schema::clients;
use crate::domain::Time;
use crate::domain::client::{Audience, Client, ClientGrant, ClientId, ClientStatus, ClientTerms};
use crate::domain::error::{Code, Error, Result};
use crate::domain::history::NewEntry;
use crate::domain::page::{Page, PageRequest};
use crate::domain::scope::Scope;
use crate::domain::text::DisplayName;

type Columns = (
    clients::id,
    clients::name,
    clients::status,
    clients::grants,
    clients::scope,
    clients::audiences,
    clients::presenters,
    clients::version,
    clients::created_at,
    clients::updated_at,
);

const COLUMNS: Columns = (
    clients::id,
    clients::name,
    clients::status,
    clients::grants,
    clients::scope,
    clients::audiences,
    clients::presenters,
    clients::version,
    clients::created_at,
    clients::updated_at,
);

#[derive(Queryable)]
struct Row {
    id: String,
    name: String,
    status: String,
    grants: String,
    scope: String,
    audiences: String,
    presenters: String,
    version: i64,
    created_at: NaiveDateTime,
    updated_at: NaiveDateTime,
}

impl Row {
    fn into_client(self) -> Result<Client> {
        Ok(Client {
            id: columns::client_id(&self.id)?,
            terms: ClientTerms {
                name: DisplayName::from_stored(self.name),
                status: required("client status", ClientStatus::parse(&self.status))?,
                // A grant that a newer version gave is none here.
                grants: words(&self.grants).filter_map(ClientGrant::parse).collect(),
                scope: Scope::from_stored(&self.scope),
                audiences: words(&self.audiences).map(Audience::from_stored).collect(),
                presenters: words(&self.presenters).map(columns::client_id).collect::<Result<_>>()?,
            },
            version: self.version,
            created_at: columns::time(self.created_at),
            updated_at: columns::time(self.updated_at),
        })
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| !word.is_empty())
}

fn joined<T: std::fmt::Display>(words: &[T]) -> String {
    words.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// A client's secrets, by their hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretHashes {
    pub current: Option<String>,
    /// The one before, and when its time is over.
    pub old: Option<(String, Time)>,
}

/// Adds a client. The first-party client has no secret.
pub fn insert(conn: &mut Conn, client: &Client, secret_hash: Option<&str>, entry: &NewEntry) -> Result<()> {
    entries::append(conn, entry)?;
    let terms = &client.terms;
    diesel::insert_into(clients::table)
        .values((
            clients::id.eq(client.id.to_string()),
            clients::name.eq(terms.name.as_str()),
            clients::status.eq(terms.status.as_str()),
            clients::secret_hash.eq(secret_hash),
            clients::grants.eq(joined(&terms.grants)),
            clients::scope.eq(terms.scope.to_string()),
            clients::audiences.eq(joined(&terms.audiences)),
            clients::presenters.eq(joined(&terms.presenters)),
            clients::version.eq(client.version),
            clients::created_at.eq(client.created_at.naive_utc()),
            clients::updated_at.eq(client.updated_at.naive_utc()),
            clients::entry_id.eq(entry.id.to_string()),
        ))
        .execute(conn)
        .or_domain()?;
    Ok(())
}

/// Writes `client`, whose version is one above the row's. Its secret stays.
///
/// # Errors
/// 412 where the row has another version by now.
pub fn update(conn: &mut Conn, client: &Client, entry: &NewEntry) -> Result<()> {
    entries::append(conn, entry)?;
    let terms = &client.terms;
    let row = clients::table.filter(clients::id.eq(client.id.to_string())).filter(clients::version.eq(client.version - 1));
    let changed = diesel::update(row)
        .set((
            clients::name.eq(terms.name.as_str()),
            clients::status.eq(terms.status.as_str()),
            clients::grants.eq(joined(&terms.grants)),
            clients::scope.eq(terms.scope.to_string()),
            clients::audiences.eq(joined(&terms.audiences)),
            clients::presenters.eq(joined(&terms.presenters)),
            clients::version.eq(client.version),
            clients::updated_at.eq(client.updated_at.naive_utc()),
            clients::entry_id.eq(entry.id.to_string()),
        ))
        .execute(conn)
        .or_domain()?;
    if changed == 1 { Ok(()) } else { Err(changed_meanwhile()) }
}

fn changed_meanwhile() -> Error {
    Error::new(Code::VersionMismatch, "the client was changed meanwhile")
}

/// Replaces the secret of `client`, whose version is one above the row's.
///
/// # Errors
/// As [`update`].
pub fn set_secret(conn: &mut Conn, client: &Client, secrets: &SecretHashes, entry: &NewEntry) -> Result<()> {
    entries::append(conn, entry)?;
    let row = clients::table.filter(clients::id.eq(client.id.to_string())).filter(clients::version.eq(client.version - 1));
    let changed = diesel::update(row)
        .set((
            clients::secret_hash.eq(secrets.current.as_deref()),
            clients::old_secret_hash.eq(secrets.old.as_ref().map(|(hash, _)| hash.as_str())),
            clients::old_secret_expires_at.eq(secrets.old.as_ref().map(|(_, until)| until.naive_utc())),
            clients::version.eq(client.version),
            clients::updated_at.eq(client.updated_at.naive_utc()),
            clients::entry_id.eq(entry.id.to_string()),
        ))
        .execute(conn)
        .or_domain()?;
    if changed == 1 { Ok(()) } else { Err(changed_meanwhile()) }
}

/// The client with this id, locked as asked.
pub fn find(conn: &mut Conn, id: ClientId, lock: Lock) -> Result<Option<Client>> {
    let query = clients::table.find(id.to_string()).select(COLUMNS);
    let row: Option<Row> = match (conn, lock) {
        (Conn::Postgres(conn), Lock::Share) => query.for_share().first(conn).optional().or_domain()?,
        (Conn::Postgres(conn), Lock::Update) => query.for_no_key_update().first(conn).optional().or_domain()?,
        (conn, _) => query.first(conn).optional().or_domain()?,
    };
    row.map(Row::into_client).transpose()
}

/// The hashes of a client's secrets.
pub fn secrets(conn: &mut Conn, id: ClientId) -> Result<SecretHashes> {
    type SecretRow = (Option<String>, Option<String>, Option<NaiveDateTime>);
    let row: Option<SecretRow> = clients::table
        .find(id.to_string())
        .select((clients::secret_hash, clients::old_secret_hash, clients::old_secret_expires_at))
        .first(conn)
        .optional()
        .or_domain()?;
    Ok(row.map_or_else(SecretHashes::default, |(current, old, until)| SecretHashes {
        current,
        old: old.zip(until).map(|(hash, until)| (hash, columns::time(until))),
    }))
}

/// One page of the clients, newest first; the first-party client is before all of them.
pub fn list(conn: &mut Conn, page: &PageRequest<ClientId>) -> Result<Page<Client>> {
    let mut query = clients::table.select(COLUMNS).into_boxed();
    if let Some(after) = page.after {
        query = query.filter(clients::id.lt(after.to_string()));
    }
    let rows: Vec<Row> = query.order(clients::id.desc()).limit(page.limit.rows()).load(conn).or_domain()?;
    let items = rows.into_iter().map(Row::into_client).collect::<Result<Vec<_>>>()?;
    Ok(Page::from_rows(items, page.limit, |client| client.id))
}
