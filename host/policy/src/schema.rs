//! JSON schemas of the types of a manifest.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// A type of a manifest that has a JSON schema.
pub(crate) trait Schema {
    /// Returns the schema, without a description.
    fn schema() -> Value;
}

impl Schema for bool {
    fn schema() -> Value {
        json!({ "type": "boolean" })
    }
}

impl Schema for u32 {
    fn schema() -> Value {
        json!({ "type": "integer", "maximum": u32::MAX })
    }
}

impl Schema for f64 {
    fn schema() -> Value {
        json!({ "type": "number" })
    }
}

impl Schema for String {
    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

impl<T: Schema> Schema for Vec<T> {
    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema() })
    }
}

impl<T: Schema> Schema for BTreeMap<String, T> {
    fn schema() -> Value {
        json!({ "type": "object", "additionalProperties": T::schema() })
    }
}

/// Returns the schema of a table with these keys and no others.
pub(crate) fn table(properties: Map<String, Value>) -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

/// Returns a schema with a keyword set.
pub(crate) fn with(mut schema: Value, keyword: &str, value: Value) -> Value {
    if let Some(keywords) = schema.as_object_mut() {
        keywords.insert(keyword.to_owned(), value);
    }
    schema
}

/// Returns a schema with a description: the documentation of a field.
pub(crate) fn described(schema: Value, documentation: &str) -> Value {
    with(schema, "description", documentation.trim().into())
}
