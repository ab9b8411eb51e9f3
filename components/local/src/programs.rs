//! The `processes` import of the host, behind a trait so that tests need no Ray.

use dagster_ray_sdk::{
    Error,
    bindings::processes::{self, Command, Outcome, State},
};

/// Manages programs that the processes of a user share.
pub trait Programs {
    /// Uses the program under a name, and starts it if it does not run. Returns its process id. The program ends
    /// when nothing has used it for `linger_ms` milliseconds.
    fn share(&self, name: &str, command: &Command, linger_ms: u64) -> Result<u32, Error>;

    /// Keeps a program running for `ms` milliseconds, or until a process that uses it names the token.
    fn hold(&self, name: &str, token: &str, ms: u64) -> Result<(), Error>;

    /// Returns the state of a program.
    fn state(&self, name: &str) -> State;

    /// Stops a program. After `grace_ms` milliseconds it is killed.
    fn stop(&self, name: &str, grace_ms: u64) -> Result<Outcome, Error>;
}

/// The programs of the host.
pub struct HostPrograms;

impl Programs for HostPrograms {
    fn share(&self, name: &str, command: &Command, linger_ms: u64) -> Result<u32, Error> {
        processes::share(name, command, linger_ms)
    }

    fn hold(&self, name: &str, token: &str, ms: u64) -> Result<(), Error> {
        processes::hold(name, token, ms)
    }

    fn state(&self, name: &str) -> State {
        processes::look(name)
    }

    fn stop(&self, name: &str, grace_ms: u64) -> Result<Outcome, Error> {
        processes::stop(name, grace_ms)
    }
}
