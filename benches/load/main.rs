//! The whole server under load, on both databases: `cargo bench --bench load`. Everything runs on this machine in this run, so ratios count and figures don't.
//!
//! Beside what Actas does stands what the same machine does without it: a bare actix-web that answers the same bytes, pgbench or SQLite with the statements that a
//! request takes at least, bcrypt alone. Needs `wrk` in the path. Postgres takes part where its programs are found (Debian: `apt-get install wrk postgresql`),
//! in a throw-away server that flushes every commit, as SQLite does.
//!
//! What follows `--` chooses rows by a part of their name, and:
//!
//! - `--seconds 5` is how long each row is measured;
//! - `--entries 10000000` is how long the long history is;
//! - `--impersonations 1000000` is how many are started and ended between two looks at the memory;
//! - `--seed <database URL> <entries>` measures nothing, and fills a new database, to which `actas migrate` gave its tables, with a history as long as that.
//!
//! `ACTAS_BIN` names another server to load than the one of this build.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a benchmark that can't go on says so by panicking"
)]

mod bare;
mod commits;
mod history;
mod logins;
mod memory;
mod office;
mod open_loop;
mod postgres;
mod program;
mod report;
mod requests;
mod seed;
mod wrk;

use std::path::Path;
use std::process::Command;

use postgres::{Place, Postgres};
use report::{Options, Report};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--bare", file] => return bare::serve(Path::new(file)),
        ["--seed", url, entries] => return seed::fill(url, entries.parse().expect("a number of entries")),
        _ => {}
    }
    let report = Report::new(Options::read(arguments));
    if Command::new("wrk").arg("-v").output().is_err() {
        eprintln!("`wrk` is not installed here (Debian: `apt-get install wrk`)");
        std::process::exit(1);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} cores, shared with the load generator; {} s a row", report.options.seconds);
    let is_by_session = std::fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled").is_ok_and(|flag| flag.trim() == "1");
    println!("The kernel shares cores out by {}.", if is_by_session { "session (sched_autogroup_enabled)" } else { "process" });
    let postgres = Postgres::start();
    let mut places = vec![Place::Sqlite];
    match &postgres {
        Some(postgres) => places.push(Place::Postgres(postgres)),
        None => println!("Postgres takes no part: its programs were not found."),
    }
    // The long histories come last, because Postgres may go on tidying them up.
    for measure in [requests::measure, logins::measure, logins::measure_reads, memory::measure, history::measure] {
        for place in &places {
            measure(&report, *place);
        }
    }
    report.finish();
}
