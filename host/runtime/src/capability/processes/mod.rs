//! `dagster-ray:host/processes`: runs granted programs without a shell.
//!
//! A component names a program, and the configuration maps the name to a command. The arguments must
//! begin with one of the lists of the grant.

mod family;
mod programs;

use std::time::Duration;

pub(crate) use self::programs::Programs;
use super::denied;
use crate::bindings::dagster_ray::host::model::Error;
use crate::bindings::dagster_ray::host::processes::{Command, Host, Outcome, State as ProgramState};
use crate::store::State;

/// Maximum time that `run` waits for a program.
const LONGEST: Duration = Duration::from_secs(3600);

impl State {
    /// Returns the command line of a granted program, or the denial.
    fn granted(&mut self, command: &Command) -> Result<std::process::Command, Error> {
        let required_grant = || {
            let args: Vec<_> = command.args.iter().map(|arg| format!("{arg:?}")).collect();
            format!("processes = {{ {} = [[{}]] }}", command.program, args.join(", "))
        };
        let shown = || format!("{} {}", command.program, command.args.join(" "));
        let Some(program) = self.egress.policy.programs.get(&command.program) else {
            return Err(denied("processes", shown(), required_grant()));
        };
        if !program.prefixes.iter().any(|prefix| command.args.starts_with(prefix)) {
            return Err(denied("processes", shown(), required_grant()));
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

impl Host for State {
    async fn run(&mut self, command: Command, timeout_ms: u64) -> wasmtime::Result<Result<Outcome, Error>> {
        let line = match self.granted(&command) {
            Ok(line) => line,
            Err(error) => return Ok(Err(error)),
        };
        let wait = Duration::from_millis(timeout_ms).min(LONGEST);
        Ok(self.programs.run(line, &command.program, wait).await)
    }

    async fn start(&mut self, name: String, command: Command) -> wasmtime::Result<Result<u32, Error>> {
        let line = match self.granted(&command) {
            Ok(line) => line,
            Err(error) => return Ok(Err(error)),
        };
        Ok(self.programs.start(self.program_key(&name), line, &command.program))
    }

    async fn look(&mut self, name: String) -> wasmtime::Result<ProgramState> {
        Ok(self.programs.look(&self.program_key(&name)))
    }

    async fn stop(&mut self, name: String, grace_ms: u64) -> wasmtime::Result<Result<Outcome, Error>> {
        let grace = Duration::from_millis(grace_ms).min(LONGEST);
        Ok(match self.programs.stop(&self.program_key(&name), grace).await {
            Some(outcome) => Ok(outcome),
            None => Err(Error::NotFound(format!("no program was started under the name {name}"))),
        })
    }
}
