//! What every answer carries, and what is kept of it.

use std::future::{Ready, ready};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpMessage, HttpResponse, ResponseError};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use uuid::{Timestamp, Uuid};

use super::unread::Unread;
use crate::clock::Clock;
use crate::domain::text::is_sane_request_id;
use crate::http::connection::Watch;
use crate::http::extract::TrustedProxies;
use crate::http::metrics::Metrics;
use crate::http::oauth::Written;
use crate::http::problem::{PROBLEM_JSON, Problem, Result};
use crate::http::request::RequestInfo;
use crate::http::routing::Routes;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ACTAS_SUBJECT: HeaderName = HeaderName::from_static("actas-subject");
const ACTAS_ACTOR: HeaderName = HeaderName::from_static("actas-actor");

/// Answers of the API are data; nothing in them may run or be framed.
const CSP_API: &str = "default-src 'none'; frame-ancestors 'none'";
/// Swagger UI brings its own scripts and calls this server; it styles inline and draws from data URLs.
const CSP_DOCS: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                        font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The outermost layer. Gives every request its id and address ([`RequestInfo`]), every answer its id, its security
/// headers, `Cache-Control: no-store` under `/v1`, and under impersonation `Actas-Subject` and `Actas-Actor`; writes the
/// problem document of every error; counts and logs.
///
/// The log has one line a request: the id, whose it was, the route's template (never the path, the query or a header, which
/// may hold secrets), the status and the time it took.
#[derive(Debug, Clone)]
pub struct Answers {
    metrics: Arc<Metrics>,
    proxies: Arc<TrustedProxies>,
}

impl Answers {
    pub fn new(metrics: Arc<Metrics>, proxies: Arc<TrustedProxies>) -> Self {
        Self { metrics, proxies }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Answers
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Transform = AnswersService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(AnswersService { service, answers: self.clone() }))
    }
}

/// [`Answers`] at work.
pub struct AnswersService<S> {
    service: S,
    answers: Answers,
}

impl<S, B> Service<ServiceRequest> for AnswersService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    forward_ready!(service);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let unread = Unread::of(&mut request);
        let handling = Watch::handling(request.request());
        let exchange = Rc::new(Exchange::begin(&request, &self.answers));
        request.extensions_mut().insert(Rc::clone(&exchange.info));
        if request.method() == Method::HEAD {
            // Answered as GET is, without the body, which the connection leaves out by itself (RFC 9110 §9.3.2).
            request.head_mut().method = Method::GET;
        }
        // Of a handler that panics or overruns, only the error comes back; by then the route has to be found by the path.
        let routes = request.app_data::<Routes>().cloned();
        let work = self.service.call(request);
        async move {
            let _handling = handling;
            match work.await {
                Ok(response) => {
                    let route = response.request().match_pattern();
                    let (request, response) = response.into_parts();
                    let problem = problem_in(&response);
                    if let Some(problem) = &problem {
                        problem.report(exchange.info.id());
                    }
                    let response = exchange.dress(response, problem.as_ref());
                    exchange.record(route.as_deref(), response.status());
                    Ok(ServiceResponse::new(request, held(response, unread)))
                }
                Err(mut error) => {
                    let response = error.error_response();
                    let route = routes.as_ref().and_then(|routes| routes.template(&exchange.path));
                    if let Some(problem) = problem_in(&response) {
                        problem.report(exchange.info.id());
                        exchange.record(route, problem.status_code());
                    }
                    error.add_response_mapper(move |response| {
                        let problem = problem_in(&response);
                        held(exchange.dress(response, problem.as_ref()), unread.clone()).map_into_boxed_body()
                    });
                    Err(error)
                }
            }
        }
        .boxed_local()
    }
}

fn held<B: MessageBody + 'static>(response: HttpResponse<EitherBody<B>>, unread: Option<Unread>) -> HttpResponse<EitherBody<B>> {
    match unread {
        Some(unread) => unread.held_by(response),
        None => response,
    }
}

/// The problem that a response stands for, unless its document is written already.
fn problem_in<B>(response: &HttpResponse<B>) -> Option<Problem> {
    if let Some(problem) = response.extensions().get::<Problem>() {
        return Some(problem.clone());
    }
    if response.extensions().get::<Written>().is_some() {
        return None;
    }
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_written = || response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == PROBLEM_JSON);
    (is_error && !is_written()).then(|| Problem::of_bare_status(status))
}

/// A request as far as its answer and its log line need it.
struct Exchange {
    info: Rc<RequestInfo>,
    metrics: Arc<Metrics>,
    method: Method,
    path: String,
    started: Instant,
}

impl Exchange {
    fn begin(request: &ServiceRequest, answers: &Answers) -> Self {
        let given = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(|id| is_sane_request_id(id));
        let id = given.map_or_else(new_request_id, str::to_owned);
        let client_ip = answers.proxies.client_of(request.peer_addr().map(|peer| peer.ip()), request.headers());
        Self {
            info: Rc::new(RequestInfo::new(id, client_ip)),
            metrics: Arc::clone(&answers.metrics),
            method: request.method().clone(),
            path: request.path().to_owned(),
            started: Instant::now(),
        }
    }

    /// The response with everything that every answer carries, and with the document of its problem.
    fn dress<B>(&self, mut response: HttpResponse<B>, problem: Option<&Problem>) -> HttpResponse<EitherBody<B>> {
        if let Some(problem) = problem {
            *response.status_mut() = problem.status_code();
        }
        self.dress_headers(response.headers_mut());
        let Some(problem) = problem else { return response.map_into_left_body() };
        let headers = response.headers_mut();
        for (name, value) in problem.error_response().headers() {
            // A bare status came without them.
            if !headers.contains_key(name) {
                headers.insert(name.clone(), value.clone());
            }
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let document = serde_json::to_string(&problem.document(&self.path, self.info.id())).unwrap_or_default();
        response.map_body(|_, _| EitherBody::right(actix_web::body::BoxBody::new(document)))
    }

    fn dress_headers(&self, headers: &mut HeaderMap) {
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        set(REQUEST_ID, self.info.id());
        set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        set(header::X_FRAME_OPTIONS, "DENY");
        set(header::REFERRER_POLICY, "no-referrer");
        let is_docs = self.path == "/docs" || self.path.starts_with("/docs/");
        set(header::CONTENT_SECURITY_POLICY, if is_docs { CSP_DOCS } else { CSP_API });
        if self.path.starts_with("/v1/") {
            set(header::CACHE_CONTROL, "no-store");
        }
        // What the token endpoint gives is no answer to an impersonation's token.
        if let Some(identity) = self.info.identity().filter(|_| self.path.starts_with("/v1/"))
            && let (Some(subject), Some(actor)) = (identity.subject, identity.actor)
        {
            set(ACTAS_SUBJECT, &subject.to_string());
            set(ACTAS_ACTOR, &actor.to_string());
        }
    }

    fn record(&self, route: Option<&str>, status: StatusCode) {
        let duration = self.started.elapsed();
        self.metrics.request_answered(&self.method, route, status, duration);
        let identity = self.info.identity();
        tracing::info!(
            target: "actas::access",
            request_id = self.info.id(),
            subject = identity.and_then(|identity| identity.subject).map(display),
            client = identity.and_then(|identity| identity.client).map(display),
            actor = identity.and_then(|identity| identity.actor).map(display),
            impersonation_id = identity.and_then(|identity| identity.impersonation_id).map(display),
            route,
            method = self.method.as_str(),
            status = status.as_u16(),
            duration_ms = duration.as_secs_f64() * 1000.0,
            client_ip = %self.info.client_ip(),
            "answered"
        );
    }
}

/// A UUIDv7, so that ids sort by time in the log.
fn new_request_id() -> String {
    let now = Clock::system().now();
    let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
    Uuid::new_v7(Timestamp::from_unix(uuid::NoContext, seconds, now.timestamp_subsec_nanos())).to_string()
}
