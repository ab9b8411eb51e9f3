//! The options of users: `backend_config`, the launcher's and executor's fields, and the tag
//! `dagster-ray/config`, which overrides both.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::dagster_ray::host::model::{Error, FieldError};
use crate::wasi::config::store;

const TAG: &str = "dagster-ray/config";

/// A setting comes from `backend_config`, and is not passed with each run and step.
pub(crate) const GRACE: &str = "stop_grace_seconds";
pub(crate) const GRACE_HELP: &str =
    "Seconds that a process may take to end before it is killed. Default: 10.";
const GRACE_SECONDS: f64 = 10.0;

/// The options of a run or step.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Whether this backend executes a step. The Python package evaluates it for runs.
    pub(crate) enabled: Option<bool>,
    pub(crate) env_vars: Vec<(String, String)>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    enabled: Option<bool>,
    env_vars: Vec<String>,
}

/// Returns the JSON schema of the options.
pub(crate) fn schema() -> String {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "enabled": {"type": "boolean"},
            "env_vars": {
                "type": "array", "items": {"type": "string"},
                "description": "Environment variables, as KEY=VALUE.",
            },
        },
    })
    .to_string()
}

/// Returns the options, overridden by each key of the tag.
pub(crate) fn merged(options: &str, tags: &[(String, String)]) -> Result<Options, Error> {
    let mut fields = object("options", options)?;
    if let Some((_, tag)) = tags.iter().find(|(name, _)| name == TAG) {
        fields.extend(object(TAG, tag)?);
    }
    let mistakes: Vec<FieldError> = fields
        .iter()
        .filter_map(|(key, value)| {
            let alone = Value::from(Map::from_iter([(key.clone(), value.clone())]));
            let problem = serde_json::from_value::<Written>(alone).err()?.to_string();
            Some(FieldError {
                path: key.clone(),
                problem,
                hint: None,
            })
        })
        .collect();
    if !mistakes.is_empty() {
        return Err(Error::InvalidConfig(mistakes));
    }
    let written: Written = serde_json::from_value(fields.into())
        .map_err(|error| invalid("options", &error.to_string(), "see the options' schema"))?;
    let pair = |(index, entry): (usize, &String)| match entry.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        // Do not show the entry: it may contain a secret.
        None => Err(invalid(
            &format!("env_vars[{index}]"),
            "has no `=`",
            "write KEY=VALUE",
        )),
    };
    let env_vars = written.env_vars.iter().enumerate().map(pair);
    Ok(Options {
        enabled: written.enabled,
        env_vars: env_vars.collect::<Result<_, _>>()?,
    })
}

/// Returns how long a process may take to end, in milliseconds.
pub(crate) fn grace_ms() -> Result<u64, Error> {
    let seconds = match store::get(GRACE).ok().flatten() {
        None => GRACE_SECONDS,
        Some(text) => text
            .parse()
            .ok()
            .filter(|seconds| (0.0..3600.0).contains(seconds))
            .ok_or_else(|| {
                invalid(
                    GRACE,
                    &format!("is {text}"),
                    "write a number of seconds below 3600",
                )
            })?,
    };
    Ok((seconds * 1000.0) as u64)
}

fn object(path: &str, text: &str) -> Result<Map<String, Value>, Error> {
    match serde_json::from_str(text) {
        Ok(Value::Object(mut fields)) => {
            // A null value counts as not set.
            fields.retain(|_, value| !value.is_null());
            Ok(fields)
        }
        _ => Err(invalid(path, "is not a JSON object", "write {} for none")),
    }
}

fn invalid(path: &str, problem: &str, hint: &str) -> Error {
    Error::InvalidConfig(vec![FieldError {
        path: path.to_owned(),
        problem: problem.to_owned(),
        hint: Some(hint.to_owned()),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_overrides_options_and_errors_name_their_fields() {
        let tag = |text: &str| [(TAG.to_owned(), text.to_owned())];
        let options = merged(r#"{"env_vars": ["A=1"]}"#, &tag(r#"{"env_vars": ["A=2"]}"#))
            .ok()
            .unwrap();
        assert_eq!(options.env_vars, [("A".to_owned(), "2".to_owned())]);
        let Err(Error::InvalidConfig(mistakes)) =
            merged("{}", &tag(r#"{"num_cpus": 1, "env_vars": 2}"#))
        else {
            panic!("invalid options were accepted");
        };
        assert_eq!(
            mistakes
                .iter()
                .map(|mistake| mistake.path.as_str())
                .collect::<Vec<_>>(),
            ["env_vars", "num_cpus"]
        );
    }
}
