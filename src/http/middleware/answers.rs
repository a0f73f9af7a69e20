//! What every answer carries, and what is kept of it.

use std::future::{self, Future, Ready};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, ResponseError};
use pin_project_lite::pin_project;

use super::unread::Unread;
use crate::clock::Clock;
use crate::http::connection::{Handling, Watch};
use crate::http::extract::TrustedProxies;
use crate::http::metrics::{Meter, Meters, Metrics};
use crate::http::oauth::Written;
use crate::http::problem::{PROBLEM_JSON, Problem, Result};
use crate::http::request::{RequestId, RequestIds, RequestInfo};
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
#[derive(Clone)]
pub struct Answers {
    metrics: Arc<Metrics>,
    proxies: Arc<TrustedProxies>,
    routes: Routes,
}

impl Answers {
    pub fn new(metrics: Arc<Metrics>, proxies: Arc<TrustedProxies>, routes: Routes) -> Self {
        Self { metrics, proxies, routes }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Answers
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Transform = AnswersService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        let desk = Desk {
            meters: Meters::new(Arc::clone(&self.metrics)),
            proxies: Arc::clone(&self.proxies),
            routes: self.routes.clone(),
            clock: Clock::system(),
            ids: RequestIds::default(),
        };
        future::ready(Ok(AnswersService { service, desk: Rc::new(desk) }))
    }
}

/// [`Answers`] at work.
pub struct AnswersService<S> {
    service: S,
    desk: Rc<Desk>,
}

/// What the exchanges of one thread share.
struct Desk {
    meters: Meters,
    proxies: Arc<TrustedProxies>,
    routes: Routes,
    clock: Clock,
    ids: RequestIds,
}

impl<S, B> Service<ServiceRequest> for AnswersService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Future = Answering<S::Future>;

    forward_ready!(service);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let unread = Unread::of(&mut request);
        let handling = Watch::handling(request.request());
        let exchange = Exchange::begin(&request, &self.desk);
        request.extensions_mut().insert(Rc::clone(&exchange.info));
        if request.method() == Method::HEAD {
            // Answered as GET is, without the body, which the connection leaves out by itself (RFC 9110 §9.3.2).
            request.head_mut().method = Method::GET;
        }
        Answering { work: self.service.call(request), rest: Some((exchange, unread, handling)) }
    }
}

pin_project! {
    /// An answer in the making. It is a future of its own, and neither are those of the other layers boxed, because a request would pay for each box.
    pub struct Answering<F> {
        #[pin]
        work: F,
        rest: Option<(Exchange, Option<Unread>, Option<Handling>)>,
    }
}

impl<F, B> Future for Answering<F>
where
    F: Future<Output = Result<ServiceResponse<B>, actix_web::Error>>,
    B: MessageBody + 'static,
{
    type Output = Result<ServiceResponse<EitherBody<B>>, actix_web::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.work.poll(context));
        // Nobody asks for what was given already.
        let Some((exchange, unread, _handling)) = this.rest.take() else { return Poll::Pending };
        Poll::Ready(match result {
            Ok(response) => {
                let (request, response) = response.into_parts();
                let meter = exchange.meter_of(&request);
                let problem = problem_in(&response);
                if let Some(problem) = &problem {
                    problem.report(exchange.info.id());
                }
                let response = exchange.dress(response, problem.as_ref());
                exchange.record(&meter, response.status());
                Ok(ServiceResponse::new(request, held(response, unread)))
            }
            // Of a handler that panics or overruns, only the error comes back; the route has to be found by the path.
            Err(mut error) => {
                let response = error.error_response();
                if let Some(problem) = problem_in(&response) {
                    problem.report(exchange.info.id());
                    let meter = exchange.desk.meters.of_template(exchange.desk.routes.template(&exchange.path));
                    exchange.record(&meter, problem.status_code());
                }
                error.add_response_mapper(move |response| {
                    let problem = problem_in(&response);
                    held(exchange.dress(response, problem.as_ref()), unread.clone()).map_into_boxed_body()
                });
                Err(error)
            }
        })
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
    desk: Rc<Desk>,
    method: Method,
    path: String,
    started: Instant,
}

impl Exchange {
    fn begin(request: &ServiceRequest, desk: &Rc<Desk>) -> Self {
        let given = request.headers().get(REQUEST_ID).and_then(|id| RequestId::given(id.to_str().ok()?));
        let id = given.unwrap_or_else(|| desk.ids.next(desk.clock.now()));
        let client_ip = desk.proxies.client_of(request.peer_addr().map(|peer| peer.ip()), request.headers());
        Self {
            info: Rc::new(RequestInfo::new(id, client_ip)),
            desk: Rc::clone(desk),
            method: request.method().clone(),
            path: request.path().to_owned(),
            started: Instant::now(),
        }
    }

    /// Where a request is counted: at the route that answered it, or would have answered another method.
    fn meter_of(&self, request: &HttpRequest) -> Rc<Meter> {
        match request.match_name() {
            Some(name) => self.desk.meters.of_name(name, || request.match_pattern()),
            None => self.desk.meters.of_template(request.match_pattern().as_deref()),
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
        let is_api = self.path.starts_with("/v1/");
        // What the token endpoint gives is no answer to an impersonation's token.
        if let Some(identity) = self.info.identity().filter(|_| is_api)
            && let (Some(subject), Some(actor)) = (identity.subject, identity.actor)
        {
            set(ACTAS_SUBJECT, &subject.to_string());
            set(ACTAS_ACTOR, &actor.to_string());
        }
        let mut set = |name: HeaderName, value: &'static str| drop(headers.insert(name, HeaderValue::from_static(value)));
        set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        set(header::X_FRAME_OPTIONS, "DENY");
        set(header::REFERRER_POLICY, "no-referrer");
        let is_docs = self.path == "/docs" || self.path.starts_with("/docs/");
        set(header::CONTENT_SECURITY_POLICY, if is_docs { CSP_DOCS } else { CSP_API });
        if is_api {
            set(header::CACHE_CONTROL, "no-store");
        }
    }

    fn record(&self, meter: &Meter, status: StatusCode) {
        let duration = self.started.elapsed();
        meter.request_answered(&self.method, status, duration);
        let identity = self.info.identity();
        tracing::info!(
            target: "actas::access",
            request_id = self.info.id(),
            subject = identity.and_then(|identity| identity.subject).map(display),
            client = identity.and_then(|identity| identity.client).map(display),
            actor = identity.and_then(|identity| identity.actor).map(display),
            impersonation_id = identity.and_then(|identity| identity.impersonation_id).map(display),
            route = meter.template(),
            method = self.method.as_str(),
            status = status.as_u16(),
            duration_ms = duration.as_secs_f64() * 1000.0,
            client_ip = %self.info.client_ip(),
            "answered"
        );
    }
}
