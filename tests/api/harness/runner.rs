//! Registers every test once a database, and runs them.

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use super::database::Backend;
use super::office::{Office, Setup};
use super::{pooler, postgres};

/// One test, before it is known on which database it runs.
pub struct ApiTest {
    name: &'static str,
    /// The grounds on which it makes sense; all where there are none.
    only: Vec<String>,
    /// What would have to be done first, where this machine lacks something.
    lacks: Option<&'static str>,
    body: Arc<dyn Fn(Setup) + Send + Sync>,
}

/// What can be a test: a function over an [`Office`] with the usual settings, or over a [`Setup`] that opens one.
pub trait IntoApiTest<Over> {
    /// `only` names the grounds on which it makes sense; all where it is empty.
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
        let is_ground = |only: &&&str| Ground::ALL.iter().any(|ground| ground.name() == **only);
        assert_eq!(only.iter().filter(is_ground).count(), only.len(), "{name}: no such ground among {only:?}");
        Self { name, only: only.iter().map(|only| (*only).to_owned()).collect(), lacks: None, body: Arc::new(body) }
    }

    /// The same test on a machine that lacks something: ignored, unless it runs under `CI`.
    pub fn lacking(self, lacks: Option<&'static str>) -> Self {
        Self { lacks, ..self }
    }

    fn makes_sense_on(&self, ground: Ground, is_story_of_pooling: bool) -> bool {
        let names = |ground: Ground| self.only.iter().any(|only| only == ground.name());
        match ground {
            Ground::Sqlite | Ground::Postgres => self.only.is_empty() || names(ground),
            Ground::Pooled => names(ground) || is_story_of_pooling && (self.only.is_empty() || names(Ground::Postgres)),
        }
    }

    fn on(&self, module: &str, ground: Ground, is_ignored: bool) -> Trial {
        let body = Arc::clone(&self.body);
        let trial = Trial::test(format!("{}::{module}::{}", ground.name(), self.name), move || {
            body(ground.setup());
            Ok(())
        });
        if is_ignored {
            return trial.with_kind(format!("no {}", ground.name())).with_ignored_flag(true);
        }
        match self.lacks.filter(|_| may_lack()) {
            Some(lacks) => trial.with_kind(format!("needs: {lacks}")).with_ignored_flag(true),
            None => trial,
        }
    }
}

/// What the tests run on.
#[derive(Clone, Copy)]
enum Ground {
    Sqlite,
    Postgres,
    /// Postgres through PgBouncer: some of the tests.
    Pooled,
}

impl Ground {
    const ALL: [Self; 3] = [Self::Sqlite, Self::Postgres, Self::Pooled];

    fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Pooled => "pooled",
        }
    }

    fn setup(self) -> Setup {
        match self {
            Self::Sqlite => Setup::on(Backend::Sqlite),
            Self::Postgres => Setup::on(Backend::Postgres),
            Self::Pooled => Setup::on(Backend::Postgres).pooled(),
        }
    }

    /// Why there is none here.
    fn missing(self) -> Option<String> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => postgres::source().err(),
            Self::Pooled => pooler::source().err(),
        }
    }
}

/// Whether what this machine lacks is let pass: at home, and where `ACTAS_TESTS_MAY_LACK` says that it could not be had.
fn may_lack() -> bool {
    std::env::var_os("CI").is_none() || std::env::var_os("ACTAS_TESTS_MAY_LACK").is_some()
}

/// Runs what the command line selects of `modules`, each named and with its tests; and through a pooler those of the modules that `pooled` names.
///
/// Where no Postgres is to be had, or no PgBouncer, what needs it is ignored and says so, so that a first `cargo test` is green anywhere. Under `CI`
/// it runs, and fails, because there a part that nobody ran would pass for one that holds.
pub fn run(modules: &[(&str, Vec<ApiTest>)], pooled: &[&str]) -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for ground in Ground::ALL {
        let missing = ground.missing().filter(|_| std::env::var_os("CI").is_none());
        if let Some(why) = missing.as_ref().filter(|_| !arguments.list) {
            eprintln!("The tests on {} are ignored: {why}", ground.name());
        }
        for (module, tests) in modules {
            let tests = tests.iter().filter(|test| test.makes_sense_on(ground, pooled.contains(module)));
            trials.extend(tests.map(|test| test.on(module, ground, missing.is_some())));
        }
    }
    super::queries::count();
    let conclusion = libtest_mimic::run(&arguments, trials);
    pooler::stop();
    postgres::stop();
    conclusion.exit_code()
}
