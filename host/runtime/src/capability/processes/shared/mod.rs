//! Programs that all host processes of a user share.
//!
//! A detached supervisor process runs the program and stops it when nothing uses it. A process uses the program
//! as long as it has the program's lease open: a pipe (FIFO) in a private folder. The kernel closes the pipe
//! when a process ends, however it ends, so that no process id has to be checked.

mod client;
mod place;
mod supervisor;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(super) use self::client::Shared;
pub use self::supervisor::supervise;

/// How the host runs programs that outlive its process.
#[derive(Debug, Clone)]
pub struct SharedProgramOptions {
    /// The command line of a program that continues in a child process in a session of its own, and calls
    /// [`supervise`] there with its standard input and output.
    pub supervisor: Vec<String>,
    /// The folder for the files of shared programs. Host processes with the same folder share programs. It is
    /// created if necessary, and must belong to this user alone.
    pub folder: PathBuf,
}

impl SharedProgramOptions {
    /// Returns the folder of this user on this machine.
    ///
    /// It depends on no environment variable: a daemon and a shell of one user must find the same folder.
    #[must_use]
    pub fn default_folder() -> PathBuf {
        PathBuf::from(format!("/tmp/dagster-ray-{}", crate::user::effective()))
    }
}

/// The environment variable of a shared program that names its lease.
const LEASE_VARIABLE: &str = "DAGSTER_RAY_LEASE";

/// What a supervisor is asked to run.
#[derive(Debug, Deserialize, Serialize)]
struct Request {
    folder: PathBuf,
    /// The component file.
    component: PathBuf,
    /// The name that the component gave the program.
    name: String,
    /// The program file and its arguments.
    command: Vec<String>,
    env: BTreeMap<String, String>,
    linger_ms: u64,
}

/// The content of the session file, which the supervisor keeps locked while the program runs.
#[derive(Debug, Clone, Deserialize, Serialize)]
struct Session {
    supervisor: u32,
    program: u32,
    component: PathBuf,
    name: String,
    /// Milliseconds since the Unix epoch.
    started_ms: u64,
}

/// How a shared program ended.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
struct Ended {
    exit_code: Option<i32>,
    output: String,
}
