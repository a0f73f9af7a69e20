//! `actas keys import`.

use std::fs::File;
use std::io::{self, Read};

use clap::Args;

use super::print_added;
use crate::auth::keys::StoredKey;
use crate::cli::output::{Failure, Outcome, tell};
use crate::cli::serve::{algorithm, key_encryption};
use crate::cli::{ABOUT_COMMAND_SETTINGS, Format, database};
use crate::clock::Clock;
use crate::config::{CommandSettings, Environment, SigningSettings};
use crate::domain::identity::Ctx;
use crate::service::keys::{self, Imported};
use crate::service::run_command;

/// Far more than a key in PEM may have.
const MOST_BYTES: u64 = 1 << 20;

/// Take over a private key that was made elsewhere
///
/// Ed25519 in PKCS#8, or RSA of 2048 to 8192 bits in PKCS#8 or PKCS#1, in PEM and not encrypted. From now on new tokens are signed with it,
/// on every server of its algorithm and without a restart; older tokens count until they expire. Prints the kid, which is the RFC 7638
/// thumbprint. The key is encrypted if ACTAS_KEY_ENCRYPTION_KEY is set, as it must be where it is for the server.
#[derive(Args)]
#[command(after_long_help = help![
    "Examples:
  actas keys import signing-key.pem
  openssl genpkey -algorithm ed25519 | actas keys import -
  openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 | actas keys import - --signing-algorithm RS256",
    ABOUT_COMMAND_SETTINGS,
])]
pub struct Import {
    /// The file with the key; `-` reads it from the standard input
    #[arg(value_name = "PEM-FILE")]
    file: String,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    signing: SigningSettings,
    #[command(flatten)]
    settings: CommandSettings,
}

impl Import {
    pub fn run(self) -> Outcome {
        let (configured, _) = self.signing.check(&Environment::of_process())?;
        let (config, db) = database::open_current(&self.settings)?;
        let (now, encryption) = (Clock::system().now(), key_encryption(&config.database));
        let key = StoredKey::import(&self.read()?, now, encryption.as_ref())
            .map_err(|why| Failure::usage(format!("{} can't be imported: {why}", self.source())))?;
        let ctx = Ctx::command_line("imported by `actas keys import`", now);
        let added = match run_command(&db, &ctx, |tx| keys::import(tx, &key, encryption.as_ref()))? {
            Imported::Added(added) => added,
            Imported::Exists => return Err(Failure::existence(format!("key {} exists already", key.kid))),
            Imported::Retired => {
                return Err(Failure::existence(format!(
                    "key {} exists already: it was retired, and a retired key never comes back",
                    key.kid
                )));
            }
        };
        let imported = added.key.algorithm;
        if imported != algorithm(configured) {
            tell(format_args!("the key is for {imported}: a server uses it only with ACTAS_SIGNING_ALGORITHM={imported}"));
        }
        print_added(&added, self.format)
    }

    fn source(&self) -> &str {
        if self.file == "-" { "the standard input" } else { &self.file }
    }

    fn read(&self) -> Outcome<String> {
        let read = || {
            let mut bytes = Vec::new();
            let source: Box<dyn Read> = if self.file == "-" { Box::new(io::stdin().lock()) } else { Box::new(File::open(&self.file)?) };
            source.take(MOST_BYTES).read_to_end(&mut bytes)?;
            Ok::<_, io::Error>(bytes)
        };
        let bytes = read().map_err(|error| Failure::failed(format!("can't read {}: {error}", self.source())))?;
        String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{} can't be imported: it is no text, and so no PEM", self.source())))
    }
}
