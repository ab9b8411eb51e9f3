//! Builds the runtime environment of a job.

use dagster_ray_sdk::{Error, json};
use serde_json::{Map, Value};

use crate::options::Options;

/// The environment variable with the name of the Dagster job.
pub const JOB_NAME: &str = "DAGSTER_RUN_JOB_NAME";
/// The environment variable with the step key, for step workers.
pub const STEP_KEY: &str = "DAGSTER_RUN_STEP_KEY";
/// The environment variable with the attempt of the step, for step workers.
pub const STEP_ATTEMPT: &str = "DAGSTER_RAY_STEP_ATTEMPT";
/// Ray's environment variable with the seconds between SIGTERM and SIGKILL when a job is stopped.
///
/// Ray's default of 3 s is too short for Dagster to stop its steps and clean up.
pub const STOP_WAIT: &str = "RAY_JOB_STOP_WAIT_TIME_S";
/// The default of [`STOP_WAIT`] for a run worker, which stops steps that have [`STEP_STOP_WAIT_S`] each.
pub const RUN_STOP_WAIT_S: u32 = 60;
/// The default of [`STOP_WAIT`] for a step worker.
pub const STEP_STOP_WAIT_S: u32 = 30;

/// Builds the runtime environment from the user's options and the worker's variables.
///
/// Precedence of environment variables, lowest first: `lowest`, `runtime_env.env_vars`, `env_vars`,
/// `highest`.
#[must_use]
pub fn build(options: &Options, lowest: &[(&str, &str)], highest: &[(String, String)]) -> Value {
    let mut variables = Map::new();
    variables.extend(lowest.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())));
    if let Some(Value::Object(own)) = options.runtime_env.get("env_vars") {
        variables.extend(own.clone());
    }
    for (name, value) in options.env_vars.iter().chain(highest) {
        variables.insert(name.clone(), value.as_str().into());
    }

    let mut document = options.runtime_env.clone();
    document.insert("env_vars".to_owned(), variables.into());
    document.into()
}

/// The largest runtime environment as JSON, in bytes.
///
/// Ray passes it to the driver of a job in one environment variable, `RAY_JOB_CONFIG_JSON_ENV_VAR`, with the job's
/// metadata. Linux limits each variable to 128 KiB (`MAX_ARG_STRLEN`), and the driver of a job above it dies with
/// `Argument list too long`.
const MAX_BYTES: usize = (128 - 8) * 1024;

/// Returns an error if a worker could not start with this runtime environment.
///
/// # Errors
/// [`Error::InvalidConfig`], because a retry would fail in the same way.
pub fn check_size(runtime_env: &Value, step_key: Option<&str>) -> Result<(), Error> {
    let bytes = json::text(runtime_env).len();
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    let problem = format!(
        "has {bytes} bytes with the worker's arguments, more than the {MAX_BYTES} with which a Ray job can start"
    );
    let hint = match step_key {
        Some(_) => {
            "if the step depends on thousands of outputs, set `isolation: task` for it: tasks have no such limit; \
             otherwise write large values to a file"
        }
        None => "write large values to a file, such as one in working_dir",
    };
    Err(Error::invalid("runtime_env", &problem, Some(hint)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(document: &str) -> Options {
        Options::merged(document, &Vec::new()).expect("options")
    }

    #[test]
    fn variables_follow_the_documented_precedence() {
        let options = options(
            r#"{"runtime_env": {"pip": ["x"], "env_vars": {"A": "r", "B": "r", "C": "r"}}, "env_vars": ["B=o", "C=o"]}"#,
        );
        let built = build(&options, &[("A", "low"), ("D", "low")], &[("C".to_owned(), "high".to_owned())]);
        assert_eq!(built["env_vars"], serde_json::json!({"A": "r", "B": "o", "C": "high", "D": "low"}));
        assert_eq!(built["pip"], serde_json::json!(["x"]));
    }

    #[test]
    fn an_environment_with_which_linux_starts_no_process_is_rejected() {
        let built = |bytes: usize| build(&options("{}"), &[], &[("A".to_owned(), "x".repeat(bytes))]);
        assert_eq!(check_size(&built(100_000), Some("s")), Ok(()));
        let Err(Error::InvalidConfig(fields)) = check_size(&built(130_000), Some("s")) else { panic!() };
        assert!(fields[0].hint.as_ref().is_some_and(|hint| hint.contains("isolation: task")));
    }

    #[test]
    fn the_stop_wait_time_is_raised_unless_the_user_sets_it() {
        let lowest = [(STOP_WAIT, "60")];
        assert_eq!(build(&options("{}"), &lowest, &[])["env_vars"][STOP_WAIT], "60");
        let chosen = options(r#"{"env_vars": ["RAY_JOB_STOP_WAIT_TIME_S=5"]}"#);
        assert_eq!(build(&chosen, &lowest, &[])["env_vars"][STOP_WAIT], "5");
    }

    #[test]
    fn launches_with_the_same_options_do_not_share_variables() {
        let options = options(r#"{"runtime_env": {"env_vars": {"A": "1"}}}"#);
        let before = options.clone();
        let one = build(&options, &[(JOB_NAME, "one")], &[("ONLY".to_owned(), "one".to_owned())]);
        let two = build(&options, &[(JOB_NAME, "two")], &[]);
        assert_eq!(one["env_vars"][JOB_NAME], "one");
        assert_eq!(two["env_vars"], serde_json::json!({"A": "1", JOB_NAME: "two"}));
        assert_eq!(options, before);
    }
}
