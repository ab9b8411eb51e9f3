//! External scripts, on any Ray.

mod options;

use std::collections::BTreeMap;

use dagster_ray_jobs::{RayJobs, Submission};
use dagster_ray_sdk::{
    Error,
    bindings::pipes::{Followed, ScriptSpec},
    clock::Clock,
    model::{JobRef, JobState, JobStatus},
    sink::Listener,
};
use serde_json::{Map, Value, json};

pub use self::options::ScriptOptions;
use crate::{
    environment, follow, ids, look, metadata,
    options::reader,
    status, stop,
    submit::{self, OnEnded},
};

const TAKEN: &str = "leave submission_id out, or write one that was not used before";
const LOOK_MS: u64 = 1_000;
/// A submission whose answer nobody waited for may still be on its way.
const ARRIVAL_LOOKS: u32 = 6;
const ARRIVAL_LOOK_MS: u64 = 500;

/// The contract's Pipes, on a Ray and a clock.
pub struct Scripts<J, C> {
    jobs: J,
    clock: C,
}

impl<J: RayJobs, C: Clock> Scripts<J, C> {
    /// Scripts on this Ray.
    pub const fn new(jobs: J, clock: C) -> Self {
        Self { jobs, clock }
    }

    /// Checks a script's configuration and names its job.
    pub fn plan(&self, script: &ScriptSpec) -> Result<JobRef, Error> {
        Ok(self.reference(submission(script)?.submission_id))
    }

    /// Starts a script.
    pub fn launch(&self, script: &ScriptSpec, listener: &impl Listener) -> Result<JobRef, Error> {
        let mut submission = submission(script)?;
        submission.runtime_env = self.jobs.prepare_runtime_env(submission.runtime_env)?;
        if listener.cancelled() {
            return Err(Error::Cancelled);
        }
        let id = submit::submit(&self.jobs, &self.clock, submission, OnEnded::Refuse(TAKEN))?;
        Ok(self.reference(id))
    }

    /// Passes a script's output on.
    pub fn follow(
        &self,
        job: &JobRef,
        from: Option<&str>,
        listener: &impl Listener,
    ) -> Result<Followed, Error> {
        let from = position(from)?;
        let reached = follow::follow(&self.jobs, &self.clock, &job.submission_id, from, listener)?;
        Ok(Followed { position: reached.position.to_string(), complete: reached.complete })
    }

    /// Waits until a script has ended.
    pub fn wait(&self, job: &JobRef, listener: &impl Listener) -> Result<JobStatus, Error> {
        loop {
            if listener.cancelled() {
                return Err(Error::Cancelled);
            }
            let status = self.look(job)?;
            if status::is_over(status.state) {
                return Ok(status);
            }
            self.clock.sleep_ms(LOOK_MS);
        }
    }

    /// Stops a script, also one that has not started, and returns once it has ended.
    pub fn terminate(&self, job: &JobRef, listener: &impl Listener) -> Result<JobStatus, Error> {
        for _ in 0..ARRIVAL_LOOKS {
            if self.look(job)?.state != JobState::Missing {
                break;
            }
            self.clock.sleep_ms(ARRIVAL_LOOK_MS);
        }
        let id = job.submission_id.clone();
        let ends = stop::all(&self.jobs, &self.clock, &[id], listener)?;
        Ok(ends.into_iter().next().map_or_else(|| status::missing(&job.submission_id), |end| end.status))
    }

    fn look(&self, job: &JobRef) -> Result<JobStatus, Error> {
        let mut statuses = look::at(&self.jobs, std::slice::from_ref(&job.submission_id))?;
        Ok(statuses.pop().unwrap_or_else(|| status::missing(&job.submission_id)))
    }

    fn reference(&self, submission_id: String) -> JobRef {
        let dashboard_url = Some(self.jobs.dashboard_url(&submission_id));
        JobRef { submission_id, dashboard_url, details: None }
    }
}

/// A position that an earlier call returned, in bytes.
pub fn position(from: Option<&str>) -> Result<u64, Error> {
    from.map_or(Ok(0), |from| {
        from.parse().map_err(|_| {
            Error::invalid("from", &format!("`{from}` is no position"), Some("pass what `follow` returned"))
        })
    })
}

/// Puts what opens the Pipes session into a runtime environment, over what is there, and under it
/// what a user may have said otherwise.
pub fn open_session(
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
            Some("write names with strings"),
        ));
    };
    variables
        .entry(environment::STOP_WAIT)
        .or_insert_with(|| environment::STEP_STOP_WAIT_S.to_string().into());
    variables.extend(bootstrap.into_iter().map(|(name, value)| (name, value.into())));
    Ok(())
}

/// The Ray job of a script.
fn submission(script: &ScriptSpec) -> Result<Submission, Error> {
    let options = reader::document(&script.options, ScriptOptions::read)?;
    let Some(entrypoint) = options.entrypoint.filter(|entrypoint| !entrypoint.trim().is_empty()) else {
        return Err(Error::invalid(
            "entrypoint",
            "is missing",
            Some("write the command to run, such as `python script.py`"),
        ));
    };
    let mut runtime_env = options.runtime_env;
    open_session(&mut runtime_env, script.bootstrap.iter().cloned())?;
    let mut metadata: BTreeMap<String, String> = options.metadata;
    metadata.extend(script.labels.iter().cloned());
    metadata.insert(metadata::LAUNCH.to_owned(), script.nonce.clone());
    Ok(Submission {
        entrypoint,
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
    use dagster_ray_sdk::testing::{RecordingListener, VirtualClock};

    use super::*;
    use crate::fake::{Answer, FakeRay};

    fn script(options: &str) -> ScriptSpec {
        ScriptSpec {
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
        Scripts::new(FakeRay::default(), VirtualClock::default())
    }

    #[test]
    fn the_session_and_the_origin_win_over_what_the_user_wrote() {
        let options = r#"{
            "entrypoint": "python it.py",
            "runtime_env": {"env_vars": {"DAGSTER_PIPES_CONTEXT": "theirs", "RAY_JOB_STOP_WAIT_TIME_S": "5"}},
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
        assert_eq!(sent.metadata["team"], "x");
        assert_eq!(sent.entrypoint_num_gpus, Some(0.0));
        assert_eq!(sent.entrypoint_label_selector.as_ref().expect("one")["zone"], "a");
    }

    #[test]
    fn every_mistake_is_told_before_anything_is_sent() {
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
    fn a_launch_whose_answer_was_lost_is_found_and_stopped() {
        let scripts = scripts();
        let listener = RecordingListener::default();
        let asked = script(r#"{"entrypoint": "x"}"#);
        scripts.jobs.answer_submits([Answer::Lost]);
        let job = scripts.launch(&asked, &listener).expect("a job");
        assert_eq!(scripts.terminate(&job, &listener).expect("an end").state, JobState::Stopped);
        let nobody = JobRef { submission_id: "nobody".to_owned(), dashboard_url: None, details: None };
        assert_eq!(scripts.terminate(&nobody, &listener).expect("an end").state, JobState::Missing);
    }
}
