//! The contract's `launcher`: submits runs as Ray jobs.

use dagster_ray_jobs::{RayJobs, Submission};
use dagster_ray_sdk::{
    Error,
    bindings::launcher::{RunRef, RunSpec, Termination},
    clock::Clock,
    model::{JobRef, JobState, JobStatus},
    progress::ProgressListener,
};

use crate::{
    debug, ids, metadata,
    options::Options,
    reconcile::earlier,
    status, stop,
    submit::{self, OnEnded},
    worker::{self, Worker},
};

const RESUME: &str = "resume the run to start a new attempt";

/// The contract's launcher, generic over the Jobs API client and the clock.
pub struct Launcher<J, C> {
    pub(crate) jobs: J,
    clock: C,
}

impl<J: RayJobs, C: Clock> Launcher<J, C> {
    /// Creates a launcher that submits to this Ray.
    pub const fn new(jobs: J, clock: C) -> Self {
        Self { jobs, clock }
    }

    /// Launches a run (attempt 0) or resumes it (a later attempt). A live job of the attempt is reused.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the attempt's job has ended.
    pub fn launch(&self, run: &RunSpec) -> Result<RunRef, Error> {
        let mut submission = submission(run, Options::merged(&run.options, &run.tags)?)?;
        submission.runtime_env = self.jobs.prepare_runtime_env(submission.runtime_env)?;
        let submission_id = submit::submit(&self.jobs, &self.clock, submission, OnEnded::Conflict(RESUME))?;
        Ok(self.reference(&run.run_id, run.attempt, submission_id))
    }

    /// Returns the reference that a launch of this attempt returns. Makes no request.
    pub fn locate(&self, run_id: &str, attempt: u32) -> RunRef {
        self.reference(run_id, attempt, ids::run(run_id, attempt))
    }

    /// Stops a run's jobs and returns once they have ended.
    pub fn terminate(&self, run: &RunRef, listener: &impl ProgressListener) -> Result<Termination, Error> {
        let id = std::slice::from_ref(&run.job.submission_id);
        let outcomes = stop::stop_jobs(&self.jobs, &self.clock, id, listener)?;
        // The worker stops its own steps, unless it never ran or was killed.
        for outcome in &outcomes {
            let worker = &outcome.status.submission_id;
            earlier::stop_jobs_of_run(&self.jobs, &self.clock, &run.run_id, worker, listener)?;
        }
        Ok(match outcomes.first() {
            None => Termination::Missing,
            Some(outcome) if outcome.status.state == JobState::Missing => Termination::Missing,
            Some(outcome) if outcome.had_ended || outcome.status.state == JobState::Succeeded => {
                Termination::AlreadyEnded
            }
            Some(_) => Termination::Stopped,
        })
    }

    /// Returns the statuses of runs, in the same order.
    pub fn check(&self, runs: &[RunRef]) -> Result<Vec<JobStatus>, Error> {
        let ids: Vec<String> = runs.iter().map(|run| run.job.submission_id.clone()).collect();
        status::read_all(&self.jobs, &ids)
    }

    /// Returns the job's status and the end of its output as text.
    pub fn debug_info(&self, run: &RunRef) -> Result<String, Error> {
        debug::info(&self.jobs, &run.job.submission_id)
    }

    fn reference(&self, run_id: &str, attempt: u32, submission_id: String) -> RunRef {
        let dashboard_url = Some(self.jobs.dashboard_url(&submission_id));
        RunRef {
            run_id: run_id.to_owned(),
            attempt,
            job: JobRef { submission_id, dashboard_url, details: None },
        }
    }
}

/// Returns the Ray job that executes a run.
pub fn submission(run: &RunSpec, options: Options) -> Result<Submission, Error> {
    let origin = metadata::Origin {
        deployment: &run.deployment,
        run_id: &run.run_id,
        job_name: &run.job_name,
        code_location: run.code_location.as_deref(),
        step_key: None,
        attempt: run.attempt,
    };
    let submission_id = ids::run(&run.run_id, run.attempt);
    worker::submission(Worker { submission_id, origin, command: &run.command }, options)
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::{
        model::WorkerCommand,
        testing::{RecordingListener, VirtualClock},
    };

    use super::*;
    use crate::{fake::FakeRay, options::TAG};

    fn run() -> RunSpec {
        RunSpec {
            deployment: "d".to_owned(),
            run_id: "r".to_owned(),
            attempt: 0,
            job_name: "it's a job".to_owned(),
            code_location: Some("here".to_owned()),
            command: WorkerCommand {
                argv: ["python", "-m", "dagster", "api", "execute_run"].map(str::to_owned).to_vec(),
                payload: Some("the password is hunter2".to_owned()),
                env: vec![("DAGSTER_HOME".to_owned(), "/home".to_owned())],
            },
            tags: vec![(TAG.to_owned(), r#"{"num_cpus": 1}"#.to_owned())],
            options:
                r#"{"metadata": {"team": "x", "dagster/run-id": "other", "dagster-ray/deployment": "other"}}"#
                    .to_owned(),
        }
    }

    #[test]
    fn launch_sends_one_request_with_the_merged_options() {
        let launcher = Launcher::new(FakeRay::default(), VirtualClock::default());
        let launched = launcher.launch(&run()).expect("a reference");
        assert_eq!(launcher.jobs.calls(), ["submit dagster-run-r"]);
        assert_eq!(launched.job.dashboard_url.as_deref(), Some("http://ray:8265/#/jobs/dagster-run-r"));
        let sent = &launcher.jobs.submissions()[0];
        assert_eq!(sent.entrypoint_num_cpus, Some(1.0));
        assert!(!sent.entrypoint.contains("hunter2"));
        assert_eq!(sent.metadata["dagster/run-id"], "r");
        assert_eq!(sent.metadata["dagster-ray/deployment"], "d");
        assert_eq!(sent.metadata["team"], "x");
        assert_eq!(sent.runtime_env["env_vars"]["DAGSTER_RUN_JOB_NAME"], "it's a job");
        assert_eq!(sent.runtime_env["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"], "60");
    }

    #[test]
    fn a_repeated_launch_adopts_the_live_job_and_a_new_attempt_gets_its_own() {
        let launcher = Launcher::new(FakeRay::default(), VirtualClock::default());
        assert_eq!(launcher.launch(&run()).expect("a reference").job, launcher.locate("r", 0).job);
        assert_eq!(launcher.launch(&run()).expect("a reference").job, launcher.locate("r", 0).job);
        let resumed = launcher.launch(&RunSpec { attempt: 1, ..run() }).expect("a reference");
        assert_eq!(resumed.job.submission_id, "dagster-run-r-1");
    }

    #[test]
    fn terminating_a_run_whose_job_never_started_reports_stopped() {
        let launcher = Launcher::new(FakeRay::default(), VirtualClock::default());
        let mut run = run();
        "/opt/env/bin/python3.12".clone_into(&mut run.command.argv[0]);
        launcher.jobs.ignore_stops("dagster-run-r");
        launcher.launch(&run).expect("a reference");
        let listener = RecordingListener::default();
        let terminate = |run_id: &str| launcher.terminate(&launcher.locate(run_id, 0), &listener);
        assert_eq!(terminate("r").expect("an end"), Termination::Stopped);
        assert_eq!(terminate("r").expect("an end"), Termination::AlreadyEnded);
        assert_eq!(terminate("unknown").expect("an end"), Termination::Missing);
        let kill = &launcher.jobs.submissions()[1];
        assert!(kill.entrypoint.starts_with("/opt/env/bin/python3.12 -c "), "{}", kill.entrypoint);
    }
}
