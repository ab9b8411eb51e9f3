//! Merges recordings into a cassette, and runs commands that record or replay one.

use std::path::Path;

use anyhow::Context as _;
use dagster_ray_recording::{Cassette, VARIABLE};

/// Merges the recordings of a directory into one file, and returns the number of exchanges. Writes no file
/// if nothing was recorded.
///
/// # Errors
/// If the directory cannot be read, or the file cannot be written.
pub(crate) fn merge(directory: &Path, file: &Path) -> anyhow::Result<usize> {
    let cassette = Cassette::read(directory)?;
    if !cassette.exchanges.is_empty() {
        cassette.write(file)?;
    }
    Ok(cassette.exchanges.len())
}

/// Creates a temporary directory for recordings, which is removed when it is dropped.
///
/// # Errors
/// If it cannot be created.
pub(crate) fn directory() -> anyhow::Result<tempfile::TempDir> {
    let made = tempfile::Builder::new().prefix("dagster-ray-cassette-").tempdir();
    made.context("a temporary directory for the recording cannot be created")
}

/// Runs a command with `DAGSTER_RAY_CASSETTE` set to `value`, and waits for it.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn run(command: &[String], value: &std::ffi::OsStr) -> anyhow::Result<std::process::ExitStatus> {
    let (program, arguments) = command.split_first().context("no command is given")?;
    std::process::Command::new(program)
        .args(arguments)
        .env(VARIABLE, value)
        .status()
        .with_context(|| format!("{program} cannot be started"))
}
