//! Single requests, beside bare actix-web, and beside what the database alone does.

use serde_json::json;

use crate::bare::Bare;
use crate::commits::Commits;
use crate::office::{Office, PEOPLE, Setup};
use crate::postgres::{CHANGE_ARTICLE, Place, SELECT_ARTICLE, SELECT_SESSION};
use crate::report::{Beside, Report};
use crate::wrk::{Call, load, round_trips};

const CLIENTS: usize = 32;

pub fn measure(report: &Report, place: Place<'_>) {
    let named = |what: &str| format!("{what}, {}", place.name());
    let (me, article, patch, round) =
        (named("GET /v1/me"), named("GET /v1/articles/{id}"), named("PATCH under impersonation"), named("start + logout"));
    if ![&me, &article, &patch, &round].into_iter().any(|name| report.is_chosen(name)) {
        return;
    }
    let office = Office::open(place, Setup::default());
    report.remember(&named("at first"), &office);
    if report.is_chosen(&me) {
        read(report, place, &office, &me, SELECT_SESSION, |_| "/v1/me");
    }
    if report.is_chosen(&article) {
        read(report, place, &office, &article, SELECT_ARTICLE, |number| &office.people[number].article);
    }
    if report.is_chosen(&patch) {
        change(report, place, &office, &patch);
    }
    if report.is_chosen(&round) {
        act_and_leave(report, &office, &round);
    }
}

fn read<'a>(report: &Report, place: Place<'_>, office: &'a Office, name: &str, select: &str, path: impl Fn(usize) -> &'a str) {
    let calls =
        |clients: usize| -> Vec<Call> { (0..clients).map(|number| Call::get(path(number), &office.people[number].token)).collect() };
    let bare = Bare::start(&[("", &office.ask(&calls(1)[0]))]);
    for clients in [1, CLIENTS] {
        let calls = calls(clients);
        let mut beside: Vec<Beside<'_>> = vec![("bare actix-web", Box::new(|seconds| load(&bare.url, clients, &calls, seconds).rate))];
        if let Place::Postgres(postgres) = place {
            beside.push(("pgbench, its last select", Box::new(move |seconds| postgres.pgbench(office, select, clients, seconds))));
        }
        report.compare(name, clients, |seconds| load(&office.url, clients, &calls, seconds), beside);
    }
    report.remember(name, office);
}

fn change(report: &Report, place: Place<'_>, office: &Office, name: &str) {
    let acting = office.act(PEOPLE);
    let version = || office.get(&office.people[0].article, &acting[0])["version"].as_i64().unwrap();
    let mut commits = matches!(place, Place::Sqlite).then(Commits::prepare);
    let all: &[usize] = if commits.is_some() { &[1, CLIENTS, PEOPLE] } else { &[1, CLIENTS] };
    for &clients in all {
        // Each another article than the one before, and another title than the last time.
        let call = |number: usize| Call {
            method: "PATCH",
            path: office.people[number % clients].article.clone(),
            token: acting[number % clients].clone(),
            body: Some(json!({ "title": format!("On tides {number}") }).to_string()),
        };
        let calls: Vec<Call> = (0..clients * 8).map(call).collect();
        let before = version();
        let beside: Beside<'_> = match (place, &mut commits) {
            (Place::Postgres(postgres), _) => {
                ("pgbench, its transaction", Box::new(move |seconds| postgres.pgbench(office, CHANGE_ARTICLE, clients, seconds)))
            }
            (Place::Sqlite, commits) => {
                ("one durable commit per mutation", Box::new(move |seconds| commits.as_mut().unwrap().rate(clients, seconds)))
            }
        };
        report.compare(name, clients, |seconds| load(&office.url, clients, &calls, seconds), vec![beside]);
        assert!(version() > before, "nothing was changed");
    }
    report.remember(name, office);
}

fn act_and_leave(report: &Report, office: &Office, name: &str) {
    let starts = office.starts(PEOPLE);
    let originals: Vec<String> = office.people.iter().map(|person| person.admin.clone()).collect();
    // Once one after the other, to see whose token comes back.
    let begun = office.ask(&starts[0]);
    let grant: serde_json::Value = serde_json::from_str(&begun.body).unwrap();
    let left = office.ask(&Call::post("/v1/auth/logout", grant["access_token"].as_str().unwrap(), "{}".to_owned()));
    let restored: serde_json::Value = serde_json::from_str(&left.body).unwrap();
    assert_eq!(restored["access_token"], json!(originals[0]));

    let bare = Bare::start(&[("/impersonate", &begun), ("/logout", &left)]);
    for clients in [1, CLIENTS] {
        // The same requests, half of each.
        let logout = |start: Call| [Call::post("/v1/auth/logout", &start.token, "{}".to_owned()), start];
        let calls: Vec<Call> = office.starts(clients).into_iter().flat_map(logout).collect();
        let beside: Beside<'_> = ("bare actix-web", Box::new(|seconds| load(&bare.url, clients, &calls, seconds).rate));
        let trips = |seconds: u64| round_trips(&office.url, clients, &starts, &originals, seconds).found;
        trips(1);
        report.compare(&format!("{name} (times of one request)"), clients, trips, vec![beside]);
    }
    report.remember(name, office);
}
