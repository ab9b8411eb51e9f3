//! One Kubernetes cluster for a whole test run.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::project::Project;
use crate::stages::{Stage, Stages};

/// The environment variable in which the tests find the running cluster's `ready.json`.
pub(crate) const VARIABLE: &str = "DAGSTER_RAY_TEST_CLUSTER";

/// How long the cluster may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A running cluster. Dropping it stops the cluster.
pub(crate) struct TestCluster {
    process: Child,
    /// The file that describes the running cluster.
    pub(crate) ready: PathBuf,
    /// The kubeconfig of the cluster.
    pub(crate) kubeconfig: PathBuf,
}

impl TestCluster {
    /// Starts the cluster with a version of the operator. Its programs must have been built.
    pub(crate) fn start(project: &Project, stages: &Stages, operator: &str) -> Option<Self> {
        let mut started = None;
        stages.run("cluster", |stage| {
            started = Some(Self::begin(project, stage, operator)?);
            Ok(())
        });
        started
    }

    fn begin(project: &Project, stage: &mut Stage, operator: &str) -> Result<Self> {
        // Run by cargo and not as this program's own file, which the build may have replaced.
        let mut process = project
            .cargo(&["xtask", "cluster", "up", "--operator", operator, "--", "-json", "-until-eof"])
            // The cluster stops at the end of its standard input, so also when this process is killed.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("the cluster could not be started")?;
        let output = process.stdout.take().context("the cluster's standard output is not piped")?;
        let mut cluster = Self { process, ready: PathBuf::new(), kubeconfig: PathBuf::new() };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("the cluster's output could not be read")?;
        if line.trim().is_empty() {
            bail!("the cluster did not start. Run `cargo xtask cluster up` to see why");
        }
        stage.note(&line)?;
        let facts: serde_json::Value = serde_json::from_str(&line).context("the cluster printed no JSON")?;
        let state = facts
            .get("state")
            .and_then(serde_json::Value::as_str)
            .context("the cluster's JSON has no field `state`")?;
        cluster.ready = PathBuf::from(state).join("ready.json");
        cluster.kubeconfig = PathBuf::from(state).join("kubeconfig");
        Ok(cluster)
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let began = Instant::now();
        while began.elapsed() < STOP_TIMEOUT {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        // Errors are ignored: the run is over, and nothing could be done about them.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
