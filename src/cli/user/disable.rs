//! `actas user disable`.

use clap::Args;

use super::{find_user, parse_email, print_id};
use crate::cli::output::Outcome;
use crate::cli::{ABOUT_COMMAND_SETTINGS, Format, database};
use crate::clock::Clock;
use crate::config::CommandSettings;
use crate::domain::identity::Ctx;
use crate::domain::text::Email;
use crate::service::{run_command, users};

/// Disable an account
///
/// The user can't log in any more; their sessions end, and the impersonations of and by them, also at a running server. Prints the user's
/// id. Accounts are never deleted, because the history names them. The last active administrator can't be disabled.
#[derive(Args)]
#[command(after_long_help = help!["Example:\n  actas user disable --email ed@example.org", ABOUT_COMMAND_SETTINGS])]
pub struct Disable {
    /// The user's e-mail address
    #[arg(long, value_name = "EMAIL", value_parser = parse_email)]
    email: Email,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    settings: CommandSettings,
}

impl Disable {
    pub fn run(self) -> Outcome {
        let (_, db) = database::open_current(&self.settings)?;
        let user = find_user(&db, &self.email)?;
        let ctx = Ctx::command_line("disabled by `actas user disable`", Clock::system().now());
        let user = run_command(&db, &ctx, |tx| users::disable(tx, user.id))?;
        print_id(&user, self.format)
    }
}
