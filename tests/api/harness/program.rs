//! The server as a process of its own, to be killed, and whose log can be read.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::office::{Instance, Office, actas};
use super::seam;

/// `actas serve`, running.
pub struct Program {
    /// The same database, served by that process.
    pub office: Office,
    child: Child,
    log: Option<JoinHandle<String>>,
}

impl Program {
    /// Serves the database of `office` with the program instead; the server in this process stops.
    pub fn serving(office: &Office, settings: &[(&str, &str)]) -> Self {
        office.stop();
        let instance = &office.instance;
        let mut command = actas(&["serve"]);
        command.envs(&instance.settings).env("ACTAS_DATABASE_URL", office.database_url()).envs(settings.iter().copied());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).unwrap();
            text
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let Some(url) = lines.find_map(|line| line.unwrap().strip_prefix("listening on http://").map(str::to_owned)) else {
            panic!("it did not start: {}", log.join().unwrap());
        };
        let server = seam::Server { address: url.trim_end_matches('/').parse().unwrap(), ops_address: None, stop: Box::new(|| {}) };
        let served = Instance {
            server: Mutex::new(Some(server)),
            database: Arc::clone(&instance.database),
            clock: instance.clock.clone(),
            settings: instance.settings.clone(),
        };
        Self { office: Office { instance: Arc::new(served) }, child, log: Some(log) }
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL, which it can't see coming, and answers what it had logged.
    pub fn kill(mut self) -> String {
        self.end()
    }

    fn end(&mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.log.take().map(|log| log.join().unwrap()).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.log.is_some() {
            self.end();
        }
    }
}
