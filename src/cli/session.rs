//! `actas session`: sessions, ended by whoever runs the machine.

use clap::{ArgGroup, Args, Subcommand};
use serde_json::json;

use super::output::{Outcome, print};
use super::user::{find_user, parse_email};
use super::{ABOUT_COMMAND_SETTINGS, Format, database};
use crate::clock::Clock;
use crate::config::CommandSettings;
use crate::domain::identity::Ctx;
use crate::domain::text::Email;
use crate::service::run_command;
use crate::service::sessions::{EndedByCommand, end_batch_by_command};

/// End sessions
#[derive(Args)]
#[command(after_long_help = help!["Example:\n  actas session end --user ed@example.org"])]
pub struct Session {
    #[command(subcommand)]
    command: SessionCommand,
}

#[derive(Subcommand)]
enum SessionCommand {
    End(End),
}

/// End a user's sessions, or everyone's
///
/// Their access and refresh tokens are dead at once, also at a running server. Impersonations of the user and those that the user started
/// end too, for good. Each end is an entry of the history, with origin `cli`.
#[derive(Args)]
#[command(
    group(ArgGroup::new("whose").required(true).args(["user", "all"])),
    after_long_help = help![
        "Examples:
  actas session end --user ed@example.org        a lost laptop
  actas session end --all --json                 after a backup was restored",
        ABOUT_COMMAND_SETTINGS,
    ],
)]
struct End {
    /// The e-mail address of the user whose sessions end
    #[arg(long, value_name = "EMAIL", value_parser = parse_email)]
    user: Option<Email>,
    /// End everyone's
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    settings: CommandSettings,
}

impl Session {
    pub fn run(self) -> Outcome {
        let SessionCommand::End(command) = self.command;
        command.run()
    }
}

impl End {
    fn run(self) -> Outcome {
        let (_, db) = database::open_current(&self.settings)?;
        let user = self.user.as_ref().map(|email| find_user(&db, email)).transpose()?.map(|user| user.id);
        let clock = Clock::system();
        let mut ended = EndedByCommand::default();
        loop {
            let ctx = Ctx::command_line("ended by `actas session end`", clock.now());
            let batch = run_command(&db, &ctx, |tx| end_batch_by_command(tx, user))?;
            if batch == EndedByCommand::default() {
                break;
            }
            ended.own += batch.own;
            ended.impersonations += batch.impersonations;
        }
        if self.format.json {
            return print(json!({ "sessions": ended.own, "impersonations": ended.impersonations }));
        }
        print(format_args!("ended: {} sessions, {} impersonations", ended.own, ended.impersonations))
    }
}
