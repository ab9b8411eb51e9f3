//! The programs that the host runs, behind a trait, so that starting a head is tested without one.

use dagster_ray_sdk::{
    Error,
    bindings::processes::{self, Command, Outcome, State},
};

/// Programs that go on after a call.
pub(crate) trait Programs {
    /// Starts one under a name, and returns its process id.
    fn start(&self, name: &str, command: &Command) -> Result<u32, Error>;

    /// Looks at one.
    fn look(&self, name: &str) -> State;

    /// Ends one.
    fn stop(&self, name: &str, grace_ms: u64) -> Result<Outcome, Error>;
}

/// The host's.
pub(crate) struct HostPrograms;

impl Programs for HostPrograms {
    fn start(&self, name: &str, command: &Command) -> Result<u32, Error> {
        processes::start(name, command)
    }

    fn look(&self, name: &str) -> State {
        processes::look(name)
    }

    fn stop(&self, name: &str, grace_ms: u64) -> Result<Outcome, Error> {
        processes::stop(name, grace_ms)
    }
}
