//! The grant `keyvalue`: buckets of `wasi:keyvalue`. The configuration names their directories.
//!
//! ```toml
//! [grants]
//! keyvalue = ["state"]
//! ```

use super::{Capability, Entry, Grants, no_problem, restrict_list};

/// The grant `keyvalue`: names of buckets.
pub type Grant = Vec<String>;

/// Keys and values in buckets of the configuration.
pub static CAPABILITY: Capability = Capability {
    name: "keyvalue",
    example: "keyvalue = [\"<bucket>\"]",
    interfaces: &["wasi:keyvalue/store", "wasi:keyvalue/atomics"],
    entries: |grants| Entry::list("keyvalue", &grants.keyvalue).into_iter().collect(),
    is_granted: |grants| !grants.keyvalue.is_empty(),
    problem: no_problem,
    restrict,
};

/// Returns the line of a manifest that would allow a bucket.
pub fn missing_grant(bucket: &str) -> String {
    format!("keyvalue = [{bucket:?}]")
}

fn restrict(grants: &mut Grants, by: &Grants) -> Vec<String> {
    restrict_list("keyvalue", &mut grants.keyvalue, &by.keyvalue, |bucket| format!("{bucket:?}"))
}
