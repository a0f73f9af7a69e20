//! `actas hash-passwords`: what a server starts for hashing where the kernel shares the machine out by session.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use clap::Args;

use super::output::{Failure, Outcome};
use crate::auth::hashing::{self, Place, Program};
use crate::http::server;

const NAME: &str = "hash-passwords";

/// Hash passwords for a server, which starts this itself
///
/// Reads work from the standard input, a line of JSON each, and writes what came of it. Ends when there is no more of it.
#[derive(Args)]
#[command(name = NAME, hide = true)]
pub struct HashPasswords {}

impl HashPasswords {
    pub fn run(self) -> Outcome {
        // Who stops a service may send SIGTERM to all of its processes. The server finishes the logins in flight, and then this ends with it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(Failure::failed)?;
        let _runtime = runtime.enter();
        let _unheard = server::termination().map_err(Failure::failed)?;
        match hashing::serve(io::stdin().lock(), io::stdout().lock(), Place::apart()) {
            // The server is gone.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(Failure::failed),
        }
    }
}

/// The program by which this process's passwords are hashed, where a thread's priority is not enough.
pub fn program() -> Option<Program> {
    hashing::may_be_shared_by_session().then_some(this_program)
}

/// This program, and no other version of it, whatever has become of its file. Nothing of the environment, which may hold secrets, is needed.
fn this_program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("actas").arg(NAME).env_clear();
    command
}
