//! Reads single values and collects mistakes.

use std::collections::BTreeMap;

use crate::{
    Error,
    json::{self, Map, Value, type_name},
    model::FieldError,
};

/// Collects the mistakes in one or more documents.
///
/// Each method reads a value. If the value is wrong, the method adds a mistake at `path` and returns
/// `None`.
#[derive(Debug, Default)]
pub struct Reader {
    mistakes: Vec<FieldError>,
    /// The number of mistakes in earlier documents.
    earlier: usize,
}

impl Reader {
    /// Returns the collected mistakes as an error.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if there are any mistakes.
    pub fn finish(self) -> Result<(), Error> {
        if self.mistakes.is_empty() { Ok(()) } else { Err(Error::InvalidConfig(self.mistakes)) }
    }

    /// Begins a document. Its mistakes follow those of earlier documents, in the order of their paths.
    pub(super) fn begin_document(&mut self) {
        self.earlier = self.mistakes.len();
    }

    /// Adds a mistake. `problem` is a predicate such as "is a list, not a string", and `hint` says what to
    /// write instead.
    pub fn add_mistake(&mut self, path: &str, problem: impl Into<String>, hint: &str) {
        let at = self.mistakes[self.earlier..].partition_point(|other| other.path.as_str() <= path);
        let mistake = FieldError {
            path: path.to_owned(),
            problem: problem.into(),
            hint: (!hint.is_empty()).then(|| hint.to_owned()),
        };
        self.mistakes.insert(self.earlier + at, mistake);
    }

    fn add_type_mistake(&mut self, path: &str, value: &Value, expected: &str, hint: &str) {
        self.add_mistake(path, format!("is {}, not {expected}", type_name(value)), hint);
    }

    fn add_negative(&mut self, path: &str, value: &Value, hint: &str) {
        self.add_mistake(path, format!("is {}, which is negative", json::text(value)), hint);
    }

    /// Reads a boolean.
    pub fn boolean(&mut self, path: &str, value: &Value) -> Option<bool> {
        if value.as_bool().is_none() {
            self.add_type_mistake(path, value, "a boolean", "write true or false");
        }
        value.as_bool()
    }

    /// Reads a string.
    pub fn string(&mut self, path: &str, value: &Value) -> Option<String> {
        if value.as_str().is_none() {
            let hint = format!("put it in quotes: \"{}\"", json::text(value).replace('"', "'"));
            self.add_type_mistake(path, value, "a string", &hint);
        }
        value.as_str().map(str::to_owned)
    }

    /// Reads a number that is not negative.
    pub fn number(&mut self, path: &str, value: &Value) -> Option<f64> {
        match value.as_f64() {
            Some(number) if number >= 0.0 => return Some(number),
            Some(_) => self.add_negative(path, value, "write 0 or more"),
            None => self.add_type_mistake(path, value, "a number", "write a number such as 0.5"),
        }
        None
    }

    /// Reads an integer that is not negative. `hint` says what it counts.
    pub fn integer(&mut self, path: &str, value: &Value, hint: &str) -> Option<u64> {
        match value.as_f64() {
            _ if value.is_u64() => return value.as_u64(),
            Some(number) if number < 0.0 => self.add_negative(path, value, hint),
            _ => self.add_mistake(path, format!("is {}, not a whole number", json::text(value)), hint),
        }
        None
    }

    /// Reads an object.
    pub fn object<'v>(&mut self, path: &str, value: &'v Value, hint: &str) -> Option<&'v Map<String, Value>> {
        if value.as_object().is_none() {
            self.add_type_mistake(path, value, "an object", hint);
        }
        value.as_object()
    }

    /// Reads a list.
    pub fn list<'v>(&mut self, path: &str, value: &'v Value, hint: &str) -> Option<&'v [Value]> {
        if value.as_array().is_none() {
            self.add_type_mistake(path, value, "a list", hint);
        }
        value.as_array().map(Vec::as_slice)
    }

    /// Reads an object of amounts by name.
    pub fn numbers(&mut self, path: &str, value: &Value) -> Option<Map<String, Value>> {
        let mut numbers = Map::new();
        for (name, amount) in
            self.object(path, value, "write an object of amounts by name, such as {\"tpu\": 1}")?
        {
            if let Some(amount) = self.number(&format!("{path}.{name}"), amount) {
                numbers.insert(name.clone(), amount.into());
            }
        }
        Some(numbers)
    }

    /// Reads an object of strings by name.
    pub fn strings(&mut self, path: &str, value: &Value) -> Option<BTreeMap<String, String>> {
        let mut strings = BTreeMap::new();
        for (name, value) in self.object(path, value, "write an object of strings")? {
            if let Some(text) = self.string(&format!("{path}.{name}"), value) {
                strings.insert(name.clone(), text);
            }
        }
        Some(strings)
    }

    /// Reads a list of environment variables, each as `NAME=VALUE`.
    pub fn variables(&mut self, path: &str, value: &Value) -> Option<Vec<(String, String)>> {
        let hint = "write a list of strings, each NAME=VALUE";
        let mut variables = Vec::new();
        for (index, entry) in self.list(path, value, hint)?.iter().enumerate() {
            match entry.as_str().and_then(|text| text.split_once('=')) {
                Some((name, value)) if !name.is_empty() => {
                    variables.push((name.to_owned(), value.to_owned()));
                }
                // The value may be a secret, so the message does not show it.
                _ => self.add_mistake(&format!("{path}[{index}]"), "is not NAME=VALUE", hint),
            }
        }
        Some(variables)
    }
}
