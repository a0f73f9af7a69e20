//! Who calls: the extractor that every route behind a token begins with, and what handlers do on the caller's behalf.

use std::future::Future;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};

use super::extract::{PathId, bearer_token, check_query};
use super::metrics::Metrics;
use super::problem::{Problem, Result};
use super::request::{LoggedIdentity, RequestInfo};
use crate::clock::Clock;
use crate::domain;
use crate::domain::Time;
use crate::domain::error::Error;
use crate::domain::identity::Ctx;
use crate::domain::ids::ArticleId;
use crate::domain::operation::Operation;
use crate::service::database::Conn;
use crate::service::{Caller, Client, Office, Presented, Tx};

/// What the handlers share.
#[derive(Clone)]
pub struct State {
    pub office: Arc<Office>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    /// The path of the public URL, under which a proxy may serve Actas; empty at the root.
    pub path_prefix: Arc<str>,
    /// The address by which clients reach Actas, without a slash at its end.
    pub public_url: Arc<str>,
}

impl State {
    /// An address for a `Location` header, as the outside sees it.
    pub fn location(&self, path: impl std::fmt::Display) -> String {
        format!("{}/v1/{path}", self.path_prefix)
    }
}

/// The shared state of a request.
pub(super) fn state_of(request: &HttpRequest) -> Result<web::Data<State>> {
    let state = request.app_data::<web::Data<State>>().cloned();
    state.ok_or_else(|| Problem::from(Error::internal("the app was put together without its state")))
}

/// The sender of a request, as far as it is known without a token.
pub struct Sender(pub Client);

impl Sender {
    fn of(request: &HttpRequest) -> Self {
        let info = RequestInfo::of(request);
        let agent = request.headers().get("user-agent").and_then(|value| value.to_str().ok());
        let user_agent = agent.map(|agent| agent.chars().take(200).collect());
        Self(Client { ip: info.client_ip(), user_agent, request_id: Some(info.id().to_owned()) })
    }
}

impl FromRequest for Sender {
    type Error = actix_web::Error;
    type Future = std::future::Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(Ok(Self::of(request)))
    }
}

/// What an operation is about, as far as its path says so.
pub trait About: 'static {
    /// The article that is looked up together with the caller's session.
    fn article(request: &HttpRequest) -> Option<ArticleId>;
}

/// Whatever it is about, it is looked up later, or is no article.
pub enum Anything {}

impl About for Anything {
    fn article(_: &HttpRequest) -> Option<ArticleId> {
        None
    }
}

/// The article whose id is the path's.
pub enum PathsArticle {}

impl About for PathsArticle {
    fn article(request: &HttpRequest) -> Option<ArticleId> {
        PathId::of(request).parse().ok()
    }
}

/// A caller who may make the operation `Op`: whose token and session count, and who holds what `Op` requires.
pub struct Authorized<Op, What = Anything> {
    pub state: web::Data<State>,
    pub caller: Caller,
    operation: PhantomData<fn() -> (Op, What)>,
}

impl<Op: Operation, What: About> Authorized<Op, What> {
    /// This instant. Later than the one at which the caller was admitted, if a body had to arrive in between.
    pub fn now(&self) -> Time {
        self.state.clock.now()
    }

    /// The caller at this instant.
    pub fn caller_now(&self) -> Caller {
        self.caller.at(self.now())
    }

    /// Runs a use case that only reads.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn, &Ctx) -> domain::error::Result<T> + Send + 'static,
    ) -> Result<T> {
        Ok(self.state.office.read(&self.caller, work).await?)
    }

    /// Runs a use case that writes. It may run more than once, if it loses a race.
    pub async fn write<T: Send + 'static>(&self, work: impl Fn(&mut Tx<'_>) -> domain::error::Result<T> + Send + 'static) -> Result<T> {
        Ok(self.state.office.write(&self.caller_now(), work).await?)
    }
}

impl<Op: Operation, What: About> FromRequest for Authorized<Op, What> {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Self::Error>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let state = state_of(&request)?;
            let now = state.clock.now();
            let mut presented = state.office.present(bearer_token(request.headers())?, now).await.map_err(Problem::from)?;
            presented.about = What::article(&request);
            note_identity(&request, &presented);
            let request_id = Some(RequestInfo::of(&request).id().to_owned());
            let caller = state.office.admit(presented, Op::REQUIREMENTS, now, request_id).await.map_err(Problem::from)?;
            check_query(&request)?;
            Ok(Self { state, caller, operation: PhantomData })
        })
    }
}

/// Tells the log whose request it is, before anything is permitted.
fn note_identity(request: &HttpRequest, presented: &Presented) {
    let claims = &presented.token.claims;
    let actor = claims.act.as_ref().map(|act| act.sub);
    let identity = LoggedIdentity {
        subject: claims.user(),
        client: Some(claims.client_id).filter(|client| !client.is_first_party()),
        actor,
        impersonation_id: actor.map(|_| claims.root_sid.unwrap_or(claims.sid)),
    };
    RequestInfo::of(request).identify(identity);
}

/// Someone with a token whose signature and claims hold, and of whose session nothing is known: for logging out, which also works with what is over.
pub struct Bearer {
    pub state: web::Data<State>,
    pub presented: Presented,
    pub client: Client,
}

impl Bearer {
    async fn of(request: &HttpRequest) -> Result<Self> {
        let state = state_of(request)?;
        let now = state.clock.now();
        let presented = state.office.present_to_log_out(bearer_token(request.headers())?, now).await?;
        note_identity(request, &presented);
        let Sender(client) = Sender::of(request);
        Ok(Self { state, presented, client })
    }
}

impl Deref for Bearer {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl FromRequest for Bearer {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Self::Error>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let bearer = Self::of(&request).await?;
            check_query(&request)?;
            Ok(bearer)
        })
    }
}
