//! Logs: events of `tracing`, written to the standard error, so that the standard output stays for results.
//!
//! A JSON line is flat: `timestamp` (UTC, microseconds), `level`, `target`, `message` and the event's own fields beside
//! them. What a line is about goes into its event's fields and not into spans: one line then says all.

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("ACTAS_LOG is no filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("logging was set up twice")]
    Twice,
}

/// Begins to log. Once a process.
///
/// # Errors
/// [`LoggingError::Twice`] at the second call.
pub fn start(config: &LogConfig) -> Result<(), LoggingError> {
    let filter = EnvFilter::builder().parse(&config.filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
        LogFormat::Human => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
    };
    started.map_err(|_| LoggingError::Twice)
}
