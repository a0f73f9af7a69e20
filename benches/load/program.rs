//! Other processes: started, waited for, measured and ended.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// Ends what it started.
pub struct Program(pub Child);

impl Program {
    /// Starts a program that says where it listens.
    pub fn listening(mut command: Command) -> (Self, String) {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = loop {
            let line = lines.next().expect("the server did not start").unwrap();
            if let Some(url) = line.strip_prefix("listening on ") {
                break url.to_owned();
            }
        };
        (Self(child), url)
    }

    /// How much memory it and the processes that it started have in use, in MiB. What they share counts for each.
    pub fn resident_mib(&self) -> f64 {
        let own = self.0.id().to_string();
        let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read_to_string(entry.unwrap().path().join("status")).ok());
        let sizes: Vec<f64> = processes
            .filter(|status| ["Pid", "PPid"].iter().any(|name| field(status, name) == Some(own.as_str())))
            .filter_map(|status| field(&status, "VmRSS")?.trim_end_matches(" kB").parse::<f64>().ok())
            .collect();
        assert!(!sizes.is_empty(), "the server is gone");
        sizes.iter().sum::<f64>() / 1024.0
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A line of a process's status.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// What `command` printed, both ways. It may have failed.
pub fn told(command: &mut Command) -> String {
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs `command`, which has to succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
