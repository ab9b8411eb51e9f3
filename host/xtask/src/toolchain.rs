//! What the Rust toolchain lacks.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::project::Project;
use crate::stages::{Stage, Stages};

/// The target that components are built for.
pub(crate) const WASM: &str = "wasm32-wasip2";

/// Adds the target that components are built for, if it is missing. Returns whether it is there.
pub(crate) fn wasm_target(project: &Project, stages: &Stages) -> bool {
    stages.run("wasm target", |stage| add_wasm_target(project, stage))
}

fn add_wasm_target(project: &Project, stage: &mut Stage) -> Result<()> {
    if has_wasm_target(project)? {
        return Ok(());
    }
    // Rustup does not always install what rust-toolchain.toml lists, RUSTUP_AUTO_INSTALL=0 for
    // one forbids it.
    stage.execute(project.program("rustup").args(["target", "add", WASM])).with_context(|| {
        format!(
            "the Rust target {WASM} is missing. Where Rust was installed without rustup, \
                 install the target by the same way as Rust itself"
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
            "rustc could not be run. Install Rust with rustup; the version that \
             rust-toolchain.toml names comes with `rustup toolchain install`",
        )?;
    if !output.status.success() {
        bail!("rustc does not know {WASM}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let directory = String::from_utf8(output.stdout)?;
    Ok(Path::new(directory.trim()).is_dir())
}
