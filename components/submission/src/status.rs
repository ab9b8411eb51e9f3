//! Ray's word on a job, in the contract's vocabulary.

use dagster_ray_jobs::Job;
use dagster_ray_sdk::model::{JobState, JobStatus};

/// The state that Ray's status stands for.
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

/// What Ray says of a job.
#[must_use]
pub fn of(submission_id: &str, job: &Job) -> JobStatus {
    let state = state(&job.status);
    let message = match state {
        JobState::Unknown => {
            Some(format!("Ray reports the status `{}`, which is not known here", job.status))
        }
        _ => job.message.clone(),
    };
    JobStatus {
        submission_id: submission_id.to_owned(),
        state,
        message,
        error_type: job.error_type.clone(),
        exit_code: job.driver_exit_code,
    }
}

/// Ray has no such job.
#[must_use]
pub fn missing(submission_id: &str) -> JobStatus {
    JobStatus {
        submission_id: submission_id.to_owned(),
        state: JobState::Missing,
        message: Some(format!("Ray has no job `{submission_id}`")),
        error_type: None,
        exit_code: None,
    }
}

/// Whether nothing more will come of it.
#[must_use]
pub fn is_over(state: JobState) -> bool {
    matches!(state, JobState::Succeeded | JobState::Failed | JobState::Stopped | JobState::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_stopped_from_outside_is_neither_healthy_nor_failed() {
        assert_eq!(state("STOPPED"), JobState::Stopped);
        assert!(is_over(JobState::Stopped));
    }

    #[test]
    fn a_status_of_a_later_ray_is_not_taken_for_an_end() {
        let job = Job { status: "QUEUED".into(), ..Job::default() };
        let status = of("a", &job);
        assert_eq!(status.state, JobState::Unknown);
        assert!(!is_over(status.state));
        assert!(status.message.is_some_and(|text| text.contains("QUEUED")));
    }
}
