//! Follows a script's output across executions of its RayJob.
//!
//! Each execution has its own log. There is a further one if KubeRay retries the job (`backoffLimit`) or resumes it
//! after a suspension, each time on a new RayCluster, and if the head was lost: KubeRay or its submitter then submits
//! the job again on the same RayCluster. The job's name and id stay. Ray's start time of the job tells the
//! executions apart.

use std::cell::Cell;

use dagster_ray_jobs::{
    Job, JobsClient, RayJobs,
    logs::{FollowAction, FollowOptions, FollowResult},
};
use dagster_ray_sdk::{
    Error,
    bindings::pipes::Followed,
    clock::Clock,
    http::Http,
    model::{JobRef, JobState},
    progress::{Level, ProgressListener},
    retry::Policy,
};
use dagster_ray_submission::{follow, patience::StartLimit, scripts::parse_position};

use super::{
    Pipes,
    progress::{JobWatch, Seen},
    ray_job_location,
};
use crate::{
    job::status::RayJob,
    kubernetes::{Kubernetes, RAY_CLUSTER, RAY_JOB, object},
};

/// The interval at which Ray is asked for the job's next execution.
const POLL_INTERVAL_MS: u64 = 1_000;
/// The interval at which the API server is asked whether an unreachable Ray still exists.
const CHECK_INTERVAL_MS: u64 = 2_000;

/// How far a script's output was delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    /// The number of bytes delivered of the execution's log.
    bytes: u64,
    /// The start time of the execution, once it is known, in milliseconds of Ray's clock.
    execution: Option<u64>,
}

impl Position {
    /// Parses the result of an earlier [`Position::to_text`].
    fn parse(from: Option<&str>) -> Result<Self, Error> {
        match from.and_then(|from| from.split_once('@')) {
            Some((bytes, execution)) => Ok(Self {
                bytes: parse_position(Some(bytes))?,
                execution: Some(parse_position(Some(execution))?),
            }),
            None => Ok(Self { bytes: parse_position(from)?, execution: None }),
        }
    }

    fn to_text(self) -> String {
        let execution = self.execution.map(|started| format!("@{started}")).unwrap_or_default();
        format!("{}{execution}", self.bytes)
    }

    fn followed(self, complete: bool) -> Followed {
        Followed { position: self.to_text(), complete }
    }
}

/// What there is to follow.
enum Next<J> {
    /// An execution of the job.
    Execution { jobs: J, cluster: String, started: u64 },
    /// Nothing: the RayJob has ended or does not exist.
    Nothing,
    /// The job has ended, and its output is lost with its RayCluster.
    Lost,
    /// The job has ended, and its Ray has been unreachable for as long as `patience` allows.
    Unreachable,
}

impl<H: Http, C: Clock> Pipes<H, C> {
    /// Delivers a script's output to the listener, from the beginning of each execution. Ends when KubeRay will
    /// not run the script again.
    ///
    /// # Errors
    /// [`Error::Timeout`] if the first execution does not start within
    /// [`start_seconds`](dagster_ray_submission::patience::Patience::start_seconds).
    pub fn follow(
        &self,
        job: &JobRef,
        from: Option<&str>,
        listener: &impl ProgressListener,
    ) -> Result<Followed, Error> {
        let mut position = Position::parse(from)?;
        let location = ray_job_location(job)?;
        let kubernetes = &self.clusters.kubernetes;
        let (unreachable, clock) = (kubernetes.patience().unreachable(), kubernetes.clock());
        let mut start = match position.execution {
            None => kubernetes.patience().start(clock),
            Some(_) => StartLimit::default(),
        };
        // The execution whose log was followed to its end, and whether its RayCluster was deleted before.
        let (mut done, mut is_lost) = (None, false);
        loop {
            let (jobs, cluster, started) =
                match self.next_execution(job, &location, done, &mut start, listener)? {
                    Next::Execution { jobs, cluster, started } => (jobs, cluster, started),
                    Next::Nothing if !is_lost => return Ok(position.followed(true)),
                    Next::Unreachable => return Ok(position.followed(false)),
                    Next::Nothing | Next::Lost => {
                        warn_of_loss(&location, listener);
                        return Ok(position.followed(true));
                    }
                };
            if position.execution.is_some_and(|known| known != started) {
                let text = format!(
                    "the script runs again, on the RayCluster {}/{cluster}: its output starts from the beginning",
                    location.0
                );
                listener.log(Level::Warning, &text);
                position.bytes = 0;
            }
            position.execution = Some(started);
            let execution = Execution::new(jobs, kubernetes, &location, cluster, started);
            let reached = follow::follow(
                &execution,
                clock,
                unreachable,
                start,
                &job.submission_id,
                position.bytes,
                listener,
            )?;
            position.bytes = reached.position;
            // A further execution is a retry, which may take longer.
            start = StartLimit::default();
            if !reached.complete {
                return Ok(position.followed(false));
            }
            (done, is_lost) = (Some(started), execution.is_lost.get());
        }
    }

    /// Waits for an execution other than `done`, or for the end of the RayJob.
    fn next_execution<'k>(
        &'k self,
        job: &JobRef,
        (namespace, name): &(String, String),
        done: Option<u64>,
        start: &mut StartLimit,
        listener: &impl ProgressListener,
    ) -> Result<Next<JobsClient<&'k H, &'k C>>, Error> {
        let kubernetes = &self.clusters.kubernetes;
        let clock = kubernetes.clock();
        let unreachable_ms = kubernetes.patience().unreachable().patience_ms;
        let mut watch = JobWatch::new(kubernetes, namespace, name, job, listener);
        let mut polled_ms = None;
        let mut unreachable_since_ms = None;
        loop {
            match watch.next()? {
                Seen::Deleted(_) => return Ok(Next::Nothing),
                Seen::Changed => polled_ms = None,
                Seen::Nothing => {}
            }
            let Some(found) = watch.current() else { continue };
            if found.is_suspended() {
                start.restart(clock);
            } else if found.status().state == JobState::Pending
                && let Some(limit_ms) = start.exceeded(clock)
            {
                return Err(Error::Timeout(limit_ms));
            }
            let now = clock.now_ms();
            if polled_ms.is_some_and(|polled| now.saturating_sub(polled) < POLL_INTERVAL_MS) {
                continue;
            }
            polled_ms = Some(now);
            let has_ended = found.status().ended;
            let dashboard = self.dashboard.clone().or_else(|| found.dashboard());
            let Some(dashboard) = dashboard.filter(|_| !found.status.job_status.is_empty()) else {
                if has_ended {
                    return Ok(Next::Nothing);
                }
                continue;
            };
            let jobs = kubernetes.ray_jobs(&dashboard)?.limited(Policy::ONCE, None);
            match jobs.get(&job.submission_id) {
                Ok(current) => {
                    unreachable_since_ms = None;
                    let started = start_time(&current);
                    if done != Some(started) {
                        let cluster = found.status.ray_cluster_name.clone();
                        return Ok(Next::Execution { jobs, cluster, started });
                    }
                    if has_ended {
                        return Ok(Next::Nothing);
                    }
                }
                // A restarted head does not know the job until it is submitted again.
                Err(Error::NotFound(_)) if !has_ended => unreachable_since_ms = None,
                Err(Error::NotFound(_)) => return Ok(Next::Nothing),
                Err(_) if !has_ended => {}
                Err(_) if done.is_some() => return Ok(Next::Nothing),
                Err(_) if is_cluster_gone(kubernetes, namespace, &found.status.ray_cluster_name) => {
                    return Ok(Next::Lost);
                }
                Err(_) => {
                    let since = *unreachable_since_ms.get_or_insert(now);
                    if clock.now_ms().saturating_sub(since) >= unreachable_ms {
                        return Ok(Next::Unreachable);
                    }
                }
            }
        }
    }
}

/// The Jobs API of one execution. A later execution and a deleted RayCluster look like a missing job, which ends
/// [`follow::follow`].
struct Execution<'k, J, H, C> {
    jobs: J,
    kubernetes: &'k Kubernetes<H, C>,
    location: &'k (String, String),
    cluster: String,
    started: u64,
    checked_ms: Cell<Option<u64>>,
    /// Whether the execution's RayCluster was deleted before its whole log was read.
    is_lost: Cell<bool>,
}

impl<'k, J, H: Http, C: Clock> Execution<'k, J, H, C> {
    fn new(
        jobs: J,
        kubernetes: &'k Kubernetes<H, C>,
        location: &'k (String, String),
        cluster: String,
        started: u64,
    ) -> Self {
        let (checked_ms, is_lost) = (Cell::new(None), Cell::new(false));
        Self { jobs, kubernetes, location, cluster, started, checked_ms, is_lost }
    }

    /// Returns whether an unreachable Ray will never be reachable again: its RayCluster does not exist, or the
    /// RayJob has another one. Asks the API server at most every [`CHECK_INTERVAL_MS`].
    fn is_gone(&self) -> bool {
        let now = self.kubernetes.clock().now_ms();
        if self.checked_ms.get().is_some_and(|at| now.saturating_sub(at) < CHECK_INTERVAL_MS) {
            return self.is_lost.get();
        }
        self.checked_ms.set(Some(now));
        let (namespace, name) = self.location;
        let has_moved = match self.kubernetes.get(RAY_JOB, namespace, name) {
            Ok(document) => RayJob::read(&document).status.ray_cluster_name != self.cluster,
            Err(Error::NotFound(_)) => true,
            Err(_) => return false,
        };
        let is_gone = has_moved || is_cluster_gone(self.kubernetes, namespace, &self.cluster);
        self.is_lost.set(is_gone);
        is_gone
    }
}

impl<J: RayJobs, H: Http, C: Clock> RayJobs for Execution<'_, J, H, C> {
    dagster_ray_jobs::forward!(
        jobs:
        limited, version, submit, list, get_many, are_nodes_dead, stop_many, delete, delete_many, logs,
        prepare_runtime_env, dashboard_url,
    );

    fn get(&self, submission_id: &str) -> Result<Job, Error> {
        match self.jobs.get(submission_id) {
            Ok(job) if start_time(&job) != self.started => {
                Err(Error::NotFound("the job was submitted again".to_owned()))
            }
            Err(error) if error.is_transient() && self.is_gone() => {
                Err(Error::NotFound(format!("the RayCluster {} was deleted", self.cluster)))
            }
            found => found,
        }
    }

    fn follow_logs(
        &self,
        id: &str,
        options: &FollowOptions,
        next: &mut dyn FnMut() -> FollowAction,
        deliver: &mut dyn FnMut(Vec<Vec<u8>>),
    ) -> Result<FollowResult, Error> {
        // The position is one of this execution's log.
        self.get(id)?;
        self.jobs.follow_logs(id, options, next, deliver)
    }
}

/// Returns the time of a job's submission, which Ray sets once.
fn start_time(job: &Job) -> u64 {
    job.start_time.unwrap_or_default()
}

fn is_cluster_gone<H: Http, C: Clock>(kubernetes: &Kubernetes<H, C>, namespace: &str, cluster: &str) -> bool {
    match kubernetes.get(RAY_CLUSTER, namespace, cluster) {
        Ok(found) => object::is_deleting(&found),
        Err(error) => matches!(error, Error::NotFound(_)),
    }
}

fn warn_of_loss((namespace, name): &(String, String), listener: &impl ProgressListener) {
    let text = format!(
        "output of the RayJob {namespace}/{name} may be missing: its RayCluster was deleted before the output was \
         read; a larger ttlSecondsAfterFinished keeps the RayCluster for longer"
    );
    listener.log(Level::Warning, &text);
}

#[cfg(test)]
mod tests;
