//! Registers every test once a database, and runs them.

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use super::database::Backend;
use super::office::{Office, Setup};
use super::postgres;

/// One test, before it is known on which database it runs.
pub struct ApiTest {
    name: &'static str,
    backends: Vec<Backend>,
    /// What would have to be done first, where this machine lacks something.
    lacks: Option<&'static str>,
    body: Arc<dyn Fn(Setup) + Send + Sync>,
}

/// What can be a test: a function over an [`Office`] with the usual settings, or over a [`Setup`] that opens one.
pub trait IntoApiTest<Over> {
    /// `only` names the databases on which it makes sense; all where it is empty.
    fn into_api_test(self, name: &'static str, only: &[&str]) -> ApiTest;
}

impl<F: Fn(&Office) + Send + Sync + 'static> IntoApiTest<&Office> for F {
    fn into_api_test(self, name: &'static str, only: &[&str]) -> ApiTest {
        ApiTest::new(name, only, move |setup| self(&setup.open()))
    }
}

impl<F: Fn(Setup) + Send + Sync + 'static> IntoApiTest<Setup> for F {
    fn into_api_test(self, name: &'static str, only: &[&str]) -> ApiTest {
        ApiTest::new(name, only, self)
    }
}

impl ApiTest {
    fn new(name: &'static str, only: &[&str], body: impl Fn(Setup) + Send + Sync + 'static) -> Self {
        assert!(only.iter().all(|only| Backend::ALL.iter().any(|backend| backend.name() == *only)), "{name}: no such database: {only:?}");
        let backends = Backend::ALL.into_iter().filter(|backend| only.is_empty() || only.contains(&backend.name())).collect();
        Self { name, backends, lacks: None, body: Arc::new(body) }
    }

    /// The same test on a machine that lacks something: ignored, unless it runs under `CI`.
    pub fn lacking(self, lacks: Option<&'static str>) -> Self {
        Self { lacks, ..self }
    }

    fn on(&self, module: &str, backend: Backend, is_ignored: bool) -> Trial {
        let body = Arc::clone(&self.body);
        let trial = Trial::test(format!("{backend}::{module}::{}", self.name), move || {
            body(Setup::on(backend));
            Ok(())
        });
        if is_ignored {
            return trial.with_kind("no postgres").with_ignored_flag(true);
        }
        match self.lacks.filter(|_| may_lack()) {
            Some(lacks) => trial.with_kind(format!("needs: {lacks}")).with_ignored_flag(true),
            None => trial,
        }
    }
}

/// Whether what this machine lacks is let pass: at home, and where `ACTAS_TESTS_MAY_LACK` says that it could not be had.
fn may_lack() -> bool {
    std::env::var_os("CI").is_none() || std::env::var_os("ACTAS_TESTS_MAY_LACK").is_some()
}

/// Runs what the command line selects of `modules`, each named and with its tests.
///
/// Where no Postgres is to be had, its half is ignored and says so, so that a first `cargo test` is green anywhere. Under `CI`
/// it runs, and fails, because there a half that nobody ran would pass for one that holds.
pub fn run(modules: &[(&str, Vec<ApiTest>)]) -> ExitCode {
    let arguments = Arguments::from_args();
    let missing = postgres::source().err();
    let ignore_postgres = missing.is_some() && std::env::var_os("CI").is_none();
    if let Some(why) = missing.filter(|_| ignore_postgres && !arguments.list) {
        eprintln!("The Postgres half of the tests is ignored: {why}");
    }
    let mut trials = Vec::new();
    for backend in Backend::ALL {
        let is_ignored = backend == Backend::Postgres && ignore_postgres;
        for (module, tests) in modules {
            let tests = tests.iter().filter(|test| test.backends.contains(&backend));
            trials.extend(tests.map(|test| test.on(module, backend, is_ignored)));
        }
    }
    super::queries::count();
    let conclusion = libtest_mimic::run(&arguments, trials);
    postgres::stop();
    conclusion.exit_code()
}
