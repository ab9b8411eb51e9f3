//! `cargo xtask build`: the components, and the extension module beside the Python package.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::components;
use crate::project::Project;
use crate::setup;
use crate::stages::{Stage, Stages};

/// Sets up and builds, and tells whether all of it passed.
pub(crate) fn run(project: &Project, stages: &mut Stages) -> bool {
    setup::run(project, stages)
        && stages.run("components", |stage| components::build(project, stage))
        && stages.run("host", |stage| host(project, stage))
}

/// Always the whole workspace with all targets: cargo chooses the features of shared crates by
/// the packages that are built, and another choice would build wasmtime again.
fn host(project: &Project, stage: &mut Stage) -> Result<()> {
    stage.execute(&mut project.cargo(&["build", "--locked", "--workspace", "--all-targets"]))?;
    let library = project.target().join("debug").join(format!("{DLL_PREFIX}_native{DLL_SUFFIX}"));
    if !library.is_file() {
        bail!("cargo did not make {}", library.display());
    }
    link(&library, &project.package().join("_native.abi3.so"))
}

/// A link: a debug extension has hundreds of megabytes.
fn link(library: &Path, to: &Path) -> Result<()> {
    if fs::read_link(to).is_ok_and(|found| found == library) {
        return Ok(());
    }
    if to.symlink_metadata().is_ok() {
        fs::remove_file(to).with_context(|| format!("{} could not be replaced", to.display()))?;
    }
    std::os::unix::fs::symlink(library, to).with_context(|| format!("{} could not be made", to.display()))
}
