//! `cargo xtask test`: every check and every test.

use std::process::{Command, Stdio};

use crate::build;
use crate::cluster;
use crate::frozen;
use crate::fuzz::{self, Fuzz};
use crate::project::Project;
use crate::registry;
use crate::stages::Stages;
use crate::test_cluster::{self, TestCluster};

/// The Python folders that are checked, all by the rules of the package.
const PYTHON: [&str; 7] = [
    "--config",
    "host/python/pyproject.toml",
    "host/python",
    "tests/dagster",
    "tests/cluster",
    "tests/bench",
    "examples",
];

/// How long each fuzz target runs: long enough to reach all code from the committed inputs.
const FUZZ_SECONDS: u32 = 30;

/// Runs all of it. A check that fails does not keep the others from running; only what is built
/// on a failed build is left out.
pub(crate) fn run(project: &Project, stages: &mut Stages, fast: bool) {
    if !build::run(project, stages) {
        stages.skip("checks and tests", "nothing could be built");
        return;
    }
    stages.run("contract", |_| frozen::check(&project.wit()));
    stages.run("format", |stage| {
        stage.execute(&mut project.cargo(&["fmt", "--all", "--check"]))?;
        let fuzz = ["fmt", "--manifest-path", "tests/fuzz/Cargo.toml", "--check"];
        stage.execute(&mut project.cargo(&fuzz))?;
        stage.execute(project.program(project.venv_program("ruff")).args(["format", "--check"]).args(PYTHON))
    });
    stages.run("clippy", |stage| {
        stage.execute(&mut project.cargo(&[
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    });
    stages.run("ruff", |stage| {
        stage.execute(project.program(project.venv_program("ruff")).arg("check").args(PYTHON))
    });
    stages.run("pyright", |stage| stage.execute(&mut project.program(project.venv_program("pyright"))));
    licences(project, stages);
    let cluster = if fast {
        stages.skip("cluster", "--fast");
        None
    } else if cluster::build(project, stages) {
        TestCluster::start(project, stages)
    } else {
        None
    };
    let registry = if fast { None } else { registry::build(project, stages) };
    stages.run("cargo test", |stage| stage.execute(&mut project.cargo(&["test", "--locked", "--workspace"])));
    if fast {
        stages.skip("fuzz", "--fast");
    } else {
        fuzz::run(project, stages, &Fuzz { target: None, seconds: FUZZ_SECONDS });
    }
    if let Some(cluster) = &cluster {
        // They want a cluster, and so are not run where somebody only calls `cargo test`.
        stages.run("cargo test on the cluster", |stage| {
            let tests = ["test", "--locked", "--workspace", "--test", "cluster", "--", "--ignored"];
            stage.execute(project.cargo(&tests).env("KUBECONFIG", &cluster.kubeconfig))
        });
        stages.run("pytest of the cluster", |stage| {
            let mut pytest = pytest(project, "tests/cluster");
            stage.execute(pytest.env(test_cluster::VARIABLE, &cluster.ready))
        });
    }
    if let Some(program) = &registry {
        stages.run("cargo test on the registry", |stage| {
            let tests = ["test", "--locked", "--workspace", "--test", "registry", "--", "--ignored"];
            stage.execute(project.cargo(&tests).env(registry::VARIABLE, program))
        });
    }
    stages.run("pytest", |stage| {
        let mut pytest = pytest(project, "tests/dagster");
        if fast {
            pytest.args(["-m", "not slow"]);
        }
        pytest.envs(cluster.iter().map(|cluster| (test_cluster::VARIABLE, &cluster.ready)));
        pytest.envs(registry.iter().map(|program| (registry::VARIABLE, program)));
        stage.execute(&mut pytest)
    });
    drop(cluster);
    if fast {
        stages.skip("demo", "--fast");
    } else {
        stages.run("demo", |stage| {
            stage.execute(project.program(project.venv_program("python")).arg("examples/demo/run.py"))
        });
    }
}

fn pytest(project: &Project, folder: &str) -> Command {
    let mut command = project.program(project.venv_program("python"));
    command.args(["-m", "pytest", folder]);
    command
}

/// cargo-deny needs minutes to install and the network to know the advisories, so it is used
/// where it is there.
fn licences(project: &Project, stages: &mut Stages) {
    let installed = project
        .cargo(&["deny", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if installed {
        stages.run("cargo deny", |stage| stage.execute(&mut project.cargo(&["deny", "check"])));
    } else {
        stages.skip("cargo deny", "cargo-deny is not installed (cargo install cargo-deny)");
    }
}
