//! Reads job statuses with as few requests as Ray's Jobs API allows, and converts them to the contract's
//! records.

use std::collections::HashMap;

use dagster_ray_jobs::{Job, RayJobs};
use dagster_ray_sdk::{
    Error,
    model::{JobState, JobStatus},
};

use crate::ids;

/// How many jobs at most are read by their ids. Ray reads a record for each job of its list, mostly of jobs that have
/// ended, so reading single jobs is cheaper for a few.
const FEW: usize = 8;

/// Converts Ray's status string to a state.
#[must_use]
pub fn state(status: &str) -> JobState {
    match status {
        "PENDING" => JobState::Pending,
        "RUNNING" => JobState::Running,
        "SUCCEEDED" => JobState::Succeeded,
        "FAILED" => JobState::Failed,
        "STOPPED" => JobState::Stopped,
        _ => JobState::Unknown,
    }
}

/// Converts a job record of Ray's Jobs API to a status.
#[must_use]
pub fn from_job(submission_id: &str, job: &Job) -> JobStatus {
    let state = state(&job.status);
    let message = match state {
        JobState::Unknown => Some(format!("Ray reports the unknown job status `{}`", job.status)),
        _ => job.message.clone(),
    };
    JobStatus {
        message,
        error_type: job.error_type.clone(),
        exit_code: job.driver_exit_code,
        ..JobStatus::new(submission_id, state)
    }
}

/// The status of a job, and where its entrypoint runs.
#[derive(Clone, Debug)]
pub struct Located {
    /// The status.
    pub status: JobStatus,
    /// The id of the node, while Ray reports the job as running.
    pub node: Option<String>,
}

impl Located {
    /// Returns the status of a job that Ray reports.
    #[must_use]
    pub fn of_job(submission_id: &str, job: &Job) -> Self {
        let node = job.driver_node_id.clone().filter(|_| job.is_alive());
        Self { status: from_job(submission_id, job), node }
    }

    /// Returns the status of a job that Ray does not have.
    #[must_use]
    pub fn missing(submission_id: &str) -> Self {
        Self { status: missing(submission_id), node: None }
    }
}

/// Returns the status of a job that Ray does not have.
#[must_use]
pub fn missing(submission_id: &str) -> JobStatus {
    JobStatus {
        message: Some(format!("Ray has no job `{submission_id}`")),
        ..JobStatus::new(submission_id, JobState::Missing)
    }
}

/// Returns the statuses of jobs by their submission ids, in the same order.
///
/// If a job was submitted again, the status is that of the latest submission. A few jobs are read by their ids,
/// more with one request for Ray's job list. A job is missing only if Ray reports so; an unreachable
/// Ray is an error.
pub fn read_all(jobs: &impl RayJobs, submission_ids: &[String]) -> Result<Vec<Located>, Error> {
    match submission_ids {
        [] => Ok(Vec::new()),
        few if few.len() <= FEW => {
            let read = few.iter().zip(jobs.get_many(few));
            read.map(|(id, answer)| latest_of(jobs, id, answer)).collect()
        }
        many => {
            let listed = jobs.list()?;
            let latest = latest(&listed);
            Ok(many.iter().map(|id| pick(&latest, id)).collect())
        }
    }
}

/// Returns the statuses of jobs by exact submission ids that Ray has listed, in the same order. A later
/// submission does not count. A few jobs are read by their ids, more with one request for Ray's job list.
pub fn read_listed(jobs: &impl RayJobs, submission_ids: &[String]) -> Result<Vec<Located>, Error> {
    if submission_ids.len() > FEW {
        let listed = jobs.list()?;
        let find = |id: &String| listed.iter().find(|job| job.submission_id.as_ref() == Some(id));
        let status =
            |id: &String| find(id).map_or_else(|| Located::missing(id), |job| Located::of_job(id, job));
        return Ok(submission_ids.iter().map(status).collect());
    }
    let read = submission_ids.iter().zip(jobs.get_many(submission_ids));
    read.map(|(id, answer)| match answer {
        Ok(job) => Ok(Located::of_job(id, &job)),
        Err(Error::NotFound(_)) => Ok(Located::missing(id)),
        Err(error) => Err(error),
    })
    .collect()
}

/// Returns the status of a job's latest launch. `answer` is that of the launch `submission_id`.
fn latest_of(jobs: &impl RayJobs, submission_id: &str, answer: Result<Job, Error>) -> Result<Located, Error> {
    let (first, mut launches) = ids::split_repeated(submission_id);
    let mut status = match answer {
        Ok(job) if !job.has_ended() => return Ok(Located::of_job(submission_id, &job)),
        Ok(job) => Located::of_job(submission_id, &job),
        Err(Error::NotFound(_)) => return Ok(Located::missing(submission_id)),
        Err(error) => return Err(error),
    };
    // Only a job that has ended can have a successor.
    loop {
        launches += 1;
        let next = ids::repeated(first, launches);
        match jobs.get(&next) {
            Ok(job) => status = Located::of_job(&next, &job),
            Err(Error::NotFound(_)) => return Ok(status),
            Err(error) => return Err(error),
        }
    }
}

fn latest(listed: &[Job]) -> HashMap<&str, (u32, &str, &Job)> {
    let mut latest: HashMap<&str, (u32, &str, &Job)> = HashMap::new();
    for job in listed {
        let Some(id) = job.submission_id.as_deref() else { continue };
        let (first, launches) = ids::split_repeated(id);
        let known = latest.entry(first).or_insert((launches, id, job));
        if known.0 < launches {
            *known = (launches, id, job);
        }
    }
    latest
}

fn pick(latest: &HashMap<&str, (u32, &str, &Job)>, submission_id: &str) -> Located {
    let (first, launches) = ids::split_repeated(submission_id);
    match latest.get(first) {
        Some((found, id, job)) if *found >= launches => Located::of_job(id, job),
        _ => Located::missing(submission_id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeRay;

    #[test]
    fn a_stopped_job_has_ended() {
        let status = from_job("a", &Job { status: "STOPPED".into(), ..Job::default() });
        assert_eq!((status.state, status.ended), (JobState::Stopped, true));
    }

    #[test]
    fn a_job_with_an_unknown_status_has_not_ended() {
        let job = Job { status: "QUEUED".into(), ..Job::default() };
        let status = from_job("a", &job);
        assert_eq!(status.state, JobState::Unknown);
        assert!(!status.ended);
        assert!(status.message.is_some_and(|text| text.contains("QUEUED")));
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn many_jobs_are_read_with_one_request_and_the_latest_launch_counts() {
        let ray = FakeRay::default();
        ray.add("a", "RUNNING");
        ray.add("b-again2", "RUNNING");
        ray.add("b-again10", "STOPPED");
        ray.add("b", "FAILED");
        let many = ["b", "a", "c", "b-again2", "c", "c", "c", "c", "c"];
        let found = read_all(&ray, &owned(&many)).expect("statuses");
        let found = &found[..4];
        assert_eq!(found.iter().map(|one| one.status.ended).collect::<Vec<_>>(), [true, false, true, true]);
        let states: Vec<JobState> = found.iter().map(|one| one.status.state).collect();
        assert_eq!(states, [JobState::Stopped, JobState::Running, JobState::Missing, JobState::Stopped]);
        assert_eq!(found[0].status.submission_id, "b-again10");
        assert_eq!(ray.calls(), ["list"]);
    }

    #[test]
    fn a_few_jobs_are_read_without_the_list_and_the_latest_launch_counts() {
        let ray = FakeRay::default();
        ray.add("a", "RUNNING");
        ray.add("b", "FAILED");
        ray.add("b-again1", "STOPPED");
        let found = read_all(&ray, &owned(&["b", "a", "c"])).expect("statuses");
        let states: Vec<JobState> = found.iter().map(|one| one.status.state).collect();
        assert_eq!(states, [JobState::Stopped, JobState::Running, JobState::Missing]);
        assert!(!ray.calls().contains(&"list".to_owned()), "{:?}", ray.calls());
    }

    #[test]
    fn one_live_job_costs_one_request_and_an_ended_job_yields_its_latest_launch() {
        let ray = FakeRay::default();
        ray.add("a", "RUNNING");
        read_all(&ray, &owned(&["a"])).expect("a status");
        assert_eq!(ray.calls(), ["get a"]);

        ray.add("b", "FAILED");
        ray.add("b-again1", "RUNNING");
        let found = read_all(&ray, &owned(&["b"])).expect("a status");
        assert_eq!(found[0].status.submission_id, "b-again1");
    }

    #[test]
    fn jobs_of_an_unreachable_ray_are_not_reported_missing() {
        let ray = FakeRay::default();
        ray.add("a", "RUNNING");
        ray.fail_reads(true);
        for names in [owned(&["a"]), owned(&["a", "b"]), owned(&["a"; 9])] {
            assert!(matches!(read_all(&ray, &names), Err(Error::Unavailable(_))));
        }
    }
}
