//! The settings one by one: names, defaults, and a sentence each.

use std::fmt;

use super::reader::PREFIX;

/// What the reference says of one setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The name without its prefix, such as `BIND`.
    pub name: &'static str,
    pub default: DefaultValue,
    /// One sentence, without a full stop.
    pub help: &'static str,
}

/// What holds where a setting is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultValue {
    /// This value, as it would be written.
    Value(&'static str),
    /// Something that depends on the machine or on another setting, in words.
    Described(&'static str),
}

impl Setting {
    /// The variable, such as `ACTAS_BIND`.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// The flag, such as `--bind`.
    pub fn flag(&self) -> String {
        format!("--{}", self.name.to_lowercase().replace('_', "-"))
    }
}

/// Defines a group of settings once: its flags, their help, and its part of the reference can't disagree.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $group:ident ($heading:literal) {
            $( $(#[$arg:meta])* $field:ident: $name:ident <$value:literal> = $kind:ident($default:literal), $help:literal; )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Default, Clone, clap::Args)]
        #[command(next_help_heading = $heading)]
        pub struct $group {
            $(
                #[arg(long, value_name = $value, help = concat!($help, " [env: ACTAS_", stringify!($name), "] [default: ", $default, "]"))]
                $(#[$arg])*
                pub $field: Option<String>,
            )+
        }

        impl $group {
            /// This group's part of [`reference`].
            pub const REFERENCE: &'static [Setting] = &[$( Self::$name ),+];
            $( pub(super) const $name: Setting = Setting { name: stringify!($name), default: DefaultValue::$kind($default), help: $help }; )+
        }

        impl fmt::Debug for $group {
            /// Names the flags that were given. Their values may be secrets.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let given = [$( (stringify!($field), self.$field.is_some()) ),+];
                f.write_str(stringify!($group))?;
                f.debug_set().entries(given.iter().filter(|(_, set)| *set).map(|(field, _)| field)).finish()
            }
        }
    };
}

settings! {
    /// Where the server listens. All that `healthcheck` needs.
    pub struct ListenSettings ("Listening") {
        bind: BIND <"HOST:PORT"> = Value("127.0.0.1:8080"), "Where to listen; port 0 takes a free one";
        ops_bind: OPS_BIND <"HOST:PORT"> = Described("none: with the rest"),
            "Where to serve `/metrics`, `/healthz` and `/readyz`, which then are served nowhere else";
    }
}

settings! {
    /// The database, and the key that protects what lies in it.
    pub struct DatabaseSettings ("Database") {
        database_url: DATABASE_URL <"URL"> = Value("sqlite://actas.db"),
            "`sqlite://PATH` (`sqlite:///PATH` from the root) or `postgres://USER:PASSWORD@HOST/NAME?sslmode=verify-full`";
        database_pool_size: DATABASE_POOL_SIZE <"COUNT"> = Value("16"), "Connections to the database at most, 1 to 500";
        database_timeout_seconds: DATABASE_TIMEOUT_SECONDS <"SECONDS"> = Value("5"),
            "How long a request waits for the database before it is answered 503, 1 to 300";
        database_pooler: DATABASE_POOLER <"none|transaction"> = Value("none"),
            "What stands between Actas and Postgres: `transaction` for PgBouncer with `pool_mode = transaction`, or another pooler of that kind";
        key_encryption_key: KEY_ENCRYPTION_KEY <"BASE64"> = Described("none: signing keys are kept in the clear"),
            "Encrypts the signing keys in the database: 32 random bytes in base64, such as `openssl rand -base64 32` prints";
    }
}

settings! {
    /// Tokens and how long they live.
    pub struct TokenSettings ("Tokens") {
        public_url: PUBLIC_URL <"URL"> = Value("http://localhost:8080"), "The address by which clients reach Actas";
        issuer: ISSUER <"TEXT"> = Described("the public URL"), "The claim `iss`";
        audience: AUDIENCE <"TEXT"> = Value("actas"), "The claim `aud`";
        access_token_ttl_seconds: ACCESS_TOKEN_TTL_SECONDS <"SECONDS"> = Value("3600"), "How long an access token lives, 1 to 86400 (a day)";
        refresh_token_ttl_seconds: REFRESH_TOKEN_TTL_SECONDS <"SECONDS"> = Value("1209600"),
            "How long after the login its session can be refreshed, 1 to 31536000 (a year)";
        refresh_grace_seconds: REFRESH_GRACE_SECONDS <"SECONDS"> = Value("10"),
            "How long a replaced refresh token still gives its successor, for racing tabs and lost answers, up to 300; 0 is off";
    }
}

settings! {
    /// What signs new tokens. Apart from the rest, because `keys` needs it alone.
    pub struct SigningSettings ("Tokens") {
        signing_algorithm: SIGNING_ALGORITHM <"EdDSA|RS256"> = Value("EdDSA"), "What new access tokens are signed with, `EdDSA` or `RS256`; older ones still count";
    }
}

settings! {
    /// Impersonation: each of these pins what the policy says, which then can't be changed by the API.
    pub struct ImpersonationSettings ("Impersonation") {
        impersonation_ttl_seconds: IMPERSONATION_TTL_SECONDS <"SECONDS"> = Described("the policy's, 1800 at first"),
            "How long an impersonation lasts that names no duration, 1 to IMPERSONATION_MAX_SECONDS";
        impersonation_max_seconds: IMPERSONATION_MAX_SECONDS <"SECONDS"> = Described("the policy's, 3600 at first"),
            "The longest duration to ask for, 1 to 86400 (a day)";
        impersonation_idle_seconds: IMPERSONATION_IDLE_SECONDS <"SECONDS"> = Described("the policy's, 900 at first"),
            "How long an impersonation may go unused before it ends, up to 86400 (a day); 0 is off";
        impersonation_reason: IMPERSONATION_REASON <"required|optional"> = Described("the policy's, required at first"), "Whether a start must give a reason";
        impersonation_reason_min_length: IMPERSONATION_REASON_MIN_LENGTH <"COUNT"> = Described("the policy's, 1 at first"),
            "How many characters a reason has at least, 1 to 500";
        impersonation_ticket: IMPERSONATION_TICKET <"required|optional"> = Described("the policy's, optional at first"), "Whether a start must name a ticket";
        impersonation_ticket_pattern: IMPERSONATION_TICKET_PATTERN <"REGEX"> = Described("the policy's, none at first"),
            "What a ticket must look like as a whole, such as `HELP-[0-9]+`";
        #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
        require_restore_proof: REQUIRE_RESTORE_PROOF <"true|false"> = Described("the policy's, false at first"), "Whether a start must carry a restore challenge";
        impersonation_mode: IMPERSONATION_MODE <"full|read_only"> = Described("the policy's, full at first"), "The mode of an impersonation that names none";
        impersonation_read_only_roles: IMPERSONATION_READ_ONLY_ROLES <"ROLE,…"> = Described("the policy's, none at first"), "Actors in these roles may only look";
        impersonation_protected_roles: IMPERSONATION_PROTECTED_ROLES <"ROLE,…"> = Described("the policy's, none at first"),
            "Nobody acts as a user in one of these roles";
        impersonation_max_live: IMPERSONATION_MAX_LIVE <"COUNT"> = Described("the policy's, 0 at first"),
            "How many impersonations one actor may have at once, up to 10000; 0 is no limit";
        impersonation_starts_per_hour: IMPERSONATION_STARTS_PER_HOUR <"COUNT"> = Described("the policy's, 0 at first"),
            "How many impersonations one actor may start within an hour, up to 10000; 0 is no limit";
        impersonation_refused_operations: IMPERSONATION_REFUSED_OPERATIONS <"NAME,…"> = Described("the policy's, none at first"),
            "What is refused under impersonation beside what always is: operationIds, or such as `article.accept`";
        impersonation_freeze: IMPERSONATION_FREEZE <"REASON"> = Described("the policy's, none at first"),
            "While this is set nobody acts as anybody";
    }
}

settings! {
    /// The cost of a password's hash.
    pub struct BcryptSettings ("Passwords") {
        bcrypt_cost: BCRYPT_COST <"COST"> = Value("12"), "The cost of a password's hash, 4 to 16; below 10 is for tests only";
    }
}

settings! {
    /// Logging in: how much hashing at once, and how many failures.
    pub struct LoginSettings ("Passwords") {
        hashing_threads: HASHING_THREADS <"COUNT"> = Described("the cores"), "Threads that hash passwords, 1 to 256";
        hashing_queue: HASHING_QUEUE <"COUNT"> = Value("32"), "Passwords that may wait for such a thread before logins are answered 503, 1 to 10000";
        login_failures_per_minute: LOGIN_FAILURES_PER_MINUTE <"COUNT"> = Value("10"),
            "Failed logins a minute, for an account and for an address, before 429, up to 10000; 0 is off";
    }
}

settings! {
    /// How HTTP is spoken.
    pub struct HttpSettings ("HTTP") {
        trusted_proxies: TRUSTED_PROXIES <"CIDR,…"> = Described("none"),
            "Proxies whose `X-Forwarded-For` is believed, such as `10.0.0.0/8,::1`, separated by commas";
        cors_origins: CORS_ORIGINS <"ORIGIN,…"> = Described("none"),
            "Origins whose pages may call Actas, such as `https://desk.example.org`, separated by commas";
        workers: WORKERS <"COUNT"> = Described("the number of cores"), "Threads that serve requests, 1 to 256";
        max_body_bytes: MAX_BODY_BYTES <"BYTES"> = Value("1048576"), "The largest request body, 1024 to 67108864 (64 MiB)";
        header_timeout_seconds: HEADER_TIMEOUT_SECONDS <"SECONDS"> = Value("10"), "How long a request's head may take to arrive, 1 to 300";
        body_timeout_seconds: BODY_TIMEOUT_SECONDS <"SECONDS"> = Value("20"), "How long a request's body may take to arrive, 1 to 300";
        handling_timeout_seconds: HANDLING_TIMEOUT_SECONDS <"SECONDS"> = Value("30"), "How long a request may take in all, 1 to 300";
        shutdown_timeout_seconds: SHUTDOWN_TIMEOUT_SECONDS <"SECONDS"> = Value("20"), "How long requests in flight may take at shutdown, 1 to 300";
    }
}

settings! {
    /// What is logged, and how it looks.
    pub struct LogSettings ("Logging") {
        log: LOG <"FILTER"> = Value("info"), "What to log, such as `info,actas=debug`";
        log_format: LOG_FORMAT <"json|human"> = Value("json"), "How a log line looks";
    }
}

/// The flags of `serve` and `demo`: every setting.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct Settings {
    #[command(flatten)]
    pub listen: ListenSettings,
    #[command(flatten)]
    pub database: DatabaseSettings,
    #[command(flatten)]
    pub tokens: TokenSettings,
    #[command(flatten)]
    pub signing: SigningSettings,
    #[command(flatten)]
    pub impersonation: ImpersonationSettings,
    #[command(flatten)]
    pub bcrypt: BcryptSettings,
    #[command(flatten)]
    pub login: LoginSettings,
    #[command(flatten)]
    pub http: HttpSettings,
    #[command(flatten)]
    pub log: LogSettings,
}

/// The flags of the commands that work on the database and serve nobody.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct CommandSettings {
    #[command(flatten)]
    pub database: DatabaseSettings,
    #[command(flatten)]
    pub bcrypt: BcryptSettings,
    #[command(flatten)]
    pub log: LogSettings,
}
