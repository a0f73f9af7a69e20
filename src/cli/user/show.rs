//! `actas user show`.

use clap::Args;

use super::{find_user, parse_email, print_user};
use crate::cli::output::Outcome;
use crate::cli::{ABOUT_COMMAND_SETTINGS, Format, database};
use crate::config::CommandSettings;
use crate::domain::text::Email;

/// Show an account
#[derive(Args)]
#[command(after_long_help = help!["Example:\n  actas user show --email ada@example.org --json", ABOUT_COMMAND_SETTINGS])]
pub struct Show {
    /// The user's e-mail address
    #[arg(long, value_name = "EMAIL", value_parser = parse_email)]
    email: Email,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    settings: CommandSettings,
}

impl Show {
    pub fn run(self) -> Outcome {
        let (_, db) = database::open_current(&self.settings)?;
        print_user(&find_user(&db, &self.email)?, self.format)
    }
}
