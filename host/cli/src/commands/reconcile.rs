//! `dagster-ray reconcile`: removes what has outlived its Dagster run.

use crate::adapter;
use crate::context::Context;
use crate::exit::Exit;

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
    let mut words = Vec::new();
    if arguments.dry_run {
        words.push("--dry-run".to_owned());
    }
    if let Some(seconds) = arguments.grace {
        words.extend(["--grace".to_owned(), seconds.to_string()]);
    }
    adapter::run(context, MODULE, words)
}
