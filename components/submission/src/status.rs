//! Converts the status of a Ray job to the contract's records.

use dagster_ray_jobs::Job;
use dagster_ray_sdk::model::{JobState, JobStatus};

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
pub fn of(submission_id: &str, job: &Job) -> JobStatus {
    let state = state(&job.status);
    let message = match state {
        JobState::Unknown => Some(format!("Ray reports the unknown job status `{}`", job.status)),
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

/// Returns the status of a job that Ray does not have.
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

/// Returns whether a state is final.
#[must_use]
pub fn is_over(state: JobState) -> bool {
    matches!(state, JobState::Succeeded | JobState::Failed | JobState::Stopped | JobState::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_job_has_the_final_state_stopped() {
        assert_eq!(state("STOPPED"), JobState::Stopped);
        assert!(is_over(JobState::Stopped));
    }

    #[test]
    fn an_unknown_status_is_not_final() {
        let job = Job { status: "QUEUED".into(), ..Job::default() };
        let status = of("a", &job);
        assert_eq!(status.state, JobState::Unknown);
        assert!(!is_over(status.state));
        assert!(status.message.is_some_and(|text| text.contains("QUEUED")));
    }
}
