//! Builds the runtime environment of a job.

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
