//! What a user can ask for, for a run or a step.
//!
//! The same keys stand in the configuration of launcher and executor, and in the tag
//! [`TAG`], which overrides them field by field. All mistakes in both are reported at once.

pub mod fields;
mod read;

use std::collections::BTreeMap;

use dagster_ray_sdk::{
    Error,
    model::{Attributes, FieldError},
};
use schemars::JsonSchema;
use serde_json::{Map, Value};

/// The tag with which a run or an op overrides the configuration.
pub const TAG: &str = "dagster-ray/config";

/// What a job reserves, runs in and carries.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Options {
    /// Whether Ray executes this at all. Where it does not, the host finds another place, and asks
    /// no component.
    pub enabled: Option<bool>,
    /// CPUs to reserve for the worker. Ray reserves none where nothing is said.
    #[schemars(range(min = 0))]
    pub num_cpus: Option<f64>,
    /// GPUs to reserve for the worker.
    #[schemars(range(min = 0))]
    pub num_gpus: Option<f64>,
    /// Bytes of memory to reserve for the worker.
    pub memory: Option<u64>,
    /// Custom resources to reserve for the worker, by name.
    pub resources: Option<BTreeMap<String, f64>>,
    /// Ray's runtime environment, such as `{"pip": ["polars"], "working_dir": "."}`.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub runtime_env: Map<String, Value>,
    /// Environment variables, each as `NAME=VALUE`. They win over those of `runtime_env`.
    #[schemars(with = "Option<Vec<String>>")]
    pub env_vars: Vec<(String, String)>,
    /// Labels to attach to the Ray job, by name.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub metadata: BTreeMap<String, String>,
}

impl Options {
    /// The keys that there are.
    pub const KEYS: [&str; 8] =
        ["enabled", "num_cpus", "num_gpus", "memory", "resources", "runtime_env", "env_vars", "metadata"];

    /// Reads the configuration and the tag that overrides it.
    ///
    /// A key that the tag has wins, whatever its value: `0` turns a default off, and `null`
    /// goes back to what holds without configuration.
    pub fn merged(configuration: &str, tags: &Attributes) -> Result<Self, Error> {
        Self::merged_beside(configuration, tags, &[]).map(|(options, _)| options)
    }

    /// The same for a backend that has `others` as keys of its own: what stands under those is
    /// returned as it is, with the tag's on top.
    pub fn merged_beside(
        configuration: &str,
        tags: &Attributes,
        others: &[&str],
    ) -> Result<(Self, Map<String, Value>), Error> {
        let mut mistakes = Vec::new();
        let mut merged = match document(configuration) {
            Ok(fields) => {
                read::options(&fields, "", others, &mut mistakes);
                fields
            }
            Err(problem) => {
                mistakes.push(mistake("options", problem, "write an object such as {\"num_cpus\": 1}"));
                Map::new()
            }
        };
        if let Some((_, tag)) = tags.iter().find(|(name, _)| name == TAG) {
            match document(tag) {
                Ok(fields) => {
                    read::options(&fields, &format!("{TAG}."), others, &mut mistakes);
                    merged.extend(fields);
                }
                Err(problem) => mistakes.push(mistake(
                    TAG,
                    format!("the tag {problem}"),
                    "write a JSON object as the tag's value, such as {\"num_cpus\": 2}",
                )),
            }
        }
        if !mistakes.is_empty() {
            return Err(Error::InvalidConfig(mistakes));
        }
        let options = read::options(&merged, "", others, &mut Vec::new());
        merged.retain(|key, _| others.contains(&key.as_str()));
        Ok((options, merged))
    }

    /// Refuses what is not meant for Ray.
    pub(crate) fn check_enabled(&self) -> Result<(), Error> {
        if self.enabled != Some(false) {
            return Ok(());
        }
        let hint = "leave it to Dagster, or set enabled to true";
        Err(Error::invalid("enabled", "is false, and this was given to Ray all the same", Some(hint)))
    }

    /// The JSON schema of these options.
    #[must_use]
    pub fn schema() -> String {
        schemars::schema_for!(Self).as_value().to_string()
    }
}

/// An object, where nothing at all stands for one without keys.
fn document(text: &str) -> Result<Map<String, Value>, String> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(other) => Err(format!("is {}, not an object", read::kind(&other))),
        Err(error) => Err(format!("is not JSON: {error}")),
    }
}

fn mistake(path: &str, problem: String, hint: &str) -> FieldError {
    FieldError { path: path.to_owned(), problem, hint: Some(hint.to_owned()) }
}

#[cfg(test)]
mod tests;
