//! The grant `objects`: value stores: `ray` for Ray's object store, `directory` for the directory that the
//! configuration names.
//!
//! ```toml
//! [grants]
//! objects = ["ray"]
//! ```

use super::{Capability, Entry, Grants, no_problem, restrict_list};

/// The grant `objects`: names of stores.
pub type Grant = Vec<String>;

/// Values in stores of the configuration.
pub static CAPABILITY: Capability = Capability {
    name: "objects",
    example: "objects = [\"<store>\"]",
    interfaces: &["dagster-ray:host/objects"],
    entries: |grants| Entry::list("objects", &grants.objects).into_iter().collect(),
    is_granted: |grants| !grants.objects.is_empty(),
    problem: no_problem,
    restrict,
};

/// Returns the line of a manifest that would allow a store.
pub fn missing_grant(store: &str) -> String {
    format!("objects = [{store:?}]")
}

fn restrict(grants: &mut Grants, by: &Grants) -> Vec<String> {
    restrict_list("objects", &mut grants.objects, &by.objects, |store| format!("{store:?}"))
}
