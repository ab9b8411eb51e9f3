//! Reads job statuses with as few requests as Ray's Jobs API allows.

use std::collections::HashMap;

use dagster_ray_jobs::{Job, RayJobs};
use dagster_ray_sdk::{Error, model::JobStatus};

use crate::{ids, status};

/// Returns the statuses of jobs by their submission ids, in the same order.
///
/// If a job was submitted again, the status is that of the latest submission. One job is read by its id,
/// several with one request for Ray's job list. A job is missing only if Ray reports so; an unreachable
/// Ray is an error.
pub fn at(jobs: &impl RayJobs, submission_ids: &[String]) -> Result<Vec<JobStatus>, Error> {
    match submission_ids {
        [] => Ok(Vec::new()),
        [one] => at_one(jobs, one).map(|status| vec![status]),
        many => {
            let listed = jobs.list()?;
            let latest = latest(&listed);
            Ok(many.iter().map(|id| pick(&latest, id)).collect())
        }
    }
}

fn at_one(jobs: &impl RayJobs, submission_id: &str) -> Result<JobStatus, Error> {
    let (first, mut launches) = ids::base(submission_id);
    let mut status = match jobs.get(submission_id) {
        Ok(job) if !job.has_ended() => return Ok(status::of(submission_id, &job)),
        Ok(job) => status::of(submission_id, &job),
        Err(Error::NotFound(_)) => return Ok(status::missing(submission_id)),
        Err(error) => return Err(error),
    };
    // Only a job that has ended can have a successor.
    loop {
        launches += 1;
        let next = ids::again(first, launches);
        match jobs.get(&next) {
            Ok(job) => status = status::of(&next, &job),
            Err(Error::NotFound(_)) => return Ok(status),
            Err(error) => return Err(error),
        }
    }
}

fn latest(listed: &[Job]) -> HashMap<&str, (u32, &str, &Job)> {
    let mut latest: HashMap<&str, (u32, &str, &Job)> = HashMap::new();
    for job in listed {
        let Some(id) = job.submission_id.as_deref() else { continue };
        let (first, launches) = ids::base(id);
        let known = latest.entry(first).or_insert((launches, id, job));
        if known.0 < launches {
            *known = (launches, id, job);
        }
    }
    latest
}

fn pick(latest: &HashMap<&str, (u32, &str, &Job)>, submission_id: &str) -> JobStatus {
    let (first, launches) = ids::base(submission_id);
    match latest.get(first) {
        Some((found, id, job)) if *found >= launches => status::of(id, job),
        _ => status::missing(submission_id),
    }
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::model::JobState;

    use super::*;
    use crate::fake::FakeRay;

    fn ids(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn many_jobs_are_read_with_one_request_and_the_latest_launch_counts() {
        let ray = FakeRay::default();
        ray.add("a", "RUNNING");
        ray.add("b-again2", "RUNNING");
        ray.add("b-again10", "STOPPED");
        ray.add("b", "FAILED");
        let found = at(&ray, &ids(&["b", "a", "c", "b-again2"])).expect("statuses");
        let states: Vec<JobState> = found.iter().map(|status| status.state).collect();
        assert_eq!(states, [JobState::Stopped, JobState::Running, JobState::Missing, JobState::Stopped]);
        assert_eq!(found[0].submission_id, "b-again10");
        assert_eq!(ray.calls(), ["list"]);
    }

    #[test]
    fn one_live_job_costs_one_request_and_an_ended_job_yields_its_latest_launch() {
        let ray = FakeRay::default();
        ray.add("a", "RUNNING");
        at(&ray, &ids(&["a"])).expect("a status");
        assert_eq!(ray.calls(), ["get a"]);

        ray.add("b", "FAILED");
        ray.add("b-again1", "RUNNING");
        let found = at(&ray, &ids(&["b"])).expect("a status");
        assert_eq!(found[0].submission_id, "b-again1");
    }

    #[test]
    fn jobs_of_an_unreachable_ray_are_not_reported_missing() {
        let ray = FakeRay::default();
        ray.add("a", "RUNNING");
        ray.fail_reads(true);
        for names in [ids(&["a"]), ids(&["a", "b"])] {
            assert!(matches!(at(&ray, &names), Err(Error::Unavailable(_))));
        }
    }
}
