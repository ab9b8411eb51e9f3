//! Names of RayClusters and RayJobs, derived from their purpose so that a creation can be repeated.
//!
//! KubeRay rejects names longer than its `MaxRayClusterNameLength` (53) and `MaxRayJobNameLength` (47), and
//! names that are not DNS labels (RFC 1035).

use std::collections::BTreeMap;

use dagster_ray_sdk::{Error, bindings::cluster::Owner};
use dagster_ray_submission::ids::{RUN_PREFIX, digest};

/// The maximum length of a RayCluster's name.
pub const MAX_CLUSTER_NAME: usize = 53;
/// The maximum length of a RayJob's name.
pub const MAX_JOB_NAME: usize = 47;

/// Returns the name of an owner's dedicated RayCluster or interactive RayJob.
#[must_use]
pub fn dedicated_cluster(owner: &Owner, deployment: Option<&str>, user: Option<&str>) -> String {
    let parts = [
        slug(deployment.unwrap_or("dev"), 8),
        slug(&owner.run_id, 8),
        slug(user.and_then(|user| user.split('@').next()).unwrap_or_default(), 6),
    ];
    let whole = format!("{:?}", (&owner.run_id, &owner.step_key, &owner.resource_key, &owner.holder));
    let shown: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    format!("dg-{}-{}", shown.join("-"), digest(&whole))
}

/// Returns the name of the cluster shared by all owners with these labels.
#[must_use]
pub fn shared_cluster(match_labels: &BTreeMap<String, String>) -> String {
    format!("dg-shared-{}", digest(&format!("{match_labels:?}")))
}

/// Returns the name of the cluster that a run's steps share.
#[must_use]
pub fn steps_cluster(run_id: &str) -> String {
    fit("dg-steps-", run_id, MAX_JOB_NAME)
}

/// Returns the name of a run worker's RayJob.
#[must_use]
pub fn run_job(submission_id: &str) -> String {
    fit("dg-run-", submission_id.trim_start_matches(RUN_PREFIX), MAX_JOB_NAME)
}

/// Returns the name of a step worker's RayJob. The submission id makes it unique.
#[must_use]
pub fn step_job(run_id: &str, step_key: &str, submission_id: &str) -> String {
    let parts = ["dg-step".to_owned(), slug(run_id, 8), slug(step_key, 12), digest(submission_id)];
    let shown: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    shown.join("-")
}

/// Checks a name that the user chose. `path` is the option or field that holds it.
pub fn check(name: &str, max_length: usize, path: &str) -> Result<(), Error> {
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    let ends = name.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let problem = if name.len() > max_length {
        format!("`{name}` has {} characters, and KubeRay accepts at most {max_length}", name.len())
    } else if !(begins && ends && plain) {
        format!("`{name}` is not a DNS label")
    } else {
        return Ok(());
    };
    let hint = format!(
        "write at most {max_length} lowercase letters, digits and dashes, with a letter first and no dash last"
    );
    Err(Error::invalid(path, &problem, Some(&hint)))
}

/// Joins the prefix and the text if the result is a valid name. Otherwise cuts the text and appends its
/// digest.
fn fit(prefix: &str, text: &str, max_length: usize) -> String {
    let plain = slug(text, usize::MAX);
    if plain == text && prefix.len() + plain.len() <= max_length {
        return format!("{prefix}{plain}");
    }
    let digest = digest(text);
    let room = max_length - prefix.len() - digest.len() - 1;
    let shown = slug(text, room);
    let separator = if shown.is_empty() { "" } else { "-" };
    format!("{prefix}{shown}{separator}{digest}")
}

fn slug(text: &str, max_length: usize) -> String {
    let mut plain = String::new();
    for c in text.chars() {
        let c = if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        if plain.len() < max_length && !(c == '-' && (plain.is_empty() || plain.ends_with('-'))) {
            plain.push(c);
        }
    }
    plain.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "0b1c4f1e-6c0d-4b86-9a53-6d2f1c1f2a10";

    fn owner(holder: &str) -> Owner {
        Owner {
            deployment: String::new(),
            run_id: RUN.to_owned(),
            step_key: Some("load[ü]".to_owned()),
            resource_key: None,
            holder: holder.to_owned(),
        }
    }

    #[test]
    fn kuberay_accepts_every_generated_name() {
        let names = [
            dedicated_cluster(&owner("h"), Some("my-Deployment_1"), Some("J.Doe@example.org")),
            dedicated_cluster(&Owner { run_id: "é".to_owned(), ..owner("h") }, Some("!"), None),
            steps_cluster(RUN),
            steps_cluster(&"X_".repeat(80)),
            run_job(&format!("dagster-run-{RUN}")),
            run_job(&format!("dagster-run-{RUN}-4294967295")),
            step_job(RUN, "load[2026-01-01]_and_more", "dagster-step-x-again3"),
            step_job("", "", "x"),
        ];
        for name in &names {
            check(name, MAX_JOB_NAME, "name").unwrap_or_else(|error| panic!("{name}: {}", error.message()));
        }
        assert_eq!(names[4], format!("dg-run-{RUN}"));
        assert!(names[0].starts_with("dg-my-deplo-0b1c4f1e-j-doe-"), "{}", names[0]);
    }

    #[test]
    fn the_name_of_a_dedicated_cluster_depends_on_its_holder() {
        let name = |holder: &str| dedicated_cluster(&owner(holder), None, None);
        assert_eq!(name("a"), name("a"));
        assert_ne!(name("a"), name("b"));
    }

    #[test]
    fn a_name_that_kuberay_rejects_is_reported() {
        let error =
            |name: &str| check(name, MAX_CLUSTER_NAME, "ray_cluster.metadata.name").unwrap_err().message();
        assert!(error(&"a".repeat(54)).contains("54 characters"));
        for name in ["1a", "a-", "A", "a_b", ""] {
            assert!(error(name).contains("DNS label"), "{name}");
        }
    }
}
