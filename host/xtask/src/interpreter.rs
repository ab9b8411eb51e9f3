//! Finds a Python interpreter on this machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The lowest version of Python that the development tools support. The wheel supports older ones.
pub(crate) const OLDEST: (u32, u32) = (3, 11);

/// Returns `$PYTHON` if it is set, or else the first recent enough interpreter on the PATH.
pub(crate) fn find() -> Result<PathBuf> {
    if let Some(chosen) = env::var_os("PYTHON").filter(|value| !value.is_empty()) {
        let path = PathBuf::from(chosen);
        let found =
            version(&path).with_context(|| format!("PYTHON is {}, which does not run", path.display()))?;
        if found < OLDEST {
            bail!(
                "PYTHON is {}, which is Python {}.{}; set it to Python {}.{} or newer",
                path.display(),
                found.0,
                found.1,
                OLDEST.0,
                OLDEST.1
            );
        }
        return Ok(path);
    }
    let names = ["python3".to_owned()]
        .into_iter()
        .chain((OLDEST.1..=14).rev().map(|minor| format!("python3.{minor}")));
    let mut too_old = Vec::new();
    for name in names {
        match version(Path::new(&name)) {
            Ok(found) if found >= OLDEST => return Ok(PathBuf::from(name)),
            Ok(found) => too_old.push(format!("{name} is Python {}.{}", found.0, found.1)),
            Err(_) => {}
        }
    }
    let seen = if too_old.is_empty() { "there is no python3".to_owned() } else { too_old.join(", ") };
    bail!(
        "no Python {}.{} or newer on the PATH ({seen}). Install one, or set its path: \
         PYTHON=/path/to/python3 cargo xtask demo",
        OLDEST.0,
        OLDEST.1
    )
}

/// Returns a Python interpreter of a version such as `3.10`, from the PATH or from pyenv.
pub(crate) fn find_version(required: &str) -> Option<PathBuf> {
    let name = format!("python{required}");
    let pyenv = env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".pyenv")))
        .map(|root| root.join("versions"));
    let installed = pyenv.and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    std::iter::once(PathBuf::from(&name))
        .chain(installed.map(|entry| entry.path().join("bin").join(&name)))
        .find(|interpreter| {
            version(interpreter).is_ok_and(|(major, minor)| format!("{major}.{minor}") == required)
        })
}

/// Returns the version of an interpreter.
pub(crate) fn version(interpreter: &Path) -> Result<(u32, u32)> {
    let text = print(interpreter, "import sys; print(sys.version_info[0], sys.version_info[1])")?;
    let (major, minor) = text.split_once(' ').context("it printed no version of Python")?;
    Ok((major.parse()?, minor.parse()?))
}

/// Runs a Python program and returns its output.
pub(crate) fn print(interpreter: &Path, program: &str) -> Result<String> {
    let output = Command::new(interpreter)
        .args(["-I", "-c", program])
        .output()
        .with_context(|| format!("{} could not be run", interpreter.display()))?;
    if !output.status.success() {
        bail!("{} failed: {}", interpreter.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
