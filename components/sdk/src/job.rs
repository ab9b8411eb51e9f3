//! Constructors of the contract's records of jobs.

use crate::{
    executor::{StepRef, StepSpec},
    launcher::{RunRef, RunSpec},
    model::{JobRef, JobState, JobStatus},
};

impl JobState {
    /// Returns whether a job in this state has ended. A job in an unknown state may still run.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Stopped | Self::Missing)
    }
}

impl JobStatus {
    /// Returns a status without details. `ended` follows from the state.
    #[must_use]
    pub fn new(submission_id: impl Into<String>, state: JobState) -> Self {
        Self {
            submission_id: submission_id.into(),
            state,
            ended: state.has_ended(),
            message: None,
            error_type: None,
            exit_code: None,
            missing_after_ms: None,
        }
    }
}

impl JobRef {
    /// Returns a reference without a web page and details.
    #[must_use]
    pub fn new(submission_id: impl Into<String>) -> Self {
        Self { submission_id: submission_id.into(), dashboard_url: None, details: None }
    }
}

impl RunRef {
    /// Returns the reference to the job of a run.
    #[must_use]
    pub fn new(run: &RunSpec, job: JobRef) -> Self {
        Self { run_id: run.run_id.clone(), attempt: run.attempt, job }
    }
}

impl StepRef {
    /// Returns the reference to the job of a step.
    #[must_use]
    pub fn new(step: &StepSpec, job: JobRef) -> Self {
        Self { run_id: step.run_id.clone(), step_key: step.step_key.clone(), attempt: step.attempt, job }
    }
}
