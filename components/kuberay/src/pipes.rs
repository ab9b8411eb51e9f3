//! The contract's `pipes`: runs external scripts as RayJobs.

use dagster_ray_jobs::JobsClient;
use dagster_ray_sdk::{
    Error,
    bindings::{cluster::Owner, pipes::ScriptSpec},
    clock::Clock,
    http::Http,
    json,
    model::{Attributes, JobRef, JobStatus},
    progress::ProgressListener,
    warn,
};
use dagster_ray_submission::{
    environment,
    follow::{self, FollowResult},
    metadata,
    scripts::{add_session_env, parse_position},
};
use serde_json::{Map, Value, json};

use crate::{
    annotations,
    cluster::Clusters,
    job::{
        JobLocation,
        create::{self, Launched},
        manifest,
        status::RayJob,
        stop,
    },
    kubernetes::{
        RAY_JOB, Selection,
        watch::{Change, Watch},
    },
    labels,
    manifest::{Template, is_set, object_name},
    names,
    options::{self, Parameters, ScriptOptions},
    time::WallClock,
};

const TIMEOUT_MS: u64 = (environment::STEP_STOP_WAIT_S as u64 + 10) * 1_000;
const SLICE_MS: u64 = 200;
const STREAM_MS: u64 = 1_800_000;

/// A script's RayJob, before its creation.
struct Planned {
    namespace: String,
    name: String,
    id: String,
    document: Value,
}

impl Planned {
    fn reference(&self) -> JobRef {
        let (namespace, name) = (self.namespace.clone(), self.name.clone());
        JobLocation::RayJob { namespace, name }.reference(&self.id, None)
    }
}

/// The contract's Pipes.
pub struct Pipes<H, C, W> {
    clusters: Clusters<H, C, W>,
}

impl<H: Http, C: Clock, W: WallClock> Pipes<H, C, W> {
    /// Creates an instance on the API server of these clusters.
    pub fn new(clusters: Clusters<H, C, W>) -> Self {
        Self { clusters }
    }

    /// Checks a script's options and manifest, and returns the reference that a launch returns. Makes no
    /// request.
    pub fn plan(&self, script: &ScriptSpec) -> Result<JobRef, Error> {
        Ok(self.planned(script)?.reference())
    }

    /// Creates the RayJob of a script.
    ///
    /// # Errors
    /// [`Error::Conflict`] if a RayJob with its name has ended.
    pub fn launch(&self, script: &ScriptSpec, listener: &impl ProgressListener) -> Result<JobRef, Error> {
        let job = self.planned(script)?;
        if listener.cancelled() {
            return Err(Error::Cancelled);
        }
        match create::create_or_adopt(&self.clusters.kubernetes, &job.namespace, &job.document)? {
            Launched::Live => {
                listener.progress(&format!("created the RayJob {}/{}", job.namespace, job.name));
                Ok(job.reference())
            }
            Launched::Ended(_) => Err(Error::Conflict(format!(
                "the RayJob {}/{} exists and has ended; remove ray_job.metadata.name, or delete the RayJob",
                job.namespace, job.name
            ))),
        }
    }

    fn planned(&self, script: &ScriptSpec) -> Result<Planned, Error> {
        let options = options::read_document(&script.options, ScriptOptions::read)?;
        let mut template = Template::read(options.ray_job, RAY_JOB, "ray_job")?;
        let namespace = template
            .namespace()
            .or(options.namespace.as_deref())
            .unwrap_or(&self.clusters.namespace)
            .to_owned();
        let name = object_name(
            None,
            &template,
            || format!("dg-script-{}", script.nonce),
            names::MAX_JOB_NAME,
            "ray_job.metadata.name",
        )?;
        let mut env = options.runtime_env;
        if let Some(parameters) = options.parameters {
            env = apply(&mut template.spec, parameters)?.or(env);
        }
        let spec = &mut template.spec;
        if !is_set(spec, "entrypoint") {
            return Err(Error::invalid(
                "ray_job.spec.entrypoint",
                "is missing",
                Some("write the command to run, such as `python script.py`"),
            ));
        }
        runtime_env(spec, env, &script.bootstrap)?;
        let id = spec.get("jobId").and_then(Value::as_str).unwrap_or(&name).to_owned();
        spec.insert("jobId".to_owned(), id.as_str().into());
        manifest::lifetime(spec);
        manifest::cluster(spec, "ray_job.spec", script.image.as_deref(), &Vec::new())?;

        let owner = Owner {
            deployment: script.deployment.clone(),
            run_id: script.run_id.clone(),
            step_key: Some(script.step_key.clone()),
            resource_key: None,
            holder: name.clone(),
        };
        let mut origin = labels::normalized(&script.labels);
        origin.insert(labels::RUN_ID.to_owned(), labels::value(&script.run_id));
        origin.insert(labels::STEP.to_owned(), labels::value(&script.step_key));
        origin.insert(labels::ATTEMPT.to_owned(), script.attempt.to_string());
        origin.insert(labels::ROLE.to_owned(), labels::ROLE_SCRIPT.to_owned());
        labels::set_deployment(&mut origin, &script.deployment);
        let mut notes = annotations::for_owner(&owner, None, true);
        notes.insert(metadata::LAUNCH_NONCE.to_owned(), script.nonce.as_str().into());
        let document = template.document(RAY_JOB, &namespace, &name, origin, notes);
        Ok(Planned { namespace, name, id, document })
    }

    /// Delivers a script's output to the listener, once its cluster's dashboard is known.
    pub fn follow(
        &self,
        job: &JobRef,
        from: Option<&str>,
        listener: &impl ProgressListener,
    ) -> Result<FollowResult, Error> {
        let from = parse_position(from)?;
        let Some(dashboard) = self.dashboard(job, listener)? else {
            return Ok(FollowResult { position: from, complete: true });
        };
        let kubernetes = &self.clusters.kubernetes;
        let jobs = JobsClient::new(&dashboard, kubernetes.http(), kubernetes.clock())?;
        follow::follow(&jobs, kubernetes.clock(), &job.submission_id, from, listener)
    }

    /// Waits until Ray has the job and returns the dashboard's URL. Returns `None` if the job ends earlier.
    fn dashboard(&self, job: &JobRef, listener: &impl ProgressListener) -> Result<Option<String>, Error> {
        self.watch(job, listener, |found| {
            let is_in_ray = !found.status.job_status.is_empty();
            let has_ended = found.status().ended;
            match found.dashboard() {
                Some(dashboard) if is_in_ray => Some(Some(dashboard)),
                _ => has_ended.then_some(None),
            }
        })
        .map(Option::flatten)
    }

    /// Waits until a script's RayJob has ended.
    pub fn wait(&self, job: &JobRef, listener: &impl ProgressListener) -> Result<JobStatus, Error> {
        let ended = self.watch(job, listener, |found| Some(found.status()).filter(|status| status.ended))?;
        Ok(ended.unwrap_or_else(|| create::missing(job)))
    }

    /// Watches the RayJob until `look_for` returns a value. Returns `None` if the RayJob is deleted.
    fn watch<T>(
        &self,
        job: &JobRef,
        listener: &impl ProgressListener,
        look_for: impl Fn(&RayJob) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let (namespace, name) = ray_job_location(job)?;
        let which = Selection::Name(name);
        let mut watch = Watch::new(&self.clusters.kubernetes, RAY_JOB, &namespace, which);
        let mut reported = String::new();
        loop {
            if listener.cancelled() {
                return Err(Error::Cancelled);
            }
            let document = match watch.next(SLICE_MS, STREAM_MS)? {
                None => continue,
                Some(Change::Deleted(_)) => return Ok(None),
                Some(Change::Updated(document)) => document,
            };
            let found = RayJob::read(&document);
            if let Some(value) = look_for(&found) {
                return Ok(Some(value));
            }
            let status = found.status();
            let text = status.message.unwrap_or_else(|| format!("{:?}", status.state));
            if text != reported {
                listener.progress(&text);
                reported = text;
            }
        }
    }

    /// Stops a script and deletes its RayJob.
    pub fn terminate(&self, job: &JobRef, listener: &impl ProgressListener) -> Result<JobStatus, Error> {
        let (namespace, name) = ray_job_location(job)?;
        let found = match self.clusters.kubernetes.get(RAY_JOB, &namespace, &name) {
            Ok(found) => RayJob::read(&found),
            Err(Error::NotFound(_)) => return Ok(create::missing(job)),
            Err(error) => return Err(error),
        };
        let outcomes = stop::stop_jobs(&self.clusters.kubernetes, &[&found], TIMEOUT_MS, listener)?;
        Ok(outcomes.into_iter().next().map_or_else(|| create::missing(job), |outcome| outcome.status))
    }
}

fn ray_job_location(job: &JobRef) -> Result<(String, String), Error> {
    match JobLocation::from_reference(job) {
        Some(JobLocation::RayJob { namespace, name }) => Ok((namespace, name)),
        _ => Err(Error::NotFound(format!("the reference of the job {} has no RayJob", job.submission_id))),
    }
}

/// Writes the parameters of a Ray job to the fields of a RayJob's spec, and returns the runtime environment.
///
/// `entrypointResources` is a string of JSON (KubeRay API, `RayJobSpec`).
fn apply(spec: &mut Map<String, Value>, parameters: Parameters) -> Result<Option<Map<String, Value>>, Error> {
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

/// The field with the runtime environment: KubeRay's spelling, and that of the README of earlier versions.
const RUNTIME_ENV: [&str; 2] = ["runtimeEnvYAML", "runtimeEnvYaml"];

/// Adds the environment variables of a Pipes session to the runtime environment in a RayJob's spec.
///
/// The option `runtime_env` replaces the spec's runtime environment, which can have either spelling.
///
/// # Errors
/// [`Error::InvalidConfig`] if the two spellings differ, if the spec's YAML is not JSON, or if `env_vars` is
/// not an object.
pub fn runtime_env(
    spec: &mut Map<String, Value>,
    runtime_env: Option<Map<String, Value>>,
    bootstrap: &Attributes,
) -> Result<(), Error> {
    let written = match RUNTIME_ENV.map(|spelling| spec.remove(spelling).filter(|text| !text.is_null())) {
        [Some(one), Some(other)] if one != other => {
            return Err(Error::invalid(
                "ray_job.spec.runtimeEnvYaml",
                "differs from runtimeEnvYAML",
                Some("remove one of them"),
            ));
        }
        [one, other] => one.or(other),
    };
    let mut env = match (runtime_env, written) {
        (Some(env), _) => env,
        (None, None) => Map::new(),
        (None, Some(written)) => match written.as_str().map(|text| json::parse(text.as_bytes())) {
            Some(Ok(Value::Object(env))) => env,
            _ => {
                return Err(Error::invalid(
                    "ray_job.spec.runtimeEnvYAML",
                    "is not a JSON object, and the component does not read YAML",
                    Some("use the option runtime_env"),
                ));
            }
        },
    };
    add_session_env(&mut env, bootstrap.iter().cloned())?;
    spec.insert("runtimeEnvYAML".to_owned(), json::text(&env.into()).into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use dagster_ray_sdk::testing::{ScriptedHttp, VirtualClock};

    use super::*;
    use crate::kubernetes::Kubernetes;

    fn written(spec: Value) -> Result<Value, Error> {
        let Value::Object(mut spec) = spec else { panic!("{spec}") };
        let bootstrap = vec![("DAGSTER_PIPES_CONTEXT".to_owned(), "c".to_owned())];
        runtime_env(&mut spec, None, &bootstrap)?;
        assert_eq!(spec.len(), 1, "{spec:?}");
        Ok(serde_json::from_str(spec["runtimeEnvYAML"].as_str().unwrap()).unwrap())
    }

    #[test]
    fn a_runtime_environment_is_read_in_either_spelling() {
        let text = r#"{"pip": ["x"], "env_vars": null}"#;
        for spec in [
            json!({"runtimeEnvYAML": text}),
            json!({"runtimeEnvYaml": text}),
            json!({"runtimeEnvYAML": text, "runtimeEnvYaml": null}),
            json!({"runtimeEnvYAML": text, "runtimeEnvYaml": text}),
        ] {
            let env = written(spec.clone()).unwrap();
            assert_eq!(env["pip"], json!(["x"]), "{spec}");
            assert_eq!(env["env_vars"]["DAGSTER_PIPES_CONTEXT"], "c", "{spec}");
        }
    }

    #[test]
    fn a_fraction_in_a_runtime_environment_is_preserved() {
        let env = written(json!({"runtimeEnvYAML": r#"{"config": {"x": 7777778.77777E77}}"#})).unwrap();
        assert_eq!(env["config"]["x"], json!(7_777_778.777_77e77));
    }

    #[test]
    fn plan_rejects_two_different_runtime_environments_without_a_request() {
        let spec = json!({"entrypoint": "x", "runtimeEnvYAML": "{}", "runtimeEnvYaml": r#"{"pip": []}"#});
        for options in [
            json!({"ray_job": {"spec": spec}}),
            json!({"ray_job": {"spec": spec}, "runtime_env": {"pip": []}}),
            json!({"ray_job": {"spec": spec}, "parameters": {"runtime_env": {"pip": []}}}),
        ] {
            let script = ScriptSpec {
                deployment: String::new(),
                run_id: "r".to_owned(),
                step_key: "s".to_owned(),
                attempt: 0,
                nonce: "n".to_owned(),
                bootstrap: Vec::new(),
                labels: Vec::new(),
                image: Some("i".to_owned()),
                options: options.to_string(),
            };
            let http = ScriptedHttp::new([]);
            let kubernetes = Kubernetes::new(&http, VirtualClock::default());
            let pipes = Pipes::new(Clusters::new(kubernetes, Cell::new(0), "ray".to_owned()));
            let Err(Error::InvalidConfig(mistakes)) = pipes.plan(&script) else { panic!("{options}") };
            assert_eq!(mistakes[0].path, "ray_job.spec.runtimeEnvYaml");
            assert!(http.requests().is_empty());
        }
    }
}
