//! Reading options from JSON, with every mistake named by its path.

use std::collections::BTreeMap;

use dagster_ray_sdk::model::FieldError;
use serde_json::{Map, Value};

use super::Options;

/// Ray has options of their own for these, and refuses them among the custom ones.
const NOT_CUSTOM: [(&str, &str); 3] = [("CPU", "num_cpus"), ("GPU", "num_gpus"), ("memory", "memory")];

/// Reads an object's known keys, and passes over the `others` that a backend reads itself. `prefix`
/// goes before the paths of mistakes.
pub(super) fn options(
    fields: &Map<String, Value>,
    prefix: &str,
    others: &[&str],
    mistakes: &mut Vec<FieldError>,
) -> Options {
    let mut options = Options::default();
    let mut reader = Reader { mistakes };
    for (key, value) in fields {
        let path = format!("{prefix}{key}");
        match key.as_str() {
            _ if value.is_null() && Options::KEYS.contains(&key.as_str()) => {}
            "enabled" => options.enabled = reader.flag(&path, value),
            "num_cpus" => options.num_cpus = reader.quantity(&path, value),
            "num_gpus" => options.num_gpus = reader.quantity(&path, value),
            "memory" => options.memory = reader.bytes(&path, value),
            "resources" => options.resources = Some(reader.resources(&path, value)),
            "runtime_env" => options.runtime_env = reader.runtime_env(&path, value),
            "env_vars" => options.env_vars = reader.env_vars(&path, value),
            "metadata" => options.metadata = reader.strings(&path, value).into_iter().collect(),
            other if others.contains(&other) => {}
            _ => reader.wrong(
                &path,
                "is not a known key".to_owned(),
                &format!("the known keys are {}", [&Options::KEYS, others].concat().join(", ")),
            ),
        }
    }
    options
}

/// What a value is, for a person.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

struct Reader<'a> {
    mistakes: &'a mut Vec<FieldError>,
}

impl Reader<'_> {
    fn wrong(&mut self, path: &str, problem: String, hint: &str) {
        self.mistakes.push(super::mistake(path, problem, hint));
    }

    fn flag(&mut self, path: &str, value: &Value) -> Option<bool> {
        if value.as_bool().is_none() {
            self.wrong(path, format!("is {}, not a boolean", kind(value)), "write true or false");
        }
        value.as_bool()
    }

    fn quantity(&mut self, path: &str, value: &Value) -> Option<f64> {
        match value.as_f64() {
            Some(number) if number >= 0.0 => return Some(number),
            Some(number) => self.wrong(path, format!("is {number}, which is negative"), "write 0 or more"),
            None => {
                self.wrong(path, format!("is {}, not a number", kind(value)), "write a number such as 0.5")
            }
        }
        None
    }

    fn bytes(&mut self, path: &str, value: &Value) -> Option<u64> {
        if let Some(bytes) = value.as_u64() {
            return Some(bytes);
        }
        let problem = match value.as_f64() {
            Some(number) if number < 0.0 => format!("is {number}, which is negative"),
            _ => format!("is {value}, not a whole number"),
        };
        self.wrong(path, problem, "write the number of bytes, such as 1073741824 for 1 GiB");
        None
    }

    fn object<'v>(&mut self, path: &str, value: &'v Value, hint: &str) -> Option<&'v Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() {
            self.wrong(path, format!("is {}, not an object", kind(value)), hint);
        }
        object
    }

    fn resources(&mut self, path: &str, value: &Value) -> BTreeMap<String, f64> {
        let mut resources = BTreeMap::new();
        for (name, amount) in
            self.object(path, value, "write names with amounts, such as {\"tpu\": 1}").into_iter().flatten()
        {
            let path = format!("{path}.{name}");
            if let Some((_, own)) = NOT_CUSTOM.iter().find(|(reserved, _)| reserved == name) {
                self.wrong(
                    &path,
                    "is not a custom resource".to_owned(),
                    &format!("use the key {own} instead"),
                );
            } else if let Some(amount) = self.quantity(&path, amount) {
                resources.insert(name.clone(), amount);
            }
        }
        resources
    }

    fn runtime_env(&mut self, path: &str, value: &Value) -> Map<String, Value> {
        let hint = "write an object such as {\"pip\": [\"polars\"]}";
        let Some(object) = self.object(path, value, hint) else { return Map::new() };
        if let Some(variables) = object.get("env_vars").filter(|variables| !variables.is_null()) {
            self.strings(&format!("{path}.env_vars"), variables);
        }
        object.clone()
    }

    fn strings(&mut self, path: &str, value: &Value) -> Vec<(String, String)> {
        let mut strings = Vec::new();
        for (name, value) in self.object(path, value, "write names with strings").into_iter().flatten() {
            match value.as_str() {
                Some(text) => strings.push((name.clone(), text.to_owned())),
                None => self.wrong(
                    &format!("{path}.{name}"),
                    format!("is {}, not a string", kind(value)),
                    &format!("put it in quotes: \"{}\"", value.to_string().replace('"', "'")),
                ),
            }
        }
        strings
    }

    fn env_vars(&mut self, path: &str, value: &Value) -> Vec<(String, String)> {
        let hint = "write a list of strings, each NAME=VALUE";
        let Some(entries) = value.as_array() else {
            self.wrong(path, format!("is {}, not a list", kind(value)), hint);
            return Vec::new();
        };
        let mut variables = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let split = entry.as_str().and_then(|text| text.split_once('='));
            match split {
                Some((name, value)) if !name.is_empty() => {
                    variables.push((name.to_owned(), value.to_owned()))
                }
                // The value may be a secret: only its place is named.
                _ => self.wrong(&format!("{path}[{index}]"), "is not NAME=VALUE".to_owned(), hint),
            }
        }
        variables
    }
}
