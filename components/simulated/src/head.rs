//! A simulated Ray head that serves the Jobs REST API to the real client, with its real retries.

use dagster_ray_sdk::{
    Error,
    http::{Body, BodyWriter, Http, Method, Request, Response},
    json,
};
use serde_json::{Value, json};

use crate::{
    faults::Fault, job_record::NODE, keys::KeyValueStore, log::Log, machine::Machine, simulation::Simulation,
};

/// The address of the head. This component handles the requests itself; nothing listens there.
pub const ADDRESS: &str = "http://ray.simulated:8265";
/// The name of the simulated head's session. The simulated head never loses its jobs.
const SESSION: &str = "session_simulated";
/// Envoy's response body while the head behind it restarts.
const UNAVAILABLE_BODY: &str = "no healthy upstream";

fn response(status: u16, body: impl Into<Vec<u8>>) -> Response {
    Response { status, headers: Vec::new(), body: Body::from(body.into()) }
}

fn document(document: &Value) -> Response {
    response(200, json::text(document))
}

/// Returns the 404 of Ray's `dashboard/modules/job/job_head.py`.
fn missing(id: &str) -> Response {
    response(404, format!("Job {id} does not exist"))
}

/// Returns the head's response when its agent rejects a submission id that is taken: `submit_job` and
/// `_raise_error` in `job_head.py`, with the `ValueError` of `job_manager.py`.
fn taken(id: &str) -> Response {
    response(
        500,
        format!(
            "Traceback (most recent call last):\nRuntimeError: Request failed with status code 400: Traceback (most \
             recent call last):\nValueError: Job with submission_id {id} already exists. Please use a different \
             submission_id.\n."
        ),
    )
}

impl<K: KeyValueStore + 'static, M: Machine + 'static> Simulation<K, M> {
    fn serve(&self, request: &Request) -> Result<Response, Error> {
        self.apply_head_fault()?;
        if self.is_unavailable()? {
            return Ok(response(503, UNAVAILABLE_BODY));
        }
        let path = request.url.strip_prefix(ADDRESS).unwrap_or(&request.url);
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let parts: Vec<String> = path.trim_matches('/').split('/').map(decoded).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match (request.method, parts.as_slice()) {
            (Method::Get, ["api", "version"]) => Ok(document(
                &json!({"version": "4", "ray_version": "simulated", "ray_commit": "", "session_name": SESSION}),
            )),
            (Method::Get, ["api", "jobs"]) => {
                let mut jobs = Vec::new();
                for (id, _) in self.records()? {
                    jobs.extend(self.refresh(&id)?.map(|job| job.details(&id)));
                }
                Ok(document(&jobs.into()))
            }
            // The one node lives as long as the simulation.
            (Method::Get, ["api", "v0", "nodes"]) => Ok(document(
                &json!({"result": true, "data": {"result": {"result": [{"node_id": NODE, "state": "ALIVE"}]}}}),
            )),
            (Method::Post, ["api", "jobs"]) => self.submit(request),
            (Method::Get, ["api", "jobs", id]) => {
                Ok(self.refresh(id)?.map_or_else(|| missing(id), |job| document(&job.details(id))))
            }
            (Method::Post, ["api", "jobs", id, "stop"]) => match self.refresh(id)? {
                Some(job) => Ok(document(&json!({"stopped": self.stop(&job)?}))),
                None => Ok(missing(id)),
            },
            (Method::Delete, ["api", "jobs", id]) => self.delete(id),
            (Method::Get, ["api", "jobs", id, "logs"]) => match self.refresh(id)? {
                Some(job) => Ok(document(&json!({"logs": self.whole_output(&job.process)?}))),
                None => Ok(missing(id)),
            },
            (Method::Get, ["api", "v0", "logs", how @ ("stream" | "file")]) => {
                self.log(request, &value(query, "submission_id"), *how == "stream")
            }
            _ => Err(Error::Unsupported(format!("the simulation does not support {}", request.label()))),
        }
    }

    fn submit(&self, request: &Request) -> Result<Response, Error> {
        let submission = json::parse(&request.body)
            .map_err(|error| Error::Other(format!("the submission is not JSON: {error}")))?;
        let id = submission["submission_id"].as_str().unwrap_or_default().to_owned();
        if !self.submit_job(&id, submission.clone())? {
            return Ok(taken(&id));
        }
        if self.fault_applies(&submission, |fault| matches!(fault, Fault::AnswerLost { .. }))? {
            return Err(Error::unavailable(format!("{}: the connection broke", request.label()), true));
        }
        Ok(document(&json!({"job_id": id, "submission_id": id})))
    }

    fn delete(&self, id: &str) -> Result<Response, Error> {
        let Some(job) = self.refresh(id)? else { return Ok(missing(id)) };
        let ended = job.details(id)["end_time"].is_number();
        if ended {
            self.delete_job(id)?;
        }
        Ok(document(&json!({"deleted": ended})))
    }

    fn whole_output(&self, process: &str) -> Result<String, Error> {
        let mut all = Vec::new();
        loop {
            let piece = self.machine().output(process, all.len() as u64)?;
            if piece.is_empty() {
                return Ok(String::from_utf8_lossy(&all).into_owned());
            }
            all.extend(piece);
        }
    }

    fn log(&self, request: &Request, id: &str, stream: bool) -> Result<Response, Error> {
        let Some(job) = self.refresh(id)? else {
            // The text is from Ray's `dashboard/modules/state/state_head.py` and `log_manager.py`.
            let text = format!("Cannot find matching node_id for a given node ip. Submission ID: {id}");
            return Ok(response(500, text));
        };
        let mut lines = None;
        for (index, fault) in self.faults() {
            if let Fault::LogCut { lines: after, .. } = fault
                && stream
                && crate::simulation::matches(fault.selector(), &job.submission)
                && self.consume_fault(index, fault)?
            {
                lines = Some(*after);
                break;
            }
        }
        let log = Log::new(self.clone(), id, job.process, request.label(), lines);
        Ok(Response { status: 200, headers: Vec::new(), body: Body::new(log) })
    }
}

impl<K: KeyValueStore + 'static, M: Machine + 'static> Http for Simulation<K, M> {
    fn send(&self, request: Request) -> Result<Response, Error> {
        self.serve(&request)
    }

    fn upload(&self, request: Request, _write: &mut BodyWriter<'_>) -> Result<Response, Error> {
        // Jobs run on this machine, so no package has to be uploaded.
        Err(Error::Unsupported(format!("the simulation does not support {}", request.label())))
    }

    fn send_all(&self, requests: Vec<Request>) -> Vec<Result<Response, Error>> {
        requests.iter().map(|request| self.serve(request)).collect()
    }
}

/// Returns the decoded value of a query parameter.
fn value(query: &str, name: &str) -> String {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map_or_else(String::new, |(_, value)| decoded(value))
}

/// Decodes percent-encoded text.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        let digits = more.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &more[2..];
            }
            _ => {
                bytes.push(first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
