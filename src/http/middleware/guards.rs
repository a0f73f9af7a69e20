//! What stops a request before its handler, and what stops a handler.

use std::any::Any;
use std::future::{Future, Ready, ready};
use std::panic::{self, AssertUnwindSafe};

use actix_web::HttpRequest;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use futures_util::FutureExt;
use futures_util::future::{CatchUnwind, Either, Map};

use crate::domain::error::Error;
use crate::http::extract::{check_query, declared_length, too_large};
use crate::http::problem::{Problem, Result};
use crate::http::request::{Bounded, Limits, RequestInfo};
use crate::http::routing::Routes;

/// Refuses, before anything else, a body that declares itself too large (413), at unknown addresses and without a token
/// too, and query parameters that an operation open to everybody doesn't know (400). Ends a handler that takes too long
/// (503 `overloaded`) or panics (500).
#[derive(Debug, Clone, Copy)]
pub struct Guards {
    limits: Limits,
}

impl Guards {
    pub fn new(limits: Limits) -> Self {
        Self { limits }
    }

    fn admit(&self, request: &HttpRequest) -> Result<()> {
        let limit = self.limits.body_bytes;
        if declared_length(request.headers()).is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit)) {
            return Err(too_large(limit));
        }
        // Where a token is needed, a stranger learns that first; the caller's extractor asks then.
        let is_open = || {
            let operation = request.app_data::<Routes>().and_then(|routes| routes.operation(request.method(), request.path()));
            operation.is_some_and(|operation| !operation.secured)
        };
        if !request.query_string().is_empty() && is_open() { check_query(request) } else { Ok(()) }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Guards
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Transform = GuardsService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(GuardsService { service, guards: *self }))
    }
}

/// [`Guards`] at work.
pub struct GuardsService<S> {
    service: S,
    guards: Guards,
}

type Answer<B> = Result<ServiceResponse<B>, actix_web::Error>;

/// What comes of work that may have panicked, and may be overdue.
type Outcome<B> = Option<std::thread::Result<Answer<B>>>;

type Work<F> = Bounded<CatchUnwind<AssertUnwindSafe<F>>>;

impl<S, B> Service<ServiceRequest> for GuardsService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    S::Future: Future<Output = Answer<B>>,
    B: MessageBody,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Future = Either<Ready<Answer<EitherBody<B>>>, Map<Work<S::Future>, fn(Outcome<B>) -> Answer<EitherBody<B>>>>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        if let Err(problem) = self.guards.admit(request.request()) {
            return Either::Left(ready(Ok(request.error_response(problem).map_into_right_body())));
        }
        let info = RequestInfo::of(request.request());
        // A handler may panic before its first await, and so here. Nothing that the future borrows is looked at again after a panic.
        match panic::catch_unwind(AssertUnwindSafe(|| self.service.call(request))) {
            Ok(work) => {
                let work = AssertUnwindSafe(work).catch_unwind();
                Either::Right(info.bound(self.guards.limits.handling_time, work).map(answer))
            }
            Err(panic) => Either::Left(ready(Err(panicked(panic.as_ref())))),
        }
    }
}

fn answer<B>(outcome: Outcome<B>) -> Answer<EitherBody<B>> {
    match outcome {
        Some(Ok(result)) => result.map(ServiceResponse::map_into_left_body),
        // The request is lost with the handler, so no response can be made here: the error finds its way out.
        Some(Err(panic)) => Err(panicked(panic.as_ref())),
        None => Err(Problem::from(Error::overloaded()).into()),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> actix_web::Error {
    Problem::from(Error::internal(format!("a panic: {}", message_of(panic)))).into()
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
