//! What the other tests rely on: a database for each of them, a moving clock, threads that start together.

use std::sync::atomic::{AtomicUsize, Ordering};

use actas::clock::Clock;

use crate::harness::{Database, Setup, at_once};

api_tests! {
    every_test_has_a_database_of_its_own,
    a_statement_past_the_server_tells_what_became_of_it,
    [sqlite] a_clock_is_moved_for_all_who_share_it,
    [sqlite] threads_start_together,
    [postgres] databases_can_be_made_at_once,
    [postgres] a_database_is_dropped_with_its_test,
}

fn every_test_has_a_database_of_its_own(setup: Setup) {
    let (one, other) = (setup.bare_database(), setup.bare_database());
    assert_eq!(one.backend(), setup.backend());
    one.execute("CREATE TABLE things (name TEXT PRIMARY KEY)").unwrap();
    assert_eq!(one.execute("INSERT INTO things VALUES ('a'), ('b')"), Ok(2));
    assert_eq!(one.number("SELECT count(*) FROM things"), 2);
    assert!(other.execute("INSERT INTO things VALUES ('a')").is_err(), "the other database has no such table");
}

fn a_statement_past_the_server_tells_what_became_of_it(setup: Setup) {
    let database = setup.bare_database();
    database.execute("CREATE TABLE things (name TEXT PRIMARY KEY)").unwrap();
    database.execute("INSERT INTO things VALUES ('a')").unwrap();
    let refusal = database.execute("INSERT INTO things VALUES ('a')").unwrap_err();
    assert!(refusal.to_lowercase().contains("unique"), "{refusal}");
    assert_eq!(database.text("SELECT name FROM things").as_deref(), Some("a"));
    assert_eq!(database.text("SELECT name FROM things WHERE name = 'b'"), None);
}

fn a_clock_is_moved_for_all_who_share_it(_setup: Setup) {
    let clock = Clock::default();
    let (shared, before) = (clock.clone(), clock.now());
    clock.advance(3600);
    let moved = shared.now() - before;
    assert!((3600..3660).contains(&moved.num_seconds()), "{moved}");
}

fn threads_start_together(_setup: Setup) {
    let running = AtomicUsize::new(0);
    let seen = at_once(8, |number| {
        running.fetch_add(1, Ordering::SeqCst);
        number
    });
    assert_eq!((seen, running.load(Ordering::SeqCst)), ((0..8).collect(), 8));
}

fn databases_can_be_made_at_once(setup: Setup) {
    let databases = at_once(8, |_| setup.bare_database());
    assert!(databases.iter().all(|database| database.number("SELECT 1") == 1));
}

fn a_database_is_dropped_with_its_test(setup: Setup) {
    let (kept, dropped) = (setup.bare_database(), setup.bare_database());
    let name = |database: &Database| database.url().split('?').next().and_then(|url| url.rsplit('/').next()).unwrap().to_owned();
    let of = |name: &str| kept.number(&format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'"));
    let (kept_name, dropped_name) = (name(&kept), name(&dropped));
    assert_eq!((of(&kept_name), of(&dropped_name)), (1, 1));
    drop(dropped);
    assert_eq!((of(&kept_name), of(&dropped_name)), (1, 0));
}
