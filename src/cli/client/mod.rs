//! `actas client`: the programs that may ask for tokens, by whoever runs the machine.

mod create;
mod disable;
mod list;
mod rotate_secret;
mod show;
mod update;

use chrono::SecondsFormat;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use super::output::{Failure, Outcome, describe, print, print_json, tell};
use super::{Format, database};
use crate::clock::Clock;
use crate::config::CommandSettings;
use crate::domain::Time;
use crate::domain::client::{self, Audience, ClientGrant, ClientId};
use crate::domain::error::{Code, Error};
use crate::domain::scope::Scope;
use crate::domain::text::DisplayName;
use crate::http::wire;
use crate::service::clients;
use crate::service::database::Db;

/// Create, list and change clients
///
/// A client is a program that asks for tokens: a service, with an id and a secret. The first-party client, `actas`, is built in and has none.
#[derive(Args)]
#[command(after_long_help = help![
    "Examples:
  actas client create --name Archive --grant token_exchange --audience https://search.example
  actas client update actas --add-presenter 019aa0f0-0000-7000-8000-0000000000ff
  actas client rotate-secret 019aa0f0-0000-7000-8000-0000000000ff --overlap-seconds 3600",
])]
pub struct Client {
    #[command(subcommand)]
    command: ClientCommand,
}

#[derive(Subcommand)]
enum ClientCommand {
    Create(create::Create),
    List(list::List),
    Show(show::Show),
    Update(Box<update::Update>),
    RotateSecret(rotate_secret::RotateSecret),
    Disable(disable::Disable),
}

impl Client {
    pub fn run(self) -> Outcome {
        match self.command {
            ClientCommand::Create(command) => command.run(),
            ClientCommand::List(command) => command.run(),
            ClientCommand::Show(command) => command.run(),
            ClientCommand::Update(command) => command.run(),
            ClientCommand::RotateSecret(command) => command.run(),
            ClientCommand::Disable(command) => command.run(),
        }
    }
}

/// The database, in which the first-party client is, whether a server ever started on it or not.
///
/// # Errors
/// As [`database::open_current`].
fn open(settings: &CommandSettings) -> Outcome<Db> {
    let (_, db) = database::open_current(settings)?;
    clients::ensure_first_party(&db, Clock::system().now())?;
    Ok(db)
}

/// The id written as `text`.
///
/// # Errors
/// Exit status 3 for what is no id: no client can have it.
fn parse_id(text: &str) -> Outcome<ClientId> {
    ClientId::parse(text).ok_or_else(|| Failure::existence(format!("there is no client `{text}`")))
}

fn parse_ids(texts: &[String]) -> Outcome<Vec<ClientId>> {
    texts.iter().map(|text| parse_id(text)).collect()
}

/// What a command on the client `id` says where it fails.
fn failure(id: ClientId) -> impl Fn(Error) -> Failure {
    move |error| match error.code() {
        Code::NotFound => Failure::existence(format!("there is no client `{id}`")),
        // Another one that the command named.
        Code::InvalidRequest if error.errors().iter().any(|field| field.code == "unknown_client") => Failure::existence(describe(&error)),
        _ => error.into(),
    }
}

fn parse_name(text: &str) -> Result<DisplayName, String> {
    DisplayName::parse(text).map_err(|error| error.detail)
}

fn parse_audience(text: &str) -> Result<Audience, String> {
    Audience::parse(text).map_err(|error| error.detail)
}

fn parse_scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text).map_err(|error| error.to_string())
}

/// Accepts a grant's spelling, and lists them all where it is none.
fn grant_parser() -> impl TypedValueParser<Value = ClientGrant> {
    let spellings = ClientGrant::ALL.iter().map(|grant| grant.as_str());
    PossibleValuesParser::new(spellings).try_map(|text| ClientGrant::parse(&text).ok_or("is no grant"))
}

/// Prints the client's id, or with `--json` the client.
fn print_id(client: client::Client, format: Format) -> Outcome {
    if format.json { print_json(&wire::Client::from(client)) } else { print(client.id) }
}

/// Prints the client's id and its secret, or with `--json` the client with it.
fn print_secret(made: clients::WithSecret, format: Format) -> Outcome {
    tell("This is the only time that the secret is told.");
    if format.json {
        return print_json(&wire::ClientWithSecret::from(made));
    }
    print(format_args!("{:<13} {}", "client_id", made.client.id))?;
    print(format_args!("{:<13} {}", "client_secret", made.secret.reveal()))
}

/// Prints a client in full, a field a line.
fn print_client(client: client::Client, format: Format) -> Outcome {
    let time = |time: Time| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    if format.json {
        return print_json(&wire::Client::from(client));
    }
    let terms = &client.terms;
    let fields = [
        ("id", client.id.to_string()),
        ("name", terms.name.to_string()),
        ("status", terms.status.to_string()),
        ("grants", words(&terms.grants)),
        ("scope", terms.scope.to_string()),
        ("audiences", words(&terms.audiences)),
        ("presenters", words(&terms.presenters)),
        ("version", client.version.to_string()),
        ("created at", time(client.created_at)),
        ("updated at", time(client.updated_at)),
    ];
    fields.iter().try_for_each(|(name, value)| print(format!("{name:<13} {value}").trim_end()))
}

fn words(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
