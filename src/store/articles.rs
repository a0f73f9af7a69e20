//! The articles' rows.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp};

use super::columns::{self, Moment, NameRow, octet_length, required};
use super::conn::{Conn, Lock};
use super::error::OrDomain as _;
use super::schema::{articles, authors, editors, users};
use super::shared::Found;
use super::statement::{kept, on_either};
use super::{entries, presence};
use crate::domain::article::{Article, ArticleStatus};
use crate::domain::error::{Code, Error, Result};
use crate::domain::history::NewEntry;
use crate::domain::ids::{ArticleId, UserId};
use crate::domain::page::{Page, PageRequest};
use crate::domain::text::{Abstract, Body, SearchText, Title, fold};

#[derive(Queryable)]
pub(super) struct Row {
    id: String,
    title: String,
    abstract_: String,
    body: String,
    status: String,
    version: i64,
    created_at: NaiveDateTime,
    updated_at: NaiveDateTime,
    author: NameRow,
    editor: Option<NameRow>,
}

impl Row {
    pub fn into_article(self) -> Result<Article> {
        Ok(Article {
            id: columns::article_id(&self.id)?,
            title: Title::from_stored(self.title),
            r#abstract: Abstract::from_stored(self.abstract_),
            body: Body::from_stored(self.body),
            status: required("article status", ArticleStatus::parse(&self.status))?,
            author: columns::name(self.author)?,
            editor: self.editor.map(columns::name).transpose()?,
            version: self.version,
            created_at: columns::time(self.created_at),
            updated_at: columns::time(self.updated_at),
        })
    }
}

/// The articles with both their people, as every look-up reads them.
macro_rules! select_articles {
    () => {
        articles::table
            .inner_join(authors.on(authors.field(users::id).eq(articles::author_id)))
            .left_join(editors.on(editors.field(users::id).nullable().eq(articles::editor_id)))
            .select($crate::store::articles::article_columns!())
    };
}

/// What a [`Row`] is read from.
macro_rules! article_columns {
    () => {
        (
            articles::id,
            articles::title,
            articles::abstract_,
            articles::body,
            articles::status,
            articles::version,
            articles::created_at,
            articles::updated_at,
            authors.fields((users::id, users::email, users::display_name)),
            editors.fields((users::id, users::email, users::display_name)).nullable(),
        )
    };
}
pub(super) use article_columns;

pub(super) fn search_text(article: &Article) -> String {
    fold(&format!("{}\n{}", article.title, article.r#abstract))
}

pub(super) fn editor_id(article: &Article) -> Option<String> {
    article.editor.as_ref().map(|editor| editor.id.to_string())
}

/// Adds an article.
pub fn insert(conn: &mut Conn, article: &Article, entry: &NewEntry) -> Result<()> {
    entries::append(conn, entry)?;
    diesel::insert_into(articles::table)
        .values((
            articles::id.eq(article.id.to_string()),
            articles::title.eq(article.title.as_str()),
            articles::abstract_.eq(article.r#abstract.as_str()),
            articles::body.eq(article.body.as_str()),
            articles::search.eq(search_text(article)),
            articles::status.eq(article.status.as_str()),
            articles::author_id.eq(article.author.id.to_string()),
            articles::editor_id.eq(editor_id(article)),
            articles::version.eq(article.version),
            articles::created_at.eq(article.created_at.naive_utc()),
            articles::updated_at.eq(article.updated_at.naive_utc()),
        ))
        .execute(conn)
        .or_domain()?;
    Ok(())
}

/// Writes an article's text and version, and columns besides.
macro_rules! save {
    ($conn:expr, $article:expr, $entry:expr $(, $column:literal, $type:ty => $value:expr)*) => {{
        let (conn, article): (&mut Conn, &Article) = ($conn, $article);
        entries::append(conn, $entry)?;
        let changed = kept!(
            "UPDATE articles SET title = ", Text => article.title.as_str(),
            ", abstract = ", Text => article.r#abstract.as_str(),
            ", body = ", Text => article.body.as_str(),
            ", search = ", Text => search_text(article)
            $(, $column, $type => $value)*,
            ", version = ", BigInt => article.version,
            ", updated_at = ", Timestamp => Moment::from(article.updated_at),
            " WHERE id = ", Text => article.id.to_string(),
            " AND version = ", BigInt => article.version - 1, "",
        );
        require_one(on_either!(conn, conn => changed.execute(conn)).or_domain()?)
    }};
}

/// Writes `article`, whose version is one above the row's.
///
/// # Errors
/// 412 where the row has another version by now.
pub fn update(conn: &mut Conn, article: &Article, entry: &NewEntry) -> Result<()> {
    save!(conn, article, entry, ", status = ", Text => article.status.as_str(), ", editor_id = ", Nullable<Text> => editor_id(article))
}

/// As [`update`], for a change of the text alone of an article that was found in the same transaction: what it is now is remembered, with the names of its people.
/// SQLite writes every index anew whose columns are named, so those of status and editor stay as they are.
///
/// # Errors
/// As [`update`].
pub fn update_text(conn: &mut Conn, article: &Arc<Article>, entry: &NewEntry) -> Result<()> {
    save!(conn, article, entry)?;
    presence::wrote_here(article);
    Ok(())
}

/// Deletes `article`; `entry` is the deletion under the version after its last.
///
/// # Errors
/// 412 where the row has another version by now.
pub fn delete(conn: &mut Conn, article: &Article, entry: &NewEntry) -> Result<()> {
    entries::append(conn, entry)?;
    let row = articles::table.filter(articles::id.eq(article.id.to_string())).filter(articles::version.eq(article.version));
    require_one(diesel::delete(row).execute(conn).or_domain()?)
}

fn require_one(changed: usize) -> Result<()> {
    if changed == 1 { Ok(()) } else { Err(Error::new(Code::VersionMismatch, "the article was changed meanwhile")) }
}

/// Makes whoever else locks this article so wait until this transaction ends, whether it is there or was deleted. Before its row.
pub fn lock(conn: &mut Conn, id: ArticleId) -> Result<()> {
    conn.lock_name(ARTICLES_LOCK, &id.to_string())
}

/// Any number, another than every other kind's.
const ARTICLES_LOCK: i32 = 2;

/// The article with this id, locked as asked.
pub fn find(conn: &mut Conn, id: ArticleId, lock: Lock) -> Result<Option<Article>> {
    if let Some(known) = presence::article_here(id) {
        return Ok(Some(Arc::unwrap_or_clone(known)));
    }
    let id = id.to_string();
    if let (Conn::Postgres(conn), Lock::Update | Lock::Share) = (&mut *conn, lock) {
        // A row lock can't stand on the nullable side of a join, so the row is locked before it is read.
        let _: Option<String> = articles::table.find(&id).select(articles::id).for_no_key_update().first(conn).optional().or_domain()?;
    }
    let found = select_articles!().filter(articles::id.eq(id));
    let row: Option<Row> = on_either!(conn, conn => found.first(conn)).optional().or_domain()?;
    row.map(Row::into_article).transpose()
}

/// The version of the article with this id.
pub(super) fn version(conn: &mut Conn, id: ArticleId) -> Result<Option<i64>> {
    if let Some(known) = presence::article_here(id) {
        return Ok(Some(known.version));
    }
    let version = articles::table.find(id.to_string()).select(articles::version);
    on_either!(conn, conn => version.first(conn)).optional().or_domain()
}

/// The articles with these ids, each or nothing, in one select. Not locked.
pub(super) fn find_many(conn: &mut Conn, ids: &[ArticleId]) -> Result<Vec<Found<Arc<Article>>>> {
    let rows = select_articles!().filter(articles::id.eq_any(ids.iter().map(ToString::to_string).collect::<Vec<_>>()));
    let rows: Vec<Row> = on_either!(conn, conn => rows.load(conn)).or_domain()?;
    let found: HashMap<String, Result<Arc<Article>>> =
        rows.into_iter().map(|row| (row.id.clone(), row.into_article().map(Arc::new))).collect();
    Ok(ids.iter().map(|id| found.get(&id.to_string()).cloned().transpose()).collect())
}

/// Which articles a listing shows. All given conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct ArticleFilter {
    /// Only these.
    pub only: Option<Vec<ArticleId>>,
    /// Only what this user may see as author or editor; everything where none is given.
    pub visible_to: Option<UserId>,
    pub status: Option<ArticleStatus>,
    pub author: Option<UserId>,
    pub editor: Option<UserId>,
    /// Part of the title or of the abstract, in any case.
    pub q: Option<SearchText>,
}

/// One page of articles, newest first.
pub fn list(conn: &mut Conn, filter: &ArticleFilter, page: &PageRequest<ArticleId>) -> Result<Page<Article>> {
    let mut query = articles::table.into_boxed();
    if let Some(only) = &filter.only {
        query = query.filter(articles::id.eq_any(only.iter().map(ToString::to_string).collect::<Vec<_>>()));
    }
    if let Some(user) = filter.visible_to {
        let user = user.to_string();
        query = query.filter(articles::author_id.eq(user.clone()).or(articles::editor_id.assume_not_null().eq(user)));
    }
    if let Some(status) = filter.status {
        query = query.filter(articles::status.eq(status.as_str()));
    }
    if let Some(author) = filter.author {
        query = query.filter(articles::author_id.eq(author.to_string()));
    }
    if let Some(editor) = filter.editor {
        query = query.filter(articles::editor_id.eq(editor.to_string()));
    }
    if let Some(q) = &filter.q {
        query = query.filter(articles::search.like(columns::contains(q.as_str())).escape('\\'));
    }
    if let Some(after) = page.after {
        query = query.filter(articles::id.lt(after.to_string()));
    }
    // Which first, and how long they are; then what is in them.
    let keys: Vec<(String, i32)> = query
        .select((articles::id, octet_length(articles::body)))
        .order(articles::id.desc())
        .limit(page.limit.rows())
        .load(conn)
        .or_domain()?;
    let (chosen, has_more) = page.limit.fit(keys);
    let rows: Vec<Row> = select_articles!().filter(articles::id.eq_any(chosen)).order(articles::id.desc()).load(conn).or_domain()?;
    let items = rows.into_iter().map(Row::into_article).collect::<Result<Vec<_>>>()?;
    Ok(Page::from_chosen(items, has_more, |article| article.id))
}
