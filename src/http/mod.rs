//! Floor 3: the REST API. Wire structs, extractors and routes over the use cases of the service floor.
//!
//! A request passes, outermost first: [`middleware::Answers`] (its id; what every answer carries; log and metrics), CORS,
//! [`middleware::Guards`] (declared length, query, handling time, panics), the router, the handler. A handler's extractors
//! of *input* ([`extract::Body`], [`extract::Query`], [`extract::PathId`], [`extract::IfMatch`]) never fail by themselves:
//! it reads them after its caller is known and permitted, so that a stranger learns 401 and not what a body should look like.
//!
//! **Architecture Invariant:** every error answer is a [`problem::ProblemDocument`], whoever made it: the handler, an
//! extractor, actix, a time limit or a panic. The OAuth endpoints ([`oauth`]) refuse in the words of RFC 6749 §5.2 what a client can get wrong there.

pub mod answer;
pub mod app;
pub mod assembly;
pub mod caller;
mod connection;
pub mod document;
pub mod extract;
pub mod metrics;
pub mod middleware;
pub mod oauth;
pub mod problem;
pub mod request;
pub mod routes;
pub mod routing;
pub mod server;
pub mod wire;

#[cfg(test)]
mod tests;
