//! Postgres through PgBouncer, which lends a connection for a transaction and then to somebody else. Much of the rest runs so too: `tests/api/main.rs` says what.

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::{Office, Setup, at_once};

api_tests! {
    [pooled] migrating_again_and_again_beside_requests_locks_nobody_out,
    [pooled] a_transaction_leaves_nothing_on_the_connection,
    [pooled] a_statement_is_bounded_as_without_a_pooler,
}

fn migrating_again_and_again_beside_requests_locks_nobody_out(office: &Office) {
    let author = office.author();
    at_once(16, |_| {
        for _ in 0..12 {
            office.db_migrate().unwrap();
            assert_eq!(author.get("/v1/me").expect(200).str("subject/id"), author.id);
        }
    });
}

fn a_transaction_leaves_nothing_on_the_connection(office: &Office) {
    let (admin, author) = (office.administrator(), office.author());
    let draft = json!({ "title": "On tides", "abstract": "Why the sea moves.", "body": "It just does." });
    at_once(8, |_| {
        let article = format!("/v1/articles/{}", author.post("/v1/articles", draft.clone()).expect(201).str("id"));
        let acting = office.impersonate(&admin, &author);
        acting.patch(&article, json!({ "title": "On waves" })).expect(200);
        acting.get(&article).expect(200);
        acting.log_out().expect(200);
    });
    // What the next one finds who is lent any of the connections.
    let found: BTreeSet<String> = (0..20)
        .flat_map(|_| {
            office.db_pooled_lines(
                "SELECT concat_ws(' ', name, setting) AS value FROM pg_settings WHERE source = 'session' AND name NOT IN ('application_name', 'client_encoding', 'TimeZone')
                 UNION ALL SELECT statement FROM pg_prepared_statements WHERE statement NOT LIKE '%pg_prepared_statements%'
                 UNION ALL SELECT locktype FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'",
            )
        })
        .collect();
    assert_eq!(found, BTreeSet::new());
}

/// A lock on the whole table holds off reads and writes alike, until their time is over: not that of the one who holds it.
fn a_statement_is_bounded_as_without_a_pooler(setup: Setup) {
    let office = setup.with("DATABASE_TIMEOUT_SECONDS", 1).open();
    let author = office.author();
    let draft = json!({ "title": "On tides", "abstract": "Why the sea moves.", "body": "It just does." });
    let article = format!("/v1/articles/{}", author.post("/v1/articles", draft).expect(201).str("id"));
    office.db_while_locked("articles", || {
        author.get("/v1/articles").expect(503);
        author.delete(&article).expect(503);
    });
    author.delete(&article).expect(204);
}
