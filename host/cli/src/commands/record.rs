//! `dagster-ray record`: runs a command, and records the HTTP requests of its components.

use std::path::PathBuf;

use crate::cassette;
use crate::context::Context;
use crate::exit::Exit;

/// Run a command, and record the HTTP requests of its components
///
/// Every process that the command starts on this machine is recorded. Credentials are not recorded,
/// because the host adds them later. The values of environment variables are replaced in requests and
/// responses. Check the file before you share it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray record -- dagster asset materialize -m my_module --select report
  dagster-ray record --to tests/report.json -- pytest tests/test_report.py
  dagster-ray replay tests/report.json -- pytest tests/test_report.py")]
pub(crate) struct Arguments {
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "cassette.json")]
    to: PathBuf,
    /// The command with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let directory = cassette::directory()?;
    let mut value = std::ffi::OsString::from("record:");
    value.push(directory.path());
    let status = cassette::run(&arguments.command, &value)?;
    let count = cassette::merge(directory.path(), &arguments.to)?;
    let file = arguments.to.display();
    if count == 0 {
        context.output.warn(format_args!(
            "no HTTP request was recorded, so {file} is not written; check that the command uses a component"
        ));
    } else {
        context.output.note(format_args!("recorded {count} requests in {file}"));
    }
    if !status.success() {
        context.output.warn(format_args!("the command failed: {status}"));
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}
