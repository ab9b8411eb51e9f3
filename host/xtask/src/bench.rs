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
/// What its environment contains besides, for the comparison and for plots.
const PACKAGES: [&str; 4] = ["ray[default]", "dagster", "numpy", "matplotlib"];

#[derive(Clone, Copy, Subcommand)]
pub(crate) enum Bench {
    /// Call a component from Python: time of a call, of the first one in a process, of the command
    Calls,
    /// Store and load values, compared with Ray itself and dagster-ray from PyPI
    Io,
    /// Wait for a cluster: requests and delay, compared with dagster-ray from PyPI
    Kuberay,
    /// Launch and check steps on a server with latency, compared with dagster-ray from PyPI
    Launch,
    /// Read Pipes messages: lines per second and delay, compared with dagster-ray from PyPI
    Pipes,
    /// Execute runs with up to 10,000 steps in flight: time, memory and requests of the run worker
    Scale,
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
        Bench::Calls => "tests/bench/calls/run.py",
        Bench::Io => "tests/bench/io/run.py",
        Bench::Kuberay => "tests/bench/kuberay/run.py",
        Bench::Launch => "tests/bench/launch/run.py",
        Bench::Pipes => "tests/bench/pipes/run.py",
        Bench::Scale => "tests/bench/scale/run.py",
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
    let installed = format!("{UPSTREAM} {}", PACKAGES.join(" "));
    if fs::read_to_string(&stamp).is_ok_and(|found| found == installed) {
        return Ok(());
    }
    let constraints = project.target().join("bench/constraints.txt");
    let lock = project.python_source().join("requirements/test.lock");
    fs::create_dir_all(project.target().join("bench"))?;
    fs::write(&constraints, without_hashes(&fs::read_to_string(lock)?))?;
    let mut make = project.program(interpreter::find()?);
    make.args(["-m", "venv", "--clear"]).arg(&folder);
    stage.execute(&mut make)?;
    let mut install = project.program(upstream_python(project));
    install
        .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"])
        .arg(UPSTREAM)
        .args(PACKAGES)
        .arg("-c")
        .arg(constraints);
    stage.execute(&mut install).with_context(|| format!("{UPSTREAM} could not be installed"))?;
    fs::write(stamp, installed)?;
    Ok(())
}

/// Returns the requirements of a lock file. With one hash in its constraints, pip requires hashes of everything,
/// and the upstream package has none in the lock file.
fn without_hashes(lock: &str) -> String {
    lock.lines()
        .filter(|line| !line.trim_start().starts_with("--hash"))
        .map(|line| format!("{}\n", line.trim_end_matches('\\').trim_end()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::without_hashes;

    #[test]
    fn a_lock_file_without_hashes_keeps_versions_and_markers() {
        let lock = "ray==2.60.0 ; python_version < '3.14' \\\n    --hash=sha256:ab \\\n    --hash=sha256:cd\nsix==1.17.0\n";
        assert_eq!(without_hashes(lock), "ray==2.60.0 ; python_version < '3.14'\nsix==1.17.0\n");
    }
}
