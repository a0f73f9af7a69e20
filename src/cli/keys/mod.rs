//! `actas keys`: the keys that sign access tokens, by whoever runs the machine.

mod import;
mod list;
mod retire;
mod rotate;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Format;
use super::output::{Outcome, print, print_json, tell};
use crate::http::wire::Timestamp;
use crate::service::keys::{Added, KeyView};

/// List, rotate, retire and import signing keys
#[derive(Args)]
#[command(after_long_help = help![
    "Examples:
  actas keys rotate                              new tokens are signed with a new key; old ones go on
  actas keys list
  actas keys retire kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k
  actas keys import signing-key.pem",
])]
pub struct Keys {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Subcommand)]
enum KeysCommand {
    List(list::List),
    Rotate(rotate::Rotate),
    Retire(retire::Retire),
    Import(import::Import),
}

impl Keys {
    pub fn run(self) -> Outcome {
        match self.command {
            KeysCommand::List(command) => command.run(),
            KeysCommand::Rotate(command) => command.run(),
            KeysCommand::Retire(command) => command.run(),
            KeysCommand::Import(command) => command.run(),
        }
    }
}

/// A key as `--json` shows it.
#[derive(Serialize)]
struct Shown<'a> {
    kid: &'a str,
    algorithm: &'static str,
    created_at: Timestamp,
    retired_at: Option<Timestamp>,
    signs: bool,
}

impl<'a> Shown<'a> {
    fn new(key: &'a KeyView) -> Self {
        Self {
            kid: &key.kid,
            algorithm: key.algorithm.as_str(),
            created_at: Timestamp(key.created_at),
            retired_at: key.retired_at.map(Timestamp),
            signs: key.signs,
        }
    }
}

/// Prints a new key's kid, or with `--json` what there is to say of it.
fn print_added(added: &Added, format: Format) -> Outcome {
    if added.alone_sealed {
        tell(
            "the key is encrypted and others are not: a server that runs without this ACTAS_KEY_ENCRYPTION_KEY can't use it; start them all with it",
        );
    }
    if format.json { print_json(&Shown::new(&added.key)) } else { print(&added.key.kid) }
}
