//! The grant `kubernetes`: rules for requests to the Kubernetes API at `http://kubernetes.internal`.
//! [`Rule`] describes its TOML.

use serde_json::json;

use super::{Capability, Entry, Grants};
use crate::kubernetes::Rule;

pub use crate::kubernetes::grant::suggested_grant as missing_grant;

/// The grant `kubernetes`.
pub type Grant = Vec<Rule>;

/// Requests to the Kubernetes API. Components send them over HTTP.
pub static CAPABILITY: Capability = Capability {
    name: "kubernetes",
    example: "kubernetes = [{ group = \"<group>\", resources = [\"<resource>\"], verbs = [\"<verb>\"] }]",
    interfaces: &["wasi:http/types", "wasi:http/outgoing-handler"],
    entries: |grants| grants.kubernetes.iter().map(entry).collect(),
    is_granted: |grants| !grants.kubernetes.is_empty(),
    problem,
    restrict,
};

/// Returns the entry of one rule, with its fields in the order of a manifest.
fn entry(rule: &Rule) -> Entry {
    Entry::with_toml("kubernetes", json!(rule), rule.to_string())
}

fn problem(grants: &Grants) -> Option<String> {
    let rule = grants.kubernetes.iter().find(|rule| rule.is_empty())?;
    Some(format!(
        "grants.kubernetes: {rule} allows nothing: name at least one resource and one verb, and one namespace unless `namespaces` is left out"
    ))
}

fn restrict(grants: &mut Grants, by: &Grants) -> Vec<String> {
    let own = std::mem::take(&mut grants.kubernetes);
    let is_ineffective = |rule: &&Rule| !own.iter().any(|own| own.intersection(rule).is_some());
    let ineffective = by.kubernetes.iter().filter(is_ineffective);
    let ineffective = ineffective.map(|rule| format!("grants.kubernetes: {rule}")).collect();
    let both = |own: &Rule| -> Vec<Rule> {
        by.kubernetes.iter().filter_map(|rule| own.intersection(rule)).collect()
    };
    grants.kubernetes = own.iter().flat_map(both).collect();
    ineffective
}
