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
mod clients;
mod command_line;
mod crash;
mod dry_run;
mod ending;
mod examples;
mod explain;
mod grants;
mod harness_holds;
mod hashing;
mod history;
mod impersonation;
mod keys;
mod login;
mod logs;
mod matrix;
mod metadata;
mod oauth_attacks;
mod oauth_clients;
mod oauth_exchange;
mod oauth_forged;
mod oauth_introspection;
mod oauth_revocation;
mod oauth_start;
mod openapi;
mod operations;
mod policy;
mod pooling;
mod postgres_tls;
mod races;
mod refresh;
mod restart;
mod scopes;
mod shared_work;
mod startup;
mod story;
mod tokens;
mod undo;
mod users;
mod workflow;

fn main() -> std::process::ExitCode {
    let modules = [
        ("articles", articles::all()),
        ("bending", bending::all()),
        ("clients", clients::all()),
        ("command_line", command_line::all()),
        ("crash", crash::all()),
        ("dry_run", dry_run::all()),
        ("ending", ending::all()),
        ("explain", explain::all()),
        ("grants", grants::all()),
        ("examples", examples::all()),
        ("harness_holds", harness_holds::all()),
        ("hashing", hashing::all()),
        ("history", history::all()),
        ("impersonation", impersonation::all()),
        ("keys", keys::all()),
        ("login", login::all()),
        ("logs", logs::all()),
        ("matrix", matrix::all()),
        ("metadata", metadata::all()),
        ("oauth_attacks", oauth_attacks::all()),
        ("oauth_clients", oauth_clients::all()),
        ("oauth_exchange", oauth_exchange::all()),
        ("oauth_forged", oauth_forged::all()),
        ("oauth_introspection", oauth_introspection::all()),
        ("oauth_revocation", oauth_revocation::all()),
        ("oauth_start", oauth_start::all()),
        ("openapi", openapi::all()),
        ("operations", operations::all()),
        ("policy", policy::all()),
        ("pooling", pooling::all()),
        ("postgres_tls", postgres_tls::all()),
        ("races", races::all()),
        ("refresh", refresh::all()),
        ("restart", restart::all()),
        ("scopes", scopes::all()),
        ("shared_work", shared_work::all()),
        ("startup", startup::all()),
        ("story", story::all()),
        ("tokens", tokens::all()),
        ("undo", undo::all()),
        ("users", users::all()),
        ("workflow", workflow::all()),
    ];
    harness::run(&modules, &["ending", "impersonation", "races", "restart", "shared_work", "story", "undo"])
}
