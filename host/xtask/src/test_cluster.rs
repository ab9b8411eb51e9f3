//! One Kubernetes cluster for a whole test run.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::project::Project;
use crate::stages::{Stage, Stages};

/// Names the running cluster to the tests.
pub(crate) const VARIABLE: &str = "DAGSTER_RAY_TEST_CLUSTER";

/// How long it may take to end in order.
const LAST_SECONDS: Duration = Duration::from_secs(30);

/// A cluster that runs until this is dropped.
pub(crate) struct TestCluster {
    process: Child,
    /// What it says of itself.
    pub(crate) ready: PathBuf,
    /// The access to it.
    pub(crate) kubeconfig: PathBuf,
}

impl TestCluster {
    /// Starts it. Its programs are there already.
    pub(crate) fn start(project: &Project, stages: &Stages) -> Option<Self> {
        let mut started = None;
        stages.run("cluster", |stage| {
            started = Some(Self::begin(project, stage)?);
            Ok(())
        });
        started
    }

    fn begin(project: &Project, stage: &mut Stage) -> Result<Self> {
        // Not this program itself: the build before may have put another in its place.
        let mut process = project
            .cargo(&["xtask", "cluster", "up", "--", "-json", "-until-eof"])
            // It ends with its standard input, and so with this process, however that ends.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("the cluster could not be started")?;
        let output = process.stdout.take().context("the cluster has no output")?;
        let mut cluster = Self { process, ready: PathBuf::new(), kubeconfig: PathBuf::new() };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("the cluster could not be read from")?;
        if line.trim().is_empty() {
            bail!("the cluster did not start; `cargo xtask cluster up` shows why");
        }
        stage.note(&line)?;
        let facts: serde_json::Value = serde_json::from_str(&line).context("not what a cluster says")?;
        let state = facts.get("state").and_then(serde_json::Value::as_str).context("no state is named")?;
        cluster.ready = PathBuf::from(state).join("ready.json");
        cluster.kubeconfig = PathBuf::from(state).join("kubeconfig");
        Ok(cluster)
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let began = Instant::now();
        while began.elapsed() < LAST_SECONDS {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        // What is left is to be reported by nobody: the process is ending.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
