//! `dagster-ray reconcile`: removes what has outlived its Dagster run.

use std::process::{Child, Command};

use anyhow::Context as _;

use crate::context::Context;
use crate::exit::{Exit, Interrupted};
use crate::interrupt::POLL_INTERVAL;

/// The module of the Python package that knows the Dagster instance.
const MODULE: &str = "dagster_ray.reconcile";

/// Stop and remove what has outlived its run, step attempt or holder
///
/// DAGSTER_HOME names the Dagster instance, whose RayRunLauncher names the backend. The instance's own
/// record of its runs decides. Objects of another Dagster deployment, or of none, are listed and left
/// alone.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray reconcile --dry-run
  DAGSTER_HOME=/opt/dagster dagster-ray reconcile --json")]
pub(crate) struct Arguments {
    /// Print what would be removed and why, without removing it
    #[arg(long)]
    dry_run: bool,
    /// Keep the objects of a run or step for this many seconds after its end [default: 120]
    #[arg(long, value_name = "SECONDS")]
    grace: Option<u32>,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let (program, first) = context
        .installation
        .programs
        .get("python")
        .and_then(|command| command.split_first())
        .context("the installation names no Python interpreter")?;
    let mut command = Command::new(program);
    command.args(first).args(["-m", MODULE]);
    if arguments.dry_run {
        command.arg("--dry-run");
    }
    if let Some(seconds) = arguments.grace {
        command.args(["--grace".to_owned(), seconds.to_string()]);
    }
    if context.output.is_json() {
        command.arg("--json");
    }
    let mut child = command.spawn().with_context(|| format!("{program} cannot be started"))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() { Exit::Done } else { Exit::Failed });
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
