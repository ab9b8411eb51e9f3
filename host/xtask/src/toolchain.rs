//! Installs the Rust target of components.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::project::Project;
use crate::stages::{Stage, Stages};

/// The target that components are built for.
pub(crate) const WASM: &str = "wasm32-wasip2";

/// Installs the target that components are built for, if it is missing. Returns whether it is installed.
pub(crate) fn wasm_target(project: &Project, stages: &Stages) -> bool {
    stages.run("wasm target", |stage| add_wasm_target(project, stage))
}

fn add_wasm_target(project: &Project, stage: &mut Stage) -> Result<()> {
    if has_wasm_target(project)? {
        return Ok(());
    }
    // rustup does not always install the targets of rust-toolchain.toml: RUSTUP_AUTO_INSTALL=0 forbids it.
    stage.execute(project.program("rustup").args(["target", "add", WASM])).with_context(|| {
        format!(
            "the Rust target {WASM} is missing. If Rust was installed without rustup, install the \
                 target in the same way"
        )
    })?;
    if !has_wasm_target(project)? {
        bail!("rustup added {WASM}, but rustc still does not find it");
    }
    Ok(())
}

fn has_wasm_target(project: &Project) -> Result<bool> {
    let output =
        project.program("rustc").args(["--print", "target-libdir", "--target", WASM]).output().context(
            "rustc could not be run. Install rustup, then run `rustup toolchain install` for the \
             version in rust-toolchain.toml",
        )?;
    if !output.status.success() {
        bail!("rustc does not know {WASM}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let directory = String::from_utf8(output.stdout)?;
    Ok(Path::new(directory.trim()).is_dir())
}
