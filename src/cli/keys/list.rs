//! `actas keys list`.

use chrono::SecondsFormat;
use clap::Args;
use serde::Serialize;

use super::Shown;
use crate::cli::output::{Outcome, print, print_json};
use crate::cli::{ABOUT_COMMAND_SETTINGS, Format, database};
use crate::config::CommandSettings;
use crate::domain::Time;
use crate::service::keys;

/// List signing keys, newest first
///
/// Prints a line each: kid, algorithm, when it was made, and whether it signs new tokens, only checks older ones, or was retired. A server
/// signs with the key of its ACTAS_SIGNING_ALGORITHM. With `--json`, one line with all of them in `items`.
#[derive(Args)]
#[command(after_long_help = help![
    "Examples:
  actas keys list
  actas keys list --json | jq -r '.items[] | select(.signs) | .kid'",
    ABOUT_COMMAND_SETTINGS,
])]
pub struct List {
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    settings: CommandSettings,
}

#[derive(Serialize)]
struct Items<'a> {
    items: Vec<Shown<'a>>,
}

impl List {
    pub fn run(self) -> Outcome {
        let (_, db) = database::open_current(&self.settings)?;
        let listed = db.read_blocking(keys::list)?;
        if self.format.json {
            return print_json(&Items { items: listed.iter().map(Shown::new).collect() });
        }
        let time = |time: Time| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        listed.iter().try_for_each(|key| {
            let state = match key.retired_at {
                Some(retired_at) => format!("retired {}", time(retired_at)),
                None if key.signs => "signs".to_owned(),
                None => "checks".to_owned(),
            };
            print(format_args!("{}  {}  {}  {state}", key.kid, key.algorithm.as_str(), time(key.created_at)))
        })
    }
}
