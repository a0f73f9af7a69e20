//! The database of a command, which works beside a running server: on SQLite only a server takes the file's lock.

use crate::cli::output::{Failure, Outcome};
use crate::cli::serve::database_options;
use crate::config::{CommandConfig, CommandSettings, DatabaseUrl, Environment};
use crate::logging;
use crate::service::database::{Db, Options, is_current};

/// Checks the settings, begins to log, and gets ready to reach the database, whatever its state.
///
/// # Errors
/// Where the settings are wrong.
pub fn open(settings: &CommandSettings) -> Outcome<(CommandConfig, Db)> {
    let config = settings.check(&Environment::of_process())?;
    logging::start(&config.log).map_err(Failure::failed)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let db = Db::open(&Options { pool_size: 1, ..database_options(&config.database) })?;
    Ok((config, db))
}

/// As [`open`], where the database has to be there and to have this version's schema.
///
/// # Errors
/// Where it is not.
pub fn open_current(settings: &CommandSettings) -> Outcome<(CommandConfig, Db)> {
    let checked = settings.check(&Environment::of_process())?;
    if let DatabaseUrl::Sqlite(path) = &checked.database.url
        && !path.exists()
    {
        // Opening it would make it.
        return Err(Failure::failed(format!("there is no database at {}; `actas serve` or `actas migrate` makes one", path.display())));
    }
    let (config, db) = open(settings)?;
    if db.read_blocking(is_current)? {
        Ok((config, db))
    } else {
        Err(Failure::failed("the database lacks migrations of this version; run `actas migrate`, or start the server"))
    }
}
