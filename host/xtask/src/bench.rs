//! `cargo xtask bench`: benchmarks, as ratios to other implementations measured in the same run.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::interpreter;
use crate::project::Project;
use crate::stages::{Stage, Stages};

/// The requirement of the package that this project replaces and is compared with.
const UPSTREAM: &str = "dagster-ray[kuberay]==0.4.8";

#[derive(Clone, Copy, Subcommand)]
pub(crate) enum Bench {
    /// Store and load values, compared with Ray itself and dagster-ray from PyPI
    Io,
    /// Wait for a cluster: requests and delay, compared with dagster-ray from PyPI
    Kuberay,
    /// Read Pipes messages: lines per second and delay, compared with dagster-ray from PyPI
    Pipes,
    /// Execute trivial steps: Ray tasks, Ray jobs, subprocesses and dagster-ray from PyPI
    Steps,
}

/// Creates the environment of the package that a benchmark compares with.
pub(crate) fn prepare(project: &Project, stages: &Stages) -> bool {
    stages.run("upstream", |stage| make_upstream_environment(project, stage))
}

/// Replaces this process with the benchmark, which prints its table. Returns only if that fails.
pub(crate) fn replace_this_process(project: &Project, bench: Bench) -> Result<bool> {
    let script = match bench {
        Bench::Io => "tests/bench/io/run.py",
        Bench::Kuberay => "tests/bench/kuberay/run.py",
        Bench::Pipes => "tests/bench/pipes/run.py",
        Bench::Steps => "tests/bench/steps/run.py",
    };
    let error = project
        .program(project.venv_program("python"))
        .arg(project.root().join(script))
        .arg(project.venv_program("python"))
        .arg(upstream_python(project))
        .env("PYTHONPATH", project.root().join("tests/cluster"))
        .exec();
    Err(error).context("the benchmark could not be started")
}

fn upstream_python(project: &Project) -> PathBuf {
    project.target().join("bench/upstream/bin/python")
}

/// Installs the upstream package, with the versions of Ray and Dagster that the tests use.
fn make_upstream_environment(project: &Project, stage: &mut Stage) -> Result<()> {
    let folder = project.target().join("bench/upstream");
    let stamp = folder.join("dagster-ray.stamp");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == UPSTREAM) {
        return Ok(());
    }
    let mut make = project.program(interpreter::find()?);
    make.args(["-m", "venv", "--clear"]).arg(&folder);
    stage.execute(&mut make)?;
    let mut install = project.program(upstream_python(project));
    install
        .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"])
        .args([UPSTREAM, "ray[default]", "dagster", "numpy", "-c"])
        .arg(project.python_source().join("requirements/test.lock"));
    stage.execute(&mut install).with_context(|| format!("{UPSTREAM} could not be installed"))?;
    fs::write(stamp, UPSTREAM)?;
    Ok(())
}
