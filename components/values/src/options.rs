//! The user's options of an I/O backend.

use dagster_ray_sdk::{
    Error,
    options::{Fields, read_field},
};
use schemars::JsonSchema;

const DAY: u64 = 24 * 3600;

/// Options for storing values.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
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
        read_field(WHERE, text, |fields| {
            let default = Self::default();
            Self {
                asset_value_seconds: asset_value_seconds(fields).unwrap_or(default.asset_value_seconds),
                run_value_seconds: fields.seconds("run_value_seconds").unwrap_or(default.run_value_seconds),
                failed_run_seconds: fields
                    .seconds("failed_run_seconds")
                    .unwrap_or(default.failed_run_seconds),
                overwrite: fields.boolean("overwrite").unwrap_or(default.overwrite),
                allow_missing_partitions: fields
                    .boolean("allow_missing_partitions")
                    .unwrap_or(default.allow_missing_partitions),
            }
        })
    }

    /// The JSON schema of the options. A test generates it.
    pub const SCHEMA: &str = include_str!("../schemas/options.json");
}

/// The name of the configuration field that contains these options.
const WHERE: &str = "backend_config";

/// Returns the written lifetime: `Some(None)` for `null`, which means no limit.
fn asset_value_seconds(fields: &mut Fields<'_>) -> Option<Option<u64>> {
    const NAME: &str = "asset_value_seconds";
    let is_null = fields.is_null(NAME);
    let seconds = fields.seconds(NAME);
    (is_null || seconds.is_some()).then_some(seconds)
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
