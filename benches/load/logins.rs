//! Logins, as many as there can be, beside bcrypt alone; and what becomes of reads meanwhile.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::office::{Office, PASSWORD, Setup};
use crate::open_loop;
use crate::postgres::Place;
use crate::report::{Beside, Found, Report, figure};

/// Enough to keep every hashing thread busy, and fewer than may wait for one.
const CLIENTS: usize = 16;

/// What a hash costs where nobody says otherwise.
const COST: u32 = 12;

/// Reads a second beside the logins.
const READS: u32 = 500;

const HEADING: &str = "| reads by a fixed schedule | p50 ms | p99 ms | p50 beside logins | p99 beside logins | ratio of p99 | logins/s meanwhile | bcrypt alone, a thread a core/s | ratio |
|---|---|---|---|---|---|---|---|---|";

/// As many logins as there can be.
pub fn measure(report: &Report, place: Place<'_>) {
    let name = format!("login, {}", place.name());
    if !report.is_chosen(&name) {
        return;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // All cores may hash, as they do without Actas.
    let office = Office::open(place, setup(vec![("ACTAS_HASHING_THREADS", cores.to_string())]));
    let beside: Beside<'_> = ("bcrypt alone, as many threads", Box::new(|seconds| bcrypt(cores, time(seconds))));
    report.compare(&name, CLIENTS, |seconds| log_in(&office, &over_after(time(seconds))), vec![beside]);
    report.remember(&name, &office);
}

/// Reads, first alone and then beside logins that fill the hashing queue, with as many hashing threads as there are by default.
pub fn measure_reads(report: &Report, place: Place<'_>) {
    let name = format!("reads beside logins, {}", place.name());
    if !report.is_chosen(&name) {
        return;
    }
    let (time, cores) = (time(report.options.seconds), std::thread::available_parallelism().map_or(1, usize::from));
    let office = Office::open(place, setup(Vec::new()));
    let before = bcrypt(cores, time / 2);
    let quiet = open_loop::read(&office, READS, time);
    let is_over = AtomicBool::new(false);
    let (busy, logins) = std::thread::scope(|scope| {
        let logins = scope.spawn(|| log_in(&office, &|| is_over.load(Ordering::Relaxed)));
        // Until the queue is as long as it gets.
        std::thread::sleep(Duration::from_secs(1));
        let busy = open_loop::read(&office, READS, time);
        is_over.store(true, Ordering::Relaxed);
        (busy, logins.join().unwrap())
    });
    let alone = f64::midpoint(before, bcrypt(cores, time / 2));
    let cells = [
        format!("{:.2} | {:.2}", quiet.p50_ms, quiet.p99_ms),
        format!("{:.2} | {:.2} | {}", busy.p50_ms, busy.p99_ms, figure(busy.p99_ms / quiet.p99_ms)),
        format!("{} | {} | {}", figure(logins.rate), figure(alone), figure(logins.rate / alone)),
    ];
    report.line(HEADING, &format!("| `GET /v1/me`, {READS} a second, {} | {} |", place.name(), cells.join(" | ")));
    report.remember(&name, &office);
}

/// A login takes a quarter of a second, so a short time would hold few of them.
fn time(seconds: u64) -> Duration {
    Duration::from_secs(seconds * 2)
}

/// Few people, because their passwords have to be hashed, too.
fn setup(mut settings: Vec<(&'static str, String)>) -> Setup {
    settings.push(("ACTAS_BCRYPT_COST", COST.to_string()));
    Setup { people: CLIENTS, settings }
}

fn over_after(time: Duration) -> impl Fn() -> bool + Sync {
    let began = Instant::now();
    move || began.elapsed() >= time
}

/// Each client is somebody else, so that no two wait for the same account.
fn log_in(office: &Office, is_over: &(dyn Fn() -> bool + Sync)) -> Found {
    saturate(CLIENTS, is_over, |client| {
        office.log_in(&office.people[client].email);
    })
}

/// How many passwords a second are checked with nothing else to do.
fn bcrypt(threads: usize, time: Duration) -> f64 {
    let hash = ::bcrypt::hash(PASSWORD, COST).unwrap();
    saturate(threads, &over_after(time), |_| assert!(::bcrypt::verify(PASSWORD, &hash).unwrap())).rate
}

/// Does `work` in as many threads as there are clients, again and again. Each finishes what it began, and its rate is that of what it finished: with few and
/// long pieces of work those that a deadline cuts off would count.
fn saturate(clients: usize, is_over: &(dyn Fn() -> bool + Sync), work: impl Fn(usize) + Sync) -> Found {
    let (rate, took) = (Mutex::new(0.0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for client in 0..clients {
            let (rate, took, work) = (&rate, &took, &work);
            scope.spawn(move || {
                let (started, mut own) = (Instant::now(), Vec::new());
                while own.is_empty() || !is_over() {
                    let begun = Instant::now();
                    work(client);
                    own.push(begun.elapsed());
                }
                *rate.lock().unwrap() += own.len() as f64 / started.elapsed().as_secs_f64();
                took.lock().unwrap().append(&mut own);
            });
        }
    });
    open_loop::found(rate.into_inner().unwrap(), took.into_inner().unwrap())
}
