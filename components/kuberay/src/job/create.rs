//! Creates a RayJob exactly once, also when a response is lost, and finds existing ones.

use std::collections::BTreeMap;

use dagster_ray_jobs::Submission;
use dagster_ray_sdk::{
    Error,
    bindings::cluster::Owner,
    clock::Clock,
    http::Http,
    model::{JobRef, JobStatus},
    warn,
};
use dagster_ray_submission::{ids, metadata, status as ray};
use serde_json::Value;

use super::{JobLocation, ended, manifest, status::RayJob};
use crate::{
    annotations,
    kubernetes::{CreateOutcome, Kubernetes, RAY_JOB, Selection, object},
    labels,
    manifest::Template,
    options::JobOptions,
};

/// The outcome of creating a RayJob.
#[derive(Clone, Debug, PartialEq)]
pub enum Launched {
    /// The RayJob exists and is live, or was created by this launch.
    Live,
    /// A RayJob with the name exists, and has ended or is being deleted.
    Ended(Box<RayJob>),
}

/// The cluster of a pool on which a RayJob runs.
pub struct PoolCluster<'c> {
    /// The cluster's name.
    pub name: &'c str,
    /// The id of the pool.
    pub pool: &'c str,
}

/// The RayJob of a run or a step, before its creation.
pub struct Plan {
    /// The RayJob's namespace.
    pub namespace: String,
    submission: Submission,
    options: JobOptions,
    origin: BTreeMap<String, String>,
    owner: Owner,
}

impl Plan {
    /// Plans the RayJob of a run worker, or of a step worker if there is a step key. `namespace` is the default
    /// namespace.
    pub fn new(
        submission: Submission,
        options: JobOptions,
        run_id: &str,
        step_key: Option<&str>,
        namespace: &str,
    ) -> Result<Self, Error> {
        if submission.entrypoint_label_selector.is_some() {
            return Err(Error::invalid(
                "label_selector",
                "is not supported by RayJobs",
                Some("use resources, and add the resource to the node's worker group"),
            ));
        }
        let template = Template::read(options.ray_job.clone(), RAY_JOB, "ray_job")?;
        if template.name().is_some() {
            return Err(Error::invalid(
                "ray_job.metadata.name",
                "is set, but each run or step needs a unique name",
                Some("remove it"),
            ));
        }
        let namespace = template.namespace().or(options.namespace.as_deref()).unwrap_or(namespace).to_owned();
        let known = [
            metadata::DEPLOYMENT,
            metadata::JOB,
            metadata::RUN_ID,
            metadata::CODE_LOCATION,
            metadata::STEP,
            metadata::ATTEMPT,
        ];
        let mut origin = BTreeMap::new();
        origin.extend(
            known
                .iter()
                .filter_map(|key| Some(((*key).to_owned(), labels::value(submission.metadata.get(*key)?)))),
        );
        let role = if step_key.is_some() { labels::ROLE_STEP } else { labels::ROLE_RUN };
        origin.insert(labels::ROLE.to_owned(), role.to_owned());
        let owner = Owner {
            deployment: submission.metadata.get(metadata::DEPLOYMENT).cloned().unwrap_or_default(),
            run_id: run_id.to_owned(),
            step_key: step_key.map(str::to_owned),
            resource_key: None,
            holder: submission.submission_id.clone(),
        };
        Ok(Self { namespace, submission, options, origin, owner })
    }

    /// Returns the manifest of the `n`-th repeated launch. 0 is the first launch.
    pub fn document(&self, name: &str, n: u32) -> Result<Value, Error> {
        self.document_on(None, name, n)
    }

    /// Returns the manifest of the `n`-th repeated launch, on a cluster of a pool if one is given.
    pub fn document_on(&self, cluster: Option<&PoolCluster<'_>>, name: &str, n: u32) -> Result<Value, Error> {
        let mut template = Template::read(self.options.ray_job.clone(), RAY_JOB, "ray_job")?;
        let mut submission = self.submission.clone();
        submission.submission_id = ids::repeated(&submission.submission_id, n);
        let launch = submission.metadata.get(metadata::LAUNCH_NONCE).cloned().unwrap_or_default();
        let mut origin = self.origin.clone();
        if let Some(cluster) = cluster {
            manifest::select(&mut template, cluster.name);
            origin.insert(labels::POOL.to_owned(), cluster.pool.to_owned());
        }
        manifest::complete(&mut template, submission, self.options.image.as_deref())?;
        let mut notes = annotations::for_owner(&self.owner, None, true);
        notes.insert(metadata::LAUNCH_NONCE.to_owned(), launch.into());
        notes.extend([ended::annotation(self.options.job_ttl_seconds)]);
        Ok(template.document(RAY_JOB, &self.namespace, name, origin, notes))
    }

    /// Returns the submission id of the `n`-th repeated launch. 0 is the first launch.
    #[must_use]
    pub fn submission_id(&self, n: u32) -> String {
        ids::repeated(&self.submission.submission_id, n)
    }
}

/// Creates a RayJob, or adopts an existing one with the same name and `jobId`.
///
/// # Errors
/// [`Error::Conflict`] if a RayJob with the name has another `jobId` or belongs to another Dagster deployment.
pub fn create_or_adopt<H: Http, C: Clock>(
    kubernetes: &Kubernetes<H, C>,
    namespace: &str,
    document: &Value,
) -> Result<Launched, Error> {
    let existing = match kubernetes.create(RAY_JOB, namespace, document)? {
        CreateOutcome::Created(_) => return Ok(Launched::Live),
        CreateOutcome::Exists(existing) => existing,
    };
    let ours = RayJob::read(document);
    // The name of a script's RayJob can be the user's, and so the same in two deployments.
    let found = object::labels(&existing).get(labels::DEPLOYMENT_ID).copied();
    if found != object::labels(document).get(labels::DEPLOYMENT_ID).copied() {
        return Err(Error::Conflict(format!(
            "the RayJob {namespace}/{} exists and is not of this Dagster deployment: its label {} is {:?}",
            ours.metadata.name,
            labels::DEPLOYMENT_ID,
            found.unwrap_or_default()
        )));
    }
    let existing = RayJob::read(&existing);
    let launch = |job: &RayJob| job.metadata.annotations.get(metadata::LAUNCH_NONCE).cloned();
    if existing.spec.job_id != ours.spec.job_id {
        return Err(Error::Conflict(format!(
            "the RayJob {namespace}/{} exists with the jobId `{}` instead of `{}`",
            ours.metadata.name, existing.spec.job_id, ours.spec.job_id
        )));
    }
    // This launch created it and the response was lost, so an ended job counts as launched.
    if launch(&existing) == launch(&ours) {
        return Ok(Launched::Live);
    }
    if existing.is_deleting() || existing.status().ended {
        return Ok(Launched::Ended(Box::new(existing)));
    }
    warn!("reusing the RayJob {namespace}/{}, which exists and has not ended", ours.metadata.name);
    Ok(Launched::Live)
}

/// Returns the RayJobs with these labels.
pub fn list<H: Http, C: Clock>(
    kubernetes: &Kubernetes<H, C>,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Result<Vec<RayJob>, Error> {
    let which = Selection::Labels(labels::selector(labels));
    let listed = kubernetes.list(RAY_JOB, namespace, &which, &RayJob::SKIPPED_FIELDS)?;
    Ok(object::elements(&listed, "/items").map(RayJob::read).collect())
}

/// Returns the labels of a role's objects, restricted to one run if given.
#[must_use]
pub fn selector(role: &str, run_id: Option<&str>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    all.insert(labels::ROLE.to_owned(), role.to_owned());
    all.extend(run_id.map(|run| (labels::RUN_ID.to_owned(), labels::value(run))));
    all
}

/// Returns the RayJob of the latest launch of a step, not earlier than the launch of `submission_id`.
#[must_use]
pub fn latest<'j>(listed: &'j [RayJob], submission_id: &str) -> Option<&'j RayJob> {
    let (first, launches) = ids::split_repeated(submission_id);
    listed
        .iter()
        .filter_map(|job| {
            let (base, n) = ids::split_repeated(&job.spec.job_id);
            (base == first && n >= launches).then_some((n, job))
        })
        .max_by_key(|(n, _)| *n)
        .map(|(_, job)| job)
}

/// Returns a job's status, or [`missing`] without a job.
#[must_use]
pub fn status_of(job: Option<&RayJob>, reference: &JobRef) -> JobStatus {
    job.map_or_else(|| missing(reference), RayJob::status)
}

/// Returns the status of a job that does not exist.
#[must_use]
pub fn missing(reference: &JobRef) -> JobStatus {
    let message = match JobLocation::from_reference(reference) {
        Some(JobLocation::RayJob { namespace, name, .. }) => {
            format!("the RayJob {namespace}/{name} does not exist")
        }
        Some(JobLocation::RayCluster { namespace, name, .. }) => {
            format!("the RayCluster {namespace}/{name} does not exist, nor do its Ray jobs")
        }
        Some(JobLocation::Leased { namespace, run_id }) => {
            format!("run {run_id} has no cluster of a pool in the namespace {namespace}, nor Ray jobs on one")
        }
        None => format!("the Ray job {} does not exist", reference.submission_id),
    };
    JobStatus { message: Some(message), ..ray::missing(&reference.submission_id) }
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::testing::{ScriptedHttp, ScriptedResponse, VirtualClock};
    use serde_json::json;

    use super::*;

    fn job(deployment: Option<&str>) -> Value {
        json!({
            "metadata": {"name": "nightly", "labels": {labels::DEPLOYMENT_ID: deployment}},
            "spec": {"jobId": "nightly"},
        })
    }

    #[test]
    fn a_rayjob_of_another_deployment_is_not_adopted() {
        let adopt = |existing: Option<&str>| {
            let exists = r#"{"kind": "Status", "status": "Failure", "reason": "AlreadyExists", "code": 409}"#;
            let http = ScriptedHttp::new([
                ScriptedResponse::new(409, exists),
                ScriptedResponse::new(200, job(existing).to_string()),
            ]);
            let kubernetes = Kubernetes::new(&http, VirtualClock::default());
            create_or_adopt(&kubernetes, "ray", &job(Some("d")))
        };
        assert_eq!(adopt(Some("d")), Ok(Launched::Live));
        for existing in [Some("other"), None] {
            assert!(matches!(adopt(existing), Err(Error::Conflict(_))), "{existing:?}");
        }
    }
}
