//! `dagster-ray:host/processes`: runs granted programs without a shell.
//!
//! A component names a program, and the configuration maps the name to a command. The arguments must
//! begin with one of the lists of the grant.

mod process_tree;
mod programs;

use std::sync::Arc;
use std::time::Duration;

use dagster_ray_policy::Policy;
use dagster_ray_policy::capability::processes::{CAPABILITY, missing_grant};
use wasmtime::component::{HasData, Linker};

pub(crate) use self::programs::Programs;
use super::denied;
use crate::bindings::dagster_ray::host::model::Error;
use crate::bindings::dagster_ray::host::processes::{self, Command, Host, Outcome, State as ProgramState};
use crate::store::CallState;

/// Maximum time that `run` waits for a program.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// The state of one call.
pub(crate) struct ProcessesState {
    /// The component's name.
    pub(crate) component: String,
    pub(crate) policy: Arc<Policy>,
    pub(crate) programs: Programs,
}

/// The part of a call's state that this capability uses.
pub(crate) struct ProcessesView<'a>(&'a ProcessesState);

impl HasData for ProcessesState {
    type Data<'a> = ProcessesView<'a>;
}

/// Links `dagster-ray:host/processes`.
pub(super) fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    processes::add_to_linker::<CallState, ProcessesState>(linker, |call| ProcessesView(&call.processes))
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
        if !program.prefixes.iter().any(|prefix| command.args.starts_with(prefix)) {
            return Err(denied());
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

    fn program_key(&self, name: &str) -> (String, String) {
        (self.component.clone(), name.to_owned())
    }
}

impl Host for ProcessesView<'_> {
    async fn run(&mut self, command: Command, timeout_ms: u64) -> wasmtime::Result<Result<Outcome, Error>> {
        let line = match self.0.granted_command(&command) {
            Ok(line) => line,
            Err(error) => return Ok(Err(error)),
        };
        let wait = Duration::from_millis(timeout_ms).min(MAX_WAIT);
        Ok(self.0.programs.run(line, &command.program, wait).await)
    }

    async fn start(&mut self, name: String, command: Command) -> wasmtime::Result<Result<u32, Error>> {
        let line = match self.0.granted_command(&command) {
            Ok(line) => line,
            Err(error) => return Ok(Err(error)),
        };
        Ok(self.0.programs.start(self.0.program_key(&name), line, &command.program))
    }

    async fn look(&mut self, name: String) -> wasmtime::Result<ProgramState> {
        Ok(self.0.programs.look(&self.0.program_key(&name)))
    }

    async fn stop(&mut self, name: String, grace_ms: u64) -> wasmtime::Result<Result<Outcome, Error>> {
        let grace = Duration::from_millis(grace_ms).min(MAX_WAIT);
        Ok(match self.0.programs.stop(&self.0.program_key(&name), grace).await {
            Some(outcome) => Ok(outcome),
            None => Err(Error::NotFound(format!("no program was started under the name {name}"))),
        })
    }
}
