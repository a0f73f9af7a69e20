//! What the OpenAPI document says about an address: which methods it knows, which parameters each takes, and whether it
//! needs a token.
//!
//! actix's macro routes make a wrong method look like a wrong address (actix-web #2735). The document is made from the same
//! routes, so it can tell the two apart.

use std::collections::HashSet;
use std::rc::Rc;

use actix_web::dev::ResourceDef;
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use utoipa::openapi::path::{Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::{OpenApi, RefOr, SecurityRequirement};

use super::problem::Problem;
use crate::domain::error::{Code, Error};

/// The document's operations, found by path and method. Cheap to clone.
#[derive(Clone)]
pub struct Routes(Rc<[Address]>);

struct Address {
    template: ResourceDef,
    operations: Vec<(Method, OperationFacts)>,
}

/// What is to be known of an operation before its handler runs.
#[derive(Debug, Clone, Default)]
pub(super) struct OperationFacts {
    /// The names of its query parameters.
    pub(super) parameters: HashSet<String>,
    /// Whether it needs a token.
    pub(super) secured: bool,
}

impl Routes {
    pub fn of(document: &OpenApi) -> Self {
        let address = |(path, item): (&String, &PathItem)| Address {
            template: ResourceDef::new(path.as_str()),
            operations: operations(item)
                .map(|(method, operation)| {
                    let parameters = query_parameters(item.parameters.as_deref()).chain(query_parameters(operation.parameters.as_deref()));
                    let security = operation.security.as_deref().or(document.security.as_deref());
                    (method, OperationFacts { parameters: parameters.collect(), secured: is_secured(security) })
                })
                .collect(),
        };
        Self(document.paths.paths.iter().map(address).collect())
    }

    fn at<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a Address> {
        self.0.iter().filter(move |address| address.template.is_match(path))
    }

    /// The operation that answers this method at this path.
    pub(super) fn operation(&self, method: &Method, path: &str) -> Option<&OperationFacts> {
        self.at(path).flat_map(|address| &address.operations).find(|(known, _)| known == method).map(|(_, facts)| facts)
    }

    /// The template of this path, such as `/v1/users/{id}`.
    pub(super) fn template(&self, path: &str) -> Option<&str> {
        self.at(path).find_map(|address| address.template.pattern())
    }

    /// The refusal of a request that no route answers: 405 `method_not_allowed` with `Allow` where the address knows other
    /// methods, else 404 `not_found`.
    fn refusal(&self, path: &str) -> Problem {
        let mut methods: Vec<_> = self.at(path).flat_map(|address| &address.operations).map(|(method, _)| method.as_str()).collect();
        if methods.contains(&Method::GET.as_str()) {
            methods.push(Method::HEAD.as_str());
        }
        methods.sort_unstable();
        methods.dedup();
        let allow = methods.join(", ");
        match HeaderValue::from_str(&allow) {
            Ok(allow_header) if !allow.is_empty() => {
                let detail = format!("this address knows only: {allow}");
                Problem::new(Code::MethodNotAllowed, detail).with_header(header::ALLOW, allow_header)
            }
            _ => Error::not_found().into(),
        }
    }
}

/// What no route answers, OPTIONS included.
pub(super) async fn fallback(request: HttpRequest) -> HttpResponse {
    match request.app_data::<Routes>() {
        Some(routes) => routes.refusal(request.path()).error_response(),
        None => HttpResponse::new(StatusCode::NOT_FOUND),
    }
}

fn operations(item: &PathItem) -> impl Iterator<Item = (Method, &Operation)> {
    [
        (Method::GET, &item.get),
        (Method::PUT, &item.put),
        (Method::POST, &item.post),
        (Method::DELETE, &item.delete),
        (Method::OPTIONS, &item.options),
        (Method::HEAD, &item.head),
        (Method::PATCH, &item.patch),
        (Method::TRACE, &item.trace),
    ]
    .into_iter()
    .filter_map(|(method, operation)| operation.as_ref().map(|operation| (method, operation)))
}

fn query_parameters(parameters: Option<&[RefOr<Parameter>]>) -> impl Iterator<Item = String> {
    parameters.unwrap_or_default().iter().filter_map(|parameter| match parameter {
        RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => Some(parameter.name.clone()),
        _ => None,
    })
}

/// An empty requirement among them means that it also goes without.
fn is_secured(requirements: Option<&[SecurityRequirement]>) -> bool {
    requirements.is_some_and(|requirements| !requirements.is_empty() && !requirements.contains(&SecurityRequirement::default()))
}
