//! The machine that the jobs really run on.
//!
//! A supervisor, a program that the host's configuration names, runs an entrypoint, writes its
//! output to `<job>.log` and its exit code to `<job>.exit` in the simulation's directory, and ends it
//! when the bucket says so. So every process of a simulation sees every job, whoever started it.

use dagster_ray_sdk::{
    Error,
    bindings::{
        packages,
        processes::{self, Command, State},
    },
};

/// The supervisor's name in the manifest.
const SUPERVISOR: &str = "supervisor";
/// Where in the simulation's directory the jobs' files lie.
const JOBS: &str = "jobs";
/// Bytes of a file that one read of the host gives at most.
const PIECE: u32 = 1 << 20;

/// What is started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    /// The command line, for a shell.
    pub entrypoint: String,
    /// The directory to start it in; empty for the one of the process that starts it.
    pub directory: String,
    /// What goes before everything else on Python's path.
    pub python_path: Vec<String>,
    /// Environment variables.
    pub env: Vec<(String, String)>,
}

/// Where jobs run, behind a trait, so that the rules are tested without processes.
pub trait Machine {
    /// Starts a job.
    ///
    /// # Errors
    /// Where its supervisor cannot be started.
    fn start(&self, id: &str, launch: &Launch) -> Result<(), Error>;

    /// Whether a job's supervisor has gone without a word. Only the process that started it can
    /// tell.
    fn is_lost(&self, id: &str) -> bool;

    /// Its exit code, once it has ended. A negative one is the signal that ended it.
    ///
    /// # Errors
    /// Where the simulation's directory cannot be read.
    fn exit_code(&self, id: &str) -> Result<Option<i32>, Error>;

    /// Some of its output, from `offset` on. Nothing is there before it starts.
    ///
    /// # Errors
    /// Where the simulation's directory cannot be read.
    fn output(&self, id: &str, offset: u64) -> Result<Vec<u8>, Error>;

    /// Lets so many real milliseconds pass.
    fn pause(&self, ms: u64);

    /// Real milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
}

/// The host's machine.
pub struct HostMachine {
    directory: String,
    files: packages::Source,
}

impl HostMachine {
    /// The machine of the simulation in this directory.
    ///
    /// # Errors
    /// Where it does not exist, or the host does not lend it.
    pub fn open(directory: &str) -> Result<Self, Error> {
        let files = packages::Source::open(directory)?;
        Ok(Self { directory: directory.to_owned(), files })
    }

    fn read(&self, name: &str, offset: u64) -> Result<Option<Vec<u8>>, Error> {
        match self.files.read(&format!("{JOBS}/{name}"), offset, PIECE) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Machine for HostMachine {
    fn start(&self, id: &str, launch: &Launch) -> Result<(), Error> {
        let path = launch.python_path.join(":");
        let args = [self.directory.as_str(), id, launch.directory.as_str(), &path, &launch.entrypoint];
        let command = Command {
            program: SUPERVISOR.to_owned(),
            args: args.into_iter().map(str::to_owned).collect(),
            env: launch.env.clone(),
        };
        processes::start(id, &command).map(|_| ())
    }

    fn is_lost(&self, id: &str) -> bool {
        matches!(processes::look(id), State::Ended(_))
    }

    fn exit_code(&self, id: &str) -> Result<Option<i32>, Error> {
        let Some(bytes) = self.read(&format!("{id}.exit"), 0)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let code = text.trim().parse();
        code.map(Some).map_err(|_| Error::Other(format!("{id}: the supervisor wrote `{text}`, no exit code")))
    }

    fn output(&self, id: &str, offset: u64) -> Result<Vec<u8>, Error> {
        Ok(self.read(&format!("{id}.log"), offset)?.unwrap_or_default())
    }

    fn pause(&self, ms: u64) {
        use dagster_ray_sdk::clock::{Clock as _, WasiClock};

        WasiClock.sleep_ms(ms);
    }

    fn now_ms(&self) -> u64 {
        let now = wasip2::clocks::wall_clock::now();
        now.seconds.saturating_mul(1_000).saturating_add(u64::from(now.nanoseconds / 1_000_000))
    }
}
