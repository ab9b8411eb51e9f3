//! What Ray says of a job.

use std::collections::BTreeMap;

use dagster_ray_sdk::json::{Fields, Value};

/// What Ray runs, as `GET /api/version` answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// The version of the Jobs API.
    pub version: String,
    /// The version of Ray.
    pub ray_version: String,
    /// The commit that Ray was built from.
    pub ray_commit: String,
    /// The name of this session of the cluster. A restarted head has another one.
    pub session_name: Option<String>,
}

/// A job, as `GET /api/jobs/{id}` answers, and as an element of what `GET /api/jobs/` does.
///
/// The runtime environment is left out: it can be large, and holds secrets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Job {
    /// The id under which the job was submitted. Drivers that were not submitted have none.
    pub submission_id: Option<String>,
    /// Ray's own id of the driver, once there is one.
    pub job_id: Option<String>,
    /// `PENDING`, `RUNNING`, `SUCCEEDED`, `FAILED` or `STOPPED`.
    pub status: String,
    /// The command line.
    pub entrypoint: String,
    /// Ray's word on its status.
    pub message: Option<String>,
    /// Ray's class of error, such as `JOB_ENTRYPOINT_COMMAND_ERROR`.
    pub error_type: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub start_time: Option<u64>,
    /// Milliseconds since the Unix epoch.
    pub end_time: Option<u64>,
    /// What the submitter attached.
    pub metadata: BTreeMap<String, String>,
    /// The exit code of the entrypoint, once it has ended.
    pub driver_exit_code: Option<i32>,
    /// The node that the entrypoint runs on.
    pub driver_node_id: Option<String>,
}

impl Version {
    /// Reads an answer.
    ///
    /// # Errors
    /// Where it is not Ray's, in words.
    pub fn read(answer: &Value) -> Result<Self, String> {
        let fields = Fields::of(answer)?;
        Ok(Self {
            version: fields.text("version")?.unwrap_or_default(),
            ray_version: fields.text("ray_version")?.unwrap_or_default(),
            ray_commit: fields.text("ray_commit")?.unwrap_or_default(),
            session_name: fields.text("session_name")?,
        })
    }
}

impl Job {
    /// The fields of an answer that are not looked at and can be long.
    pub const LEFT_OUT: [&str; 1] = ["runtime_env"];

    /// Reads an answer, or an element of one.
    ///
    /// # Errors
    /// Where it is not Ray's, in words.
    pub fn read(answer: &Value) -> Result<Self, String> {
        let fields = Fields::of(answer)?;
        Ok(Self {
            submission_id: fields.text("submission_id")?,
            job_id: fields.text("job_id")?,
            status: Fields::required("status", fields.text("status")?)?,
            entrypoint: fields.text("entrypoint")?.unwrap_or_default(),
            message: fields.text("message")?,
            error_type: fields.text("error_type")?,
            start_time: fields.number("start_time")?,
            end_time: fields.number("end_time")?,
            metadata: fields.texts("metadata")?,
            driver_exit_code: fields.number("driver_exit_code")?,
            driver_node_id: fields.text("driver_node_id")?,
        })
    }

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
