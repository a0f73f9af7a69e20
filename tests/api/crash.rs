//! What was acknowledged stays, whenever the process dies.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::harness::{Acting, Office, Person, Program};

api_tests! { a_kill_under_load_loses_nothing_that_was_acknowledged }

/// What one writer saw: its article, and the highest version that was acknowledged.
struct Seen {
    path: String,
    version: i64,
}

/// Writes until the server is gone; every acknowledgement is counted.
fn write_until_the_end(acting: &Acting, path: &str, acknowledged: &AtomicUsize) -> Seen {
    let mut version = 0;
    for number in 0.. {
        let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| acting.patch(path, json!({ "body": format!("{number}") }))));
        let Ok(answer) = written else { break };
        version = answer.expect(200).value("version").as_i64().unwrap();
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
    Seen { path: path.to_owned(), version }
}

fn a_kill_under_load_loses_nothing_that_was_acknowledged(office: &Office) {
    let admin = office.administrator();
    let authors: Vec<Person> = (0..4).map(|_| office.author()).collect();
    let program = Program::serving(office, &[]);
    let writers: Vec<(Acting, String)> = authors
        .iter()
        .map(|author| {
            let draft = json!({ "title": "Under load", "abstract": "", "body": "" });
            let article = author.at(&program.office).post("/v1/articles", draft).expect(201);
            (program.office.impersonate(&admin.at(&program.office), author), format!("/v1/articles/{}", article.str("id")))
        })
        .collect();

    let acknowledged = AtomicUsize::new(0);
    let seen: Vec<Seen> = std::thread::scope(|scope| {
        let started: Vec<_> =
            writers.iter().map(|(acting, path)| scope.spawn(|| write_until_the_end(acting, path, &acknowledged))).collect();
        while acknowledged.load(Ordering::SeqCst) < 100 {
            std::thread::yield_now();
        }
        program.kill();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });

    office.restart();
    for Seen { path, version } in seen {
        let found = admin.get(&path).expect(200).value("version").as_i64().unwrap();
        assert!(found >= version, "{path}: version {version} was acknowledged, {found} is there");
        let entries = admin.all_items(&format!("{path}/history"));
        let versions: Vec<i64> = entries.iter().map(|entry| entry["resource"]["version"].as_i64().unwrap()).collect();
        assert_eq!(versions, (1..=found).rev().collect::<Vec<_>>(), "every version has its entry, and no entry stands alone");
        assert!(entries[..entries.len() - 1].iter().all(|entry| entry["actor"] == admin.user_ref()));
    }
}
