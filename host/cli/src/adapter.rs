//! Runs a module of the Python package, for commands that need Dagster's objects.

use std::process::{Child, Command};

use anyhow::Context as _;

use crate::context::Context;
use crate::exit::{Exit, Interrupted};
use crate::interrupt::POLL_INTERVAL;

/// Runs `python -m MODULE [--json] ARGUMENTS`, with `--json` if the command has it. The module prints the result.
///
/// # Errors
/// The interpreter cannot be started, or the user interrupts the command.
pub(crate) fn run(context: &Context, module: &str, arguments: Vec<String>) -> anyhow::Result<Exit> {
    let (program, first) = context
        .installation
        .programs
        .get("python")
        .and_then(|command| command.split_first())
        .context("the installation names no Python interpreter")?;
    let mut command = Command::new(program);
    command.args(first).args(["-m", module]);
    if context.output.is_json() {
        command.arg("--json");
    }
    command.args(arguments);
    let mut child = command.spawn().with_context(|| format!("{program} cannot be started"))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(match status.code() {
                Some(0) => Exit::Done,
                Some(2) => Exit::Usage,
                _ => Exit::Failed,
            });
        }
        if context.interrupt.is_raised() {
            stop(&mut child)?;
            return Err(Interrupted.into());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn stop(child: &mut Child) -> std::io::Result<()> {
    child.kill()?;
    child.wait().map(drop)
}
