//! The client of the service's HTTP API.

use std::collections::BTreeMap;

use dagster_ray_sdk::{
    Error,
    clock::{Clock, WasiClock},
    error::{malformed_response, optional},
    http::{Body, Client, Method, Request, Response, Timeouts},
    json::{Fields, Value, json},
    model::{JobRef, JobState, JobStatus},
    settings::{Settings, WasiSettings},
    reports::Listener,
};

use crate::job::{self, Spec};

/// The settings that are read from the configuration once and not sent with each run or step.
pub(crate) const SETTINGS: [(&str, &str); 2] = [
    ("address", "The URL of the service, such as http://127.0.0.1:8099."),
    ("stop_grace_seconds", "How long a job may take to end before it is killed. Default: 30."),
];

/// How many job ids fit into the URL of one request.
const AT_ONCE: usize = 100;
const POLL_MS: u64 = 300;
/// How long to wait for the end of a job after its grace period.
const PATIENCE_MS: u64 = 30_000;

/// A job in a response of the service.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: String,
    state: JobState,
    exit_code: Option<i32>,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Job {
    fn read(document: &Value) -> Result<Self, String> {
        let fields = Fields::from_value(document)?;
        let state = match fields.string("state")?.as_deref() {
            Some("running") => JobState::Running,
            Some("succeeded") => JobState::Succeeded,
            Some("failed") => JobState::Failed,
            Some("stopped") => JobState::Stopped,
            _ => JobState::Unknown,
        };
        Ok(Self {
            id: Fields::required("id", fields.string("id")?)?,
            state,
            exit_code: fields.integer("exit_code")?,
            labels: fields.string_map("labels")?,
        })
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state.has_ended()
    }

    fn status(&self) -> JobStatus {
        JobStatus {
            message: self.exit_code.filter(|code| *code != 0).map(|code| format!("exit code {code}")),
            exit_code: self.exit_code,
            ..JobStatus::new(&self.id, self.state)
        }
    }
}

/// A client of the configured service.
pub(crate) struct Service {
    client: Client,
    grace_ms: u64,
}

impl Service {
    pub(crate) fn configured() -> Result<Self, Error> {
        Ok(Self {
            client: Client::new(&WasiSettings.required("address")?)?,
            grace_ms: WasiSettings.milliseconds("stop_grace_seconds", 30.0, 86_400.0)?,
        })
    }

    pub(crate) fn reference(&self, id: String) -> JobRef {
        JobRef { dashboard_url: Some(self.client.url(&format!("/jobs/{id}"))), ..JobRef::new(id) }
    }

    /// Starts a job, or returns the existing job with this id.
    pub(crate) fn start(&self, id: &str, spec: &Spec) -> Result<Job, Error> {
        let mut response = self.client.send(&self.request(Method::Put, id, "")?.json(&spec.document()))?;
        parsed(&mut response, Job::read)
    }

    pub(crate) fn forget(&self, id: &str) -> Result<(), Error> {
        let sent = self.request(Method::Delete, id, "").and_then(|request| self.client.send(&request));
        optional(sent).map(|_| ())
    }

    /// Returns the status of each job, in the order of the ids.
    pub(crate) fn look(&self, ids: &[String]) -> Result<Vec<JobStatus>, Error> {
        let mut known = BTreeMap::new();
        let valid: Vec<&str> = ids.iter().map(String::as_str).filter(|id| job::is_id(id)).collect();
        for batch in valid.chunks(AT_ONCE) {
            let mut response = self.client.get(&format!("/jobs?ids={}", batch.join(",")))?;
            let jobs: Vec<Job> = parsed(&mut response, |jobs| {
                jobs.as_array().ok_or("it is not a list")?.iter().map(Job::read).collect()
            })?;
            known.extend(jobs.into_iter().map(|job| (job.id.clone(), job)));
        }
        Ok(ids
            .iter()
            .map(|id| known.get(id).map_or_else(|| JobStatus::new(id, JobState::Missing), Job::status))
            .collect())
    }

    pub(crate) fn look_at(&self, id: &str) -> Result<JobStatus, Error> {
        Ok(self.look(&[id.to_owned()])?.pop().unwrap_or_else(|| JobStatus::new(id, JobState::Missing)))
    }

    /// Stops all jobs at once and returns their final statuses.
    pub(crate) fn stop(&self, ids: &[String], listener: &Listener) -> Result<Vec<JobStatus>, Error> {
        let body = json!({"grace_seconds": self.grace_ms as f64 / 1_000.0});
        for id in ids {
            // A repeated stop has no effect.
            let sent = self
                .request(Method::Post, id, "/stop")
                .and_then(|request| self.client.send_repeatable(&request.json(&body)));
            optional(sent)?;
        }
        let patience_ms = self.grace_ms + PATIENCE_MS;
        let deadline = WasiClock.now_ms() + patience_ms;
        loop {
            let statuses = self.look(ids)?;
            if statuses.iter().all(|status| status.ended) {
                return Ok(statuses);
            }
            if listener.cancelled() {
                return Err(Error::Cancelled);
            }
            if WasiClock.now_ms() >= deadline {
                return Err(Error::Timeout(patience_ms));
            }
            WasiClock.sleep_ms(POLL_MS);
        }
    }

    /// Returns a job's output from a byte position, as a stream that ends with the job.
    ///
    /// Returns `None` if there is no such job.
    pub(crate) fn output(&self, id: &str, from: u64) -> Result<Option<Body>, Error> {
        // A job can write nothing for hours.
        let timeouts = Timeouts { between_bytes_ms: None, ..Timeouts::default() };
        let sent = self
            .request(Method::Get, id, &format!("/output?from={from}"))
            .and_then(|request| self.client.send(&request.timeouts(timeouts)));
        Ok(optional(sent)?.map(|response| response.body))
    }

    /// Creates a request about a job. Checks the id, because users can edit the tag that holds it.
    fn request(&self, method: Method, id: &str, what: &str) -> Result<Request, Error> {
        if !job::is_id(id) {
            return Err(Error::NotFound(format!("there is no job {id:?}")));
        }
        Ok(self.client.request(method, &format!("/jobs/{id}{what}")))
    }
}

fn parsed<T>(response: &mut Response, read: impl FnOnce(&Value) -> Result<T, String>) -> Result<T, Error> {
    let doing = "reading a response of the service";
    let document = response.json(doing, &[])?;
    read(&document).map_err(|problem| malformed_response(doing, &problem))
}
