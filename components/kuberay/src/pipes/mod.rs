//! The contract's `pipes`: runs external scripts as RayJobs.

mod follow;
mod manifest;
mod progress;

pub use manifest::runtime_env;

use dagster_ray_sdk::{
    Error,
    bindings::{cluster::Owner, pipes::ScriptSpec},
    clock::Clock,
    http::Http,
    model::{JobRef, JobStatus},
    progress::ProgressListener,
};
use dagster_ray_submission::{environment, metadata};
use serde_json::Value;

use crate::{
    annotations,
    cluster::Clusters,
    job::{
        self, JobLocation,
        create::{self, Launched},
        ended,
        status::RayJob,
        stop,
    },
    kubernetes::RAY_JOB,
    labels,
    manifest::{Template, is_set, object_name},
    names,
    options::{self, ScriptOptions},
};
use progress::{JobWatch, Seen};

const TIMEOUT_MS: u64 = (environment::STEP_STOP_WAIT_S as u64 + 10) * 1_000;

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
        JobLocation::RayJob { namespace, name, pool: None }.reference(&self.id, None)
    }
}

/// The contract's Pipes.
pub struct Pipes<H, C> {
    clusters: Clusters<H, C>,
    /// The URL of an ingress in front of the dashboards. Without it, the dashboard's Service is used.
    dashboard: Option<String>,
}

impl<H: Http, C: Clock> Pipes<H, C> {
    /// Creates an instance on the API server of these clusters.
    pub fn new(clusters: Clusters<H, C>) -> Self {
        Self { clusters, dashboard: None }
    }

    /// Reads the output of scripts at this URL of Ray's dashboard.
    #[must_use]
    pub fn with_dashboard(mut self, url: Option<String>) -> Self {
        self.dashboard = url;
        self
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
            env = manifest::apply(&mut template.spec, parameters)?.or(env);
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
        job::manifest::lifetime(spec);
        job::manifest::cluster(spec, "ray_job.spec", script.image.as_deref(), &Vec::new())?;

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
        notes.extend([ended::annotation(None)]);
        let document = template.document(RAY_JOB, &namespace, &name, origin, notes);
        Ok(Planned { namespace, name, id, document })
    }

    /// Waits until a script's RayJob has ended. A RayJob that KubeRay runs again has not ended.
    pub fn wait(&self, job: &JobRef, listener: &impl ProgressListener) -> Result<JobStatus, Error> {
        let (namespace, name) = ray_job_location(job)?;
        let mut watch = JobWatch::new(&self.clusters.kubernetes, &namespace, &name, job, listener);
        loop {
            let status = match watch.next()? {
                Seen::Nothing => continue,
                Seen::Changed => watch.current().map(RayJob::status),
                // The last state of a RayJob that was deleted after its end says how it ended.
                Seen::Deleted(last) => {
                    let status = last.map(|last| last.status()).filter(|status| status.ended);
                    return Ok(status.unwrap_or_else(|| create::missing(job)));
                }
            };
            if let Some(status) = status.filter(|status| status.ended) {
                return Ok(status);
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
        Some(JobLocation::RayJob { namespace, name, .. }) => Ok((namespace, name)),
        _ => Err(Error::NotFound(format!("the reference of the job {} has no RayJob", job.submission_id))),
    }
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::testing::{ScriptedHttp, VirtualClock};
    use serde_json::json;

    use super::*;
    use crate::kubernetes::Kubernetes;

    #[test]
    fn plan_rejects_a_misspelled_runtime_environment_without_a_request() {
        let spec = json!({"entrypoint": "x", "runtimeEnvYAML": "{}", "runtimeEnvYaml": "{}"});
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
            let pipes = Pipes::new(Clusters::new(kubernetes, "ray".to_owned()));
            let Err(Error::InvalidConfig(mistakes)) = pipes.plan(&script) else { panic!("{options}") };
            assert_eq!(mistakes[0].path, "ray_job.spec.runtimeEnvYaml");
            assert!(http.requests().is_empty());
        }
    }
}
