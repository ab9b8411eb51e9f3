//! Stops RayJobs: first their Ray jobs, so that workers can clean up, then the RayJobs and their clusters.
//!
//! Deleting a RayJob deletes its cluster at once, and KubeRay does not wait for Ray to stop the job. So a
//! started Ray job is stopped here first. A job that has not started needs no cleanup.

use std::collections::BTreeMap;

use dagster_ray_jobs::Job;
use dagster_ray_sdk::{
    Error,
    clock::Clock,
    error::malformed_response,
    http::{Http, Request, Response, url},
    model::JobState,
    progress::{Level, ProgressListener},
};
use dagster_ray_submission::{status as ray, stop::StopOutcome};

use super::status::RayJob;
use crate::kubernetes::{Kubernetes, Precondition, RAY_JOB, object};

const POLL_INTERVAL_MS: u64 = 500;
const READ_STATUS: &str = "reading the status of a stopped job";
/// Ray's status of a job that waits for resources.
const PENDING: &str = "PENDING";
/// After this many failed polls, the dashboard is considered gone.
const MAX_FAILED_POLLS: u32 = 4;
/// How long to wait until a deleted RayJob disappears, that is, until KubeRay removes its finalizer.
const DELETION_TIMEOUT_MS: u64 = 15_000;

/// Stops RayJobs, waits up to `patience_ms` until their Ray jobs have ended, and deletes them.
///
/// The outcomes are in the order of `jobs`.
///
/// # Errors
/// The first error of a deletion, after every RayJob was tried. [`Error::Cancelled`] if the caller cancels.
pub fn stop_jobs<H: Http, C: Clock>(
    kubernetes: &Kubernetes<H, C>,
    jobs: &[&RayJob],
    patience_ms: u64,
    listener: &impl ProgressListener,
) -> Result<Vec<StopOutcome>, Error> {
    let mut outcomes: Vec<StopOutcome> = jobs
        .iter()
        .map(|job| {
            let status = job.status();
            StopOutcome { had_ended: status.ended, status }
        })
        .collect();
    let mut open: BTreeMap<usize, (String, u32)> = jobs
        .iter()
        .enumerate()
        // KubeRay polls Ray every few seconds, so a job that it reports as pending may be running.
        .filter(|(index, job)| !outcomes[*index].had_ended && !job.is_deleting())
        .filter_map(|(index, job)| Some((index, (job_url(job)?, 0))))
        .collect();

    let stops = open.values().map(|(job, _)| Request::post(format!("{job}/stop"))).collect();
    for (index, response) in
        open.keys().copied().collect::<Vec<_>>().into_iter().zip(kubernetes.http().send_all(stops))
    {
        if let Err(error) = check_status(response) {
            open.remove(&index);
            if outcomes[index].status.state != JobState::Running {
                continue;
            }
            listener.log(
                Level::Warning,
                &format!(
                    "deleting the RayJob {} although its Ray job could not be stopped: {}",
                    jobs[index].metadata.name,
                    error.message()
                ),
            );
        }
    }
    let until = kubernetes.clock().now_ms().saturating_add(patience_ms);
    while !open.is_empty() && kubernetes.clock().now_ms() < until {
        if listener.cancelled() {
            return Err(Error::Cancelled);
        }
        kubernetes.clock().sleep_ms(POLL_INTERVAL_MS);
        poll(kubernetes, &mut open, &mut outcomes);
    }

    let mut deleted = Vec::new();
    let mut first_error = None;
    for job in jobs {
        let precondition = Precondition { uid: Some(job.metadata.uid.clone()), resource_version: None };
        match kubernetes.delete(RAY_JOB, &job.metadata.namespace, &job.metadata.name, &precondition) {
            Ok(_) => deleted.push(*job),
            // The other RayJobs must not run on because of this one.
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let gone = wait_until_gone(kubernetes, deleted, listener);
    if let Some(error) = first_error {
        return Err(error);
    }
    gone?;
    for outcome in &mut outcomes {
        if !outcome.status.ended {
            outcome.status.state = JobState::Stopped;
            outcome.status.ended = true;
            outcome.status.message = Some("stopped, and its RayJob deleted".to_owned());
        }
    }
    Ok(outcomes)
}

fn poll<H: Http, C: Clock>(
    kubernetes: &Kubernetes<H, C>,
    open: &mut BTreeMap<usize, (String, u32)>,
    outcomes: &mut [StopOutcome],
) {
    let indices: Vec<usize> = open.keys().copied().collect();
    let requests = open.values().map(|(job, _)| Request::get(job.clone())).collect();
    for (index, response) in indices.into_iter().zip(kubernetes.http().send_all(requests)) {
        let job =
            check_status(response).and_then(|mut response| response.json(READ_STATUS, &Job::SKIPPED_FIELDS));
        match job.and_then(|job| Job::read(&job).map_err(|problem| malformed_response(READ_STATUS, &problem)))
        {
            Ok(job) if job.has_ended() => {
                let id = outcomes[index].status.submission_id.clone();
                outcomes[index].status = ray::from_job(&id, &job);
                open.remove(&index);
            }
            // Ray cannot stop a pending job, and such a job has nothing to clean up.
            Ok(job) if job.status == PENDING => {
                open.remove(&index);
            }
            Ok(_) => {}
            Err(_) => {
                let failures = open.get_mut(&index).map_or(MAX_FAILED_POLLS, |(_, failures)| {
                    *failures += 1;
                    *failures
                });
                if failures >= MAX_FAILED_POLLS {
                    open.remove(&index);
                }
            }
        }
    }
}

fn wait_until_gone<H: Http, C: Clock>(
    kubernetes: &Kubernetes<H, C>,
    mut deleted: Vec<&RayJob>,
    listener: &impl ProgressListener,
) -> Result<(), Error> {
    let until = kubernetes.clock().now_ms().saturating_add(DELETION_TIMEOUT_MS);
    loop {
        let mut left = Vec::new();
        for job in deleted {
            match kubernetes.get(RAY_JOB, &job.metadata.namespace, &job.metadata.name) {
                Ok(found) if object::uid(&found) == job.metadata.uid => left.push(job),
                Ok(_) | Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let Some(first) = left.first() else { return Ok(()) };
        if listener.cancelled() {
            return Err(Error::Cancelled);
        }
        if kubernetes.clock().now_ms() >= until {
            let text = format!(
                "the RayJob {}/{} is still being deleted after {} s; is the KubeRay operator running?",
                first.metadata.namespace,
                first.metadata.name,
                DELETION_TIMEOUT_MS / 1_000
            );
            listener.log(Level::Warning, &text);
            return Ok(());
        }
        deleted = left;
        kubernetes.clock().sleep_ms(POLL_INTERVAL_MS);
    }
}

/// Returns the URL of the job in Ray's Jobs API.
fn job_url(job: &RayJob) -> Option<String> {
    Some(format!("{}/api/jobs/{}", job.dashboard()?, url::encode(&job.spec.job_id)))
}

fn check_status(response: Result<Response, Error>) -> Result<Response, Error> {
    let response = response?;
    match response.status {
        200..=299 => Ok(response),
        status => Err(Error::backend(status, "Refused", "Ray's dashboard rejected the request")),
    }
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::{
        http::Method,
        testing::{RecordingListener, ScriptedHttp, ScriptedResponse, VirtualClock},
    };
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_of_one_deletion_leaves_no_other_ray_job_and_is_reported() {
        let http = ScriptedHttp::with_rule(|request| {
            let (code, reason) = match request.method {
                Method::Delete if request.url.ends_with("/rayjobs/a") => (403, "Forbidden"),
                Method::Delete => return Some(ScriptedResponse::new(200, "{}")),
                _ => (404, "NotFound"),
            };
            let body = json!({"kind": "Status", "code": code, "reason": reason, "message": "m"});
            Some(ScriptedResponse::new(code, body.to_string()))
        });
        let kubernetes = Kubernetes::new(&http, VirtualClock::default());
        let jobs = ["a", "b", "c"].map(|name| {
            let metadata = json!({"name": name, "namespace": "ray", "uid": name});
            RayJob::read(&json!({"metadata": metadata, "spec": {"jobId": name}}))
        });
        let jobs: Vec<&RayJob> = jobs.iter().collect();
        let outcome = stop_jobs(&kubernetes, &jobs, 1_000, &RecordingListener::default());
        assert!(matches!(outcome, Err(Error::Backend(error)) if error.status == 403));
        let requests = http.requests();
        let deletions = requests.iter().filter(|request| request.method == Method::Delete);
        let names: Vec<&str> = deletions.filter_map(|request| request.url.rsplit('/').next()).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }
}
