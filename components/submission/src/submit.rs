//! Handing a job to Ray once, whatever happens to the answers.
//!
//! An answer can be lost after the job was made, and Ray tells a second submission of the same id
//! from a mistake only by a text. So the job itself is asked: every launch carries a nonce, and a
//! job with our nonce is ours.

use dagster_ray_jobs::{Job, RayJobs, Submission};
use dagster_ray_sdk::{Error, clock::Clock, retry::Policy, warn};

use crate::{ids, metadata};

/// What to do where a job of the name has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnEnded {
    /// Refuse, and say this: starting the work a second time is somebody else's decision.
    Refuse(&'static str),
    /// Submit under the next free name: the job belongs to an earlier worker.
    SubmitAgain,
}

/// The tries of one submission: a restarting dashboard is away for some seconds.
const TRIES: Policy = Policy { attempts: 6, first_wait_ms: 250, longest_wait_ms: 4_000 };

enum Placed {
    Here,
    Ended(Box<Job>),
}

/// Submits a job, or finds the one that is there, and returns its submission id.
///
/// The submission carries the name of the first launch, and a nonce of its own under
/// [`metadata::LAUNCH`].
pub fn submit(
    jobs: &impl RayJobs,
    clock: &impl Clock,
    mut submission: Submission,
    on_ended: OnEnded,
) -> Result<String, Error> {
    let first = submission.submission_id.clone();
    let mut launches = 0;
    loop {
        submission.submission_id = ids::again(&first, launches);
        match place(jobs, clock, &submission)? {
            Placed::Here => return Ok(submission.submission_id),
            Placed::Ended(job) => match on_ended {
                OnEnded::SubmitAgain => launches += 1,
                OnEnded::Refuse(advice) => {
                    return Err(Error::Conflict(format!(
                        "the Ray job {} exists and has ended ({}): {advice}",
                        submission.submission_id, job.status
                    )));
                }
            },
        }
    }
}

fn place(jobs: &impl RayJobs, clock: &impl Clock, submission: &Submission) -> Result<Placed, Error> {
    TRIES.run(clock, || {
        let error = match jobs.submit(submission) {
            Ok(_) => return Ok(Placed::Here),
            Err(error) => error,
        };
        // A request that cannot have arrived made no job, and one that the host refused never will.
        let undecided = error.maybe_applied() || matches!(error, Error::Backend(_) | Error::Conflict(_));
        if !undecided {
            return Err(error);
        }
        match jobs.get(&submission.submission_id) {
            Ok(job) => Ok(found(job, submission)),
            // The first error tells more than that nothing came of it, or that nobody answers.
            Err(_) => Err(error),
        }
    })
}

fn found(job: Job, submission: &Submission) -> Placed {
    let ours = job.metadata.get(metadata::LAUNCH) == submission.metadata.get(metadata::LAUNCH);
    if ours || !job.has_ended() {
        if !ours {
            warn!("the Ray job {} is there already and has not ended: it is used", submission.submission_id);
        }
        Placed::Here
    } else {
        Placed::Ended(Box::new(job))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dagster_ray_sdk::testing::VirtualClock;

    use super::*;
    use crate::fake::{Answer, FakeRay};

    fn submission(nonce: &str) -> Submission {
        Submission {
            submission_id: "dagster-step-r-s".to_owned(),
            metadata: BTreeMap::from([(metadata::LAUNCH.to_owned(), nonce.to_owned())]),
            ..Submission::default()
        }
    }

    fn hand_over(ray: &FakeRay, on_ended: OnEnded) -> Result<String, Error> {
        submit(ray, &VirtualClock::default(), submission("mine"), on_ended)
    }

    #[test]
    fn a_job_whose_answer_was_lost_is_adopted_even_if_it_has_ended_since() {
        let ray = FakeRay::default();
        ray.answer_submits([Answer::Lost]);
        ray.status_of_new("SUCCEEDED");
        assert_eq!(hand_over(&ray, OnEnded::SubmitAgain).expect("a job"), "dagster-step-r-s");
        assert_eq!(ray.submitted(), ["dagster-step-r-s"]);
    }

    #[test]
    fn a_passing_refusal_is_tried_again_and_a_lasting_one_ends_as_unavailable() {
        let ray = FakeRay::default();
        ray.answer_submits([Answer::Refused, Answer::Dropped, Answer::Refused]);
        assert!(hand_over(&ray, OnEnded::Refuse("no")).is_ok());
        assert_eq!(ray.submitted().len(), 4);

        let ray = FakeRay::default();
        ray.answer_submits(std::iter::repeat_n(Answer::Dropped, 20));
        assert!(matches!(hand_over(&ray, OnEnded::Refuse("no")), Err(Error::Unavailable(_))));
        assert!(ray.submitted().len() < 10);
    }

    #[test]
    fn a_mistake_in_the_request_is_not_tried_again() {
        let ray = FakeRay::default();
        ray.answer_submits([Answer::Invalid]);
        assert!(matches!(hand_over(&ray, OnEnded::Refuse("no")), Err(Error::Backend(_))));
        assert_eq!(ray.submitted().len(), 1);
    }

    #[test]
    fn a_live_job_of_the_name_is_adopted() {
        let ray = FakeRay::default();
        ray.add("dagster-step-r-s", "PENDING");
        assert_eq!(hand_over(&ray, OnEnded::Refuse("no")).expect("a job"), "dagster-step-r-s");
    }

    #[test]
    fn a_dead_jobs_name_is_refused_to_a_run_and_a_step_gets_the_next() {
        let ray = FakeRay::default();
        ray.add("dagster-step-r-s", "FAILED");
        ray.add("dagster-step-r-s-again1", "STOPPED");
        let refused = hand_over(&ray, OnEnded::Refuse("no"));
        assert!(matches!(refused, Err(Error::Conflict(text)) if text.contains("dagster-step-r-s")));
        assert_eq!(hand_over(&ray, OnEnded::SubmitAgain).expect("a job"), "dagster-step-r-s-again2");
    }
}
