//! The manifest beside a component: `<name>.toml` next to `<name>.wasm`.
//!
//! ```toml
//! id = "existing"
//! sha256 = "…"
//!
//! [grants]
//! http = ["address"]
//! packages = true
//!
//! [limits]
//! memory_mib = 64
//! ```
//!
//! Keys that are not known are errors. The operator's configuration has the same form without `id`,
//! and can only narrow.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::LoadError;
use crate::kubernetes::Rule;
pub use crate::limits::Limits;

/// What a component may import, and on what.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    /// Authorities that may be reached over HTTP: `address` for those that the configuration
    /// names, `cluster-services` for `http://<service>.<namespace>.svc:<port>` of the Kubernetes
    /// cluster, or `scheme://host:port`.
    pub http: Vec<String>,
    /// What may be asked of the Kubernetes API, at `http://kubernetes.internal`.
    pub kubernetes: Vec<Rule>,
    /// Whether the directories that the configuration names may be read, to upload them.
    pub packages: bool,
    /// Stores of values that may be used: `ray` for Ray's object store, `directory` for the directory
    /// that the configuration names.
    pub objects: Vec<String>,
    /// Buckets of `wasi:keyvalue` that may be used, in the directories that the configuration names.
    pub keyvalue: Vec<String>,
    /// Programs that may be run, each with the argument lists that an invocation must begin with.
    pub processes: BTreeMap<String, Vec<Vec<String>>>,
}

/// A component's manifest.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The component's name in messages.
    pub id: String,
    /// The digest of the file that this manifest is about.
    #[serde(default)]
    pub sha256: Option<String>,
    /// What it may import.
    #[serde(default)]
    pub grants: Grants,
    /// How much of everything it may use.
    #[serde(default)]
    pub limits: Limits,
}

/// What the operator allows of it.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Narrowing {
    /// The grants that stay; without it, all do.
    #[serde(default)]
    pub grants: Option<Grants>,
    /// Limits; the lower of each counts.
    #[serde(default)]
    pub limits: Option<Limits>,
}

impl Narrowing {
    /// Reads the operator's part.
    ///
    /// # Errors
    /// Where the text is not TOML, or has a key that is not known.
    pub fn parse(text: &str) -> Result<Self, LoadError> {
        toml::from_str(text).map_err(|error| LoadError::Manifest {
            path: PathBuf::from("(operator's grants)"),
            problem: error.to_string(),
        })
    }
}

impl Manifest {
    /// Where the manifest of a component file lies.
    pub fn path_of(wasm: &Path) -> PathBuf {
        wasm.with_extension("toml")
    }

    /// The manifest of a component, or what holds where it has none: the authority and the
    /// directories that the configuration names, and nothing else.
    ///
    /// # Errors
    /// Where the file cannot be read, is not TOML, or has a key that is not known.
    pub fn of(wasm: &Path) -> Result<Self, LoadError> {
        let path = Self::path_of(wasm);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, &path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self {
                id: wasm
                    .file_stem()
                    .map_or_else(|| "component".into(), |stem| stem.to_string_lossy().into_owned()),
                sha256: None,
                grants: Grants { http: vec!["address".into()], packages: true, ..Grants::default() },
                limits: Limits::default(),
            }),
            Err(error) => Err(LoadError::Manifest { path, problem: error.to_string() }),
        }
    }

    /// Reads a manifest. The path is for messages.
    ///
    /// # Errors
    /// Where the text is not TOML, or has a key that is not known.
    pub fn parse(text: &str, path: &Path) -> Result<Self, LoadError> {
        toml::from_str(text)
            .map_err(|error| LoadError::Manifest { path: path.to_owned(), problem: error.to_string() })
    }

    /// This manifest, with no more than the operator allows.
    pub fn narrowed(mut self, by: &Narrowing) -> Self {
        if let Some(grants) = &by.grants {
            self.grants.http.retain(|entry| grants.http.contains(entry));
            let allowed = |rule: &Rule| -> Vec<Rule> {
                grants.kubernetes.iter().filter_map(|by| rule.intersection(by)).collect()
            };
            self.grants.kubernetes = self.grants.kubernetes.iter().flat_map(allowed).collect();
            self.grants.packages &= grants.packages;
            self.grants.objects.retain(|store| grants.objects.contains(store));
            self.grants.keyvalue.retain(|bucket| grants.keyvalue.contains(bucket));
            self.grants.processes = self
                .grants
                .processes
                .into_iter()
                .filter_map(|(program, prefixes)| {
                    let allowed = grants.processes.get(&program)?;
                    let kept: Vec<_> = allowed
                        .iter()
                        .filter(|longer| prefixes.iter().any(|prefix| longer.starts_with(prefix)))
                        .cloned()
                        .collect();
                    (!kept.is_empty()).then_some((program, kept))
                })
                .collect();
        }
        if let Some(limits) = &by.limits {
            self.limits = self.limits.narrowed(limits);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_named() {
        let error =
            Manifest::parse("id = 'x'\n[grants]\nhtpp = ['address']", Path::new("x.toml")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("htpp") && text.contains("http"), "{text}");
    }

    #[test]
    fn the_operator_narrows_what_may_be_asked_of_kubernetes() {
        let manifest: Manifest = toml::from_str(
            "id = 'x'\n[grants]\nkubernetes = [{ group = '', resources = ['pods'], verbs = ['get', 'list'] }]",
        )
        .unwrap();
        let narrowing = Narrowing::parse(
            "[grants]\nkubernetes = [{ group = '', resources = ['pods', 'secrets'], verbs = ['get'], namespaces = ['ray'] }]",
        )
        .unwrap();
        let narrowed: Grants = toml::from_str(
            "kubernetes = [{ group = '', resources = ['pods'], verbs = ['get'], namespaces = ['ray'] }]",
        )
        .unwrap();
        assert_eq!(manifest.clone().narrowed(&narrowing).grants, narrowed);
        let nothing = Narrowing::parse("[grants]\nhttp = ['address']").unwrap();
        assert!(manifest.narrowed(&nothing).grants.kubernetes.is_empty());
    }

    #[test]
    fn the_operator_narrows_and_never_widens() {
        let manifest: Manifest = toml::from_str(
            "id = 'x'\n[grants]\nhttp = ['address']\nprocesses.ray = [['start']]\n[limits]\nmemory_mib = 64",
        )
        .unwrap();
        let narrowing = Narrowing::parse(
            "[grants]\nhttp = ['https://evil.example:443']\npackages = true\nprocesses.ray = [['start', '--head'], ['stop']]\nprocesses.sh = [[]]\n[limits]\nmemory_mib = 512\ncall_seconds = 5.0",
        )
        .unwrap();
        let narrowed = manifest.narrowed(&narrowing);
        assert!(narrowed.grants.http.is_empty());
        assert!(!narrowed.grants.packages);
        assert_eq!(
            narrowed.grants.processes,
            BTreeMap::from([("ray".to_owned(), vec![vec!["start".to_owned(), "--head".to_owned()]])])
        );
        assert_eq!(narrowed.limits.memory_mib, 64);
        assert_eq!(narrowed.limits.call_seconds, 5.0);
    }
}
