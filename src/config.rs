//! The settings: what an operator may choose, read once at start, checked, and typed.
//!
//! **Architecture Invariant:** this is the only reader of the environment. Every setting is a variable `ACTAS_<NAME>`, a
//! file named by `ACTAS_<NAME>_FILE`, and a flag `--<name>`; the flag wins, and a variable together with its file is an error,
//! because one of the two would be ignored in silence. A start with wrong settings reports all of them, each by its name,
//! and never with the value of a secret.

mod parse;
mod reader;
mod settings;
mod values;

use std::time::Duration;

use ipnet::IpNet;

use crate::domain::impersonation::Mode;
use crate::domain::policy::{Pins, PolicyChange, RefusedOperation, TicketPattern};
use crate::domain::role::Role;
use crate::domain::text::Reason;

use parse::{list, number, one_of, parse_claim, parse_key, parse_network, parse_origin, parse_public_url, seconds};
use reader::Reader;
pub use reader::{ConfigError, Environment};
pub use settings::{
    BcryptSettings, CommandSettings, DatabaseSettings, DefaultValue, HttpSettings, ImpersonationSettings, ListenSettings, LogSettings,
    LoginSettings, Setting, Settings, SigningSettings, TokenSettings,
};
pub use values::{CorsOrigins, DatabaseUrl, HostPort, Secret};

const DAY: u32 = 86_400;

/// The program as it was called, for a command that somebody can paste.
pub fn program() -> String {
    let name = std::env::args_os().next().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "actas".to_owned())
}

/// Every setting, in the order in which the README lists them.
pub fn reference() -> impl Iterator<Item = &'static Setting> {
    [
        ListenSettings::REFERENCE,
        DatabaseSettings::REFERENCE,
        TokenSettings::REFERENCE,
        SigningSettings::REFERENCE,
        ImpersonationSettings::REFERENCE,
        BcryptSettings::REFERENCE,
        LoginSettings::REFERENCE,
        HttpSettings::REFERENCE,
        LogSettings::REFERENCE,
    ]
    .into_iter()
    .flatten()
}

/// All that a server needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: ListenConfig,
    pub database: DatabaseConfig,
    pub tokens: TokenConfig,
    pub signing_algorithm: SigningAlgorithm,
    pub impersonation: ImpersonationConfig,
    pub login: LoginConfig,
    pub http: HttpConfig,
    pub log: LogConfig,
    /// What is allowed but unwise, one sentence each, to be logged at start.
    pub warnings: Vec<String>,
}

/// All that a command needs to know which works on the database and serves nobody.
#[derive(Debug, Clone)]
pub struct CommandConfig {
    pub database: DatabaseConfig,
    pub bcrypt_cost: u32,
    pub log: LogConfig,
    /// As [`Config::warnings`].
    pub warnings: Vec<String>,
}

/// Where the server listens.
#[derive(Debug, Clone)]
pub struct ListenConfig {
    pub bind: HostPort,
    pub ops_bind: Option<HostPort>,
}

/// The database.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    pub url: DatabaseUrl,
    pub pool_size: u32,
    /// How long a request waits for a connection, and a connection for its server.
    pub timeout: Duration,
    /// Whether a pooler lends the connections to Postgres by the transaction.
    pub is_pooled: bool,
    /// The AES-256 key that encrypts signing keys at rest.
    pub key_encryption_key: Option<Secret<[u8; 32]>>,
}

/// Tokens and how long they live. Times are in seconds.
#[derive(Debug, Clone)]
pub struct TokenConfig {
    /// Without a trailing slash.
    pub public_url: String,
    pub issuer: String,
    pub audience: String,
    pub access_ttl: u32,
    pub refresh_ttl: u32,
    /// 0 is off.
    pub refresh_grace: u32,
}

/// What new access tokens are signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningAlgorithm {
    EdDsa,
    Rs256,
}

/// Impersonation.
#[derive(Debug, Clone)]
pub struct ImpersonationConfig {
    /// What is set of the policy here, and can't be changed by the API.
    pub pins: Pins,
}

/// Logging in.
#[derive(Debug, Clone)]
pub struct LoginConfig {
    pub bcrypt_cost: u32,
    pub hashing_threads: usize,
    pub hashing_queue: usize,
    /// For an account and for an address. 0 is off.
    pub failures_per_minute: u32,
}

/// How HTTP is spoken.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    pub trusted_proxies: Vec<IpNet>,
    pub cors: CorsOrigins,
    pub workers: usize,
    pub max_body_bytes: usize,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub handling_timeout: Duration,
    pub shutdown_timeout: Duration,
}

/// What is logged, and how it looks.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// A directive that `EnvFilter` was found to understand.
    pub filter: String,
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a person's eyes.
    Human,
}

impl Settings {
    /// Checks the settings of `serve`.
    ///
    /// # Errors
    /// Every mistake, not only the first.
    pub fn check(&self, environment: &Environment) -> Result<Config, ConfigError> {
        self.check_with(environment, &[])
    }

    /// As [`Settings::check`], with other defaults: `("BIND", "127.0.0.1:0")` holds where the operator chose nothing.
    ///
    /// # Errors
    /// Every mistake, not only the first.
    pub fn check_with(&self, environment: &Environment, defaults: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut reader = Reader::new(environment, defaults);
        let listen = self.listen.read(&mut reader);
        let database = self.database.read(&mut reader);
        let tokens = self.tokens.read(&mut reader);
        let signing_algorithm = self.signing.read(&mut reader);
        let impersonation = self.impersonation.read(&mut reader);
        let bcrypt_cost = self.bcrypt.read(&mut reader);
        let login = self.login.read(&mut reader, bcrypt_cost);
        let http = self.http.read(&mut reader);
        let log = self.log.read(&mut reader);
        reader.finish(|warnings| {
            Some(Config {
                listen: listen?,
                database: database?,
                tokens: tokens?,
                signing_algorithm: signing_algorithm?,
                impersonation: impersonation?,
                login: login?,
                http: http?,
                log: log?,
                warnings,
            })
        })
    }
}

/// What a person at a terminal wants to read who runs a command.
const COMMAND_DEFAULTS: [(&str, &str); 2] = [("LOG", "warn"), ("LOG_FORMAT", "human")];

impl CommandSettings {
    /// Checks the settings of a command. Unless something else is chosen, it logs warnings only, for a person's eyes.
    ///
    /// # Errors
    /// Every mistake, not only the first.
    pub fn check(&self, environment: &Environment) -> Result<CommandConfig, ConfigError> {
        let mut reader = Reader::new(environment, &COMMAND_DEFAULTS);
        let database = self.database.read(&mut reader);
        let bcrypt_cost = self.bcrypt.read(&mut reader);
        let log = self.log.read(&mut reader);
        reader.finish(|warnings| Some(CommandConfig { database: database?, bcrypt_cost: bcrypt_cost?, log: log?, warnings }))
    }
}

impl ListenSettings {
    /// Checks where the server listens, for a command that needs nothing else.
    ///
    /// # Errors
    /// Every mistake, not only the first.
    pub fn check(&self, environment: &Environment) -> Result<ListenConfig, ConfigError> {
        let mut reader = Reader::new(environment, &[]);
        let listen = self.read(&mut reader);
        reader.finish(|_| listen)
    }

    fn read(&self, reader: &mut Reader<'_>) -> Option<ListenConfig> {
        let bind = reader.required(&Self::BIND, &self.bind, HostPort::parse);
        let ops_bind = reader.optional(&Self::OPS_BIND, &self.ops_bind, HostPort::parse);
        let (bind, ops_bind) = (bind?, ops_bind?);
        if ops_bind.as_ref().is_some_and(|ops| *ops == bind && !ops.as_str().ends_with(":0")) {
            reader.mistake(&Self::OPS_BIND, "must differ from ACTAS_BIND");
        }
        Some(ListenConfig { bind, ops_bind })
    }
}

impl DatabaseSettings {
    fn read(&self, reader: &mut Reader<'_>) -> Option<DatabaseConfig> {
        let url = reader.secret(&Self::DATABASE_URL, &self.database_url, DatabaseUrl::parse);
        let pool_size = reader.required(&Self::DATABASE_POOL_SIZE, &self.database_pool_size, number(1, 500));
        let timeout = reader.required(&Self::DATABASE_TIMEOUT_SECONDS, &self.database_timeout_seconds, seconds(300));
        let is_pooled = one_of(&[("none", false), ("transaction", true)]);
        let is_pooled = reader.required(&Self::DATABASE_POOLER, &self.database_pooler, is_pooled);
        let key_encryption_key = reader.optional_secret(&Self::KEY_ENCRYPTION_KEY, &self.key_encryption_key, parse_key);
        let (url, is_pooled) = (url?, is_pooled?);
        if is_pooled && matches!(url, DatabaseUrl::Sqlite(_)) {
            reader.mistake(&Self::DATABASE_POOLER, "must be `none` with SQLite");
        }
        Some(DatabaseConfig { url, pool_size: pool_size?, timeout: timeout?, is_pooled, key_encryption_key: key_encryption_key? })
    }
}

impl TokenSettings {
    fn read(&self, reader: &mut Reader<'_>) -> Option<TokenConfig> {
        let public_url = reader.required(&Self::PUBLIC_URL, &self.public_url, parse_public_url);
        let issuer = reader.optional(&Self::ISSUER, &self.issuer, parse_claim);
        let audience = reader.required(&Self::AUDIENCE, &self.audience, parse_claim);
        let access_ttl = reader.required(&Self::ACCESS_TOKEN_TTL_SECONDS, &self.access_token_ttl_seconds, number(1, DAY));
        let refresh_ttl = reader.required(&Self::REFRESH_TOKEN_TTL_SECONDS, &self.refresh_token_ttl_seconds, number(1, 365 * DAY));
        let refresh_grace = reader.required(&Self::REFRESH_GRACE_SECONDS, &self.refresh_grace_seconds, number(0, 300));
        let public_url = public_url?;
        let issuer = issuer?.unwrap_or_else(|| public_url.clone());
        Some(TokenConfig {
            public_url,
            issuer,
            audience: audience?,
            access_ttl: access_ttl?,
            refresh_ttl: refresh_ttl?,
            refresh_grace: refresh_grace?,
        })
    }
}

impl SigningSettings {
    /// Checks the algorithm for a command, and answers with it whether the operator chose it.
    ///
    /// # Errors
    /// Where it is none.
    pub fn check(&self, environment: &Environment) -> Result<(SigningAlgorithm, bool), ConfigError> {
        let mut reader = Reader::new(environment, &[]);
        let algorithm = self.read(&mut reader);
        let is_chosen = reader.is_chosen(&Self::SIGNING_ALGORITHM, &self.signing_algorithm);
        reader.finish(|_| Some((algorithm?, is_chosen)))
    }

    fn read(&self, reader: &mut Reader<'_>) -> Option<SigningAlgorithm> {
        let algorithms = [("EdDSA", SigningAlgorithm::EdDsa), ("RS256", SigningAlgorithm::Rs256)];
        reader.required(&Self::SIGNING_ALGORITHM, &self.signing_algorithm, one_of(&algorithms))
    }
}

impl ImpersonationSettings {
    fn read(&self, reader: &mut Reader<'_>) -> Option<ImpersonationConfig> {
        let boolean = || one_of(&[("true", true), ("false", false)]);
        let role = |text: &str| Role::parse(text).ok_or_else(|| "must be roles such as `support,editor`, separated by commas".to_owned());
        let operation = |text: &str| {
            let wrong = "must be operationIds that may run under impersonation, or such as `article.accept`, separated by commas";
            RefusedOperation::parse(text).ok_or_else(|| wrong.to_owned())
        };
        let modes = [("full", Mode::Full), ("read_only", Mode::ReadOnly)];
        let ttl = reader.optional(&Self::IMPERSONATION_TTL_SECONDS, &self.impersonation_ttl_seconds, number(1, DAY));
        let max = reader.optional(&Self::IMPERSONATION_MAX_SECONDS, &self.impersonation_max_seconds, number(1, DAY));
        let idle = reader.optional(&Self::IMPERSONATION_IDLE_SECONDS, &self.impersonation_idle_seconds, number(0, DAY));
        let reason = one_of(&[("required", true), ("optional", false)]);
        let reason = reader.optional(&Self::IMPERSONATION_REASON, &self.impersonation_reason, reason);
        let reason_length = number(1, 500);
        let reason_length = reader.optional(&Self::IMPERSONATION_REASON_MIN_LENGTH, &self.impersonation_reason_min_length, reason_length);
        let ticket = one_of(&[("required", true), ("optional", false)]);
        let ticket = reader.optional(&Self::IMPERSONATION_TICKET, &self.impersonation_ticket, ticket);
        let pattern = |text: &str| TicketPattern::parse(text).map_err(|error| error.detail);
        let pattern = reader.optional(&Self::IMPERSONATION_TICKET_PATTERN, &self.impersonation_ticket_pattern, pattern);
        let proof = reader.optional(&Self::REQUIRE_RESTORE_PROOF, &self.require_restore_proof, boolean());
        let mode = reader.optional(&Self::IMPERSONATION_MODE, &self.impersonation_mode, one_of(&modes));
        let read_only = reader.optional(&Self::IMPERSONATION_READ_ONLY_ROLES, &self.impersonation_read_only_roles, list(role));
        let protected = reader.optional(&Self::IMPERSONATION_PROTECTED_ROLES, &self.impersonation_protected_roles, list(role));
        let live = reader.optional(&Self::IMPERSONATION_MAX_LIVE, &self.impersonation_max_live, number(0, 10_000));
        let starts = reader.optional(&Self::IMPERSONATION_STARTS_PER_HOUR, &self.impersonation_starts_per_hour, number(0, 10_000));
        let refused = reader.optional(&Self::IMPERSONATION_REFUSED_OPERATIONS, &self.impersonation_refused_operations, list(operation));
        let freeze = |text: &str| Reason::parse(text).map_err(|error| error.detail);
        let freeze = reader.optional(&Self::IMPERSONATION_FREEZE, &self.impersonation_freeze, freeze);
        // A shorter maximum alone is a whole choice: the usual duration follows it.
        if let (Some(Some(ttl)), Some(Some(max))) = (ttl, max)
            && ttl > max
        {
            reader.mistake(
                &Self::IMPERSONATION_TTL_SECONDS,
                &format!("must not be longer than ACTAS_IMPERSONATION_MAX_SECONDS, which is {max}; it is {ttl}"),
            );
        }
        let change = PolicyChange {
            reason_required: reason?,
            reason_min_length: reason_length?,
            ticket_required: ticket?,
            ticket_pattern: pattern?.map(Some),
            default_duration_seconds: ttl?,
            max_duration_seconds: max?,
            idle_seconds: idle?,
            restore_proof_required: proof?,
            default_mode: mode?,
            read_only_roles: read_only?,
            protected_roles: protected?,
            max_live_per_actor: live?,
            max_starts_per_hour: starts?,
            refused_operations: refused?,
        };
        Some(ImpersonationConfig { pins: Pins { change, freeze: freeze? } })
    }
}

impl BcryptSettings {
    fn read(&self, reader: &mut Reader<'_>) -> Option<u32> {
        let cost = reader.required(&Self::BCRYPT_COST, &self.bcrypt_cost, number(4, 16))?;
        // The demo's own default needs no warning.
        if cost < 10 && reader.is_chosen(&Self::BCRYPT_COST, &self.bcrypt_cost) {
            reader
                .warning(&Self::BCRYPT_COST, &format!("is {cost}: passwords hashed so cheaply are quickly guessed; use it in tests only"));
        }
        Some(cost)
    }
}

impl LoginSettings {
    fn read(&self, reader: &mut Reader<'_>, bcrypt_cost: Option<u32>) -> Option<LoginConfig> {
        let hashing_threads = reader.optional(&Self::HASHING_THREADS, &self.hashing_threads, number(1, 256));
        let hashing_queue = reader.required(&Self::HASHING_QUEUE, &self.hashing_queue, number(1, 10_000));
        let failures = reader.required(&Self::LOGIN_FAILURES_PER_MINUTE, &self.login_failures_per_minute, number(0, 10_000));
        Some(LoginConfig {
            bcrypt_cost: bcrypt_cost?,
            hashing_threads: hashing_threads?.unwrap_or_else(cores),
            hashing_queue: hashing_queue?,
            failures_per_minute: failures?,
        })
    }
}

impl HttpSettings {
    fn read(&self, reader: &mut Reader<'_>) -> Option<HttpConfig> {
        let trusted_proxies = reader.optional(&Self::TRUSTED_PROXIES, &self.trusted_proxies, list(parse_network));
        let cors_origins = reader.optional(&Self::CORS_ORIGINS, &self.cors_origins, list(parse_origin));
        let workers = reader.optional(&Self::WORKERS, &self.workers, number(1, 256));
        let max_body_bytes = reader.required(&Self::MAX_BODY_BYTES, &self.max_body_bytes, number(1024, 64 << 20));
        let header_timeout = reader.required(&Self::HEADER_TIMEOUT_SECONDS, &self.header_timeout_seconds, seconds(300));
        let body_timeout = reader.required(&Self::BODY_TIMEOUT_SECONDS, &self.body_timeout_seconds, seconds(300));
        let handling_timeout = reader.required(&Self::HANDLING_TIMEOUT_SECONDS, &self.handling_timeout_seconds, seconds(300));
        let shutdown_timeout = reader.required(&Self::SHUTDOWN_TIMEOUT_SECONDS, &self.shutdown_timeout_seconds, seconds(300));
        Some(HttpConfig {
            trusted_proxies: trusted_proxies?.unwrap_or_default(),
            cors: CorsOrigins { exact: cors_origins?.unwrap_or_default(), any_localhost: false },
            workers: workers?.unwrap_or_else(cores),
            max_body_bytes: max_body_bytes?,
            header_timeout: header_timeout?,
            body_timeout: body_timeout?,
            handling_timeout: handling_timeout?,
            shutdown_timeout: shutdown_timeout?,
        })
    }
}

impl LogSettings {
    fn read(&self, reader: &mut Reader<'_>) -> Option<LogConfig> {
        let filter = reader.required(&Self::LOG, &self.log, |text| {
            let known = tracing_subscriber::EnvFilter::builder().parse(text);
            known.map(|_| text.to_owned()).map_err(|error| format!("must be a filter such as `info,actas=debug`: {error}"))
        });
        let format =
            reader.required(&Self::LOG_FORMAT, &self.log_format, one_of(&[("json", LogFormat::Json), ("human", LogFormat::Human)]));
        Some(LogConfig { filter: filter?, format: format? })
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests;
