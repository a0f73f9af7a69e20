//! The only place where the harness calls into Actas. Everything else speaks HTTP or SQL.

use std::net::SocketAddr;
use std::sync::mpsc;

use actas::auth::passwords::hash_blocking;
use actas::auth::secret::ClientSecret;
use actas::cli::serve::{database_options, prepare};
use actas::clock::Clock;
use actas::config::Config;
use actas::domain::client::{Audience, ClientChange, ClientGrant, ClientId, ClientStatus, ClientTerms};
use actas::domain::error::Result as Outcome;
use actas::domain::identity::Ctx;
use actas::domain::ids::UserId;
use actas::domain::role::Role;
use actas::domain::scope::Scope;
use actas::domain::text::{DisplayName, Email, NewPassword};
use actas::service::database::{Db, Options, migrate as run_migrations};
use actas::service::{Tx, clients, run_command, users};
use serde_json::Value;

/// A server that runs in this process.
pub struct Server {
    pub address: SocketAddr,
    /// Where `ACTAS_OPS_BIND` is set.
    pub ops_address: Option<SocketAddr>,
    /// Shuts it down gracefully, waits until its threads and connections are gone, and frees its lock on the database.
    pub stop: Box<dyn FnOnce() + Send>,
}

/// A user to be made without HTTP, active and with a password.
pub struct NewUser<'a> {
    pub email: &'a str,
    pub display_name: &'a str,
    /// A role's spelling, such as `editor`.
    pub role: &'a str,
    pub password: &'a str,
}

/// Starts a server as `actas serve` does, migrations included, in a thread of its own with an actix `System` of its own. It
/// asks `clock` for every instant. Returns when it accepts connections.
///
/// # Errors
/// What `actas serve` would print when it can't start.
pub fn start_server(config: Config, clock: &Clock) -> Result<Server, String> {
    let clock = clock.clone();
    let (tell, told) = mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            match prepare(&config, clock, None) {
                Ok(ready) => {
                    tell.send(Ok((ready.address, ready.ops_address))).unwrap();
                    let wait = async {
                        let _ = stopped.await;
                    };
                    ready.run(wait).await.unwrap();
                }
                Err(why) => tell.send(Err(why)).unwrap(),
            }
        });
    });
    let (address, ops_address) = told.recv().map_err(|_| "the server panicked".to_owned())??;
    let stop = Box::new(move || {
        let _ = stop.send(());
        thread.join().unwrap();
    });
    Ok(Server { address, ops_address, stop })
}

/// Makes a user as `actas user create` does, beside a running server, and answers the id.
///
/// # Errors
/// What `actas user create` would print.
pub fn create_user(config: &Config, clock: &Clock, user: &NewUser<'_>) -> Result<String, String> {
    let options = Options { pool_size: 1, ..database_options(&config.database) };
    let db = Db::open(&options).map_err(|error| error.to_string())?;
    let now = clock.now();
    let ctx = Ctx::command_line("created for a test", now);
    let new = users::NewUser {
        id: UserId::new(now),
        email: Email::parse(user.email).unwrap(),
        display_name: DisplayName::parse(user.display_name).unwrap(),
        role: Role::parse(user.role).unwrap(),
    };
    let hash = hash_blocking(&NewPassword::parse(user.password).unwrap(), 4).unwrap();
    let created = db.write_blocking(|conn| users::create_with_password(conn, &ctx, &new, &hash));
    created.map(|user| user.id.to_string()).map_err(|error| error.to_string())
}

/// Migrates the database as `actas migrate` does, and closes every connection to it.
///
/// # Errors
/// What `actas migrate` would print.
pub fn migrate(url: &str, is_pooled: bool) -> Result<(), String> {
    let options = Options { url: url.to_owned(), pool_size: 1, patience: std::time::Duration::from_secs(10), is_pooled };
    let db = Db::open(&options).map_err(|error| error.to_string())?;
    run_migrations(&db).map(|_| ()).map_err(|error| error.to_string())
}

/// Every scope, in one text.
pub fn every_scope() -> String {
    Scope::all().to_string()
}

/// Runs one use case on behalf of the command line, beside a running server.
fn command<T>(config: &Config, clock: &Clock, work: impl Fn(&mut Tx<'_>) -> Outcome<T>) -> Result<T, String> {
    let options = Options { pool_size: 1, ..database_options(&config.database) };
    let db = Db::open(&options).map_err(|error| error.to_string())?;
    run_command(&db, &Ctx::command_line("done for a test", clock.now()), work).map_err(|error| error.to_string())
}

fn words(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap())
}

fn read_client(terms: &Value) -> ClientChange {
    let member = |name: &str| terms.get(name);
    ClientChange {
        name: member("name").map(|name| DisplayName::parse(name.as_str().unwrap()).unwrap()),
        status: member("status").map(|status| ClientStatus::parse(status.as_str().unwrap()).unwrap()),
        grants: member("grants").map(|grants| words(grants).map(|grant| ClientGrant::parse(grant).unwrap()).collect()),
        scope: member("scope").map(|scope| Scope::parse(scope.as_str().unwrap()).unwrap()),
        audiences: member("audiences").map(|audiences| words(audiences).map(|audience| Audience::parse(audience).unwrap()).collect()),
        presenters: member("presenters").map(|presenters| words(presenters).map(|id| ClientId::parse(id).unwrap()).collect()),
    }
}

/// Registers a client, beside a running server, and answers its id and its secret.
///
/// # Errors
/// Why Actas refused it.
pub fn create_client(config: &Config, clock: &Clock, terms: &Value) -> Result<(String, String), String> {
    let change = read_client(terms);
    let terms = ClientTerms {
        name: change.name.unwrap(),
        status: ClientStatus::Active,
        grants: change.grants.unwrap(),
        scope: change.scope.unwrap(),
        audiences: change.audiences.unwrap(),
        presenters: change.presenters.unwrap(),
    };
    let (id, secret) = (ClientId::new(clock.now()), ClientSecret::generate().unwrap());
    command(config, clock, |tx| clients::create(tx, id, &terms, &secret)).map(|made| (id.to_string(), made.secret.reveal().to_owned()))
}

/// Changes a client's terms, beside a running server.
///
/// # Errors
/// Why Actas refused it.
pub fn change_client(config: &Config, clock: &Clock, id: &str, change: &Value) -> Result<(), String> {
    let (id, change) = (ClientId::parse(id).unwrap(), read_client(change));
    command(config, clock, |tx| clients::update(tx, id, &change, |_| Ok(()))).map(drop)
}

/// Gives a client a new secret, beside a running server, and answers it.
///
/// # Errors
/// Why Actas refused it.
pub fn rotate_client_secret(config: &Config, clock: &Clock, id: &str, overlap_seconds: u32) -> Result<String, String> {
    let (id, secret) = (ClientId::parse(id).unwrap(), ClientSecret::generate().unwrap());
    let rotated = command(config, clock, |tx| clients::rotate_secret(tx, id, &secret, overlap_seconds, |_| Ok(())));
    rotated.map(|rotated| rotated.secret.reveal().to_owned())
}
