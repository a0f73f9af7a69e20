//! `actas user list`.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;

use super::{Shown, role_parser};
use crate::cli::output::{Outcome, print, print_json};
use crate::cli::{ABOUT_COMMAND_SETTINGS, Format, database};
use crate::config::CommandSettings;
use crate::domain::ids::UserId;
use crate::domain::page::{Limit, PageRequest, decode_cursor};
use crate::domain::role::Role;
use crate::domain::user::UserStatus;
use crate::service::users;

/// List accounts, newest first
///
/// Prints a line each: id, role, status, e-mail address, name. With `--json`, one line with all of them in `items`.
#[derive(Args)]
#[command(after_long_help = help![
    "Examples:
  actas user list --role administrator --status active
  actas user list --json | jq -r '.items[].email'",
    ABOUT_COMMAND_SETTINGS,
])]
pub struct List {
    /// Only those with this role
    #[arg(long, value_name = "ROLE", value_parser = role_parser())]
    role: Option<Role>,
    /// Only those with this status
    #[arg(long, value_name = "STATUS", value_parser = status_parser())]
    status: Option<UserStatus>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    settings: CommandSettings,
}

#[derive(Serialize)]
struct Items<'a> {
    items: Vec<Shown<'a>>,
}

fn status_parser() -> impl TypedValueParser<Value = UserStatus> {
    let spellings = UserStatus::ALL.iter().map(|status| status.as_str());
    PossibleValuesParser::new(spellings).try_map(|text| UserStatus::parse(&text).ok_or("is no status"))
}

impl List {
    pub fn run(self) -> Outcome {
        let (_, db) = database::open_current(&self.settings)?;
        let filter = users::Filter { role: self.role, status: self.status, ..users::Filter::default() };
        let mut items = Vec::new();
        let mut after: Option<UserId> = None;
        loop {
            let request = PageRequest { limit: Limit::new(Limit::MAX).unwrap_or(Limit::DEFAULT), after };
            let page = db.read_blocking(|conn| users::list(conn, &filter, &request))?;
            items.extend(page.items);
            after = page.next_cursor.as_deref().and_then(decode_cursor);
            if after.is_none() {
                break;
            }
        }
        if self.format.json {
            return print_json(&Items { items: items.iter().map(Shown::new).collect() });
        }
        items.iter().try_for_each(|user| {
            print(format_args!(
                "{}  {:<13}  {:<8}  {}  {}",
                user.id,
                user.role.as_str(),
                user.status.as_str(),
                user.email,
                user.display_name
            ))
        })
    }
}
