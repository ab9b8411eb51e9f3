//! Completes the RayJob of a run, a step or an interactive cluster.

use dagster_ray_jobs::{Submission, packages};
use dagster_ray_sdk::{
    Error, json,
    model::{Attributes, FieldError},
};
use serde_json::{Map, Value, json};

use crate::{
    cluster::head::CLUSTER,
    labels,
    manifest::{Template, complete_cluster, field_error, is_set},
};

/// The submission mode in which KubeRay's operator submits the job through Ray's Jobs API. Other modes pass
/// the entrypoint and the environment through a shell in a submitter pod, which alters special characters.
const HTTP_MODE: &str = "HTTPMode";
const INTERACTIVE_MODE: &str = "InteractiveMode";
/// The default deadline of an interactive RayJob, whose driver can be killed: one day.
const INTERACTIVE_DEADLINE_S: u64 = 86_400;
/// Seconds for which the cluster of an ended job is kept for inspection.
const TTL_S: u64 = 60;
/// The longest argument or variable that Linux passes to a program (`MAX_ARG_STRLEN`).
const MAX_VARIABLE_BYTES: usize = 131_071;

/// Fields of the spec that a manifest must not set, and what sets each of them.
const RESERVED: [(&str, &str); 8] = [
    ("entrypoint", "the worker's command"),
    ("jobId", "the run or step"),
    ("runtimeEnvYAML", "the option runtime_env"),
    ("runtimeEnvYaml", "the option runtime_env"),
    ("metadata", "the option metadata"),
    ("entrypointNumCpus", "the option num_cpus"),
    ("entrypointNumGpus", "the option num_gpus"),
    ("entrypointResources", "the option resources"),
];

/// Completes a RayJob's spec with the Ray job, and its cluster with the image.
///
/// # Errors
/// [`Error::InvalidConfig`] with every reserved field in the manifest and every unsupported option.
pub fn complete(template: &mut Template, submission: Submission, image: Option<&str>) -> Result<(), Error> {
    let spec = &mut template.spec;
    let mut mistakes: Vec<FieldError> = RESERVED
        .iter()
        .filter(|(field, _)| is_set(spec, field))
        .map(|(field, by)| field_error(&spec_path(field), &format!("is set by {by}"), Some("remove it here")))
        .collect();
    if let Some(mode) = spec.get("submissionMode").filter(|mode| !mode.is_null() && **mode != HTTP_MODE) {
        mistakes.push(field_error(
            &spec_path("submissionMode"),
            &format!("is {}", json::text(mode)),
            Some("remove it: runs and steps use HTTPMode, which needs no shell in a submitter pod"),
        ));
    }
    if let Some(limit) = spec.get("backoffLimit").filter(|limit| limit.as_f64().is_some_and(|n| n > 0.0)) {
        mistakes.push(field_error(
            &spec_path("backoffLimit"),
            &format!(
                "is {}, so KubeRay would start a second worker for a run or step that has failed",
                json::text(limit)
            ),
            Some("remove it, and use Dagster's run retries or the op's RetryPolicy"),
        ));
    }
    mistakes.extend(unsupported(&submission));
    if !mistakes.is_empty() {
        return Err(Error::InvalidConfig(mistakes));
    }

    let Submission { entrypoint, submission_id, runtime_env, metadata, .. } = submission;
    spec.insert("entrypoint".to_owned(), entrypoint.into());
    spec.insert("jobId".to_owned(), submission_id.into());
    // JSON is valid YAML.
    spec.insert("runtimeEnvYAML".to_owned(), json::text(&runtime_env).into());
    spec.insert("metadata".to_owned(), json!(metadata));
    spec.insert("submissionMode".to_owned(), HTTP_MODE.into());
    let amounts = [
        ("entrypointNumCpus", submission.entrypoint_num_cpus),
        ("entrypointNumGpus", submission.entrypoint_num_gpus),
    ];
    for (field, amount) in amounts {
        spec.extend(amount.map(|amount| (field.to_owned(), amount.into())));
    }
    let resources = submission.entrypoint_resources.map(|resources| json::text(&resources.into()));
    spec.extend(resources.map(|text| ("entrypointResources".to_owned(), text.into())));
    lifetime(spec);
    cluster(spec, "ray_job.spec", image, &Vec::new())
}

/// Lets a RayJob run on an existing cluster. Removes what describes the lifetime of its own cluster, which KubeRay
/// rejects for an existing one, and the queue of Kueue, which admits the cluster.
pub fn select(template: &mut Template, cluster: &str) {
    const OF_OWN_CLUSTER: [&str; 5] = [
        "rayClusterSpec",
        "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished",
        "deletionStrategy",
        "suspend",
    ];

    template.spec.retain(|field, _| !OF_OWN_CLUSTER.contains(&field.as_str()));
    template.spec.insert("clusterSelector".to_owned(), json!({CLUSTER: cluster}));
    if let Some(Value::Object(found)) = template.metadata.get_mut("labels") {
        found.remove(labels::KUEUE_QUEUE);
    }
}

/// Completes a RayJob in InteractiveMode, whose driver connects from outside.
pub fn interactive(
    spec: &mut Map<String, Value>,
    path: &str,
    image: Option<&str>,
    env: &Attributes,
) -> Result<(), Error> {
    if let Some(mode) =
        spec.get("submissionMode").filter(|mode| !mode.is_null() && **mode != INTERACTIVE_MODE)
    {
        return Err(Error::invalid(
            &format!("{path}.spec.submissionMode"),
            &format!("is {}", json::text(mode)),
            Some("remove it: an interactive job uses InteractiveMode"),
        ));
    }
    spec.insert("submissionMode".to_owned(), INTERACTIVE_MODE.into());
    spec.entry("activeDeadlineSeconds").or_insert(json!(INTERACTIVE_DEADLINE_S));
    lifetime(spec);
    cluster(spec, &format!("{path}.spec"), image, env)
}

/// Sets defaults that delete the cluster after the job has ended.
///
/// There is no default deadline: `activeDeadlineSeconds` counts the time for which a job waits for resources,
/// and Dagster has its own limits.
pub fn lifetime(spec: &mut Map<String, Value>) {
    let mut defaults = vec![("backoffLimit", json!(0))];
    // KubeRay rejects these two fields together with a `deletionStrategy`, and on a cluster that the job
    // does not own.
    if !is_set(spec, "deletionStrategy") && !is_set(spec, "clusterSelector") {
        defaults.push(("shutdownAfterJobFinishes", json!(true)));
        if matches!(spec.get("shutdownAfterJobFinishes"), None | Some(Value::Bool(true))) {
            defaults.push(("ttlSecondsAfterFinished", json!(TTL_S)));
        }
    }
    for (field, value) in defaults {
        spec.entry(field).or_insert(value);
    }
}

/// Completes the cluster of a RayJob, unless the job selects an existing one.
pub fn cluster(
    spec: &mut Map<String, Value>,
    path: &str,
    image: Option<&str>,
    env: &Attributes,
) -> Result<(), Error> {
    if is_set(spec, "clusterSelector") {
        return Ok(());
    }
    let cluster = spec.entry("rayClusterSpec").or_insert_with(|| json!({}));
    let path = format!("{path}.rayClusterSpec");
    match cluster {
        Value::Object(cluster) => complete_cluster(cluster, &path, image, env),
        _ => Err(Error::invalid(&path, "is not an object", Some("write a RayClusterSpec"))),
    }
}

fn spec_path(field: &str) -> String {
    format!("ray_job.spec.{field}")
}

/// Returns the options that a RayJob does not support, because its cluster does not exist yet.
fn unsupported(submission: &Submission) -> Vec<FieldError> {
    let mut mistakes = Vec::new();
    if submission.entrypoint_memory.is_some() {
        mistakes.push(field_error(
            "memory",
            "cannot be reserved for the entrypoint of a RayJob",
            Some("set the memory of the head's container in rayClusterSpec, or set cluster: shared"),
        ));
    }
    let env = &submission.runtime_env;
    for (field, path) in packages::local_paths(env) {
        mistakes.push(field_error(
            &format!("runtime_env.{field}"),
            &format!("`{path}` is a local path, which cannot be uploaded before the cluster exists"),
            Some("add the code to the image, write the URL of an archive, or set cluster: shared"),
        ));
    }
    let variables = env.get("env_vars").and_then(Value::as_object).into_iter().flatten();
    for (name, value) in variables {
        let length = name.len() + 1 + value.as_str().map_or(0, str::len);
        if length > MAX_VARIABLE_BYTES {
            mistakes.push(field_error(
                &format!("runtime_env.env_vars.{name}"),
                &format!("has {length} bytes with its name, and Linux accepts at most {MAX_VARIABLE_BYTES}"),
                Some("shorten the value"),
            ));
        }
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::model::WorkerCommand;
    use dagster_ray_submission::entrypoint::command_line;

    use super::*;
    use crate::kubernetes::RAY_JOB;

    fn worker() -> WorkerCommand {
        let argv = ["python", "-m", "dagster", "api", "execute_run"].map(str::to_owned).to_vec();
        WorkerCommand { argv, payload: Some("{}".to_owned()), env: Vec::new() }
    }

    fn submission(runtime_env: Value) -> Submission {
        Submission {
            entrypoint: command_line(&worker()).unwrap(),
            submission_id: "dagster-run-r".to_owned(),
            runtime_env,
            entrypoint_num_cpus: Some(0.5),
            entrypoint_resources: json!({"tpu": 1.0}).as_object().cloned(),
            ..Submission::default()
        }
    }

    fn completed(manifest: Value, submission: Submission) -> Result<Map<String, Value>, Error> {
        let mut template = Template::read(Some(manifest), RAY_JOB, "ray_job").unwrap();
        complete(&mut template, submission, Some("i")).map(|()| template.spec)
    }

    #[test]
    fn a_job_is_submitted_in_http_mode_and_its_cluster_is_deleted_after_it() {
        let spec = completed(json!({"spec": {"ttlSecondsAfterFinished": 5}}), submission(json!({"a": "$b"})))
            .unwrap();
        for (field, value) in [
            ("submissionMode", json!("HTTPMode")),
            ("jobId", json!("dagster-run-r")),
            ("runtimeEnvYAML", json!("{\"a\":\"$b\"}")),
            ("entrypointNumCpus", json!(0.5)),
            ("entrypointResources", json!("{\"tpu\":1.0}")),
            ("backoffLimit", json!(0)),
            ("shutdownAfterJobFinishes", json!(true)),
            ("ttlSecondsAfterFinished", json!(5)),
        ] {
            assert_eq!(spec[field], value, "{field}");
        }
        assert_eq!(
            spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["image"],
            "i"
        );
        // A job that waits in a queue for days must not fail.
        assert!(!spec.contains_key("activeDeadlineSeconds"));
    }

    #[test]
    fn a_users_deletion_strategy_and_cluster_selector_disable_the_deletion_defaults() {
        let rules = json!({"spec": {"deletionStrategy": {"deletionRules": []}}});
        let spec = completed(rules, submission(json!({}))).unwrap();
        assert!(
            !spec.contains_key("shutdownAfterJobFinishes") && !spec.contains_key("ttlSecondsAfterFinished")
        );
        let existing = json!({"spec": {"clusterSelector": {"ray.io/cluster": "x"}}});
        let spec = completed(existing, submission(json!({}))).unwrap();
        assert!(!spec.contains_key("shutdownAfterJobFinishes") && !spec.contains_key("rayClusterSpec"));
    }

    #[test]
    fn a_job_on_a_cluster_of_a_pool_selects_it_and_leaves_its_lifetime_and_its_queue_to_the_pool() {
        let manifest = json!({
            "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "q", "team": "x"}},
            "spec": {
                "rayClusterSpec": {}, "shutdownAfterJobFinishes": true, "ttlSecondsAfterFinished": 5,
                "suspend": true, "deletionStrategy": {}, "activeDeadlineSeconds": 9,
            },
        });
        let mut template = Template::read(Some(manifest), RAY_JOB, "ray_job").unwrap();
        select(&mut template, "warm");
        complete(&mut template, submission(json!({})), None).unwrap();
        assert_eq!(template.metadata["labels"], json!({"team": "x"}));
        assert_eq!(template.spec["clusterSelector"], json!({"ray.io/cluster": "warm"}));
        assert_eq!(template.spec["activeDeadlineSeconds"], 9);
        for field in [
            "rayClusterSpec",
            "shutdownAfterJobFinishes",
            "ttlSecondsAfterFinished",
            "suspend",
            "deletionStrategy",
        ] {
            assert!(!template.spec.contains_key(field), "{field}");
        }
    }

    #[test]
    fn a_backoff_limit_is_rejected_because_kuberay_would_rerun_the_worker() {
        let with_limit =
            |limit: Value| completed(json!({"spec": {"backoffLimit": limit}}), submission(json!({})));
        let Err(Error::InvalidConfig(mistakes)) = with_limit(json!(2)) else { panic!() };
        assert_eq!(mistakes[0].path, "ray_job.spec.backoffLimit");
        assert!(with_limit(json!(0)).is_ok());
        assert!(with_limit(Value::Null).is_ok());
    }

    #[test]
    fn reserved_fields_and_unsupported_options_are_all_reported() {
        let mut job = submission(json!({"working_dir": ".", "env_vars": {"X": "y".repeat(131_072)}}));
        job.entrypoint_memory = Some(1);
        let manifest = json!({"spec": {
            "entrypoint": "x", "runtimeEnvYaml": "{}", "runtimeEnvYAML": "{}", "submissionMode": "K8sJobMode",
        }});
        let Err(Error::InvalidConfig(mistakes)) = completed(manifest, job) else { panic!() };
        let paths: Vec<&str> = mistakes.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "ray_job.spec.entrypoint",
                "ray_job.spec.runtimeEnvYAML",
                "ray_job.spec.runtimeEnvYaml",
                "ray_job.spec.submissionMode",
                "memory",
                "runtime_env.working_dir",
                "runtime_env.env_vars.X",
            ]
        );
    }
}
