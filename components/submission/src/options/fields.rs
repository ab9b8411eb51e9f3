//! A configuration as a typed record, with every mistake told by the name of its field.

use dagster_ray_sdk::{Error, model::FieldError};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Reads a whole document.
pub fn document<T: DeserializeOwned>(configuration: &str) -> Result<T, Error> {
    if configuration.trim().is_empty() {
        return read(Map::new());
    }
    match serde_json::from_str(configuration) {
        Ok(Value::Object(fields)) => read(fields),
        Ok(Value::Null) => read(Map::new()),
        Ok(_) => Err(Error::invalid("options", "are not an object", Some("write {} for none"))),
        Err(error) => Err(Error::invalid("options", &format!("are not JSON: {error}"), None)),
    }
}

/// Reads each field by itself, so that every mistake is found, and told with its name.
pub fn read<T: DeserializeOwned>(mut fields: Map<String, Value>) -> Result<T, Error> {
    // What is null is as good as not there.
    fields.retain(|_, value| !value.is_null());
    let mut mistakes = Vec::new();
    for (key, value) in &fields {
        let alone = Map::from_iter([(key.clone(), value.clone())]);
        if let Err(error) = serde_json::from_value::<T>(alone.into()) {
            mistakes.push(FieldError { path: key.clone(), problem: error.to_string(), hint: None });
        }
    }
    if !mistakes.is_empty() {
        return Err(Error::InvalidConfig(mistakes));
    }
    serde_json::from_value(fields.into()).map_err(|error| Error::invalid("options", &error.to_string(), None))
}

/// The schema of one type of options.
#[must_use]
pub fn schema<T: JsonSchema>() -> String {
    schemars::schema_for!(T).to_value().to_string()
}
