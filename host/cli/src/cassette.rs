//! What the commands have in common that record and replay.

use std::path::Path;

use anyhow::Context as _;
use dagster_ray_runtime::capability::http::cassette::{Cassette, VARIABLE};

/// Makes one file of what was recorded into a directory; none where that was nothing. Returns the
/// number of exchanges.
///
/// # Errors
/// Where the directory cannot be read, or the file not be written.
pub(crate) fn put_together(directory: &Path, file: &Path) -> anyhow::Result<usize> {
    let cassette = Cassette::read(directory)?;
    if !cassette.exchanges.is_empty() {
        cassette.write(file)?;
    }
    Ok(cassette.exchanges.len())
}

/// A directory to record into, that disappears with this.
///
/// # Errors
/// Where none can be made.
pub(crate) fn directory() -> anyhow::Result<tempfile::TempDir> {
    let made = tempfile::Builder::new().prefix("dagster-ray-cassette-").tempdir();
    made.context("no directory to record into can be made")
}

/// Runs a command with a variable in its environment, and waits for it.
///
/// # Errors
/// Where it cannot be started.
pub(crate) fn run(command: &[String], value: &std::ffi::OsStr) -> anyhow::Result<std::process::ExitStatus> {
    let (program, arguments) = command.split_first().context("no command is given")?;
    std::process::Command::new(program)
        .args(arguments)
        .env(VARIABLE, value)
        .status()
        .with_context(|| format!("{program} cannot be started"))
}
