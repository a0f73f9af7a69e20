//! TLS to Postgres, as managed ones demand it.

use crate::harness::{Setup, certificate};

api_tests! {
    [postgres] the_connections_are_encrypted_where_the_url_requires_it,
    [postgres] the_server_must_be_who_its_certificate_says,
    [postgres] a_certificate_of_nobody_we_know_is_refused,
}

fn the_connections_are_encrypted_where_the_url_requires_it(setup: Setup) {
    let Some(certificate) = certificate() else { return };
    let office = setup.with_database_parameters(&format!("sslmode=verify-full&sslrootcert={}", certificate.display())).open();
    office.administrator().get("/v1/me").expect(200);
    let ours = "FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'actas' AND datname = current_database()";
    assert!(office.db_count(&format!("SELECT count(*) {ours} AND ssl")) > 0);
    assert_eq!(office.db_count(&format!("SELECT count(*) {ours} AND NOT ssl")), 0);
}

fn the_server_must_be_who_its_certificate_says(setup: Setup) {
    let Some(certificate) = certificate() else { return };
    // The same server under a name that its certificate doesn't have.
    let parameters = format!("sslmode=verify-full&host=localhost&sslrootcert={}", certificate.display());
    let refusal = setup.with_database_parameters(&parameters).try_open().err().unwrap();
    assert!(refusal.contains("certificate"), "{refusal}");
}

fn a_certificate_of_nobody_we_know_is_refused(setup: Setup) {
    if certificate().is_none() {
        return;
    }
    let refusal = setup.with_database_parameters("sslmode=verify-full&sslrootcert=system").try_open().err().unwrap();
    assert!(refusal.contains("certificate"), "{refusal}");
}
