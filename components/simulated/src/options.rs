//! Accepts the options of other backends, so that a test needs no change to the user's configuration.

use dagster_ray_sdk::{
    Error,
    bindings::{executor::StepSpec, launcher::RunSpec, pipes::ScriptSpec},
    json::{self, Map, Value},
    model::Attributes,
};
use dagster_ray_submission::options::TAG;

/// The options of other backends that select where a job runs. They have no meaning here.
const OTHER_BACKENDS_KEYS: [&str; 7] =
    ["namespace", "image", "ray_job", "cluster", "pool", "cluster_timeout_seconds", "job_ttl_seconds"];

/// Removes options of other backends from a run.
pub(crate) fn run(mut run: RunSpec) -> RunSpec {
    run.options = without_other_keys(run.options);
    run.tags = tags(run.tags);
    run
}

/// Removes options of other backends from a step.
pub(crate) fn step(mut step: StepSpec) -> StepSpec {
    step.options = without_other_keys(step.options);
    step.tags = tags(step.tags);
    step
}

fn tags(tags: Attributes) -> Attributes {
    let clean = |(name, value)| if name == TAG { (name, without_other_keys(value)) } else { (name, value) };
    tags.into_iter().map(clean).collect()
}

/// Removes options of other backends. A text that is not an object is returned as is, and the shared rules
/// report it.
fn without_other_keys(text: String) -> String {
    match json::parse(text.as_bytes()) {
        Ok(Value::Object(mut fields)) => {
            // A step that would be a Ray task is a simulated job, too.
            fields.retain(|key, value| {
                let is_task = key == "isolation" && *value == "task";
                !is_task && !OTHER_BACKENDS_KEYS.contains(&key.as_str())
            });
            json::text(&fields.into())
        }
        _ => text,
    }
}

/// Converts a RayJob manifest in a script's options to the parameters of a Ray job. Explicit parameters
/// override the manifest, as with the backend `kuberay`.
pub(crate) fn script(mut script: ScriptSpec) -> Result<ScriptSpec, Error> {
    let Ok(Value::Object(mut options)) = json::parse(script.options.as_bytes()) else { return Ok(script) };
    options.remove("namespace");
    let manifest = options.remove("ray_job");
    let parameters = options.remove("parameters");
    if manifest.is_none() && parameters.is_none() {
        script.options = json::text(&options.into());
        return Ok(script);
    }
    let mut job = Map::new();
    if let Some(spec) = manifest.as_ref().and_then(|manifest| manifest.get("spec")) {
        if let Some(entrypoint) = spec.get("entrypoint") {
            job.insert("entrypoint".to_owned(), entrypoint.clone());
        }
        if let Some(metadata) = spec.get("metadata") {
            job.insert("metadata".to_owned(), metadata.clone());
        }
    }
    if let Some(env) = options.remove("runtime_env") {
        job.insert("runtime_env".to_owned(), env);
    }
    job.extend(parameters.as_ref().and_then(Value::as_object).cloned().unwrap_or_default());
    job.extend(options);
    script.options = json::text(&job.into());
    Ok(script)
}
