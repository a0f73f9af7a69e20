//! A Postgres for the tests: the one that `ACTAS_TEST_POSTGRES_URL` names, or else a throw-away server, started when the
//! first test needs it and gone with this process, however that ends.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use diesel::{Connection as _, PgConnection, RunQueryDsl as _, sql_query};

use super::seam;

/// Where a Postgres comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A server that runs already; the URL of a database in it, whose user may create others.
    Running(String),
    /// A directory with `initdb` and `postgres`.
    Programs(PathBuf),
}

/// Looks for a Postgres without starting one.
pub fn source() -> Result<Source, String> {
    static SOURCE: OnceLock<Result<Source, String>> = OnceLock::new();
    let look = || match std::env::var("ACTAS_TEST_POSTGRES_URL") {
        Ok(url) => Ok(Source::Running(url)),
        Err(_) => program_directories()
            .into_iter()
            .find(|directory| directory.join("initdb").is_file() && directory.join("postgres").is_file())
            .map(Source::Programs)
            .ok_or_else(|| {
                "no PostgreSQL server is installed here (Debian: `apt-get install postgresql`), and ACTAS_TEST_POSTGRES_URL is not set"
                    .to_owned()
            }),
    };
    SOURCE.get_or_init(look).clone()
}

fn program_directories() -> Vec<PathBuf> {
    let mut directories = Vec::new();
    // A package may link single programs into the path; the rest stands beside the link's target.
    for entry in std::env::var_os("PATH").iter().flat_map(std::env::split_paths) {
        directories
            .extend(["postgres", "initdb"].iter().filter_map(|name| Some(fs::canonicalize(entry.join(name)).ok()?.parent()?.to_owned())));
    }
    if let Ok(output) = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output() {
        directories.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    let mut versions = Vec::new();
    for (parent, prefix) in
        [("/usr/lib/postgresql", ""), ("/usr", "pgsql-"), ("/opt/homebrew/opt", "postgresql"), ("/usr/local/opt", "postgresql")]
    {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        let matching = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        versions.extend(matching.map(|entry| entry.path().join("bin")));
    }
    versions.sort_by_key(|path| std::cmp::Reverse(version_in(path)));
    directories.extend(versions);
    directories
}

fn version_in(path: &Path) -> u32 {
    let digits: String = path.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// A running server in which databases can be made.
pub struct Server {
    /// The URL of a database in it.
    url: String,
    process: Mutex<Option<Child>>,
}

static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();

/// The server, started if it doesn't run yet.
pub fn server() -> &'static Server {
    match SERVER.get_or_init(|| source().and_then(Server::start)) {
        Ok(server) => server,
        Err(why) => panic!("no Postgres: {why}"),
    }
}

/// Ends the server, if it was started, and waits until it is gone.
pub fn stop() {
    if let Some(Ok(server)) = SERVER.get() {
        server.stop();
    }
}

/// What the throw-away server shows to who asks for TLS: itself its own authority, for the address 127.0.0.1 and for no name. The key guards nothing.
const CERTIFICATE: &str = include_str!("tls/certificate.pem");
const KEY: &str = include_str!("tls/key.pem");

/// The file with the certificate of the throw-away server, for `sslrootcert`; `None` where the tests use a server that runs already.
pub fn certificate() -> Option<PathBuf> {
    let is_ours = matches!(source(), Ok(Source::Programs(_)));
    is_ours.then(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/harness/tls/certificate.pem"))
}

/// Ends with its standard input, which this process holds and the system closes when this process dies. So no server and
/// no directory outlives the tests, not even when they are killed.
const WARDEN: &str = r#"
trap '' HUP INT TERM
programs=$1 directory=$2 port=$3
"$programs/initdb" -D "$directory/data" -U actas --auth=trust --encoding=UTF8 --no-locale --no-sync >"$directory/log" 2>&1 ||
    echo initdb >"$directory/failed"
printf '%s' "$4" >"$directory/certificate.pem"
(umask 077 && printf '%s' "$5" >"$directory/key.pem")
"$programs/postgres" -D "$directory/data" -p "$port" -c ssl=on -c ssl_cert_file="$directory/certificate.pem" \
    -c ssl_key_file="$directory/key.pem" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
    -c max_connections=300 -c jit=off -c dynamic_shared_memory_type=mmap -c shared_buffers=64MB -c fsync=off -c synchronous_commit=off -c full_page_writes=off \
    -c wal_level=minimal -c max_wal_senders=0 -c max_wal_size=256MB >>"$directory/log" 2>&1 &
server=$!
read -r _
# Again and again: the first may come before the server listens to signals.
while kill -QUIT "$server" 2>/dev/null; do sleep 0.05; done
rm -rf "$directory"
"#;

impl Server {
    fn start(source: Source) -> Result<Self, String> {
        match source {
            Source::Running(url) => Ok(Self { url, process: Mutex::new(None) }),
            // Another program may take the port before Postgres does, so a failure is met with one more try.
            Source::Programs(programs) => Self::start_programs(&programs).or_else(|_| Self::start_programs(&programs)),
        }
    }

    fn start_programs(programs: &Path) -> Result<Self, String> {
        let directory = tempfile::Builder::new().prefix("actas-postgres-").tempdir_in(roomy_memory().unwrap_or_else(std::env::temp_dir));
        let directory = directory.map_err(|error| error.to_string())?;
        let port = free_port()?;
        let mut command = Command::new("sh");
        command.args([OsStr::new("-c"), WARDEN.as_ref(), "warden".as_ref(), programs.as_ref(), directory.path().as_ref()]);
        // A process group of its own: an interrupt at the keyboard is for the tests, and the warden follows them.
        command
            .args([&port.to_string(), CERTIFICATE, KEY])
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0);
        // Postgres refuses to run as root.
        if let Some((uid, gid)) = other_than_root(directory.path())? {
            chown(directory.path(), Some(uid), Some(gid)).map_err(|error| error.to_string())?;
            command.uid(uid).gid(gid);
        }
        let process = command.spawn().map_err(|error| format!("sh: {error}"))?;
        let server = Self { url: format!("postgres://actas@127.0.0.1:{port}/postgres"), process: Mutex::new(Some(process)) };
        let ready = server.wait_until_ready(directory.path());
        if ready.is_err() {
            server.stop();
        }
        // The warden removes it.
        let _ = directory.keep();
        ready.map(|()| server)
    }

    fn wait_until_ready(&self, directory: &Path) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let log = || fs::read_to_string(directory.join("log")).unwrap_or_default();
        let has_failed = || directory.join("failed").exists() || log().contains("could not create any TCP/IP sockets");
        while !has_failed() && Instant::now() < deadline {
            if PgConnection::establish(&self.url).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("it did not start: {}", log()))
    }

    fn stop(&self) {
        if let Some(mut process) = self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            if let Some(mut stdin) = process.stdin.take() {
                let _ = stdin.write_all(b"\n");
            }
            let _ = process.wait();
        } else if let Some(Ok(name)) = TEMPLATE.get() {
            let _ = self.run(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
    }

    /// Where the throw-away server listens.
    pub fn port(&self) -> &str {
        let authority = self.url.rsplit('/').nth(1).unwrap_or_default();
        authority.rsplit(':').next().unwrap_or_default()
    }

    /// The URL of the database `name` in this server.
    pub fn url_of(&self, name: &str) -> String {
        let (head, parameters) = self.url.split_once('?').map_or((self.url.as_str(), None), |(head, tail)| (head, Some(tail)));
        let authority_ends = head.find("://").and_then(|scheme| head[scheme + 3..].find('/').map(|slash| scheme + 3 + slash));
        let base = authority_ends.map_or(head, |end| &head[..end]);
        let parameters = parameters.map(|parameters| format!("?{parameters}")).unwrap_or_default();
        format!("{base}/{name}{parameters}")
    }

    /// Makes an empty database.
    pub fn create_bare(&self, name: &str) -> Result<(), String> {
        self.run(&format!("CREATE DATABASE {name}"))
    }

    /// Makes a database with all migrations, by copying one.
    pub fn create_migrated(&self, name: &str) -> Result<(), String> {
        let template = TEMPLATE.get_or_init(|| {
            let template = format!("actas_test_{}_template", std::process::id());
            self.create_bare(&template)?;
            seam::migrate(&self.url_of(&template), false)?;
            Ok(template)
        });
        let template = template.as_ref().map_err(Clone::clone)?;
        // Files are copied as they are, where Postgres would else write each page to its log (since version 15, which knows the word).
        let copying = self.run(&format!("CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy"));
        match copying {
            Err(why) if why.contains("syntax error") || why.contains("strategy") => {
                self.run(&format!("CREATE DATABASE {name} TEMPLATE {template}"))
            }
            copied => copied,
        }
    }

    /// Ends every connection to a database and lets no other in.
    pub fn close(&self, name: &str) -> Result<(), String> {
        self.run(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"))?;
        self.run(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"))
    }

    /// Drops a database, whoever is still connected to it.
    pub fn drop(&self, name: &str) -> Result<(), String> {
        self.run(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
    }

    fn run(&self, sql: &str) -> Result<(), String> {
        let mut connection = PgConnection::establish(&self.url).map_err(|error| error.to_string())?;
        sql_query(sql).execute(&mut connection).map(drop).map_err(|error| error.to_string())
    }
}

static TEMPLATE: OnceLock<Result<String, String>> = OnceLock::new();

/// A directory in memory, if there is one with room for a few databases. A file system on a disk passes by the places of files that were deleted lately, and every
/// test makes and deletes some hundred.
fn roomy_memory() -> Option<PathBuf> {
    const ROOM_KIB: u64 = 2 * 1024 * 1024;
    let directory = Path::new("/dev/shm");
    let asked = Command::new("df").args(["--output=avail", "-k"]).arg(directory).stderr(Stdio::null()).output().ok()?;
    let room: u64 = String::from_utf8(asked.stdout).ok()?.lines().nth(1)?.trim().parse().ok()?;
    (room >= ROOM_KIB).then(|| directory.to_owned())
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| error.to_string())
}

/// The ids of somebody else, where this process, which made the directory, runs as root.
pub fn other_than_root(directory: &Path) -> Result<Option<(u32, u32)>, String> {
    let is_root = fs::metadata(directory).map_err(|error| error.to_string())?.uid() == 0;
    is_root.then(unprivileged_user).transpose()
}

/// The ids of somebody who is not root.
fn unprivileged_user() -> Result<(u32, u32), String> {
    let passwd = fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
    let ids_of = |name: &str| {
        let fields: Vec<_> = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name)?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    ids_of("postgres")
        .or_else(|| ids_of("nobody"))
        .ok_or_else(|| "root can't run it, and there is neither `postgres` nor `nobody`".to_owned())
}
