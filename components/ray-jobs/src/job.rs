//! The documents that Ray returns: its version, and jobs.

use std::collections::BTreeMap;

use dagster_ray_sdk::json::{Fields, Value};

/// The response of `GET /api/version`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// The version of the Jobs API.
    pub version: String,
    /// The version of Ray.
    pub ray_version: String,
    /// The commit that Ray was built from.
    pub ray_commit: String,
    /// The name of the cluster's session. A restarted head has a new one.
    pub session_name: Option<String>,
}

/// A job: the response of `GET /api/jobs/{id}`, and an element of that of `GET /api/jobs/`.
///
/// The runtime environment is left out: it can be large and can contain secrets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Job {
    /// The submission id. Drivers that were not submitted as jobs have none.
    pub submission_id: Option<String>,
    /// Ray's id of the driver, once it has started.
    pub job_id: Option<String>,
    /// `PENDING`, `RUNNING`, `SUCCEEDED`, `FAILED` or `STOPPED`.
    pub status: String,
    /// The shell command line.
    pub entrypoint: String,
    /// Ray's explanation of the status.
    pub message: Option<String>,
    /// Ray's error type, such as `JOB_ENTRYPOINT_COMMAND_ERROR`.
    pub error_type: Option<String>,
    /// The start time, in milliseconds since the Unix epoch.
    pub start_time: Option<u64>,
    /// The end time, in milliseconds since the Unix epoch.
    pub end_time: Option<u64>,
    /// The metadata that the submitter attached.
    pub metadata: BTreeMap<String, String>,
    /// The exit code of the entrypoint, once it has ended.
    pub driver_exit_code: Option<i32>,
    /// The id of the node that the entrypoint runs on.
    pub driver_node_id: Option<String>,
}

impl Version {
    /// Reads a response.
    ///
    /// # Errors
    /// A message if a field has the wrong type.
    pub fn read(response: &Value) -> Result<Self, String> {
        let fields = Fields::from_value(response)?;
        Ok(Self {
            version: fields.string("version")?.unwrap_or_default(),
            ray_version: fields.string("ray_version")?.unwrap_or_default(),
            ray_commit: fields.string("ray_commit")?.unwrap_or_default(),
            session_name: fields.string("session_name")?,
        })
    }
}

impl Job {
    /// Fields of the response that are unused and can be large.
    pub const SKIPPED_FIELDS: [&str; 1] = ["runtime_env"];

    /// Reads a job from a response or from an element of a list.
    ///
    /// # Errors
    /// A message if the status is missing or a field has the wrong type.
    pub fn read(response: &Value) -> Result<Self, String> {
        let fields = Fields::from_value(response)?;
        Ok(Self {
            submission_id: fields.string("submission_id")?,
            job_id: fields.string("job_id")?,
            status: Fields::required("status", fields.string("status")?)?,
            entrypoint: fields.string("entrypoint")?.unwrap_or_default(),
            message: fields.string("message")?,
            error_type: fields.string("error_type")?,
            start_time: fields.integer("start_time")?,
            end_time: fields.integer("end_time")?,
            metadata: fields.string_map("metadata")?,
            driver_exit_code: fields.integer("driver_exit_code")?,
            driver_node_id: fields.string("driver_node_id")?,
        })
    }

    /// Returns whether the job is pending or running.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self.status.as_str(), "PENDING" | "RUNNING")
    }

    /// Returns whether the job has ended. A job with an unknown status is neither ended nor alive.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.status.as_str(), "SUCCEEDED" | "FAILED" | "STOPPED")
    }
}
