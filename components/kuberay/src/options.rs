//! Options of this backend, by role.
//!
//! Manifests use KubeRay's camel-case field names. Fields that this component does not read are passed to
//! the API server unchanged, which rejects unknown ones.

use dagster_ray_sdk::{
    Error,
    json::{self, Map, Value},
    model::Attributes,
};
use dagster_ray_submission::options::{
    self as common,
    reader::{self, Reader},
};
pub use dagster_ray_submission::options::{
    cluster::{ClusterOptions, Sharing},
    reader::read_document,
};
pub use dagster_ray_submission::scripts::ScriptOptions as Parameters;
use schemars::JsonSchema;

/// The key of the namespace, as a setting of the backend and as an option of each role.
pub const NAMESPACE: &str = "namespace";
/// The namespace if neither the settings nor the options name one.
pub const DEFAULT_NAMESPACE: &str = "ray";
/// The run tag with the image of the code location.
pub const IMAGE_TAG: &str = "dagster/image";

/// Where a step's Ray job runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum ClusterPlacement {
    /// On a dedicated cluster.
    #[default]
    #[schemars(rename = "own")]
    Dedicated,
    /// On one cluster with the other steps of its run.
    Shared,
}

/// Options of the launcher and the executor, besides those that all backends share.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct JobOptions {
    /// The namespace of the RayJobs and RayClusters, unless the manifest names one.
    pub namespace: Option<String>,
    /// The image of all containers without one. Defaults to the run tag `dagster/image`.
    pub image: Option<String>,
    /// A RayJob manifest to complete, such as `{"spec": {"rayClusterSpec": {…}}}`.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub ray_job: Option<Value>,
    /// Whether a step runs on a dedicated cluster, or on one that the steps of its run share and that is
    /// created from the same `rayClusterSpec`. Applies to steps only.
    pub cluster: ClusterPlacement,
}

/// Options of a script.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct ScriptOptions {
    /// The namespace of the RayJob, unless the manifest names one.
    pub namespace: Option<String>,
    /// The manifest of the RayJob, with `metadata` and `spec` as KubeRay documents them.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub ray_job: Option<Value>,
    /// Parameters of the Ray job. They override the manifest's fields.
    pub parameters: Option<Parameters>,
    /// The runtime environment. It replaces the manifest's `runtimeEnvYAML`.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub runtime_env: Option<Map<String, Value>>,
}

const JOB_KEYS: [&str; 4] = [NAMESPACE, "image", "ray_job", "cluster"];
const SCRIPT_KEYS: [&str; 4] = [NAMESPACE, "ray_job", "parameters", "runtime_env"];

impl ClusterPlacement {
    fn read(path: &str, value: &Value, reader: &mut Reader) -> Self {
        match value.as_str() {
            Some("own") => return Self::Dedicated,
            Some("shared") => return Self::Shared,
            _ => reader.add_mistake(path, format!("is {}", json::text(value)), "write `own` or `shared`"),
        }
        Self::default()
    }
}

impl JobOptions {
    fn read(fields: &Map<String, Value>, prefix: &str, reader: &mut Reader) -> Self {
        let mut options = Self::default();
        for (key, value) in fields {
            let path = format!("{prefix}{key}");
            match key.as_str() {
                _ if value.is_null() && JOB_KEYS.contains(&key.as_str()) => {}
                NAMESPACE => options.namespace = reader.string(&path, value),
                "image" => options.image = reader.string(&path, value),
                "ray_job" => options.ray_job = Some(value.clone()),
                "cluster" => options.cluster = ClusterPlacement::read(&path, value, reader),
                _ => reader.unknown_key(&path, &JOB_KEYS),
            }
        }
        options
    }
}

impl ScriptOptions {
    /// Reads the options from an object. `prefix` is prepended to the paths of mistakes.
    #[must_use]
    pub fn read(fields: &Map<String, Value>, prefix: &str, reader: &mut Reader) -> Self {
        let mut options = Self::default();
        for (key, value) in fields {
            let path = format!("{prefix}{key}");
            match key.as_str() {
                _ if value.is_null() && SCRIPT_KEYS.contains(&key.as_str()) => {}
                NAMESPACE => options.namespace = reader.string(&path, value),
                "ray_job" => options.ray_job = Some(value.clone()),
                "parameters" => {
                    let hint = "write an object with the parameters of Ray's submit_job";
                    options.parameters = reader
                        .object(&path, value, hint)
                        .map(|fields| Parameters::read(fields, &format!("{path}."), reader));
                }
                "runtime_env" => {
                    let hint = "write an object such as {\"pip\": [\"polars\"]}";
                    options.runtime_env = reader.object(&path, value, hint).cloned();
                }
                _ => reader.unknown_key(&path, &SCRIPT_KEYS),
            }
        }
        options
    }
}

/// Reads the options of a run or a step: the shared ones and this backend's.
pub fn job(configuration: &str, tags: &Attributes) -> Result<(common::Options, JobOptions), Error> {
    let (shared, own) = common::Options::merged_with_extra_keys(configuration, tags, &JOB_KEYS)?;
    let mut options = reader::read_fields(&own, JobOptions::read)?;
    if options.image.is_none() {
        options.image = tags.iter().find(|(name, _)| name == IMAGE_TAG).map(|(_, image)| image.clone());
    }
    Ok((shared, options))
}

/// The JSON schema of the launcher's and the executor's options. A test generates the schemas.
pub const JOB_SCHEMA: &str = include_str!("../schemas/job.json");
/// The JSON schema of [`ScriptOptions`].
pub const SCRIPT_SCHEMA: &str = include_str!("../schemas/scripts.json");

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::testing::assert_generated;
    use dagster_ray_submission::options::generate_schema;

    use super::*;

    /// The schema of the shared options, extended by this backend's.
    fn job_schema() -> Value {
        let own = generate_schema::<JobOptions>();
        let mut whole = generate_schema::<common::Options>();
        for part in ["properties", "$defs"] {
            let mut all = whole.get(part).and_then(Value::as_object).cloned().unwrap_or_default();
            all.extend(own.get(part).and_then(Value::as_object).cloned().unwrap_or_default());
            whole[part] = all.into();
        }
        whole
    }

    #[test]
    fn the_schemas_are_up_to_date() {
        for (file, schema) in
            [("schemas/job.json", job_schema()), ("schemas/scripts.json", generate_schema::<ScriptOptions>())]
        {
            assert_generated(env!("CARGO_MANIFEST_DIR"), file, &schema.to_string());
        }
    }

    #[test]
    fn the_tag_overrides_this_backends_keys_and_the_image_defaults_to_the_run_tag() {
        let tags = vec![
            (common::TAG.to_owned(), r#"{"cluster": "shared", "num_cpus": 0, "image": null}"#.to_owned()),
            (IMAGE_TAG.to_owned(), "from-the-run".to_owned()),
        ];
        let (shared, own) = job(r#"{"num_cpus": 2, "image": "configured"}"#, &tags).unwrap();
        assert_eq!(shared.num_cpus, Some(0.0));
        assert_eq!((own.cluster, own.image.as_deref()), (ClusterPlacement::Shared, Some("from-the-run")));
        let (_, own) = job(r#"{"image": "configured"}"#, &tags[1..].to_vec()).unwrap();
        assert_eq!(own.image.as_deref(), Some("configured"));
    }

    #[test]
    fn every_mistake_is_reported_with_the_known_keys() {
        let options = r#"{"raycluster": {}, "sharing": {"ttl": 3}, "ttl_seconds": -1}"#;
        let text = read_document(options, ClusterOptions::read).unwrap_err().message();
        for part in ["`raycluster`", "ray_cluster", "`sharing.ttl`", "`ttl_seconds`", "match_labels"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(job(r#"{"clusters": 1}"#, &Vec::new()).unwrap_err().message().contains("ray_job"));
    }

    fn keys(schema: &Value) -> Vec<String> {
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    }

    fn sorted(keys: &[&str]) -> Vec<String> {
        let mut keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn every_key_of_a_schema_is_read() {
        let cluster: Value = serde_json::from_str(ClusterOptions::SCHEMA).unwrap();
        assert_eq!(keys(&cluster), sorted(&ClusterOptions::KEYS));
        assert_eq!(keys(&cluster["$defs"]["Sharing"]), sorted(&Sharing::KEYS));
        let script: Value = serde_json::from_str(SCRIPT_SCHEMA).unwrap();
        assert_eq!(keys(&script), sorted(&SCRIPT_KEYS));
        let problem = |text: String, role: &str| match role {
            "job" => job(&text, &Vec::new()).err(),
            "cluster" => read_document(&text, ClusterOptions::read).err(),
            _ => read_document(&text, ScriptOptions::read).err(),
        };
        for (role, keys) in
            [("job", &JOB_KEYS[..]), ("cluster", &ClusterOptions::KEYS[..]), ("script", &SCRIPT_KEYS[..])]
        {
            for key in keys {
                let text = problem(format!("{{\"{key}\": 0.5}}"), role).map(|error| error.message());
                // Manifests are not checked here, so their keys yield no error.
                let is_read = text.as_ref().is_none_or(|text| !text.contains("is not a known key"));
                assert!(is_read, "{role}: {key}: {text:?}");
            }
            assert!(problem("{\"other\": 0.5}".to_owned(), role).is_some());
        }
        for key in Sharing::KEYS {
            let text = problem(format!("{{\"sharing\": {{\"{key}\": 0.5}}}}"), "cluster").unwrap().message();
            assert!(text.contains(&format!("`sharing.{key}`")) && !text.contains("known key"), "{text}");
        }
    }

    #[test]
    fn the_schema_of_a_job_has_all_keys() {
        let schema: Value = serde_json::from_str(JOB_SCHEMA).unwrap();
        for key in JOB_KEYS.iter().chain(&common::Options::KEYS) {
            assert!(schema["properties"].get(key).is_some(), "{key}");
        }
        assert_eq!(schema["additionalProperties"], false);
    }
}
