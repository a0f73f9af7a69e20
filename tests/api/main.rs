//! The tests of the API: over HTTP, every one on SQLite and on Postgres, each with a database and a clock of its own.
//!
//! `cargo test --test api logging_out` runs those with that in their name, `… sqlite::` one half. CONTRIBUTING.md says how to
//! write one; [`harness`] is what they are written with.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test says what is wrong by panicking"
)]

#[macro_use]
mod harness;

mod articles;
mod bending;
mod harness_holds;
mod history;
mod matrix;
mod operations;
mod restart;
mod story;
mod users;
mod workflow;

fn main() -> std::process::ExitCode {
    harness::run(&[
        ("harness_holds", harness_holds::all()),
        ("articles", articles::all()),
        ("workflow", workflow::all()),
        ("users", users::all()),
        ("operations", operations::all()),
        ("matrix", matrix::all()),
        ("restart", restart::all()),
        ("history", history::all()),
        ("bending", bending::all()),
        ("story", story::all()),
    ])
}
