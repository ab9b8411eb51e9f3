//! Maintains the virtual environments.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::files::hex;
use crate::interpreter::{self, OLDEST};
use crate::project::Project;
use crate::stages::Stage;
use crate::uv;

/// A virtual environment, with the packages of a lock file in `host/python/requirements`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Environment {
    /// `.venv` with the requirements of the demo.
    Demo,
    /// `.venv` with the requirements of the checks, the tests and the demo.
    Test,
    /// The tools that build the wheel.
    Build,
    /// The tools that audit the wheel.
    Audit,
    /// The tools that build the documentation site.
    Docs,
}

impl Environment {
    fn name(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Test => "test",
            Self::Build => "build",
            Self::Audit => "audit",
            Self::Docs => "docs",
        }
    }

    fn folder(self, project: &Project) -> PathBuf {
        match self {
            Self::Demo | Self::Test => project.venv(),
            Self::Build | Self::Audit | Self::Docs => project.target().join("envs").join(self.name()),
        }
    }

    /// Returns the path of a program of the environment.
    pub(crate) fn program(self, project: &Project, name: &str) -> PathBuf {
        self.folder(project).join("bin").join(name)
    }

    fn lock(self, project: &Project) -> PathBuf {
        project.python_source().join("requirements").join(format!("{}.lock", self.name()))
    }

    /// Creates or updates the environment, unless it already matches its lock file.
    pub(crate) fn make(self, project: &Project, stage: &mut Stage) -> Result<()> {
        let stamp = self.folder(project).join("dagster-ray.stamp");
        let found = fs::read_to_string(&stamp).unwrap_or_default();
        let interpreter = self.program(project, "python");
        let usable = interpreter::version(&interpreter).is_ok_and(|found| found >= OLDEST);
        let is_enough = |environment: Self| Ok::<_, anyhow::Error>(found == environment.state(project)?);
        if usable && (is_enough(self)? || self == Self::Demo && is_enough(Self::Test)?) {
            return Ok(());
        }
        if !usable {
            let base = interpreter::find()?;
            stage.note(&format!("creating {} with {}", self.folder(project).display(), base.display()))?;
            uv::venv(project, stage, &base, &self.folder(project))?;
        }
        uv::sync(project, stage, &interpreter, &self.lock(project))?;
        fs::write(&stamp, self.state(project)?).context("the stamp of the environment could not be written")
    }

    /// Returns a text that changes when the environment must be updated.
    fn state(self, project: &Project) -> Result<String> {
        let lock = self.lock(project);
        let text = fs::read(&lock).with_context(|| format!("{} could not be read", lock.display()))?;
        Ok(format!("{} {}", self.name(), hex(&Sha256::digest(text))))
    }
}
