//! The options of users: `backend_config`, the launcher's and executor's fields, and the tag
//! `dagster-ray/config`, which overrides both.

use dagster_ray_sdk::{
    Error,
    json::json,
    options::Fields,
    settings::{Settings, WasiSettings},
};

/// A setting comes from `backend_config`, and is not passed with each run and step.
pub(crate) const GRACE: &str = "stop_grace_seconds";
pub(crate) const GRACE_HELP: &str =
    "Seconds that a process may take to end before it is killed. Default: 10.";

/// The options of a run or step.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Whether this backend executes a step. The Python package evaluates it for runs.
    pub(crate) enabled: Option<bool>,
    pub(crate) env_vars: Vec<(String, String)>,
}

impl Options {
    /// Reads each option. A key that is not read here is unknown to users.
    pub(crate) fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            enabled: fields.boolean("enabled"),
            env_vars: fields.variables("env_vars").unwrap_or_default(),
        }
    }
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

/// Returns how long a process may take to end, in milliseconds.
pub(crate) fn grace_ms() -> Result<u64, Error> {
    WasiSettings.milliseconds(GRACE, 10.0, 3600.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dagster_ray_sdk::{
        json,
        options::{keys, read_merged},
    };

    #[test]
    fn schema_lists_the_options_that_are_read() {
        let schema = json::parse(schema().as_bytes()).unwrap();
        let documented = schema["properties"].as_object().unwrap();
        assert!(documented.keys().eq(keys(Options::read)));
    }

    #[test]
    fn every_mistake_of_a_tag_is_reported() {
        let tags = vec![(
            "dagster-ray/config".to_owned(),
            r#"{"num_cpus": 1, "env_vars": ["A"]}"#.to_owned(),
        )];
        let text = read_merged("{}", &tags, Options::read)
            .unwrap_err()
            .message();
        assert!(
            text.contains("num_cpus") && text.contains("env_vars[0]"),
            "{text}"
        );
    }
}
