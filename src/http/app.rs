//! The whole app: every route, with its state and its layers. The server and the document are both made from it.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{App, HttpResponse, ResponseError as _, web};
use utoipa::openapi::OpenApi;
use utoipa_actix_web::AppExt as _;
use utoipa_swagger_ui::{Config as UiConfig, SwaggerUi};

use super::assembly::{Layers, layered};
use super::caller::State;
use super::document;
use super::problem::Problem;
use super::routes::{articles, auth, clients, explain, history, impersonations, me, metadata, oauth, ops, policy, users, well_known};
use super::server::{self, ServerSettings};
use crate::domain::error::Code;

/// Registers every route of the API on an app that collects its document.
///
/// actix tries them one after the other, and those with a parameter cost a regular expression each. So first come the ones that are asked most, and then
/// those without a parameter.
macro_rules! api {
    ($app:expr) => {
        $app.service(me::get_me)
            .service(articles::get_article)
            .service(articles::update_article)
            .service(articles::delete_article)
            .service(articles::act_on_article)
            .service(articles::list_articles)
            .service(articles::create_article)
            .service(me::list_my_sessions)
            .service(me::list_my_impersonations)
            .service(me::change_my_password)
            .service(explain::explain_me)
            .service(auth::log_in)
            .service(auth::refresh)
            .service(auth::log_out)
            .service(auth::set_password)
            .service(oauth::issue_token)
            .service(oauth::introspect_token)
            .service(oauth::revoke_token)
            .service(impersonations::start_impersonation)
            .service(impersonations::list_impersonations)
            .service(policy::get_policy)
            .service(policy::update_policy)
            .service(policy::freeze_policy)
            .service(policy::unfreeze_policy)
            .service(users::list_users)
            .service(users::create_user)
            .service(clients::list_clients)
            .service(clients::create_client)
            .service(history::list_history)
            .service(metadata::get_metadata)
            .service(well_known::get_public_keys)
            .service(me::end_my_session)
            .service(impersonations::get_impersonation)
            .service(impersonations::end_impersonation)
            .service(impersonations::undo_impersonation)
            .service(users::get_user)
            .service(users::update_user)
            .service(users::renew_setup_token)
            .service(users::end_user_sessions)
            .service(explain::explain_user)
            .service(clients::get_client)
            .service(clients::update_client)
            .service(clients::rotate_client_secret)
            .service(history::list_article_history)
    };
}

/// Registers what whoever runs it asks.
macro_rules! operations {
    ($app:expr) => {
        $app.service(ops::get_health).service(ops::get_readiness).service(ops::get_metrics)
    };
}

/// The document of everything that can be served.
pub fn api_document() -> OpenApi {
    let (_, document) = api!(operations!(App::new().into_utoipa_app())).split_for_parts();
    document::complete(document)
}

/// What a server serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Whole,
    /// The API, without what whoever runs it asks: that is served elsewhere.
    Api,
    /// Only what whoever runs it asks.
    Operations,
}

/// Serves `scope` on `listener`. The server runs when it is awaited.
///
/// # Errors
/// What the system says of the socket.
pub fn serve(listener: TcpListener, scope: Scope, state: State, layers: Layers, settings: ServerSettings) -> io::Result<Server> {
    let document = Arc::new(document_of(scope));
    let text: Arc<str> = document::to_json(&document).map_err(io::Error::other)?.into();
    server::start(listener, settings, move || {
        let app = App::new().app_data(web::Data::new(state.clone())).into_utoipa_app();
        let app = match scope {
            Scope::Whole => api!(operations!(app)).split_for_parts().0,
            Scope::Api => api!(app).split_for_parts().0,
            Scope::Operations => operations!(app).split_for_parts().0,
        };
        let app = app.configure(|routes| {
            if scope != Scope::Operations {
                let text = web::Data::from(Arc::new(Text(Arc::clone(&text))));
                routes
                    .app_data(text)
                    .service(web::resource("/openapi.json").route(web::get().to(get_document)).default_service(web::to(refuse_method)))
                    .service(web::resource(format!("{}/{{path:.*}}", metadata::PATH)).route(web::get().to(metadata::get_metadata_of_path)))
                    .service(web::resource("/docs").route(web::get().to(to_docs)))
                    .service(user_interface());
            }
        });
        layered(app, &document, &layers)
    })
}

fn document_of(scope: Scope) -> OpenApi {
    let document = match scope {
        Scope::Whole => return api_document(),
        Scope::Api => api!(App::new().into_utoipa_app()).split_for_parts().1,
        Scope::Operations => operations!(App::new().into_utoipa_app()).split_for_parts().1,
    };
    document::complete(document)
}

/// The document as it is served.
struct Text(Arc<str>);

async fn get_document(text: web::Data<Text>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(text.0.to_string())
}

/// The document is not in the document, so no rule knows its methods.
async fn refuse_method() -> HttpResponse {
    let allow = "GET, HEAD";
    Problem::new(Code::MethodNotAllowed, format!("this address knows only: {allow}"))
        .with_header(header::ALLOW, HeaderValue::from_static(allow))
        .error_response()
}

/// Without the slash, the page would look for its parts one level too high.
async fn to_docs() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "docs/")).finish()
}

/// Swagger UI at `/docs/`, from the binary itself.
fn user_interface() -> SwaggerUi {
    // Relative, so that a proxy's path prefix does no harm. Without the bar that loads other documents, and without the badge of a validator elsewhere.
    let config = UiConfig::from("../openapi.json").use_base_layout().validator_url("none").deep_linking(true);
    SwaggerUi::new("/docs/{_:.*}").config(config)
}
