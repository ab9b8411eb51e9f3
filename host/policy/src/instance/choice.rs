//! One value of a configuration, and who chose it.

use serde::Deserialize;
use serde_json::Value;

/// Who chose a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// `dagster.yaml`.
    Operator,
    /// The code of a code location.
    Code,
    /// The config of a run.
    RunConfig,
    /// A tag of a run.
    RunTag,
    /// The container context of a code location: options that the location sets for its runs.
    ContainerContext,
}

/// The value of one field, and who chose it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// The field, such as `address`.
    pub field: String,
    /// Where the field was written, such as `execution.config.address`.
    pub path: String,
    /// The value.
    pub value: Value,
    /// Who chose the value.
    pub source: Source,
}

impl Choice {
    /// Returns the choice of an entry of this value.
    pub(super) fn entry(&self, field: &str, value: &Value) -> Self {
        Self {
            field: field.to_owned(),
            path: format!("{}.{field}", self.path),
            value: value.clone(),
            source: self.source,
        }
    }
}
