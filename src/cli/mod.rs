//! The command line: one file a command. Imports every floor; nothing imports it but `main`, and tests that start a server.
//!
//! Results go to the standard output, the rest to the standard error. A command that works on the database does
//! so beside a running server, which sees it at the next request.

/// Puts the paragraphs of a long help together, exit statuses last.
macro_rules! help {
    ($($paragraph:expr),+ $(,)?) => {
        format!("{}{}", [$($paragraph),+].map(|paragraph| format!("{paragraph}\n\n")).concat(), $crate::cli::ABOUT_EXIT)
    };
}

mod client;
mod database;
mod demo;
mod hash_passwords;
mod healthcheck;
mod keys;
mod migrate;
mod openapi;
mod output;
pub mod serve;
mod session;
mod user;

use std::process::ExitCode;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use output::Outcome;

/// What holds for every command, at the end of its help.
const ABOUT_EXIT: &str = "\
Exit status: 0 done, 1 failed, 2 wrong usage or a wrong setting, 3 not found or exists already.";

/// What holds for every command that takes settings.
const ABOUT_SETTINGS: &str = "\
A setting is a flag, or the environment variable named with it, or a file whose path is in that variable with _FILE added. The flag \
wins; a variable together with its file is an error.";

/// As [`ABOUT_SETTINGS`], for the commands that serve nobody.
const ABOUT_COMMAND_SETTINGS: &str = "\
A setting is a flag, or the environment variable named with it, or a file whose path is in that variable with _FILE added. The flag \
wins; a variable together with its file is an error. Unless something else is chosen, only warnings are logged, for a person's eyes. \
It works beside a running server, also on SQLite.";

/// User impersonation as a service: act as a user, on the record, and back.
#[derive(Parser)]
#[command(
    name = "actas",
    version,
    args_conflicts_with_subcommands = true,
    override_usage = "actas [COMMAND] [OPTIONS]",
    after_help = "Without a command it serves, and takes the flags of `actas serve`.",
    after_long_help = help![
        "Without a command it serves, and takes the flags of `actas serve`. Results go to the standard output, everything else to the \
         standard error.",
        "Examples:
  actas demo                                     a newsroom to play with, and a session to paste
  actas serve                                    the server, on actas.db in this directory
  actas user create --email ada@example.org --name 'Ada Admin' --role administrator --password-stdin
  actas help user create                         what a command takes, with examples",
    ],
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Serve,
}

#[derive(Subcommand)]
enum Command {
    Serve(Box<serve::Serve>),
    Demo(Box<demo::Demo>),
    Migrate(migrate::Migrate),
    User(user::User),
    #[command(alias = "clients")]
    Client(client::Client),
    Session(session::Session),
    Keys(keys::Keys),
    Openapi(openapi::Openapi),
    Healthcheck(healthcheck::Healthcheck),
    HashPasswords(hash_passwords::HashPasswords),
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, Args)]
struct Format {
    /// Print the result as one line of JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    // The flags of `serve` are taken without its name, but are listed once.
    let program = Cli::command().mut_args(|argument| argument.hide(true));
    let cli = match program.try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

impl Cli {
    fn run(self) -> Outcome {
        match self.command {
            None => self.serve.run(),
            Some(Command::Serve(command)) => command.run(),
            Some(Command::Demo(command)) => command.run(),
            Some(Command::Migrate(command)) => command.run(),
            Some(Command::User(command)) => command.run(),
            Some(Command::Client(command)) => command.run(),
            Some(Command::Session(command)) => command.run(),
            Some(Command::Keys(command)) => command.run(),
            Some(Command::Openapi(command)) => command.run(),
            Some(Command::Healthcheck(command)) => command.run(),
            Some(Command::HashPasswords(command)) => command.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
