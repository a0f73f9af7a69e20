//! The work that passwords make, and where it is done: on the thread that asks, or in a process of its own.
//!
//! Linux compares the priorities of threads within a scheduling group, and where it makes one of each session
//! (`CONFIG_SCHED_AUTOGROUP`, sched(7)) the lowest priority in one session is as good as the highest beside the processes of another: those of Postgres, of a
//! proxy. There it is the session that has to step back, and only a process can have one. So each thread of the pool has a process that does its hashing, in a
//! session of its own, of the least weight. It is this same program ([`serve`]), and knows nothing but what it is asked.
//!
//! Such a process can fail, and no login fails with it: the thread then hashes itself.

use std::fs;
use std::hint::black_box;
use std::io::{self, BufRead, BufReader, Write};
use std::ops::Range;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::domain::text::NewPassword;

/// How far hashing steps back behind all else, from 0 to 19: what is busy gets a sixtieth of what something else gets beside it.
pub const NICENESS: i32 = 19;

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

/// Where one thread's work is done.
pub struct Hasher {
    /// `None` where the thread does all itself.
    program: Option<Program>,
    process: Option<Process>,
}

impl Hasher {
    /// Works in a process of `program`, which is started at the first use and again if it should die; on the calling thread without one.
    pub const fn new(program: Option<Program>) -> Self {
        Self { program, process: None }
    }

    /// Does `work`, wherever.
    pub fn run(&mut self, work: &Work) -> Outcome {
        self.ask(work).unwrap_or_else(|| work.run())
    }

    fn ask(&mut self, work: &Work) -> Option<Outcome> {
        let program = self.program?;
        // Put back when it has answered, and not before: an answer that was left unread would be the next one's.
        let process = self.process.take().map_or_else(|| Process::start(program()), Ok);
        let (mut process, answer) = match process {
            Ok(mut process) => {
                let answer = process.ask(work);
                (Some(process), answer)
            }
            Err(error) => (None, Err(error)),
        };
        match answer {
            Ok(answer) => {
                if let Some(warning) = answer.warning {
                    tracing::warn!("the process that hashes passwords has the weight of all others: {warning}");
                }
                self.process = process;
                Some(answer.outcome)
            }
            Err(error) => {
                tracing::warn!(%error, "there is no process that hashes passwords; a thread does it");
                // One that never answered won't the next time.
                if !process.take().is_some_and(|process| process.has_answered) {
                    self.program = None;
                }
                None
            }
        }
    }
}

/// A process that works for one thread. Dropped, it is gone.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    has_answered: bool,
}

impl Process {
    fn start(mut command: Command) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a process without pipes"));
        };
        Ok(Self { child, input, output: BufReader::new(output), has_answered: false })
    }

    fn ask(&mut self, work: &Work) -> io::Result<Answer> {
        write_line(&mut self.input, work)?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let answer = understand(&line)?;
        self.has_answered = true;
        Ok(answer)
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
        write_line(&mut output, &Answer { outcome: work.run(), warning })?;
    }
    Ok(())
}

/// Whether this process is one session's of many that share the machine evenly, whatever the priorities inside of them.
pub fn is_grouped_by_session() -> bool {
    let is_on = fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled").is_ok_and(|value| value.trim() == "1");
    is_on && fs::exists(AUTOGROUP).unwrap_or(false)
}

/// The weight of this process's session: sched(7), "The autogroup feature".
const AUTOGROUP: &str = "/proc/self/autogroup";

/// Where this process stands among the others.
pub struct Place {
    has_stepped_back: bool,
}

impl Place {
    /// Makes a session for this process alone, and lowers its priority.
    ///
    /// # Errors
    /// What the system says.
    #[cfg(target_os = "linux")]
    pub fn apart() -> io::Result<Self> {
        rustix::process::setsid()?;
        // Who looks at the list of processes sees what it is; without, it is `exe`.
        let _ = fs::write("/proc/self/comm", "actas-hash");
        step_back()?;
        Ok(Self { has_stepped_back: false })
    }

    /// There is nothing to be made elsewhere.
    ///
    /// # Errors
    /// None.
    #[cfg(not(target_os = "linux"))]
    pub fn apart() -> io::Result<Self> {
        Ok(Self { has_stepped_back: true })
    }

    /// Gives the session the least weight, unless it has it. The kernel lets no more than ten processes a second that are not root's change one, and
    /// then the next piece of work is another occasion. Answers what is in the way for good, once.
    fn step_back(&mut self) -> Option<String> {
        if self.has_stepped_back {
            return None;
        }
        match fs::write(AUTOGROUP, NICENESS.to_string()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            result => {
                self.has_stepped_back = true;
                result.err().map(|error| format!("{AUTOGROUP}: {error}"))
            }
        }
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
        serve(input.as_slice(), &mut output, Place { has_stepped_back: true }).unwrap();
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
    fn without_a_process_the_thread_does_it_and_does_not_try_again() {
        let programs: [Program; 4] = [
            || Command::new("/nowhere/to-be-found"),
            || shell("exit 1"),
            || shell("read -r line; echo nonsense"),
            || shell(r#"read -r line; printf '{"outcome":{"matches":fal'"#),
        ];
        for program in programs {
            let mut hasher = Hasher::new(Some(program));
            assert!(matches(&hasher.run(&work())));
            assert!(hasher.program.is_none() && hasher.process.is_none());
            assert!(matches(&hasher.run(&work())));
        }
    }

    #[test]
    fn a_process_that_died_is_followed_by_another() {
        let mut hasher = Hasher::new(Some(|| shell(r#"read -r line; printf '{"outcome":{"hash":"apart"},"warning":null}\n'"#)));
        let mut is_apart = || matches!(hasher.run(&work()), Outcome::Hash(answer) if answer == "apart");
        assert_eq!([is_apart(), is_apart(), is_apart(), is_apart()], [true, false, true, false]);
    }
}
