//! Options of this backend, by role.
//!
//! Manifests use KubeRay's camel-case field names. Fields that this component does not read are passed to
//! the API server unchanged, which rejects unknown ones.

pub use dagster_ray_sdk::options::read_document;
use dagster_ray_sdk::{
    Error,
    json::{self, Map, Value},
    model::Attributes,
    options::{Fields, Reader, read_merged},
};
use dagster_ray_submission::options as common;
pub use dagster_ray_submission::options::cluster::{ClusterOptions, Sharing};
pub use dagster_ray_submission::scripts::ScriptOptions as Parameters;
use schemars::JsonSchema;

pub use crate::pool::options::PoolOptions;

/// The key of the namespace, as a setting of the backend and as an option of each role.
pub const NAMESPACE: &str = "namespace";
/// The namespace if neither the settings nor the options name one.
pub const DEFAULT_NAMESPACE: &str = "ray";
/// The setting with the URL of an ingress in front of the dashboards. The adapter sets it from `address`.
pub const DASHBOARD: &str = "dashboard";
/// The run tag with the image of the run.
pub const IMAGE_TAG: &str = "dagster/image";

/// Where the Ray job of a run or a step runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum ClusterPlacement {
    /// On a dedicated cluster.
    #[default]
    #[schemars(rename = "own")]
    Dedicated,
    /// On one cluster with the other steps of its run. A run worker has a dedicated cluster.
    Shared,
    /// On a cluster of a pool, together with the run worker and the other steps of its run.
    Pool,
}

/// Options of the launcher and the executor, besides those that all backends share.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct JobOptions {
    /// The namespace of the RayJobs and RayClusters, unless the manifest names one.
    pub namespace: Option<String>,
    /// The image of all containers without one. Defaults to the run tag `dagster/image`, which the run launcher sets
    /// to the image of the code location.
    pub image: Option<String>,
    /// A RayJob manifest to complete, such as `{"spec": {"rayClusterSpec": {…}}}`.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub ray_job: Option<Value>,
    /// Whether a step runs on a dedicated cluster, or on one that the steps of its run share and that is
    /// created from the same `rayClusterSpec`, or on one of a pool, which is ready before the run. A run is affected
    /// by `pool` only.
    pub cluster: ClusterPlacement,
    /// The pool, with `cluster: pool`.
    pub pool: Option<PoolOptions>,
    /// Seconds for which the cluster that the steps of a run share may start. The time for which it is suspended
    /// or waits for quota does not count. Defaults to 900.
    pub cluster_timeout_seconds: Option<u64>,
    /// Seconds for which the RayJob of an ended run or step is kept, at least 60. It is deleted when the next
    /// run begins or ends after that time. Defaults to 86400 (a day).
    pub job_ttl_seconds: Option<u64>,
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

impl ClusterPlacement {
    fn read(reader: &mut Reader, path: &str, value: &Value) -> Option<Self> {
        match value.as_str() {
            Some("own") => return Some(Self::Dedicated),
            Some("shared") => return Some(Self::Shared),
            Some("pool") => return Some(Self::Pool),
            _ => {
                let hint = "write `own`, `shared` or `pool`";
                reader.add_mistake(path, format!("is {}", json::text(value)), hint);
            }
        }
        None
    }
}

impl JobOptions {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            namespace: fields.string(NAMESPACE),
            image: fields.string("image"),
            ray_job: fields.value("ray_job"),
            cluster: fields.with("cluster", ClusterPlacement::read).unwrap_or_default(),
            pool: fields.options("pool", "write an object, {} for the defaults", PoolOptions::read),
            cluster_timeout_seconds: fields.seconds("cluster_timeout_seconds"),
            job_ttl_seconds: fields.seconds("job_ttl_seconds"),
        }
    }
}

impl ScriptOptions {
    /// Reads the options from the fields of an object.
    #[must_use]
    pub fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            namespace: fields.string(NAMESPACE),
            ray_job: fields.value("ray_job"),
            parameters: fields.options(
                "parameters",
                "write an object with the parameters of Ray's submit_job",
                Parameters::read,
            ),
            runtime_env: fields.object("runtime_env", "write an object such as {\"pip\": [\"polars\"]}"),
        }
    }
}

/// Reads the options of a run or a step: the shared ones and this backend's.
pub fn job(configuration: &str, tags: &Attributes) -> Result<(common::Options, JobOptions), Error> {
    let (shared, mut options) =
        read_merged(configuration, tags, |fields| (common::Options::read(fields), JobOptions::read(fields)))?;
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
    use dagster_ray_sdk::{options::keys, testing::assert_generated};
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

    #[test]
    fn the_adapters_copy_of_the_defaults_is_up_to_date() {
        let Sharing { ttl_seconds, join_timeout_seconds, .. } = Sharing::default();
        let module = format!(
            "\"\"\"Defaults of clusters, which a test of components/kuberay writes.\"\"\"\n\n\
             IMAGE_TAG = \"{IMAGE_TAG}\"\nLEASE_TTL_SECONDS = {ttl_seconds}.0\n\
             JOIN_TIMEOUT_SECONDS = {join_timeout_seconds}.0\n"
        );
        let file = "../../host/python/dagster_ray/cluster_defaults.py";
        assert_generated(env!("CARGO_MANIFEST_DIR"), file, &module);
    }

    fn documented(schema: &Value) -> Vec<String> {
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    }

    fn sorted<T>(read: impl FnOnce(&mut Fields<'_>) -> T) -> Vec<&'static str> {
        let mut keys = keys(read);
        keys.sort_unstable();
        keys
    }

    #[test]
    fn every_key_of_a_schema_is_read() {
        let cluster: Value = serde_json::from_str(ClusterOptions::SCHEMA).unwrap();
        assert_eq!(documented(&cluster), sorted(ClusterOptions::read));
        assert_eq!(documented(&cluster["$defs"]["Sharing"]), sorted(Sharing::read));
        let job_schema: Value = serde_json::from_str(JOB_SCHEMA).unwrap();
        assert_eq!(documented(&job_schema["$defs"]["PoolOptions"]), sorted(PoolOptions::read));
        let script: Value = serde_json::from_str(SCRIPT_SCHEMA).unwrap();
        assert_eq!(documented(&script), sorted(ScriptOptions::read));
        let problem = |text: String, role: &str| match role {
            "job" => job(&text, &Vec::new()).err(),
            "cluster" => read_document(&text, ClusterOptions::read).err(),
            _ => read_document(&text, ScriptOptions::read).err(),
        };
        for (role, keys) in [
            ("job", keys(JobOptions::read)),
            ("cluster", keys(ClusterOptions::read)),
            ("script", keys(ScriptOptions::read)),
        ] {
            for key in keys {
                let text = problem(format!("{{\"{key}\": 0.5}}"), role).map(|error| error.message());
                // Manifests are not checked here, so their keys yield no error.
                let is_read = text.as_ref().is_none_or(|text| !text.contains("is not a known key"));
                assert!(is_read, "{role}: {key}: {text:?}");
            }
            assert!(problem("{\"other\": 0.5}".to_owned(), role).is_some());
        }
        for key in keys(Sharing::read) {
            let text = problem(format!("{{\"sharing\": {{\"{key}\": 0.5}}}}"), "cluster").unwrap().message();
            assert!(text.contains(&format!("`sharing.{key}`")) && !text.contains("known key"), "{text}");
        }
    }

    #[test]
    fn the_schema_of_a_job_has_all_keys() {
        let schema: Value = serde_json::from_str(JOB_SCHEMA).unwrap();
        for key in keys(JobOptions::read).into_iter().chain(keys(common::Options::read)) {
            assert!(schema["properties"].get(key).is_some(), "{key}");
        }
        assert_eq!(schema["additionalProperties"], false);
    }
}
