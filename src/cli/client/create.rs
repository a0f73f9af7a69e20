//! `actas client create`.

use clap::Args;

use super::{failure, grant_parser, open, parse_audience, parse_ids, parse_name, parse_scope, print_secret};
use crate::cli::output::Outcome;
use crate::cli::{ABOUT_COMMAND_SETTINGS, Format};
use crate::clock::Clock;
use crate::config::CommandSettings;
use crate::domain::client::{Audience, ClientGrant, ClientId, ClientStatus, ClientTerms};
use crate::domain::identity::Ctx;
use crate::domain::scope::Scope;
use crate::domain::text::DisplayName;
use crate::service::clients::{self, ClientSecret};
use crate::service::run_command;

/// Create a client
///
/// Creates an active client, and prints its id and its secret. The secret is told this once: only its hash is kept.
#[derive(Args)]
#[command(after_long_help = help![
    "Examples:
  actas client create --name Archive --grant token_exchange --scope 'articles:create users:read' --audience https://search.example
  actas client create --json --name Reports --grant client_credentials --scope history:read --audience actas | jq -r .client_secret",
    ABOUT_COMMAND_SETTINGS,
])]
pub struct Create {
    /// The name as others see it
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: DisplayName,
    /// What it may ask the token endpoint for; may be given several times
    #[arg(long = "grant", value_name = "GRANT", value_parser = grant_parser())]
    grants: Vec<ClientGrant>,
    /// The most that its tokens reach: permissions with a space between them
    #[arg(long, value_name = "SCOPE", default_value = "", hide_default_value = true, value_parser = parse_scope)]
    scope: Scope,
    /// For whom it may ask tokens, often a URL; may be given several times
    #[arg(long = "audience", value_name = "AUDIENCE", value_parser = parse_audience)]
    audiences: Vec<Audience>,
    /// A client that may present this one's tokens for an exchange; may be given several times
    #[arg(long = "presenter", value_name = "ID")]
    presenters: Vec<String>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    settings: CommandSettings,
}

impl Create {
    pub fn run(self) -> Outcome {
        let presenters = parse_ids(&self.presenters)?;
        let db = open(&self.settings)?;
        let (name, grants, scope, audiences) = (self.name, self.grants, self.scope, self.audiences);
        let terms = ClientTerms { name, status: ClientStatus::Active, grants, scope, audiences, presenters };
        let now = Clock::system().now();
        let ctx = Ctx::command_line("created by `actas client create`", now);
        let (id, secret) = (ClientId::new(now), ClientSecret::generate()?);
        let made = run_command(&db, &ctx, |tx| clients::create(tx, id, &terms, &secret)).map_err(failure(id))?;
        print_secret(made, self.format)
    }
}
