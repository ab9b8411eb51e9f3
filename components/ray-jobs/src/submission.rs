//! What is asked of Ray when a job is submitted.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// The body of `POST /api/jobs/`. What is `None` is left out, so that an older Ray accepts it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Submission {
    /// The command line, for a shell.
    pub entrypoint: String,
    /// The id to submit under.
    pub submission_id: String,
    /// The runtime environment: an object. Local directories in it must have been uploaded by
    /// [`crate::RayJobs::prepare_runtime_env`].
    pub runtime_env: Value,
    /// What is attached to the job.
    pub metadata: BTreeMap<String, String>,
    /// CPUs that the entrypoint reserves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint_num_cpus: Option<f64>,
    /// GPUs that the entrypoint reserves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint_num_gpus: Option<f64>,
    /// Bytes of memory that the entrypoint reserves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint_memory: Option<u64>,
    /// Custom resources that the entrypoint reserves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint_resources: Option<BTreeMap<String, f64>>,
    /// Labels of the node that the entrypoint runs on. Ray 2.49 or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint_label_selector: Option<BTreeMap<String, String>>,
}
