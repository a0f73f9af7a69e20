//! `actas user set-password`.

use clap::Args;

use super::{find_user, parse_email, print_id, read_password};
use crate::auth::passwords::hash_blocking;
use crate::cli::output::Outcome;
use crate::cli::{ABOUT_COMMAND_SETTINGS, Format, database};
use crate::clock::Clock;
use crate::config::CommandSettings;
use crate::domain::identity::Ctx;
use crate::domain::text::Email;
use crate::service::passwords::set_by_command;
use crate::service::run_command;

/// Set a user's password
///
/// For a forgotten password where nobody else can help: the last administrator's. Prints the user's id. The user's sessions end, and the
/// impersonations of and by the user, also at a running server.
#[derive(Args)]
#[command(after_long_help = help![
    "Examples:
  actas user set-password --email ada@example.org --password-stdin
  IFS= read -rs password && printf %s \"$password\" | actas user set-password --email ada@example.org --password-stdin",
    ABOUT_COMMAND_SETTINGS,
])]
pub struct SetPassword {
    /// The user's e-mail address
    #[arg(long, value_name = "EMAIL", value_parser = parse_email)]
    email: Email,
    /// Read the password from the standard input, less one trailing line break; it has 8 characters to 72 bytes
    #[arg(long, required = true)]
    password_stdin: bool,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    settings: CommandSettings,
}

impl SetPassword {
    pub fn run(self) -> Outcome {
        let (config, db) = database::open_current(&self.settings)?;
        let user = find_user(&db, &self.email)?;
        let hash = hash_blocking(&read_password()?, config.bcrypt_cost)?;
        let ctx = Ctx::command_line("set by `actas user set-password`", Clock::system().now());
        run_command(&db, &ctx, |tx| set_by_command(tx, user.id, &hash))?;
        print_id(&user, self.format)
    }
}
