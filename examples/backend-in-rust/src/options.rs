//! Reads the user's options. Errors name the field of each mistake.

use std::collections::BTreeMap;

use dagster_ray_sdk::{json::json, options::Fields};

/// The options of runs and steps: `backend_config` and the fields of the launcher's configuration.
#[derive(Debug)]
pub(crate) struct Options {
    /// Whether the service executes a step. The Python adapter evaluates it for runs.
    pub(crate) enabled: Option<bool>,
    pub(crate) env_vars: Vec<(String, String)>,
    pub(crate) directory: Option<String>,
}

impl Options {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            enabled: fields.boolean("enabled"),
            env_vars: fields.variables("env_vars").unwrap_or_default(),
            directory: fields.string("directory"),
        }
    }
}

/// The options of a script: `submit_job_params` of the Pipes client.
#[derive(Debug)]
pub(crate) struct ScriptOptions {
    pub(crate) entrypoint: String,
    pub(crate) metadata: BTreeMap<String, String>,
    /// From Ray's runtime environment, whose other keys this service does not support.
    pub(crate) env_vars: BTreeMap<String, String>,
    pub(crate) directory: Option<String>,
}

impl ScriptOptions {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Self {
        let hint = "write the command, such as `python script.py`";
        Self {
            entrypoint: fields.required_string("entrypoint", hint).unwrap_or_default(),
            metadata: fields.strings("metadata").unwrap_or_default(),
            env_vars: fields
                .options("runtime_env", "write an object with `env_vars`", |env| env.strings("env_vars"))
                .flatten()
                .unwrap_or_default(),
            directory: fields.string("directory"),
        }
    }
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
    use dagster_ray_sdk::{
        json,
        options::{keys, read_document, read_merged},
    };

    #[test]
    fn the_schemas_list_the_options_that_are_read() {
        let documented = |schema: String| {
            let schema = json::parse(schema.as_bytes()).unwrap();
            schema["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
        };
        let sorted = |mut keys: Vec<&'static str>| {
            keys.sort_unstable();
            keys
        };
        assert_eq!(documented(schema_of_workers()), sorted(keys(Options::read)));
        assert_eq!(documented(schema_of_scripts()), sorted(keys(ScriptOptions::read)));
    }

    #[test]
    fn errors_name_every_wrong_field() {
        let wrong = read_merged(r#"{"num_cpus": 1, "directory": 2}"#, &Vec::new(), Options::read);
        let text = wrong.unwrap_err().message();
        assert!(
            text.contains("`directory`") && text.contains("`num_cpus`") && text.contains("env_vars"),
            "{text}"
        );
        let text =
            read_document(r#"{"runtime_env": {"pip": []}}"#, ScriptOptions::read).unwrap_err().message();
        assert!(text.contains("`entrypoint`") && text.contains("`runtime_env.pip`"), "{text}");
    }
}
