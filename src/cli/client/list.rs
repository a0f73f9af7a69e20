//! `actas client list`.

use clap::Args;
use serde::Serialize;

use super::{open, words};
use crate::cli::output::{Outcome, print, print_json};
use crate::cli::{ABOUT_COMMAND_SETTINGS, Format};
use crate::config::CommandSettings;
use crate::domain::client::ClientId;
use crate::domain::page::{Limit, PageRequest, decode_cursor};
use crate::http::wire;
use crate::service::clients;

/// List clients, the first-party client first, then newest first
///
/// Prints a line each: id, status, name, and the grants in brackets. With `--json`, one line with all of them in `items`.
#[derive(Args)]
#[command(after_long_help = help![
    "Examples:
  actas client list
  actas client list --json | jq -r '.items[] | select(.status == \"active\") | .id'",
    ABOUT_COMMAND_SETTINGS,
])]
pub struct List {
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    settings: CommandSettings,
}

#[derive(Serialize)]
struct Items {
    items: Vec<wire::Client>,
}

impl List {
    pub fn run(self) -> Outcome {
        let db = open(&self.settings)?;
        let mut items = Vec::new();
        let mut after: Option<ClientId> = None;
        loop {
            let request = PageRequest { limit: Limit::new(Limit::MAX).unwrap_or(Limit::DEFAULT), after };
            let page = db.read_blocking(|conn| clients::list(conn, &request))?;
            items.extend(page.items);
            after = page.next_cursor.as_deref().and_then(decode_cursor);
            if after.is_none() {
                break;
            }
        }
        if self.format.json {
            return print_json(&Items { items: items.into_iter().map(Into::into).collect() });
        }
        items.iter().try_for_each(|client| {
            let terms = &client.terms;
            print(format_args!("{:<36}  {:<8}  {}  [{}]", client.id.to_string(), terms.status.as_str(), terms.name, words(&terms.grants)))
        })
    }
}
