//! Making a RayJob once, whatever happens to the answers, and finding it again.

use std::collections::BTreeMap;

use dagster_ray_jobs::Submission;
use dagster_ray_sdk::{
    Error,
    clock::Clock,
    http::Http,
    model::{JobRef, JobStatus},
    warn,
};
use dagster_ray_submission::{ids, metadata, status as ray};
use serde_json::Value;

use super::{Place, manifest, status::RayJob};
use crate::{
    bindings::cluster::Owner,
    cluster::create::annotations,
    kubernetes::{Created, Kubernetes, RAY_JOB, Selection, object},
    labels,
    manifest::Template,
    options::JobOptions,
};

/// What came of making a RayJob.
#[derive(Clone, Debug, PartialEq)]
pub enum Placed {
    /// It is there.
    Here,
    /// One of its name is there, and has ended, or is going.
    Ended(Box<RayJob>),
}

/// A run's or a step's RayJob, before it is made.
pub struct Plan {
    /// Its namespace.
    pub namespace: String,
    submission: Submission,
    options: JobOptions,
    origin: BTreeMap<String, String>,
    owner: Owner,
}

impl Plan {
    /// Plans the RayJob of a submission. `role` says what it is for.
    pub fn new(
        submission: Submission,
        options: JobOptions,
        owner: Owner,
        role: &str,
        namespace: &str,
    ) -> Result<Self, Error> {
        let template = Template::read(options.ray_job.clone(), RAY_JOB, "ray_job")?;
        if template.name().is_some() {
            return Err(Error::invalid(
                "ray_job.metadata.name",
                "is set, and each run or step needs a name of its own",
                Some("leave it out"),
            ));
        }
        let namespace = template.namespace().or(options.namespace.as_deref()).unwrap_or(namespace).to_owned();
        let known = [metadata::JOB, metadata::RUN_ID, metadata::CODE_LOCATION, metadata::STEP];
        let mut origin = BTreeMap::new();
        origin.extend(
            known
                .iter()
                .filter_map(|key| Some(((*key).to_owned(), labels::value(submission.metadata.get(*key)?)))),
        );
        origin.insert(labels::ROLE.to_owned(), role.to_owned());
        Ok(Self { namespace, submission, options, origin, owner })
    }

    /// The document, for the `n`-th launch under the submission's name.
    pub fn document(&self, name: &str, n: u32) -> Result<Value, Error> {
        let mut template = Template::read(self.options.ray_job.clone(), RAY_JOB, "ray_job")?;
        let mut submission = self.submission.clone();
        submission.submission_id = ids::again(&submission.submission_id, n);
        let launch = submission.metadata.get(metadata::LAUNCH).cloned().unwrap_or_default();
        manifest::complete(&mut template, submission, self.options.image.as_deref())?;
        let mut notes = annotations(&self.owner, None, true);
        notes.insert(metadata::LAUNCH.to_owned(), launch.into());
        Ok(template.document(RAY_JOB, &self.namespace, name, self.origin.clone(), notes))
    }

    /// The submission id of the `n`-th launch.
    #[must_use]
    pub fn submission_id(&self, n: u32) -> String {
        ids::again(&self.submission.submission_id, n)
    }
}

/// Makes a RayJob, or finds the one that is there.
pub fn place<H: Http, C: Clock>(
    kubernetes: &Kubernetes<H, C>,
    namespace: &str,
    document: &Value,
) -> Result<Placed, Error> {
    let there = match kubernetes.create(RAY_JOB, namespace, document)? {
        Created::Made(_) => return Ok(Placed::Here),
        Created::There(there) => RayJob::read(&there),
    };
    let ours = RayJob::read(document);
    let launch = |job: &RayJob| job.metadata.annotations.get(metadata::LAUNCH).cloned();
    if there.spec.job_id != ours.spec.job_id {
        return Err(Error::Conflict(format!(
            "the RayJob {namespace}/{} exists, and is not the job {}",
            ours.metadata.name, ours.spec.job_id
        )));
    }
    // An answer was lost, and the job has had time to end since.
    if launch(&there) == launch(&ours) {
        return Ok(Placed::Here);
    }
    if there.is_deleting() || ray::is_over(there.status().state) {
        return Ok(Placed::Ended(Box::new(there)));
    }
    warn!("the RayJob {namespace}/{} is there already and has not ended: it is used", ours.metadata.name);
    Ok(Placed::Here)
}

/// The RayJobs that a selector matches.
pub fn list<H: Http, C: Clock>(
    kubernetes: &Kubernetes<H, C>,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Result<Vec<RayJob>, Error> {
    let which = Selection::Labels(labels::selector(labels));
    let listed = kubernetes.list(RAY_JOB, namespace, &which, &RayJob::LEFT_OUT)?;
    Ok(object::elements(&listed, "/items").map(RayJob::read).collect())
}

/// What selects the RayJobs of a role, and of one run where that is given.
#[must_use]
pub fn selector(role: &str, run_id: Option<&str>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    all.insert(labels::ROLE.to_owned(), role.to_owned());
    all.extend(run_id.map(|run| (labels::RUN_ID.to_owned(), labels::value(run))));
    all
}

/// The latest launch of a job, among those listed, that is not before the reference's own.
#[must_use]
pub fn latest<'j>(listed: &'j [RayJob], submission_id: &str) -> Option<&'j RayJob> {
    let (first, launches) = ids::base(submission_id);
    listed
        .iter()
        .filter_map(|job| {
            let (base, n) = ids::base(&job.spec.job_id);
            (base == first && n >= launches).then_some((n, job))
        })
        .max_by_key(|(n, _)| *n)
        .map(|(_, job)| job)
}

/// The status that a reference asks for.
#[must_use]
pub fn status_of(job: Option<&RayJob>, reference: &JobRef) -> JobStatus {
    job.map_or_else(|| missing(reference), RayJob::status)
}

/// There is no such RayJob.
#[must_use]
pub fn missing(reference: &JobRef) -> JobStatus {
    let message = match Place::of(reference) {
        Some(Place::RayJob { namespace, name }) => format!("there is no RayJob {namespace}/{name}"),
        Some(Place::RayCluster { namespace, name, .. }) => {
            format!("the RayCluster {namespace}/{name} is gone, and its jobs with it")
        }
        None => format!("there is no job {}", reference.submission_id),
    };
    JobStatus { message: Some(message), ..ray::missing(&reference.submission_id) }
}
