//! `actas keys retire`.

use clap::Args;
use serde_json::json;

use crate::cli::output::{Failure, Outcome, print, tell};
use crate::cli::{ABOUT_COMMAND_SETTINGS, Format, database};
use crate::clock::Clock;
use crate::config::CommandSettings;
use crate::domain::identity::Ctx;
use crate::service::keys::{self, Retirement};
use crate::service::run_command;

/// Retire a signing key, for good
///
/// Every access token that it signed is dead at once, also at a running server, and the private key is erased. Impersonations that were
/// started with such a token end. Sessions live on: a refresh gives a token by the key that signs now. The newest key of an algorithm can't
/// be retired before another one signs: rotate first. Prints the kid; retiring a key again changes nothing.
#[derive(Args)]
#[command(after_long_help = help![
    "Example:
  actas keys rotate && actas keys retire kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
    ABOUT_COMMAND_SETTINGS,
])]
pub struct Retire {
    /// Which key, as `actas keys list` shows it; after `--` if it begins with a hyphen
    #[arg(value_name = "KID", allow_hyphen_values = true)]
    kid: String,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    settings: CommandSettings,
}

impl Retire {
    pub fn run(self) -> Outcome {
        let (_, db) = database::open_current(&self.settings)?;
        let kid = &self.kid;
        let ctx = Ctx::command_line("retired by `actas keys retire`", Clock::system().now());
        let (was_retired, impersonations) = match run_command(&db, &ctx, |tx| keys::retire(tx, kid))? {
            Retirement::Done { impersonations } => (false, impersonations),
            Retirement::WasDone => (true, 0),
            Retirement::Unknown => return Err(Failure::existence(format!("there is no key {kid}"))),
            Retirement::Signs(algorithm) => {
                let what = format!("key {kid} is the newest {algorithm} key, with which new tokens are signed");
                return Err(Failure::failed(format!("{what}; rotate first: actas keys rotate --signing-algorithm {algorithm}")));
            }
            Retirement::NotForSigning => {
                return Err(Failure::failed(format!("key {kid} derives refresh tokens and signs nothing; it can't be retired")));
            }
        };
        if was_retired {
            tell("it was retired before; nothing was changed");
        }
        if self.format.json {
            return print(json!({ "kid": kid, "was_retired": was_retired, "impersonations": impersonations }));
        }
        print(kid)
    }
}
