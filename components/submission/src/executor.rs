//! The contract's `executor`: submits steps as Ray jobs.

use dagster_ray_jobs::{RayJobs, Submission};
use dagster_ray_sdk::{
    Error,
    bindings::executor::{Placement, StepRef, StepSpec},
    clock::Clock,
    model::JobStatus,
    progress::ProgressListener,
};

use crate::{
    ids, metadata,
    options::Options,
    patience::Patience,
    reconcile::earlier::{self, Earlier},
    session, stop,
    submit::{self, OnEnded},
    worker::{self, Worker},
};

/// The contract's executor, generic over the Jobs API client and the clock.
pub struct Executor<J, C> {
    pub(crate) jobs: J,
    clock: C,
    patience: Patience,
}

impl<J: RayJobs, C: Clock> Executor<J, C> {
    /// Creates an executor that submits to this Ray.
    pub const fn new(jobs: J, clock: C, patience: Patience) -> Self {
        Self { jobs, clock, patience }
    }

    /// Checks a step's options and returns the placement of its first launch. Makes no request.
    pub fn plan(&self, step: &StepSpec) -> Result<Placement, Error> {
        let options = Options::merged(&step.options, &step.tags)?;
        if !options.is_on_ray() {
            return Ok(Placement::Local);
        }
        let id = submission(step, options)?.submission_id;
        Ok(Placement::Job(StepRef::new(step, session::reference(&self.jobs, id, None))))
    }

    /// Launches a step, unless it is local. A live job of the step is reused; an ended one is submitted again
    /// under a new id. What earlier attempts of the step left in Ray is stopped first.
    pub fn launch(&self, step: &StepSpec) -> Result<Placement, Error> {
        let options = Options::merged(&step.options, &step.tags)?;
        if !options.is_on_ray() {
            return Ok(Placement::Local);
        }
        self.submit(step, options).map(Placement::Job)
    }

    /// Submits a step's job as [`Executor::launch`] does, with options that the backend has already read.
    pub fn submit(&self, step: &StepSpec, options: Options) -> Result<StepRef, Error> {
        let mut submission = submission(step, options)?;
        submission.runtime_env = self.jobs.prepare_runtime_env(submission.runtime_env)?;
        if step.attempt > 0 {
            earlier::stop_jobs_of_step(&self.jobs, &self.clock, &submission, Earlier::Attempts)?;
        }
        let policy = self.patience.request();
        let id = submit::submit(&self.jobs, &self.clock, policy, submission, OnEnded::Resubmit)?;
        // Without the session, which would take one more request for each step: a step that Ray does not have
        // then counts as running for the time that workers can run without a head.
        Ok(StepRef::new(step, session::reference(&self.jobs, id, None)))
    }

    /// Returns the statuses of steps, in the same order.
    pub fn check(&self, steps: &[StepRef]) -> Result<Vec<JobStatus>, Error> {
        session::read_all(&self.jobs, &self.patience, steps.iter().map(|step| &step.job))
    }

    /// Stops steps together and returns their final statuses, in the same order.
    pub fn terminate(
        &self,
        steps: &[StepRef],
        listener: &impl ProgressListener,
    ) -> Result<Vec<JobStatus>, Error> {
        let outcomes = stop::stop_jobs(&self.jobs, &self.clock, &submission_ids(steps), listener)?;
        Ok(outcomes.into_iter().map(|outcome| outcome.status).collect())
    }
}

fn submission_ids(steps: &[StepRef]) -> Vec<String> {
    steps.iter().map(|step| step.job.submission_id.clone()).collect()
}

/// Returns the Ray job of a step's first launch.
pub fn submission(step: &StepSpec, options: Options) -> Result<Submission, Error> {
    let origin = metadata::Origin {
        deployment: &step.deployment,
        run_id: &step.run_id,
        job_name: &step.job_name,
        code_location: step.code_location.as_deref(),
        step_key: Some(&step.step_key),
        attempt: step.attempt,
    };
    let submission_id = ids::step(&step.run_id, &step.step_key, step.attempt);
    worker::submission(Worker { submission_id, origin, command: &step.command }, options)
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::{model::WorkerCommand, testing::VirtualClock};

    use super::*;
    use crate::{fake::FakeRay, options::TAG};

    fn step(key: &str, tag: &str) -> StepSpec {
        StepSpec {
            deployment: String::new(),
            run_id: "r".to_owned(),
            step_key: key.to_owned(),
            attempt: 0,
            job_name: "j".to_owned(),
            code_location: None,
            command: WorkerCommand {
                argv: ["dagster", "api", "execute_step"].map(str::to_owned).to_vec(),
                payload: None,
                env: Vec::new(),
            },
            tags: vec![(TAG.to_owned(), tag.to_owned())],
            options: r#"{"resources": {"disk": 1}, "num_gpus": 1}"#.to_owned(),
        }
    }

    #[test]
    fn a_steps_resources_do_not_leak_into_the_next_step() {
        let executor = Executor::new(FakeRay::default(), VirtualClock::default(), Patience::default());
        executor.launch(&step("a", r#"{"resources": {"tpu": 4}, "num_gpus": 0}"#)).expect("a reference");
        executor.launch(&step("b", "{}")).expect("a reference");
        let resources: Vec<Vec<String>> = executor
            .jobs
            .submissions()
            .iter()
            .map(|one| one.entrypoint_resources.iter().flat_map(|map| map.keys().cloned()).collect())
            .collect();
        assert_eq!(resources, [["tpu"], ["disk"]]);
        assert_eq!(executor.jobs.submissions()[0].entrypoint_num_gpus, Some(0.0));
        assert_eq!(executor.jobs.submissions()[1].entrypoint_num_gpus, Some(1.0));
    }

    #[test]
    fn plan_sends_no_request_and_returns_the_job_that_launch_returns() {
        let executor = Executor::new(FakeRay::default(), VirtualClock::default(), Patience::default());
        let planned = executor.plan(&step("load[x]", "{}")).expect("a plan");
        assert!(executor.jobs.calls().is_empty());
        assert!(matches!(planned, Placement::Job(_)));
        assert_eq!(executor.launch(&step("load[x]", "{}")).expect("a reference"), planned);
        assert!(executor.plan(&step("a", "not json")).is_err());
    }

    #[test]
    fn a_step_whose_head_restarted_is_not_missing_at_once() {
        let executor = Executor::new(FakeRay::default(), VirtualClock::default(), Patience::default());
        executor.jobs.set_session("first");
        let Placement::Job(launched) = executor.launch(&step("a", "{}")).expect("a placement") else {
            panic!("a job")
        };
        executor.jobs.restart("second");
        let found = executor.check(&[launched]).expect("statuses");
        assert!(!found[0].ended && found[0].missing_after_ms.is_some(), "{:?}", found[0]);
    }

    #[test]
    fn a_step_that_is_not_enabled_is_local_and_not_submitted() {
        let executor = Executor::new(FakeRay::default(), VirtualClock::default(), Patience::default());
        // The other options are ignored.
        let local = step("a", r#"{"enabled": false, "num_cpus": -1}"#);
        assert_eq!(executor.plan(&local).expect("a plan"), Placement::Local);
        assert_eq!(executor.launch(&local).expect("a placement"), Placement::Local);
        let text = executor.launch(&step("a", r#"{"enabled": "no"}"#)).expect_err("an error").message();
        assert!(text.contains("enabled") && text.contains("not a boolean"), "{text}");
        assert!(executor.jobs.calls().is_empty());
        executor.launch(&step("a", r#"{"enabled": null}"#)).expect("a reference");
        assert_eq!(executor.jobs.submissions().len(), 1);
    }
}
