//! The runtime environment of a job.

use serde_json::{Map, Value};

use crate::options::Options;

/// The environment variable that tells the worker which Dagster job it works for.
pub const JOB_NAME: &str = "DAGSTER_RUN_JOB_NAME";
/// The environment variable that tells a step's worker its step.
pub const STEP_KEY: &str = "DAGSTER_RUN_STEP_KEY";
/// How many seconds Ray leaves a job between SIGTERM and SIGKILL. Ray's own 3 are too few for
/// Dagster to stop its steps and clean up.
pub const STOP_WAIT: &str = "RAY_JOB_STOP_WAIT_TIME_S";
/// What a run gets of it: its worker stops steps that have [`STEP_STOP_WAIT_S`] each.
pub const RUN_STOP_WAIT_S: u32 = 60;
/// What a step gets of it.
pub const STEP_STOP_WAIT_S: u32 = 30;

/// Builds the runtime environment from what the user asked for and what the worker needs.
///
/// `lowest` are the variables that everything else overrides, `highest` those that nothing does.
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
    fn the_worker_beats_the_option_beats_the_runtime_env_beats_the_defaults() {
        let options = options(
            r#"{"runtime_env": {"pip": ["x"], "env_vars": {"A": "r", "B": "r", "C": "r"}}, "env_vars": ["B=o", "C=o"]}"#,
        );
        let built = build(&options, &[("A", "low"), ("D", "low")], &[("C".to_owned(), "high".to_owned())]);
        assert_eq!(built["env_vars"], serde_json::json!({"A": "r", "B": "o", "C": "high", "D": "low"}));
        assert_eq!(built["pip"], serde_json::json!(["x"]));
    }

    #[test]
    fn the_grace_before_a_kill_is_raised_unless_the_user_chose_one() {
        let lowest = [(STOP_WAIT, "60")];
        assert_eq!(build(&options("{}"), &lowest, &[])["env_vars"][STOP_WAIT], "60");
        let chosen = options(r#"{"env_vars": ["RAY_JOB_STOP_WAIT_TIME_S=5"]}"#);
        assert_eq!(build(&chosen, &lowest, &[])["env_vars"][STOP_WAIT], "5");
    }

    #[test]
    fn launches_from_the_same_options_do_not_see_each_other() {
        let options = options(r#"{"runtime_env": {"env_vars": {"A": "1"}}}"#);
        let before = options.clone();
        let one = build(&options, &[(JOB_NAME, "one")], &[("ONLY".to_owned(), "one".to_owned())]);
        let two = build(&options, &[(JOB_NAME, "two")], &[]);
        assert_eq!(one["env_vars"][JOB_NAME], "one");
        assert_eq!(two["env_vars"], serde_json::json!({"A": "1", JOB_NAME: "two"}));
        assert_eq!(options, before);
    }
}
