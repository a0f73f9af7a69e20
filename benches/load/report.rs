//! What is asked for, and what was found: the command line and the tables.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use crate::office::Office;

/// What one row found.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    pub rate: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// What stands beside a row: what it is called, and how many of it there are in a second, measured for so many.
pub type Beside<'a> = (&'static str, Box<dyn FnMut(u64) -> f64 + 'a>);

/// What the command line says.
#[derive(Debug)]
pub struct Options {
    /// Parts of the names of the rows to measure; none for all.
    pub chosen: Vec<String>,
    /// How long each row is measured, after a second of warming up.
    pub seconds: u64,
    /// The entries of the large history.
    pub entries: u64,
    /// How many impersonations are started and ended between two looks at the memory.
    pub impersonations: u64,
}

impl Options {
    pub fn read(arguments: Vec<String>) -> Self {
        let mut options = Self { chosen: Vec::new(), seconds: 5, entries: 10_000_000, impersonations: 1_000_000 };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let number = match argument.as_str() {
                "--seconds" => &mut options.seconds,
                "--entries" => &mut options.entries,
                "--impersonations" => &mut options.impersonations,
                _ => {
                    assert!(!argument.starts_with('-'), "there is no {argument}");
                    options.chosen.push(argument);
                    continue;
                }
            };
            *number = arguments.next().and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{argument} takes a number"));
        }
        options
    }
}

/// Prints the tables as they grow, and keeps what the last one is made of.
pub struct Report {
    pub options: Options,
    began: Instant,
    heading: Cell<&'static str>,
    resident: RefCell<Vec<(String, f64)>>,
}

const REQUESTS: &str =
    "| work | clients | requests/s | p50 ms | p99 ms | beside | its requests/s | ratio |\n|---|---|---|---|---|---|---|---|";

impl Report {
    pub fn new(options: Options) -> Self {
        Self { options, began: Instant::now(), heading: Cell::new(""), resident: RefCell::default() }
    }

    pub fn is_chosen(&self, name: &str) -> bool {
        self.options.chosen.is_empty() || self.options.chosen.iter().any(|part| name.contains(part.as_str()))
    }

    /// Prints a line, below its table's heading if it is the first.
    pub fn line(&self, heading: &'static str, line: &str) {
        if self.heading.replace(heading) != heading {
            println!("\n{heading}");
        }
        println!("{line}");
    }

    /// Measures one row and prints it, once for everything that stands beside it. That is measured half before and half after, because a machine that other
    /// things use too is not the same a minute later.
    pub fn compare(&self, name: &str, clients: usize, measure: impl FnOnce(u64) -> Found, mut beside: Vec<Beside<'_>>) {
        let half = self.options.seconds.div_ceil(2);
        let before: Vec<f64> = beside.iter_mut().map(|(_, measure)| measure(half)).collect();
        let Found { rate, p50_ms, p99_ms } = measure(self.options.seconds);
        for ((what, measure), before) in beside.iter_mut().zip(before) {
            let other = f64::midpoint(before, measure(half));
            let cells = [
                name,
                &clients.to_string(),
                &figure(rate),
                &format!("{p50_ms:.2} | {p99_ms:.2}"),
                what,
                &figure(other),
                &figure(rate / other),
            ];
            self.line(REQUESTS, &format!("| {} |", cells.join(" | ")));
        }
    }

    /// Looks at the server's memory, after what is called `name`.
    pub fn remember(&self, name: &str, office: &Office) {
        self.resident.borrow_mut().push((name.to_owned(), office.resident_mib()));
    }

    /// Prints the last table.
    pub fn finish(&self) {
        for (name, mib) in &*self.resident.borrow() {
            self.line("| resident memory of the server | MiB |\n|---|---|", &format!("| {name} | {mib:.1} |"));
        }
        println!("\n{:.0} s in all", self.began.elapsed().as_secs_f64());
    }
}

/// Three digits that count.
pub fn figure(number: f64) -> String {
    let places = match number {
        _ if number >= 100.0 => 0,
        _ if number >= 10.0 => 1,
        _ if number >= 0.1 => 2,
        _ => 4,
    };
    format!("{number:.places$}")
}
