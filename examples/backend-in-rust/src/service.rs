//! The client of the service's HTTP API.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::bindings::dagster_ray::host::model::{ApiError, Error, JobRef, JobState, JobStatus};
use crate::bindings::dagster_ray::host::sink::Listener;
use crate::bindings::wasi::clocks::monotonic_clock::{now, subscribe_duration};
use crate::bindings::wasi::config::store;
use crate::bindings::wasi::http::types::Method;
use crate::http::{self, Response};
use crate::job::{self, Spec};
use crate::options::invalid;

/// The settings that are read from the configuration once and not sent with each run or step.
pub(crate) const SETTINGS: [(&str, &str); 2] = [
    ("address", "The URL of the service, such as http://127.0.0.1:8099."),
    ("stop_grace_seconds", "How long a job may take to end before it is killed. Default: 30."),
];

const TRIES: u32 = 4;
const FIRST_WAIT_MS: u64 = 250;
/// How many job ids fit into the URL of one request.
const AT_ONCE: usize = 100;
const POLL_MS: u64 = 300;
/// How long to wait for the end of a job after its grace period.
const PATIENCE_SECONDS: f64 = 30.0;

/// A job in a response of the service.
#[derive(Debug, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: String,
    state: String,
    exit_code: Option<i32>,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Job {
    pub(crate) fn state(&self) -> JobState {
        match self.state.as_str() {
            "running" => JobState::Running,
            "succeeded" => JobState::Succeeded,
            "failed" => JobState::Failed,
            "stopped" => JobState::Stopped,
            _ => JobState::Unknown,
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state(), JobState::Succeeded | JobState::Failed | JobState::Stopped)
    }

    fn status(&self) -> JobStatus {
        let message = self.exit_code.filter(|code| *code != 0).map(|code| format!("exit code {code}"));
        JobStatus {
            submission_id: self.id.clone(),
            state: self.state(),
            ended: self.has_ended(),
            message,
            error_type: None,
            exit_code: self.exit_code,
        }
    }
}

/// A client of the configured service.
pub(crate) struct Service {
    address: String,
    grace_seconds: f64,
}

impl Service {
    pub(crate) fn configured() -> Result<Self, Error> {
        let Some(address) = setting("address") else {
            return Err(invalid("address", "is missing", "write the service's URL, http://host:port"));
        };
        let grace_seconds = match setting("stop_grace_seconds") {
            None => 30.0,
            Some(text) => {
                text.parse().ok().filter(|seconds| (0.0..86_400.0).contains(seconds)).ok_or_else(|| {
                    invalid(
                        "stop_grace_seconds",
                        &format!("is {text}"),
                        "write a number of seconds below 86400",
                    )
                })?
            }
        };
        Ok(Self { address: address.trim_end_matches('/').to_owned(), grace_seconds })
    }

    pub(crate) fn reference(&self, id: String) -> JobRef {
        let page = format!("{}/jobs/{id}", self.address);
        JobRef { submission_id: id, dashboard_url: Some(page), details: None }
    }

    /// Starts a job, or returns the existing job with this id.
    pub(crate) fn start(&self, id: &str, spec: &Spec) -> Result<Job, Error> {
        let body = serde_json::to_vec(spec).map_err(|error| Error::Other(error.to_string()))?;
        parsed(&self.ask_about(&Method::Put, id, "", &body)?)
    }

    pub(crate) fn forget(&self, id: &str) -> Result<(), Error> {
        found(self.ask_about(&Method::Delete, id, "", &[])).map(|_| ())
    }

    /// Returns the status of each job, in the order of the ids.
    pub(crate) fn look(&self, ids: &[String]) -> Result<Vec<JobStatus>, Error> {
        let mut known = BTreeMap::new();
        let valid: Vec<&str> = ids.iter().map(String::as_str).filter(|id| job::is_id(id)).collect();
        for batch in valid.chunks(AT_ONCE) {
            let response = self.ask(&Method::Get, &format!("/jobs?ids={}", batch.join(",")), &[])?;
            let jobs: Vec<Job> = parsed(&response)?;
            known.extend(jobs.into_iter().map(|job| (job.id.clone(), job)));
        }
        Ok(ids.iter().map(|id| known.get(id).map_or_else(|| missing(id), Job::status)).collect())
    }

    pub(crate) fn look_at(&self, id: &str) -> Result<JobStatus, Error> {
        Ok(self.look(&[id.to_owned()])?.pop().unwrap_or_else(|| missing(id)))
    }

    /// Stops all jobs at once and returns their final statuses.
    pub(crate) fn stop(&self, ids: &[String], listener: &Listener) -> Result<Vec<JobStatus>, Error> {
        let body = json!({"grace_seconds": self.grace_seconds}).to_string();
        for id in ids {
            found(self.ask_about(&Method::Post, id, "/stop", body.as_bytes()))?;
        }
        let patience_ms = ((self.grace_seconds + PATIENCE_SECONDS) * 1000.0) as u64;
        let deadline = now() + patience_ms * 1_000_000;
        loop {
            let statuses = self.look(ids)?;
            if statuses.iter().all(|status| status.state != JobState::Running) {
                return Ok(statuses);
            }
            if listener.cancelled() {
                return Err(Error::Cancelled);
            }
            if now() >= deadline {
                return Err(Error::Timeout(patience_ms));
            }
            sleep(POLL_MS);
        }
    }

    /// Returns a job's output from a byte position, as a stream that ends with the job.
    ///
    /// Returns `None` if there is no such job.
    pub(crate) fn output(&self, id: &str, from: u64) -> Result<Option<Response>, Error> {
        found(self.ask_about(&Method::Get, id, &format!("/output?from={from}"), &[]))
    }

    /// Sends a request about a job. Checks the id, because users can edit the tag that holds it.
    fn ask_about(&self, method: &Method, id: &str, what: &str, body: &[u8]) -> Result<Response, Error> {
        if !job::is_id(id) {
            return Err(Error::NotFound(format!("there is no job {id:?}")));
        }
        self.ask(method, &format!("/jobs/{id}{what}"), body)
    }

    /// Sends a request with retries. All requests of the API are idempotent.
    fn ask(&self, method: &Method, path: &str, body: &[u8]) -> Result<Response, Error> {
        let url = format!("{}{path}", self.address);
        let mut wait = FIRST_WAIT_MS;
        for _ in 1..TRIES {
            match http::send(method, &url, body) {
                Err(Error::Unavailable(_)) => {}
                Ok(response) if response.status >= 500 => {}
                other => return other.and_then(succeeded),
            }
            sleep(wait);
            wait *= 2;
        }
        http::send(method, &url, body).and_then(succeeded)
    }
}

pub(crate) fn sleep(ms: u64) {
    subscribe_duration(ms * 1_000_000).block();
}

fn setting(name: &str) -> Option<String> {
    store::get(name).ok().flatten()
}

fn missing(id: &str) -> JobStatus {
    JobStatus {
        submission_id: id.to_owned(),
        state: JobState::Missing,
        ended: true,
        message: None,
        error_type: None,
        exit_code: None,
    }
}

fn succeeded(response: Response) -> Result<Response, Error> {
    if (200..300).contains(&response.status) {
        return Ok(response);
    }
    let text = String::from_utf8_lossy(&response.bytes()?).into_owned();
    if response.status == 404 {
        return Err(Error::NotFound(text));
    }
    Err(Error::Backend(ApiError {
        status: response.status,
        reason: "Refused".to_owned(),
        message: text,
        details: None,
    }))
}

fn found<T>(response: Result<T, Error>) -> Result<Option<T>, Error> {
    match response {
        Err(Error::NotFound(_)) => Ok(None),
        other => other.map(Some),
    }
}

fn parsed<T: DeserializeOwned>(response: &Response) -> Result<T, Error> {
    serde_json::from_slice(&response.bytes()?)
        .map_err(|error| Error::Other(format!("malformed response of the service: {error}")))
}
