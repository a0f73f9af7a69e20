//! What a command says: results on the standard output, everything else on the standard error, and its exit status.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::domain::error::{Code, Error};

/// What a command comes to.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a command did not do what it was asked to, and the exit status that says so.
#[derive(Debug)]
pub struct Failure {
    status: u8,
    message: String,
}

impl Failure {
    /// 1: it could not be done.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { status: 1, message: message.to_string() }
    }

    /// 2: it was asked in a wrong way; settings count.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { status: 2, message: message.to_string() }
    }

    /// 3: what it is about does not exist, or exists already.
    pub fn existence(message: impl fmt::Display) -> Self {
        Self { status: 3, message: message.to_string() }
    }

    /// Says why, and answers the exit status.
    pub fn report(&self) -> ExitCode {
        for line in self.message.lines() {
            tell(format_args!("actas: {line}"));
        }
        ExitCode::from(self.status)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.code() {
            Code::NotFound | Code::EmailTaken => Self::existence(describe(&error)),
            Code::InvalidRequest => Self::usage(describe(&error)),
            _ => Self::failed(describe(&error)),
        }
    }
}

/// An error for whoever runs the program, who may know more than a client.
pub fn describe(error: &Error) -> String {
    let detail = error.internal_detail().unwrap_or_else(|| error.detail());
    match error.code() {
        Code::DatabaseUnavailable => format!("the database can't be reached: {detail}"),
        Code::InvalidRequest if !error.errors().is_empty() => {
            let fields = error.errors().iter().map(|field| format!("{}: {}", field.pointer.trim_start_matches('/'), field.detail));
            fields.collect::<Vec<_>>().join("\n")
        }
        Code::ActionRefused if !error.reasons().is_empty() => {
            let reasons = error.reasons().iter().map(|reason| reason.detail.as_str());
            reasons.collect::<Vec<_>>().join("\n")
        }
        _ => detail.to_owned(),
    }
}

/// Prints a line of the result, and at once.
///
/// # Errors
/// Where it can't be written. A reader that has gone away is none: it wanted no more.
pub fn print(line: impl fmt::Display) -> Outcome {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::failed(format!("can't write the result: {error}"))),
        _ => Ok(()),
    }
}

/// Prints a result as one line of JSON. Errors as `print`.
pub fn print_json(result: &impl serde::Serialize) -> Outcome {
    print(serde_json::to_string(result).map_err(Failure::failed)?)
}

/// Says something beside the result. Best effort.
pub fn tell(line: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
