//! Which pages of other origins may call.

use std::rc::Rc;

use actix_cors::Cors as ActixCors;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, Map};

/// How long, in seconds, a browser may keep a preflight's answer. Chromium keeps none for longer than two hours.
const MAX_AGE: usize = 7200;

/// The origins whose pages may read our answers.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    /// Exact origins, as browsers write them: `https://app.example.org`, with a port unless it is the scheme's own.
    pub exact: Vec<String>,
    /// Any page of the browser's own machine: `localhost`, `127.0.0.1` and `[::1]`, on any port. For the demo.
    pub any_localhost: bool,
}

/// What a page may read of an answer. By name: `*` covers neither an `Actas-*` nor, in requests with credentials, anything.
const EXPOSED: &str = "etag, link, location, x-request-id, retry-after, www-authenticate, actas-subject, actas-actor";

/// What an answer depends on beside its address, so that no cache mistakes one for another.
const VARY: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

/// The CORS layer for these origins. Other origins are served, for a server can't tell a page from a script, but without
/// the headers that would let a page read the answer.
///
/// Credentials are not allowed: tokens travel in `Authorization`, and there are no cookies to send.
pub fn cors(origins: &Origins) -> Cors {
    let cors = ActixCors::default()
        .allowed_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allowed_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::IF_MATCH])
        .allowed_header("x-request-id")
        .expose_headers(EXPOSED.split(", "))
        .max_age(MAX_AGE)
        .block_on_origin_mismatch(false);
    let cors = origins.exact.iter().fold(cors, |cors, origin| cors.allowed_origin(origin));
    let cors = if origins.any_localhost { cors.allowed_origin_fn(|origin, _| is_localhost(origin)) } else { cors };
    Cors(cors)
}

/// The layer that [`cors`] makes: actix's, and a way around it for requests in which it has nothing to decide. Those come from no page, which
/// is most of them, and get the headers that actix gives them.
pub struct Cors(ActixCors);

impl<S, B> Transform<S, ServiceRequest> for Cors
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Transform = CorsService<S, <ActixCors as Transform<Rc<S>, ServiceRequest>>::Transform>;
    type InitError = ();
    type Future = LocalBoxFuture<'static, Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        let service = Rc::new(service);
        let deciding = self.0.new_transform(Rc::clone(&service));
        async move { Ok(CorsService { service, deciding: deciding.await? }) }.boxed_local()
    }
}

/// [`Cors`] at work.
pub struct CorsService<S, C> {
    service: Rc<S>,
    /// The same service, with actix's layer around it.
    deciding: C,
}

type Answer<B> = Result<ServiceResponse<B>, actix_web::Error>;

impl<S, C, B> Service<ServiceRequest> for CorsService<S, C>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    C: Service<ServiceRequest, Response = ServiceResponse<EitherBody<B>>, Error = actix_web::Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Future = Either<C::Future, Map<S::Future, fn(Answer<B>) -> Answer<EitherBody<B>>>>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        // A preflight is an OPTIONS.
        if request.method() == Method::OPTIONS || request.headers().contains_key(header::ORIGIN) {
            Either::Left(self.deciding.call(request))
        } else {
            Either::Right(self.service.call(request).map(undecided))
        }
    }
}

fn undecided<B>(answer: Answer<B>) -> Answer<EitherBody<B>> {
    match answer {
        Ok(mut response) => {
            tell_caches(response.headers_mut());
            Ok(response.map_into_left_body())
        }
        Err(mut error) => {
            error.add_response_mapper(|mut response| {
                tell_caches(response.headers_mut());
                response
            });
            Err(error)
        }
    }
}

/// What actix's layer adds to every answer: a page of another origin may be given it by a cache.
fn tell_caches(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    let more = headers.get(header::VARY).and_then(|known| HeaderValue::from_str(&format!("{}, {VARY}", known.to_str().ok()?)).ok());
    headers.insert(header::VARY, more.unwrap_or(HeaderValue::from_static(VARY)));
}

fn is_localhost(origin: &HeaderValue) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let Some(rest) = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) else { return false };
    let port = ["localhost", "127.0.0.1", "[::1]"].iter().find_map(|host| rest.strip_prefix(host));
    port.is_some_and(|port| port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use actix_web::test::{TestRequest, call_service, init_service};
    use actix_web::{App, HttpResponse, web};

    use super::*;

    /// The headers of an answer, those that are sets as sets.
    fn told(headers: &HeaderMap) -> BTreeSet<(String, BTreeSet<String>)> {
        let parts = |value: &HeaderValue| value.to_str().unwrap().split(", ").map(str::to_owned).collect();
        headers.iter().map(|(name, value)| (name.to_string(), parts(value))).collect()
    }

    #[actix_web::test]
    async fn the_way_around_adds_what_the_layer_adds() {
        let answer = || async { HttpResponse::Ok().insert_header((header::VARY, "Accept")).finish() };
        let plain = || async { Err::<HttpResponse, _>(actix_web::error::ErrorConflict("no")) };
        let app = || App::new().route("/", web::get().to(answer)).route("/fails", web::get().to(plain));
        let origins = Origins { exact: vec!["https://app.example.org".to_owned()], any_localhost: false };
        let around = init_service(app().wrap(cors(&origins))).await;
        let through = init_service(app().wrap(cors(&origins).0)).await;
        for path in ["/", "/fails", "/unknown"] {
            for origin in [None, Some("https://app.example.org"), Some("https://evil.example.org")] {
                let request = || {
                    let request = TestRequest::get().uri(path);
                    origin.into_iter().fold(request, |request, origin| request.insert_header((header::ORIGIN, origin))).to_request()
                };
                let (one, other) = (call_service(&around, request()).await, call_service(&through, request()).await);
                assert_eq!(one.status(), other.status());
                assert_eq!(told(one.headers()), told(other.headers()), "{path} {origin:?}");
            }
        }
    }

    #[test]
    fn localhost_is_no_prefix() {
        for origin in ["http://localhost", "http://localhost:5173", "https://127.0.0.1:8443", "http://[::1]:3000"] {
            assert!(is_localhost(&HeaderValue::from_static(origin)), "{origin}");
        }
        for origin in [
            "http://localhost.evil.org",
            "http://localhost:80.evil.org",
            "http://evil.org",
            "null",
            "http://127.0.0.10",
            "file://localhost",
        ] {
            assert!(!is_localhost(&HeaderValue::from_static(origin)), "{origin}");
        }
    }
}
