//! Kills pending jobs, which Ray's Jobs API cannot stop.
//!
//! Ray accepts a stop for a job whose supervisor actor cannot be placed, but the stop waits in that
//! actor's queue and the job stays PENDING. Ray only deletes jobs that have ended, and its HTTP API
//! cannot kill the actor. So a small Ray job inside the cluster kills the supervisor, and Ray then
//! reports the pending job as failed.

use std::collections::BTreeMap;

use dagster_ray_jobs::{Job, Submission};
use serde_json::json;

use crate::{entrypoint, ids, metadata};

/// Ray's `error_type` for a job whose supervisor actor was killed.
pub const SUPERVISOR_DIED: &str = "JOB_SUPERVISOR_ACTOR_DIED";

/// The program of the kill job. A supervisor that answers the ping has started and will process the
/// queued stop, so it is not killed.
const SCRIPT: &str = r#"import sys, ray
ray.init(address="auto", log_to_driver=False)
for job in sys.argv[1:]:
    try:
        actor = ray.get_actor("_ray_internal_job_actor_" + job, namespace="SUPERVISOR_ACTOR_RAY_NAMESPACE")
        ray.get(actor.ping.remote(), timeout=2)
    except ValueError:
        print("no supervisor:", job)
    except ray.exceptions.GetTimeoutError:
        ray.kill(actor)
        print("killed pending job:", job)
"#;

/// Returns the Ray job that kills these pending jobs.
#[must_use]
pub fn kill_job(waiting: &[&Job]) -> Submission {
    let interpreter = waiting.iter().find_map(|job| interpreter(&job.entrypoint));
    let ids = waiting.iter().filter_map(|job| job.submission_id.as_deref());
    let script = [SCRIPT].into_iter().chain(ids);
    // Joining fails only for words with a NUL character, and none of these has one.
    let words = shlex::try_join(["-c"].into_iter().chain(script)).unwrap_or_default();
    let program = interpreter.unwrap_or_else(|| "\"$(command -v python3 || command -v python)\"".to_owned());
    Submission {
        entrypoint: format!("{program} {words}"),
        submission_id: ids::kill_job(),
        runtime_env: json!({}),
        metadata: metadata(waiting),
        ..Submission::default()
    }
}

/// Returns the deployment and the run of the pending jobs, so that a kill job that never ends has an owner.
fn metadata(waiting: &[&Job]) -> BTreeMap<String, String> {
    let owner = waiting.first().map(|job| &job.metadata);
    [metadata::DEPLOYMENT, metadata::RUN_ID]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), owner?.get(key)?.clone())))
        .collect()
}

/// Returns the submission ids of the pending jobs that a kill job kills.
#[must_use]
pub fn targets(kill_job: &Job) -> Vec<String> {
    let words = shlex::split(&kill_job.entrypoint).unwrap_or_default();
    words.into_iter().skip_while(|word| word != SCRIPT).skip(1).collect()
}

/// Returns the shell-quoted Python interpreter of a pending job, or `None` if its program is not Python.
///
/// That interpreter has Ray installed; other interpreters of the node may not.
fn interpreter(command_line: &str) -> Option<String> {
    let program = entrypoint::program(command_line)?;
    let name = program.rsplit('/').next()?;
    let is_python = name.strip_prefix("python")?.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if is_python { shlex::try_quote(&program).ok().map(std::borrow::Cow::into_owned) } else { None }
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::model::WorkerCommand;

    use super::*;

    fn waiting(entrypoint: String) -> Job {
        Job { submission_id: Some("dagster-run-r".to_owned()), entrypoint, ..Job::default() }
    }

    /// A job as a launch submits it.
    fn worker(argv: &[&str]) -> Job {
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        let command = WorkerCommand { argv, payload: Some("{}".to_owned()), env: Vec::new() };
        waiting(entrypoint::command_line(&command).expect("a command line"))
    }

    fn words(waiting: &Job) -> Vec<String> {
        shlex::split(&kill_job(&[waiting]).entrypoint).expect("words")
    }

    #[test]
    fn the_kill_job_runs_with_the_interpreter_of_the_worker_that_it_kills() {
        let found = words(&worker(&["/opt/my env/bin/python3.11", "-m", "dagster", "api", "execute_run"]));
        assert_eq!(found.first().map(String::as_str), Some("/opt/my env/bin/python3.11"));
        assert_eq!(found.last().map(String::as_str), Some("dagster-run-r"));
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn the_kill_job_runs_with_the_interpreter_of_a_script() {
        let found = words(&waiting("/opt/env/bin/python it.py --name \"it's\"".to_owned()));
        assert_eq!(found.first().map(String::as_str), Some("/opt/env/bin/python"));
    }

    #[test]
    fn the_kill_job_searches_for_an_interpreter_when_the_program_is_not_python() {
        for job in [worker(&["dagster", "api", "execute_run"]), waiting("A=1 python it.py".to_owned())] {
            let found = super::kill_job(&[&job]).entrypoint;
            assert!(found.starts_with("\"$(command -v python3"), "{found}");
        }
    }
}
