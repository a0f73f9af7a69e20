//! Where passwords are hashed: in processes that step back behind all else, where a thread's priority does not count.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Office, Person, Program, Setup, actas};

api_tests! {
    [sqlite] a_hashing_process_has_a_session_of_its_own_of_least_weight,
    [sqlite] a_session_of_others_does_not_step_back,
    a_server_hashes_apart_where_the_kernel_shares_by_session,
    [sqlite] a_hashing_process_ends_with_its_server,
}

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the kernel shares this machine out by session.
fn is_grouped_by_session() -> bool {
    fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled").is_ok_and(|value| value.trim() == "1")
}

/// What Linux tells of a process.
#[derive(Debug)]
struct Process {
    id: u32,
    state: String,
    parent: u32,
    session: u32,
}

impl Process {
    /// None where it is gone, and elsewhere than on Linux.
    fn find(id: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name before it may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        Some(Self { id, state: fields[0].to_owned(), parent: fields[1].parse().unwrap(), session: fields[3].parse().unwrap() })
    }

    /// Those that `parent` started.
    fn started_by(parent: u32) -> Vec<Self> {
        let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
        let ids = processes.filter_map(|entry| entry.unwrap().file_name().to_string_lossy().parse().ok());
        ids.filter_map(Self::find).filter(|process| process.parent == parent).collect()
    }

    /// `/proc`'s file of that name.
    fn told(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.id)).unwrap()
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.id.to_string()]).status().unwrap().success(), "kill -s {name}");
    }
}

/// Asks again and again.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn a_hashing_process_has_a_session_of_its_own_of_least_weight(_: Setup) {
    let mut child = actas(&["hash-passwords"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut ask = |work: Value| {
        writeln!(input, "{work}").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()
    };
    let made = ask(json!({ "hash": { "password": "correct horse", "cost": 4 } }));
    let hash = made["outcome"]["hash"].as_str().unwrap();
    for (password, matches) in [("correct horse", true), ("wrong", false)] {
        let verified = ask(json!({ "verify": { "password": password, "hash": hash, "ceiling": 4 } }));
        assert_eq!(verified["outcome"], json!({ "matches": matches }));
    }
    if let Some(process) = Process::find(child.id()) {
        assert_eq!(process.session, process.id);
        let fields = process.told("stat");
        assert_eq!(fields.rsplit_once(") ").unwrap().1.split(' ').nth(16), Some("19"), "{fields}");
        if is_grouped_by_session() {
            // Who is not root has to wait for its turn, and tries at each piece of work.
            wait_for("its session has the weight of others", || {
                ask(json!({ "hash": { "password": "", "cost": 4 } }));
                process.told("autogroup").trim_end().ends_with(" nice 19")
            });
        }
    }
    drop(input);
    assert!(child.wait().unwrap().success(), "the end of its input is its end");
}

/// Who leads a process group can't have another session.
fn a_session_of_others_does_not_step_back(_: Setup) {
    let mut child = actas(&["hash-passwords"]).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    for has_warning in [true, false] {
        writeln!(input, "{}", json!({ "hash": { "password": "", "cost": 4 } })).unwrap();
        let answer: Value = serde_json::from_str(&output.next().unwrap().unwrap()).unwrap();
        assert!(answer["outcome"]["hash"].is_string(), "{answer}");
        if let Some(process) = Process::find(child.id()) {
            assert_ne!(process.session, process.id);
            assert_eq!(answer["warning"].is_string(), has_warning, "{answer}");
            if is_grouped_by_session() {
                assert!(!process.told("autogroup").trim_end().ends_with(" nice 19"), "it is the session of whoever tests");
            }
        }
    }
    drop(input);
    child.wait().unwrap();
}

/// The server, with one thread that hashes.
fn serve(office: &Office) -> (Program, Person) {
    let person = office.author();
    (Program::serving(office, &[("ACTAS_HASHING_THREADS", "1"), ("ACTAS_LOG_FORMAT", "json")]), person)
}

fn log_in(program: &Program, person: &Person, password: &str, status: u16) {
    program.office.anonymous().post("/v1/auth/login", json!({ "email": person.email, "password": password })).expect(status);
}

fn a_server_hashes_apart_where_the_kernel_shares_by_session(office: &Office) {
    let (program, person) = serve(office);
    let right = person.password.as_str();
    let hashing = || Process::started_by(program.id());
    assert!(hashing().is_empty(), "nobody logged in yet");
    log_in(&program, &person, right, 200);
    if !is_grouped_by_session() {
        assert!(hashing().is_empty(), "priorities of threads are enough");
        return;
    }
    let [first] = &hashing()[..] else { panic!("{:?}", hashing()) };
    assert_eq!(first.session, first.id);
    assert_eq!(first.told("environ"), "", "there may be secrets in it");
    assert_eq!((first.told("comm").trim_end(), first.told("cmdline").as_str()), ("actas-hash", "actas\0hash-passwords\0"));

    wait_for("its session has the weight of others", || {
        log_in(&program, &person, right, 200);
        first.told("autogroup").trim_end().ends_with(" nice 19")
    });

    // A service that is stopped may have all its processes told so.
    for name in ["TERM", "INT"] {
        first.signal(name);
        log_in(&program, &person, "another password", 401);
        log_in(&program, &person, right, 200);
        assert_eq!(hashing().iter().map(|process| process.id).collect::<Vec<_>>(), [first.id], "SIG{name}");
    }

    first.signal("KILL");
    log_in(&program, &person, "another password", 401);
    wait_for("no other takes its place", || {
        log_in(&program, &person, right, 200);
        hashing().iter().any(|process| process.id != first.id)
    });
    let log = program.kill();
    assert_eq!(log.matches("a process that hashes passwords failed").count(), 1, "{log}");
}

fn a_hashing_process_ends_with_its_server(office: &Office) {
    let (program, person) = serve(office);
    log_in(&program, &person, &person.password, 200);
    let hashing = Process::started_by(program.id());
    assert_eq!(hashing.len(), usize::from(is_grouped_by_session()));
    program.kill();
    for process in hashing {
        // Whose parent is gone may be left for nobody to ask after.
        wait_for("it goes on", || Process::find(process.id).is_none_or(|found| found.state == "Z"));
    }
}
