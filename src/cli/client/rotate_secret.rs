//! `actas client rotate-secret`.

use clap::Args;

use super::{failure, open, parse_id, print_secret};
use crate::cli::output::Outcome;
use crate::cli::{ABOUT_COMMAND_SETTINGS, Format};
use crate::clock::Clock;
use crate::config::CommandSettings;
use crate::domain::identity::Ctx;
use crate::service::clients::{self, ClientSecret, MAX_OVERLAP_SECONDS};
use crate::service::run_command;

/// Give a client a new secret
///
/// Prints the client's id and its new secret, which is told this once. The old one is void at once, also at a running server, unless `--overlap-seconds` says
/// otherwise; tokens that were given stay.
#[derive(Args)]
#[command(after_long_help = help![
    "Examples:
  actas client rotate-secret 019aa0f0-0000-7000-8000-0000000000ff
  actas client rotate-secret 019aa0f0-0000-7000-8000-0000000000ff --overlap-seconds 3600 --json | jq -r .client_secret",
    ABOUT_COMMAND_SETTINGS,
])]
pub struct RotateSecret {
    /// The client's id
    #[arg(value_name = "ID")]
    id: String,
    /// How long the old secret still counts, so that a service with many instances can be moved over; a week at most
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_OVERLAP_SECONDS)))]
    overlap_seconds: u32,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    settings: CommandSettings,
}

impl RotateSecret {
    pub fn run(self) -> Outcome {
        let id = parse_id(&self.id)?;
        let db = open(&self.settings)?;
        let ctx = Ctx::command_line("made by `actas client rotate-secret`", Clock::system().now());
        let secret = ClientSecret::generate()?;
        let overlap = self.overlap_seconds;
        let made = run_command(&db, &ctx, |tx| clients::rotate_secret(tx, id, &secret, overlap, |_| Ok(()))).map_err(failure(id))?;
        print_secret(made, self.format)
    }
}
