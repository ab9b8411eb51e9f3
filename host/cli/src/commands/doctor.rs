//! `dagster-ray doctor`: checks an installation, its Dagster instance and its Ray.

use crate::adapter;
use crate::context::Context;
use crate::exit::Exit;

/// The module of the Python package that knows the Dagster instance.
const MODULE: &str = "dagster_ray.doctor";

/// Check the installation, the Dagster instance, and the Ray or Kubernetes cluster
///
/// DAGSTER_HOME names the Dagster instance, whose RayRunLauncher names the backend. A small Ray job reports the
/// versions on Ray's side, and whether Dagster's storage can be reached from there. Each check prints one line: ok,
/// warning, failed or not checked. A line that begins with `->` says what to do.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray doctor
  dagster-ray doctor --address http://ray-head:8265
  dagster-ray doctor --backend kuberay --start-cluster
  dagster-ray doctor --json | jq '.checks[] | select(.outcome == \"failed\")'

The exit code is 1 if a check failed. Warnings, and what is not checked, do not count.")]
pub(crate) struct Arguments {
    /// The address of Ray. Default: that of the instance's run launcher, or of RAY_ADDRESS
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// The backend. Default: that of the instance's run launcher
    #[arg(long, value_name = "BACKEND")]
    backend: Option<String>,
    /// The Kubernetes namespace. Default: that of the backend
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Submit no Ray job
    #[arg(long, conflicts_with = "start_cluster")]
    no_job: bool,
    /// On Kubernetes, create a Ray cluster for the job, and delete it
    #[arg(long)]
    start_cluster: bool,
    /// How long the Ray job may take [default: 120, with --start-cluster: 600]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let mut words = Vec::new();
    let values = [
        ("--address", arguments.address),
        ("--backend", arguments.backend),
        ("--namespace", arguments.namespace),
        ("--timeout", arguments.timeout.map(|seconds| seconds.to_string())),
    ];
    for (name, value) in values {
        // One word, so that a value may begin with a hyphen.
        words.extend(value.map(|value| format!("{name}={value}")));
    }
    for (name, is_set) in [("--no-job", arguments.no_job), ("--start-cluster", arguments.start_cluster)] {
        if is_set {
            words.push(name.to_owned());
        }
    }
    adapter::run(context, MODULE, words)
}
