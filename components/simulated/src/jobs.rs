//! The jobs of the simulated Ray, with the states and messages of Ray 2.60.
//!
//! The messages are from `dashboard/modules/job/job_manager.py`, `job_supervisor.py` and `common.py`, unless
//! another source is named.

use dagster_ray_jobs::packages::is_local_path;
use dagster_ray_sdk::{Error, clock::Clock, warn};
use dagster_ray_submission::{ids, kill_pending};
use serde_json::{Map, Value};

use crate::{
    faults::Fault,
    job_record::{Ended, Phase, Record},
    keys::KeyValueStore,
    machine::{Launch, Machine},
    simulation::Simulation,
};

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
        if ids::is_kill_job(id) {
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
    let local = |value: &Value| value.as_str().filter(|path| is_local_path(path)).map(str::to_owned);
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
