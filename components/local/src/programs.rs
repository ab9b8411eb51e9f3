//! The `processes` import of the host, behind a trait so that tests need no Ray.

use dagster_ray_sdk::{
    Error,
    bindings::processes::{self, Command, Outcome, State},
};

/// Manages programs that outlive a call.
pub(crate) trait Programs {
    /// Starts a program under a name, and returns its process id.
    fn start(&self, name: &str, command: &Command) -> Result<u32, Error>;

    /// Returns the state of a program.
    fn state(&self, name: &str) -> State;

    /// Stops a program. After `grace_ms` milliseconds it is killed.
    fn stop(&self, name: &str, grace_ms: u64) -> Result<Outcome, Error>;
}

/// The programs of the host.
pub(crate) struct HostPrograms;

impl Programs for HostPrograms {
    fn start(&self, name: &str, command: &Command) -> Result<u32, Error> {
        processes::start(name, command)
    }

    fn state(&self, name: &str) -> State {
        processes::look(name)
    }

    fn stop(&self, name: &str, grace_ms: u64) -> Result<Outcome, Error> {
        processes::stop(name, grace_ms)
    }
}
