//! `actas demo`: a newsroom to play with, gone when it ends.

mod newsroom;
mod story;

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::output::{Failure, Outcome, print, print_json};
use super::{ABOUT_SETTINGS, Format, hash_passwords, serve};
use crate::clock::Clock;
use crate::config::{Config, Environment, Settings};
use crate::domain::Time;
use crate::domain::article::{Article, ArticleStatus};
use crate::domain::error::Error;
use crate::domain::ids::ArticleId;
use crate::domain::policy::Pins;
use crate::domain::role::Role;
use crate::domain::text::Title;
use crate::http::server;
use crate::service::Office;
use newsroom::{CAST, PRINT_SHOP, Person, Service};

/// Where the demo's settings begin, unless something else is chosen.
const DEFAULTS: [(&str, &str); 6] = [
    // The passwords are public.
    ("BCRYPT_COST", "4"),
    ("LOGIN_FAILURES_PER_MINUTE", "0"),
    ("LOG", "warn"),
    ("LOG_FORMAT", "human"),
    // Whoever tears it down doesn't want to wait.
    ("SHUTDOWN_TIMEOUT_SECONDS", "2"),
    ("WORKERS", "2"),
];

/// Serve a throw-away newsroom to play with
///
/// Serves the API over an embedded database of its own, in a temporary directory that is deleted at SIGTERM or SIGINT, whatever
/// ACTAS_DATABASE_URL says. Its people, their ids, e-mail addresses and passwords, and its articles are the same at every start, with
/// some history behind them. It prints them, and a session to paste that tells the story: an administrator acts as an editor, on the
/// record, and comes back.
///
/// Because its passwords are public it listens on loopback addresses only. It takes the settings of `actas serve`, with these defaults:
/// no limit of failed logins, cheap password hashes, pages on any localhost origin may call, quiet logs for a person's eyes, and a public
/// URL where it listens.
#[derive(Args)]
#[command(
    mut_arg("database_url", |argument| argument.hide(true)),
    after_long_help = help![
        "Examples:
  actas demo
  actas demo --bind 127.0.0.1:0 --json           one line when it is ready: {\"base_url\", \"users\", \"articles\"}
  actas demo --impersonation-ttl-seconds 5       see what happens when an impersonation runs out",
        ABOUT_SETTINGS,
    ],
)]
pub struct Demo {
    /// Listen where other machines can reach it, although everyone knows the passwords
    #[arg(long)]
    allow_remote: bool,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    settings: Settings,
}

impl Demo {
    pub fn run(mut self) -> Outcome {
        if self.settings.database.database_url.is_some() {
            return Err(Failure::usage("the demo has a database of its own; --database-url is for `actas serve`"));
        }
        let result: Outcome<_> = actix_web::rt::System::new().block_on(async {
            // Before there is anything to delete.
            let stop = server::termination().map_err(Failure::failed)?;
            let clock = Clock::system();
            let directory = tempfile::Builder::new().prefix(PREFIX).tempdir();
            let directory = directory.map_err(|error| Failure::failed(format!("can't make a temporary directory: {error}")))?;
            delete_leftovers(directory.path(), clock.now());
            self.settings.database.database_url = Some(format!("sqlite://{}", directory.path().join(FILE).display()));
            let outcome = self.serve(clock, stop).await;
            Ok((directory, outcome))
        });
        // Everything that had the files open is gone.
        let (directory, outcome) = result?;
        let closed = directory.close().map_err(|error| Failure::failed(format!("can't delete the demo's database: {error}")));
        outcome.and(closed)
    }

    async fn serve(&self, clock: Clock, stop: impl Future<Output = ()>) -> Outcome {
        let environment = Environment::of_process();
        let config = self.settings.check_with(&environment, &DEFAULTS)?;
        for bind in [Some(&config.listen.bind), config.listen.ops_bind.as_ref()].into_iter().flatten() {
            if !self.allow_remote && !bind.is_loopback() {
                return Err(Failure::usage(format!(
                    "other machines can reach {bind}, and the demo's passwords are public; bind to 127.0.0.1, or say --allow-remote"
                )));
            }
        }
        let sockets = serve::Sockets::open(&config.listen).map_err(|why| {
            Failure::failed(format!("{why}\nsay --bind 127.0.0.1:0 for a free port, or --bind 127.0.0.1:9000 for another one"))
        })?;
        let base_url = base_url(sockets.address());
        // Once more, now that the address is known.
        let defaults: Vec<_> = DEFAULTS.into_iter().chain([("PUBLIC_URL", base_url.as_str())]).collect();
        let mut config = self.settings.check_with(&environment, &defaults)?;
        config.http.cors.any_localhost = true;
        serve::begin_logging(&config)?;

        let metrics = serve::new_metrics().map_err(Failure::failed)?;
        let articles = furnish(&config, clock.now()).await?;
        let db = serve::open_database(&config.database)?;
        let office = serve::open_office(&config, db, clock.now(), serve::observer(&metrics), hash_passwords::program())?;
        let ready = serve::assemble(&config, clock, office, metrics, sockets).map_err(Failure::failed)?;
        if self.format.json {
            print_json(&Ready::new(&base_url, &articles))?;
        } else {
            print(story::tell(&base_url, &articles))?;
        }
        ready.run(stop).await.map_err(Failure::failed)
    }
}

/// Fills the database with the newsroom, in the days before `now`.
async fn furnish(config: &Config, now: Time) -> Outcome<Vec<Article>> {
    let opening = newsroom::opening(now);
    let db = serve::open_database(&config.database)?;
    // The past was lived under the usual settings, however short the demo's tokens live.
    let mut usual = config.clone();
    (usual.tokens.access_ttl, usual.tokens.refresh_ttl) = (3600, 86_400);
    usual.impersonation.pins = Pins::default();
    let office: Office = serve::open_office(&usual, db, opening, std::sync::Arc::new(|_| {}), None)?;
    let furnished = newsroom::furnish(&office, config.login.bcrypt_cost, opening).await;
    furnished.map_err(|error: Error| Failure::failed(format!("the newsroom could not be made: {error}")))
}

/// Where a client on this machine reaches the server.
fn base_url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

/// What `--json` prints.
#[derive(Serialize)]
struct Ready<'a> {
    base_url: &'a str,
    users: Vec<User>,
    clients: [Client; 1],
    articles: Vec<Headline<'a>>,
}

#[derive(Serialize)]
struct Client {
    id: &'static str,
    client_secret: &'static str,
    name: &'static str,
    audience: &'static str,
}

#[derive(Serialize)]
struct User {
    id: &'static str,
    email: &'static str,
    password: &'static str,
    display_name: &'static str,
    role: Role,
}

#[derive(Serialize)]
struct Headline<'a> {
    id: ArticleId,
    title: &'a Title,
    status: ArticleStatus,
}

impl<'a> Ready<'a> {
    fn new(base_url: &'a str, articles: &'a [Article]) -> Self {
        let user = |Person { id, email, password, name, role }| User { id, email, password, display_name: name, role };
        let headline = |article: &'a Article| Headline { id: article.id, title: &article.title, status: article.status };
        let Service { id, secret, name, audience } = PRINT_SHOP;
        let clients = [Client { id, client_secret: secret, name, audience }];
        Self { base_url, users: CAST.map(user).into(), clients, articles: articles.iter().map(headline).collect() }
    }
}

/// What a demo's directory begins with.
const PREFIX: &str = "actas-demo-";
const FILE: &str = "actas.db";

/// How old a directory must be, in seconds, to be nobody's who is just starting.
const LEFTOVER_SECONDS: i64 = 60;

/// Deletes what demos left behind that were killed outright, beside `own`. Best effort: they may be someone else's.
fn delete_leftovers(own: &Path, now: Time) {
    let Some(entries) = own.parent().and_then(|parent| fs::read_dir(parent).ok()) else { return };
    let is_leftover = |path: &Path| {
        let is_demo = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).map(Time::from);
        let is_old = modified.is_ok_and(|modified| (now - modified).num_seconds() > LEFTOVER_SECONDS);
        // A server that is alive holds its lock.
        is_demo && path != own && is_old && File::open(path.join(FILE).with_extension("db.lock")).is_ok_and(|lock| lock.try_lock().is_ok())
    };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| is_leftover(path)) {
        let _ = fs::remove_dir_all(path);
    }
}
