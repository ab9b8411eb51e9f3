//! Maps each import of a component to the grant that it requires, and finds unused grants.

use crate::capability::{ALL, interface};
use crate::manifest::Grants;

/// The grant that an import requires before it is linked.
#[derive(Debug, PartialEq, Eq)]
pub enum RequiredGrant {
    /// No grant, or the grant is present.
    Satisfied,
    /// This line under `[grants]`.
    Missing(&'static str),
    /// The host does not provide the interface.
    Unknown,
}

/// Interfaces that every component may import without a grant.
const ALWAYS_LINKED: [&str; 4] =
    ["dagster-ray:host/model", "dagster-ray:host/reports", "wasi:logging/logging", "wasi:config/store"];

/// Packages that every component may import without a grant.
///
/// Some language runtimes import `wasi:filesystem` and `wasi:sockets` even if the program does not use
/// them. CPython does, and so does every component built with componentize-py. The WASI context has no
/// preopened directory and denies every socket and name lookup.
const ALWAYS_LINKED_PACKAGES: [&str; 6] =
    ["wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:cli/", "wasi:filesystem/", "wasi:sockets/"];

/// Returns the grant that an import requires, given the present grants.
pub fn required_grant(import: &str, grants: &Grants) -> RequiredGrant {
    if let Some(capability) = ALL.iter().find(|capability| capability.provides(import)) {
        return if capability.is_linked(grants) {
            RequiredGrant::Satisfied
        } else {
            RequiredGrant::Missing(capability.example)
        };
    }
    let interface = interface(import);
    let is_always_linked = ALWAYS_LINKED.contains(&interface)
        || ALWAYS_LINKED_PACKAGES.iter().any(|package| interface.starts_with(package));
    if is_always_linked { RequiredGrant::Satisfied } else { RequiredGrant::Unknown }
}

/// Returns the grants that no import uses, as lines of a manifest.
pub fn unused(imports: &[String], grants: &Grants) -> Vec<String> {
    let unused = ALL.iter().filter(|capability| capability.imports_using(imports).is_empty());
    unused.flat_map(|capability| (capability.entries)(grants)).map(|entry| entry.line()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_grants_are_reported_as_manifest_lines() {
        let grants: Grants = toml::from_str(
            "http = ['address']\npackages = true\nobjects = ['ray']\nkeyvalue = ['state']\nnetworks = ['private']\nprocesses.ray = [[]]",
        )
        .unwrap();
        assert_eq!(
            unused(&["wasi:cli/exit@0.2.12".into()], &grants),
            [
                "http = [\"address\"]",
                "networks = [\"private\"]",
                "packages = true",
                "objects = [\"ray\"]",
                "keyvalue = [\"state\"]",
                "processes = { ray = [[]] }"
            ]
        );
        let imports: Vec<String> = [
            "wasi:http/types@0.2.12",
            "wasi:http/outgoing-handler@0.2.12",
            "dagster-ray:host/packages@0.1.0",
            "dagster-ray:host/objects@0.1.0",
            "dagster-ray:host/processes@0.1.0",
            "wasi:keyvalue/store@0.2.0-draft",
        ]
        .map(str::to_owned)
        .into();
        assert_eq!(unused(&imports, &grants), [] as [String; 0]);
    }

    #[test]
    fn an_import_that_the_host_does_not_provide_is_unknown_with_any_grants() {
        let grants: Grants = toml::from_str("http = ['address']\npackages = true").unwrap();
        for import in ["wasi:http/incoming-handler@0.2.12", "wasi:nn/graph", "dagster-ray:host/packages2"] {
            assert_eq!(required_grant(import, &grants), RequiredGrant::Unknown, "{import}");
        }
        assert_eq!(
            required_grant("wasi:http/types@0.2.12", &Grants::default()),
            RequiredGrant::Missing("http = [\"address\"]")
        );
        assert_eq!(required_grant("wasi:sockets/tcp@0.2.12", &Grants::default()), RequiredGrant::Satisfied);
    }
}
