//! The capabilities that a manifest can grant, one file each.
//!
//! `grants!` below is the only list of them. The grants that imports require, warnings about unused
//! grants, the operator's restriction, what `inspect` prints, the manifest's JSON schema and what the
//! host links follow from it.

pub mod cluster_services;
mod entry;
pub mod http;
pub mod keyvalue;
pub mod kubernetes;
pub mod objects;
pub mod packages;
pub mod processes;
pub mod tasks;

use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

pub(crate) use self::entry::Entry;
use crate::schema::{self, Schema};

/// Lists the capabilities, each with its keys of `[grants]` and their types.
macro_rules! grants {
    ($($capability:ident: { $($(#[doc = $doc:literal])+ $key:ident: $grant:ty,)+ })+) => {
        /// The permissions of a component.
        #[derive(Debug, Clone, Default, Deserialize, PartialEq)]
        #[serde(deny_unknown_fields, default)]
        pub struct Grants {
            $($($(#[doc = $doc])+ pub $key: $grant,)+)+
        }

        /// Every capability that requires a grant.
        pub static ALL: &[&Capability] = &[$(&$capability::CAPABILITY,)+];

        impl Schema for Grants {
            fn schema() -> Value {
                let mut keys = Map::new();
                $($(
                    let key = schema::described(<$grant as Schema>::schema(), concat!($($doc),+));
                    keys.insert(stringify!($key).to_owned(), key);
                )+)+
                schema::table(keys)
            }
        }
    };
}

grants! {
    http: {
        /// Authorities that the component may contact over HTTP: `address` for those that the configuration
        /// names, or `scheme://host:port`.
        http: http::Grant,
        /// Networks whose addresses the host names in `http` may resolve to, in addition to public
        /// addresses: `private`, `loopback`, `link-local`. The operator chooses the target of `address`, so
        /// private networks and loopback need no grant for it.
        networks: http::NetworksGrant,
    }
    cluster_services: {
        /// Ports of Services in the Kubernetes cluster, by namespace. The component contacts them as
        /// `http://<service>.<namespace>.svc:<port>`, and the host forwards local ports to them.
        cluster_services: cluster_services::Grant,
    }
    kubernetes: {
        /// Rules for requests to the Kubernetes API at `http://kubernetes.internal`.
        kubernetes: kubernetes::Grant,
    }
    packages: {
        /// Whether the component may read the directories that the configuration names, to upload them.
        packages: packages::Grant,
    }
    objects: {
        /// Value stores that the component may use: `ray` for Ray's object store, `directory` for the
        /// directory that the configuration names.
        objects: objects::Grant,
    }
    keyvalue: {
        /// Buckets of `wasi:keyvalue` that the component may use. The configuration names their directories.
        keyvalue: keyvalue::Grant,
    }
    processes: {
        /// Programs that the component may run: the lists with which the arguments must begin, or a table
        /// with `prefix`, `exact` and `env`, the environment variables that the component may set.
        processes: processes::Grant,
    }
    tasks: {
        /// Whether the component may submit Ray tasks in the run's own Ray job.
        tasks: tasks::Grant,
    }
}

/// A capability: the WIT interfaces that need it, and its grant.
pub struct Capability {
    /// The capability's name, which is also the key of its grant under `[grants]`.
    pub name: &'static str,
    /// An example line for `[grants]`, with placeholders.
    pub example: &'static str,
    /// The interfaces that require the grant, without versions.
    interfaces: &'static [&'static str],
    /// Returns the manifest's entries for this capability.
    pub(crate) entries: fn(&Grants) -> Vec<Entry>,
    /// Returns whether the grants suffice to link the interfaces.
    is_granted: fn(&Grants) -> bool,
    /// Returns the first invalid entry of the grant, or none.
    pub(crate) problem: fn(&Grants) -> Option<String>,
    /// Keeps what both grants allow. Returns the operator's entries without effect.
    pub(crate) restrict: fn(&mut Grants, &Grants) -> Vec<String>,
}

impl Grants {
    /// Returns the first invalid grant, or none.
    pub(crate) fn problem(&self) -> Option<String> {
        ALL.iter().find_map(|capability| (capability.problem)(self))
    }

    /// Keeps what both grants allow. Returns the entries of `by` without effect.
    pub(crate) fn restrict(&mut self, by: &Self) -> Vec<String> {
        ALL.iter().flat_map(|capability| (capability.restrict)(self, by)).collect()
    }
}

impl Capability {
    /// Returns whether an import, with or without its version, requires this capability.
    pub(crate) fn provides(&self, import: &str) -> bool {
        self.interfaces.contains(&interface(import))
    }

    /// Returns the imports that use this capability.
    pub(crate) fn imports_using(&self, imports: &[String]) -> Vec<String> {
        imports.iter().filter(|import| self.provides(import)).cloned().collect()
    }

    /// Returns whether the grants link the interfaces of this capability. Capabilities with a common
    /// interface link it together: the grant `kubernetes` also links `wasi:http`.
    pub fn is_linked(&self, grants: &Grants) -> bool {
        ALL.iter().filter(|other| other.shares_interface(self)).any(|other| (other.is_granted)(grants))
    }

    /// Returns whether an interface requires either of two capabilities.
    pub fn shares_interface(&self, other: &Self) -> bool {
        self.interfaces.iter().any(|interface| other.interfaces.contains(interface))
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Capability").field(&self.name).finish()
    }
}

/// Returns an import without its version.
pub(crate) fn interface(import: &str) -> &str {
    import.split_once('@').map_or(import, |(interface, _)| interface)
}

/// Accepts every grant, for capabilities whose entries cannot be invalid.
fn no_problem(_: &Grants) -> Option<String> {
    None
}

/// Keeps the entries that both lists have. Returns the entries of `by` without effect.
fn restrict_list<T: PartialEq>(
    key: &str,
    own: &mut Vec<T>,
    by: &[T],
    toml: impl Fn(&T) -> String,
) -> Vec<String> {
    let ineffective = by.iter().filter(|entry| !own.contains(entry));
    let ineffective = ineffective.map(|entry| format!("grants.{key}: {}", toml(entry))).collect();
    own.retain(|entry| by.contains(entry));
    ineffective
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_lines_parse_back_to_the_same_entry() {
        let text = r#"
            http = ["https://a\"b:443"]
            kubernetes = [{ group = "", resources = ["pods/log"], verbs = ["get"], namespaces = ["ray"] }]
            processes = { "my program" = [["a", "b c"], []], ray = { exact = [["x"]], env = ["A"] } }
            networks = ["link-local"]
            tasks = true
            cluster_services = [{ namespaces = ["ray"], ports = [8265] }, { ports = [1] }]
        "#;
        let grants: Grants = toml::from_str(text).unwrap();
        for capability in ALL {
            for entry in (capability.entries)(&grants) {
                let line = match entry.key {
                    // A rule's line is one element of the list.
                    "kubernetes" => format!("kubernetes = [{}]", entry.toml()),
                    _ => entry.line(),
                };
                let read: Grants = toml::from_str(&line).unwrap();
                assert_eq!((capability.entries)(&read), [entry], "{line}");
            }
        }
    }

    #[test]
    fn every_example_is_a_manifest_line_of_its_capability() {
        for capability in ALL {
            let key = capability.example.split_once(" = ").unwrap().0;
            assert_eq!(key, capability.name);
        }
    }
}
