//! For whoever runs it: alive, ready, metrics.

use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::error::Error;
use crate::http::caller::State;
use crate::http::metrics::{CONTENT_TYPE, Gauges};
use crate::http::problem::{Problem, Result};
use crate::service::database;

/// That all is well.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    pub status: HealthStatus,
}

/// The one thing that there is to say.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub enum HealthStatus {
    #[serde(rename = "ok")]
    Ok,
}

/// Tell whether the process is alive
///
/// Asks nothing but the process itself: not the database.
#[utoipa::path(tag = "ops", responses((status = 200, description = "It is", body = Health)))]
#[get("/healthz")]
pub async fn get_health() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: HealthStatus::Ok })
}

/// Tell whether it can serve
///
/// The database can be reached and has every migration of this version.
#[utoipa::path(tag = "ops", responses((status = 200, description = "It can", body = Health)))]
#[get("/readyz")]
pub async fn get_readiness(state: web::Data<State>) -> Result<HttpResponse> {
    if state.office.db.read(database::is_current).await? {
        Ok(HttpResponse::Ok().json(Health { status: HealthStatus::Ok }))
    } else {
        Err(Problem::from(Error::database_unavailable("migrations are pending")))
    }
}

/// Show the metrics
///
/// Prometheus' text format 0.0.4.
#[utoipa::path(tag = "ops", responses((status = 200, description = "The metrics", body = String, content_type = "text/plain")))]
#[get("/metrics")]
pub async fn get_metrics(state: web::Data<State>) -> Result<HttpResponse> {
    let office = &state.office;
    // A scrape tells of everything else even while the database is away.
    let active = office.count_live_impersonations(state.clock.now()).await.unwrap_or_default();
    let pool = office.db.pool_state();
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let gauges = Gauges {
        impersonations_active: active,
        db_connections_busy: pool.in_use.into(),
        db_connections_idle: pool.idle.into(),
        hashing_queue: count(office.passwords.queued()),
        hashing_running: count(office.passwords.running()),
    };
    let text = state.metrics.encode(gauges).map_err(Error::internal)?;
    Ok(HttpResponse::Ok().content_type(CONTENT_TYPE).body(text))
}
