//! Typed access to the fields of a JSON object.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The fields of a JSON object. A missing or `null` field is `None`; unknown fields are ignored.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'v>(&'v Map<String, Value>);

impl<'v> Fields<'v> {
    /// Returns the fields of a value.
    ///
    /// # Errors
    /// A message if the value is not an object.
    pub fn from_value(value: &'v Value) -> Result<Self, String> {
        value.as_object().map(Self).ok_or_else(|| format!("it is {}, not an object", type_name(value)))
    }

    /// Returns a field of any type.
    #[must_use]
    pub fn get(self, name: &str) -> Option<&'v Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Returns a string field.
    ///
    /// # Errors
    /// A message if the field has another type.
    pub fn string(self, name: &str) -> Result<Option<String>, String> {
        self.read(name, "a string", Value::as_str).map(|text| text.map(str::to_owned))
    }

    /// Returns an integer field.
    ///
    /// # Errors
    /// A message if the field has another type or does not fit into `T`.
    pub fn integer<T: TryFrom<i64>>(self, name: &str) -> Result<Option<T>, String> {
        self.read(name, "a whole number", |value| T::try_from(value.as_i64()?).ok())
    }

    /// Returns a boolean field.
    ///
    /// # Errors
    /// A message if the field has another type.
    pub fn bool(self, name: &str) -> Result<Option<bool>, String> {
        self.read(name, "a boolean", Value::as_bool)
    }

    /// Returns a field that is an object of strings. A missing field is an empty map.
    ///
    /// # Errors
    /// A message if the field or one of its values has another type.
    pub fn string_map(self, name: &str) -> Result<BTreeMap<String, String>, String> {
        let mut map = BTreeMap::new();
        for (key, value) in self.read(name, "an object", Value::as_object)?.into_iter().flatten() {
            let Some(text) = value.as_str() else {
                return Err(format!("`{name}.{key}` is {}, not a string", type_name(value)));
            };
            map.insert(key.clone(), text.to_owned());
        }
        Ok(map)
    }

    /// Unwraps a required field.
    ///
    /// # Errors
    /// A message if the field is missing.
    pub fn required<T>(name: &str, found: Option<T>) -> Result<T, String> {
        found.ok_or_else(|| format!("`{name}` is missing"))
    }

    fn read<T>(
        self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'v Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| format!("`{name}` is {}, not {expected}", type_name(value)))
    }
}

/// Returns the type of a value as words for an error message, such as `a list`.
#[must_use]
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
