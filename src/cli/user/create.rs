//! `actas user create`.

use clap::Args;

use super::{parse_email, parse_name, print_id, read_password, role_parser};
use crate::auth::passwords::hash_blocking;
use crate::cli::output::{Failure, Outcome, tell};
use crate::cli::{ABOUT_COMMAND_SETTINGS, Format, database};
use crate::clock::Clock;
use crate::config::CommandSettings;
use crate::domain::error::Code;
use crate::domain::identity::Ctx;
use crate::domain::ids::UserId;
use crate::domain::role::Role;
use crate::domain::text::{DisplayName, Email};
use crate::domain::user::User;
use crate::service::database::{Db, migrate};
use crate::service::users;

/// Create an account
///
/// Creates an active account with a password, and prints its id. This is how the first administrator comes to be; everyone else is better
/// invited with POST /v1/users, so that nobody has to be told a password. Brings the database to this version's schema first.
#[derive(Args)]
#[command(after_long_help = help![
    "Examples:
  actas user create --email ada@example.org --name 'Ada Admin' --role administrator --password-stdin
  actas user create --email ada@example.org --name 'Ada Admin' --role administrator --password-stdin --if-absent </run/secrets/ada",
    ABOUT_COMMAND_SETTINGS,
])]
pub struct Create {
    /// The e-mail address, which nobody else has
    #[arg(long, value_name = "EMAIL", value_parser = parse_email)]
    email: Email,
    /// The name as others see it
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: DisplayName,
    /// What the user is in the office
    #[arg(long, value_name = "ROLE", value_parser = role_parser())]
    role: Role,
    /// Read the password from the standard input, less one trailing line break; it has 8 characters to 72 bytes
    #[arg(long, required = true)]
    password_stdin: bool,
    /// Succeed, and change nothing, where the address has an account already; print that one's id
    #[arg(long)]
    if_absent: bool,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    settings: CommandSettings,
}

impl Create {
    pub fn run(self) -> Outcome {
        let password = read_password()?;
        let (config, db) = database::open(&self.settings)?;
        migrate(&db)?;
        if let Some(user) = self.find(&db)? {
            return self.exists(&user);
        }
        let hash = hash_blocking(&password, config.bcrypt_cost)?;
        let now = Clock::system().now();
        let ctx = Ctx::command_line("created by `actas user create`", now);
        let new = users::NewUser { id: UserId::new(now), email: self.email.clone(), display_name: self.name.clone(), role: self.role };
        match db.write_blocking(|conn| users::create_with_password(conn, &ctx, &new, &hash)) {
            Ok(user) => print_id(&user, self.format),
            // Somebody else was faster.
            Err(error) if error.code() == Code::EmailTaken => match self.find(&db)? {
                Some(user) => self.exists(&user),
                None => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    fn find(&self, db: &Db) -> Outcome<Option<User>> {
        Ok(db.read_blocking(|conn| users::find_by_email(conn, &self.email))?)
    }

    fn exists(&self, user: &User) -> Outcome {
        let what = format!("{} exists already: {}, {}, {}", user.email, user.display_name, user.role, user.status);
        if !self.if_absent {
            return Err(Failure::existence(what));
        }
        tell(format_args!("{what}; nothing was changed"));
        print_id(user, self.format)
    }
}
