//! `dagster-ray:host/processes`: runs granted programs without a shell.
//!
//! A component names a program, and the configuration maps the name to a command. The grant decides on the
//! arguments and the environment variables. Programs belong to the component's file: another component with
//! the same id cannot see or stop them.

mod family;
mod output;
mod programs;
mod shared;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dagster_ray_policy::Policy;
use dagster_ray_policy::capability::Capability;
use dagster_ray_policy::capability::processes::{CAPABILITY, missing_grant, missing_variables};
use wasmtime::component::Linker;

use self::bindings::dagster_ray::host::processes::{self, Command, Host, Outcome, State as ProgramState};
use self::programs::{Key, Programs};
use self::shared::Shared;
pub use self::shared::{SharedProgramOptions, supervise};
use super::{CallContext, CallState, HostCapability, Uses, View, denied};
use crate::model::Error;

#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)]
mod bindings {
    crate::wit::generate!(
        "package dagster-ray:runtime; world processes { import dagster-ray:host/processes@0.1.0; }",
        with: { "dagster-ray:host/model": crate::model }
    );
}

/// Maximum time that `run` waits for a program, and that a shared program runs without a user.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// The programs that components of this process have started or share.
#[derive(Clone, Default)]
pub(crate) struct ProcessPrograms {
    own: Programs,
    shared: Shared,
}

impl ProcessPrograms {
    pub(crate) fn new(shared: Option<SharedProgramOptions>) -> Self {
        Self { own: Programs::default(), shared: Shared::new(shared) }
    }

    /// Stops the programs of this process, in parallel, and ends its use of shared programs.
    pub(crate) async fn stop_all(&self, grace: Duration) {
        self.shared.leave_all();
        self.own.stop_all(grace).await;
    }
}

/// The state of one call.
pub(crate) struct ProcessesState {
    /// The component's file.
    component: PathBuf,
    policy: Arc<Policy>,
    programs: ProcessPrograms,
}

impl HostCapability for ProcessesState {
    const GRANT: Option<&'static Capability> = Some(&CAPABILITY);

    fn new(context: &CallContext<'_>) -> Self {
        Self {
            component: context.options.path.clone(),
            policy: context.policy.clone(),
            programs: context.shared.programs.clone(),
        }
    }

    fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        processes::add_to_linker::<CallState, Uses<Self>>(linker, CallState::view)
    }
}

impl ProcessesState {
    /// Returns the command line of a granted program, or the denial.
    fn granted_command(&self, command: &Command) -> Result<std::process::Command, Error> {
        let denied = || {
            let target = format!("{} {}", command.program, command.args.join(" "));
            denied(&CAPABILITY, target, missing_grant(&command.program, &command.args))
        };
        let Some(program) = self.policy.programs.get(&command.program) else {
            return Err(denied());
        };
        if !program.grant.allows_arguments(&command.args) {
            return Err(denied());
        }
        let names = command.env.iter().map(|(name, _)| name.as_str());
        let refused: Vec<_> = names.filter(|name| !program.grant.allows_variable(name)).collect();
        if !refused.is_empty() {
            let target = format!("{} with the environment variable {}", command.program, refused.join(", "));
            let line = missing_variables(&command.program, &program.grant, &refused);
            return Err(super::denied(&CAPABILITY, target, line));
        }
        let Some((file, first)) = program.command.split_first() else {
            let name = &command.program;
            return Err(Error::NotFound(format!(
                "the program {name} is granted, but the configuration has no command for it: add backend_programs: {{{name}: [/path/of/{name}]}}"
            )));
        };
        let mut line = std::process::Command::new(file);
        line.args(first).args(&command.args);
        line.envs(command.env.iter().map(|(name, value)| (name, value)));
        Ok(line)
    }

    /// Returns the key of a program. Two paths of one file are one component.
    fn program_key(&self, name: &str) -> Key {
        let file = self.component.canonicalize().unwrap_or_else(|_| self.component.clone());
        (file, name.to_owned())
    }
}

impl Host for View<'_, ProcessesState> {
    async fn run(&mut self, command: Command, timeout_ms: u64) -> wasmtime::Result<Result<Outcome, Error>> {
        let line = match self.state.granted_command(&command) {
            Ok(line) => line,
            Err(error) => return Ok(Err(error)),
        };
        let wait = Duration::from_millis(timeout_ms).min(MAX_WAIT);
        Ok(self.state.programs.own.run(line, &command.program, wait).await)
    }

    async fn start(&mut self, name: String, command: Command) -> wasmtime::Result<Result<u32, Error>> {
        let line = match self.state.granted_command(&command) {
            Ok(line) => line,
            Err(error) => return Ok(Err(error)),
        };
        Ok(self.state.programs.own.start(self.state.program_key(&name), line, &command.program))
    }

    async fn share(
        &mut self,
        name: String,
        command: Command,
        linger_ms: u64,
    ) -> wasmtime::Result<Result<u32, Error>> {
        let line = match self.state.granted_command(&command) {
            Ok(line) => line,
            Err(error) => return Ok(Err(error)),
        };
        let key = self.state.program_key(&name);
        let linger = Duration::from_millis(linger_ms).min(MAX_WAIT);
        let shared = self.state.programs.shared.clone();
        blocking(move || shared.share(key, &line, &command.program, linger)).await
    }

    async fn hold(&mut self, name: String, token: String, ms: u64) -> wasmtime::Result<Result<(), Error>> {
        let time = Duration::from_millis(ms).min(MAX_WAIT);
        Ok(self.state.programs.shared.hold(&self.state.program_key(&name), &token, time))
    }

    async fn look(&mut self, name: String) -> wasmtime::Result<ProgramState> {
        let key = self.state.program_key(&name);
        Ok(match self.state.programs.own.look(&key) {
            ProgramState::Absent => match self.state.programs.shared.look(&key) {
                None => ProgramState::Absent,
                Some(Ok(pid)) => ProgramState::Running(pid),
                Some(Err((exit_code, output))) => ProgramState::Ended(Outcome { exit_code, output }),
            },
            own => own,
        })
    }

    async fn stop(&mut self, name: String, grace_ms: u64) -> wasmtime::Result<Result<Outcome, Error>> {
        let grace = Duration::from_millis(grace_ms).min(MAX_WAIT);
        let key = self.state.program_key(&name);
        if let Some(outcome) = self.state.programs.own.stop(&key, grace).await {
            return Ok(Ok(outcome));
        }
        let shared = self.state.programs.shared.clone();
        Ok(match blocking(move || shared.stop(&key, grace)).await? {
            Some((exit_code, output)) => Ok(Outcome { exit_code, output }),
            None => Err(Error::NotFound(format!("no program was started under the name {name}"))),
        })
    }
}

/// Runs a function that waits for files or processes.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> wasmtime::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| wasmtime::Error::msg(error.to_string()))
}
