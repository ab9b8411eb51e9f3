//! Reads the options that the launchers and executors of all backends share.

use dagster_ray_sdk::json::{Map, Value, type_name};

use super::{Options, reader::Reader};

/// Resources that Ray rejects among the custom ones, and the option to use for each.
const NOT_CUSTOM: [(&str, &str); 3] = [("CPU", "num_cpus"), ("GPU", "num_gpus"), ("memory", "memory")];

/// Reads the keys of [`Options`] from an object and skips the keys in `extra_keys`, which the backend reads.
/// `prefix` is prepended to the paths of mistakes.
pub(super) fn read_options(
    fields: &Map<String, Value>,
    prefix: &str,
    extra_keys: &[&str],
    reader: &mut Reader,
) -> Options {
    let mut options = Options::default();
    for (key, value) in fields {
        let path = format!("{prefix}{key}");
        match key.as_str() {
            other if extra_keys.contains(&other) => {}
            _ if value.is_null() && Options::KEYS.contains(&key.as_str()) => {}
            "enabled" => options.enabled = reader.boolean(&path, value),
            "num_cpus" => options.num_cpus = reader.number(&path, value),
            "num_gpus" => options.num_gpus = reader.number(&path, value),
            "memory" => options.memory = reader.bytes(&path, value),
            "resources" => options.resources = Some(resources(reader, &path, value)),
            "runtime_env" => options.runtime_env = runtime_env(reader, &path, value),
            "env_vars" => options.env_vars = env_vars(reader, &path, value),
            "metadata" => options.metadata = reader.strings(&path, value),
            _ => reader.unknown_key(&path, &[&Options::KEYS, extra_keys].concat()),
        }
    }
    options
}

fn resources(reader: &mut Reader, path: &str, value: &Value) -> Map<String, Value> {
    let mut resources = reader.numbers(path, value);
    for (reserved, option) in NOT_CUSTOM {
        if value.get(reserved).is_some() {
            let hint = format!("use the key {option} instead");
            reader.add_mistake(&format!("{path}.{reserved}"), "is not a custom resource".to_owned(), &hint);
            resources.remove(reserved);
        }
    }
    resources
}

fn runtime_env(reader: &mut Reader, path: &str, value: &Value) -> Map<String, Value> {
    let hint = "write an object such as {\"pip\": [\"polars\"]}";
    let Some(object) = reader.object(path, value, hint) else { return Map::new() };
    if let Some(variables) = object.get("env_vars").filter(|variables| !variables.is_null()) {
        reader.strings(&format!("{path}.env_vars"), variables);
    }
    object.clone()
}

fn env_vars(reader: &mut Reader, path: &str, value: &Value) -> Vec<(String, String)> {
    let hint = "write a list of strings, each NAME=VALUE";
    let Some(entries) = value.as_array() else {
        reader.add_mistake(path, format!("is {}, not a list", type_name(value)), hint);
        return Vec::new();
    };
    let mut variables = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let split = entry.as_str().and_then(|text| text.split_once('='));
        match split {
            Some((name, value)) if !name.is_empty() => variables.push((name.to_owned(), value.to_owned())),
            // The value may be a secret, so the message does not show it.
            _ => reader.add_mistake(&format!("{path}[{index}]"), "is not NAME=VALUE".to_owned(), hint),
        }
    }
    variables
}
