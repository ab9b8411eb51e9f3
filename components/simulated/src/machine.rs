//! Runs the jobs as local processes.
//!
//! A supervisor program, which the host's configuration names, runs an entrypoint. It writes the output to
//! `<job>.log` and the exit code to `<job>.exit` in the simulation's directory, and stops the entrypoint when
//! a key in the bucket requests it. Every process of a simulation can therefore see every job.

use dagster_ray_sdk::{
    Error,
    bindings::{
        packages,
        processes::{self, Command, State},
    },
};

/// The supervisor's name in the manifest.
const SUPERVISOR: &str = "supervisor";
/// The folder for the files of jobs in the simulation's directory.
const JOBS: &str = "jobs";
/// The number of bytes to read from a file in one host call.
const PIECE: u32 = 1 << 20;

/// The parameters of a job's process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    /// The shell command line.
    pub entrypoint: String,
    /// The working directory. If it is empty, that of the starting process is used.
    pub directory: String,
    /// The directories to put first on Python's module search path.
    pub python_path: Vec<String>,
    /// The environment variables.
    pub env: Vec<(String, String)>,
}

/// Runs jobs, behind a trait so that the rules can be tested without processes.
pub trait Machine {
    /// Starts a job.
    ///
    /// # Errors
    /// The supervisor cannot be started.
    fn start(&self, process: &str, launch: &Launch) -> Result<(), Error>;

    /// Returns whether the supervisor of a job has ended. Only the process that started it can detect
    /// this.
    fn is_lost(&self, process: &str) -> bool;

    /// Returns the exit code of a job that has ended. A negative code is the number of the signal that
    /// ended it.
    ///
    /// # Errors
    /// The simulation's directory cannot be read.
    fn exit_code(&self, process: &str) -> Result<Option<i32>, Error>;

    /// Reads output of a job from `offset`. It is empty before the job starts.
    ///
    /// # Errors
    /// The simulation's directory cannot be read.
    fn output(&self, process: &str, offset: u64) -> Result<Vec<u8>, Error>;

    /// Sleeps for `ms` milliseconds of real time.
    fn pause(&self, ms: u64);

    /// Returns the real time in milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
}

/// Runs jobs through the host's `processes` import.
pub struct HostMachine {
    directory: String,
    files: packages::Source,
}

impl HostMachine {
    /// Opens the directory of a simulation.
    ///
    /// # Errors
    /// The directory does not exist, or the host denies access to it.
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
    fn start(&self, process: &str, launch: &Launch) -> Result<(), Error> {
        let path = launch.python_path.join(":");
        let args = [self.directory.as_str(), process, launch.directory.as_str(), &path, &launch.entrypoint];
        let command = Command {
            program: SUPERVISOR.to_owned(),
            args: args.into_iter().map(str::to_owned).collect(),
            env: launch.env.clone(),
        };
        processes::start(process, &command).map(|_| ())
    }

    fn is_lost(&self, process: &str) -> bool {
        matches!(processes::look(process), State::Ended(_))
    }

    fn exit_code(&self, process: &str) -> Result<Option<i32>, Error> {
        let Some(bytes) = self.read(&format!("{process}.exit"), 0)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let code = text.trim().parse();
        code.map(Some)
            .map_err(|_| Error::Other(format!("{process}: the supervisor wrote `{text}`, not an exit code")))
    }

    fn output(&self, process: &str, offset: u64) -> Result<Vec<u8>, Error> {
        Ok(self.read(&format!("{process}.log"), offset)?.unwrap_or_default())
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
