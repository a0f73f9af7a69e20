//! `actas client update`.

use clap::{ArgGroup, Args};

use super::{failure, grant_parser, open, parse_audience, parse_id, parse_ids, parse_name, parse_scope, print_id};
use crate::cli::output::Outcome;
use crate::cli::{ABOUT_COMMAND_SETTINGS, Format};
use crate::clock::Clock;
use crate::config::CommandSettings;
use crate::domain::client::{Audience, ClientChange, ClientGrant, ClientId, ClientStatus, ClientTerms};
use crate::domain::error::Error;
use crate::domain::identity::Ctx;
use crate::domain::scope::Scope;
use crate::domain::text::DisplayName;
use crate::service::{clients, run_command};

/// Change a client
///
/// What is not named stays. `--grant`, `--scope`, `--audience` and `--presenter` replace all that was there; `--add-…` and `--remove-…` leave the rest as it is.
/// Tokens that the client has keep what they were given. Prints the client's id.
#[derive(Args)]
#[command(
    override_usage = "actas client update [OPTIONS] <ID>",
    group(ArgGroup::new("change").required(true).multiple(true).args([
        "name", "enable", "grants", "scope", "audiences", "presenters",
        "add_grants", "remove_grants", "add_audiences", "remove_audiences", "add_presenters", "remove_presenters",
    ])),
    after_long_help = help![
        "Examples:
  actas client update actas --add-presenter 019aa0f0-0000-7000-8000-0000000000ff
  actas client update 019aa0f0-0000-7000-8000-0000000000ff --name Archive --scope 'articles:create users:read'
  actas client update 019aa0f0-0000-7000-8000-0000000000ff --enable",
        ABOUT_COMMAND_SETTINGS,
    ],
)]
pub struct Update {
    /// The client's id; `actas` is the first-party client
    #[arg(value_name = "ID")]
    id: String,
    /// The name as others see it
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: Option<DisplayName>,
    /// Make a disabled client active again; what had ended stays so
    #[arg(long)]
    enable: bool,
    /// The most that its tokens reach: permissions with a space between them
    #[arg(long, value_name = "SCOPE", value_parser = parse_scope)]
    scope: Option<Scope>,
    /// What it may ask the token endpoint for; may be given several times
    #[arg(long = "grant", value_name = "GRANT", value_parser = grant_parser(), conflicts_with_all = ["add_grants", "remove_grants"])]
    grants: Vec<ClientGrant>,
    /// A grant more; may be given several times
    #[arg(long = "add-grant", value_name = "GRANT", value_parser = grant_parser())]
    add_grants: Vec<ClientGrant>,
    /// A grant less; may be given several times
    #[arg(long = "remove-grant", value_name = "GRANT", value_parser = grant_parser())]
    remove_grants: Vec<ClientGrant>,
    /// For whom it may ask tokens, often a URL; may be given several times
    #[arg(long = "audience", value_name = "AUDIENCE", value_parser = parse_audience, conflicts_with_all = ["add_audiences", "remove_audiences"])]
    audiences: Vec<Audience>,
    /// An audience more; may be given several times
    #[arg(long = "add-audience", value_name = "AUDIENCE", value_parser = parse_audience)]
    add_audiences: Vec<Audience>,
    /// An audience less; may be given several times
    #[arg(long = "remove-audience", value_name = "AUDIENCE", value_parser = parse_audience)]
    remove_audiences: Vec<Audience>,
    /// A client that may present this one's tokens for an exchange; may be given several times
    #[arg(long = "presenter", value_name = "ID", conflicts_with_all = ["add_presenters", "remove_presenters"])]
    presenters: Vec<String>,
    /// A presenter more; may be given several times
    #[arg(long = "add-presenter", value_name = "ID")]
    add_presenters: Vec<String>,
    /// A presenter less; may be given several times
    #[arg(long = "remove-presenter", value_name = "ID")]
    remove_presenters: Vec<String>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    settings: CommandSettings,
}

/// What the flags say about one list.
struct ListChange<T> {
    replace: Vec<T>,
    add: Vec<T>,
    remove: Vec<T>,
}

impl<T: Clone + PartialEq> ListChange<T> {
    /// The list after it, where it says anything. What is added and removed at once is there.
    fn of(&self, before: &[T]) -> Option<Vec<T>> {
        if !self.replace.is_empty() {
            return Some(self.replace.clone());
        }
        if self.add.is_empty() && self.remove.is_empty() {
            return None;
        }
        let kept = before.iter().filter(|item| !self.remove.contains(item));
        Some(kept.chain(&self.add).cloned().collect())
    }
}

/// What the flags say.
struct Change {
    name: Option<DisplayName>,
    status: Option<ClientStatus>,
    scope: Option<Scope>,
    grants: ListChange<ClientGrant>,
    audiences: ListChange<Audience>,
    presenters: ListChange<ClientId>,
}

impl Change {
    fn of(&self, before: &ClientTerms) -> ClientChange {
        ClientChange {
            name: self.name.clone(),
            status: self.status,
            grants: self.grants.of(&before.grants),
            scope: self.scope,
            audiences: self.audiences.of(&before.audiences),
            presenters: self.presenters.of(&before.presenters),
        }
    }
}

impl Update {
    pub fn run(self) -> Outcome {
        let id = parse_id(&self.id)?;
        let change = Change {
            name: self.name,
            status: self.enable.then_some(ClientStatus::Active),
            scope: self.scope,
            grants: ListChange { replace: self.grants, add: self.add_grants, remove: self.remove_grants },
            audiences: ListChange { replace: self.audiences, add: self.add_audiences, remove: self.remove_audiences },
            presenters: ListChange {
                replace: parse_ids(&self.presenters)?,
                add: parse_ids(&self.add_presenters)?,
                remove: parse_ids(&self.remove_presenters)?,
            },
        };
        let db = open(&self.settings)?;
        let ctx = Ctx::command_line("changed by `actas client update`", Clock::system().now());
        let client = run_command(&db, &ctx, |tx| {
            let before = clients::get(tx.conn, id)?;
            // The lists were read without a lock: where somebody else was faster, they are read again.
            let is_same =
                |version| if version == before.version { Ok(()) } else { Err(Error::lost_race("the client was changed meanwhile")) };
            clients::update(tx, id, &change.of(&before.terms), is_same)
        });
        print_id(client.map_err(failure(id))?, self.format)
    }
}
