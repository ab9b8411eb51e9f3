//! Metadata of a Ray job: its Dagster origin and the nonce of its launch.

use std::collections::BTreeMap;

/// The name of the Dagster job.
pub const JOB: &str = "dagster/job";
/// The id of the Dagster run.
pub const RUN_ID: &str = "dagster/run-id";
/// The code location.
pub const CODE_LOCATION: &str = "dagster/code-location";
/// The key of the step.
pub const STEP: &str = "dagster/op";
/// The id of the Dagster deployment that owns the job. Users cannot set it. `dagster/deployment`, which they
/// can set on clusters, is a name for people.
pub const DEPLOYMENT: &str = "dagster-ray/deployment";
/// The attempt of the step, or of the run without a step: 0 for the first.
pub const ATTEMPT: &str = "dagster-ray/attempt";
/// Marks a cluster that the user keeps after its run. Only its age ends it.
pub const KEEP: &str = "dagster-ray/keep";
/// The submission id of the worker whose process launched a script.
pub const WORKER: &str = "dagster-ray/worker";
/// The nonce of the launch. Every launch has its own, also a repeated launch of the same run or step.
pub const LAUNCH_NONCE: &str = "dagster-ray/launch";

/// The Dagster origin of a job.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The id of the Dagster deployment, or an empty text if there is none.
    pub deployment: &'a str,
    /// The id of the Dagster run.
    pub run_id: &'a str,
    /// The name of the Dagster job.
    pub job_name: &'a str,
    /// The code location, if any.
    pub code_location: Option<&'a str>,
    /// The key of the step, if the job executes a step.
    pub step_key: Option<&'a str>,
    /// The attempt of the step, or of the run without a step.
    pub attempt: u32,
}

/// Returns the user's metadata, overridden by the origin and the nonce. Other tools select jobs by them.
#[must_use]
pub fn with_origin(
    user: &BTreeMap<String, String>,
    origin: Origin<'_>,
    launch: &str,
) -> BTreeMap<String, String> {
    let ours = [
        (JOB, Some(origin.job_name)),
        (RUN_ID, Some(origin.run_id)),
        (CODE_LOCATION, origin.code_location),
        (STEP, origin.step_key),
        (LAUNCH_NONCE, Some(launch)),
    ];
    let mut all = user.clone();
    set_deployment(&mut all, origin.deployment);
    all.insert(ATTEMPT.to_owned(), origin.attempt.to_string());
    for (name, value) in ours {
        if let Some(value) = value {
            all.insert(name.to_owned(), value.to_owned());
        }
    }
    all
}

/// Returns the attempt in a job's metadata or an object's labels.
#[must_use]
pub fn attempt(metadata: &BTreeMap<String, String>) -> Option<u32> {
    metadata.get(ATTEMPT)?.parse().ok()
}

/// Returns whether a deployment owns the object whose value of [`DEPLOYMENT`] is `owner`.
///
/// An object without the key belongs to no deployment, and a caller without a deployment owns no object.
#[must_use]
pub fn is_owned(owner: Option<&str>, deployment: &str) -> bool {
    !deployment.is_empty() && owner == Some(deployment)
}

/// Sets the owning deployment in a job's metadata, or removes it if the caller belongs to none.
pub fn set_deployment(metadata: &mut BTreeMap<String, String>, deployment: &str) {
    if deployment.is_empty() {
        metadata.remove(DEPLOYMENT);
    } else {
        metadata.insert(DEPLOYMENT.to_owned(), deployment.to_owned());
    }
}
