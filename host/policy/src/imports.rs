//! What each import of a component needs: nothing, a grant, or what cannot be had.

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

/// What a component may import and gets nothing from. A language's run-time imports them whether its
/// program uses them or not (CPython does, and so every component made with componentize-py), and
/// without them it does not load. No directory is open, and every socket and every name is denied.
const EMPTY: [&str; 2] = ["wasi:filesystem/", "wasi:sockets/"];

/// What an import needs, given the grants that are there.
pub fn need(import: &str, grants: &Grants) -> Need {
    let granted = |granted: bool, line: &'static str| if granted { Need::Free } else { Need::Grant(line) };
    let interface = import.split_once('@').map_or(import, |(interface, _)| interface);
    match interface {
        "wasi:http/types" | "wasi:http/outgoing-handler" => {
            granted(needs_http(grants), "http = [\"address\"]")
        }
        "dagster-ray:host/packages" => granted(grants.packages, "packages = true"),
        "dagster-ray:host/objects" => granted(!grants.objects.is_empty(), "objects = [\"<store>\"]"),
        "wasi:keyvalue/store" | "wasi:keyvalue/atomics" => {
            granted(!grants.keyvalue.is_empty(), "keyvalue = [\"<bucket>\"]")
        }
        "dagster-ray:host/processes" => {
            granted(!grants.processes.is_empty(), "processes = { <program> = [[\"<first argument>\"]] }")
        }
        "dagster-ray:host/model" | "dagster-ray:host/sink" | "wasi:logging/logging" | "wasi:config/store" => {
            Need::Free
        }
        other
            if ["wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:cli/"]
                .iter()
                .chain(&EMPTY)
                .any(|free| other.starts_with(free)) =>
        {
            Need::Free
        }
        _ => Need::Unknown,
    }
}

/// Whether any grant is for something that is reached over HTTP: the Kubernetes API is, too.
pub fn needs_http(grants: &Grants) -> bool {
    !grants.http.is_empty() || !grants.kubernetes.is_empty()
}

/// The lines of a manifest that a component's imports want, whatever is granted now.
pub fn wanted(imports: &[String]) -> Vec<&'static str> {
    let none = Grants::default();
    let mut lines = Vec::new();
    for import in imports {
        if let Need::Grant(line) = need(import, &none)
            && !lines.contains(&line)
        {
            lines.push(line);
        }
    }
    lines
}

/// The grants that nothing in the component could use, as the lines that say them.
pub fn unused(imports: &[String], grants: &Grants) -> Vec<String> {
    let imported = |interface: &str| imports.iter().any(|import| import.starts_with(interface));
    let mut lines = Vec::new();
    if !imported("wasi:http/") {
        if !grants.http.is_empty() {
            lines.push(format!("http = {:?}", grants.http));
        }
        if !grants.kubernetes.is_empty() {
            lines.push("kubernetes = […]".to_owned());
        }
        if !grants.networks.is_empty() {
            let names: Vec<_> = grants.networks.iter().map(ToString::to_string).collect();
            lines.push(format!("networks = {names:?}"));
        }
    }
    if grants.packages && !imported("dagster-ray:host/packages") {
        lines.push("packages = true".to_owned());
    }
    if !grants.objects.is_empty() && !imported("dagster-ray:host/objects") {
        lines.push(format!("objects = {:?}", grants.objects));
    }
    if !grants.keyvalue.is_empty() && !imported("wasi:keyvalue/") {
        lines.push(format!("keyvalue = {:?}", grants.keyvalue));
    }
    if !grants.processes.is_empty() && !imported("dagster-ray:host/processes") {
        let programs: Vec<_> = grants.processes.keys().map(|name| format!("{name} = […]")).collect();
        lines.push(format!("processes = {{ {} }}", programs.join(", ")));
    }
    lines
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
                "processes = { ray = […] }"
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
        assert_eq!(wanted(&imports).len(), 5);
    }
}
