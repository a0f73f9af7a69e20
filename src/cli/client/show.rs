//! `actas client show`.

use clap::Args;

use super::{failure, open, parse_id, print_client};
use crate::cli::output::Outcome;
use crate::cli::{ABOUT_COMMAND_SETTINGS, Format};
use crate::config::CommandSettings;
use crate::service::clients;

/// Show a client
///
/// Never its secret, of which only a hash is kept.
#[derive(Args)]
#[command(after_long_help = help!["Example:\n  actas client show actas --json", ABOUT_COMMAND_SETTINGS])]
pub struct Show {
    /// The client's id; `actas` is the first-party client
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    settings: CommandSettings,
}

impl Show {
    pub fn run(self) -> Outcome {
        let id = parse_id(&self.id)?;
        let db = open(&self.settings)?;
        let client = db.read_blocking(|conn| clients::get(conn, id)).map_err(failure(id))?;
        print_client(client, self.format)
    }
}
