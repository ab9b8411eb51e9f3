//! Where things lie in this repository, and how its tools are called.

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
        // Cargo names the crate it runs: a moved checkout is then still found.
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root =
            manifest.ancestors().nth(2).context("host/xtask does not lie in a repository")?.to_path_buf();
        let target = target_directory(&root)?;
        Ok(Self { root, target })
    }

    /// The root of the repository.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where cargo builds.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Where the wasm files of the tests are put. Not cargo's own choice of a target directory:
    /// the tests look in one place.
    pub(crate) fn fixtures(&self) -> PathBuf {
        self.root.join("target/fixtures")
    }

    /// The contract.
    pub(crate) fn wit(&self) -> PathBuf {
        self.root.join("wit")
    }

    /// The Python package's folder: what stands on Python's path.
    pub(crate) fn python_source(&self) -> PathBuf {
        self.root.join("host/python")
    }

    /// The Python package.
    pub(crate) fn package(&self) -> PathBuf {
        self.python_source().join("dagster_ray")
    }

    /// The virtual environment.
    pub(crate) fn venv(&self) -> PathBuf {
        self.root.join(".venv")
    }

    /// A program of the virtual environment.
    pub(crate) fn venv_program(&self, name: &str) -> PathBuf {
        self.venv().join("bin").join(name)
    }

    /// A program, to be run in the root of the repository.
    pub(crate) fn program(&self, name: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(name);
        command.current_dir(&self.root);
        forget_this_crate(&mut command);
        command
    }

    /// Cargo, the one that runs this program.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = self.program(cargo);
        command.args(arguments);
        command
    }
}

/// `cargo run` describes the crate it runs in the environment. Build scripts that watch those
/// variables (ring's does) would be run again at every change between `cargo` and `cargo xtask`.
fn forget_this_crate(command: &mut Command) {
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
