//! Where the databases are, and pgbench: what Postgres alone does with the statements that a request takes at least.

use std::cell::Cell;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::office::Office;
use crate::program::{Program, run, told};

/// On which of the two a row is measured.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    Sqlite,
    Postgres(&'a Postgres),
}

/// A database that is nobody else's, gone with this where it is a file.
pub struct Database {
    pub url: String,
    /// Postgres' own name for it.
    name: String,
    _directory: Option<TempDir>,
}

impl Place<'_> {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres(_) => "Postgres",
        }
    }

    /// An empty database.
    pub fn new_database(self) -> Database {
        match self {
            Self::Sqlite => {
                let directory = tempfile::tempdir().unwrap();
                let url = format!("sqlite://{}", directory.path().join("actas.db").display());
                Database { url, name: String::new(), _directory: Some(directory) }
            }
            Self::Postgres(postgres) => {
                let name = format!("bench_{}", postgres.databases.replace(postgres.databases.get() + 1));
                run(&mut postgres.client("createdb", &[&name]));
                Database { url: format!("postgres://actas@127.0.0.1:{}/{name}", postgres.port), name, _directory: None }
            }
        }
    }
}

/// A throw-away Postgres that flushes every commit.
pub struct Postgres {
    programs: PathBuf,
    port: u16,
    databases: Cell<usize>,
    program: Program,
    _directory: TempDir,
}

impl Postgres {
    pub fn start() -> Option<Self> {
        let mut versions: Vec<PathBuf> =
            fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|entry| entry.path().join("bin")).collect();
        versions.sort();
        let programs = versions.into_iter().rev().find(|path| path.join("initdb").is_file() && path.join("pgbench").is_file())?;
        let directory = tempfile::tempdir().unwrap();
        // Postgres refuses to run as root.
        let number = |what: &str| -> Option<u32> {
            let output = Command::new("id").args([what, "postgres"]).output().ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse().ok()
        };
        let (uid, gid) = (number("-u")?, number("-g")?);
        let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
        let command = |program: &str| {
            let mut command = Command::new(programs.join(program));
            command.current_dir(directory.path()).stdout(Stdio::null()).stderr(Stdio::null());
            if is_root {
                command.uid(uid).gid(gid);
            }
            command
        };
        if is_root {
            chown(directory.path(), Some(uid), Some(gid)).unwrap();
        }
        let data = directory.path().join("data");
        assert!(command("initdb").arg("-D").arg(&data).args(["-U", "actas", "--auth=trust", "--no-locale"]).status().unwrap().success());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // `max_wal_size` is for seeding alone: checkpoints every few seconds would take most of its time.
        let settings = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "synchronous_commit=on",
            "fsync=on",
            "max_connections=200",
            "max_wal_size=4GB",
        ];
        let mut server = command("postgres");
        server.arg("-D").arg(&data).args(["-p", &port.to_string()]);
        for setting in settings {
            server.args(["-c", setting]);
        }
        let program = Program(server.spawn().unwrap());
        let postgres = Self { programs, port, databases: Cell::new(0), program, _directory: directory };
        let patience = Instant::now();
        while !postgres.client("pg_isready", &[]).output().unwrap().status.success() {
            assert!(patience.elapsed() < Duration::from_secs(30), "Postgres did not start");
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(postgres)
    }

    /// One of Postgres' own programs, talking to this server.
    fn client(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "actas"]).args(arguments);
        command
    }

    /// How many times a second pgbench runs these statements, over as many connections as there are clients.
    pub fn pgbench(&self, office: &Office, statements: &str, clients: usize, seconds: u64) -> f64 {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let article = office.people[0].article.rsplit('/').next().unwrap();
        let (session, kid) = office.session_and_kid();
        let statements = statements.replace("{session}", &session).replace("{kid}", &kid).replace("{article}", article);
        file.write_all(statements.as_bytes()).unwrap();
        if statements.contains(":client_id") {
            run(&mut self.client("psql", &["-d", &office.database.name, "-q", "-v", "ON_ERROR_STOP=1", "-c", ARTICLES_FOR_PGBENCH]));
        }
        let arguments = ["-n", "-M", "prepared", "-c", &clients.to_string(), "-j", "1", "-T", &seconds.to_string(), "-f"];
        let told = told(self.client("pgbench", &arguments).arg(file.path()).arg(&office.database.name));
        let rate = told.lines().find_map(|line| line.strip_prefix("tps = ")).and_then(|rest| rest.split(' ').next()?.parse().ok());
        rate.unwrap_or_else(|| panic!("pgbench: {told}"))
    }
}

impl Drop for Postgres {
    /// Lets it end by itself, at once and without saving anything: killed outright it would leave processes and shared memory behind.
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-QUIT", &self.program.0.id().to_string()]).status();
        let _ = self.program.0.wait();
    }
}

/// The one select that finds a session, as the store sends it.
pub const SELECT_SESSION: &str = "
SELECT s.id, s.mode, s.reason, s.ticket, s.started_at, s.expires_at, s.last_used_at, s.ended_at, s.end_cause,
    subjects.id, subjects.email, subjects.display_name, subjects.role, subjects.status,
    actors.id, actors.email, actors.display_name, actors.role, actors.status, originals.id, originals.ended_at, originals.expires_at,
    s.client_id, s.scope, s.audience, s.bound_permissions, s.bound_resources,
    (SELECT retired_at IS NOT NULL FROM keys WHERE kid = '{kid}'), (SELECT version FROM policies WHERE id = 'policy')
FROM sessions s JOIN users subjects ON subjects.id = s.subject_id LEFT JOIN users actors ON actors.id = s.actor_id
    LEFT JOIN sessions originals ON originals.id = s.original_session_id
WHERE s.id = '{session}' LIMIT 1;
";

/// The select that finds an article.
pub const SELECT_ARTICLE: &str = "
SELECT a.id, a.title, a.abstract, a.body, a.status, a.version, a.created_at, a.updated_at, authors.id, authors.email, authors.display_name,
    editors.id, editors.email, editors.display_name
FROM articles a JOIN users authors ON authors.id = a.author_id LEFT JOIN users editors ON editors.id = a.editor_id
WHERE a.id = '{article}' LIMIT 1;
";

/// An article a client of pgbench, each with its entry.
const ARTICLES_FOR_PGBENCH: &str = "
DO $$ BEGIN
FOR i IN 0..63 LOOP
    IF NOT EXISTS (SELECT 1 FROM articles WHERE id = 'pgbench-' || i) THEN
        INSERT INTO entries (id, occurred_at, origin, action, resource_type, resource_id, resource_version, note, changes)
        VALUES ('pgbench-' || i, now(), 'cli', 'article.created', 'article', 'pgbench-' || i, 1, 'a benchmark', '{}');
        INSERT INTO articles (id, title, abstract, body, search, status, author_id, version, created_at, updated_at)
        SELECT 'pgbench-' || i, 'On tides', 'Why the sea moves.', 'It just does.', 'on tides', 'draft', id, 1, now(), now()
        FROM users WHERE role = 'author' LIMIT 1;
    END IF;
END LOOP; END $$";

/// What a change of an article under impersonation takes at least: its entry, which names both, and its row.
pub const CHANGE_ARTICLE: &str = r#"
BEGIN;
INSERT INTO entries (id, occurred_at, origin, action, resource_type, resource_id, resource_version, subject_id, subject_email, subject_name,
    actor_id, actor_email, actor_name, impersonation_id, note, changes, request_id)
SELECT gen_random_uuid()::text, now(), 'api', 'article.updated', 'article', a.id, a.version + 1, s.id, s.email, s.display_name,
    'pgbench', 'ada@example.org', 'Somebody', '{session}', 'Somebody acting as Somebody', '{"title":{"from":"On tides","to":"On the tides"}}',
    '{session}'
FROM articles a JOIN users s ON s.id = a.author_id WHERE a.id = 'pgbench-' || :client_id;
UPDATE articles SET title = 'On the tides', search = 'on the tides', version = version + 1, updated_at = now() WHERE id = 'pgbench-' || :client_id;
COMMIT;
"#;
