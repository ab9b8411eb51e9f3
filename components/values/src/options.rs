//! The user's options of an I/O backend.

use dagster_ray_sdk::Error;
use dagster_ray_sdk::json::{self, Map, Value, type_name};
use dagster_ray_sdk::model::FieldError;
use schemars::JsonSchema;
use serde::Deserialize;

const DAY: u64 = 24 * 3600;

/// Options for storing values.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Seconds after which the value of an asset expires. `null` keeps it until it is overwritten or
    /// deleted.
    pub asset_value_seconds: Option<u64>,
    /// Seconds after which the value of an output that is not an asset expires, even if its run is
    /// still in progress or no cleanup has run.
    pub run_value_seconds: u64,
    /// Seconds for which the values of a failed run are kept, so that the run can be re-executed from
    /// the failed step.
    pub failed_run_seconds: u64,
    /// Whether saving a value overwrites an existing one.
    pub overwrite: bool,
    /// Whether loading many partitions skips those without a value instead of failing.
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
    /// Parses options from JSON. An empty text means the defaults.
    ///
    /// # Errors
    /// The text is not an object, a key is unknown, or a value has the wrong type.
    pub fn read(text: &str) -> Result<Self, Error> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let fields = match json::parse(text.as_bytes()) {
            Ok(Value::Object(fields)) => fields,
            Ok(other) => {
                return Err(mistake(WHERE.to_owned(), &format!("is {}, not an object", type_name(&other))));
            }
            Err(error) => return Err(mistake(WHERE.to_owned(), &format!("is not JSON: {error}"))),
        };
        serde_json::from_value(Value::Object(fields.clone())).map_err(|error| {
            let mistakes = mistakes(fields);
            if mistakes.is_empty() {
                mistake(WHERE.to_owned(), &error.to_string())
            } else {
                Error::InvalidConfig(mistakes)
            }
        })
    }

    /// The JSON schema of the options. A test generates it.
    pub const SCHEMA: &str = include_str!("../schemas/options.json");
}

/// The name of the configuration field that contains these options.
const WHERE: &str = "backend_config";

/// Returns an error for each invalid key. Each key is parsed alone, because serde reports only the first.
fn mistakes(fields: Map<String, Value>) -> Vec<FieldError> {
    let wrong = fields.into_iter().filter_map(|(key, value)| {
        let path = format!("{WHERE}.{key}");
        let alone = Value::Object(Map::from_iter([(key, value)]));
        serde_json::from_value::<Options>(alone).err().map(|error| field(path, &error.to_string()))
    });
    wrong.collect()
}

fn mistake(path: String, problem: &str) -> Error {
    Error::InvalidConfig(vec![field(path, problem)])
}

fn field(path: String, problem: &str) -> FieldError {
    // Users write YAML or Python, so a position in the JSON is of no use to them.
    let problem = problem.split(" at line ").next().unwrap_or_default().to_owned();
    FieldError { path, problem, hint: Some("see the schema in `describe` for valid keys".to_owned()) }
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::testing::assert_generated;

    use super::*;

    #[test]
    fn schema_is_up_to_date() {
        let schema = schemars::schema_for!(Options).to_value().to_string();
        assert_generated(env!("CARGO_MANIFEST_DIR"), "schemas/options.json", &schema);
    }

    #[test]
    fn errors_for_unknown_keys_list_the_valid_keys() {
        let text = Options::read(r#"{"asset_ttl": 5}"#).unwrap_err().message();
        assert!(text.contains("asset_ttl") && text.contains("asset_value_seconds"), "{text}");
    }

    #[test]
    fn every_value_of_a_wrong_type_is_reported_with_its_key() {
        let read = Options::read(r#"{"overwrite": "yes", "run_value_seconds": -1, "failed_run_seconds": 5}"#);
        let Err(Error::InvalidConfig(mistakes)) = read else { panic!("{read:?}") };
        let paths: Vec<&str> = mistakes.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(paths, ["backend_config.overwrite", "backend_config.run_value_seconds"]);
        assert!(matches!(Options::read("[]"), Err(Error::InvalidConfig(_))));
    }

    #[test]
    fn assets_expire_by_default_and_null_disables_that() {
        assert_eq!(Options::read(r#"{"asset_value_seconds": null}"#).unwrap().asset_value_seconds, None);
        assert!(Options::read("").unwrap().asset_value_seconds.is_some());
    }
}
