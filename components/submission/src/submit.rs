//! Submits a job to Ray exactly once, also when a response is lost.
//!
//! Ray reports a duplicate submission id only in the text of an error. So every launch stores a nonce
//! in the job's metadata, and after an ambiguous error the job is read back and the nonce compared.

use dagster_ray_jobs::{Job, RayJobs, Submission};
use dagster_ray_sdk::{
    Error,
    clock::Clock,
    retry::{Policy, Retries},
    warn,
};

use crate::{
    ids, metadata,
    reconcile::earlier::{self, Earlier},
};

/// What to do if a job with the submission id exists and has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnEnded {
    /// Fail with [`Error::Conflict`] and this advice. The caller decides whether to start the work again.
    Conflict(&'static str),
    /// Submit under the next free submission id. The ended job belongs to an earlier worker of the step, whose
    /// scripts are stopped first.
    Resubmit,
}

enum Submitted {
    Live,
    Ended(Box<Job>),
}

/// Submits a job, or adopts a live job with the same submission id, and returns its submission id.
///
/// `policy` limits the retries. `submission` must carry the id of the first launch, and a nonce under [`metadata::LAUNCH_NONCE`].
pub fn submit(
    jobs: &impl RayJobs,
    clock: &impl Clock,
    policy: Policy,
    mut submission: Submission,
    on_ended: OnEnded,
) -> Result<String, Error> {
    let first = submission.submission_id.clone();
    let mut launches = 0;
    loop {
        submission.submission_id = ids::repeated(&first, launches);
        match submit_or_adopt(jobs, clock, policy, &submission)? {
            Submitted::Live => return Ok(submission.submission_id),
            Submitted::Ended(job) => match on_ended {
                OnEnded::Resubmit => {
                    if launches == 0 {
                        earlier::stop_jobs_of_step(jobs, clock, &submission, Earlier::Workers)?;
                    }
                    launches += 1;
                }
                OnEnded::Conflict(advice) => {
                    return Err(Error::Conflict(format!(
                        "the Ray job {} exists and has ended ({}): {advice}",
                        submission.submission_id, job.status
                    )));
                }
            },
        }
    }
}

fn submit_or_adopt(
    jobs: &impl RayJobs,
    clock: &impl Clock,
    policy: Policy,
    submission: &Submission,
) -> Result<Submitted, Error> {
    // Reading the job back has the client's own patience.
    Retries::from_now(policy, clock).run(clock, || {
        let error = match jobs.submit(submission) {
            Ok(_) => return Ok(Submitted::Live),
            Err(error) => error,
        };
        // A request that did not arrive, or that the host denied, created no job.
        let is_ambiguous = error.maybe_applied() || matches!(error, Error::Backend(_) | Error::Conflict(_));
        if !is_ambiguous {
            return Err(error);
        }
        match jobs.get(&submission.submission_id) {
            Ok(job) => Ok(found(job, submission)),
            // The error of the submission says more than "not found" or a second connection error.
            Err(_) => Err(error),
        }
    })
}

fn found(job: Job, submission: &Submission) -> Submitted {
    let ours = job.metadata.get(metadata::LAUNCH_NONCE) == submission.metadata.get(metadata::LAUNCH_NONCE);
    if ours || !job.has_ended() {
        if !ours {
            warn!("reusing the Ray job {}, which exists and has not ended", submission.submission_id);
        }
        Submitted::Live
    } else {
        Submitted::Ended(Box::new(job))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dagster_ray_sdk::testing::VirtualClock;

    use super::*;
    use crate::fake::{FakeRay, SubmitOutcome};

    fn submission(nonce: &str) -> Submission {
        Submission {
            submission_id: "dagster-step-r-s".to_owned(),
            metadata: BTreeMap::from([(metadata::LAUNCH_NONCE.to_owned(), nonce.to_owned())]),
            ..Submission::default()
        }
    }

    fn submit_once(ray: &FakeRay, on_ended: OnEnded) -> Result<String, Error> {
        submit(ray, &VirtualClock::default(), Policy::default(), submission("mine"), on_ended)
    }

    #[test]
    fn submit_adopts_an_ended_job_with_the_same_nonce_when_the_response_is_lost() {
        let ray = FakeRay::default();
        ray.set_submit_outcomes([SubmitOutcome::Lost]);
        ray.set_new_status("SUCCEEDED");
        assert_eq!(submit_once(&ray, OnEnded::Resubmit).expect("a job"), "dagster-step-r-s");
        assert_eq!(ray.submitted(), ["dagster-step-r-s"]);
    }

    #[test]
    fn submit_retries_connection_errors_and_reports_unavailable_when_they_persist() {
        let ray = FakeRay::default();
        ray.set_submit_outcomes([SubmitOutcome::Refused, SubmitOutcome::Dropped, SubmitOutcome::Refused]);
        assert!(submit_once(&ray, OnEnded::Conflict("no")).is_ok());
        assert_eq!(ray.submitted().len(), 4);

        let ray = FakeRay::default();
        ray.set_submit_outcomes(std::iter::repeat_n(SubmitOutcome::Dropped, 50));
        assert!(matches!(submit_once(&ray, OnEnded::Conflict("no")), Err(Error::Unavailable(_))));
        assert!((5..20).contains(&ray.submitted().len()), "{}", ray.submitted().len());
    }

    #[test]
    fn submit_does_not_retry_an_invalid_request() {
        let ray = FakeRay::default();
        ray.set_submit_outcomes([SubmitOutcome::Invalid]);
        assert!(matches!(submit_once(&ray, OnEnded::Conflict("no")), Err(Error::Backend(_))));
        assert_eq!(ray.submitted().len(), 1);
    }

    #[test]
    fn submit_adopts_a_live_job_with_the_same_id() {
        let ray = FakeRay::default();
        ray.add("dagster-step-r-s", "PENDING");
        assert_eq!(submit_once(&ray, OnEnded::Conflict("no")).expect("a job"), "dagster-step-r-s");
    }

    #[test]
    fn an_ended_job_is_a_conflict_or_is_submitted_again_under_the_next_id() {
        let ray = FakeRay::default();
        ray.add("dagster-step-r-s", "FAILED");
        ray.add("dagster-step-r-s-again1", "STOPPED");
        let refused = submit_once(&ray, OnEnded::Conflict("no"));
        assert!(matches!(refused, Err(Error::Conflict(text)) if text.contains("dagster-step-r-s")));
        assert_eq!(submit_once(&ray, OnEnded::Resubmit).expect("a job"), "dagster-step-r-s-again2");
    }
}
