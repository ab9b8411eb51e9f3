//! External scripts as RayJobs.

use dagster_ray_sdk::{
    Error,
    clock::Clock,
    http::Http,
    model::{JobRef, JobStatus},
    random,
    sink::Listener,
};
use dagster_ray_submission::{environment, metadata, status as ray};
use serde_json::{Map, Value, json};

use crate::{
    bindings::{cluster::Owner, pipes::ScriptSpec},
    cluster::{Clusters, create::annotations},
    job::{
        Place, manifest,
        place::{self, Placed},
        status::RayJob,
        stop,
    },
    kubernetes::{
        RAY_JOB, Selection,
        watch::{Change, Watch},
    },
    labels,
    manifest::{Template, has, name_of},
    names,
    options::{self, ScriptOptions},
    time::WallClock,
};

const PATIENCE_MS: u64 = (environment::STEP_STOP_WAIT_S as u64 + 10) * 1_000;
const SLICE_MS: u64 = 200;
const STREAM_MS: u64 = 1_800_000;

/// The contract's Pipes.
pub struct Pipes<H, C, W> {
    clusters: Clusters<H, C, W>,
}

impl<H: Http, C: Clock, W: WallClock> Pipes<H, C, W> {
    /// Scripts on the API server of these clusters.
    pub fn new(clusters: Clusters<H, C, W>) -> Self {
        Self { clusters }
    }

    /// Makes the RayJob of a script.
    pub fn launch(&self, script: &ScriptSpec, listener: &impl Listener) -> Result<JobRef, Error> {
        let options: ScriptOptions = options::document(&script.options)?;
        let mut template = Template::read(options.ray_job, RAY_JOB, "ray_job")?;
        let namespace = template
            .namespace()
            .or(options.namespace.as_deref())
            .unwrap_or(&self.clusters.namespace)
            .to_owned();
        let nonce = random::hex(8);
        let name = name_of(
            None,
            &template,
            || format!("dg-script-{nonce}"),
            names::LONGEST_JOB,
            "ray_job.metadata.name",
        )?;
        let spec = &mut template.spec;
        if !has(spec, "entrypoint") {
            return Err(Error::invalid(
                "ray_job.spec.entrypoint",
                "is missing",
                Some("write the command to run"),
            ));
        }
        open_session(spec, options.runtime_env, script)?;
        let id = spec.get("jobId").and_then(Value::as_str).unwrap_or(&name).to_owned();
        spec.insert("jobId".to_owned(), id.as_str().into());
        manifest::lifetime(spec);
        manifest::cluster(spec, "ray_job.spec", script.image.as_deref(), &Vec::new())?;

        let owner = Owner {
            run_id: script.run_id.clone(),
            step_key: Some(script.step_key.clone()),
            resource_key: None,
            holder: name.clone(),
        };
        let mut origin = labels::normalised(&script.labels);
        origin.insert(labels::RUN_ID.to_owned(), labels::value(&script.run_id));
        origin.insert(labels::ROLE.to_owned(), labels::ROLE_SCRIPT.to_owned());
        let mut notes = annotations(&owner, None, true);
        notes.insert(metadata::LAUNCH.to_owned(), nonce.into());
        let document = template.document(RAY_JOB, &namespace, &name, origin, notes);
        match place::place(&self.clusters.kubernetes, &namespace, &document)? {
            Placed::Here => {
                listener.progress(&format!("made the RayJob {namespace}/{name}"));
                Ok(Place::RayJob { namespace, name }.reference(&id, None))
            }
            Placed::Ended(_) => Err(Error::Conflict(format!(
                "the RayJob {namespace}/{name} exists and has ended; leave its name out, or delete it"
            ))),
        }
    }

    /// Waits until a script's RayJob has ended.
    pub fn wait(&self, job: &JobRef, listener: &impl Listener) -> Result<JobStatus, Error> {
        let (namespace, name) = place_of(job)?;
        let which = Selection::Name(name);
        let mut watch = Watch::new(&self.clusters.kubernetes, RAY_JOB, &namespace, which);
        let mut told = String::new();
        loop {
            if listener.cancelled() {
                return Err(Error::Cancelled);
            }
            let document = match watch.next(SLICE_MS, STREAM_MS)? {
                None => continue,
                Some(Change::Gone(_)) => return Ok(place::missing(job)),
                Some(Change::Now(document)) => document,
            };
            let found: RayJob = serde_json::from_value(document).unwrap_or_default();
            let status = found.status();
            if ray::is_over(status.state) {
                return Ok(status);
            }
            let text = status.message.unwrap_or_else(|| format!("{:?}", status.state));
            if text != told {
                listener.progress(&text);
                told = text;
            }
        }
    }

    /// Stops a script, and removes its RayJob.
    pub fn terminate(&self, job: &JobRef, listener: &impl Listener) -> Result<JobStatus, Error> {
        let (namespace, name) = place_of(job)?;
        let found: RayJob = match self.clusters.kubernetes.get(RAY_JOB, &namespace, &name) {
            Ok(found) => found,
            Err(Error::NotFound(_)) => return Ok(place::missing(job)),
            Err(error) => return Err(error),
        };
        let ends = stop::all(&self.clusters.kubernetes, &[&found], PATIENCE_MS, listener)?;
        Ok(ends.into_iter().next().map_or_else(|| place::missing(job), |end| end.status))
    }
}

fn place_of(job: &JobRef) -> Result<(String, String), Error> {
    match Place::of(job) {
        Some(Place::RayJob { namespace, name }) => Ok((namespace, name)),
        _ => Err(Error::NotFound(format!("the reference to {} names no RayJob", job.submission_id))),
    }
}

/// Puts what opens the Pipes session into the runtime environment, over what is there.
fn open_session(
    spec: &mut Map<String, Value>,
    runtime_env: Option<Map<String, Value>>,
    script: &ScriptSpec,
) -> Result<(), Error> {
    // The README of earlier versions spelled it so.
    let written = spec.remove("runtimeEnvYaml").or_else(|| spec.remove("runtimeEnvYAML"));
    let mut env = match (runtime_env, written) {
        (Some(env), _) => env,
        (None, None | Some(Value::Null)) => Map::new(),
        (None, Some(written)) => match written.as_str().map(serde_json::from_str) {
            Some(Ok(Value::Object(env))) => env,
            _ => {
                return Err(Error::invalid(
                    "ray_job.spec.runtimeEnvYAML",
                    "is not a JSON object, and YAML is not read here",
                    Some("give it as the option runtime_env"),
                ));
            }
        },
    };
    let variables = env.entry("env_vars").or_insert_with(|| json!({}));
    let Value::Object(variables) = variables else {
        return Err(Error::invalid(
            "runtime_env.env_vars",
            "is not an object",
            Some("write names with strings"),
        ));
    };
    variables.extend(script.bootstrap.iter().map(|(name, value)| (name.clone(), value.as_str().into())));
    spec.insert("runtimeEnvYAML".to_owned(), Value::from(env).to_string().into());
    Ok(())
}
