//! What a component publishes of its options, and values that break it.

use serde_json::{Map, Value as Json, json};

/// A key that no backend has.
pub(crate) const UNKNOWN: &str = "no_backend_has_this_key";

/// The JSON schema of one interface's options.
pub(crate) struct Schema {
    document: Json,
    validator: jsonschema::Validator,
}

impl Schema {
    /// Reads it.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let document: Json =
            serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
        jsonschema::meta::validate(&document)
            .map_err(|error| format!("it is no JSON Schema: {error} (at {})", error.instance_path()))?;
        let validator = jsonschema::validator_for(&document).map_err(|error| error.to_string())?;
        Ok(Self { document, validator })
    }

    pub(crate) fn accepts(&self, options: &Map<String, Json>) -> bool {
        self.validator.is_valid(&Json::Object(options.clone()))
    }

    /// The keys that must be there.
    pub(crate) fn required(&self) -> Vec<&str> {
        let required = self.document.get("required").and_then(Json::as_array);
        required.into_iter().flatten().filter_map(Json::as_str).collect()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.document.get("properties").is_some_and(|properties| properties.get(key).is_some())
    }

    fn properties(&self) -> impl Iterator<Item = &String> {
        self.document.get("properties").and_then(Json::as_object).into_iter().flat_map(Map::keys)
    }

    /// For each property, a value that the schema refuses.
    pub(crate) fn mistakes(&self, options: &Map<String, Json>) -> Vec<(String, Json)> {
        let candidates =
            [json!("no such thing"), json!([[]]), json!({"no": {"such": []}}), json!(-1.5), json!(true)];
        self.properties()
            .filter_map(|key| {
                let wrong = candidates.iter().find(|value| !self.accepts(&with(options, key, value)))?;
                Some((key.clone(), wrong.clone()))
            })
            .collect()
    }

    /// The properties that take a number, `0` among them.
    pub(crate) fn numbers(&self, options: &Map<String, Json>) -> Vec<String> {
        let takes = |key: &&String, value: Json| self.accepts(&with(options, key, &value));
        self.properties()
            .filter(|key| takes(key, json!(0)) && takes(key, json!(7)) && !takes(key, json!("7")))
            .cloned()
            .collect()
    }
}

/// Options with one more key.
pub(crate) fn with(options: &Map<String, Json>, key: &str, value: &Json) -> Map<String, Json> {
    let mut options = options.clone();
    options.insert(key.to_owned(), value.clone());
    options
}
