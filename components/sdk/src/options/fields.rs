//! The fields of an object of options.

use std::collections::BTreeMap;

use super::Reader;
use crate::json::{Map, Value};

/// The fields of an object of options.
///
/// Each method reads one field. It returns `None` if the field is missing or `null`, and also if the value is
/// wrong, which makes the whole read fail.
#[derive(Debug)]
pub struct Fields<'r> {
    fields: &'r Map<String, Value>,
    prefix: &'r str,
    keys: Vec<&'static str>,
    reader: &'r mut Reader,
}

impl<'r> Fields<'r> {
    pub(super) const fn new(fields: &'r Map<String, Value>, prefix: &'r str, reader: &'r mut Reader) -> Self {
        Self { fields, prefix, keys: Vec::new(), reader }
    }

    /// Reads all fields of an object. `prefix` precedes the paths of mistakes.
    pub(super) fn read_all<T>(
        fields: &Map<String, Value>,
        prefix: &str,
        reader: &mut Reader,
        read: impl FnOnce(&mut Fields<'_>) -> T,
    ) -> T {
        let mut fields = Fields::new(fields, prefix, reader);
        let options = read(&mut fields);
        fields.reject_unknown_keys();
        options
    }

    pub(super) fn into_keys(self) -> Vec<&'static str> {
        self.keys
    }

    fn reject_unknown_keys(self) {
        for key in self.fields.keys().filter(|key| !self.keys.contains(&key.as_str())) {
            let hint = format!("the known keys are {}", self.keys.join(", "));
            self.reader.add_mistake(&format!("{}{key}", self.prefix), "is not a known key", &hint);
        }
    }

    /// Reads a field with a function. It receives the reader for its mistakes, the field's path and the
    /// value.
    pub fn with<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Reader, &str, &'r Value) -> Option<T>,
    ) -> Option<T> {
        self.keys.push(name);
        let value = self.fields.get(name).filter(|value| !value.is_null())?;
        read(self.reader, &format!("{}{name}", self.prefix), value)
    }

    /// Returns whether a field is `null`, for an option whose default is not the same as no value.
    #[must_use]
    pub fn is_null(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(Value::is_null)
    }

    /// Returns a field of any type.
    pub fn value(&mut self, name: &'static str) -> Option<Value> {
        self.with(name, |_, _, value| Some(value.clone()))
    }

    /// Reads a boolean.
    pub fn boolean(&mut self, name: &'static str) -> Option<bool> {
        self.with(name, Reader::boolean)
    }

    /// Reads a string.
    pub fn string(&mut self, name: &'static str) -> Option<String> {
        self.with(name, Reader::string)
    }

    /// Reads a string that must be present and not blank. `hint` says what to write.
    ///
    /// [`read_merged`](super::read_merged) reads each document alone, so a missing option is a mistake of both.
    pub fn required_string(&mut self, name: &'static str, hint: &str) -> Option<String> {
        let text = self.string(name);
        let is_missing = self.fields.get(name).is_none_or(Value::is_null);
        if is_missing || text.as_ref().is_some_and(|text| text.trim().is_empty()) {
            self.add_mistake(name, if is_missing { "is missing" } else { "is blank" }, hint);
        }
        text
    }

    /// Reads a number that is not negative.
    pub fn number(&mut self, name: &'static str) -> Option<f64> {
        self.with(name, Reader::number)
    }

    /// Reads an integer that is not negative. `hint` says what it counts.
    pub fn integer(&mut self, name: &'static str, hint: &str) -> Option<u64> {
        self.with(name, |reader, path, value| reader.integer(path, value, hint))
    }

    /// Reads a number of bytes.
    pub fn bytes(&mut self, name: &'static str) -> Option<u64> {
        self.integer(name, "write the number of bytes, such as 1073741824 for 1 GiB")
    }

    /// Reads a whole number of seconds.
    pub fn seconds(&mut self, name: &'static str) -> Option<u64> {
        self.integer(name, "write a number of seconds, such as 1800")
    }

    /// Reads an object of amounts by name.
    pub fn numbers(&mut self, name: &'static str) -> Option<Map<String, Value>> {
        self.with(name, Reader::numbers)
    }

    /// Reads an object of strings by name.
    pub fn strings(&mut self, name: &'static str) -> Option<BTreeMap<String, String>> {
        self.with(name, Reader::strings)
    }

    /// Reads a list of environment variables, each as `NAME=VALUE`.
    pub fn variables(&mut self, name: &'static str) -> Option<Vec<(String, String)>> {
        self.with(name, Reader::variables)
    }

    /// Returns an object with any fields. `hint` says what to write.
    pub fn object(&mut self, name: &'static str, hint: &str) -> Option<Map<String, Value>> {
        self.with(name, |reader, path, value| reader.object(path, value, hint).cloned())
    }

    /// Reads an object as options of its own. `hint` says what to write.
    pub fn options<T>(
        &mut self,
        name: &'static str,
        hint: &str,
        read: impl FnOnce(&mut Fields<'_>) -> T,
    ) -> Option<T> {
        self.with(name, |reader, path, value| {
            let fields = reader.object(path, value, hint)?;
            Some(Fields::read_all(fields, &format!("{path}."), reader, read))
        })
    }

    /// Adds a mistake of a field, such as a missing one.
    pub fn add_mistake(&mut self, name: &str, problem: impl Into<String>, hint: &str) {
        self.reader.add_mistake(&format!("{}{name}", self.prefix), problem, hint);
    }
}
