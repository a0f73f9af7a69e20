//! Starting, alone and together.

use crate::harness::{Backend, Office, Setup, at_once};

api_tests! {
    many_start_at_once_on_an_empty_database,
    a_stopped_server_frees_its_database,
}

/// On Postgres all of them serve, with the same keys; on SQLite one of them does, and the others say why they don't.
fn many_start_at_once_on_an_empty_database(setup: Setup) {
    let unopened = setup.unopened();
    let started = at_once(6, |_| unopened.second_instance());
    let (serving, refused): (Vec<_>, Vec<_>) = started.into_iter().partition(Result::is_ok);
    let serving: Vec<Office> = serving.into_iter().map(|office| office.ok().unwrap()).collect();
    for why in refused {
        let why = why.err().unwrap();
        assert!(why.contains("another actas server is using"), "{why}");
    }
    assert_eq!(serving.len(), if unopened.backend() == Backend::Postgres { 6 } else { 1 });
    let admin = serving[0].administrator();
    for office in &serving {
        admin.at(office).get("/v1/me").expect(200);
    }
    assert_eq!(serving[0].db_count("SELECT count(*) FROM entries WHERE action = 'key.created'"), 2);
}

fn a_stopped_server_frees_its_database(office: &Office) {
    let admin = office.administrator();
    office.stop();
    let next = office.second_instance().unwrap_or_else(|why| panic!("{why}"));
    admin.at(&next).get("/v1/me").expect(200);
}
