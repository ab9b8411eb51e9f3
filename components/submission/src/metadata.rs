//! What is attached to a job, to find it again and to know where it comes from.

use std::collections::BTreeMap;

/// The name of the Dagster job.
pub const JOB: &str = "dagster/job";
/// The id of the Dagster run.
pub const RUN_ID: &str = "dagster/run-id";
/// The code location.
pub const CODE_LOCATION: &str = "dagster/code-location";
/// The key of the step.
pub const STEP: &str = "dagster/op";
/// What tells one launch from every other, also of the same thing.
pub const LAUNCH: &str = "dagster-ray/launch";

/// Where a job comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The id of the Dagster run.
    pub run_id: &'a str,
    /// The name of the Dagster job.
    pub job_name: &'a str,
    /// The code location, where there is one.
    pub code_location: Option<&'a str>,
    /// The key of the step, where the job is a step's.
    pub step_key: Option<&'a str>,
}

/// The user's metadata, with ours on top: other tools select by these names.
#[must_use]
pub fn attach(user: &BTreeMap<String, String>, origin: Origin<'_>, launch: &str) -> BTreeMap<String, String> {
    let ours = [
        (JOB, Some(origin.job_name)),
        (RUN_ID, Some(origin.run_id)),
        (CODE_LOCATION, origin.code_location),
        (STEP, origin.step_key),
        (LAUNCH, Some(launch)),
    ];
    let mut all = user.clone();
    for (name, value) in ours {
        if let Some(value) = value {
            all.insert(name.to_owned(), value.to_owned());
        }
    }
    all
}
