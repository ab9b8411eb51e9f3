//! The contract's `launcher`: submits runs as Ray jobs.

use dagster_ray_jobs::{RayJobs, Submission};
use dagster_ray_sdk::{
    Error,
    bindings::launcher::{RunPlacement, RunRef, RunSpec, Termination},
    clock::Clock,
    model::{JobState, JobStatus},
    progress::ProgressListener,
};

use crate::{
    debug, ids, metadata,
    options::Options,
    patience::Patience,
    reconcile::earlier,
    session::{self, Nodes},
    stop,
    submit::{self, OnEnded},
    worker::{self, Worker},
};

const RESUME: &str = "resume the run to start a new attempt";

/// The contract's launcher, generic over the Jobs API client and the clock.
pub struct Launcher<J, C> {
    pub(crate) jobs: J,
    clock: C,
    patience: Patience,
}

impl<J: RayJobs, C: Clock> Launcher<J, C> {
    /// Creates a launcher that submits to this Ray.
    pub const fn new(jobs: J, clock: C, patience: Patience) -> Self {
        Self { jobs, clock, patience }
    }

    /// Checks a run's options and returns where it executes. Makes no request.
    pub fn plan(&self, run: &RunSpec) -> Result<RunPlacement, Error> {
        let options = Options::merged(&run.options, &run.tags)?;
        if !options.is_on_ray() {
            return Ok(RunPlacement::Local);
        }
        let id = submission(run, options)?.submission_id;
        Ok(RunPlacement::Job(RunRef::new(run, session::reference(&self.jobs, id, None))))
    }

    /// Launches a run (attempt 0) or resumes it (a later attempt). A live job of the attempt is reused.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the attempt's job has ended.
    pub fn launch(&self, run: &RunSpec) -> Result<RunRef, Error> {
        let mut submission = submission(run, Options::merged(&run.options, &run.tags)?)?;
        submission.runtime_env = self.jobs.prepare_runtime_env(submission.runtime_env)?;
        if run.attempt > 0 {
            earlier::stop_scripts_of_run(&self.jobs, &self.clock, &submission, &run.run_id)?;
        }
        let session = session::current(&self.jobs);
        let policy = self.patience.request();
        let id = submit::submit(&self.jobs, &self.clock, policy, submission, OnEnded::Conflict(RESUME))?;
        Ok(RunRef::new(run, session::reference(&self.jobs, id, session)))
    }

    /// Stops a run's jobs and returns once they have ended.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if this Ray has no such job, and the job was submitted at another address.
    pub fn terminate(&self, run: &RunRef, listener: &impl ProgressListener) -> Result<Termination, Error> {
        let id = std::slice::from_ref(&run.job.submission_id);
        let outcomes = stop::stop_jobs(&self.jobs, &self.clock, id, listener)?;
        for outcome in &outcomes {
            if outcome.status.state == JobState::Missing {
                session::check_address(&self.jobs, &run.job)?;
            }
            // The worker stops its own steps, unless it never ran or was killed.
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
        session::read_all(&self.jobs, &self.patience, Nodes::Read, runs.iter().map(|run| &run.job))
    }

    /// Returns the job's status and the end of its output as text.
    pub fn debug_info(&self, run: &RunRef) -> Result<String, Error> {
        debug::info(&self.jobs, &run.job.submission_id)
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
        model::{JobRef, WorkerCommand},
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
        let launcher = Launcher::new(FakeRay::default(), VirtualClock::default(), Patience::default());
        let launched = launcher.launch(&run()).expect("a reference");
        assert_eq!(launcher.jobs.calls(), ["version", "submit dagster-run-r"]);
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

    fn planned(launcher: &Launcher<FakeRay, VirtualClock>, run: &RunSpec) -> RunRef {
        match launcher.plan(run).expect("a plan") {
            RunPlacement::Job(run) => run,
            RunPlacement::Local => panic!("a local run"),
        }
    }

    #[test]
    fn plan_sends_no_request_and_names_the_job_that_launch_and_resume_create() {
        let launcher = Launcher::new(FakeRay::default(), VirtualClock::default(), Patience::default());
        for attempt in [0, 1] {
            let run = RunSpec { attempt, ..run() };
            let planned = planned(&launcher, &run);
            assert!(!launcher.jobs.calls().iter().any(|call| call.ends_with(&planned.job.submission_id)));
            assert_eq!((planned.run_id.as_str(), planned.attempt), ("r", attempt));
            for _ in 0..2 {
                assert_eq!(launcher.launch(&run).expect("a reference"), planned);
            }
        }
        assert_eq!(launcher.jobs.submitted()[0], "dagster-run-r");
        assert_eq!(launcher.jobs.submitted()[2], "dagster-run-r-1");
    }

    #[test]
    fn a_run_that_is_not_enabled_is_local_and_invalid_options_are_reported() {
        let launcher = Launcher::new(FakeRay::default(), VirtualClock::default(), Patience::default());
        let tagged = |tag: &str| RunSpec { tags: vec![(TAG.to_owned(), tag.to_owned())], ..run() };
        let local = tagged(r#"{"enabled": false, "num_cpus": -1}"#);
        assert_eq!(launcher.plan(&local).expect("a plan"), RunPlacement::Local);
        let off = RunSpec { options: r#"{"enabled": false}"#.to_owned(), ..tagged(r#"{"enabled": true}"#) };
        assert!(matches!(launcher.plan(&off).expect("a plan"), RunPlacement::Job(_)));
        for mistake in [r#"{"enabled": "no"}"#, r#"{"num_cpus": "two"}"#, "[1]"] {
            assert!(matches!(launcher.plan(&tagged(mistake)), Err(Error::InvalidConfig(_))), "{mistake}");
        }
        assert!(launcher.jobs.calls().is_empty());
    }

    #[test]
    fn the_reference_of_a_launch_keeps_the_session_from_before_the_submission() {
        let launcher = Launcher::new(FakeRay::default(), VirtualClock::default(), Patience::default());
        launcher.jobs.set_session("first");
        launcher.jobs.restart_during_submission("second");
        let launched = launcher.launch(&run()).expect("a reference");
        assert!(launched.job.details.is_some_and(|details| details.contains("first")));
    }

    #[test]
    fn a_run_whose_head_restarted_is_not_missing_at_once() {
        let launcher = Launcher::new(FakeRay::default(), VirtualClock::default(), Patience::default());
        launcher.jobs.set_session("first");
        let launched = launcher.launch(&run()).expect("a reference");
        launcher.jobs.restart("second");
        let [status] = &launcher.check(std::slice::from_ref(&launched)).expect("statuses")[..] else {
            panic!("one status");
        };
        assert_eq!((status.state, status.ended), (JobState::Unknown, false));
        assert!(status.missing_after_ms.is_some());
        // The new head knows nothing of the job, and the old one is gone.
        let listener = RecordingListener::default();
        assert_eq!(launcher.terminate(&launched, &listener).expect("an end"), Termination::Missing);
    }

    #[test]
    fn a_run_at_another_address_cannot_be_terminated() {
        let launcher = Launcher::new(FakeRay::default(), VirtualClock::default(), Patience::default());
        launcher.jobs.set_session("second");
        let job = JobRef {
            dashboard_url: Some("http://other:8265/#/jobs/dagster-run-r".to_owned()),
            details: Some(r#"{"session": "first"}"#.to_owned()),
            ..JobRef::new("dagster-run-r")
        };
        let error = launcher.terminate(&RunRef::new(&run(), job), &RecordingListener::default());
        let text = error.expect_err("an error").message();
        assert!(text.contains("http://other:8265") && text.contains("http://ray:8265"), "{text}");
    }

    #[test]
    fn terminating_a_run_whose_job_never_started_reports_stopped() {
        let launcher = Launcher::new(FakeRay::default(), VirtualClock::default(), Patience::default());
        let mut run = run();
        "/opt/env/bin/python3.12".clone_into(&mut run.command.argv[0]);
        launcher.jobs.ignore_stops("dagster-run-r");
        launcher.launch(&run).expect("a reference");
        let listener = RecordingListener::default();
        let terminate = |run_id: &str| {
            let run = RunSpec { run_id: run_id.to_owned(), ..run.clone() };
            launcher.terminate(&planned(&launcher, &run), &listener)
        };
        assert_eq!(terminate("r").expect("an end"), Termination::Stopped);
        assert_eq!(terminate("r").expect("an end"), Termination::AlreadyEnded);
        assert_eq!(terminate("unknown").expect("an end"), Termination::Missing);
        let kill = &launcher.jobs.submissions()[1];
        assert!(kill.entrypoint.starts_with("/opt/env/bin/python3.12 -c "), "{}", kill.entrypoint);
    }
}
