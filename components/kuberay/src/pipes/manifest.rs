//! The Ray job in a script's RayJob: its parameters and its runtime environment.

use dagster_ray_sdk::{Error, json, model::Attributes, warn};
use dagster_ray_submission::scripts::add_session_env;
use serde_json::{Map, Value, json};

use crate::{manifest::is_set, options::Parameters};

/// Writes the parameters of a Ray job to the fields of a RayJob's spec, and returns the runtime environment.
///
/// `entrypointResources` is a string of JSON (KubeRay API, `RayJobSpec`).
pub(super) fn apply(
    spec: &mut Map<String, Value>,
    parameters: Parameters,
) -> Result<Option<Map<String, Value>>, Error> {
    if parameters.entrypoint_label_selector.is_some() {
        return Err(Error::invalid(
            "parameters.entrypoint_label_selector",
            "is not supported by RayJobs",
            Some("use entrypoint_resources, and add the resource to the node's worker group"),
        ));
    }
    let metadata = (!parameters.metadata.is_empty()).then(|| json!(parameters.metadata));
    let resources = parameters.entrypoint_resources.map(|all| json::text(&all.into()).into());
    let fields = [
        ("entrypoint", parameters.entrypoint.map(Value::from)),
        ("jobId", parameters.submission_id.map(Value::from)),
        ("metadata", metadata),
        ("entrypointNumCpus", parameters.entrypoint_num_cpus.map(Value::from)),
        ("entrypointNumGpus", parameters.entrypoint_num_gpus.map(Value::from)),
        ("entrypointMemory", parameters.entrypoint_memory.map(Value::from)),
        ("entrypointResources", resources),
    ];
    for (name, value) in fields {
        let Some(value) = value else { continue };
        if is_set(spec, name) && spec.get(name) != Some(&value) {
            warn!("the job's parameters override ray_job.spec.{name}");
        }
        spec.insert(name.to_owned(), value);
    }
    Ok((!parameters.runtime_env.is_empty()).then_some(parameters.runtime_env))
}

/// The field with the runtime environment.
const RUNTIME_ENV: &str = "runtimeEnvYAML";
/// The field in the README of earlier versions, which the API server would ignore.
const MISSPELLED: &str = "runtimeEnvYaml";

/// Adds the environment variables of a Pipes session to the runtime environment in a RayJob's spec.
///
/// The option `runtime_env` replaces the spec's runtime environment.
///
/// # Errors
/// [`Error::InvalidConfig`] if the field is misspelled, if its YAML is not JSON, or if `env_vars` is not an
/// object.
pub fn runtime_env(
    spec: &mut Map<String, Value>,
    runtime_env: Option<Map<String, Value>>,
    bootstrap: &Attributes,
) -> Result<(), Error> {
    if is_set(spec, MISSPELLED) {
        return Err(Error::invalid(
            &format!("ray_job.spec.{MISSPELLED}"),
            "is not a field of a RayJob",
            Some("write runtimeEnvYAML"),
        ));
    }
    let written = spec.remove(RUNTIME_ENV).filter(|text| !text.is_null());
    let mut env = match (runtime_env, written) {
        (Some(env), _) => env,
        (None, None) => Map::new(),
        (None, Some(written)) => match written.as_str().map(|text| json::parse(text.as_bytes())) {
            Some(Ok(Value::Object(env))) => env,
            _ => {
                return Err(Error::invalid(
                    &format!("ray_job.spec.{RUNTIME_ENV}"),
                    "is not a JSON object, and the component does not read YAML",
                    Some("use the option runtime_env"),
                ));
            }
        },
    };
    add_session_env(&mut env, bootstrap.iter().cloned())?;
    spec.insert(RUNTIME_ENV.to_owned(), json::text(&env.into()).into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(spec: Value) -> Result<Value, Error> {
        let Value::Object(mut spec) = spec else { panic!("{spec}") };
        let bootstrap = vec![("DAGSTER_PIPES_CONTEXT".to_owned(), "c".to_owned())];
        runtime_env(&mut spec, None, &bootstrap)?;
        assert_eq!(spec.len(), 1, "{spec:?}");
        Ok(serde_json::from_str(spec["runtimeEnvYAML"].as_str().unwrap()).unwrap())
    }

    #[test]
    fn the_session_is_added_to_the_runtime_environment() {
        let env = written(json!({"runtimeEnvYAML": r#"{"pip": ["x"], "env_vars": null}"#})).unwrap();
        assert_eq!(env["pip"], json!(["x"]));
        assert_eq!(env["env_vars"]["DAGSTER_PIPES_CONTEXT"], "c");
    }

    #[test]
    fn a_fraction_in_a_runtime_environment_is_preserved() {
        let env = written(json!({"runtimeEnvYAML": r#"{"config": {"x": 7777778.77777E77}}"#})).unwrap();
        assert_eq!(env["config"]["x"], json!(7_777_778.777_77e77));
    }
}
