//! What a user can ask for, for a script.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The parameters of Ray's own `JobSubmissionClient.submit_job`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScriptOptions {
    /// The command line, for a shell. It must be there.
    pub entrypoint: Option<String>,
    /// The id to submit under. Without it, one is made.
    pub submission_id: Option<String>,
    /// Ray's runtime environment, such as `{"pip": ["dagster-pipes"], "working_dir": "."}`.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub runtime_env: Map<String, Value>,
    /// Labels to attach to the Ray job, by name.
    pub metadata: BTreeMap<String, String>,
    /// CPUs to reserve for the entrypoint.
    #[schemars(range(min = 0))]
    pub entrypoint_num_cpus: Option<f64>,
    /// GPUs to reserve for the entrypoint.
    #[schemars(range(min = 0))]
    pub entrypoint_num_gpus: Option<f64>,
    /// Bytes of memory to reserve for the entrypoint.
    pub entrypoint_memory: Option<u64>,
    /// Custom resources to reserve for the entrypoint, by name.
    pub entrypoint_resources: Option<BTreeMap<String, f64>>,
    /// Labels of the node to run the entrypoint on. Ray 2.49 or later.
    pub entrypoint_label_selector: Option<BTreeMap<String, String>>,
}
