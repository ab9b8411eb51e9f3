//! uv: creates Python environments from lock files with hashes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::interpreter;
use crate::project::Project;
use crate::stages::Stage;

/// The version that is installed from PyPI if uv is not on the PATH.
const FROM_PYPI: &str = "0.13.9";
/// The oldest version on the PATH that is used.
const OLDEST: (u32, u32) = (0, 5);

/// Returns the path of uv: the one on the PATH, or one that is installed from PyPI into `target`.
pub(crate) fn program(project: &Project, stage: &mut Stage) -> Result<PathBuf> {
    let installed = PathBuf::from("uv");
    if version(&installed).is_some_and(|found| found >= OLDEST) {
        return Ok(installed);
    }
    let folder = project.target().join(format!("xtask/uv-{FROM_PYPI}"));
    let fetched = folder.join("bin/uv");
    if version(&fetched).is_none() {
        let mut install = project.program(interpreter::find()?);
        install
            .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps"])
            .args(["--progress-bar", "off", "--root-user-action", "ignore", "--upgrade", "--target"])
            .arg(&folder)
            .arg(format!("uv=={FROM_PYPI}"));
        stage.execute(&mut install).context(
            "uv could not be installed from PyPI. Install uv, or install pip for this Python (on Debian \
             and Ubuntu: the package python3-pip)",
        )?;
    }
    Ok(fetched)
}

/// Returns a uv command that uses only the Pythons of this machine and compiles packages to byte code.
///
/// Without byte code, a process that cannot write it (`PYTHONDONTWRITEBYTECODE`, another owner) compiles
/// all of Dagster and Ray at each start, which takes longer than a step.
pub(crate) fn command(project: &Project, stage: &mut Stage, arguments: &[&str]) -> Result<Command> {
    let mut command = project.program(program(project, stage)?);
    command.args(arguments).env("UV_PYTHON_DOWNLOADS", "never").env("UV_NO_PROGRESS", "1");
    command.env("UV_COMPILE_BYTECODE", "1");
    Ok(command)
}

/// Creates a virtual environment. An existing one is replaced.
pub(crate) fn venv(project: &Project, stage: &mut Stage, base: &Path, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("{} could not be removed", folder.display()))?;
    }
    let mut command = command(project, stage, &["venv", "--quiet", "--no-project", "--python"])?;
    stage.execute(command.arg(base).arg(folder))
}

/// Installs the packages of a lock file into an environment and removes all others.
pub(crate) fn sync(project: &Project, stage: &mut Stage, interpreter: &Path, lock: &Path) -> Result<()> {
    let mut command = command(project, stage, &["pip", "sync", "--quiet", "--require-hashes", "--python"])?;
    stage
        .execute(command.arg(interpreter).arg(lock))
        .context("the Python requirements could not be installed")
}

fn version(program: &Path) -> Option<(u32, u32)> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers = text.split_whitespace().nth(1)?.split('.').map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}
