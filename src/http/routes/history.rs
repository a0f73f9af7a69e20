//! The history, of one article and of everything.

use actix_web::{HttpRequest, HttpResponse, get};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::IntoParams;

use super::me::Paging;
use crate::domain::Time;
use crate::domain::history::{EntryAction, HistoryFilter, ResourceType};
use crate::domain::ids::{ArticleId, SessionId, UserId};
use crate::domain::operation::{ListArticleHistory, ListHistory};
use crate::http::answer::{listed, page_request};
use crate::http::caller::Authorized;
use crate::http::extract::{Checked, PathId, Query};
use crate::http::problem::Result;
use crate::http::wire::{Entry, EntryPage};
use crate::service::history;

/// List an article's history
///
/// Newest first. What was done under impersonation names both, and says so in `note`.
#[utoipa::path(
    tag = "history",
    params(("id" = uuid::Uuid, Path, description = "The article"), Paging),
    security(("bearer" = [])),
    responses((status = 200, description = "Entries, newest first", body = EntryPage)),
)]
#[get("/v1/articles/{id}/history")]
pub async fn list_article_history(
    auth: Authorized<ListArticleHistory>,
    id: PathId<ArticleId>,
    query: Query<Paging>,
    request: HttpRequest,
) -> Result<HttpResponse> {
    let (id, Paging { limit, cursor }) = (id.parse()?, query.parse()?);
    let page = page_request(limit, cursor.as_deref())?;
    let found = auth.read(move |conn, ctx| history::list_of_article(conn, ctx, id, &page)).await?;
    Ok(listed(&EntryPage::from(found.map(Entry::from)), request.query_string()))
}

/// Which entries. All given conditions must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// As whom it was done.
    #[param(value_type = Option<uuid::Uuid>)]
    subject: Option<UserId>,
    /// Who really did it, under impersonation.
    #[param(value_type = Option<uuid::Uuid>)]
    actor: Option<UserId>,
    /// Only what was done under impersonation, or only what was not.
    impersonated: Option<bool>,
    /// What was done in this impersonation.
    #[param(value_type = Option<uuid::Uuid>)]
    impersonation: Option<SessionId>,
    /// About things of this kind.
    resource_type: Option<ResourceType>,
    /// About the thing with this id.
    resource_id: Option<String>,
    /// What was done.
    action: Option<EntryAction>,
    /// RFC 3339; inclusive.
    #[param(format = DateTime)]
    from: Option<String>,
    /// RFC 3339; exclusive.
    #[param(format = DateTime)]
    to: Option<String>,
    /// How many items at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
}

/// An instant in a parameter. Rounded up to the microseconds that entries have, which changes no comparison with them.
fn instant(text: &str) -> Result<Time, (&'static str, &'static str)> {
    let refusal = ("invalid_time", "must be an RFC 3339 date and time with an offset, such as 2026-11-23T09:00:00Z");
    let time = DateTime::parse_from_rfc3339(text).map_err(|_| refusal)?.with_timezone(&Utc);
    let is_writable = |time: &Time| (1..=9999).contains(&chrono::Datelike::year(time));
    if !is_writable(&time) {
        return Err(refusal);
    }
    // By hand: chrono rounds only what fits in 64 bits of nanoseconds, which ends in 2262.
    let beyond = i64::from(time.timestamp_subsec_nanos() % 1000);
    let down = time - chrono::Duration::nanoseconds(beyond);
    let up = down + chrono::Duration::microseconds(i64::from(beyond > 0));
    Ok(if is_writable(&up) { up } else { down })
}

/// List the whole history
///
/// Newest first.
#[utoipa::path(
    tag = "history",
    params(HistoryQuery),
    security(("bearer" = [])),
    responses((status = 200, description = "Entries, newest first", body = EntryPage)),
)]
#[get("/v1/history")]
pub async fn list_history(auth: Authorized<ListHistory>, query: Query<HistoryQuery>, request: HttpRequest) -> Result<HttpResponse> {
    let query = query.parse()?;
    let page = page_request(query.limit, query.cursor.as_deref())?;
    let mut checked = Checked::new();
    let from = checked.optional("from", query.from.as_deref().map(instant));
    let to = checked.optional("to", query.to.as_deref().map(instant));
    let filter = HistoryFilter {
        subject: query.subject,
        actor: query.actor,
        impersonated: query.impersonated,
        impersonation: query.impersonation,
        resource_type: query.resource_type,
        resource_id: query.resource_id,
        action: query.action,
        from,
        to,
    };
    let filter = checked.finish(|| Some(filter))?;
    let found = auth.read(move |conn, _| history::list(conn, &filter, &page)).await?;
    Ok(listed(&EntryPage::from(found.map(Entry::from)), request.query_string()))
}
