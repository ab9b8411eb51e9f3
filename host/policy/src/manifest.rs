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
//! same form without `id` and `sha256`, and can pin the manifest with `manifest_sha256`. It can remove grants and
//! lower limits, never add.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

pub use crate::capability::Grants;
use crate::capability::http;
use crate::digest::sha256;
use crate::error::LoadError;
pub use crate::limits::{LimitOverrides, Limits};
use crate::schema::{self, Schema};

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
    pub is_explicit: bool,
    /// The SHA-256 of the manifest's text, in hexadecimal; none for the defaults.
    #[serde(skip)]
    pub digest: Option<String>,
}

/// The operator's restriction of a manifest.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Restriction {
    /// The grants to keep. Without it, all grants are kept.
    #[serde(default)]
    pub grants: Option<Grants>,
    /// Upper bounds of the limits.
    #[serde(default)]
    pub limits: Option<LimitOverrides>,
    /// The SHA-256 of the manifest file, in hexadecimal. A component with another manifest is not loaded.
    #[serde(default)]
    pub manifest_sha256: Option<String>,
}

/// A restricted manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Restricted {
    /// The remaining grants and limits.
    pub manifest: Manifest,
    /// Entries of the restriction without effect, because the manifest does not grant them.
    pub ineffective: Vec<String>,
}

/// Maximum size of a manifest, in bytes.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Reads at most one byte more than `limit` of a text file; none if the file does not exist.
pub(crate) fn read_text(path: &Path, limit: u64) -> std::io::Result<Option<String>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(limit + 1).read_to_string(&mut text)?;
    Ok(Some(text))
}

impl Restriction {
    /// Parses a restriction from TOML.
    ///
    /// # Errors
    /// If the text is not TOML, has an unknown key, or a value is invalid.
    pub fn parse(text: &str) -> Result<Self, LoadError> {
        let wrong = |error: toml::de::Error| {
            LoadError::Restriction(format!("the restriction of the grants: {error}"))
        };
        toml::from_str::<Self>(text).map_err(wrong)?.validated()
    }

    /// Parses a restriction from the JSON of a configuration.
    ///
    /// # Errors
    /// If the text is not JSON, has an unknown key, or a value is invalid.
    pub fn from_json(text: &str) -> Result<Self, LoadError> {
        let wrong = |error: serde_json::Error| LoadError::Restriction(format!("backend_grants: {error}"));
        // Parse through a value, so that errors have no line and column: the operator did not write
        // this text.
        let value: serde_json::Value = serde_json::from_str(text).map_err(wrong)?;
        serde_json::from_value::<Self>(value).map_err(wrong)?.validated()
    }

    fn validated(self) -> Result<Self, LoadError> {
        let grants = self.grants.as_ref().and_then(Grants::problem);
        match grants.or_else(|| self.limits.as_ref().and_then(LimitOverrides::problem)) {
            Some(problem) => Err(LoadError::Restriction(format!("backend_grants: {problem}"))),
            None => Ok(self),
        }
    }
}

impl Manifest {
    /// Returns the JSON schema of a manifest.
    pub fn schema() -> Value {
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Manifest of a dagster-ray component",
            "type": "object",
            "additionalProperties": false,
            "required": ["id"],
            "properties": {
                "id": { "type": "string", "description": "The component's name in messages." },
                "sha256": {
                    "type": "string",
                    "description": "The SHA-256 of the component file, in hexadecimal.",
                },
                "grants": schema::described(Grants::schema(), "The component's permissions."),
                "limits": schema::described(Limits::schema(), "The component's limits."),
            },
        })
    }

    /// Returns the path of a component's manifest.
    pub fn path_of(component: &Path) -> PathBuf {
        component.with_extension("toml")
    }

    /// Reads the manifest of a component. A component without a manifest gets a default that grants the
    /// authorities and the directories that the configuration names, and nothing else.
    ///
    /// # Errors
    /// If the file cannot be read, is not TOML, has an unknown key, or a value is invalid.
    pub fn for_component(component: &Path) -> Result<Self, LoadError> {
        Self::from_text(Self::read(component)?.as_deref(), component)
    }

    /// Reads the text of a component's manifest; none if the file does not exist.
    pub(crate) fn read(component: &Path) -> Result<Option<String>, LoadError> {
        let path = Self::path_of(component);
        read_text(&path, MAX_MANIFEST_BYTES)
            .map_err(|error| LoadError::Manifest { path, problem: error.to_string() })
    }

    /// Parses the manifest's text, or returns the default without a text.
    pub(crate) fn from_text(text: Option<&str>, component: &Path) -> Result<Self, LoadError> {
        match text {
            Some(text) => Self::parse(text, &Self::path_of(component)),
            None => Ok(Self::default_for(component)),
        }
    }

    fn default_for(component: &Path) -> Self {
        Self {
            id: component
                .file_stem()
                .map_or_else(|| "component".into(), |stem| stem.to_string_lossy().into_owned()),
            sha256: None,
            grants: Grants { http: vec![http::ADDRESS.into()], packages: true, ..Grants::default() },
            limits: Limits::default(),
            is_explicit: false,
            digest: None,
        }
    }

    /// Parses a manifest. The path appears in messages.
    ///
    /// # Errors
    /// If the text is too long, is not TOML, has an unknown key, or a value is invalid.
    pub fn parse(text: &str, path: &Path) -> Result<Self, LoadError> {
        let wrong = |problem: String| LoadError::Manifest { path: path.to_owned(), problem };
        if text.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(wrong(format!("the file is longer than {MAX_MANIFEST_BYTES} bytes")));
        }
        let mut manifest: Self = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        // The id is written to logs and terminals.
        if manifest.id.is_empty() || manifest.id.contains(char::is_control) {
            return Err(wrong(format!(
                "id: {:?} is empty or has a control character. Write a name such as \"ours\"",
                manifest.id
            )));
        }
        if let Some(problem) = manifest.grants.problem().or_else(|| manifest.limits.problem()) {
            return Err(wrong(problem));
        }
        manifest.is_explicit = true;
        manifest.digest = Some(sha256(text.as_bytes()));
        Ok(manifest)
    }

    /// Returns the manifest, restricted by the operator.
    pub fn restricted(self, by: &Restriction) -> Self {
        self.restrict(by).manifest
    }

    /// Restricts the manifest, and returns the entries of the restriction without effect too.
    pub fn restrict(mut self, by: &Restriction) -> Restricted {
        let mut ineffective = Vec::new();
        if let Some(grants) = &by.grants {
            ineffective.extend(self.grants.restrict(grants));
        }
        if let Some(limits) = &by.limits {
            ineffective.extend(limits.ineffective(&self.limits));
            self.limits = self.limits.restricted(limits);
        }
        Restricted { manifest: self, ineffective }
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
    fn an_id_has_no_control_characters() {
        for id in ["", "a\\u001b[2J", "a\\nb"] {
            let text = format!("id = \"{id}\"");
            let error = Manifest::parse(&text, Path::new("x.toml")).unwrap_err().to_string();
            assert!(error.contains("id: ") && !error.contains('\u{1b}'), "{error}");
        }
    }

    #[test]
    fn the_operator_restricts_kubernetes_rules() {
        let manifest: Manifest = toml::from_str(
            "id = 'x'\n[grants]\nkubernetes = [{ group = '', resources = ['pods'], verbs = ['get', 'list'] }]",
        )
        .unwrap();
        let restriction = Restriction::parse(
            "[grants]\nkubernetes = [{ group = '', resources = ['pods', 'secrets'], verbs = ['get'], namespaces = ['ray'] }]",
        )
        .unwrap();
        let restricted: Grants = toml::from_str(
            "kubernetes = [{ group = '', resources = ['pods'], verbs = ['get'], namespaces = ['ray'] }]",
        )
        .unwrap();
        assert_eq!(manifest.clone().restricted(&restriction).grants, restricted);
        let nothing = Restriction::parse("[grants]\nhttp = ['address']").unwrap();
        assert!(manifest.restricted(&nothing).grants.kubernetes.is_empty());
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
    fn the_operator_can_remove_grants_and_never_add() {
        let manifest: Manifest = toml::from_str(
            "id = 'x'\n[grants]\nhttp = ['address']\nprocesses.ray = [['start']]\n[limits]\nmemory_mib = 64",
        )
        .unwrap();
        let restriction = Restriction::parse(
            "[grants]\nhttp = ['https://evil.example:443']\npackages = true\nprocesses.ray = [['start', '--head'], ['stop']]\nprocesses.sh = [[]]\n[limits]\nmemory_mib = 512\ncall_seconds = 5.0",
        )
        .unwrap();
        let Restricted { manifest: restricted, ineffective } = manifest.restrict(&restriction);
        assert_eq!(
            ineffective,
            [
                r#"grants.http: "https://evil.example:443""#,
                "grants.packages: true",
                r#"grants.processes = { ray = [["stop"]] }"#,
                "grants.processes = { sh = [[]] }",
                "limits.memory_mib = 512 (the component has 64)",
            ]
        );
        assert!(restricted.grants.http.is_empty());
        assert!(!restricted.grants.packages);
        assert_eq!(restricted.grants.processes.len(), 1);
        assert_eq!(restricted.grants.processes["ray"].prefix, [["start".to_owned(), "--head".to_owned()]]);
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
    fn the_json_schema_accepts_the_manifests_that_are_parsed() {
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.add_resource("urn:manifest", Manifest::schema()).unwrap();
        let index = compiler.compile("urn:manifest", &mut schemas).unwrap();
        let rule = "group = 'ray.io', resources = ['rayjobs', 'pods/log'], verbs = ['deletecollection']";
        for (text, is_valid) in [
            ("id = 'x'".to_owned(), true),
            (
                "id = 'x'\n[grants]\nhttp = ['address']\nnetworks = ['link-local']\npackages = true\nobjects = ['ray']\n\
                 keyvalue = ['state']\nprocesses.ray = [['start', '--head'], []]\n[limits]\nmemory_mib = 64\ncall_seconds = 0.5"
                    .to_owned(),
                true,
            ),
            (format!("id = 'x'\n[grants]\nkubernetes = [{{ {rule} }}]"), true),
            (format!("id = 'x'\n[grants]\nkubernetes = [{{ {rule}, namespaces = ['ray'] }}]"), true),
            (format!("id = 'x'\n[grants]\nkubernetes = [{{ {rule}, namespaces = [] }}]"), false),
            ("sha256 = 'x'".to_owned(), false),
            ("id = 'x'\n[grants]\nhtpp = []".to_owned(), false),
            ("id = 'x'\n[grants]\nnetworks = ['local']".to_owned(), false),
            ("id = 'x'\n[grants]\nprocesses.ray = ['start']".to_owned(), false),
            ("id = 'x'\n[limits]\nhandles = 0".to_owned(), false),
            ("id = 'x'\n[limits]\nmemory_mib = 1.5".to_owned(), false),
        ] {
            let document: Value = toml::from_str(&text).unwrap();
            assert_eq!(schemas.validate(&document, index).is_ok(), is_valid, "{text}");
            assert_eq!(Manifest::parse(&text, Path::new("x.toml")).is_ok(), is_valid, "{text}");
        }
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
        let restriction =
            Restriction::from_json(r#"{"grants": {"http": ["address"]}, "limits": {"memory_mib": 32}}"#)
                .unwrap();
        assert_eq!(restriction.limits.unwrap().memory_mib, Some(32));
        for (text, key) in [
            (r#"{"grants": {"htpp": []}}"#, "htpp"),
            (r#"{"limit": {}}"#, "limit"),
            (r#"{"limits": {"memory": 3}}"#, "memory"),
            (r#"{"limits": {"call_seconds": -1}}"#, "call_seconds"),
            (r#"{"grants": {"networks": ["local"]}}"#, "link-local"),
        ] {
            let error = Restriction::from_json(text).unwrap_err().to_string();
            assert!(error.starts_with("backend_grants: ") && error.contains(key), "{error}");
        }
    }
}
