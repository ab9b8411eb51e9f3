//! The jobs of the simulated Ray, with the states and messages of Ray 2.60.
//!
//! The messages are from `dashboard/modules/job/job_manager.py`, `job_supervisor.py` and `common.py`, unless
//! another source is named.

use dagster_ray_sdk::{Error, clock::Clock, warn};
use dagster_ray_submission::kill_pending;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    faults::Fault,
    keys::KeyValueStore,
    machine::{Launch, Machine},
    records,
    simulation::Simulation,
};

/// The id of the one node.
const NODE: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The entrypoint that simulates a kill by the out-of-memory killer.
const KILLED: &str = "kill -KILL $$";
/// The exit code that Ray reports for such a kill.
const SIGKILL: i32 = -9;
/// How much output the message of a failed job quotes: `get_last_n_log_lines` in `job_log_storage_client.py`.
const QUOTED_LINES: usize = 10;
const QUOTED_CHARS: usize = 20_000;
/// The message after Ray's memory monitor killed the job's actor: the text of `ActorDiedError`, with parts
/// from `src/ray/gcs/gcs_actor_manager.cc` and `src/ray/raylet/worker_killing_policy.cc`.
const HEAD_OUT_OF_MEMORY: &str = "Job supervisor actor died: The actor died unexpectedly before finishing this \
    task.\n\tclass_name: JobSupervisor\nThe actor is dead because its worker process has died. Worker exit type: \
    NODE_OUT_OF_MEMORY Worker exit detail: Task was killed due to the node running low on memory.";
const KILLED_BY_RAY_KILL: &str = "Job supervisor actor died: The actor died unexpectedly before finishing this \
    task.\n\tclass_name: JobSupervisor\nThe actor is dead because it was killed by `ray.kill`.";
/// The fields of a runtime environment that are supported or can be ignored without a warning.
const KNOWN_ENV: [&str; 4] = ["env_vars", "working_dir", "py_modules", "excludes"];

/// The final status of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    status: String,
    message: String,
    error_type: Option<String>,
    exit_code: Option<i32>,
    at_ms: u64,
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

    fn write(&self, keys: &impl KeyValueStore, id: &str) -> Result<(), Error> {
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

impl<K: KeyValueStore, M: Machine> Simulation<K, M> {
    /// Accepts a job and starts it. Returns `false` if its id is taken.
    ///
    /// # Errors
    /// The bucket cannot be written.
    pub fn submit_job(&self, id: &str, submission: Value) -> Result<bool, Error> {
        if !self.keys().claim(&format!("claim/{id}"))? {
            return Ok(false);
        }
        let pending = self.fault_applies(&submission, |fault| matches!(fault, Fault::Pending { .. }))?;
        let phase = if pending { Phase::Pending } else { Phase::Started };
        let process = self.new_process(id)?;
        let mut record = Record { submission, process, submitted_ms: self.now_ms(), phase };
        if is_kill_job(id) {
            self.kill_pending(&record)?;
            record.phase =
                Phase::Ended(self.end("SUCCEEDED", "Job finished successfully.".to_owned(), None, Some(0)));
            record.write(self.keys(), id)?;
            return Ok(true);
        }
        record.write(self.keys(), id)?;
        if pending {
            return Ok(true);
        }
        let mut launch = launch(&record.submission);
        if self.fault_applies(&record.submission, |fault| matches!(fault, Fault::OutOfMemory { .. }))? {
            KILLED.clone_into(&mut launch.entrypoint);
        }
        if let Err(error) = self.machine().start(&record.process, &launch) {
            let kind = "JOB_ENTRYPOINT_COMMAND_START_ERROR";
            record.phase = Phase::Ended(self.end("FAILED", error.message(), Some(kind), None));
            record.write(self.keys(), id)?;
        }
        Ok(true)
    }

    /// Returns a job, after recording its end if its process has ended.
    ///
    /// # Errors
    /// The bucket or the machine cannot be read.
    pub fn refresh(&self, id: &str) -> Result<Option<Record>, Error> {
        let Some(mut record) = Record::read(self.keys(), id)? else { return Ok(None) };
        if record.phase != Phase::Started {
            return Ok(Some(record));
        }
        // Check for a lost supervisor first: it may have written the exit code just before it ended.
        let lost = self.machine().is_lost(&record.process);
        let code = match self.machine().exit_code(&record.process)? {
            Some(code) => code,
            None if lost => SIGKILL,
            None => {
                self.mark_running();
                return Ok(Some(record));
            }
        };
        record.phase = Phase::Ended(if self.keys().number(&stop_key(&record.process))? > 0 {
            self.end("STOPPED", "Job was intentionally stopped.".to_owned(), None, None)
        } else if code == 0 {
            self.end("SUCCEEDED", "Job finished successfully.".to_owned(), None, Some(0))
        } else {
            let message = match quoted(&String::from_utf8_lossy(&self.machine().output(&record.process, 0)?))
            {
                Some(tail) => format!(
                    "Job entrypoint command failed with exit code {code}, last available logs (truncated to 20,000 \
                     chars):\n{tail}"
                ),
                None => format!("Job entrypoint command failed with exit code {code}. No logs available."),
            };
            self.end("FAILED", message, Some("JOB_ENTRYPOINT_COMMAND_ERROR"), Some(code))
        });
        record.write(self.keys(), id)?;
        Ok(Some(record))
    }

    /// Requests a job to stop. Returns `false` if it has ended.
    ///
    /// A pending job is not stopped, as in Ray: the supervisor that would handle the request has not
    /// started.
    ///
    /// # Errors
    /// The bucket cannot be written.
    pub fn stop(&self, record: &Record) -> Result<bool, Error> {
        match record.phase {
            Phase::Ended(_) => return Ok(false),
            Phase::Pending => {}
            Phase::Started => {
                self.keys().add(&stop_key(&record.process), 1)?;
            }
        }
        Ok(true)
    }

    /// Deletes a job and frees its id.
    ///
    /// The job's files and requests remain: its supervisor may still need a request to kill the job.
    ///
    /// # Errors
    /// The bucket cannot be written.
    pub fn delete_job(&self, id: &str) -> Result<(), Error> {
        self.keys().delete(&format!("{}{id}", Record::PREFIX))?;
        self.keys().delete(&format!("claim/{id}"))
    }

    /// Applies a `head-out-of-memory` fault whose condition is met: fails all running jobs.
    ///
    /// # Errors
    /// The bucket cannot be read or written.
    pub fn apply_head_fault(&self) -> Result<(), Error> {
        for (index, fault) in self.faults() {
            if !matches!(fault, Fault::HeadOutOfMemory { .. })
                || self.keys().number(&format!("fault/{index}/used"))? > 0
                || !self.runs(fault.selector())?
                || !self.consume_fault(index, fault)?
            {
                continue;
            }
            for (id, mut record) in self.records()? {
                if record.runs() && self.machine().exit_code(&record.process)?.is_none() {
                    self.keys().add(&format!("kill/{}", record.process), 1)?;
                    let end = self.end(
                        "FAILED",
                        HEAD_OUT_OF_MEMORY.to_owned(),
                        Some(kill_pending::SUPERVISOR_DIED),
                        None,
                    );
                    record.phase = Phase::Ended(end);
                    record.write(self.keys(), &id)?;
                }
            }
        }
        Ok(())
    }

    /// Kills the pending jobs that a kill job names, as the kill job does inside a real cluster.
    fn kill_pending(&self, kill_job: &Record) -> Result<(), Error> {
        let line = kill_job.submission["entrypoint"].as_str().unwrap_or_default();
        let words = shlex::split(line).unwrap_or_default();
        for (id, mut record) in self.records()? {
            if record.phase == Phase::Pending && words.contains(&id) {
                let end = self.end(
                    "FAILED",
                    KILLED_BY_RAY_KILL.to_owned(),
                    Some(kill_pending::SUPERVISOR_DIED),
                    None,
                );
                record.phase = Phase::Ended(end);
                record.write(self.keys(), &id)?;
            }
        }
        Ok(())
    }

    /// Returns the name of the process of a new job: its id, with a number if the id was used before.
    fn new_process(&self, id: &str) -> Result<String, Error> {
        let launches = self.keys().add(&format!("launches/{id}"), 1)?;
        Ok(if launches == 1 { id.to_owned() } else { format!("{id}~{launches}") })
    }

    fn end(&self, status: &str, message: String, error_type: Option<&str>, exit_code: Option<i32>) -> Ended {
        let error_type = error_type.map(str::to_owned);
        Ended { status: status.to_owned(), message, error_type, exit_code, at_ms: self.now_ms() }
    }
}

/// Returns whether a job is a kill job, which kills pending jobs.
pub(crate) fn is_kill_job(id: &str) -> bool {
    id.starts_with("dagster-stop-")
}

fn stop_key(process: &str) -> String {
    format!("stop/{process}")
}

/// Returns the end of a job's output as Ray quotes it.
fn quoted(output: &str) -> Option<String> {
    let lines: Vec<&str> = output.lines().collect();
    let tail = lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n");
    let surplus = tail.chars().count().saturating_sub(QUOTED_CHARS);
    let tail: String = tail.chars().skip(surplus).collect();
    (!tail.is_empty()).then_some(tail)
}

/// Returns the process parameters of a submission. Unsupported fields of its runtime environment are ignored
/// with a warning.
fn launch(submission: &Value) -> Launch {
    let empty = Map::new();
    let env = submission["runtime_env"].as_object().unwrap_or(&empty);
    let ignored: Vec<&str> = env.keys().map(String::as_str).filter(|key| !KNOWN_ENV.contains(key)).collect();
    if !ignored.is_empty() {
        warn!(
            "the simulation ignores runtime_env.{}; jobs use the packages installed on this machine",
            ignored.join(", runtime_env.")
        );
    }
    let local = |value: &Value| value.as_str().filter(|path| !path.contains("://")).map(str::to_owned);
    let directory = env.get("working_dir").and_then(local).unwrap_or_default();
    let modules = env.get("py_modules").and_then(Value::as_array).into_iter().flatten().filter_map(local);
    // A module is imported from its parent directory.
    let parents = modules.map(|path| match path.trim_end_matches('/').rsplit_once('/') {
        Some((parent, _)) => parent.to_owned(),
        None => ".".to_owned(),
    });
    let python_path = (!directory.is_empty()).then(|| directory.clone()).into_iter().chain(parents).collect();
    let variables = env.get("env_vars").and_then(Value::as_object).unwrap_or(&empty);
    Launch {
        entrypoint: submission["entrypoint"].as_str().unwrap_or_default().to_owned(),
        directory,
        python_path,
        env: variables
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect(),
    }
}
