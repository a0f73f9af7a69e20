//! `actas client disable`.

use clap::Args;

use super::{failure, open, parse_id, print_id};
use crate::cli::output::Outcome;
use crate::cli::{ABOUT_COMMAND_SETTINGS, Format};
use crate::clock::Clock;
use crate::config::CommandSettings;
use crate::domain::client::{ClientChange, ClientStatus};
use crate::domain::identity::Ctx;
use crate::service::{clients, run_command};

/// Disable a client
///
/// It gets no tokens any more; those that it has are dead at once, also at a running server, and the impersonations that were started through it end. Prints the
/// client's id. Clients are never deleted, because the history names them; `actas client update ID --enable` makes one active again. The first-party client can't
/// be disabled.
#[derive(Args)]
#[command(after_long_help = help!["Example:\n  actas client disable 019aa0f0-0000-7000-8000-0000000000ff", ABOUT_COMMAND_SETTINGS])]
pub struct Disable {
    /// The client's id
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    settings: CommandSettings,
}

impl Disable {
    pub fn run(self) -> Outcome {
        let id = parse_id(&self.id)?;
        let db = open(&self.settings)?;
        let ctx = Ctx::command_line("disabled by `actas client disable`", Clock::system().now());
        let change = ClientChange { status: Some(ClientStatus::Disabled), ..ClientChange::default() };
        let client = run_command(&db, &ctx, |tx| clients::update(tx, id, &change, |_| Ok(()))).map_err(failure(id))?;
        print_id(client, self.format)
    }
}
