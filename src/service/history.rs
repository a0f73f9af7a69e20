//! Reading the history. Writing it is part of every mutation, and of nothing else.

use super::articles::require_visible;
use crate::domain::error::{Error, Result};
use crate::domain::history::{Entry, HistoryFilter, ResourceType};
use crate::domain::identity::Ctx;
use crate::domain::ids::ArticleId;
use crate::domain::page::{Page, PageRequest, Seq};
use crate::domain::role::Permission;
use crate::store::{Conn, Lock, articles, entries};

/// The whole history, newest first.
pub fn list(conn: &mut Conn, filter: &HistoryFilter, page: &PageRequest<Seq>) -> Result<Page<Entry>> {
    entries::list(conn, filter, page)
}

/// An article's history, newest first. A deleted article's is still there for holders of `articles:read_all`.
///
/// # Errors
/// 404 for who may not know of the article; 403 `outside_grant` where the impersonation was started for others alone.
pub fn list_of_article(conn: &mut Conn, ctx: &Ctx, id: ArticleId, page: &PageRequest<Seq>) -> Result<Page<Entry>> {
    let caller = ctx.viewer()?;
    let is_visible = match articles::find(conn, id, Lock::None)? {
        Some(article) => {
            require_visible(ctx, &article)?;
            true
        }
        None => caller.holds(Permission::ArticlesReadAll) && entries::knows_article(conn, id)?,
    };
    if !is_visible {
        return Err(Error::not_found());
    }
    let filter =
        HistoryFilter { resource_type: Some(ResourceType::Article), resource_id: Some(id.to_string()), ..HistoryFilter::default() };
    entries::list(conn, &filter, page)
}
