//! `actas openapi`: the document of the API.

use clap::Args;

use super::Format;
use super::output::{Failure, Outcome, print};
use crate::http::app::api_document;
use crate::http::document::to_json;

/// Print the API's OpenAPI document
///
/// The same that a server of this version serves at /openapi.json, indented, or with `--json` on one line. Needs neither a database nor a
/// setting.
#[derive(Args)]
#[command(after_long_help = help![
    "Examples:
  actas openapi >openapi.json
  actas openapi --json | jq -r '.paths | keys[]'",
])]
pub struct Openapi {
    #[command(flatten)]
    format: Format,
}

impl Openapi {
    pub fn run(self) -> Outcome {
        let document = api_document();
        let text = if self.format.json { serde_json::to_string(&document) } else { to_json(&document) };
        print(text.map_err(Failure::failed)?.trim_end())
    }
}
