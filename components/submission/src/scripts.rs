//! The contract's `pipes`: submits external scripts as Ray jobs.

mod options;

use std::collections::BTreeMap;

use dagster_ray_jobs::{RayJobs, Submission};
use dagster_ray_sdk::{
    Error,
    bindings::pipes::{Followed, ScriptSpec},
    clock::Clock,
    model::{JobRef, JobState, JobStatus},
    options::read_document,
    progress::ProgressListener,
    retry::Retries,
};
use serde_json::{Map, Value, json};

pub use self::options::ScriptOptions;
use crate::{
    dead_nodes::Observer,
    entrypoint, environment, follow, ids, metadata,
    patience::Patience,
    status::{self, Located},
    stop,
    submit::{self, OnEnded},
};

const TAKEN: &str = "omit submission_id, or write an unused one";
const POLL_INTERVAL_MS: u64 = 1_000;
/// How often `terminate` polls for a missing job, whose submission may still be in flight.
const ARRIVAL_POLLS: u32 = 6;
const ARRIVAL_POLL_INTERVAL_MS: u64 = 500;

/// The contract's Pipes, generic over the Jobs API client and the clock.
pub struct Scripts<J, C> {
    jobs: J,
    clock: C,
    patience: Patience,
}

impl<J: RayJobs, C: Clock> Scripts<J, C> {
    /// Creates an instance that submits to this Ray.
    pub const fn new(jobs: J, clock: C, patience: Patience) -> Self {
        Self { jobs, clock, patience }
    }

    /// Checks a script's options and returns the reference that a launch returns. Makes no request.
    pub fn plan(&self, script: &ScriptSpec) -> Result<JobRef, Error> {
        Ok(self.reference(submission(script)?.submission_id))
    }

    /// Submits a script.
    ///
    /// # Errors
    /// [`Error::Conflict`] if a job with its submission id has ended.
    pub fn launch(&self, script: &ScriptSpec, listener: &impl ProgressListener) -> Result<JobRef, Error> {
        let mut submission = submission(script)?;
        submission.runtime_env = self.jobs.prepare_runtime_env(submission.runtime_env)?;
        if listener.cancelled() {
            return Err(Error::Cancelled);
        }
        let policy = self.patience.request();
        let id = submit::submit(&self.jobs, &self.clock, policy, submission, OnEnded::Conflict(TAKEN))?;
        Ok(self.reference(id))
    }

    /// Delivers a script's output to the listener, from a position that an earlier call returned.
    ///
    /// # Errors
    /// [`Error::Timeout`] if the script is pending for longer than [`Patience::start_seconds`].
    pub fn follow(
        &self,
        job: &JobRef,
        from: Option<&str>,
        listener: &impl ProgressListener,
    ) -> Result<Followed, Error> {
        let from = parse_position(from)?;
        let (policy, start) = (self.patience.unreachable(), self.patience.start(&self.clock));
        let id = &job.submission_id;
        let followed = follow::follow(&self.jobs, &self.clock, policy, start, id, from, listener)?;
        Ok(Followed { position: followed.position.to_string(), complete: followed.complete })
    }

    /// Waits until a script has ended.
    ///
    /// # Errors
    /// The last error of an outage that lasted as long as [`Patience::unreachable`].
    pub fn wait(&self, job: &JobRef, listener: &impl ProgressListener) -> Result<JobStatus, Error> {
        let mut outage = Retries::new(self.patience.unreachable());
        let mut nodes = Observer::default();
        loop {
            if listener.cancelled() {
                return Err(Error::Cancelled);
            }
            match self.read(job) {
                Ok(mut located) => {
                    nodes.apply(&self.jobs, &self.clock, std::slice::from_mut(&mut located));
                    if located.status.ended {
                        return Ok(located.status);
                    }
                    outage.reset();
                    self.clock.sleep_ms(POLL_INTERVAL_MS);
                }
                Err(error) if follow::is_outage(&error) => outage.pause(&self.clock, error)?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Stops a script, also a pending one, and returns once it has ended.
    pub fn terminate(&self, job: &JobRef, listener: &impl ProgressListener) -> Result<JobStatus, Error> {
        for _ in 0..ARRIVAL_POLLS {
            if self.read(job)?.status.state != JobState::Missing {
                break;
            }
            self.clock.sleep_ms(ARRIVAL_POLL_INTERVAL_MS);
        }
        let id = job.submission_id.clone();
        let outcomes = stop::stop_jobs(&self.jobs, &self.clock, &[id], listener)?;
        Ok(outcomes
            .into_iter()
            .next()
            .map_or_else(|| status::missing(&job.submission_id), |outcome| outcome.status))
    }

    fn read(&self, job: &JobRef) -> Result<Located, Error> {
        let mut statuses = status::read_all(&self.jobs, std::slice::from_ref(&job.submission_id))?;
        Ok(statuses.pop().unwrap_or_else(|| Located::missing(&job.submission_id)))
    }

    fn reference(&self, submission_id: String) -> JobRef {
        let dashboard_url = Some(self.jobs.dashboard_url(&submission_id));
        JobRef { submission_id, dashboard_url, details: None }
    }
}

/// Parses a position that an earlier `follow` returned. The result is in bytes.
pub fn parse_position(from: Option<&str>) -> Result<u64, Error> {
    from.map_or(Ok(0), |from| {
        from.parse().map_err(|_| {
            let hint = "pass the position that `follow` returned";
            Error::invalid("from", &format!("`{from}` is not a position"), Some(hint))
        })
    })
}

/// Adds the environment variables of a Pipes session to a runtime environment.
///
/// The `bootstrap` variables override the user's. The stop time is only a default.
///
/// # Errors
/// [`Error::InvalidConfig`] if `env_vars` is not an object.
pub fn add_session_env(
    env: &mut Map<String, Value>,
    bootstrap: impl IntoIterator<Item = (String, String)>,
) -> Result<(), Error> {
    let variables = env.entry("env_vars").or_insert(Value::Null);
    if variables.is_null() {
        *variables = json!({});
    }
    let Value::Object(variables) = variables else {
        return Err(Error::invalid(
            "runtime_env.env_vars",
            "is not an object",
            Some("write an object of strings"),
        ));
    };
    variables
        .entry(environment::STOP_WAIT)
        .or_insert_with(|| environment::STEP_STOP_WAIT_S.to_string().into());
    variables.extend(bootstrap.into_iter().map(|(name, value)| (name, value.into())));
    Ok(())
}

/// Returns the Ray job of a script.
fn submission(script: &ScriptSpec) -> Result<Submission, Error> {
    let options = read_document(&script.options, ScriptOptions::read)?;
    let Some(entrypoint) = options.entrypoint.filter(|entrypoint| !entrypoint.trim().is_empty()) else {
        return Err(Error::invalid(
            "entrypoint",
            "is missing",
            Some("write the command to run, such as `python script.py`"),
        ));
    };
    let mut runtime_env = options.runtime_env;
    add_session_env(&mut runtime_env, script.bootstrap.iter().cloned())?;
    let mut metadata: BTreeMap<String, String> = options.metadata;
    metadata.extend(script.labels.iter().cloned());
    metadata::set_deployment(&mut metadata, &script.deployment);
    for (key, value) in [
        (metadata::RUN_ID, script.run_id.clone()),
        (metadata::STEP, script.step_key.clone()),
        (metadata::ATTEMPT, script.attempt.to_string()),
        (metadata::LAUNCH_NONCE, script.nonce.clone()),
    ] {
        metadata.insert(key.to_owned(), value);
    }
    Ok(Submission {
        entrypoint: entrypoint::script(&entrypoint),
        submission_id: options.submission_id.unwrap_or_else(|| ids::script(&script.run_id, &script.nonce)),
        runtime_env: runtime_env.into(),
        metadata,
        entrypoint_num_cpus: options.entrypoint_num_cpus,
        entrypoint_num_gpus: options.entrypoint_num_gpus,
        entrypoint_memory: options.entrypoint_memory,
        entrypoint_resources: options.entrypoint_resources,
        entrypoint_label_selector: options.entrypoint_label_selector,
    })
}

#[cfg(test)]
mod tests {
    use dagster_ray_jobs::JobsClient;
    use dagster_ray_sdk::{
        retry::Policy,
        testing::{RecordingListener, ScriptedHttp, ScriptedResponse, VirtualClock},
    };

    use super::*;
    use crate::{
        dead_nodes::HEAD_LOST_MS,
        fake::{FakeRay, SubmitOutcome},
    };

    fn script(options: &str) -> ScriptSpec {
        ScriptSpec {
            deployment: "d".to_owned(),
            run_id: "r".to_owned(),
            step_key: "s".to_owned(),
            attempt: 0,
            nonce: "abc".to_owned(),
            bootstrap: vec![("DAGSTER_PIPES_CONTEXT".to_owned(), "ours".to_owned())],
            labels: vec![("dagster/run-id".to_owned(), "r".to_owned())],
            image: None,
            options: options.to_owned(),
        }
    }

    fn scripts() -> Scripts<FakeRay, VirtualClock> {
        Scripts::new(FakeRay::default(), VirtualClock::default(), Patience::default())
    }

    type Client<'a> = JobsClient<&'a ScriptedHttp, &'a VirtualClock>;

    /// Returns scripts whose Ray follows an HTTP script, as a call of `wait` uses it.
    fn waiting<'a>(http: &'a ScriptedHttp, clock: &'a VirtualClock) -> Scripts<Client<'a>, &'a VirtualClock> {
        let jobs = JobsClient::new("http://ray:8265", http, clock).expect("a client");
        Scripts::new(jobs.limited(Policy::ONCE, None), clock, Patience::default())
    }

    #[test]
    fn wait_outlasts_an_outage_and_returns_the_true_end() {
        let clock = VirtualClock::default();
        let running = || ScriptedResponse::new(200, r#"{"status": "RUNNING"}"#);
        let failures = || {
            let refused = ScriptedResponse::Error(Error::unavailable("connection refused", false));
            // A proxy in front of a dashboard that restarts.
            let others = [401, 404, 502].map(|status| ScriptedResponse::new(status, "<html>"));
            std::iter::repeat_n(refused, 50).chain(others)
        };
        let succeeded = [
            ScriptedResponse::new(200, r#"{"status": "SUCCEEDED"}"#),
            ScriptedResponse::new(404, "Job j-again1 does not exist"),
        ];
        // Two outages in a row do not add up.
        let script = [running()].into_iter().chain(failures()).chain([running()]).chain(failures());
        let http = ScriptedHttp::new(script.chain(succeeded));
        let ended = waiting(&http, &clock).wait(&JobRef::new("j"), &RecordingListener::default());
        assert_eq!(ended.expect("an end").state, JobState::Succeeded);
        assert!(clock.now_ms() > 400_000, "{}", clock.now_ms());
    }

    #[test]
    fn wait_gives_up_after_the_patience_with_the_last_error() {
        let clock = VirtualClock::default();
        let refused = || ScriptedResponse::Error(Error::unavailable("connection refused", false));
        let http = ScriptedHttp::with_rule(move |_| Some(refused()));
        let error = waiting(&http, &clock).wait(&JobRef::new("j"), &RecordingListener::default());
        assert!(error.unwrap_err().message().contains("refused"));
        assert_eq!(clock.now_ms(), 600_000);
    }

    #[test]
    fn a_script_on_a_dead_node_has_failed_once_none_of_its_workers_can_run() {
        let scripts = scripts();
        scripts.jobs.add("j", "RUNNING");
        scripts.jobs.ignore_stops("j");
        scripts.jobs.kill_node();
        let (job, listener) = (JobRef::new("j"), RecordingListener::default());
        for end in [Scripts::wait, Scripts::terminate] {
            let began = scripts.clock.now_ms();
            let ended = end(&scripts, &job, &listener).expect("an end");
            assert_eq!((ended.state, ended.ended), (JobState::Failed, true));
            assert!(ended.message.is_some_and(|text| text.contains("is dead")));
            let waited = scripts.clock.now_ms() - began;
            assert!((HEAD_LOST_MS..HEAD_LOST_MS + 40_000).contains(&waited), "{waited}");
        }
    }

    #[test]
    fn the_session_variables_and_the_origin_override_the_users_options() {
        let options = r#"{
            "entrypoint": "python it.py",
            "runtime_env": {"env_vars": {"DAGSTER_PIPES_CONTEXT": "user", "RAY_JOB_STOP_WAIT_TIME_S": "5"}},
            "metadata": {"dagster/run-id": "other", "team": "x"},
            "entrypoint_num_gpus": 0,
            "entrypoint_label_selector": {"zone": "a"}
        }"#;
        let scripts = scripts();
        let listener = RecordingListener::default();
        let planned = scripts.plan(&script(options)).expect("a plan");
        assert_eq!(scripts.launch(&script(options), &listener).expect("a job"), planned);
        let sent = &scripts.jobs.submissions()[0];
        assert_eq!(sent.submission_id, "dagster-pipes-r-abc");
        assert_eq!(
            sent.runtime_env["env_vars"],
            json!({"DAGSTER_PIPES_CONTEXT": "ours", "RAY_JOB_STOP_WAIT_TIME_S": "5"})
        );
        assert_eq!(sent.metadata["dagster/run-id"], "r");
        assert_eq!(sent.metadata["dagster-ray/deployment"], "d");
        assert_eq!(sent.metadata["team"], "x");
        assert_eq!(sent.entrypoint_num_gpus, Some(0.0));
        assert_eq!(sent.entrypoint_label_selector.as_ref().expect("one")["zone"], "a");
    }

    #[test]
    fn plan_reports_every_mistake_and_sends_no_request() {
        let wrong = r#"{"entrypoint": 3, "entrypont": "x", "entrypoint_num_cpus": "two"}"#;
        let scripts = scripts();
        let Err(Error::InvalidConfig(mistakes)) = scripts.plan(&script(wrong)) else { panic!("a plan") };
        let mut paths: Vec<&str> = mistakes.iter().map(|one| one.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["entrypoint", "entrypoint_num_cpus", "entrypont"]);
        assert!(matches!(scripts.plan(&script("{}")), Err(Error::InvalidConfig(_))));
        assert!(scripts.jobs.calls().is_empty());
    }

    #[test]
    fn a_script_is_terminated_when_the_response_of_its_launch_is_lost() {
        let scripts = scripts();
        let listener = RecordingListener::default();
        let script = script(r#"{"entrypoint": "x"}"#);
        scripts.jobs.set_submit_outcomes([SubmitOutcome::Lost]);
        let job = scripts.launch(&script, &listener).expect("a job");
        assert_eq!(scripts.terminate(&job, &listener).expect("an end").state, JobState::Stopped);
        let unknown = JobRef { submission_id: "unknown".to_owned(), dashboard_url: None, details: None };
        assert_eq!(scripts.terminate(&unknown, &listener).expect("an end").state, JobState::Missing);
    }
}
