//! Which grant each import of a component needs, and which grants no import uses.

use serde::Serialize;
use serde_json::{Value, json};

use crate::kubernetes::Rule;
use crate::manifest::Grants;

/// What an import needs in order to be linked.
#[derive(Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Free,
    /// This line under `[grants]`.
    Grant(&'static str),
    /// It cannot be had.
    Unknown,
}

/// A capability that a manifest grants: its interfaces, and what of `[grants]` is about it.
pub(crate) struct Capability {
    /// The interfaces that need the grant.
    interfaces: &'static [&'static str],
    /// The key under `[grants]` that grants it.
    pub(crate) key: &'static str,
    /// A line under `[grants]` that would grant it.
    pub(crate) example: &'static str,
    /// The entries of a manifest that grant something of it, each under its key.
    pub(crate) entries: fn(&Grants) -> Vec<Entry>,
    /// Whether these grants are enough to link the interfaces.
    is_granted: fn(&Grants) -> bool,
}

/// One entry of `[grants]`: a list, one rule of `kubernetes`, or one program of `processes`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Its key, such as `http`.
    pub(crate) key: &'static str,
    /// Its value.
    pub(crate) value: Value,
    /// Its value as TOML.
    toml: String,
}

impl Entry {
    fn new(key: &'static str, value: Value) -> Self {
        let toml = toml(&value);
        Self { key, value, toml }
    }

    /// The entry of a list, unless the list is empty.
    fn list(key: &'static str, values: &[impl Serialize]) -> Option<Self> {
        (!values.is_empty()).then(|| Self::new(key, json!(values)))
    }

    /// One rule of `kubernetes`, with its fields in the order that manifests have them in.
    fn rule(rule: &Rule) -> Self {
        Self { key: "kubernetes", value: json!(rule), toml: rule.to_string() }
    }

    /// The line of a manifest.
    pub(crate) fn line(&self) -> String {
        format!("{} = {}", self.key, self.toml)
    }
}

/// A value as a manifest has it, on one line.
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
        // JSON's strings, numbers and booleans are TOML's, too.
        scalar => scalar.to_string(),
    }
}

/// Every capability that needs a grant.
pub(crate) const CAPABILITIES: [Capability; 5] = [
    Capability {
        interfaces: &["wasi:http/types", "wasi:http/outgoing-handler"],
        key: "http",
        example: "http = [\"address\"]",
        // The Kubernetes API is reached over HTTP, too.
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
    /// Whether an import, with or without its version, is of this capability.
    pub(crate) fn has(&self, import: &str) -> bool {
        self.interfaces.contains(&interface(import))
    }

    /// The imports that use it.
    pub(crate) fn users(&self, imports: &[String]) -> Vec<String> {
        imports.iter().filter(|import| self.has(import)).cloned().collect()
    }
}

/// Interfaces that every component may import.
const FREE: [&str; 4] =
    ["dagster-ray:host/model", "dagster-ray:host/sink", "wasi:logging/logging", "wasi:config/store"];

/// Packages that every component may import.
///
/// A language's run-time imports `wasi:filesystem` and `wasi:sockets` whether its program uses them
/// or not (CPython does, and so every component made with componentize-py). No directory is open to
/// them, and every socket and every name is denied.
const FREE_PACKAGES: [&str; 6] =
    ["wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:cli/", "wasi:filesystem/", "wasi:sockets/"];

/// An import without its version.
fn interface(import: &str) -> &str {
    import.split_once('@').map_or(import, |(interface, _)| interface)
}

/// What an import needs, given the grants that are there.
pub fn need(import: &str, grants: &Grants) -> Need {
    if let Some(capability) = CAPABILITIES.iter().find(|capability| capability.has(import)) {
        return if (capability.is_granted)(grants) { Need::Free } else { Need::Grant(capability.example) };
    }
    let interface = interface(import);
    let is_free =
        FREE.contains(&interface) || FREE_PACKAGES.iter().any(|package| interface.starts_with(package));
    if is_free { Need::Free } else { Need::Unknown }
}

/// Whether any grant is for something that is reached over HTTP: the Kubernetes API is, too.
pub fn needs_http(grants: &Grants) -> bool {
    !grants.http.is_empty() || !grants.kubernetes.is_empty()
}

/// The grants that nothing in the component could use, as the lines that say them.
pub fn unused(imports: &[String], grants: &Grants) -> Vec<String> {
    let unused = CAPABILITIES.iter().filter(|capability| capability.users(imports).is_empty());
    unused.flat_map(|capability| (capability.entries)(grants)).map(|entry| entry.line()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_that_no_import_could_use_is_named_by_its_line() {
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
    fn a_line_is_the_entry_as_a_manifest_has_it() {
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
                    // The lines of several rules are elements of one list.
                    "kubernetes" => format!("kubernetes = [{}]", entry.toml),
                    _ => entry.line(),
                };
                let read: Grants = toml::from_str(&line).unwrap();
                assert_eq!((capability.entries)(&read), [entry], "{line}");
            }
        }
    }

    #[test]
    fn an_import_that_the_host_does_not_have_is_unknown_whatever_is_granted() {
        let grants: Grants = toml::from_str("http = ['address']\npackages = true").unwrap();
        for import in ["wasi:http/incoming-handler@0.2.12", "wasi:nn/graph", "dagster-ray:host/packages2"] {
            assert_eq!(need(import, &grants), Need::Unknown, "{import}");
        }
        assert_eq!(need("wasi:http/types@0.2.12", &Grants::default()), Need::Grant("http = [\"address\"]"));
        assert_eq!(need("wasi:sockets/tcp@0.2.12", &Grants::default()), Need::Free);
    }
}
