//! One entry of `[grants]`, as JSON and as a line of a manifest.

use serde::Serialize;
use serde_json::{Value, json};

/// One entry of `[grants]`: a list, one rule of `kubernetes`, or one program of `processes`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// The key under `[grants]`, such as `http`.
    pub(crate) key: &'static str,
    /// The value as JSON.
    pub(crate) value: Value,
    /// The value as TOML.
    toml: String,
}

impl Entry {
    pub(super) fn new(key: &'static str, value: Value) -> Self {
        let toml = toml(&value);
        Self { key, value, toml }
    }

    /// Creates an entry whose TOML has another order of fields than its JSON.
    pub(super) fn with_toml(key: &'static str, value: Value, toml: String) -> Self {
        Self { key, value, toml }
    }

    /// Returns the entry of a list, or none if the list is empty.
    pub(super) fn list(key: &'static str, values: &[impl Serialize]) -> Option<Self> {
        (!values.is_empty()).then(|| Self::new(key, json!(values)))
    }

    /// Returns the entry as a line of a manifest.
    pub(crate) fn line(&self) -> String {
        format!("{} = {}", self.key, self.toml)
    }

    #[cfg(test)]
    pub(super) fn toml(&self) -> &str {
        &self.toml
    }
}

/// Formats a value as TOML on one line.
fn toml(value: &Value) -> String {
    let is_bare = |key: &str| {
        !key.is_empty()
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    match value {
        Value::Array(elements) => {
            format!("[{}]", elements.iter().map(toml).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                let key = if is_bare(key) { key.clone() } else { json!(key).to_string() };
                format!("{key} = {}", toml(value))
            };
            format!("{{ {} }}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        // JSON strings, numbers and booleans are valid TOML.
        scalar => scalar.to_string(),
    }
}
