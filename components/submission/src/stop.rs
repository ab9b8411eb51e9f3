//! Ending jobs, and returning only once Ray says that they have ended.

use dagster_ray_jobs::RayJobs;
use dagster_ray_sdk::{
    Error,
    clock::Clock,
    model::{JobState, JobStatus},
    sink::Listener,
    warn,
};

use crate::{look, status, withdrawal};

/// How long to wait for the end in all: twice what a run has between SIGTERM and SIGKILL.
const PATIENCE_MS: u64 = 120_000;
const FIRST_WAIT_MS: u64 = 100;
const LONGEST_WAIT_MS: u64 = 1_000;
/// A stop can get lost where a job's supervisor was being made or died: saying it again is safe.
const REPEAT_MS: u64 = 5_000;
/// How long a job may stay PENDING after its stop. One that is about to start needs less.
const PENDING_MS: u64 = 5_000;
/// A withdrawal costs a job of its own, and is not repeated sooner.
const WITHDRAW_AGAIN_MS: u64 = 30_000;
const REMOVAL_LOOKS: u32 = 12;
const BEFORE_REMOVAL_MS: u64 = 2_000;

/// What became of one job.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// Its status.
    pub status: JobStatus,
    /// Whether it had ended before anything was done.
    pub before: bool,
}

/// Stops jobs by their submission ids, and returns their ends in their order.
///
/// Jobs that have not started end too. What Ray cannot be asked for a while is asked again; a
/// caller that has given up is obeyed between two looks.
pub fn all(
    jobs: &impl RayJobs,
    clock: &impl Clock,
    submission_ids: &[String],
    listener: &impl Listener,
) -> Result<Vec<End>, Error> {
    let mut ends: Vec<End> = look::at(jobs, submission_ids)?
        .into_iter()
        .map(|status| End { before: status::is_over(status.state), status })
        .collect();
    let started = clock.now_ms();
    let mut wait = FIRST_WAIT_MS;
    let mut next_stop = started;
    let mut next_withdrawal = started + PENDING_MS;
    let mut withdrawals: Vec<String> = Vec::new();
    let mut withdrawn: Vec<String> = Vec::new();

    loop {
        let open: Vec<String> = ends
            .iter()
            .filter(|end| !status::is_over(end.status.state))
            .map(|end| end.status.submission_id.clone())
            .collect();
        if open.is_empty() {
            break;
        }
        if listener.cancelled() {
            return Err(Error::Cancelled);
        }
        let now = clock.now_ms();
        if now.saturating_sub(started) >= PATIENCE_MS {
            warn!("not ended {} s after they were stopped: {}", PATIENCE_MS / 1000, open.join(", "));
            return Err(Error::Timeout(PATIENCE_MS));
        }
        if now >= next_stop {
            next_stop = now + REPEAT_MS;
            stop(jobs, &open)?;
        }
        if now >= next_withdrawal {
            let pending: Vec<String> = ends
                .iter()
                .filter(|end| end.status.state == JobState::Pending)
                .map(|end| end.status.submission_id.clone())
                .collect();
            if !pending.is_empty() {
                next_withdrawal = now + WITHDRAW_AGAIN_MS;
                listener.progress(&format!("withdrawing what never started: {}", pending.join(", ")));
                withdrawals.extend(withdraw(jobs, &pending));
                withdrawn.extend(pending);
            }
        }
        clock.sleep_ms(wait);
        wait = (wait * 3 / 2).min(LONGEST_WAIT_MS);
        match look::at(jobs, &open) {
            Ok(statuses) => update(&mut ends, &open, statuses),
            // A stop that was said is in effect, whether or not Ray can be asked right now.
            Err(error) if error.is_transient() => warn!("asked in vain how the stop goes: {}", error.text()),
            Err(error) => return Err(error),
        }
    }

    for id in &withdrawals {
        // Nothing hangs on it: one that cannot be removed just stays in Ray's list.
        if let Err(error) = remove(jobs, clock, id) {
            warn!("the finished withdrawal {id} stays in Ray's list: {}", error.text());
        }
    }
    for end in &mut ends {
        let killed = end.status.error_type.as_deref() == Some(withdrawal::KILLED);
        if killed && withdrawn.contains(&end.status.submission_id) {
            end.status.state = JobState::Stopped;
            end.status.message = Some("withdrawn before it started".to_owned());
        }
    }
    Ok(ends)
}

fn stop(jobs: &impl RayJobs, open: &[String]) -> Result<(), Error> {
    for (id, answer) in open.iter().zip(jobs.stop_many(open)) {
        match answer {
            // What Ray does not know, or has seen end, the next look tells.
            Ok(_) | Err(Error::NotFound(_)) => {}
            Err(error) if error.is_transient() => {
                warn!("the stop of {id} may not have arrived: {}", error.text())
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn withdraw(jobs: &impl RayJobs, pending: &[String]) -> Option<String> {
    let found: Vec<_> = jobs.get_many(pending).into_iter().filter_map(Result::ok).collect();
    let waiting: Vec<_> = found.iter().filter(|job| job.status == "PENDING").collect();
    if waiting.is_empty() {
        return None;
    }
    match jobs.submit(&withdrawal::job(&waiting)) {
        Ok(id) => Some(id),
        Err(error) => {
            warn!("the withdrawal of {} was not accepted: {}", pending.join(", "), error.text());
            None
        }
    }
}

/// Ray only lets go of a job that has ended, and a withdrawal takes a moment longer than its effect.
/// A job that is removed before Ray's own look at it, once a second, comes back as a failed one.
fn remove(jobs: &impl RayJobs, clock: &impl Clock, id: &str) -> Result<bool, Error> {
    for _ in 0..REMOVAL_LOOKS {
        if jobs.get(id)?.has_ended() {
            break;
        }
        clock.sleep_ms(LONGEST_WAIT_MS / 4);
    }
    clock.sleep_ms(BEFORE_REMOVAL_MS);
    jobs.delete(id)
}

fn update(ends: &mut [End], open: &[String], statuses: Vec<JobStatus>) {
    for (id, status) in open.iter().zip(statuses) {
        for end in ends.iter_mut().filter(|end| end.status.submission_id == *id) {
            end.status = status.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::testing::{RecordingListener, VirtualClock};

    use super::*;
    use crate::fake::FakeRay;

    fn end(ray: &FakeRay, clock: &VirtualClock, ids: &[&str]) -> Result<Vec<End>, Error> {
        let ids: Vec<String> = ids.iter().map(|&id| id.to_owned()).collect();
        all(ray, clock, &ids, &RecordingListener::default())
    }

    #[test]
    fn many_are_stopped_together_and_what_had_ended_is_left_alone() {
        let ray = FakeRay::default();
        ray.add("a", "RUNNING");
        ray.add("b", "SUCCEEDED");
        ray.add("c", "RUNNING");
        let ends = end(&ray, &VirtualClock::default(), &["a", "b", "c", "d"]).expect("ends");
        let seen: Vec<(JobState, bool)> = ends.iter().map(|end| (end.status.state, end.before)).collect();
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
    fn a_job_that_can_never_start_is_withdrawn_and_nothing_is_left_behind() {
        let ray = FakeRay::default();
        ray.add_stubborn("dagster-run-r", "PENDING", 0);
        let clock = VirtualClock::default();
        let ends = end(&ray, &clock, &["dagster-run-r"]).expect("ends");
        assert_eq!(ends[0].status.state, JobState::Stopped);
        assert!(clock.now_ms() < 12_000);
        let calls = ray.calls();
        assert!(calls.iter().any(|call| call.starts_with("delete dagster-stop-")));
    }

    #[test]
    fn a_lost_stop_is_said_again() {
        let ray = FakeRay::default();
        ray.add_stubborn("a", "RUNNING", 2);
        assert_eq!(
            end(&ray, &VirtualClock::default(), &["a"]).expect("ends")[0].status.state,
            JobState::Stopped
        );
    }

    #[test]
    fn a_job_that_does_not_end_is_reported_as_such_after_a_bounded_time() {
        let ray = FakeRay::default();
        ray.add_stubborn("a", "RUNNING", 0);
        let clock = VirtualClock::default();
        assert!(matches!(end(&ray, &clock, &["a"]), Err(Error::Timeout(PATIENCE_MS))));
        assert!(clock.now_ms() <= PATIENCE_MS + LONGEST_WAIT_MS);
    }

    #[test]
    fn a_caller_that_gave_up_is_obeyed() {
        let ray = FakeRay::default();
        ray.add_stubborn("a", "RUNNING", 0);
        let listener = RecordingListener::default();
        listener.cancelled.set(true);
        let outcome = all(&ray, &VirtualClock::default(), &["a".to_owned()], &listener);
        assert!(matches!(outcome, Err(Error::Cancelled)));
    }
}
