//! PgBouncer in front of the throw-away Postgres, lending connections by the transaction: started when the first test needs it, and gone with this process.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use diesel::{Connection as _, PgConnection};

use super::postgres::{self, Source};

/// Looks for PgBouncer without starting it.
pub fn source() -> Result<PathBuf, String> {
    match postgres::source()? {
        Source::Running(_) => {
            Err("PgBouncer is put in front of the throw-away Postgres alone, and ACTAS_TEST_POSTGRES_URL is set".to_owned())
        }
        Source::Programs(_) => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            // Where Debian has it, which is in nobody's path but root's.
            let directories = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
            let found = directories.map(|directory| directory.join("pgbouncer")).find(|program| program.is_file());
            found.ok_or_else(|| "no PgBouncer is installed here (Debian: `apt-get install pgbouncer`)".to_owned())
        }
    }
}

struct Pooler {
    port: u16,
    process: Mutex<Option<Child>>,
}

static POOLER: OnceLock<Result<Pooler, String>> = OnceLock::new();

/// The URL of the database `name`, through the pooler.
pub fn url_of(name: &str) -> String {
    match POOLER.get_or_init(|| source().and_then(|program| start(&program).or_else(|_| start(&program)))) {
        Ok(pooler) => format!("postgres://actas@127.0.0.1:{}/{name}", pooler.port),
        Err(why) => panic!("no PgBouncer: {why}"),
    }
}

/// Ends it, if it was started.
pub fn stop() {
    if let Some(Ok(pooler)) = POOLER.get()
        && let Some(mut process) = pooler.process.lock().unwrap_or_else(PoisonError::into_inner).take()
    {
        if let Some(mut stdin) = process.stdin.take() {
            let _ = stdin.write_all(b"\n");
        }
        let _ = process.wait();
    }
}

/// Ends with its standard input, as that of Postgres does.
const WARDEN: &str = r#"
trap '' HUP INT TERM
"$1" "$2/pgbouncer.ini" >"$2/log" 2>&1 &
pooler=$!
read -r _
# The shell has it ignore interrupts.
while kill -TERM "$pooler" 2>/dev/null; do sleep 0.05; done
rm -rf "$2"
"#;

/// Fewer connections than one server has clients for, so that every one of them is shared; and lent in turn.
const CONNECTIONS: u32 = 3;

fn start(program: &std::path::Path) -> Result<Pooler, String> {
    let why = |error: std::io::Error| error.to_string();
    let directory = tempfile::Builder::new().prefix("actas-pgbouncer-").tempdir().map_err(why)?.keep();
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(why)?.port();
    let settings = format!(
        "[databases]\n* = host=127.0.0.1 port={} user=actas\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = any\npool_mode = transaction\ndefault_pool_size = {CONNECTIONS}\nserver_round_robin = 1\nmax_client_conn = 1000\nserver_idle_timeout = 2\nquery_wait_timeout = 10\n",
        postgres::server().port()
    );
    fs::write(directory.join("pgbouncer.ini"), settings).map_err(why)?;
    let mut command = Command::new("sh");
    command.args(["-c", WARDEN, "warden"]).arg(program).arg(&directory).stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
    // It refuses to run as root, too.
    if let Some((uid, gid)) = postgres::other_than_root(&directory)? {
        chown(&directory, Some(uid), Some(gid)).map_err(why)?;
        command.uid(uid).gid(gid);
    }
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).map_err(why)?;
    let process = command.spawn().map_err(why)?;
    let log = || fs::read_to_string(directory.join("log")).unwrap_or_default();
    let pooler = Pooler { port, process: Mutex::new(Some(process)) };
    let deadline = Instant::now() + Duration::from_secs(30);
    // Another program may take the port before it does.
    let has_failed = || log().contains("FATAL");
    while !has_failed() && Instant::now() < deadline {
        if PgConnection::establish(&format!("postgres://actas@127.0.0.1:{port}/postgres")).is_ok() {
            return Ok(pooler);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("it did not start: {}", log()))
}
