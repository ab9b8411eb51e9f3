//! The faults that a test scripts.

use dagster_ray_sdk::{
    Error,
    model::FieldError,
    settings::{Settings, WasiSettings},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::keys::Keys;

/// The setting, and the key of the bucket under which more can be added while a simulation runs.
pub const FAULTS: &str = "faults";

/// The Ray jobs that a fault is about: all of them where nothing is said.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The key of a step, or the name of its op.
    pub step: Option<&'a str>,
    /// The name of a Dagster job: the workers of its runs.
    pub run: Option<&'a str>,
    /// A part of a script's command line.
    pub script: Option<&'a str>,
}

/// Something that goes wrong. A fault about jobs names a `step` (its key or op), a `run` (the name of
/// its Dagster job) or a `script` (a part of its command line), or strikes any of them.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "fault", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// The system kills a job that starts, for want of memory.
    OutOfMemory {
        /// The key of a step, or the name of its op.
        step: Option<String>,
        /// The name of a Dagster job.
        run: Option<String>,
        /// A part of a script's command line.
        script: Option<String>,
        /// How many jobs are struck. Default: 1.
        #[serde(default = "one")]
        times: u64,
    },
    /// The head runs out of memory: every job that runs fails.
    HeadOutOfMemory {
        /// It happens once this step runs. Default: once any job runs.
        step: Option<String>,
    },
    /// A job waits for resources and never starts.
    Pending {
        /// The key of a step, or the name of its op.
        step: Option<String>,
        /// The name of a Dagster job.
        run: Option<String>,
        /// A part of a script's command line.
        script: Option<String>,
        /// How many jobs are struck. Default: 1.
        #[serde(default = "one")]
        times: u64,
    },
    /// Ray's dashboard answers every request with 503, from the first request on.
    Unavailable {
        /// For how long, in seconds of the simulation's clock.
        seconds: f64,
        /// It happens once this step runs. Default: at once.
        step: Option<String>,
    },
    /// The connection that a script's output comes over breaks.
    LogCut {
        /// After so many lines.
        lines: u64,
        /// A part of the script's command line.
        script: Option<String>,
        /// How many connections break. Default: 1.
        #[serde(default = "one")]
        times: u64,
    },
    /// A submission is carried out, and its answer is lost.
    AnswerLost {
        /// The key of a step, or the name of its op.
        step: Option<String>,
        /// The name of a Dagster job.
        run: Option<String>,
        /// A part of a script's command line.
        script: Option<String>,
        /// How many answers are lost. Default: 1.
        #[serde(default = "one")]
        times: u64,
    },
    /// A cluster takes its time, or never gets ready.
    ClusterStarts {
        /// So many seconds of the simulation's clock after it was made. `null`: never.
        seconds: Option<f64>,
        /// How many clusters are struck. Default: 1.
        #[serde(default = "one")]
        times: u64,
    },
}

fn one() -> u64 {
    1
}

impl Fault {
    /// The jobs it is about.
    #[must_use]
    pub fn about(&self) -> About<'_> {
        let none = About { step: None, run: None, script: None };
        match self {
            Self::OutOfMemory { step, run, script, .. }
            | Self::Pending { step, run, script, .. }
            | Self::AnswerLost { step, run, script, .. } => {
                About { step: step.as_deref(), run: run.as_deref(), script: script.as_deref() }
            }
            Self::HeadOutOfMemory { step } | Self::Unavailable { step, .. } => {
                About { step: step.as_deref(), ..none }
            }
            Self::LogCut { script, .. } => About { script: script.as_deref(), ..none },
            Self::ClusterStarts { .. } => none,
        }
    }

    /// How often it strikes.
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

/// The schema of a list of faults.
#[must_use]
pub fn schema() -> String {
    schemars::schema_for!(Vec<Fault>).to_value().to_string()
}

/// The faults of the configuration, and after them those that were added since.
///
/// # Errors
/// Where one of them is wrong; every mistake is told with its place.
pub fn all(settings: &impl Settings, keys: &impl Keys) -> Result<Vec<Fault>, Error> {
    let mut faults = read(&settings.get(FAULTS)?.unwrap_or_default())?;
    let added = keys.get(FAULTS)?.unwrap_or_default();
    faults.extend(read(&String::from_utf8_lossy(&added))?);
    Ok(faults)
}

/// The host's.
///
/// # Errors
/// As [`all`].
pub fn of_host(keys: &impl Keys) -> Result<Vec<Fault>, Error> {
    all(&WasiSettings, keys)
}

fn read(text: &str) -> Result<Vec<Fault>, Error> {
    let hint = r#"write a list such as [{"fault": "out-of-memory", "step": "train"}]"#;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let entries = match serde_json::from_str(text) {
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

/// Finds the one field that does not do, which serde does not name in a tagged record.
fn mistake(place: &str, entry: &Value, error: &serde_json::Error) -> FieldError {
    let hint = |text: &str| Some(text.to_owned());
    let wrong = |path: String, problem: String, hint: Option<String>| FieldError { path, problem, hint };
    let Some(fields) = entry.as_object() else {
        let problem = "is not an object".to_owned();
        return wrong(place.to_owned(), problem, hint(r#"write one such as {"fault": "pending"}"#));
    };
    if !fields.contains_key("fault") {
        return wrong(format!("{place}.fault"), "is missing".to_owned(), hint("say what goes wrong"));
    }
    let without = |left_out: &str| {
        let rest: Map<String, Value> =
            fields.iter().filter(|(key, _)| *key != left_out).map(|(k, v)| (k.clone(), v.clone())).collect();
        serde_json::from_value::<Fault>(rest.into())
    };
    // What reads well without a field, or only misses it then, is wrong in that field.
    let culprit = fields.keys().find(|key| match without(key) {
        Ok(_) => true,
        Err(other) => *key != "fault" && other.to_string() == format!("missing field `{key}`"),
    });
    match culprit {
        Some(key) => {
            wrong(format!("{place}.{key}"), error.to_string(), hint("see `describe` for the schema"))
        }
        None => wrong(place.to_owned(), error.to_string(), hint("see `describe` for the schema")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<FieldError> {
        match read(text) {
            Err(Error::InvalidConfig(mistakes)) => mistakes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_mistake_is_told_with_its_place_and_what_to_do() {
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
    fn the_schema_names_every_fault() {
        for name in
            ["out-of-memory", "head-out-of-memory", "pending", "unavailable", "log-cut", "answer-lost"]
        {
            assert!(schema().contains(&format!("\"{name}\"")), "{name}");
        }
    }
}
