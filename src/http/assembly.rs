//! Routes and layers put together into one app, for the server and for the tests alike.

use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::{App, Error, web};
use utoipa::openapi::OpenApi;

use super::extract::TrustedProxies;
use super::metrics::Metrics;
use super::middleware::{Answers, Guards, Origins, cors};
use super::request::Limits;
use super::routing::{Routes, fallback};

/// What all workers' layers share.
#[derive(Debug, Clone)]
pub struct Layers {
    pub limits: Limits,
    pub origins: Origins,
    pub proxies: Arc<TrustedProxies>,
    pub metrics: Arc<Metrics>,
}

/// Puts the layers around an app whose routes `document` describes, and the answer to whatever no route answers.
pub fn layered<T>(
    app: App<T>,
    document: &OpenApi,
    layers: &Layers,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody + 'static + use<T>>,
        Error = Error,
        InitError = (),
    > + use<T>,
>
where
    T: ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse, Error = Error, InitError = ()> + 'static,
{
    let routes = Routes::of(document);
    app.app_data(layers.limits)
        .app_data(routes.clone())
        .default_service(web::to(fallback))
        .wrap(Guards::new(layers.limits))
        .wrap(cors(&layers.origins))
        .wrap(Answers::new(Arc::clone(&layers.metrics), Arc::clone(&layers.proxies), routes))
}
