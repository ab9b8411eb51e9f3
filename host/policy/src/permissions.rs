//! Reports the grants and limits of a component for the operator, with the imports that use each grant.

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::capability::ALL;
use crate::imports::{RequiredGrant, required_grant};
use crate::limits::LimitOverrides;
use crate::manifest::Manifest;

/// The status of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantStatus {
    /// Granted, and an import uses it.
    Used,
    /// Granted, but no import uses it.
    Unused,
    /// Not granted, and the component cannot be loaded without it.
    Missing,
}

/// One grant: a list, one rule of `kubernetes`, one program of `processes`, or a missing grant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Permission {
    /// The grant's key under `[grants]`, such as `http`.
    pub grant: &'static str,
    /// Whether the grant is used, unused or missing.
    pub status: GrantStatus,
    /// The grant's value; none if it is missing.
    pub value: Option<Value>,
    /// The manifest's line. For a missing grant, an example with placeholders.
    pub line: String,
    /// The imports that require the grant.
    pub needed_by: Vec<String>,
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Limit {
    /// The limit's key under `[limits]`, such as `memory_mib`.
    pub limit: &'static str,
    /// The effective value.
    pub value: Number,
    /// Whether the manifest sets the limit. Otherwise the value is the default.
    #[serde(rename = "is_written")]
    pub is_explicit: bool,
}

/// Returns every grant of a manifest, and every missing grant that the imports require.
///
/// Without a manifest file, unused default grants are omitted.
pub(crate) fn grants(manifest: &Manifest, imports: &[String]) -> Vec<Permission> {
    let mut permissions = Vec::new();
    for capability in ALL {
        let needed_by = capability.imports_using(imports);
        let status = if needed_by.is_empty() { GrantStatus::Unused } else { GrantStatus::Used };
        // An interface of two capabilities is missing only the first one's grant.
        let missing = RequiredGrant::Missing(capability.example);
        let is_missing = |import: &String| required_grant(import, &manifest.grants) == missing;
        if status == GrantStatus::Used || manifest.is_explicit {
            permissions.extend((capability.entries)(&manifest.grants).into_iter().map(|entry| Permission {
                grant: entry.key,
                status,
                line: entry.line(),
                value: Some(entry.value),
                needed_by: needed_by.clone(),
            }));
        }
        if needed_by.iter().any(is_missing) {
            permissions.push(Permission {
                grant: capability.name,
                status: GrantStatus::Missing,
                value: None,
                line: capability.example.to_owned(),
                needed_by,
            });
        }
    }
    permissions
}

/// Returns every limit of a manifest, and whether the manifest's `text` sets it.
pub(crate) fn limits(manifest: &Manifest, text: &str) -> Vec<Limit> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Explicit {
        limits: LimitOverrides,
    }
    // The text was parsed as a manifest before, so parsing cannot fail.
    let explicit = toml::from_str::<Explicit>(text).unwrap_or_default().limits.numbers();
    let numbers = manifest.limits.numbers().into_iter();
    numbers
        .map(|(limit, value)| Limit {
            limit,
            value: number(value),
            is_explicit: explicit.iter().any(|(explicit, _)| *explicit == limit),
        })
        .collect()
}

/// Converts a number to JSON: `128`, not `128.0`.
fn number(value: f64) -> Number {
    #[allow(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
    let whole = value as i64;
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return whole.into();
    }
    // Limits are finite: a manifest with another number is rejected.
    Number::from_f64(value).unwrap_or_else(|| 0.into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn permissions(grants: &str, imports: &[&str]) -> Vec<(String, GrantStatus, usize)> {
        let text = format!("id = 'x'\n[grants]\n{grants}");
        let manifest = Manifest::parse(&text, Path::new("x.toml")).unwrap();
        let imports: Vec<_> = imports.iter().map(|import| (*import).to_owned()).collect();
        super::grants(&manifest, &imports)
            .into_iter()
            .map(|permission| (permission.line, permission.status, permission.needed_by.len()))
            .collect()
    }

    #[test]
    fn grants_list_their_imports_and_missing_grants_are_reported() {
        let grants = "cluster_services = [{ ports = [8265] }]\n\
            kubernetes = [{ group = '', resources = ['pods'], verbs = ['get'], namespaces = ['ray'] }]\n\
            objects = ['ray']";
        let imports = ["wasi:http/types@0.2.12", "dagster-ray:host/packages@0.1.0", "wasi:cli/exit@0.2.12"];
        let rule =
            r#"kubernetes = { group = "", resources = ["pods"], verbs = ["get"], namespaces = ["ray"] }"#;
        assert_eq!(
            permissions(grants, &imports),
            [
                ("cluster_services = [{ ports = [8265] }]".to_owned(), GrantStatus::Used, 1),
                (rule.to_owned(), GrantStatus::Used, 1),
                ("packages = true".to_owned(), GrantStatus::Missing, 1),
                (r#"objects = ["ray"]"#.to_owned(), GrantStatus::Unused, 0),
            ]
        );
    }

    #[test]
    fn networks_alone_do_not_grant_http() {
        let imports = ["wasi:http/types@0.2.12"];
        assert_eq!(
            permissions("networks = ['private']", &imports),
            [
                (r#"networks = ["private"]"#.to_owned(), GrantStatus::Used, 1),
                (r#"http = ["address"]"#.to_owned(), GrantStatus::Missing, 1),
            ]
        );
    }

    #[test]
    fn default_grants_are_never_reported_as_unused() {
        let manifest = Manifest::for_component(Path::new("/nowhere/x.wasm")).unwrap();
        let imports = ["wasi:http/types@0.2.12".to_owned()];
        let lines: Vec<_> =
            grants(&manifest, &imports).into_iter().map(|permission| permission.line).collect();
        assert_eq!(lines, [r#"http = ["address"]"#]);
    }

    #[test]
    fn a_written_limit_differs_from_an_equal_default() {
        let text = "id = 'x'\n[limits]\nmemory_mib = 128\ncall_seconds = 0.5";
        let manifest = Manifest::parse(text, Path::new("x.toml")).unwrap();
        let limits = limits(&manifest, text);
        let found = |name: &str| {
            let limit = limits.iter().find(|limit| limit.limit == name).unwrap();
            (limit.value.to_string(), limit.is_explicit)
        };
        assert_eq!(found("memory_mib"), ("128".to_owned(), true));
        assert_eq!(found("call_seconds"), ("0.5".to_owned(), true));
        assert_eq!(found("handles"), ("1024".to_owned(), false));
    }
}
