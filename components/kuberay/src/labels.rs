//! Labels of RayClusters and RayJobs.

use std::collections::BTreeMap;

use dagster_ray_sdk::{Error, model::Attributes};
use serde_json::Value;

use crate::kubernetes::object;

/// The id of the Dagster run.
pub const RUN_ID: &str = "dagster/run-id";
/// The name of the Dagster deployment, which users can set.
pub const DEPLOYMENT: &str = "dagster/deployment";
/// The id of the Dagster deployment that owns the object, which users cannot set.
pub const DEPLOYMENT_ID: &str = dagster_ray_submission::metadata::DEPLOYMENT;
/// The key of the Dagster step.
pub const STEP: &str = dagster_ray_submission::metadata::STEP;
/// The attempt of the step, or of the run without a step.
pub const ATTEMPT: &str = dagster_ray_submission::metadata::ATTEMPT;
/// Marks a cluster that the user keeps after its run. Only its age ends it.
pub const KEEP: &str = dagster_ray_submission::metadata::KEEP;
/// The user named by a run tag.
pub const USER: &str = "dagster/user";
/// The key of the Dagster resource that requested the cluster.
pub const RESOURCE_KEY: &str = "dagster/resource-key";
/// Marks a cluster that can be shared.
pub const SHARING: &str = "dagster/cluster-sharing";
/// The id of the pool of a cluster, and of the RayJobs of runs on the pool's clusters.
pub const POOL: &str = "dagster-ray/pool";
/// The id of the Dagster run that has leased a cluster of a pool.
pub const POOL_RUN: &str = "dagster-ray/pool-run";
/// The purpose of an object, such as [`ROLE_CLUSTER`]. Every object created by this component has it.
pub const ROLE: &str = "dagster-ray/role";
/// A cluster requested by a Dagster resource.
pub const ROLE_CLUSTER: &str = "cluster";
/// The RayJob of a run worker.
pub const ROLE_RUN: &str = "run";
/// The RayJob of a step worker.
pub const ROLE_STEP: &str = "step";
/// The cluster that a run's steps share.
pub const ROLE_STEPS: &str = "steps-cluster";
/// A cluster of a pool, which runs lease.
pub const ROLE_POOL: &str = "pool-cluster";
/// A RayService.
pub const ROLE_SERVICE: &str = "service";
/// The RayJob of an external script.
pub const ROLE_SCRIPT: &str = "script";

/// The queue of an object that Kueue admits (Kueue, "Run A RayJob").
pub const KUEUE_QUEUE: &str = "kueue.x-k8s.io/queue-name";

/// The label prefix of clusters created by earlier versions. Only `run_id` differs in more than the prefix.
const OLD_PREFIX: &str = "dagster.io/";
const OLD_RUN_ID: &str = "dagster.io/run_id";

const MAX_VALUE_CHARS: usize = 63;

/// Converts a text to a valid label value.
///
/// A valid value has at most 63 letters, digits, dashes, underscores and dots, with a letter or a digit at
/// both ends (Kubernetes, "Labels and Selectors").
#[must_use]
pub fn value(original: &str) -> String {
    let spelled = original.replace('@', "-at-").replace('+', "-plus-");
    let mut plain = String::with_capacity(spelled.len());
    for c in spelled.chars() {
        let c = if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        if !(c == '-' && plain.ends_with('-')) {
            plain.push(c);
        }
    }
    let trimmed = plain.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let cut = &trimmed[..trimmed.len().min(MAX_VALUE_CHARS)];
    cut.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// Converts a label key with the earlier prefix `dagster.io/` to its current spelling.
#[must_use]
pub fn key(original: &str) -> String {
    match original.strip_prefix(OLD_PREFIX) {
        Some("run_id") => RUN_ID.to_owned(),
        Some(rest) => format!("dagster/{rest}"),
        None => original.to_owned(),
    }
}

/// Converts labels to current keys and valid values.
#[must_use]
pub fn normalized(labels: &Attributes) -> BTreeMap<String, String> {
    labels.iter().map(|(name, text)| (key(name), value(text))).collect()
}

/// Sets the owning deployment, or removes it if the owner belongs to none.
pub fn set_deployment(labels: &mut BTreeMap<String, String>, deployment: &str) {
    dagster_ray_submission::metadata::set_deployment(labels, &value(deployment));
}

/// Returns whether a deployment owns an object. An object without [`DEPLOYMENT_ID`] belongs to none.
#[must_use]
pub fn is_owned(labels: &BTreeMap<&str, &str>, deployment: &str) -> bool {
    dagster_ray_submission::metadata::is_owned(labels.get(DEPLOYMENT_ID).copied(), &value(deployment))
}

/// Checks that a deployment owns an object. `label` names the object.
///
/// # Errors
/// [`Error::Conflict`] if another deployment owns the object, or none.
pub fn require_owned(document: &Value, deployment: &str, label: &str) -> Result<(), Error> {
    let found = object::labels(document);
    if is_owned(&found, deployment) {
        return Ok(());
    }
    Err(Error::Conflict(format!(
        "{label} exists and is not of this Dagster deployment: its label {DEPLOYMENT_ID} is {:?}. Choose another \
         name, or delete it",
        found.get(DEPLOYMENT_ID).copied().unwrap_or_default()
    )))
}

/// Returns the labels that a cluster must have to be joined by an owner of this deployment.
#[must_use]
pub fn shared(match_labels: &BTreeMap<String, String>, deployment: &str) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> =
        match_labels.iter().map(|(name, text)| (key(name), value(text))).collect();
    all.insert(SHARING.to_owned(), "true".to_owned());
    set_deployment(&mut all, deployment);
    all
}

/// Returns a label selector that requires all these labels.
#[must_use]
pub fn selector(labels: &BTreeMap<String, String>) -> String {
    let parts: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    parts.join(",")
}

/// Converts the keys in a label selector to their current spelling. Values contain no slash and do not change.
#[must_use]
pub fn current_selector(original: &str) -> String {
    fn is_separator(c: char) -> bool {
        !(c.is_ascii_alphanumeric() || "-_./".contains(c))
    }

    original
        .split_inclusive(is_separator)
        .map(|piece| {
            let (word, separator) = piece.split_at(piece.trim_end_matches(is_separator).len());
            key(word) + separator
        })
        .collect()
}

/// Returns the run id in an object's labels, in the current or the earlier spelling.
#[must_use]
pub fn run_id<'a>(labels: &BTreeMap<&'a str, &'a str>) -> Option<&'a str> {
    labels.get(RUN_ID).or_else(|| labels.get(OLD_RUN_ID)).copied().filter(|id| !id.is_empty())
}

/// Returns the queue of Kueue that an object belongs to.
#[must_use]
pub fn queue(document: &Value) -> Option<&str> {
    object::labels(document).get(KUEUE_QUEUE).copied()
}

/// Returns whether an object has a label of Dagster.
#[must_use]
pub fn is_from_dagster(labels: &BTreeMap<&str, &str>) -> bool {
    labels.keys().any(|name| {
        name.starts_with("dagster/") || name.starts_with(OLD_PREFIX) || name.starts_with("dagster-ray/")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_keys_are_converted_to_valid_labels() {
        for (original, expected) in [
            ("", ""),
            ("me@example.org", "me-at-example.org"),
            ("my team/etl@prod", "my-team-etl-at-prod"),
            ("a+b", "a-plus-b"),
            ("--_x", "x"),
            ("ü", ""),
            ("x//y", "x-y"),
        ] {
            assert_eq!(value(original), expected, "{original}");
        }
        let long = format!("{}-.{}", "a".repeat(62), "b".repeat(10));
        assert_eq!(value(&long), "a".repeat(62));
        assert_eq!(key("dagster.io/run_id"), RUN_ID);
        assert_eq!(key("dagster.io/git-sha"), "dagster/git-sha");
    }

    #[test]
    fn only_the_keys_of_a_selector_are_converted() {
        for (original, expected) in [
            ("", ""),
            (
                "dagster.io/run_id=r, my.dagster.io/a==dagster.io",
                "dagster/run-id=r, my.dagster.io/a==dagster.io",
            ),
            (
                "!dagster.io/user,dagster.io/deployment in (a, ü)",
                "!dagster/user,dagster/deployment in (a, ü)",
            ),
        ] {
            assert_eq!(current_selector(original), expected, "{original}");
        }
    }
}
