//! Ending RayJobs: their Ray jobs first, so that the work can clean up, then everything that was
//! made for them.
//!
//! A RayJob that is deleted takes its cluster along at once, and KubeRay asks Ray to stop the job
//! without waiting for it. So it is stopped here, where it has begun; where it has not, there is
//! nothing to wait for.

use std::collections::BTreeMap;

use dagster_ray_jobs::Job;
use dagster_ray_sdk::{
    Error,
    clock::Clock,
    error::malformed,
    http::{Http, Request, Response, url},
    model::{JobState, JobStatus},
    sink::{Level, Listener},
};
use dagster_ray_submission::status as ray;

use super::status::RayJob;
use crate::kubernetes::{Kubernetes, Precondition, RAY_JOB, object};

const LOOK_MS: u64 = 500;
const LOOKING: &str = "looking at a stopped job";
/// Ray's word for a job that waits for its resources.
const PENDING: &str = "PENDING";
/// A dashboard that fails so often in a row is gone.
const FAILURES: u32 = 4;
/// How long KubeRay may take to let go of a RayJob.
const GOING_MS: u64 = 15_000;

/// What became of a RayJob.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// Its status.
    pub status: JobStatus,
    /// Whether it had ended before anything was done.
    pub before: bool,
}

/// Stops RayJobs, waits until their work has ended, for as long as it may take, and deletes them.
pub fn all<H: Http, C: Clock>(
    kubernetes: &Kubernetes<H, C>,
    jobs: &[&RayJob],
    patience_ms: u64,
    listener: &impl Listener,
) -> Result<Vec<End>, Error> {
    let mut ends: Vec<End> = jobs
        .iter()
        .map(|job| {
            let status = job.status();
            End { before: ray::is_over(status.state), status }
        })
        .collect();
    let mut open: BTreeMap<usize, (String, u32)> = jobs
        .iter()
        .enumerate()
        // KubeRay looks at Ray every few seconds only: what it calls pending may run by now.
        .filter(|(index, job)| !ends[*index].before && !job.is_deleting())
        .filter_map(|(index, job)| Some((index, (job_url(job)?, 0))))
        .collect();

    let stops = open.values().map(|(job, _)| Request::post(format!("{job}/stop"))).collect();
    for (index, answer) in
        open.keys().copied().collect::<Vec<_>>().into_iter().zip(kubernetes.http().send_all(stops))
    {
        if let Err(error) = succeeded(answer) {
            open.remove(&index);
            if ends[index].status.state != JobState::Running {
                continue;
            }
            listener.log(
                Level::Warning,
                &format!("{} is deleted without a stop: {}", jobs[index].metadata.name, error.text()),
            );
        }
    }
    let until = kubernetes.clock().now_ms().saturating_add(patience_ms);
    while !open.is_empty() && kubernetes.clock().now_ms() < until {
        if listener.cancelled() {
            return Err(Error::Cancelled);
        }
        kubernetes.clock().sleep_ms(LOOK_MS);
        look(kubernetes, &mut open, &mut ends);
    }

    let mut going = Vec::new();
    for job in jobs {
        let meant = Precondition { uid: Some(job.metadata.uid.clone()), resource_version: None };
        kubernetes.delete(RAY_JOB, &job.metadata.namespace, &job.metadata.name, &meant)?;
        going.push(*job);
    }
    wait_until_gone(kubernetes, going, listener)?;
    for end in &mut ends {
        if !ray::is_over(end.status.state) {
            end.status.state = JobState::Stopped;
            end.status.message = Some("stopped, and removed".to_owned());
        }
    }
    Ok(ends)
}

fn look<H: Http, C: Clock>(
    kubernetes: &Kubernetes<H, C>,
    open: &mut BTreeMap<usize, (String, u32)>,
    ends: &mut [End],
) {
    let indices: Vec<usize> = open.keys().copied().collect();
    let looks = open.values().map(|(job, _)| Request::get(job.clone())).collect();
    for (index, answer) in indices.into_iter().zip(kubernetes.http().send_all(looks)) {
        let job = succeeded(answer).and_then(|mut response| response.json(LOOKING, &Job::LEFT_OUT));
        match job.and_then(|job| Job::read(&job).map_err(|problem| malformed(LOOKING, &problem))) {
            Ok(job) if job.has_ended() => {
                let id = ends[index].status.submission_id.clone();
                ends[index].status = ray::of(&id, &job);
                open.remove(&index);
            }
            // Ray cannot stop what it has not started, and there is nothing to clean up.
            Ok(job) if job.status == PENDING => {
                open.remove(&index);
            }
            Ok(_) => {}
            Err(_) => {
                let failures = open.get_mut(&index).map_or(FAILURES, |(_, failures)| {
                    *failures += 1;
                    *failures
                });
                if failures >= FAILURES {
                    open.remove(&index);
                }
            }
        }
    }
}

fn wait_until_gone<H: Http, C: Clock>(
    kubernetes: &Kubernetes<H, C>,
    mut going: Vec<&RayJob>,
    listener: &impl Listener,
) -> Result<(), Error> {
    let until = kubernetes.clock().now_ms().saturating_add(GOING_MS);
    loop {
        let mut left = Vec::new();
        for job in going {
            match kubernetes.get(RAY_JOB, &job.metadata.namespace, &job.metadata.name) {
                Ok(there) if object::uid(&there) == job.metadata.uid => left.push(job),
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
                "the RayJob {}/{} is deleted, and goes as soon as KubeRay's operator lets go of it; does it run?",
                first.metadata.namespace, first.metadata.name
            );
            listener.log(Level::Warning, &text);
            return Ok(());
        }
        going = left;
        kubernetes.clock().sleep_ms(LOOK_MS);
    }
}

/// The job in Ray's Jobs API.
fn job_url(job: &RayJob) -> Option<String> {
    Some(format!("{}/api/jobs/{}", job.dashboard()?, url::encode(&job.spec.job_id)))
}

fn succeeded(answer: Result<Response, Error>) -> Result<Response, Error> {
    let response = answer?;
    match response.status {
        200..=299 => Ok(response),
        status => Err(Error::backend(status, "Refused", "Ray's dashboard refuses")),
    }
}
