//! `actas serve`: the server, from its settings to its last request.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use clap::Args;

use super::output::{Failure, Outcome, describe, print};
use super::{ABOUT_SETTINGS, hash_passwords};

use crate::auth::hashing::Program;
use crate::auth::keys::{Algorithm, KeyEncryptionKey};
use crate::auth::limiter::Limiter;
use crate::auth::passwords::Passwords;
use crate::clock::Clock;
use crate::config::{self, Config, DatabaseConfig, DatabaseUrl, Environment, HostPort, ListenConfig, SigningAlgorithm};
use crate::domain::Time;
use crate::domain::error::Error;
use crate::http::app::{self, Scope};
use crate::http::assembly::Layers;
use crate::http::caller::State;
use crate::http::extract::TrustedProxies;
use crate::http::metrics::{LoginOutcome, Metrics};
use crate::http::middleware::Origins;
use crate::http::request::Limits;
use crate::http::server::{self, ServerSettings};
use crate::logging;
use crate::service::database::{Db, Options, migrate};
use crate::service::policy::Policies;
use crate::service::{Event, Observer, Office, Settings, clients, keys, users};

/// How often sessions whose time is over get their entries.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Serve the API
///
/// Brings the database to this version's schema, makes its signing keys at the first start, and serves until SIGTERM or SIGINT; then it
/// finishes the requests in flight. Prints `listening on http://…` on the standard output, logs to the standard error.
#[derive(Args)]
#[command(after_long_help = help![
    "Examples:
  actas serve
  actas serve --bind 0.0.0.0:8080 --public-url https://actas.example.org --database-url postgres://actas@db.example.org/actas
  ACTAS_KEY_ENCRYPTION_KEY_FILE=/run/secrets/actas-key actas serve",
    ABOUT_SETTINGS,
])]
pub struct Serve {
    #[command(flatten)]
    settings: config::Settings,
}

impl Serve {
    pub fn run(self) -> Outcome {
        let config = self.settings.check(&Environment::of_process())?;
        begin_logging(&config)?;
        actix_web::rt::System::new().block_on(async {
            let ready = prepare(&config, Clock::system(), hash_passwords::program()).map_err(Failure::failed)?;
            let stop = server::termination().map_err(Failure::failed)?;
            if ready.office.db.read(users::is_empty).await? {
                tracing::warn!("{}", first_administrator(&config.database.url));
            }
            print(format_args!("listening on http://{}", ready.address))?;
            if let Some(address) = ready.ops_address {
                print(format_args!("listening on http://{address} for /healthz, /readyz and /metrics"))?;
            }
            ready.run(stop).await.map_err(Failure::failed)
        })
    }
}

/// Begins to log, with what is unwise about the settings.
///
/// # Errors
/// Where the process logs already.
pub fn begin_logging(config: &Config) -> Outcome {
    logging::start(&config.log).map_err(Failure::failed)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// How to create the first administrator. Without a double quote, so that it can be pasted out of a JSON log line too.
fn first_administrator(url: &DatabaseUrl) -> String {
    let quoted = |text: &str| {
        let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-:".contains(c));
        if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
    };
    // A Postgres URL may hold a password, so it is not repeated.
    let (database, remark) = match url {
        DatabaseUrl::Sqlite(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            (format!(" --database-url {}", quoted(&format!("sqlite://{}", path.display()))), "")
        }
        DatabaseUrl::Postgres(_) => (String::new(), " (with the same ACTAS_DATABASE_URL)"),
    };
    format!(
        "there are no users yet, so nobody can log in; create the first administrator{remark} with: \
         {} user create --email you@example.org --name 'Your Name' --role administrator --password-stdin{database}",
        quoted(&config::program()),
    )
}

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
    Options { url, pool_size: config.pool_size, patience: config.timeout, is_pooled: config.is_pooled }
}

/// Opens the database for serving and brings it to this version's schema.
///
/// # Errors
/// Where it can't be reached or migrated, or another server has the file.
pub fn open_database(config: &DatabaseConfig) -> Result<Db, Error> {
    let db = Db::open_for_serving(&database_options(config))?;
    for migration in migrate(&db)? {
        tracing::info!(migration, "migrated");
    }
    Ok(db)
}

/// What the signing keys in the database are encrypted with.
pub fn key_encryption(config: &DatabaseConfig) -> Option<KeyEncryptionKey> {
    config.key_encryption_key.as_ref().map(|key| KeyEncryptionKey::from_bytes(*key.reveal()))
}

/// The setting's algorithm, as keys know it.
pub fn algorithm(chosen: SigningAlgorithm) -> Algorithm {
    match chosen {
        SigningAlgorithm::EdDsa => Algorithm::EdDsa,
        SigningAlgorithm::Rs256 => Algorithm::Rs256,
    }
}

/// Puts the office together. Makes the keys that are missing, at the instant `now`. Passwords are hashed in processes of `hashing`, if any.
///
/// # Errors
/// Where the database can't be asked or its keys can't be decrypted.
pub fn open_office(config: &Config, db: Db, now: Time, observer: Observer, hashing: Option<Program>) -> Result<Office, Error> {
    let (encryption, algorithm) = (key_encryption(&config.database), algorithm(config.signing_algorithm));
    let tokens = &config.tokens;
    let (signing, refresh_key) = keys::load_or_create(&db, algorithm, encryption.as_ref(), &tokens.issuer, &tokens.audience, now)?;
    clients::ensure_first_party(&db, now)?;
    let login = &config.login;
    let passwords = Passwords::new(login.bcrypt_cost, login.hashing_threads, login.hashing_queue, hashing).map_err(Error::internal)?;
    let policies = Arc::new(Policies::open(&db, config.impersonation.pins.clone(), now)?);
    let settings = Settings {
        issuer: tokens.issuer.clone(),
        audience: tokens.audience.clone(),
        signing_algorithm: algorithm,
        access_token_ttl: tokens.access_ttl,
        refresh_token_ttl: tokens.refresh_ttl,
        refresh_grace: tokens.refresh_grace,
    };
    let limiter = Limiter::new(login.failures_per_minute);
    Ok(Office { db, tokens: signing, key_encryption: encryption, refresh_key, passwords, limiter, settings, policies, observer })
}

/// Opens the database and the sockets, and is ready to run. Passwords are hashed in processes of `hashing`, if any.
///
/// # Errors
/// A sentence for whoever starts it.
pub fn prepare(config: &Config, clock: Clock, hashing: Option<Program>) -> Result<Ready, String> {
    let describe = |error: Error| describe(&error);
    let metrics = new_metrics()?;
    let db = open_database(&config.database).map_err(describe)?;
    let office = open_office(config, db, clock.now(), observer(&metrics), hashing).map_err(describe)?;
    let sockets = Sockets::open(&config.listen)?;
    assemble(config, clock, office, metrics, sockets)
}

/// Metrics that nothing was counted in yet.
///
/// # Errors
/// What the registry says; none is known.
pub fn new_metrics() -> Result<Arc<Metrics>, String> {
    Metrics::new().map(Arc::new).map_err(|error| error.to_string())
}

/// Where the server listens. Connections wait until it runs.
pub struct Sockets {
    api: (TcpListener, SocketAddr),
    ops: Option<(TcpListener, SocketAddr)>,
}

impl Sockets {
    /// Takes the addresses of the settings.
    ///
    /// # Errors
    /// A sentence for whoever starts it, with the setting's name.
    pub fn open(config: &ListenConfig) -> Result<Self, String> {
        let ops = config.ops_bind.as_ref().map(|bind| listen(bind, "ACTAS_OPS_BIND"));
        Ok(Self { api: listen(&config.bind, "ACTAS_BIND")?, ops: ops.transpose()? })
    }

    pub fn address(&self) -> SocketAddr {
        self.api.1
    }
}

/// Puts the servers together.
///
/// # Errors
/// A sentence for whoever starts it.
pub fn assemble(config: &Config, clock: Clock, office: Office, metrics: Arc<Metrics>, sockets: Sockets) -> Result<Ready, String> {
    let office = Arc::new(office);
    let Sockets { api: (listener, address), ops } = sockets;
    let http = &config.http;
    let path_prefix = config.tokens.public_url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default();
    let state = State {
        office: Arc::clone(&office),
        clock: clock.clone(),
        metrics: Arc::clone(&metrics),
        path_prefix: path_prefix.into(),
        public_url: config.tokens.public_url.trim_end_matches('/').into(),
    };
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
pub fn observer(metrics: &Arc<Metrics>) -> Observer {
    let metrics = Arc::clone(metrics);
    Arc::new(move |event| match event {
        Event::LoginSucceeded => metrics.login(LoginOutcome::Succeeded),
        Event::LoginFailed => metrics.login(LoginOutcome::Refused),
        Event::LoginLimited => metrics.login(LoginOutcome::Limited),
        Event::LoginOverloaded => metrics.login(LoginOutcome::Overloaded),
        Event::ImpersonationStarted(mode) => metrics.impersonation_started(*mode),
        Event::ImpersonationRefused(reason) => metrics.impersonation_refused([*reason]),
        Event::ImpersonationEnded(cause) => metrics.impersonation_ended(*cause),
        Event::ImpersonationTried(is_allowed) => metrics.impersonation_tried(*is_allowed),
        Event::TokenIssued(grant) => metrics.token_issued(*grant),
    })
}
