//! The grant `packages`: reading the directories and files that the configuration names, to upload them.
//!
//! ```toml
//! [grants]
//! packages = true
//! ```

use serde_json::Value;

use super::{Capability, Entry, Grants, no_problem};

/// The grant `packages`.
pub type Grant = bool;

/// Read-only access to directories and files of the configuration.
pub static CAPABILITY: Capability = Capability {
    name: "packages",
    example: "packages = true",
    interfaces: &["dagster-ray:host/packages"],
    entries: |grants| {
        grants.packages.then(|| Entry::new("packages", Value::Bool(true))).into_iter().collect()
    },
    is_granted: |grants| grants.packages,
    problem: no_problem,
    restrict,
};

fn restrict(grants: &mut Grants, by: &Grants) -> Vec<String> {
    let is_ineffective = by.packages && !grants.packages;
    grants.packages &= by.packages;
    is_ineffective.then(|| "grants.packages: true".to_owned()).into_iter().collect()
}
