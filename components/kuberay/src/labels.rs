//! Labels: the names that others select by, and values that Kubernetes accepts.

use std::collections::BTreeMap;

use dagster_ray_sdk::model::Attributes;

/// The Dagster run.
pub const RUN_ID: &str = "dagster/run-id";
/// The Dagster deployment.
pub const DEPLOYMENT: &str = "dagster/deployment";
/// The user whom a run tag names.
pub const USER: &str = "dagster/user";
/// The key of the resource that asked.
pub const RESOURCE_KEY: &str = "dagster/resource-key";
/// Marks a cluster that can be shared.
pub const SHARING: &str = "dagster/cluster-sharing";
/// What an object is for: [`ROLE_CLUSTER`] and the like. What has it was made by this component.
pub const ROLE: &str = "dagster-ray/role";
/// A cluster that a resource asked for.
pub const ROLE_CLUSTER: &str = "cluster";
/// The job of a run's worker.
pub const ROLE_RUN: &str = "run";
/// The job of a step's worker.
pub const ROLE_STEP: &str = "step";
/// The cluster that a run's steps share.
pub const ROLE_STEPS: &str = "steps-cluster";
/// The job of an external script.
pub const ROLE_SCRIPT: &str = "script";

/// The prefix that older clusters carry, and the names under it that differ by more.
const OLD_PREFIX: &str = "dagster.io/";
const OLD_RUN_ID: &str = "dagster.io/run_id";

const LONGEST_VALUE: usize = 63;

/// A value that Kubernetes accepts, as near to the original as can be: at most 63 letters, digits,
/// dashes, underscores and dots, with a letter or a digit at both ends (Kubernetes, "Labels and
/// Selectors").
#[must_use]
pub fn value(original: &str) -> String {
    let spoken = original.replace('@', "-at-").replace('+', "-plus-");
    let mut plain = String::with_capacity(spoken.len());
    for c in spoken.chars() {
        let c = if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        if !(c == '-' && plain.ends_with('-')) {
            plain.push(c);
        }
    }
    let begun = plain.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let cut = &begun[..begun.len().min(LONGEST_VALUE)];
    cut.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// A name in today's spelling.
#[must_use]
pub fn key(original: &str) -> String {
    match original.strip_prefix(OLD_PREFIX) {
        Some("run_id") => RUN_ID.to_owned(),
        Some(rest) => format!("dagster/{rest}"),
        None => original.to_owned(),
    }
}

/// Names and values that Kubernetes accepts.
#[must_use]
pub fn normalised(labels: &Attributes) -> BTreeMap<String, String> {
    labels.iter().map(|(name, text)| (key(name), value(text))).collect()
}

/// A selector that all these labels must match.
#[must_use]
pub fn selector(labels: &BTreeMap<String, String>) -> String {
    let parts: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    parts.join(",")
}

/// The run that an object's labels name, in either spelling.
#[must_use]
pub fn run_id<'a>(labels: &BTreeMap<&'a str, &'a str>) -> Option<&'a str> {
    labels.get(RUN_ID).or_else(|| labels.get(OLD_RUN_ID)).copied().filter(|id| !id.is_empty())
}

/// Whether an object comes from Dagster at all.
#[must_use]
pub fn is_dagsters(labels: &BTreeMap<&str, &str>) -> bool {
    labels.keys().any(|name| {
        name.starts_with("dagster/") || name.starts_with(OLD_PREFIX) || name.starts_with("dagster-ray/")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_what_kubernetes_accepts() {
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
}
