//! The whole database as one text, to look for what must not be there.

use super::database::Backend;
use super::office::Office;

impl Office {
    /// Every value of every row of every table.
    pub fn db_dump(&self) -> String {
        match self.backend() {
            Backend::Postgres => self.db_text("SELECT schema_to_xml('public', true, false, '')").unwrap(),
            Backend::Sqlite => {
                let names = |sql: &str| -> Vec<String> {
                    self.db_text(sql).unwrap_or_default().split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
                };
                let tables = names("SELECT group_concat(name) FROM sqlite_master WHERE type = 'table'");
                let dump = tables.iter().map(|table| {
                    let columns = names(&format!("SELECT group_concat(name) FROM pragma_table_info('{table}')"));
                    let row: Vec<_> = columns.iter().map(|column| format!("coalesce(\"{column}\", '')")).collect();
                    self.db_text(&format!("SELECT group_concat({}, char(10)) FROM \"{table}\"", row.join(" || ' | ' || ")))
                        .unwrap_or_default()
                });
                dump.collect::<Vec<_>>().join("\n")
            }
        }
    }
}
