//! The grant `uptime`: how long the machine has been running.
//!
//! ```toml
//! [grants]
//! uptime = true
//! ```

use serde_json::Value;

use super::{Capability, Entry, Grants, no_problem};

/// The grant `uptime`.
pub type Grant = bool;

/// The time since the machine started.
pub static CAPABILITY: Capability = Capability {
    name: "uptime",
    example: "uptime = true",
    interfaces: &["dagster-ray:host/uptime"],
    entries: |grants| grants.uptime.then(|| Entry::new("uptime", Value::Bool(true))).into_iter().collect(),
    is_granted: |grants| grants.uptime,
    problem: no_problem,
    restrict,
};

fn restrict(grants: &mut Grants, by: &Grants) -> Vec<String> {
    let is_ineffective = by.uptime && !grants.uptime;
    grants.uptime &= by.uptime;
    is_ineffective.then(|| "grants.uptime: true".to_owned()).into_iter().collect()
}
