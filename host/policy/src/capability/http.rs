//! The grants `http` and `networks`: authorities that the component may contact over HTTP.
//!
//! ```toml
//! [grants]
//! http = ["address", "https://ghcr.io:443"]
//! networks = ["private"]
//! ```

use http::Uri;

use super::{Capability, Entry, Grants, restrict_list};
use crate::address::Network;
use crate::authority::Authority;

/// The grant `http`: authorities or [`ADDRESS`].
pub type Grant = Vec<String>;
/// The grant `networks`: networks whose addresses host names may resolve to.
pub type NetworksGrant = Vec<Network>;

/// The entry of `http` that grants the authorities of the configuration.
pub const ADDRESS: &str = "address";

/// HTTP requests.
pub static CAPABILITY: Capability = Capability {
    name: "http",
    example: "http = [\"address\"]",
    interfaces: &["wasi:http/types", "wasi:http/outgoing-handler"],
    entries,
    is_granted: |grants| !grants.http.is_empty(),
    problem,
    restrict,
};

/// Returns the line of a manifest that would allow a request.
pub fn missing_grant(uri: &Uri) -> String {
    match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(authority)) => format!("http = [\"{scheme}://{authority}\"]"),
        _ => CAPABILITY.example.to_owned(),
    }
}

/// Returns the line of a manifest that would allow host names to resolve to addresses of a network.
pub fn missing_network(network: Network) -> String {
    format!("networks = [\"{network}\"]")
}

fn entries(grants: &Grants) -> Vec<Entry> {
    let mut entries = Vec::from_iter(Entry::list("http", &grants.http));
    entries.extend(Entry::list("networks", &grants.networks));
    entries
}

fn problem(grants: &Grants) -> Option<String> {
    let is_valid = |entry: &str| entry == ADDRESS || Authority::from_manifest_entry(entry).is_some();
    let entry = grants.http.iter().find(|entry| !is_valid(entry))?;
    let services = super::cluster_services::CAPABILITY.example;
    Some(format!(
        "grants.http: {entry:?} is not an authority: write \"address\" or \"https://host:port\", without a path and without wildcards. For Services of a Kubernetes cluster, write {services}"
    ))
}

fn restrict(grants: &mut Grants, by: &Grants) -> Vec<String> {
    let mut ineffective =
        restrict_list("http", &mut grants.http, &by.http, |authority| format!("{authority:?}"));
    ineffective.extend(restrict_list("networks", &mut grants.networks, &by.networks, |network| {
        format!("\"{network}\"")
    }));
    ineffective
}
