//! `actas keys rotate`.

use clap::Args;

use super::print_added;
use crate::auth::keys::{Algorithm, StoredKey};
use crate::cli::output::{Failure, Outcome};
use crate::cli::serve::{algorithm, key_encryption};
use crate::cli::{ABOUT_COMMAND_SETTINGS, Format, database};
use crate::clock::Clock;
use crate::config::{CommandSettings, Environment, SigningSettings};
use crate::domain::identity::Ctx;
use crate::service::{keys, run_command};

/// Make a new signing key
///
/// From now on new tokens are signed with it, on every server of its algorithm and without a restart; older tokens count until they expire.
/// Unless ACTAS_SIGNING_ALGORITHM says so, its algorithm is that of the newest signing key. Prints the kid. The key is encrypted if
/// ACTAS_KEY_ENCRYPTION_KEY is set, as it must be where it is for the server.
#[derive(Args)]
#[command(after_long_help = help![
    "Examples:
  actas keys rotate
  actas keys rotate --signing-algorithm RS256 --json",
    ABOUT_COMMAND_SETTINGS,
])]
pub struct Rotate {
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    signing: SigningSettings,
    #[command(flatten)]
    settings: CommandSettings,
}

impl Rotate {
    pub fn run(self) -> Outcome {
        let (configured, is_chosen) = self.signing.check(&Environment::of_process())?;
        let (config, db) = database::open_current(&self.settings)?;
        let encryption = key_encryption(&config.database);
        let in_use = || db.read_blocking(keys::list).map(|keys| keys.into_iter().find(|key| key.retired_at.is_none()));
        let algorithm: Algorithm =
            if is_chosen { algorithm(configured) } else { in_use()?.map_or(algorithm(configured), |key| key.algorithm) };
        let now = Clock::system().now();
        // Made before the transaction, which others wait for.
        let key = StoredKey::generate_signing(algorithm, now, encryption.as_ref()).map_err(Failure::failed)?;
        let ctx = Ctx::command_line("made by `actas keys rotate`", now);
        let added = run_command(&db, &ctx, |tx| keys::rotate(tx, &key, encryption.as_ref()))?;
        print_added(&added, self.format)
    }
}
