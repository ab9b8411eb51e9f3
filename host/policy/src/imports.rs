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
