//! The manifest of a component: `<name>.toml` next to `<name>.wasm`.
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
//! Unknown keys are errors. The operator's restriction, `backend_grants` in the configuration, has the
//! same form without `id` and `sha256`. It can remove grants and lower limits, never add.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::address::Network;
use crate::authority::Authority;
use crate::error::LoadError;
use crate::kubernetes::Rule;
pub use crate::limits::{AtMost, Limits};

/// The permissions of a component.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    /// Authorities that the component may contact over HTTP: `address` for those that the configuration
    /// names, `cluster-services` for `http://<service>.<namespace>.svc:<port>` in the Kubernetes
    /// cluster, or `scheme://host:port`.
    pub http: Vec<String>,
    /// Networks whose addresses the host names in `http` may resolve to, in addition to public
    /// addresses: `private`, `loopback`, `link-local`. The operator chooses the target of `address`, so
    /// private networks and loopback need no grant for it.
    pub networks: Vec<Network>,
    /// Rules for requests to the Kubernetes API at `http://kubernetes.internal`.
    pub kubernetes: Vec<Rule>,
    /// Whether the component may read the directories that the configuration names, to upload them.
    pub packages: bool,
    /// Value stores that the component may use: `ray` for Ray's object store, `directory` for the
    /// directory that the configuration names.
    pub objects: Vec<String>,
    /// Buckets of `wasi:keyvalue` that the component may use. The configuration names their directories.
    pub keyvalue: Vec<String>,
    /// Programs that the component may run. The arguments must begin with one of the program's lists.
    pub processes: BTreeMap<String, Vec<Vec<String>>>,
}

/// A component's manifest.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The component's name in messages.
    pub id: String,
    /// The SHA-256 of the component file, in hexadecimal.
    #[serde(default)]
    pub sha256: Option<String>,
    /// The component's permissions.
    #[serde(default)]
    pub grants: Grants,
    /// The component's limits.
    #[serde(default)]
    pub limits: Limits,
    /// Whether the manifest was read from a file. Otherwise it holds the defaults.
    #[serde(skip)]
    pub is_written: bool,
}

/// The operator's restriction of a manifest.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Narrowing {
    /// The grants to keep. Without it, all grants are kept.
    #[serde(default)]
    pub grants: Option<Grants>,
    /// Upper bounds of the limits.
    #[serde(default)]
    pub limits: Option<AtMost>,
}

/// A restricted manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Narrowed {
    /// The remaining grants and limits.
    pub manifest: Manifest,
    /// Entries of the restriction without effect, because the manifest does not grant them.
    pub without_effect: Vec<String>,
}

/// Maximum size of a manifest, in bytes.
const LARGEST: u64 = 1 << 20;

impl Narrowing {
    /// Parses a restriction from TOML.
    ///
    /// # Errors
    /// If the text is not TOML, has an unknown key, or a value is invalid.
    pub fn parse(text: &str) -> Result<Self, LoadError> {
        let wrong =
            |error: toml::de::Error| LoadError::Narrowing(format!("the restriction of the grants: {error}"));
        toml::from_str::<Self>(text).map_err(wrong)?.checked()
    }

    /// Parses a restriction from the JSON of a configuration.
    ///
    /// # Errors
    /// If the text is not JSON, has an unknown key, or a value is invalid.
    pub fn from_json(text: &str) -> Result<Self, LoadError> {
        let wrong = |error: serde_json::Error| LoadError::Narrowing(format!("backend_grants: {error}"));
        // Parse through a value, so that errors have no line and column: the operator did not write
        // this text.
        let value: serde_json::Value = serde_json::from_str(text).map_err(wrong)?;
        serde_json::from_value::<Self>(value).map_err(wrong)?.checked()
    }

    fn checked(self) -> Result<Self, LoadError> {
        let grants = self.grants.as_ref().and_then(Grants::problem);
        match grants.or_else(|| self.limits.as_ref().and_then(AtMost::problem)) {
            Some(problem) => Err(LoadError::Narrowing(format!("backend_grants: {problem}"))),
            None => Ok(self),
        }
    }
}

/// Intersects two sets of argument prefixes. Of each pair in which one is a prefix of the other, the
/// longer one remains.
fn common(allowed: &[Vec<String>], own: &[Vec<String>]) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = Vec::new();
    for (allowed, own) in allowed.iter().flat_map(|allowed| own.iter().map(move |own| (allowed, own))) {
        let (longer, shorter) = if allowed.len() > own.len() { (allowed, own) } else { (own, allowed) };
        if longer.starts_with(shorter) && !found.contains(longer) {
            found.push(longer.clone());
        }
    }
    found
}

impl Grants {
    /// Returns the first invalid grant, or none.
    fn problem(&self) -> Option<String> {
        if let Some(rule) = self.kubernetes.iter().find(|rule| rule.is_empty()) {
            return Some(format!(
                "grants.kubernetes: {rule} allows nothing: name at least one resource and one verb, and one namespace unless `namespaces` is left out"
            ));
        }
        let entry = self.http.iter().find(|entry| {
            !["address", "cluster-services"].contains(&entry.as_str()) && Authority::named(entry).is_none()
        })?;
        Some(format!(
            "grants.http: {entry:?} is not an authority: write \"address\", \"cluster-services\" or \"https://host:port\", without a path and without wildcards"
        ))
    }

    /// Returns the grants that both allow, and appends the entries of `by` without effect.
    fn narrowed(self, by: &Self, without_effect: &mut Vec<String>) -> Self {
        let mut report = |key: &str, entry: String| without_effect.push(format!("grants.{key}: {entry}"));
        for entry in by.http.iter().filter(|entry| !self.http.contains(entry)) {
            report("http", format!("{entry:?}"));
        }
        for network in by.networks.iter().filter(|network| !self.networks.contains(network)) {
            report("networks", format!("\"{network}\""));
        }
        for rule in &by.kubernetes {
            if !self.kubernetes.iter().any(|own| own.intersection(rule).is_some()) {
                report("kubernetes", rule.to_string());
            }
        }
        if by.packages && !self.packages {
            report("packages", "true".into());
        }
        for store in by.objects.iter().filter(|store| !self.objects.contains(store)) {
            report("objects", format!("{store:?}"));
        }
        for bucket in by.keyvalue.iter().filter(|bucket| !self.keyvalue.contains(bucket)) {
            report("keyvalue", format!("{bucket:?}"));
        }
        for (program, allowed) in &by.processes {
            let own = self.processes.get(program).map_or(&[] as &[_], Vec::as_slice);
            for line in allowed.iter().filter(|line| common(std::slice::from_ref(*line), own).is_empty()) {
                report("processes", format!("{program} = [{line:?}]"));
            }
        }
        let both = |rule: &Rule| -> Vec<Rule> {
            by.kubernetes.iter().filter_map(|by| rule.intersection(by)).collect()
        };
        Self {
            kubernetes: self.kubernetes.iter().flat_map(both).collect(),
            http: self.http.into_iter().filter(|entry| by.http.contains(entry)).collect(),
            networks: self.networks.into_iter().filter(|network| by.networks.contains(network)).collect(),
            packages: self.packages && by.packages,
            objects: self.objects.into_iter().filter(|store| by.objects.contains(store)).collect(),
            keyvalue: self.keyvalue.into_iter().filter(|bucket| by.keyvalue.contains(bucket)).collect(),
            processes: self
                .processes
                .into_iter()
                .filter_map(|(program, own)| {
                    let kept = common(by.processes.get(&program)?, &own);
                    (!kept.is_empty()).then_some((program, kept))
                })
                .collect(),
        }
    }
}

impl Manifest {
    /// Returns the path of a component's manifest.
    pub fn path_of(wasm: &Path) -> PathBuf {
        wasm.with_extension("toml")
    }

    /// Reads the manifest of a component. A component without a manifest gets a default that grants the
    /// authorities and the directories that the configuration names, and nothing else.
    ///
    /// # Errors
    /// If the file cannot be read, is not TOML, has an unknown key, or a value is invalid.
    pub fn of(wasm: &Path) -> Result<Self, LoadError> {
        Self::from_text(Self::read(wasm)?.as_deref(), wasm)
    }

    /// Reads the text of a component's manifest; none if the file does not exist.
    pub(crate) fn read(wasm: &Path) -> Result<Option<String>, LoadError> {
        let path = Self::path_of(wasm);
        let unreadable = |problem: String| LoadError::Manifest { path: path.clone(), problem };
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let mut text = String::new();
        file.take(LARGEST + 1).read_to_string(&mut text).map_err(|error| unreadable(error.to_string()))?;
        Ok(Some(text))
    }

    /// Parses the manifest's text, or returns the default without a text.
    pub(crate) fn from_text(text: Option<&str>, wasm: &Path) -> Result<Self, LoadError> {
        match text {
            Some(text) => Self::parse(text, &Self::path_of(wasm)),
            None => Ok(Self::absent(wasm)),
        }
    }

    fn absent(wasm: &Path) -> Self {
        Self {
            id: wasm
                .file_stem()
                .map_or_else(|| "component".into(), |stem| stem.to_string_lossy().into_owned()),
            sha256: None,
            grants: Grants { http: vec!["address".into()], packages: true, ..Grants::default() },
            limits: Limits::default(),
            is_written: false,
        }
    }

    /// Parses a manifest. The path appears in messages.
    ///
    /// # Errors
    /// If the text is too long, is not TOML, has an unknown key, or a value is invalid.
    pub fn parse(text: &str, path: &Path) -> Result<Self, LoadError> {
        let wrong = |problem: String| LoadError::Manifest { path: path.to_owned(), problem };
        if text.len() as u64 > LARGEST {
            return Err(wrong(format!("the file is longer than {LARGEST} bytes")));
        }
        let mut manifest: Self = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if let Some(problem) = manifest.grants.problem().or_else(|| manifest.limits.problem()) {
            return Err(wrong(problem));
        }
        manifest.is_written = true;
        Ok(manifest)
    }

    /// Returns the manifest, restricted by the operator.
    pub fn narrowed(self, by: &Narrowing) -> Self {
        self.narrow(by).manifest
    }

    /// Restricts the manifest, and returns the entries of the restriction without effect too.
    pub fn narrow(mut self, by: &Narrowing) -> Narrowed {
        let mut without_effect = Vec::new();
        if let Some(grants) = &by.grants {
            self.grants = self.grants.narrowed(grants, &mut without_effect);
        }
        if let Some(limits) = &by.limits {
            without_effect.extend(limits.without_effect(&self.limits));
            self.limits = self.limits.narrowed(limits);
        }
        Narrowed { manifest: self, without_effect }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error =
            Manifest::parse("id = 'x'\n[grants]\nhtpp = ['address']", Path::new("x.toml")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("htpp") && text.contains("http"), "{text}");
    }

    #[test]
    fn the_operator_restricts_kubernetes_rules() {
        let manifest: Manifest = toml::from_str(
            "id = 'x'\n[grants]\nkubernetes = [{ group = '', resources = ['pods'], verbs = ['get', 'list'] }]",
        )
        .unwrap();
        let narrowing = Narrowing::parse(
            "[grants]\nkubernetes = [{ group = '', resources = ['pods', 'secrets'], verbs = ['get'], namespaces = ['ray'] }]",
        )
        .unwrap();
        let restricted: Grants = toml::from_str(
            "kubernetes = [{ group = '', resources = ['pods'], verbs = ['get'], namespaces = ['ray'] }]",
        )
        .unwrap();
        assert_eq!(manifest.clone().narrowed(&narrowing).grants, restricted);
        let nothing = Narrowing::parse("[grants]\nhttp = ['address']").unwrap();
        assert!(manifest.narrowed(&nothing).grants.kubernetes.is_empty());
    }

    #[test]
    fn a_rule_that_allows_nothing_is_rejected() {
        for rule in [
            "resources = [], verbs = ['get']",
            "resources = ['pods'], verbs = []",
            "resources = ['pods'], verbs = ['get'], namespaces = []",
        ] {
            let text = format!("id = 'x'\n[grants]\nkubernetes = [{{ group = '', {rule} }}]");
            let error = Manifest::parse(&text, Path::new("x.toml")).unwrap_err().to_string();
            assert!(error.contains("allows nothing"), "{error}");
        }
    }

    #[test]
    fn the_longer_of_two_argument_prefixes_remains() {
        let of = |lines: &[&[&str]]| -> Vec<Vec<String>> {
            lines.iter().map(|line| line.iter().map(|word| (*word).to_owned()).collect()).collect()
        };
        let own = of(&[&["start", "--head"], &["stop"]]);
        assert_eq!(common(&of(&[&[]]), &own), own);
        assert_eq!(
            common(&of(&[&["start"], &["start", "--head", "-v"]]), &own),
            of(&[&["start", "--head"], &["start", "--head", "-v"]])
        );
        assert_eq!(common(&of(&[&["start", "--worker"]]), &own), of(&[]));
    }

    #[test]
    fn the_operator_can_remove_grants_and_never_add() {
        let manifest: Manifest = toml::from_str(
            "id = 'x'\n[grants]\nhttp = ['address']\nprocesses.ray = [['start']]\n[limits]\nmemory_mib = 64",
        )
        .unwrap();
        let narrowing = Narrowing::parse(
            "[grants]\nhttp = ['https://evil.example:443']\npackages = true\nprocesses.ray = [['start', '--head'], ['stop']]\nprocesses.sh = [[]]\n[limits]\nmemory_mib = 512\ncall_seconds = 5.0",
        )
        .unwrap();
        let Narrowed { manifest: restricted, without_effect } = manifest.narrow(&narrowing);
        assert_eq!(
            without_effect,
            [
                r#"grants.http: "https://evil.example:443""#,
                "grants.packages: true",
                r#"grants.processes: ray = [["stop"]]"#,
                "grants.processes: sh = [[]]",
                "limits.memory_mib = 512 (the component has 64)",
            ]
        );
        assert!(restricted.grants.http.is_empty());
        assert!(!restricted.grants.packages);
        assert_eq!(
            restricted.grants.processes,
            BTreeMap::from([("ray".to_owned(), vec![vec!["start".to_owned(), "--head".to_owned()]])])
        );
        assert_eq!(restricted.limits.memory_mib, 64);
        assert_eq!(restricted.limits.call_seconds, 5.0);
    }

    #[test]
    fn http_entries_that_are_not_authorities_are_rejected() {
        for entry in [
            "adress",
            "*",
            "https://*.example:443",
            "https://example:443/path",
            "https://user@example:443",
            "ftp://example:21",
            "https://example:443?q",
            "example:443",
            "",
        ] {
            let text = format!("id = 'x'\n[grants]\nhttp = ['{entry}']");
            let error = Manifest::parse(&text, Path::new("x.toml")).unwrap_err().to_string();
            assert!(error.contains("is not an authority") && error.contains(entry), "{error}");
        }
        assert!(
            Manifest::parse(
                "id = 'x'\n[grants]\nhttp = ['https://example:443', 'http://[::1]:80', 'http://a/']",
                Path::new("x")
            )
            .is_ok()
        );
    }

    #[test]
    fn deeply_nested_or_oversized_manifests_are_rejected() {
        let path = Path::new("x.toml");
        let deep = format!("id = 'x'\nlimits = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
        let tables = format!("id = 'x'\n[{}]", vec!["a"; 100_000].join("."));
        let long = format!("id = '{}'", "x".repeat(2 << 20));
        for text in [deep, tables, long] {
            assert!(Manifest::parse(&text, path).is_err());
        }
    }

    #[test]
    fn a_restriction_in_json_names_unknown_keys() {
        let narrowing =
            Narrowing::from_json(r#"{"grants": {"http": ["address"]}, "limits": {"memory_mib": 32}}"#)
                .unwrap();
        assert_eq!(narrowing.limits.unwrap().memory_mib, Some(32));
        for (text, key) in [
            (r#"{"grants": {"htpp": []}}"#, "htpp"),
            (r#"{"limit": {}}"#, "limit"),
            (r#"{"limits": {"memory": 3}}"#, "memory"),
            (r#"{"limits": {"call_seconds": -1}}"#, "call_seconds"),
            (r#"{"grants": {"networks": ["local"]}}"#, "link-local"),
        ] {
            let error = Narrowing::from_json(text).unwrap_err().to_string();
            assert!(error.starts_with("backend_grants: ") && error.contains(key), "{error}");
        }
    }
}
