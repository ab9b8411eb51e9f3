//! `cargo xtask demo`: runs the demo on a real Ray.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::project::Project;

/// Replaces this process with the demo. Returns only if that fails.
///
/// The demo cleans up on Ctrl-C, so it must receive the terminal's signals directly.
pub(crate) fn replace_this_process(project: &Project, arguments: &[String]) -> Result<bool> {
    let error = project
        .program(project.venv_program("python"))
        .arg(project.root().join("examples/demo/run.py"))
        .args(arguments)
        .exec();
    Err(error).context("the demo could not be started")
}
