//! Reads the user's options. Errors name the field of each mistake.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::bindings::dagster_ray::host::model::{Error, FieldError};

/// The tag of a run or an op that overrides the configuration, key by key.
const TAG: &str = "dagster-ray/config";

/// The options of runs and steps: `backend_config` and the fields of the launcher's configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    /// Whether the service executes a step. The Python adapter evaluates it for runs.
    pub(crate) enabled: Option<bool>,
    pub(crate) env_vars: Vec<String>,
    pub(crate) directory: Option<String>,
}

/// The options of a script: `submit_job_params` of the Pipes client.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ScriptOptions {
    pub(crate) entrypoint: String,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) runtime_env: RuntimeEnv,
    pub(crate) directory: Option<String>,
}

/// The keys of Ray's runtime environment that this service supports.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RuntimeEnv {
    pub(crate) env_vars: BTreeMap<String, String>,
}

/// Returns an error for one field, with a hint.
pub(crate) fn invalid(path: &str, problem: &str, hint: &str) -> Error {
    Error::InvalidConfig(vec![FieldError {
        path: path.to_owned(),
        problem: problem.to_owned(),
        hint: Some(hint.to_owned()),
    }])
}

/// Reads the options of a run or step, overridden by the tag.
pub(crate) fn of_worker(options: &str, tags: &[(String, String)]) -> Result<Options, Error> {
    let mut fields = object("options", options)?;
    if let Some((_, tag)) = tags.iter().find(|(name, _)| name == TAG) {
        fields.extend(object(TAG, tag)?);
    }
    read(fields)
}

pub(crate) fn of_script(options: &str) -> Result<ScriptOptions, Error> {
    let options: ScriptOptions = read(object("options", options)?)?;
    if options.entrypoint.trim().is_empty() {
        return Err(invalid("entrypoint", "is missing", "write the command, such as `python script.py`"));
    }
    Ok(options)
}

fn object(path: &str, text: &str) -> Result<Map<String, Value>, Error> {
    match serde_json::from_str(text) {
        Ok(Value::Object(mut fields)) => {
            // A null value counts as absent.
            fields.retain(|_, value| !value.is_null());
            Ok(fields)
        }
        _ => Err(invalid(path, "is not a JSON object", "write {} for no options")),
    }
}

/// Reads options. Reads each field by itself first, so that every mistake is reported.
fn read<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Error> {
    let mistakes: Vec<FieldError> = fields
        .iter()
        .filter_map(|(key, value)| {
            let alone = Map::from_iter([(key.clone(), value.clone())]);
            let problem = serde_json::from_value::<T>(alone.into()).err()?.to_string();
            Some(FieldError { path: key.clone(), problem, hint: None })
        })
        .collect();
    if !mistakes.is_empty() {
        return Err(Error::InvalidConfig(mistakes));
    }
    serde_json::from_value(fields.into()).map_err(|error| invalid("options", &error.to_string(), "see above"))
}

pub(crate) fn schema_of_workers() -> String {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "enabled": {"type": "boolean"},
            "env_vars": {
                "type": "array", "items": {"type": "string"},
                "description": "Environment variables, as KEY=VALUE.",
            },
            "directory": {"type": "string", "description": "The working directory on the service's machine."},
        },
    })
    .to_string()
}

pub(crate) fn schema_of_scripts() -> String {
    let strings = json!({"type": "object", "additionalProperties": {"type": "string"}});
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "entrypoint": {"type": "string", "description": "The command line, run by sh."},
            "metadata": strings,
            "runtime_env": {
                "type": "object",
                "additionalProperties": false,
                "properties": {"env_vars": strings},
            },
            "directory": {"type": "string", "description": "The working directory on the service's machine."},
        },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_overrides_options_key_by_key() {
        let tags = [(TAG.to_owned(), r#"{"directory": "/b", "enabled": null}"#.to_owned())];
        let options =
            of_worker(r#"{"directory": "/a", "env_vars": ["A=1"], "enabled": true}"#, &tags).unwrap();
        assert_eq!((options.directory.as_deref(), options.env_vars.len()), (Some("/b"), 1));
    }

    #[test]
    fn errors_name_every_wrong_field() {
        let Err(Error::InvalidConfig(mistakes)) = of_worker(r#"{"num_cpus": 1, "directory": 2}"#, &[]) else {
            panic!("no error for wrong options");
        };
        let paths: Vec<&str> = mistakes.iter().map(|mistake| mistake.path.as_str()).collect();
        assert_eq!(paths, ["directory", "num_cpus"]);
        assert!(mistakes[1].problem.contains("env_vars"), "the known keys: {}", mistakes[1].problem);
        assert!(of_script("{}").is_err());
    }
}
