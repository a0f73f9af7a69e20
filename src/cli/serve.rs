//! `actas serve`: the server, from its settings to its last request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;

use crate::auth::keys::KeyEncryptionKey;
use crate::auth::limiter::Limiter;
use crate::auth::passwords::Passwords;
use crate::clock::Clock;
use crate::config::{Config, DatabaseConfig, DatabaseUrl, HostPort, ReasonRule};
use crate::domain::error::Error;
use crate::http::app::{self, Scope};
use crate::http::assembly::Layers;
use crate::http::caller::State;
use crate::http::extract::TrustedProxies;
use crate::http::metrics::{LoginOutcome, Metrics};
use crate::http::middleware::Origins;
use crate::http::request::Limits;
use crate::http::server::{self, ServerSettings};
use crate::service::database::{Db, Options, migrate};
use crate::service::{Event, Observer, Office, Settings, keys};

/// How often sessions whose time is over get their entries.
const SWEEP_INTERVAL: Duration = Duration::from_secs(15);

/// A server that is ready to run, and where.
pub struct Ready {
    pub address: SocketAddr,
    /// Where `ACTAS_OPS_BIND` is set.
    pub ops_address: Option<SocketAddr>,
    pub office: Arc<Office>,
    clock: Clock,
    servers: Vec<Server>,
}

impl Ready {
    /// Serves until `stop` is there, and then finishes the requests in flight.
    ///
    /// # Errors
    /// What a server says that could not go on.
    pub async fn run(self, stop: impl Future<Output = ()>) -> std::io::Result<()> {
        let (stop_sweeping, stopped) = tokio::sync::oneshot::channel();
        let sweeping = actix_web::rt::spawn(sweep(Arc::clone(&self.office), self.clock, stopped));
        let result = server::run(self.servers, stop).await;
        // Dropping it stops the sweeping too, but only this waits for the sweep in flight.
        let _ = stop_sweeping.send(());
        let _ = sweeping.await;
        self.office.db.release();
        result
    }
}

async fn sweep(office: Arc<Office>, clock: Clock, mut stopped: tokio::sync::oneshot::Receiver<()>) {
    let mut interval = actix_web::rt::time::interval(SWEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            _ = interval.tick() => {}
        }
        if let Err(error) = office.sweep(clock.now()).await {
            tracing::warn!(%error, "sweeping failed; it is tried again");
        }
    }
}

/// The options with which a database is opened.
pub fn database_options(config: &DatabaseConfig) -> Options {
    let url = match &config.url {
        DatabaseUrl::Sqlite(path) => format!("sqlite://{}", path.display()),
        DatabaseUrl::Postgres(url) => url.reveal().clone(),
    };
    Options { url, pool_size: config.pool_size, patience: config.timeout }
}

/// Opens the database of a command, brings it to this version's schema, and puts the office together.
///
/// # Errors
/// Where the database can't be reached, migrated or decrypted.
pub fn open_office(config: &Config, db: Db, clock: &Clock, observer: Observer) -> Result<Office, Error> {
    let encryption = config.database.key_encryption_key.as_ref().map(|key| KeyEncryptionKey::from_bytes(*key.reveal()));
    let tokens = &config.tokens;
    let (signing, refresh_key) = keys::load_or_create(&db, encryption.as_ref(), &tokens.issuer, &tokens.audience, clock.now())?;
    let login = &config.login;
    let passwords = Passwords::new(login.bcrypt_cost, login.hashing_threads, login.hashing_queue).map_err(Error::internal)?;
    let impersonation = &config.impersonation;
    let settings = Settings {
        issuer: tokens.issuer.clone(),
        audience: tokens.audience.clone(),
        access_token_ttl: tokens.access_ttl,
        refresh_token_ttl: tokens.refresh_ttl,
        refresh_grace: tokens.refresh_grace,
        impersonation_ttl: impersonation.ttl,
        impersonation_max: impersonation.max,
        impersonation_idle: impersonation.idle,
        reason_required: impersonation.reason == ReasonRule::Required,
        restore_proof_required: impersonation.require_restore_proof,
    };
    let limiter = Limiter::new(login.failures_per_minute);
    Ok(Office { db, tokens: signing, refresh_key, passwords, limiter, settings, observer })
}

/// Opens the database and the sockets, and is ready to run.
///
/// # Errors
/// A sentence for whoever starts it.
pub fn prepare(config: &Config, clock: Clock) -> Result<Ready, String> {
    let metrics = Arc::new(Metrics::new().map_err(|error| error.to_string())?);
    let describe = |error: Error| error.internal_detail().unwrap_or_else(|| error.detail()).to_owned();
    let db = Db::open_for_serving(&database_options(&config.database)).map_err(describe)?;
    for migration in migrate(&db).map_err(describe)? {
        tracing::info!(migration, "migrated");
    }
    let office = Arc::new(open_office(config, db, &clock, observer(&metrics)).map_err(describe)?);

    let (listener, address) = listen(&config.listen.bind, "ACTAS_BIND")?;
    let ops = config.listen.ops_bind.as_ref().map(|bind| listen(bind, "ACTAS_OPS_BIND")).transpose()?;
    let http = &config.http;
    let path_prefix = config.tokens.public_url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default();
    let state = State { office: Arc::clone(&office), clock: clock.clone(), metrics: Arc::clone(&metrics), path_prefix: path_prefix.into() };
    let layers = Layers {
        limits: Limits { body_bytes: http.max_body_bytes, body_time: http.body_timeout, handling_time: http.handling_timeout },
        origins: Origins { exact: http.cors.exact.clone(), any_localhost: http.cors.any_localhost },
        proxies: Arc::new(TrustedProxies::new(http.trusted_proxies.clone())),
        metrics,
    };
    let settings = ServerSettings {
        workers: http.workers,
        head_time: http.header_timeout,
        shutdown_time: http.shutdown_timeout,
        ..ServerSettings::default()
    };
    let scope = if ops.is_some() { Scope::Api } else { Scope::Whole };
    let describe = |error: std::io::Error| error.to_string();
    let mut servers = vec![app::serve(listener, scope, state.clone(), layers.clone(), settings).map_err(describe)?];
    let mut ops_address = None;
    if let Some((listener, address)) = ops {
        ops_address = Some(address);
        let settings = ServerSettings { workers: 1, ..settings };
        servers.push(app::serve(listener, Scope::Operations, state, layers, settings).map_err(describe)?);
    }
    Ok(Ready { address, ops_address, office, clock, servers })
}

fn listen(bind: &HostPort, setting: &str) -> Result<(std::net::TcpListener, SocketAddr), String> {
    let addresses = bind.resolve().map_err(|error| format!("{setting}: {}: {error}", bind.as_str()))?;
    server::listen(addresses.as_slice()).map_err(|error| format!("{setting}: can't listen on {}: {error}", bind.as_str()))
}

/// Lets the metrics count what the use cases tell.
fn observer(metrics: &Arc<Metrics>) -> Observer {
    let metrics = Arc::clone(metrics);
    Arc::new(move |event| match event {
        Event::LoginSucceeded => metrics.login(LoginOutcome::Succeeded),
        Event::LoginFailed => metrics.login(LoginOutcome::Refused),
        Event::LoginLimited => metrics.login(LoginOutcome::Limited),
        Event::LoginOverloaded => metrics.login(LoginOutcome::Overloaded),
        Event::ImpersonationStarted(mode) => metrics.impersonation_started(*mode),
        Event::ImpersonationRefused(reason) => metrics.impersonation_refused([*reason]),
        Event::ImpersonationEnded(cause) => metrics.impersonation_ended(*cause),
    })
}
