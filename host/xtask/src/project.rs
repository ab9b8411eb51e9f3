//! The paths of this repository, and commands that run in it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The repository.
pub(crate) struct Project {
    root: PathBuf,
    target: PathBuf,
}

impl Project {
    /// Finds the repository that this program was built from.
    pub(crate) fn find() -> Result<Self> {
        // cargo sets the variable for the crate that it runs, so a moved checkout is found too.
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.ancestors().nth(2).context("host/xtask is not in a repository")?.to_path_buf();
        let target = target_directory(&root)?;
        Ok(Self { root, target })
    }

    /// Returns the root of the repository.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns cargo's target directory.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Returns the folder of the fixtures' wasm files. It does not depend on cargo's target directory,
    /// because the tests use a fixed path.
    pub(crate) fn fixtures(&self) -> PathBuf {
        self.root.join("target/fixtures")
    }

    /// Returns the folder of the contract.
    pub(crate) fn wit(&self) -> PathBuf {
        self.root.join("wit")
    }

    /// Returns the folder that contains the Python package, as it would be on Python's path.
    pub(crate) fn python_source(&self) -> PathBuf {
        self.root.join("host/python")
    }

    /// Returns the folder of the Python package.
    pub(crate) fn package(&self) -> PathBuf {
        self.python_source().join("dagster_ray")
    }

    /// Returns the folder of the virtual environment.
    pub(crate) fn venv(&self) -> PathBuf {
        self.root.join(".venv")
    }

    /// Returns the path of a program of the virtual environment.
    pub(crate) fn venv_program(&self, name: &str) -> PathBuf {
        self.venv().join("bin").join(name)
    }

    /// Returns a command that runs a program in the root of the repository.
    pub(crate) fn program(&self, name: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(name);
        command.current_dir(&self.root);
        remove_crate_variables(&mut command);
        command
    }

    /// Returns a command of the cargo that runs this program.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = self.program(cargo);
        command.args(arguments);
        command
    }
}

/// Removes the variables in which `cargo run` describes the crate that it runs.
///
/// Build scripts that watch these variables (ring's does) would run again at every change between `cargo`
/// and `cargo xtask`.
fn remove_crate_variables(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
}

fn target_directory(root: &Path) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cargo could not be run")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(PathBuf::from(target))
}
