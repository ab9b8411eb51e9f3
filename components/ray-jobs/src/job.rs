//! What Ray says of a job.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// What Ray runs, as `GET /api/version` answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Version {
    /// The version of the Jobs API.
    #[serde(default)]
    pub version: String,
    /// The version of Ray.
    #[serde(default)]
    pub ray_version: String,
    /// The commit that Ray was built from.
    #[serde(default)]
    pub ray_commit: String,
    /// The name of this session of the cluster. A restarted head has another one.
    #[serde(default)]
    pub session_name: Option<String>,
}

/// A job, as `GET /api/jobs/{id}` answers, and as an element of what `GET /api/jobs/` does.
///
/// The runtime environment is left out: it can be large, and holds secrets.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Job {
    /// The id under which the job was submitted. Drivers that were not submitted have none.
    #[serde(default)]
    pub submission_id: Option<String>,
    /// Ray's own id of the driver, once there is one.
    #[serde(default)]
    pub job_id: Option<String>,
    /// `PENDING`, `RUNNING`, `SUCCEEDED`, `FAILED` or `STOPPED`.
    pub status: String,
    /// The command line.
    #[serde(default)]
    pub entrypoint: String,
    /// Ray's word on its status.
    #[serde(default)]
    pub message: Option<String>,
    /// Ray's class of error, such as `JOB_ENTRYPOINT_COMMAND_ERROR`.
    #[serde(default)]
    pub error_type: Option<String>,
    /// Milliseconds since the Unix epoch.
    #[serde(default)]
    pub start_time: Option<u64>,
    /// Milliseconds since the Unix epoch.
    #[serde(default)]
    pub end_time: Option<u64>,
    /// What the submitter attached.
    #[serde(default, deserialize_with = "none_is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The exit code of the entrypoint, once it has ended.
    #[serde(default)]
    pub driver_exit_code: Option<i32>,
    /// The node that the entrypoint runs on.
    #[serde(default)]
    pub driver_node_id: Option<String>,
}

impl Job {
    /// Whether it waits or runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self.status.as_str(), "PENDING" | "RUNNING")
    }

    /// Whether it has ended, one way or another. A status that is not known is neither this nor
    /// alive.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.status.as_str(), "SUCCEEDED" | "FAILED" | "STOPPED")
    }
}

fn none_is_empty<'de, D: Deserializer<'de>>(source: D) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(source)?.unwrap_or_default())
}
