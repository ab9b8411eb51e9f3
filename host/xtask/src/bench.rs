//! `cargo xtask bench`: what is claimed of speed, as ratios measured in one run.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::project::Project;
use crate::python;
use crate::stages::{Stage, Stages};

/// The package that this project replaces, as it is compared with.
const THEIRS: &str = "dagster-ray[kuberay]==0.4.8";

#[derive(Clone, Copy, Subcommand)]
pub(crate) enum Bench {
    /// Values: store and load, against Ray itself and dagster-ray from PyPI
    Io,
    /// Waiting for a cluster: requests and delay, against dagster-ray from PyPI
    Kuberay,
    /// Pipes: lines per second and delay, against dagster-ray from PyPI
    Pipes,
}

/// Makes what a bench needs: an environment for the package that it compares with.
pub(crate) fn prepare(project: &Project, stages: &Stages) -> bool {
    stages.run("theirs", |stage| their_environment(project, stage))
}

/// Becomes the bench, which prints its table.
pub(crate) fn replace_this_process(project: &Project, bench: Bench) -> Result<bool> {
    let script = match bench {
        Bench::Io => "tests/bench/io/run.py",
        Bench::Kuberay => "tests/bench/kuberay/run.py",
        Bench::Pipes => "tests/bench/pipes/run.py",
    };
    let error = project
        .program(project.venv_program("python"))
        .arg(project.root().join(script))
        .arg(project.venv_program("python"))
        .arg(theirs(project))
        .env("PYTHONPATH", project.root().join("tests/cluster"))
        .exec();
    Err(error).context("the bench could not be started")
}

fn theirs(project: &Project) -> PathBuf {
    project.target().join("bench/theirs/bin/python")
}

/// Their package with the same Ray and the same Dagster as ours.
fn their_environment(project: &Project, stage: &mut Stage) -> Result<()> {
    let folder = project.target().join("bench/theirs");
    let stamp = folder.join("dagster-ray.stamp");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == THEIRS) {
        return Ok(());
    }
    let mut make = project.program(python::find()?);
    make.args(["-m", "venv", "--clear"]).arg(&folder);
    stage.execute(&mut make)?;
    let mut install = project.program(theirs(project));
    install
        .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"])
        .args([THEIRS, "ray[default]", "dagster", "numpy", "-c"])
        .arg(project.python_source().join("requirements/test.lock"));
    stage.execute(&mut install).with_context(|| format!("{THEIRS} could not be installed"))?;
    fs::write(stamp, THEIRS)?;
    Ok(())
}
