//! What objects are called: names that follow from what they are made for, so that making them can
//! be repeated.
//!
//! KubeRay refuses names that are longer than it can append to (its `MaxRayClusterNameLength` of 53
//! and `MaxRayJobNameLength` of 47), or that are no DNS labels as of RFC 1035.

use std::collections::BTreeMap;

use dagster_ray_sdk::Error;
use sha2::{Digest, Sha256};

use crate::bindings::cluster::Owner;

/// The longest name of a RayCluster.
pub const LONGEST_CLUSTER: usize = 53;
/// The longest name of a RayJob.
pub const LONGEST_JOB: usize = 47;
const DIGEST_BYTES: usize = 8;

/// So many hexadecimal digits that no two texts share them.
#[must_use]
pub fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// The cluster, or the interactive job, of an owner. It fits both kinds.
#[must_use]
pub fn owned(owner: &Owner, deployment: Option<&str>, user: Option<&str>) -> String {
    let parts = [
        slug(deployment.unwrap_or("dev"), 8),
        slug(&owner.run_id, 8),
        slug(user.and_then(|user| user.split('@').next()).unwrap_or_default(), 6),
    ];
    let whole = format!("{:?}", (&owner.run_id, &owner.step_key, &owner.resource_key, &owner.holder));
    let told: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    format!("dg-{}-{}", told.join("-"), digest(&whole))
}

/// The cluster that everyone shares who matches these labels.
#[must_use]
pub fn shared(match_labels: &BTreeMap<String, String>) -> String {
    format!("dg-shared-{}", digest(&format!("{match_labels:?}")))
}

/// The cluster that a run's steps share.
#[must_use]
pub fn steps_cluster(run_id: &str) -> String {
    fitted("dg-steps-", run_id, LONGEST_JOB)
}

/// The RayJob of a run's worker, by its submission id.
#[must_use]
pub fn run_job(submission_id: &str) -> String {
    fitted("dg-run-", submission_id.trim_start_matches("dagster-run-"), LONGEST_JOB)
}

/// The RayJob of a step's worker, by its submission id, which no other step has.
#[must_use]
pub fn step_job(run_id: &str, step_key: &str, submission_id: &str) -> String {
    let parts = ["dg-step".to_owned(), slug(run_id, 8), slug(step_key, 12), digest(submission_id)];
    let told: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    told.join("-")
}

/// Checks a name that the user chose.
pub fn check(name: &str, longest: usize, path: &str) -> Result<(), Error> {
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    let ends = name.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let problem = if name.len() > longest {
        format!("`{name}` has {} characters, and KubeRay accepts {longest}", name.len())
    } else if !(begins && ends && plain) {
        format!("`{name}` is not a DNS label")
    } else {
        return Ok(());
    };
    let hint = format!(
        "write at most {longest} lower-case letters, digits and dashes, with a letter first and no dash last"
    );
    Err(Error::invalid(path, &problem, Some(&hint)))
}

/// The text itself, where a name can hold it, and otherwise as much of it as fits before a digest.
fn fitted(prefix: &str, text: &str, longest: usize) -> String {
    let plain = slug(text, usize::MAX);
    if plain == text && prefix.len() + plain.len() <= longest {
        return format!("{prefix}{plain}");
    }
    let room = longest - prefix.len() - 2 * DIGEST_BYTES - 1;
    let told = slug(text, room);
    let joint = if told.is_empty() { "" } else { "-" };
    format!("{prefix}{told}{joint}{}", digest(text))
}

fn slug(text: &str, longest: usize) -> String {
    let mut plain = String::new();
    for c in text.chars() {
        let c = if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        if plain.len() < longest && !(c == '-' && (plain.is_empty() || plain.ends_with('-'))) {
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
            run_id: RUN.to_owned(),
            step_key: Some("load[ü]".to_owned()),
            resource_key: None,
            holder: holder.to_owned(),
        }
    }

    #[test]
    fn every_name_is_one_that_kuberay_accepts() {
        let names = [
            owned(&owner("h"), Some("my-Deployment_1"), Some("J.Doe@example.org")),
            owned(&Owner { run_id: "é".to_owned(), ..owner("h") }, Some("!"), None),
            steps_cluster(RUN),
            steps_cluster(&"X_".repeat(80)),
            run_job(&format!("dagster-run-{RUN}")),
            run_job(&format!("dagster-run-{RUN}-4294967295")),
            step_job(RUN, "load[2026-01-01]_and_more", "dagster-step-x-again3"),
            step_job("", "", "x"),
        ];
        for name in &names {
            check(name, LONGEST_JOB, "name").unwrap_or_else(|error| panic!("{name}: {}", error.text()));
        }
        assert_eq!(names[4], format!("dg-run-{RUN}"));
        assert!(names[0].starts_with("dg-my-deplo-0b1c4f1e-j-doe-"), "{}", names[0]);
    }

    #[test]
    fn another_holder_has_another_cluster_and_the_same_one_the_same() {
        let of = |holder: &str| owned(&owner(holder), None, None);
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
    }

    #[test]
    fn a_name_that_kuberay_would_refuse_is_told_before() {
        let of = |name: &str| check(name, LONGEST_CLUSTER, "ray_cluster.metadata.name").unwrap_err().text();
        assert!(of(&"a".repeat(54)).contains("54 characters"));
        for name in ["1a", "a-", "A", "a_b", ""] {
            assert!(of(name).contains("DNS label"), "{name}");
        }
    }
}
