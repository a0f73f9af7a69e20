//! `actas user`: accounts, by whoever runs the machine.

mod create;
mod disable;
mod list;
mod set_password;
mod show;

use std::io::{self, IsTerminal as _, Read as _};

use chrono::SecondsFormat;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Format;
use super::output::{Failure, Outcome, print, print_json, tell};
use crate::domain::Time;
use crate::domain::ids::UserId;
use crate::domain::role::Role;
use crate::domain::text::{DisplayName, Email, NewPassword};
use crate::domain::user::{self, UserStatus};
use crate::http::wire::Timestamp;
use crate::service::database::Db;
use crate::service::users;

/// Create, list and change accounts
#[derive(Args)]
#[command(after_long_help = help![
    "Examples:
  actas user create --email ada@example.org --name 'Ada Admin' --role administrator --password-stdin
  actas user list --role administrator
  actas user disable --email ed@example.org",
])]
pub struct User {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Subcommand)]
enum UserCommand {
    Create(create::Create),
    List(list::List),
    Show(show::Show),
    SetPassword(set_password::SetPassword),
    Disable(disable::Disable),
}

impl User {
    pub fn run(self) -> Outcome {
        match self.command {
            UserCommand::Create(command) => command.run(),
            UserCommand::List(command) => command.run(),
            UserCommand::Show(command) => command.run(),
            UserCommand::SetPassword(command) => command.run(),
            UserCommand::Disable(command) => command.run(),
        }
    }
}

pub fn parse_email(text: &str) -> Result<Email, String> {
    Email::parse(text).map_err(|error| error.detail)
}

fn parse_name(text: &str) -> Result<DisplayName, String> {
    DisplayName::parse(text).map_err(|error| error.detail)
}

/// Accepts a role's spelling, and lists them all where it is none.
fn role_parser() -> impl TypedValueParser<Value = Role> {
    let spellings = Role::ALL.iter().map(|role| role.as_str());
    PossibleValuesParser::new(spellings).try_map(|text| Role::parse(&text).ok_or("is no role"))
}

/// The user with this address.
///
/// # Errors
/// Exit status 3 where there is none.
pub fn find_user(db: &Db, email: &Email) -> Outcome<user::User> {
    let found = db.read_blocking(|conn| users::find_by_email(conn, email))?;
    found.ok_or_else(|| Failure::existence(format!("there is no user with the e-mail address {email}")))
}

/// Far more than a password may have.
const MOST_BYTES: u64 = 4096;

/// Reads a new password from the standard input and drops one trailing line break, which `echo` and editors add. From a terminal, one line.
///
/// # Errors
/// Where there is none, or none that may be one.
fn read_password() -> Outcome<NewPassword> {
    let stdin = io::stdin();
    let mut bytes = Vec::new();
    let read = if stdin.is_terminal() {
        tell("The password, and Enter. It shows as you type; `read -rs` in a shell can hide it.");
        let mut line = String::new();
        stdin.read_line(&mut line).map(|_| bytes = line.into_bytes())
    } else {
        stdin.lock().take(MOST_BYTES).read_to_end(&mut bytes).map(|_| ())
    };
    read.map_err(|error| Failure::failed(format!("can't read the password from the standard input: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::usage("the password on the standard input must be UTF-8"))?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    NewPassword::parse(text).map_err(|error| Failure::usage(format!("the password on the standard input {}", error.detail)))
}

/// A user as the API shows it, but for who may act as whom: the command line has no caller.
#[derive(Serialize)]
struct Shown<'a> {
    id: UserId,
    email: &'a Email,
    display_name: &'a DisplayName,
    role: Role,
    status: UserStatus,
    version: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> Shown<'a> {
    fn new(user: &'a user::User) -> Self {
        Self {
            id: user.id,
            email: &user.email,
            display_name: &user.display_name,
            role: user.role,
            status: user.status,
            version: user.version,
            created_at: Timestamp(user.created_at),
            updated_at: Timestamp(user.updated_at),
        }
    }
}

/// Prints the user's id, or with `--json` the user.
fn print_id(user: &user::User, format: Format) -> Outcome {
    if format.json { print_json(&Shown::new(user)) } else { print(user.id) }
}

/// Prints a user in full, a field a line.
fn print_user(user: &user::User, format: Format) -> Outcome {
    if format.json {
        return print_json(&Shown::new(user));
    }
    let time = |time: Time| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let fields = [
        ("id", user.id.to_string()),
        ("email", user.email.to_string()),
        ("display name", user.display_name.to_string()),
        ("role", user.role.to_string()),
        ("status", user.status.to_string()),
        ("version", user.version.to_string()),
        ("created at", time(user.created_at)),
        ("updated at", time(user.updated_at)),
    ];
    fields.iter().try_for_each(|(name, value)| print(format_args!("{name:<13} {value}")))
}
