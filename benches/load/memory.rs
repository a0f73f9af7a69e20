//! Whether the server's memory grows with what it has done.

use crate::office::{Office, PEOPLE, Setup};
use crate::postgres::Place;
use crate::report::Report;
use crate::wrk::round_trips;

const CLIENTS: usize = 32;

/// More than the tokens that a server remembers.
const WARM: u64 = 10_000;

pub fn measure(report: &Report, place: Place<'_>) {
    let name = format!("memory, {}", place.name());
    if !report.is_chosen(&name) {
        return;
    }
    let office = Office::open(place, Setup::default());
    let starts = office.starts(PEOPLE);
    let originals: Vec<String> = office.people.iter().map(|person| person.admin.clone()).collect();
    let more = |seconds: u64| round_trips(&office.url, CLIENTS, &starts, &originals, seconds);
    let (mut done, mut rate) = (0, 100.0);
    // First until pools, caches and threads are as large as they get.
    for until in [WARM, WARM + report.options.impersonations] {
        while done < until {
            let left = (until - done) as f64 / rate;
            let next = more((left.ceil() as u64).clamp(1, 60));
            (done, rate) = (done + next.done, next.found.rate.max(1.0));
            eprintln!("{name}: {done} impersonations, {:.1} MiB", office.resident_mib());
        }
        report.remember(&format!("{name}, {done} impersonations started and ended"), &office);
    }
}
