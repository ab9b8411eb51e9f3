//! What users write: `backend_config`, the fields that the Python package has, and the tag
//! `dagster-ray/config`, which overrides both.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::dagster_ray::host::model::{Error, FieldError};
use crate::wasi::config::store;

const TAG: &str = "dagster-ray/config";

/// A setting is read once from `backend_config`, and does not come with each run and step.
pub(crate) const GRACE: &str = "stop_grace_seconds";
pub(crate) const GRACE_IS: &str =
    "How long a process may take to end before it is killed. Default: 10.";
const GRACE_SECONDS: f64 = 10.0;

/// The options of a run or step.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) env_vars: Vec<(String, String)>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    // The Python package has acted on it already.
    #[serde(rename = "enabled")]
    _enabled: Option<bool>,
    env_vars: Vec<String>,
}

/// The JSON schema of what [`merged`] takes. Dagster shows its errors before anything is launched.
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

/// The options, overridden by the tag, key by key.
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
        .map_err(|error| invalid("options", &error.to_string(), "write what the schema has"))?;
    let pair = |(place, entry): (usize, &String)| match entry.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        // Not the entry itself: it may hold a secret, and errors are shown to many.
        None => Err(invalid(
            &format!("env_vars[{place}]"),
            "has no `=`",
            "write KEY=VALUE",
        )),
    };
    let env_vars = written.env_vars.iter().enumerate().map(pair);
    Ok(Options {
        env_vars: env_vars.collect::<Result<_, _>>()?,
    })
}

/// How long a process may take to end.
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
                    "write seconds, less than 3600",
                )
            })?,
    };
    Ok((seconds * 1000.0) as u64)
}

fn object(path: &str, text: &str) -> Result<Map<String, Value>, Error> {
    match serde_json::from_str(text) {
        Ok(Value::Object(mut fields)) => {
            // What is null is as good as not there.
            fields.retain(|_, value| !value.is_null());
            Ok(fields)
        }
        _ => Err(invalid(path, "is no JSON object", "write {} for nothing")),
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
    fn the_tag_wins_and_mistakes_are_named() {
        let tag = |text: &str| [(TAG.to_owned(), text.to_owned())];
        let options = merged(r#"{"env_vars": ["A=1"]}"#, &tag(r#"{"env_vars": ["A=2"]}"#))
            .ok()
            .unwrap();
        assert_eq!(options.env_vars, [("A".to_owned(), "2".to_owned())]);
        let Err(Error::InvalidConfig(mistakes)) =
            merged("{}", &tag(r#"{"num_cpus": 1, "env_vars": 2}"#))
        else {
            panic!("a mistake went through");
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
