//! Finds a Python, and keeps the virtual environments.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::project::Project;
use crate::stages::Stage;
use crate::uv;

const OLDEST: (u32, u32) = (3, 10);

/// An environment of the project. What it holds is a lock file in `host/python/requirements`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Environment {
    /// `.venv` with what the demo runs.
    Demo,
    /// `.venv` with what the checks and the tests need, which includes the demo's.
    Test,
    /// What builds the wheel.
    Build,
    /// What audits the wheel.
    Audit,
}

impl Environment {
    fn name(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Test => "test",
            Self::Build => "build",
            Self::Audit => "audit",
        }
    }

    fn folder(self, project: &Project) -> PathBuf {
        match self {
            Self::Demo | Self::Test => project.venv(),
            Self::Build | Self::Audit => project.target().join("envs").join(self.name()),
        }
    }

    /// A program of the environment.
    pub(crate) fn program(self, project: &Project, name: &str) -> PathBuf {
        self.folder(project).join("bin").join(name)
    }

    fn lock(self, project: &Project) -> PathBuf {
        project.python_source().join("requirements").join(format!("{}.lock", self.name()))
    }

    /// Makes the environment, or finds that it is as its lock file says.
    pub(crate) fn make(self, project: &Project, stage: &mut Stage) -> Result<()> {
        let stamp = self.folder(project).join("dagster-ray.stamp");
        let found = fs::read_to_string(&stamp).unwrap_or_default();
        let interpreter = self.program(project, "python");
        let usable = version(&interpreter).is_ok_and(|found| found >= OLDEST);
        let is_enough = |environment: Self| Ok::<_, anyhow::Error>(found == environment.state(project)?);
        if usable && (is_enough(self)? || self == Self::Demo && is_enough(Self::Test)?) {
            return Ok(());
        }
        if !usable {
            let base = find()?;
            stage.note(&format!("making {} with {}", self.folder(project).display(), base.display()))?;
            uv::venv(project, stage, &base, &self.folder(project))?;
        }
        uv::sync(project, stage, &interpreter, &self.lock(project))?;
        fs::write(&stamp, self.state(project)?).context("the stamp of the environment could not be written")
    }

    /// What the environment depends on.
    fn state(self, project: &Project) -> Result<String> {
        let lock = self.lock(project);
        let text = fs::read(&lock).with_context(|| format!("{} could not be read", lock.display()))?;
        Ok(format!("{} {}", self.name(), hex(&Sha256::digest(text))))
    }
}

/// `$PYTHON` where it is set, else the first of the usual names that is recent enough.
pub(crate) fn find() -> Result<PathBuf> {
    if let Some(chosen) = env::var_os("PYTHON").filter(|value| !value.is_empty()) {
        let path = PathBuf::from(chosen);
        let found =
            version(&path).with_context(|| format!("PYTHON names {}, which does not run", path.display()))?;
        if found < OLDEST {
            bail!(
                "PYTHON names {}, which is Python {}.{}; {}.{} or newer is needed",
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
    let seen = if too_old.is_empty() { "none was found as python3".to_owned() } else { too_old.join(", ") };
    bail!(
        "Python {}.{} or newer is needed, and {seen}. Install one, or name it: \
         PYTHON=/path/to/python3 cargo xtask demo",
        OLDEST.0,
        OLDEST.1
    )
}

/// A Python of that version, such as `3.10`, on the PATH or among those of pyenv.
pub(crate) fn find_version(wanted: &str) -> Option<PathBuf> {
    let name = format!("python{wanted}");
    let pyenv = env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".pyenv")))
        .map(|root| root.join("versions"));
    let installed = pyenv.and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    std::iter::once(PathBuf::from(&name))
        .chain(installed.map(|entry| entry.path().join("bin").join(&name)))
        .find(|interpreter| {
            version(interpreter).is_ok_and(|(major, minor)| format!("{major}.{minor}") == wanted)
        })
}

fn version(interpreter: &Path) -> Result<(u32, u32)> {
    let text = print(interpreter, "import sys; print(sys.version_info[0], sys.version_info[1])")?;
    let (major, minor) = text.split_once(' ').context("it printed no version of Python")?;
    Ok((major.parse()?, minor.parse()?))
}

/// What a Python prints that runs a program.
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

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
