//! Two deployments at the same time on one Ray and in one Kubernetes namespace.
//!
//! Each runs the suites of the launcher, the executor, values and KubeRay. A test that fails here and passes
//! alone shows that one deployment touched the other's jobs, values or clusters.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::cluster;
use crate::project::Project;
use crate::stages::{Stage, Stages};
use crate::test_cluster::{self, TestCluster};

/// The environment variable in which the tests find the description of a running Ray head.
const HEAD: &str = "DAGSTER_RAY_TEST_HEAD";
/// The environment variable with the namespace that all tests use.
const NAMESPACE: &str = "DAGSTER_RAY_TEST_NAMESPACE";
/// Dagster's own variable with the name of a deployment. It stands for the id of the run storage.
const DEPLOYMENT: &str = "DAGSTER_CLOUD_DEPLOYMENT_NAME";
const DEPLOYMENTS: [&str; 2] = ["left", "right"];

const ON_RAY: [&str; 5] = ["executor", "io_manager", "launcher", "local_steps", "values_on_ray"];
const ON_KUBERNETES: [&str; 3] = ["kuberay_cluster", "kuberay_pipes", "kuberay_runs"];

/// Runs the suites twice at the same time: first on Ray, then on KubeRay.
pub(crate) fn run(project: &Project, stages: &Stages, arguments: &[String]) {
    let head = project.target().join("xtask/shared-head.json");
    if let Some(_running) = stages.output("ray head", |stage| Head::start(project, stage, &head)) {
        pair(project, stages, "on one Ray", &ON_RAY, |pytest, _| {
            pytest.args(["-m", "not kubernetes"]).args(arguments).env(HEAD, &head);
        });
    }
    if !cluster::build(project, stages, cluster::KUBERAY) {
        return;
    }
    let Some(cluster) = TestCluster::start(project, stages, cluster::KUBERAY) else { return };
    pair(project, stages, "in one namespace", &ON_KUBERNETES, |pytest, deployment| {
        pytest.args(["-m", "kubernetes"]).args(arguments).env(test_cluster::VARIABLE, &cluster.ready);
        pytest.env(NAMESPACE, "shared").env(DEPLOYMENT, deployment);
    });
}

/// Runs test files in two sessions at the same time.
fn pair(
    project: &Project,
    stages: &Stages,
    place: &str,
    files: &[&str],
    prepare: impl Fn(&mut std::process::Command, &str) + Sync,
) {
    std::thread::scope(|scope| {
        for deployment in DEPLOYMENTS {
            let prepare = &prepare;
            scope.spawn(move || {
                stages.run(&format!("{deployment} {place}"), |stage| {
                    let mut pytest = project.program(project.venv_program("python"));
                    pytest.args(["-m", "pytest"]);
                    pytest.args(files.iter().map(|name| format!("tests/dagster/test_{name}.py")));
                    prepare(&mut pytest, deployment);
                    stage.execute(&mut pytest)
                });
            });
        }
    });
}

/// A Ray head for several test processes. It stops when this value is dropped.
struct Head(Child);

impl Head {
    fn start(project: &Project, stage: &mut Stage, description: &Path) -> Result<Self> {
        let script: PathBuf = project.root().join("tests/dagster/ray_head.py");
        let mut process = project
            .program(project.venv_program("python"))
            .arg(script)
            .arg(description)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("the Ray head could not be started")?;
        let output = process.stdout.take().context("the standard output of the Ray head is not piped")?;
        let head = Self(process);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("the Ray head's output could not be read")?;
        if line.is_empty() {
            bail!("the Ray head did not start. Run `python tests/dagster/ray_head.py FILE` to see why");
        }
        stage.note(&line)?;
        Ok(head)
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        // The script stops the head at the end of its input.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
