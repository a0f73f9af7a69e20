//! The work that passwords make, and where it is done: on the thread that asks, or in a process of its own.
//!
//! Linux compares the priorities of threads within a scheduling group, and where it makes one of each session
//! (`CONFIG_SCHED_AUTOGROUP`, sched(7)) the lowest priority in one session is as good as the highest beside the processes of another: those of Postgres, of a
//! proxy. There it is the session that has to step back, and only a process can have one. So each thread of the pool has a process that does its hashing, in a
//! session of its own, of the least weight. It is this same program ([`serve`]), and knows nothing but what it is asked.
//!
//! Such a process can fail, and no login fails with it: the thread then does the work. One that is stopped by a signal holds up its thread, as it does whatever is stopped.

use std::fs;
use std::hint::black_box;
use std::io::{self, BufRead, BufReader, Write};
use std::ops::Range;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::text::NewPassword;

/// How far hashing steps back behind all else, from 0 to 19: what is as busy gets seventy times as much. With 10 it would get ten times as much, and
/// reads wait longer.
pub const NICENESS: i32 = 19;

/// How long a process steps back for a piece of work. Where something keeps every core busy it would take a quarter of a minute; after this it has the weight of
/// anybody until it is done. On an idle core bcrypt takes as long at cost 15.
const PATIENCE: Duration = Duration::from_secs(2);

/// When a process tries again to change its session's weight. The kernel accepts about ten such changes a second from all that are not root's.
const RETRY: Duration = Duration::from_millis(100);

/// What there is to be done. It is printed nowhere: it holds a password.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// To hash a new password.
    Hash { password: String, cost: u32 },
    /// To say whether a password is the one of a hash, of which there may be none. A no costs what one hash of cost `ceiling` does.
    Verify { password: String, hash: Option<String>, ceiling: u32 },
}

/// What came of it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Hash(String),
    Matches(bool),
    /// Why there is none: a cost out of range, no random numbers.
    Failure(String),
}

impl Work {
    /// Does it, on the calling thread.
    pub fn run(&self) -> Outcome {
        match self {
            Self::Hash { password, cost } => {
                bcrypt::hash(password, *cost).map_or_else(|error| Outcome::Failure(error.to_string()), Outcome::Hash)
            }
            Self::Verify { password, hash, ceiling } => Outcome::Matches(verify(password, hash.as_deref(), *ceiling)),
        }
    }
}

fn verify(password: &str, hash: Option<&str>, ceiling: u32) -> bool {
    // bcrypt reads 72 bytes and takes a NUL for the end: beyond that, another password than the user's would do.
    let can_match = password.len() <= NewPassword::MAX_BYTES && !password.contains('\0');
    let Some((hash, cost)) = hash.and_then(|hash| Some((hash, cost_of(hash)?))) else {
        spend(password, ceiling);
        return false;
    };
    // Verified even if it can't match: to do the same work.
    let equal = bcrypt::verify(password, hash).unwrap_or(false);
    if equal && can_match {
        return true;
    }
    for cost in remaining_costs(cost, ceiling) {
        spend(password, cost);
    }
    false
}

/// The cost of a hash, unless it is damaged.
pub fn cost_of(hash: &str) -> Option<u32> {
    hash.parse::<bcrypt::HashParts>().ok().map(|parts| parts.get_cost())
}

/// The costs of further hashes which, with one of cost `done`, take as long as a single one of cost `ceiling`: each step of cost doubles the
/// time, and 2ᵈ + (2ᵈ + 2ᵈ⁺¹ + … + 2ᶜ⁻¹) = 2ᶜ.
const fn remaining_costs(done: u32, ceiling: u32) -> Range<u32> {
    done..ceiling
}

/// Does the work of one verification at `cost`, for nothing. Needs no stored dummy: bcrypt takes the same time for every password and salt.
fn spend(password: &str, cost: u32) {
    let _ = black_box(bcrypt::hash_with_salt(black_box(password), cost, [0; 16]));
}

/// How a process is started that reads work and writes what came of it, as [`serve`] does.
pub type Program = fn() -> Command;

/// How many pieces of work a thread does itself after its process failed: what keeps one from starting, too many processes or too little memory, may pass.
const PAUSE: u32 = 20;

/// Where one thread's work is done.
pub struct Hasher {
    /// `None` where the thread does all itself.
    program: Option<Program>,
    process: Option<Process>,
    /// What is left of the [`PAUSE`].
    pause: u32,
}

impl Hasher {
    /// Works in a process of `program`, which is started at the first use; on the calling thread without one.
    pub const fn new(program: Option<Program>) -> Self {
        Self { program, process: None, pause: 0 }
    }

    /// Does `work`, wherever.
    pub fn run(&mut self, work: &Work) -> Outcome {
        let Some(program) = self.program else { return work.run() };
        if self.pause > 0 {
            self.pause -= 1;
            return work.run();
        }
        match self.ask(program, work) {
            Ok(Answer { outcome, warning }) => {
                if let Some(warning) = warning {
                    tracing::warn!("a process that hashes passwords holds up others: {warning}");
                }
                outcome
            }
            Err(error) => {
                tracing::warn!(%error, "a process that hashes passwords failed; a thread does it {PAUSE} times before another is tried");
                self.pause = PAUSE;
                work.run()
            }
        }
    }

    fn ask(&mut self, program: Program, work: &Work) -> io::Result<Answer> {
        // Put back when it has answered, and not before: an answer that was left unread would be the next one's.
        let mut process = match self.process.take() {
            Some(process) => process,
            None => Process::start(program())?,
        };
        let answer = process.ask(work)?;
        self.process = Some(process);
        Ok(answer)
    }
}

/// A process that works for one thread. Dropped, it is gone.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(mut command: Command) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a process without pipes"));
        };
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    fn ask(&mut self, work: &Work) -> io::Result<Answer> {
        write_line(&mut self.input, work)?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        understand(&line)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // Or it stays in the system's table.
        let _ = self.child.wait();
    }
}

/// What such a process writes.
#[derive(Serialize, Deserialize)]
struct Answer {
    outcome: Outcome,
    /// What whoever runs the server should know.
    warning: Option<String>,
}

fn write_line(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    // At once, so that it is never half a line.
    to.write_all(&line)?;
    to.flush()
}

/// What serde says of a line could repeat it, and there are passwords in it.
fn understand<'a, T: Deserialize<'a>>(line: &'a str) -> io::Result<T> {
    serde_json::from_str(line).map_err(|_| io::Error::other(if line.is_empty() { "it has ended" } else { "it is not understood" }))
}

/// Does what `input` asks, a line of JSON each, and says on `output` what came of it, until there is no more.
///
/// # Errors
/// What can't be read, understood or written.
pub fn serve(input: impl BufRead, mut output: impl Write, mut place: Place) -> io::Result<()> {
    for line in input.lines() {
        let work: Work = understand(&line?)?;
        let warning = place.step_back();
        let outcome = place.work(|| work.run());
        write_line(&mut output, &Answer { outcome, warning })?;
    }
    Ok(())
}

/// Whether the kernel may share the cores out by session, whatever the priorities inside of each. In a control group of its own it doesn't, which can't be told from inside.
pub fn may_be_shared_by_session() -> bool {
    fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled").is_ok_and(|value| value.trim() == "1")
}

/// Where a process stands among the others.
pub struct Place {
    /// How far its session steps back, as far as is known.
    niceness: i32,
    /// Lets it step back so far; `None` where it can't.
    set_niceness: Option<fn(i32) -> io::Result<()>>,
    /// How long it does for a piece of work.
    patience: Duration,
    /// What could not be done, until it is told.
    warning: Option<String>,
}

impl Place {
    /// Makes a session for this process alone, and lowers its priority.
    #[cfg(target_os = "linux")]
    pub fn apart() -> Self {
        // Who looks at the list of processes sees what it is; without, it is `exe`.
        let _ = fs::write("/proc/self/comm", "actas-hash");
        let done = rustix::process::setsid().map_err(io::Error::from).and_then(|_| step_back());
        // sched(7), "The autogroup feature".
        let set_niceness = |niceness: i32| fs::write("/proc/self/autogroup", niceness.to_string());
        // Without a session of its own it would be the server's that steps back.
        Self {
            niceness: 0,
            set_niceness: done.is_ok().then_some(set_niceness),
            patience: PATIENCE,
            warning: done.err().map(|error| error.to_string()),
        }
    }

    /// There is nothing to be made elsewhere.
    #[cfg(not(target_os = "linux"))]
    pub const fn apart() -> Self {
        Self { niceness: 0, set_niceness: None, patience: PATIENCE, warning: None }
    }

    /// Lets the session step back, unless it does; where the kernel says to try again, the next piece of work is when. Answers what could not be done, once.
    fn step_back(&mut self) -> Option<String> {
        if let Some(set_niceness) = self.set_niceness
            && self.niceness != NICENESS
        {
            match set_niceness(NICENESS) {
                Ok(()) => self.niceness = NICENESS,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    self.set_niceness = None;
                    self.warning = Some(error.to_string());
                }
            }
        }
        self.warning.take()
    }

    /// Does `work`; where it takes longer than the patience lasts, no longer stepping back.
    fn work<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let Some(set_niceness) = self.set_niceness else { return work() };
        let (patience, (done, is_done)) = (self.patience, sync_channel::<()>(0));
        std::thread::scope(|scope| {
            let watch = scope.spawn(move || {
                let mut time = patience;
                while is_done.recv_timeout(time) == Err(RecvTimeoutError::Timeout) {
                    match set_niceness(0) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => time = RETRY,
                        result => return result.is_ok(),
                    }
                }
                false
            });
            let outcome = work();
            drop(done);
            if watch.join().unwrap_or(true) {
                self.niceness = 0;
            }
            outcome
        })
    }
}

/// Lowers the calling thread's priority.
///
/// # Errors
/// What the system says.
#[cfg(target_os = "linux")]
pub fn step_back() -> io::Result<()> {
    Ok(rustix::process::setpriority_process(None, NICENESS)?)
}

/// Elsewhere than on Linux the system knows priorities of whole processes only.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn step_back() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Mutex;

    use super::*;

    fn work() -> Work {
        Work::Verify { password: "correct horse".to_owned(), hash: Some(bcrypt::hash("correct horse", 4).unwrap()), ceiling: 4 }
    }

    fn matches(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Matches(true))
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failure_costs_the_same_whatever_the_stored_cost() {
        for done in 4..=14 {
            let spent: u64 = (1 << done) + remaining_costs(done, 14).map(|cost| 1 << cost).sum::<u64>();
            assert_eq!(spent, 1 << 14, "{done}");
        }
    }

    #[test]
    fn what_is_served_is_what_the_work_comes_to() {
        let asked = [
            work(),
            Work::Verify { password: "wrong\n".to_owned(), hash: None, ceiling: 4 },
            Work::Hash { password: "two\nlines".to_owned(), cost: 4 },
            Work::Hash { password: String::new(), cost: 99 },
        ];
        let mut input = Vec::new();
        for work in &asked {
            write_line(&mut input, work).unwrap();
        }
        let mut output = Vec::new();
        serve(input.as_slice(), &mut output, Place { niceness: 0, set_niceness: None, patience: PATIENCE, warning: None }).unwrap();
        let mut answers = output.lines().map(|line| serde_json::from_str::<Answer>(&line.unwrap()).unwrap().outcome);
        assert!(matches(&answers.next().unwrap()));
        assert!(matches!(answers.next(), Some(Outcome::Matches(false))));
        let Some(Outcome::Hash(hash)) = answers.next() else { panic!("a hash was asked for") };
        assert!(bcrypt::verify("two\nlines", &hash).unwrap());
        assert!(matches!(answers.next(), Some(Outcome::Failure(why)) if why.contains("99")));
        assert!(answers.next().is_none());
    }

    #[test]
    fn a_process_is_asked_and_stays() {
        // The opposite of what the thread would find tells who did it; the second answer has the first process's count.
        let mut hasher = Hasher::new(Some(|| {
            shell(r#"n=0; while read -r line; do n=$((n+1)); printf '{"outcome":{"hash":"%s"},"warning":null}\n' $n; done"#)
        }));
        for number in ["1", "2"] {
            assert!(matches!(hasher.run(&work()), Outcome::Hash(answer) if answer == number));
        }
    }

    #[test]
    fn without_a_process_the_thread_does_it() {
        let programs: [Program; 4] = [
            || Command::new("/nowhere/to-be-found"),
            || shell("exit 1"),
            || shell("read -r line; echo nonsense"),
            || shell(r#"read -r line; printf '{"outcome":{"matches":fal'"#),
        ];
        for program in programs {
            let mut hasher = Hasher::new(Some(program));
            assert!(matches(&hasher.run(&work())));
            assert!(hasher.process.is_none());
            assert!(matches(&hasher.run(&work())));
        }
    }

    #[test]
    fn a_process_that_died_is_followed_by_another_after_a_pause() {
        let mut hasher = Hasher::new(Some(|| shell(r#"read -r line; printf '{"outcome":{"hash":"apart"},"warning":null}\n'"#)));
        let mut is_apart = || matches!(hasher.run(&work()), Outcome::Hash(answer) if answer == "apart");
        for _ in 0..2 {
            assert!(is_apart());
            for _ in 0..=PAUSE {
                assert!(!is_apart(), "it died, and the thread works");
            }
        }
    }

    fn busy() -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    #[test]
    fn a_session_steps_back_when_the_kernel_lets_it_and_what_fails_is_told_once() {
        thread_local!(static ANSWERS: RefCell<Vec<io::Result<()>>> = const { RefCell::new(Vec::new()) });
        let set_niceness = |niceness: i32| {
            assert_eq!(niceness, 19);
            ANSWERS.with_borrow_mut(|answers| answers.pop().expect("it is not asked again"))
        };
        let told = |answers: Vec<io::Result<()>>, warning: Option<&str>| {
            ANSWERS.set(answers.into_iter().rev().collect());
            let mut place =
                Place { niceness: 0, set_niceness: Some(set_niceness), patience: PATIENCE, warning: warning.map(str::to_owned) };
            [place.step_back(), place.step_back(), place.step_back(), place.step_back()].map(Option::unwrap_or_default)
        };
        assert_eq!(told(vec![busy(), busy(), Ok(())], None), ["", "", "", ""]);
        assert_eq!(told(vec![busy(), Err(io::Error::other("refused"))], None), ["", "refused", "", ""]);
        assert_eq!(told(vec![Ok(())], Some("no session")), ["no session", "", "", ""]);
        assert!(ANSWERS.take().is_empty());
    }

    #[test]
    fn work_that_takes_too_long_steps_back_no_longer_and_the_next_does() {
        static ASKED: Mutex<Vec<i32>> = Mutex::new(Vec::new());
        let set_niceness = |niceness: i32| {
            let mut asked = ASKED.lock().unwrap();
            asked.push(niceness);
            if asked.len() == 2 { busy() } else { Ok(()) }
        };
        let hour = Duration::from_secs(3600);
        let mut place = Place { niceness: 0, set_niceness: Some(set_niceness), patience: hour, warning: None };
        let asked = || ASKED.lock().unwrap().clone();
        place.step_back();
        assert_eq!(place.work(|| 7), 7);
        place.step_back();
        assert_eq!(asked(), [19], "it was quick");
        place.patience = Duration::ZERO;
        place.work(|| {
            while asked().len() < 3 {
                std::thread::yield_now();
            }
        });
        assert_eq!(asked(), [19, 0, 0], "the kernel was busy once");
        place.step_back();
        place.patience = hour;
        place.work(|| ());
        assert_eq!(asked(), [19, 0, 0, 19]);
    }

    #[test]
    fn what_is_served_is_not_stepped_back_for_too_long() {
        static ASKED: Mutex<Vec<i32>> = Mutex::new(Vec::new());
        let set_niceness = |niceness: i32| {
            ASKED.lock().unwrap().push(niceness);
            Ok(())
        };
        let place = Place { niceness: 0, set_niceness: Some(set_niceness), patience: Duration::ZERO, warning: None };
        // A hash may be made before anybody looks how long it takes, and not hundreds of them.
        let (mut asking, mut asked) = io::pipe().map(|(output, input)| (input, BufReader::new(output))).unwrap();
        let (output, mut answers) = io::pipe().map(|(output, input)| (input, BufReader::new(output).lines())).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || serve(&mut asked, output, place).unwrap());
            for _ in 0..500 {
                write_line(&mut asking, &work()).unwrap();
                answers.next().unwrap().unwrap();
                if ASKED.lock().unwrap().contains(&0) {
                    break;
                }
            }
            drop(asking);
        });
        assert!(ASKED.lock().unwrap().starts_with(&[19, 0]), "{ASKED:?}");
    }
}
