//! The faults that a test injects.

use dagster_ray_sdk::{
    Error, json,
    model::FieldError,
    settings::{Settings, WasiSettings},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::keys::KeyValueStore;

/// The name of the setting, and of the bucket's key for faults that are added during a simulation.
pub const FAULTS: &str = "faults";

/// Selects the Ray jobs that a fault applies to. Without any field, it selects all jobs.
#[derive(Clone, Copy, Debug)]
pub struct FaultSelector<'a> {
    /// A step key, or the name of an op.
    pub step: Option<&'a str>,
    /// The name of a Dagster job; selects the run workers of its runs.
    pub run: Option<&'a str>,
    /// A part of a script's command line.
    pub script: Option<&'a str>,
}

/// An injected fault. A fault of jobs selects them by `step` (step key or op), `run` (name of the Dagster
/// job) or `script` (part of the command line). Without these it applies to any job.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "fault", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// The operating system kills a starting job because it is out of memory.
    OutOfMemory {
        /// A step key, or the name of an op.
        step: Option<String>,
        /// The name of a Dagster job.
        run: Option<String>,
        /// A part of a script's command line.
        script: Option<String>,
        /// The number of jobs that are affected. Default: 1.
        #[serde(default = "one")]
        times: u64,
    },
    /// The head runs out of memory: every running job fails.
    HeadOutOfMemory {
        /// The step during which the fault occurs. Default: as soon as any job runs.
        step: Option<String>,
    },
    /// A job waits for resources and never starts.
    Pending {
        /// A step key, or the name of an op.
        step: Option<String>,
        /// The name of a Dagster job.
        run: Option<String>,
        /// A part of a script's command line.
        script: Option<String>,
        /// The number of jobs that are affected. Default: 1.
        #[serde(default = "one")]
        times: u64,
    },
    /// Ray's dashboard responds to every request with status 503.
    Unavailable {
        /// The duration in seconds of the simulation's clock, from the first affected request.
        seconds: f64,
        /// The step during which the fault starts. Default: with the first request.
        step: Option<String>,
    },
    /// The connection that transfers a script's output breaks.
    LogCut {
        /// The number of lines that are transferred before.
        lines: u64,
        /// A part of the script's command line.
        script: Option<String>,
        /// The number of connections that break. Default: 1.
        #[serde(default = "one")]
        times: u64,
    },
    /// A job is submitted, but the response to the submission is lost.
    AnswerLost {
        /// A step key, or the name of an op.
        step: Option<String>,
        /// The name of a Dagster job.
        run: Option<String>,
        /// A part of a script's command line.
        script: Option<String>,
        /// The number of responses that are lost. Default: 1.
        #[serde(default = "one")]
        times: u64,
    },
    /// A cluster is slow to become ready, or never becomes ready.
    ClusterStarts {
        /// The seconds of the simulation's clock from its creation until it is ready. `null`: never.
        seconds: Option<f64>,
        /// The number of clusters that are affected. Default: 1.
        #[serde(default = "one")]
        times: u64,
    },
}

fn one() -> u64 {
    1
}

impl Fault {
    /// Returns the selector of the jobs that the fault applies to.
    #[must_use]
    pub fn selector(&self) -> FaultSelector<'_> {
        let none = FaultSelector { step: None, run: None, script: None };
        match self {
            Self::OutOfMemory { step, run, script, .. }
            | Self::Pending { step, run, script, .. }
            | Self::AnswerLost { step, run, script, .. } => {
                FaultSelector { step: step.as_deref(), run: run.as_deref(), script: script.as_deref() }
            }
            Self::HeadOutOfMemory { step } | Self::Unavailable { step, .. } => {
                FaultSelector { step: step.as_deref(), ..none }
            }
            Self::LogCut { script, .. } => FaultSelector { script: script.as_deref(), ..none },
            Self::ClusterStarts { .. } => none,
        }
    }

    /// Returns how often the fault occurs.
    #[must_use]
    pub fn times(&self) -> u64 {
        match self {
            Self::OutOfMemory { times, .. }
            | Self::Pending { times, .. }
            | Self::LogCut { times, .. }
            | Self::AnswerLost { times, .. }
            | Self::ClusterStarts { times, .. } => *times,
            Self::HeadOutOfMemory { .. } | Self::Unavailable { .. } => 1,
        }
    }
}

/// The JSON schema of a list of faults. A test generates it.
pub const SCHEMA: &str = include_str!("../schemas/faults.json");

/// Returns the faults of the configuration, followed by those that were added during the simulation.
///
/// # Errors
/// Faults are invalid. The error lists every mistake with its path.
pub fn all(settings: &impl Settings, keys: &impl KeyValueStore) -> Result<Vec<Fault>, Error> {
    let mut faults = read(&settings.get(FAULTS)?.unwrap_or_default())?;
    let added = keys.get(FAULTS)?.unwrap_or_default();
    faults.extend(read(&String::from_utf8_lossy(&added))?);
    Ok(faults)
}

/// Returns the faults in the settings of the host and in the bucket.
///
/// # Errors
/// As [`all`].
pub fn from_host(keys: &impl KeyValueStore) -> Result<Vec<Fault>, Error> {
    all(&WasiSettings, keys)
}

fn read(text: &str) -> Result<Vec<Fault>, Error> {
    let hint = r#"write a list such as [{"fault": "out-of-memory", "step": "train"}]"#;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let entries = match json::parse(text.as_bytes()) {
        Ok(Value::Array(entries)) => entries,
        Ok(_) => return Err(Error::invalid(FAULTS, "is not a list", Some(hint))),
        Err(error) => return Err(Error::invalid(FAULTS, &format!("is not JSON: {error}"), Some(hint))),
    };
    let mut mistakes = Vec::new();
    let mut faults = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        match serde_json::from_value(entry.clone()) {
            Ok(fault) => faults.push(fault),
            Err(error) => mistakes.push(mistake(&format!("{FAULTS}[{index}]"), &entry, &error)),
        }
    }
    if mistakes.is_empty() { Ok(faults) } else { Err(Error::InvalidConfig(mistakes)) }
}

/// Returns the error of a fault, with the path of the invalid field. Serde does not name the field in a
/// tagged enum.
fn mistake(at: &str, entry: &Value, error: &serde_json::Error) -> FieldError {
    let hint = |text: &str| Some(text.to_owned());
    let wrong = |path: String, problem: String, hint: Option<String>| FieldError { path, problem, hint };
    let Some(fields) = entry.as_object() else {
        let problem = "is not an object".to_owned();
        return wrong(at.to_owned(), problem, hint(r#"write an object such as {"fault": "pending"}"#));
    };
    if !fields.contains_key("fault") {
        let text = hint(r#"write the name of a fault, such as "pending""#);
        return wrong(format!("{at}.fault"), "is missing".to_owned(), text);
    }
    let without = |skipped: &str| {
        let rest: Map<String, Value> =
            fields.iter().filter(|(key, _)| *key != skipped).map(|(k, v)| (k.clone(), v.clone())).collect();
        serde_json::from_value::<Fault>(rest.into())
    };
    // A field is invalid if the fault is valid without it, or if then only that field is missing.
    let culprit = fields.keys().find(|key| match without(key) {
        Ok(_) => true,
        Err(other) => *key != "fault" && other.to_string() == format!("missing field `{key}`"),
    });
    match culprit {
        Some(key) => wrong(format!("{at}.{key}"), error.to_string(), hint("see `describe` for the schema")),
        None => wrong(at.to_owned(), error.to_string(), hint("see `describe` for the schema")),
    }
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::testing::assert_generated;
    use dagster_ray_submission::options::generate_schema;

    use super::*;

    fn mistakes(text: &str) -> Vec<FieldError> {
        match read(text) {
            Err(Error::InvalidConfig(mistakes)) => mistakes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_mistake_is_reported_with_its_path_and_a_hint() {
        let found = mistakes(
            r#"[{"fault": "out-of-memory", "step": 3}, {"fault": "oom"}, {"step": "a"}, {"fault": "unavailable",
                "seconds": "ten"}, {"fault": "pending", "stepp": "a"}, 7, {"fault": "unavailable"}]"#,
        );
        let paths: Vec<_> = found.iter().map(|mistake| mistake.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "faults[0].step",
                "faults[1]",
                "faults[2].fault",
                "faults[3].seconds",
                "faults[4].stepp",
                "faults[5]",
                "faults[6]"
            ]
        );
        assert!(found.iter().all(|mistake| mistake.hint.is_some()));
        assert!(found[1].problem.contains("head-out-of-memory"), "{:?}", found[1]);
        assert!(found[6].problem.contains("seconds"), "{:?}", found[6]);
        assert!(mistakes("{}")[0].hint.as_ref().is_some_and(|hint| hint.contains("out-of-memory")));
        assert!(mistakes("[")[0].problem.contains("not JSON"));
    }

    #[test]
    fn schema_is_up_to_date() {
        let schema = generate_schema::<Vec<Fault>>().to_string();
        assert_generated(env!("CARGO_MANIFEST_DIR"), "schemas/faults.json", &schema);
    }

    #[test]
    fn schema_contains_every_fault() {
        for name in
            ["out-of-memory", "head-out-of-memory", "pending", "unavailable", "log-cut", "answer-lost"]
        {
            assert!(SCHEMA.contains(&format!("\"{name}\"")), "{name}");
        }
    }
}
