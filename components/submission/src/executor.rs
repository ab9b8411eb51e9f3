//! The contract's `executor`: submits steps as Ray jobs, or as Ray tasks.

use dagster_ray_jobs::{RayJobs, Submission};
use dagster_ray_sdk::{
    Error,
    bindings::executor::{Placement, StepRef, StepSpec},
    clock::Clock,
    json,
    model::JobStatus,
    progress::ProgressListener,
};

use crate::{
    ids, metadata,
    options::{Isolation, Options},
    patience::Patience,
    reconcile::earlier::{self, Earlier},
    session::{self, Nodes},
    stop,
    submit::{self, OnEnded},
    tasks::{self, HostTasks, TaskClient},
    worker::{self, Worker},
};

/// The contract's executor, generic over the Jobs API client, the clock and the client of tasks.
pub struct Executor<J, C, T = HostTasks> {
    pub(crate) jobs: J,
    clock: C,
    patience: Patience,
    tasks: T,
}

impl<J: RayJobs, C: Clock> Executor<J, C> {
    /// Creates an executor that submits to this Ray.
    pub const fn new(jobs: J, clock: C, patience: Patience) -> Self {
        Self::with_tasks(jobs, clock, patience, HostTasks)
    }
}

impl<J: RayJobs, C: Clock, T: TaskClient> Executor<J, C, T> {
    /// Creates an executor with another client of tasks than the host's.
    pub const fn with_tasks(jobs: J, clock: C, patience: Patience, tasks: T) -> Self {
        Self { jobs, clock, patience, tasks }
    }

    /// Checks a step's options and returns the placement of its first launch. Makes no request.
    pub fn plan(&self, step: &StepSpec) -> Result<Placement, Error> {
        let options = Options::merged(&step.options, &step.tags)?;
        if !options.is_on_ray() {
            return Ok(Placement::Local);
        }
        if options.isolation == Isolation::Task {
            return Ok(Placement::Task(tasks::reference(step)));
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
        if options.isolation == Isolation::Task {
            return self.submit_task(step, options).map(Placement::Task);
        }
        self.submit(step, options).map(Placement::Job)
    }

    fn submit_task(&self, step: &StepSpec, options: Options) -> Result<StepRef, Error> {
        let mut task = tasks::task(step, options);
        let runtime_env =
            json::parse(task.runtime_env.as_bytes()).map_err(|error| Error::Other(error.to_string()))?;
        task.runtime_env = json::text(&self.jobs.prepare_runtime_env(runtime_env)?);
        self.tasks.submit(task)?;
        Ok(tasks::reference(step))
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
        tasks::apart(
            steps,
            |jobs| {
                let nodes = Nodes::sampled(&self.clock);
                session::read_all(&self.jobs, &self.patience, nodes, jobs.iter().map(|step| &step.job))
            },
            |steps| tasks::check(&self.tasks, steps),
        )
    }

    /// Stops steps together and returns their final statuses, in the same order.
    pub fn terminate(
        &self,
        steps: &[StepRef],
        listener: &impl ProgressListener,
    ) -> Result<Vec<JobStatus>, Error> {
        tasks::apart(
            steps,
            |jobs| {
                let ids = submission_ids(jobs);
                let outcomes = stop::stop_jobs(&self.jobs, &self.clock, &ids, listener)?;
                Ok(outcomes.into_iter().map(|outcome| outcome.status).collect())
            },
            |steps| tasks::terminate(&self.tasks, &self.clock, steps, listener),
        )
    }
}

fn submission_ids(steps: &[&StepRef]) -> Vec<String> {
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
    use std::cell::RefCell;

    use dagster_ray_sdk::{
        model::{JobState, WorkerCommand},
        tasks::{TaskSpec, TaskState, TaskStatus, Worker},
        testing::{RecordingListener, VirtualClock},
    };

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

    #[derive(Default)]
    struct FakeTasks {
        submitted: RefCell<Vec<TaskSpec>>,
        cancelled: RefCell<Vec<(Vec<String>, u64)>>,
    }

    impl TaskClient for &FakeTasks {
        fn submit(&self, task: TaskSpec) -> Result<(), Error> {
            self.submitted.borrow_mut().push(task);
            Ok(())
        }

        fn status(&self, keys: &[String]) -> Result<Vec<TaskStatus>, Error> {
            let state =
                if self.cancelled.borrow().is_empty() { TaskState::Running } else { TaskState::Cancelled };
            let ended = state == TaskState::Cancelled;
            Ok(keys
                .iter()
                .map(|key| TaskStatus { key: key.clone(), state, ended, cause: None, message: None })
                .collect())
        }

        fn cancel(&self, keys: &[String], grace_ms: u64) -> Result<(), Error> {
            self.cancelled.borrow_mut().push((keys.to_vec(), grace_ms));
            Ok(())
        }
    }

    #[test]
    fn a_task_reserves_what_the_tag_says_and_a_gpu_or_the_option_gives_it_a_fresh_process() {
        let tasks = FakeTasks::default();
        let clock = VirtualClock::default();
        let executor = Executor::with_tasks(FakeRay::default(), clock, Patience::default(), &tasks);
        let launch = |key: &str, tag: &str| {
            let step = step(key, tag);
            assert_eq!(executor.plan(&step).expect("a plan"), executor.launch(&step).expect("a placement"));
        };
        launch("warm", r#"{"isolation": "task", "num_gpus": 0, "label_selector": {"zone": "a"}}"#);
        launch("gpu", r#"{"isolation": "task", "env_vars": ["A=1"], "num_cpus": 0.5}"#);
        launch("fresh", r#"{"isolation": "task", "process": "fresh", "num_gpus": 0, "resources": {}}"#);
        assert!(executor.jobs.submissions().is_empty());
        let submitted = tasks.submitted.borrow();
        let workers: Vec<Worker> = submitted.iter().map(|task| task.worker).collect();
        assert_eq!(workers, [Worker::Warm, Worker::Fresh, Worker::Fresh]);
        // A task reserves a CPU, as any other task of Ray.
        assert_eq!((submitted[0].reservation.num_cpus, submitted[1].reservation.num_cpus), (1.0, 0.5));
        assert_eq!(submitted[0].reservation.label_selector, [("zone".to_owned(), "a".to_owned())]);
        assert_eq!(submitted[0].reservation.resources, [("disk".to_owned(), 1.0)]);
        // Without an environment of its own, a task can use the workers that Ray has already started.
        assert_eq!(submitted[0].runtime_env, "{}");
        assert_eq!(submitted[1].runtime_env, r#"{"env_vars":{"A":"1"}}"#);
        assert_eq!(submitted[0].key, "dagster-task-r-warm");
    }

    #[test]
    fn tasks_and_jobs_are_checked_and_stopped_together_in_the_order_of_the_steps() {
        let tasks = FakeTasks::default();
        let clock = VirtualClock::default();
        let executor = Executor::with_tasks(FakeRay::default(), clock, Patience::default(), &tasks);
        let place = |key: &str, tag: &str| match executor.launch(&step(key, tag)).expect("a placement") {
            Placement::Job(step) | Placement::Task(step) => step,
            Placement::Local => panic!("local"),
        };
        let refs =
            [place("a", "{}"), place("b", r#"{"isolation": "task"}"#), place("c", r#"{"isolation": "job"}"#)];
        let ids = |statuses: Vec<JobStatus>| -> Vec<String> {
            statuses.into_iter().map(|status| status.submission_id).collect()
        };
        let expected: Vec<String> = refs.iter().map(|step| step.job.submission_id.clone()).collect();
        assert_eq!(ids(executor.check(&refs).expect("statuses")), expected);
        let ended = executor.terminate(&refs[1..2], &RecordingListener::default()).expect("statuses");
        assert_eq!(ended[0].state, JobState::Stopped);
        // The grace period is that of a step's Ray job.
        assert_eq!(*tasks.cancelled.borrow(), [(vec![expected[1].clone()], 30_000)]);
    }
}
