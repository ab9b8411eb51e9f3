//! What a user can ask of this backend, by role.
//!
//! Manifests are written as KubeRay documents them, in camel case. Everything in them that is not
//! said here goes to the API server as it is, which refuses what it does not know.

use std::collections::BTreeMap;

use dagster_ray_sdk::{Error, model::Attributes};
use dagster_ray_submission::options as common;
pub use dagster_ray_submission::options::fields::{document, read, schema};
pub use dagster_ray_submission::scripts::ScriptOptions as Parameters;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The backend's setting, and the key of each role, with the namespace.
pub const NAMESPACE: &str = "namespace";
/// Where nobody says anything.
pub const DEFAULT_NAMESPACE: &str = "ray";
/// The run tag with the image of the code location.
pub const IMAGE_TAG: &str = "dagster/image";

/// Where a step's Ray job runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// On a cluster of its own.
    #[default]
    Own,
    /// On one cluster with the other steps of its run.
    Shared,
}

/// What a launcher and an executor take besides the keys that every backend has.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JobOptions {
    /// The namespace to make things in.
    pub namespace: Option<String>,
    /// The image of all containers that name none. Without it, the run tag `dagster/image` holds.
    pub image: Option<String>,
    /// A RayJob to start from, with `metadata` and `spec` as KubeRay documents them, such as
    /// `{"spec": {"rayClusterSpec": {…}}}`.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub ray_job: Option<Value>,
    /// Whether a step has a cluster of its own, or its run's steps share one that is made from the
    /// same `rayClusterSpec`. Runs have no choice.
    pub cluster: Placement,
}

/// What is asked of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterOptions {
    /// The namespace to make it in, unless the manifest names one.
    pub namespace: Option<String>,
    /// The RayCluster, with `metadata` and `spec` as KubeRay documents them.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub ray_cluster: Option<Value>,
    /// A RayJob to make instead, in KubeRay's InteractiveMode, with the cluster in its
    /// `rayClusterSpec`.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub ray_job: Option<Value>,
    /// Whether others may use it too.
    pub sharing: Option<Sharing>,
    /// Seconds for which KubeRay may call the cluster failed before waiting for it ends.
    #[schemars(range(min = 0))]
    pub failure_tolerance_seconds: f64,
    /// Seconds after which the cluster is given up once its run is over, where that is sooner than
    /// the rule that looks for such clusters says.
    pub ttl_seconds: Option<u64>,
}

/// How a cluster is shared.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sharing {
    /// The labels that a cluster must have to be joined. A new one gets them.
    pub match_labels: BTreeMap<String, String>,
    /// Seconds for which a holder counts after it was last heard of.
    pub ttl_seconds: u64,
    /// Whether the cluster is removed when its last holder lets go.
    pub delete_when_released: bool,
}

impl Default for Sharing {
    fn default() -> Self {
        Self { match_labels: BTreeMap::new(), ttl_seconds: 1_800, delete_when_released: true }
    }
}

/// A script to run.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScriptOptions {
    /// The namespace to make the job in, unless the manifest names one.
    pub namespace: Option<String>,
    /// The RayJob, with `metadata` and `spec` as KubeRay documents them.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub ray_job: Option<Value>,
    /// Parameters of a Ray job. They win over what the manifest says in their place.
    pub parameters: Option<Parameters>,
    /// The runtime environment, in place of the manifest's `runtimeEnvYAML`.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub runtime_env: Option<Map<String, Value>>,
}

const JOB_KEYS: [&str; 4] = [NAMESPACE, "image", "ray_job", "cluster"];

/// The options of a run or a step: the common ones, and this backend's.
pub fn job(configuration: &str, tags: &Attributes) -> Result<(common::Options, JobOptions), Error> {
    let (shared, own) = common::Options::merged_beside(configuration, tags, &JOB_KEYS)?;
    let mut options: JobOptions = read(own)?;
    if options.image.is_none() {
        options.image = tags.iter().find(|(name, _)| name == IMAGE_TAG).map(|(_, image)| image.clone());
    }
    Ok((shared, options))
}

/// The schema of a launcher's or an executor's options.
#[must_use]
pub fn job_schema() -> String {
    let own = schemars::schema_for!(JobOptions).to_value();
    let Ok(Value::Object(mut whole)) = serde_json::from_str(&common::Options::schema()) else {
        return own.to_string();
    };
    for part in ["properties", "$defs"] {
        let mut all = whole.get(part).and_then(Value::as_object).cloned().unwrap_or_default();
        all.extend(own.get(part).and_then(Value::as_object).cloned().unwrap_or_default());
        whole.insert(part.to_owned(), all.into());
    }
    Value::from(whole).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_overrides_this_backends_keys_too_and_the_image_comes_from_the_run_last() {
        let tags = vec![
            (common::TAG.to_owned(), r#"{"cluster": "shared", "num_cpus": 0, "image": null}"#.to_owned()),
            (IMAGE_TAG.to_owned(), "from-the-run".to_owned()),
        ];
        let (shared, own) = job(r#"{"num_cpus": 2, "image": "configured"}"#, &tags).unwrap();
        assert_eq!(shared.num_cpus, Some(0.0));
        assert_eq!((own.cluster, own.image.as_deref()), (Placement::Shared, Some("from-the-run")));
        let (_, own) = job(r#"{"image": "configured"}"#, &tags[1..].to_vec()).unwrap();
        assert_eq!(own.image.as_deref(), Some("configured"));
    }

    #[test]
    fn every_mistake_is_named_with_the_keys_that_there_are() {
        let text =
            document::<ClusterOptions>(r#"{"raycluster": {}, "sharing": {"ttl": 3}, "ttl_seconds": -1}"#)
                .unwrap_err()
                .text();
        for part in ["`raycluster`", "`ray_cluster`", "unknown field `ttl`", "`ttl_seconds`", "match_labels"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(job(r#"{"clusters": 1}"#, &Vec::new()).unwrap_err().text().contains("ray_job"));
    }

    #[test]
    fn the_schema_of_a_job_has_all_keys() {
        let schema: Value = serde_json::from_str(&job_schema()).unwrap();
        for key in JOB_KEYS.iter().chain(&common::Options::KEYS) {
            assert!(schema["properties"].get(key).is_some(), "{key}");
        }
        assert_eq!(schema["additionalProperties"], false);
    }
}
