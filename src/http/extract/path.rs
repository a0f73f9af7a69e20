//! Ids in paths. In bodies and queries an id reads itself.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};

use crate::domain::client::ClientId;
use crate::domain::error::Error;
use crate::domain::ids::{ArticleId, EntryId, SessionId, UserId};
use crate::http::problem::Result;

/// An id that a caller can write.
pub trait WireId: Sized + 'static {
    /// The id with this spelling, if it is one.
    fn from_wire(text: &str) -> Option<Self>;
}

macro_rules! wire_ids {
    ($($id:ty),+) => { $(impl WireId for $id {
        fn from_wire(text: &str) -> Option<Self> { <$id>::parse(text) }
    })+ };
}
wire_ids!(UserId, ArticleId, SessionId, EntryId, ClientId);

/// The parameter `{id}` of the path, of which nothing is told yet.
pub struct PathId<Id>(Option<Id>);

impl<Id: WireId> PathId<Id> {
    /// The one of this request.
    pub fn of(request: &HttpRequest) -> Self {
        Self(request.match_info().get("id").and_then(Id::from_wire))
    }

    /// The id.
    ///
    /// # Errors
    /// 404 `not_found` for what is no id: nothing can have it.
    pub fn parse(self) -> Result<Id> {
        self.0.ok_or_else(|| Error::not_found().into())
    }
}

impl<Id: WireId> FromRequest for PathId<Id> {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self::of(request)))
    }
}
