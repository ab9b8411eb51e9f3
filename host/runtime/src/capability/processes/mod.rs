//! `dagster-ray:host/processes`: runs granted programs without a shell.
//!
//! A component names a program, and the configuration maps the name to a command. The arguments must
//! begin with one of the lists of the grant.

mod process_tree;
mod programs;

use std::sync::Arc;
use std::time::Duration;

use dagster_ray_policy::Policy;
use dagster_ray_policy::capability::Capability;
use dagster_ray_policy::capability::processes::{CAPABILITY, missing_grant};
use wasmtime::component::Linker;

use self::bindings::dagster_ray::host::processes::{self, Command, Host, Outcome, State as ProgramState};
pub(crate) use self::programs::Programs;
use super::{CallContext, CallState, HostCapability, Uses, View, denied};
use crate::model::Error;

#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)]
mod bindings {
    crate::wit::generate!(
        "package dagster-ray:runtime; world processes { import dagster-ray:host/processes@0.1.0; }",
        with: { "dagster-ray:host/model": crate::model }
    );
}

/// Maximum time that `run` waits for a program.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// The state of one call.
pub(crate) struct ProcessesState {
    /// The component's name.
    component: String,
    policy: Arc<Policy>,
    programs: Programs,
}

impl HostCapability for ProcessesState {
    const GRANT: Option<&'static Capability> = Some(&CAPABILITY);

    fn new(context: &CallContext<'_>) -> Self {
        Self {
            component: context.manifest.id.clone(),
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

impl Host for View<'_, ProcessesState> {
    async fn run(&mut self, command: Command, timeout_ms: u64) -> wasmtime::Result<Result<Outcome, Error>> {
        let line = match self.state.granted_command(&command) {
            Ok(line) => line,
            Err(error) => return Ok(Err(error)),
        };
        let wait = Duration::from_millis(timeout_ms).min(MAX_WAIT);
        Ok(self.state.programs.run(line, &command.program, wait).await)
    }

    async fn start(&mut self, name: String, command: Command) -> wasmtime::Result<Result<u32, Error>> {
        let line = match self.state.granted_command(&command) {
            Ok(line) => line,
            Err(error) => return Ok(Err(error)),
        };
        Ok(self.state.programs.start(self.state.program_key(&name), line, &command.program))
    }

    async fn look(&mut self, name: String) -> wasmtime::Result<ProgramState> {
        Ok(self.state.programs.look(&self.state.program_key(&name)))
    }

    async fn stop(&mut self, name: String, grace_ms: u64) -> wasmtime::Result<Result<Outcome, Error>> {
        let grace = Duration::from_millis(grace_ms).min(MAX_WAIT);
        Ok(match self.state.programs.stop(&self.state.program_key(&name), grace).await {
            Some(outcome) => Ok(outcome),
            None => Err(Error::NotFound(format!("no program was started under the name {name}"))),
        })
    }
}
