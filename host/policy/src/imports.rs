//! Maps each import of a component to the grant that it requires, and finds unused grants.

use serde::Serialize;
use serde_json::{Value, json};

use crate::kubernetes::Rule;
use crate::manifest::Grants;

/// The grant that an import requires before it is linked.
#[derive(Debug, PartialEq, Eq)]
pub enum Need {
    /// No grant, or the grant is present.
    Free,
    /// This line under `[grants]`.
    Grant(&'static str),
    /// The host does not provide the interface.
    Unknown,
}

/// A capability: its WIT interfaces and its keys under `[grants]`.
pub(crate) struct Capability {
    /// The interfaces that require the grant.
    interfaces: &'static [&'static str],
    /// The key under `[grants]` that grants it.
    pub(crate) key: &'static str,
    /// An example line for `[grants]`.
    pub(crate) example: &'static str,
    /// Returns the manifest's entries for this capability.
    pub(crate) entries: fn(&Grants) -> Vec<Entry>,
    /// Returns whether the grants suffice to link the interfaces.
    is_granted: fn(&Grants) -> bool,
}

/// One entry of `[grants]`: a list, one rule of `kubernetes`, or one program of `processes`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// The key under `[grants]`, such as `http`.
    pub(crate) key: &'static str,
    /// The value as JSON.
    pub(crate) value: Value,
    /// The value as TOML.
    toml: String,
}

impl Entry {
    fn new(key: &'static str, value: Value) -> Self {
        let toml = toml(&value);
        Self { key, value, toml }
    }

    /// Returns the entry of a list, or none if the list is empty.
    fn list(key: &'static str, values: &[impl Serialize]) -> Option<Self> {
        (!values.is_empty()).then(|| Self::new(key, json!(values)))
    }

    /// Returns the entry of one `kubernetes` rule, with its fields in the order of a manifest.
    fn rule(rule: &Rule) -> Self {
        Self { key: "kubernetes", value: json!(rule), toml: rule.to_string() }
    }

    /// Returns the entry as a line of a manifest.
    pub(crate) fn line(&self) -> String {
        format!("{} = {}", self.key, self.toml)
    }
}

/// Formats a value as TOML on one line.
fn toml(value: &Value) -> String {
    let is_bare = |key: &str| {
        !key.is_empty()
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    match value {
        Value::Array(elements) => {
            format!("[{}]", elements.iter().map(toml).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                let key = if is_bare(key) { key.clone() } else { json!(key).to_string() };
                format!("{key} = {}", toml(value))
            };
            format!("{{ {} }}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        // JSON strings, numbers and booleans are valid TOML.
        scalar => scalar.to_string(),
    }
}

/// Every capability that requires a grant.
pub(crate) const CAPABILITIES: [Capability; 5] = [
    Capability {
        interfaces: &["wasi:http/types", "wasi:http/outgoing-handler"],
        key: "http",
        example: "http = [\"address\"]",
        // Components reach the Kubernetes API over HTTP.
        entries: |grants| {
            let mut entries = Vec::from_iter(Entry::list("http", &grants.http));
            entries.extend(Entry::list("networks", &grants.networks));
            entries.extend(grants.kubernetes.iter().map(Entry::rule));
            entries
        },
        is_granted: needs_http,
    },
    Capability {
        interfaces: &["dagster-ray:host/packages"],
        key: "packages",
        example: "packages = true",
        entries: |grants| {
            grants.packages.then(|| Entry::new("packages", Value::Bool(true))).into_iter().collect()
        },
        is_granted: |grants| grants.packages,
    },
    Capability {
        interfaces: &["dagster-ray:host/objects"],
        key: "objects",
        example: "objects = [\"<store>\"]",
        entries: |grants| Entry::list("objects", &grants.objects).into_iter().collect(),
        is_granted: |grants| !grants.objects.is_empty(),
    },
    Capability {
        interfaces: &["wasi:keyvalue/store", "wasi:keyvalue/atomics"],
        key: "keyvalue",
        example: "keyvalue = [\"<bucket>\"]",
        entries: |grants| Entry::list("keyvalue", &grants.keyvalue).into_iter().collect(),
        is_granted: |grants| !grants.keyvalue.is_empty(),
    },
    Capability {
        interfaces: &["dagster-ray:host/processes"],
        key: "processes",
        example: "processes = { <program> = [[\"<first argument>\"]] }",
        entries: |grants| {
            let program = |(name, prefixes): (&String, &Vec<Vec<String>>)| {
                Entry::new("processes", json!({ name: prefixes }))
            };
            grants.processes.iter().map(program).collect()
        },
        is_granted: |grants| !grants.processes.is_empty(),
    },
];

impl Capability {
    /// Returns whether an import, with or without its version, belongs to this capability.
    pub(crate) fn has(&self, import: &str) -> bool {
        self.interfaces.contains(&interface(import))
    }

    /// Returns the imports that use this capability.
    pub(crate) fn users(&self, imports: &[String]) -> Vec<String> {
        imports.iter().filter(|import| self.has(import)).cloned().collect()
    }
}

/// Interfaces that every component may import without a grant.
const FREE: [&str; 4] =
    ["dagster-ray:host/model", "dagster-ray:host/sink", "wasi:logging/logging", "wasi:config/store"];

/// Packages that every component may import without a grant.
///
/// Some language runtimes import `wasi:filesystem` and `wasi:sockets` even if the program does not use
/// them. CPython does, and so does every component built with componentize-py. The WASI context has no
/// preopened directory and denies every socket and name lookup.
const FREE_PACKAGES: [&str; 6] =
    ["wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:cli/", "wasi:filesystem/", "wasi:sockets/"];

/// Returns an import without its version.
fn interface(import: &str) -> &str {
    import.split_once('@').map_or(import, |(interface, _)| interface)
}

/// Returns the grant that an import requires, given the present grants.
pub fn need(import: &str, grants: &Grants) -> Need {
    if let Some(capability) = CAPABILITIES.iter().find(|capability| capability.has(import)) {
        return if (capability.is_granted)(grants) { Need::Free } else { Need::Grant(capability.example) };
    }
    let interface = interface(import);
    let is_free =
        FREE.contains(&interface) || FREE_PACKAGES.iter().any(|package| interface.starts_with(package));
    if is_free { Need::Free } else { Need::Unknown }
}

/// Returns whether any grant requires `wasi:http`. The Kubernetes API is reached over HTTP.
pub fn needs_http(grants: &Grants) -> bool {
    !grants.http.is_empty() || !grants.kubernetes.is_empty()
}

/// Returns the grants that no import uses, as lines of a manifest.
pub fn unused(imports: &[String], grants: &Grants) -> Vec<String> {
    let unused = CAPABILITIES.iter().filter(|capability| capability.users(imports).is_empty());
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
    fn manifest_lines_parse_back_to_the_same_entry() {
        let text = r#"
            http = ["https://a\"b:443"]
            kubernetes = [{ group = "", resources = ["pods/log"], verbs = ["get"], namespaces = ["ray"] }]
            processes = { "my program" = [["a", "b c"], []] }
            networks = ["link-local"]
        "#;
        let grants: Grants = toml::from_str(text).unwrap();
        for capability in &CAPABILITIES {
            for entry in (capability.entries)(&grants) {
                let line = match entry.key {
                    // A rule's line is one element of the list.
                    "kubernetes" => format!("kubernetes = [{}]", entry.toml),
                    _ => entry.line(),
                };
                let read: Grants = toml::from_str(&line).unwrap();
                assert_eq!((capability.entries)(&read), [entry], "{line}");
            }
        }
    }

    #[test]
    fn an_import_that_the_host_does_not_provide_is_unknown_with_any_grants() {
        let grants: Grants = toml::from_str("http = ['address']\npackages = true").unwrap();
        for import in ["wasi:http/incoming-handler@0.2.12", "wasi:nn/graph", "dagster-ray:host/packages2"] {
            assert_eq!(need(import, &grants), Need::Unknown, "{import}");
        }
        assert_eq!(need("wasi:http/types@0.2.12", &Grants::default()), Need::Grant("http = [\"address\"]"));
        assert_eq!(need("wasi:sockets/tcp@0.2.12", &Grants::default()), Need::Free);
    }
}
