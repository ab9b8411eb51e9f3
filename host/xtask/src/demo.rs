//! `cargo xtask demo`: a real run on a real Ray.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::project::Project;

/// Becomes the demo. It cleans up after itself when it is interrupted, so nothing may stand
/// between it and the terminal.
pub(crate) fn replace_this_process(project: &Project, arguments: &[String]) -> Result<bool> {
    let error = project
        .program(project.venv_program("python"))
        .arg(project.root().join("examples/demo/run.py"))
        .args(arguments)
        .exec();
    Err(error).context("the demo could not be started")
}
