//! Options of a run or step.
//!
//! The configuration of the launcher and the executor and the tag [`TAG`] take the same keys. The tag
//! overrides the configuration field by field. All mistakes in both are reported at once.

pub mod cluster;

use std::collections::BTreeMap;

pub use dagster_ray_sdk::options::TAG;
use dagster_ray_sdk::{
    Error,
    json::{self, Map, Value},
    model::Attributes,
    options::{Fields, Reader, read_merged},
};
use schemars::JsonSchema;

/// Resources that Ray rejects among the custom ones, and the option to use for each.
const NOT_CUSTOM: [(&str, &str); 3] = [("CPU", "num_cpus"), ("GPU", "num_gpus"), ("memory", "memory")];

/// What executes a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Isolation {
    /// A Ray job of its own.
    #[default]
    Job,
    /// A Ray task of the run's own Ray job.
    Task,
}

/// The process of a step that is a Ray task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Process {
    /// A process that may have executed other steps of the run, and may execute further ones.
    #[default]
    Warm,
    /// A new process, which ends with the step.
    Fresh,
}

/// Options of a run or step.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Options {
    /// Whether Ray executes the run or step. If false, Dagster's default run launcher executes the run, and
    /// the run worker executes the step in a process of its own. The other options are ignored then.
    pub enabled: Option<bool>,
    /// What executes a step: `job`, a Ray job of its own, or `task`, a Ray task of the run's own Ray job, which
    /// starts in milliseconds. Defaults to `job`. Applies to steps only.
    #[schemars(with = "Option<Isolation>")]
    pub isolation: Isolation,
    /// The process of a step with `isolation: task`: `warm`, which other steps of the run may have used, or
    /// `fresh`, a new one. Defaults to `warm`. A step that reserves a GPU always has a fresh process.
    #[schemars(with = "Option<Process>")]
    pub process: Process,
    /// CPUs to reserve for the worker. By default, Ray reserves none for a job, and 1 for a task.
    #[schemars(range(min = 0))]
    pub num_cpus: Option<f64>,
    /// GPUs to reserve for the worker.
    #[schemars(range(min = 0))]
    pub num_gpus: Option<f64>,
    /// Bytes of memory to reserve for the worker.
    pub memory: Option<u64>,
    /// Custom resources to reserve for the worker, by name.
    #[schemars(with = "Option<BTreeMap<String, f64>>")]
    pub resources: Option<Map<String, Value>>,
    /// Ray's runtime environment, such as `{"pip": ["polars"], "working_dir": "."}`.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub runtime_env: Map<String, Value>,
    /// Environment variables, each as `NAME=VALUE`. They override those of `runtime_env`.
    #[schemars(with = "Option<Vec<String>>")]
    pub env_vars: Vec<(String, String)>,
    /// Labels that the worker's node must have, by name, such as `{"ray.io/accelerator-type": "A100"}`.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub label_selector: BTreeMap<String, String>,
    /// Labels to attach to the Ray job, by name.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub metadata: BTreeMap<String, String>,
    /// Whether Ray's records of a run's steps that have succeeded are deleted at the end of the run. Ray remembers
    /// every job until its head ends, and reads all of them for each list. Defaults to `true`.
    pub delete_ended_jobs: Option<bool>,
}

impl Options {
    /// Reads the configuration and merges the tag [`TAG`] into it.
    ///
    /// A key in the tag overrides the configured value, also with `0`. `null` restores the default that
    /// applies without configuration.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] with every mistake of both.
    pub fn merged(configuration: &str, tags: &Attributes) -> Result<Self, Error> {
        read_merged(configuration, tags, Self::read)
    }

    /// Reads the options from the fields of an object. A backend with options of its own reads both from the
    /// same fields.
    #[must_use]
    pub fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            enabled: fields.boolean("enabled"),
            isolation: fields.with("isolation", isolation).unwrap_or_default(),
            process: fields.with("process", process).unwrap_or_default(),
            num_cpus: fields.number("num_cpus"),
            num_gpus: fields.number("num_gpus"),
            memory: fields.bytes("memory"),
            resources: fields.with("resources", resources),
            runtime_env: fields.with("runtime_env", runtime_env).unwrap_or_default(),
            env_vars: fields.variables("env_vars").unwrap_or_default(),
            label_selector: fields.strings("label_selector").unwrap_or_default(),
            metadata: fields.strings("metadata").unwrap_or_default(),
            delete_ended_jobs: fields.boolean("delete_ended_jobs"),
        }
    }

    /// Returns whether Ray executes the run or step.
    #[must_use]
    pub fn is_on_ray(&self) -> bool {
        self.enabled != Some(false)
    }

    /// Returns an error if Ray is disabled for the run or step.
    pub(crate) fn check_enabled(&self) -> Result<(), Error> {
        if self.is_on_ray() {
            return Ok(());
        }
        let hint = "set enabled to true, or let Dagster execute the run or step without Ray";
        Err(Error::invalid("enabled", "is false, so the component does not submit to Ray", Some(hint)))
    }

    /// The JSON schema of these options, generated by a test.
    pub const SCHEMA: &str = include_str!("../schemas/options.json");
}

fn isolation(reader: &mut Reader, path: &str, value: &Value) -> Option<Isolation> {
    choice(reader, path, value, &[("job", Isolation::Job), ("task", Isolation::Task)])
}

fn process(reader: &mut Reader, path: &str, value: &Value) -> Option<Process> {
    choice(reader, path, value, &[("warm", Process::Warm), ("fresh", Process::Fresh)])
}

fn choice<T: Copy>(reader: &mut Reader, path: &str, value: &Value, choices: &[(&str, T)]) -> Option<T> {
    let found = choices.iter().find(|(name, _)| value.as_str() == Some(name));
    if found.is_none() {
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
        reader.add_mistake(
            path,
            format!("is {}", json::text(value)),
            &format!("write {}", names.join(" or ")),
        );
    }
    found.map(|(_, choice)| *choice)
}

fn resources(reader: &mut Reader, path: &str, value: &Value) -> Option<Map<String, Value>> {
    for (reserved, option) in NOT_CUSTOM {
        if value.get(reserved).is_some() {
            let hint = format!("use the key {option} instead");
            reader.add_mistake(&format!("{path}.{reserved}"), "is not a custom resource", &hint);
        }
    }
    reader.numbers(path, value)
}

fn runtime_env(reader: &mut Reader, path: &str, value: &Value) -> Option<Map<String, Value>> {
    let object = reader.object(path, value, "write an object such as {\"pip\": [\"polars\"]}")?;
    if let Some(variables) = object.get("env_vars").filter(|variables| !variables.is_null()) {
        reader.strings(&format!("{path}.env_vars"), variables);
    }
    Some(object.clone())
}

/// Generates the JSON schema of a type of options.
///
/// For tests only: they write the schema to a file that the component includes. Generating it at run time
/// would add a tenth to the component's code size.
#[must_use]
pub fn generate_schema<T: JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

#[cfg(test)]
mod tests;
