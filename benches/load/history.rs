//! A page of a short history and of a long one.

use serde_json::Value;

use crate::office::{Office, Setup, migrate};
use crate::postgres::Place;
use crate::report::{Report, figure};
use crate::seed;
use crate::wrk::{Call, load};

/// The entries of the short history.
const FEW: u64 = 10_000;

const HEADING: &str = "| page of 50 entries | p50 ms of 10,000 | entries | p50 ms | p99 ms | ratio of p50 |\n|---|---|---|---|---|---|";

pub fn measure(report: &Report, place: Place<'_>) {
    let name = format!("history, {}", place.name());
    if !report.is_chosen(&name) {
        return;
    }
    let pages = [
        (format!("an article's history, {}", place.name()), format!("/v1/articles/{}/history", seed::ARTICLE)),
        (format!("an actor's history, {}", place.name()), format!("/v1/history?actor={}", seed::actor())),
    ];
    let histories = [FEW, report.options.entries].map(|entries| {
        let database = place.new_database();
        migrate(&database);
        seed::fill(&database.url, entries);
        let office = Office::open_at(database, Setup { people: 0, ..Setup::default() });
        let token = office.log_in("ada@example.org");
        (entries, office, token)
    });
    let seconds = report.options.seconds;
    for (what, path) in &pages {
        let [few, many] = histories.each_ref().map(|(_, office, token)| {
            let calls: Vec<Call> = first_pages(office, path, token).iter().map(|path| Call::get(path, token)).collect();
            move |seconds: u64| load(&office.url, 1, &calls, seconds)
        });
        let before = few(seconds.div_ceil(2)).p50_ms;
        let found = many(seconds);
        let few = f64::midpoint(before, few(seconds.div_ceil(2)).p50_ms);
        let cells = [
            what,
            &format!("{few:.2}"),
            &histories[1].0.to_string(),
            &format!("{:.2} | {:.2}", found.p50_ms, found.p99_ms),
            &figure(found.p50_ms / few),
        ];
        report.line(HEADING, &format!("| {} |", cells.map(String::as_str).join(" | ")));
    }
    for (entries, office, _) in &histories {
        report.remember(&format!("{name}, {entries} entries"), office);
    }
}

/// The first pages of a listing, so that not always the same one is read. Full ones, or this would be no measure of a page.
fn first_pages(office: &Office, path: &str, token: &str) -> Vec<String> {
    let mut pages = vec![path.to_owned()];
    for _ in 0..3 {
        let page: Value = office.get(pages.last().unwrap(), token);
        assert_eq!(page["items"].as_array().unwrap().len(), 50, "{path}");
        let next = page["next_cursor"].as_str().expect("there are more pages");
        let separator = if path.contains('?') { '&' } else { '?' };
        pages.push(format!("{path}{separator}cursor={next}"));
    }
    pages.pop();
    pages
}
