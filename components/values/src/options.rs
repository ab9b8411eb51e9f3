//! What a user can ask for.

use dagster_ray_sdk::Error;
use dagster_ray_sdk::model::FieldError;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

const DAY: u64 = 24 * 3600;

/// How values are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Seconds for which an asset's value is kept after it was stored. `null` keeps it until it is
    /// overwritten or deleted.
    pub asset_value_seconds: Option<u64>,
    /// Seconds after which a value that is not an asset's is given up even though its run still
    /// goes on, or nobody ever looked whether it does.
    pub run_value_seconds: u64,
    /// Seconds for which such values outlive a run that failed, so that it can be re-executed from
    /// the step that failed.
    pub failed_run_seconds: u64,
    /// Whether a value takes the place of one that is there.
    pub overwrite: bool,
    /// Whether partitions that are not there are left out where many are loaded.
    pub allow_missing_partitions: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            asset_value_seconds: Some(7 * DAY),
            run_value_seconds: 7 * DAY,
            failed_run_seconds: DAY,
            overwrite: true,
            allow_missing_partitions: false,
        }
    }
}

impl Options {
    /// Reads them.
    ///
    /// # Errors
    /// Where the text is no object, a key is not known, or a value is not of its kind.
    pub fn read(text: &str) -> Result<Self, Error> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        // Not as options at once: a list would be taken for their values in order.
        let fields: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| mistake(WHERE.to_owned(), &error))?;
        serde_json::from_value(Value::Object(fields.clone())).map_err(|error| {
            let mistakes = mistakes(fields);
            if mistakes.is_empty() {
                mistake(WHERE.to_owned(), &error)
            } else {
                Error::InvalidConfig(mistakes)
            }
        })
    }

    /// Their JSON schema.
    #[must_use]
    pub fn schema() -> String {
        schemars::schema_for!(Self).as_value().to_string()
    }
}

/// Where users write these options.
const WHERE: &str = "backend_config";

/// Each key that is wrong by itself.
fn mistakes(fields: Map<String, Value>) -> Vec<FieldError> {
    let wrong = fields.into_iter().filter_map(|(key, value)| {
        let path = format!("{WHERE}.{key}");
        let alone = Value::Object(Map::from_iter([(key, value)]));
        serde_json::from_value::<Options>(alone).err().map(|error| field(path, &error))
    });
    wrong.collect()
}

fn mistake(path: String, error: &serde_json::Error) -> Error {
    Error::InvalidConfig(vec![field(path, error)])
}

fn field(path: String, error: &serde_json::Error) -> FieldError {
    // The place within the one line of JSON means nothing to whoever wrote YAML or Python.
    let problem = error.to_string();
    let problem = problem.split(" at line ").next().unwrap_or_default().to_owned();
    FieldError { path, problem, hint: Some("see `describe` for the keys and their meaning".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_lists_the_known_ones() {
        let text = Options::read(r#"{"asset_ttl": 5}"#).unwrap_err().text();
        assert!(text.contains("asset_ttl") && text.contains("asset_value_seconds"), "{text}");
    }

    #[test]
    fn every_value_of_a_wrong_type_is_told_by_its_key() {
        let read = Options::read(r#"{"overwrite": "yes", "run_value_seconds": -1, "failed_run_seconds": 5}"#);
        let Err(Error::InvalidConfig(mistakes)) = read else { panic!("{read:?}") };
        let paths: Vec<&str> = mistakes.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(paths, ["backend_config.overwrite", "backend_config.run_value_seconds"]);
        assert!(matches!(Options::read("[]"), Err(Error::InvalidConfig(_))));
    }

    #[test]
    fn null_keeps_an_asset_and_nothing_has_a_bound() {
        assert_eq!(Options::read(r#"{"asset_value_seconds": null}"#).unwrap().asset_value_seconds, None);
        assert!(Options::read("").unwrap().asset_value_seconds.is_some());
    }
}
