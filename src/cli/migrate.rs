//! `actas migrate`: the database's schema, brought to this version.

use clap::Args;
use serde_json::json;

use super::output::{Outcome, print, tell};
use super::{ABOUT_COMMAND_SETTINGS, Format, database};
use crate::config::CommandSettings;
use crate::service::database::migrate;

/// Bring the database to this version's schema
///
/// Creates the database's tables, or changes them to what this version needs, and prints the migrations that it ran. `actas serve` does
/// so by itself at its start; this is for whoever wants it done before. Any number may run at once: one works, the others wait.
#[derive(Args)]
#[command(after_long_help = help![
    "Examples:
  actas migrate
  actas migrate --database-url postgres://actas@db.example.org/actas?sslmode=verify-full --json",
    ABOUT_COMMAND_SETTINGS,
])]
pub struct Migrate {
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    settings: CommandSettings,
}

impl Migrate {
    pub fn run(self) -> Outcome {
        let (_, db) = database::open(&self.settings)?;
        let ran = migrate(&db)?;
        if self.format.json {
            return print(json!({ "migrations": ran }));
        }
        if ran.is_empty() {
            tell("there was nothing to do");
        }
        ran.iter().try_for_each(print)
    }
}
