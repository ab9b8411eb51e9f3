//! The stored state of a job, and how the Jobs REST API shows it.
//!
//! The messages are from `dashboard/modules/job/job_manager.py` and `common.py` of Ray 2.60.

use dagster_ray_sdk::Error;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{keys::KeyValueStore, records};

/// The id of the one node.
pub(crate) const NODE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The final status of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub(crate) status: String,
    pub(crate) message: String,
    pub(crate) error_type: Option<String>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) at_ms: u64,
}

/// The phase of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The job waits for resources and never starts.
    Pending,
    /// The supervisor was started.
    Started,
    /// The job has ended.
    Ended(Ended),
}

/// The stored state of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The body of the submission.
    pub submission: Value,
    /// The name of the job's process, of its files and of the keys with its requests. It differs between
    /// jobs with the same id, so that a job does not inherit the end of a deleted one.
    pub process: String,
    /// The time of the submission on the simulation's clock, in milliseconds since the Unix epoch.
    pub submitted_ms: u64,
    /// The current phase.
    pub phase: Phase,
}

impl Record {
    /// The key prefix of all jobs.
    pub const PREFIX: &str = "job/";

    /// Reads the record of a job.
    ///
    /// # Errors
    /// The bucket cannot be read, or the value is not such a record.
    pub fn read(keys: &impl KeyValueStore, id: &str) -> Result<Option<Self>, Error> {
        let Some(bytes) = keys.get(&format!("{}{id}", Self::PREFIX))? else { return Ok(None) };
        records::read(&bytes).map(Some).map_err(|problem| {
            Error::Other(format!("the stored state of the job {id} is invalid: {problem}"))
        })
    }

    /// Stores the record of a job.
    ///
    /// # Errors
    /// The bucket cannot be written.
    pub(crate) fn write(&self, keys: &impl KeyValueStore, id: &str) -> Result<(), Error> {
        let document = records::write(self)
            .map_err(|error| Error::Other(format!("the state of the job {id} cannot be stored: {error}")))?;
        keys.set(&format!("{}{id}", Self::PREFIX), document.as_bytes())
    }

    /// Returns whether the job was started and its end is not recorded.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.phase == Phase::Started
    }

    /// Returns the job as in the response of `GET /api/jobs/{id}`.
    #[must_use]
    pub fn details(&self, id: &str) -> Value {
        let (status, message) = match &self.phase {
            Phase::Pending => ("PENDING", self.pending_message()),
            Phase::Started => ("RUNNING", "Job is currently running.".to_owned()),
            Phase::Ended(end) => (end.status.as_str(), end.message.clone()),
        };
        let end = match &self.phase {
            Phase::Ended(end) => Some(end),
            Phase::Pending | Phase::Started => None,
        };
        json!({
            "type": "SUBMISSION",
            "job_id": null,
            "submission_id": id,
            "status": status,
            "entrypoint": self.submission["entrypoint"],
            "message": message,
            "error_type": end.and_then(|end| end.error_type.clone()),
            "start_time": self.submitted_ms,
            "end_time": end.map(|end| end.at_ms),
            "metadata": self.submission["metadata"],
            "runtime_env": self.submission["runtime_env"],
            "driver_exit_code": end.and_then(|end| end.exit_code),
            "driver_node_id": if status == "PENDING" { Value::Null } else { NODE.into() },
        })
    }

    fn pending_message(&self) -> String {
        let asked = |key: &str| self.submission.get(key).is_some_and(|value| *value != json!(0.0));
        let mut message = "Job has not started yet.".to_owned();
        if ["num_cpus", "num_gpus", "memory", "resources"]
            .iter()
            .any(|key| asked(&format!("entrypoint_{key}")))
        {
            message.push_str(
                " It may be waiting for resources (CPUs, GPUs, memory, custom resources) to become available.",
            );
        }
        if self.submission["runtime_env"].as_object().is_some_and(|env| !env.is_empty()) {
            message.push_str(" It may be waiting for the runtime environment to be set up.");
        }
        message
    }
}
