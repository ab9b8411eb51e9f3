//! Stops Ray jobs and waits until Ray reports that they have ended.

use std::collections::HashSet;

use dagster_ray_jobs::{Job, RayJobs};
use dagster_ray_sdk::{
    Error,
    clock::Clock,
    model::{JobState, JobStatus},
    polling::Interval,
    progress::ProgressListener,
    warn,
};

use crate::{
    dead_nodes::Observer,
    kill_pending,
    status::{self, Located},
};

/// The total time to wait: twice the 60 s that Ray gives a run worker between SIGTERM and SIGKILL.
const TIMEOUT_MS: u64 = 120_000;
const FIRST_WAIT_MS: u64 = 100;
const MAX_WAIT_MS: u64 = 1_000;
/// The interval of repeated stop requests. One can get lost while a job's supervisor starts or dies, and
/// repeating it is safe.
const REPEAT_MS: u64 = 5_000;
/// How long a job may stay PENDING after its stop before it is killed. A job that is about to start needs
/// less.
const PENDING_MS: u64 = 5_000;
/// The minimum interval between kills of pending jobs. Each kill costs a Ray job.
const KILL_INTERVAL_MS: u64 = 30_000;
const REMOVAL_POLLS: u32 = 12;
const PAUSE_BEFORE_REMOVAL_MS: u64 = 2_000;

/// The outcome of stopping one job.
#[derive(Clone, Debug, PartialEq)]
pub struct StopOutcome {
    /// The job's final status.
    pub status: JobStatus,
    /// Whether the job had ended before the call.
    pub had_ended: bool,
}

/// Stops jobs by their submission ids, and returns the outcomes in the same order.
///
/// Pending jobs are killed. Transient errors are retried. Cancellation is checked between two polls.
///
/// # Errors
/// [`Error::Timeout`] if a job has not ended after 120 s, [`Error::Cancelled`] if the caller cancels.
pub fn stop_jobs(
    jobs: &impl RayJobs,
    clock: &impl Clock,
    submission_ids: &[String],
    listener: &impl ProgressListener,
) -> Result<Vec<StopOutcome>, Error> {
    stop(jobs, clock, status::read_all(jobs, submission_ids)?, listener, |ids| status::read_all(jobs, ids))
}

/// Stops jobs that Ray has just listed, and returns the outcomes in the same order.
///
/// Does what [`stop_jobs`] does with fewer requests: the list is not read again, and a few jobs are polled by
/// their ids. Ray reads one record for each job that was ever submitted to return its list.
///
/// # Errors
/// Those of [`stop_jobs`].
pub fn stop_listed(
    jobs: &impl RayJobs,
    clock: &impl Clock,
    listed: &[&Job],
    listener: &impl ProgressListener,
) -> Result<Vec<StopOutcome>, Error> {
    let known =
        listed.iter().filter_map(|job| Some(Located::of_job(job.submission_id.as_deref()?, job))).collect();
    stop(jobs, clock, known, listener, |ids| status::read_listed(jobs, ids))
}

/// Stops jobs with these statuses. `read` returns the statuses of jobs by their submission ids.
fn stop(
    jobs: &impl RayJobs,
    clock: &impl Clock,
    statuses: Vec<Located>,
    listener: &impl ProgressListener,
    read: impl Fn(&[String]) -> Result<Vec<Located>, Error>,
) -> Result<Vec<StopOutcome>, Error> {
    let mut kill_jobs = Vec::new();
    let outcomes = stop_until_ended(jobs, clock, statuses, listener, read, &mut kill_jobs);
    for id in &kill_jobs {
        // Not fatal: a job that cannot be deleted only stays in Ray's job list.
        if let Err(error) = remove(jobs, clock, id) {
            warn!("cannot delete the Ray job {id}, which killed pending jobs: {}", error.message());
        }
    }
    outcomes
}

/// Stops jobs, and adds the submission ids of the jobs that kill pending ones to `kill_jobs`.
fn stop_until_ended(
    jobs: &impl RayJobs,
    clock: &impl Clock,
    statuses: Vec<Located>,
    listener: &impl ProgressListener,
    read: impl Fn(&[String]) -> Result<Vec<Located>, Error>,
    kill_jobs: &mut Vec<String>,
) -> Result<Vec<StopOutcome>, Error> {
    let mut outcomes: Vec<StopOutcome> = statuses
        .into_iter()
        .map(|Located { status, .. }| StopOutcome { had_ended: status.ended, status })
        .collect();
    let started = clock.now_ms();
    let mut interval = Interval::new(FIRST_WAIT_MS, MAX_WAIT_MS);
    let mut next_stop = started;
    let mut next_kill = started + PENDING_MS;
    let mut kill_targets: Vec<String> = Vec::new();
    let mut nodes = Observer::default();
    // No agent on a dead node responds to a stop request, which Ray's head waits for.
    let mut unreachable: HashSet<String> = HashSet::new();

    loop {
        let open: Vec<String> = outcomes
            .iter()
            .filter(|outcome| !outcome.status.ended)
            .map(|outcome| outcome.status.submission_id.clone())
            .collect();
        if open.is_empty() {
            break;
        }
        if listener.cancelled() {
            return Err(Error::Cancelled);
        }
        let now = clock.now_ms();
        if now.saturating_sub(started) >= TIMEOUT_MS {
            warn!("Ray jobs still alive {} s after the stop request: {}", TIMEOUT_MS / 1000, open.join(", "));
            return Err(Error::Timeout(TIMEOUT_MS));
        }
        if now >= next_stop {
            next_stop = now + REPEAT_MS;
            let reachable: Vec<String> =
                open.iter().filter(|id| !unreachable.contains(*id)).cloned().collect();
            send_stops(jobs, &reachable)?;
        }
        if now >= next_kill {
            let pending: Vec<String> = outcomes
                .iter()
                .filter(|outcome| outcome.status.state == JobState::Pending)
                .map(|outcome| outcome.status.submission_id.clone())
                .collect();
            if !pending.is_empty() {
                next_kill = now + KILL_INTERVAL_MS;
                listener.progress(&format!("killing pending Ray jobs: {}", pending.join(", ")));
                kill_jobs.extend(submit_kill_job(jobs, &pending));
                kill_targets.extend(pending);
            }
        }
        interval.sleep(clock);
        match read(&open) {
            Ok(mut statuses) => {
                nodes.apply(jobs, clock, &mut statuses);
                let dead = statuses.iter().filter(|job| nodes.is_dead(job));
                unreachable = dead.map(|job| job.status.submission_id.clone()).collect();
                update(&mut outcomes, &open, statuses);
            }
            // The stop request stays in effect while the dashboard is unreachable.
            Err(error) if error.is_transient() => {
                warn!("cannot read the status of the jobs being stopped, retrying: {}", error.message())
            }
            Err(error) => return Err(error),
        }
    }

    for outcome in &mut outcomes {
        let killed = outcome.status.error_type.as_deref() == Some(kill_pending::SUPERVISOR_DIED);
        if killed && kill_targets.contains(&outcome.status.submission_id) {
            outcome.status.state = JobState::Stopped;
            outcome.status.message = Some("killed before it started".to_owned());
        }
    }
    Ok(outcomes)
}

fn send_stops(jobs: &impl RayJobs, open: &[String]) -> Result<(), Error> {
    for (id, response) in open.iter().zip(jobs.stop_many(open)) {
        match response {
            // The next poll finds jobs that are missing or have ended.
            Ok(_) | Err(Error::NotFound(_)) => {}
            Err(error) if error.is_transient() => {
                warn!("the stop request for the Ray job {id} failed, retrying: {}", error.message())
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn submit_kill_job(jobs: &impl RayJobs, pending: &[String]) -> Option<String> {
    let found: Vec<_> = jobs.get_many(pending).into_iter().filter_map(Result::ok).collect();
    let waiting: Vec<_> = found.iter().filter(|job| job.status == "PENDING").collect();
    if waiting.is_empty() {
        return None;
    }
    match jobs.submit(&kill_pending::kill_job(&waiting)) {
        Ok(id) => Some(id),
        Err(error) => {
            warn!("cannot kill the pending Ray jobs {}: {}", pending.join(", "), error.message());
            None
        }
    }
}

/// Deletes a kill job from Ray's job list once it has ended.
///
/// Ray only deletes jobs that have ended, and the kill job ends shortly after the jobs that it kills.
/// The pause before the deletion exceeds Ray's polling interval of 1 s: a job that is deleted before
/// Ray polls it reappears as failed.
fn remove(jobs: &impl RayJobs, clock: &impl Clock, id: &str) -> Result<bool, Error> {
    for _ in 0..REMOVAL_POLLS {
        if jobs.get(id)?.has_ended() {
            break;
        }
        clock.sleep_ms(MAX_WAIT_MS / 4);
    }
    clock.sleep_ms(PAUSE_BEFORE_REMOVAL_MS);
    jobs.delete(id)
}

fn update(outcomes: &mut [StopOutcome], open: &[String], statuses: Vec<Located>) {
    for (id, Located { status, .. }) in open.iter().zip(statuses) {
        for outcome in outcomes.iter_mut().filter(|outcome| outcome.status.submission_id == *id) {
            outcome.status = status.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::testing::{RecordingListener, VirtualClock};

    use super::*;
    use crate::fake::FakeRay;

    fn stop_ids(ray: &FakeRay, clock: &VirtualClock, ids: &[&str]) -> Result<Vec<StopOutcome>, Error> {
        let ids: Vec<String> = ids.iter().map(|&id| id.to_owned()).collect();
        stop_jobs(ray, clock, &ids, &RecordingListener::default())
    }

    #[test]
    fn live_jobs_are_stopped_with_one_request_and_ended_jobs_are_left_alone() {
        let ray = FakeRay::default();
        ray.add("a", "RUNNING");
        ray.add("b", "SUCCEEDED");
        ray.add("c", "RUNNING");
        let outcomes = stop_ids(&ray, &VirtualClock::default(), &["a", "b", "c", "d"]).expect("outcomes");
        let seen: Vec<(JobState, bool)> =
            outcomes.iter().map(|outcome| (outcome.status.state, outcome.had_ended)).collect();
        assert_eq!(
            seen,
            [
                (JobState::Stopped, false),
                (JobState::Succeeded, true),
                (JobState::Stopped, false),
                (JobState::Missing, true),
            ]
        );
        let stops: Vec<String> = ray.calls().into_iter().filter(|call| call.starts_with("stop")).collect();
        assert_eq!(stops, ["stop a c"]);
    }

    #[test]
    fn a_job_that_never_starts_is_killed_and_the_kill_job_is_deleted() {
        let ray = FakeRay::default();
        ray.add_ignoring_stops("dagster-run-r", "PENDING", 0);
        let clock = VirtualClock::default();
        let outcomes = stop_ids(&ray, &clock, &["dagster-run-r"]).expect("outcomes");
        assert_eq!(outcomes[0].status.state, JobState::Stopped);
        assert!(clock.now_ms() < 12_000);
        let calls = ray.calls();
        assert!(calls.iter().any(|call| call.starts_with("delete dagster-stop-")));
    }

    #[test]
    fn the_kill_job_is_deleted_when_another_job_does_not_end() {
        let ray = FakeRay::default();
        ray.add_ignoring_stops("dagster-step-pending", "PENDING", 0);
        ray.add_ignoring_stops("dagster-step-running", "RUNNING", 0);
        let ids = ["dagster-step-pending", "dagster-step-running"];
        assert!(matches!(stop_ids(&ray, &VirtualClock::default(), &ids), Err(Error::Timeout(TIMEOUT_MS))));
        let kill_jobs: Vec<String> = ray.submitted().into_iter().map(|id| format!("delete {id}")).collect();
        let calls = ray.calls();
        let deletions: Vec<String> = calls.into_iter().filter(|call| call.starts_with("delete ")).collect();
        assert_eq!(kill_jobs.len(), 1);
        assert_eq!(deletions, kill_jobs);
    }

    #[test]
    fn a_lost_stop_request_is_repeated() {
        let ray = FakeRay::default();
        ray.add_ignoring_stops("a", "RUNNING", 2);
        assert_eq!(
            stop_ids(&ray, &VirtualClock::default(), &["a"]).expect("outcomes")[0].status.state,
            JobState::Stopped
        );
    }

    #[test]
    fn a_job_that_does_not_end_is_reported_as_a_timeout() {
        let ray = FakeRay::default();
        ray.add_ignoring_stops("a", "RUNNING", 0);
        let clock = VirtualClock::default();
        assert!(matches!(stop_ids(&ray, &clock, &["a"]), Err(Error::Timeout(TIMEOUT_MS))));
        assert!(clock.now_ms() <= TIMEOUT_MS + MAX_WAIT_MS);
    }

    #[test]
    fn a_cancelled_call_returns_cancelled() {
        let ray = FakeRay::default();
        ray.add_ignoring_stops("a", "RUNNING", 0);
        let listener = RecordingListener::default();
        listener.cancelled.set(true);
        let outcome = stop_jobs(&ray, &VirtualClock::default(), &["a".to_owned()], &listener);
        assert!(matches!(outcome, Err(Error::Cancelled)));
    }
}
