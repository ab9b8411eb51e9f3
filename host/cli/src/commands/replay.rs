//! `dagster-ray replay`: runs a command with the recorded responses of a cassette.

use std::path::PathBuf;

use dagster_ray_recording::Cassette;

use crate::cassette;
use crate::context::Context;
use crate::exit::Exit;

/// Run a command with the HTTP responses of a cassette, without a network
///
/// Run ids and other ids may differ from the recorded ones. A request that was not recorded fails. The
/// error names it and the most similar recorded requests.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray replay cassette.json -- dagster asset materialize -m my_module --select report
  dagster-ray replay tests/report.json -- pytest tests/test_report.py

`dagster-ray record` records a cassette.")]
pub(crate) struct Arguments {
    /// The cassette that `dagster-ray record` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The command with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    // Report an invalid cassette before the command starts.
    Cassette::read(&arguments.file)?;
    let mut value = std::ffi::OsString::from("replay:");
    value.push(std::path::absolute(&arguments.file)?);
    let status = cassette::run(&arguments.command, &value)?;
    if !status.success() {
        context.output.warn(format_args!("the command failed: {status}"));
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}
