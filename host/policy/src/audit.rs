//! The lines of the audit trail: one for each denied request, for each credential that a call uses, and for each
//! component that is refused.

use std::fmt;

use serde::Serialize;

use crate::error::LoadError;

/// The target of the audit trail's `tracing` events. The logger in Python is `dagster_ray.audit`.
pub const TARGET: &str = "dagster_ray_audit";

/// An event, which is shown as one line of JSON. It contains no credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditLine<'a> {
    /// What happened.
    #[serde(flatten)]
    pub event: AuditEvent<'a>,
    /// The component's id. For a component that is refused, its file or reference.
    pub component: &'a str,
    /// The component file's SHA-256, in hexadecimal. Empty if the file was not read.
    pub digest: &'a str,
    /// The called export, such as `launcher.launch`; `load` and `pull` if none was called.
    pub export: &'a str,
    /// The runs that the call's arguments name.
    pub runs: &'a [String],
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum AuditEvent<'a> {
    /// The host refused a request of the component.
    Denied {
        /// The capability, such as `http`.
        capability: &'a str,
        /// The target of the request, such as a URL.
        target: &'a str,
        /// The manifest's line that would allow it.
        grant: &'a str,
    },
    /// Further denials of the same call are not logged.
    DenialsOmitted,
    /// The host added a credential to a request of the component.
    Credential {
        /// The server that received the credential.
        authority: &'a str,
        /// The kind of credential: a header's name, or where it comes from.
        credential: &'a str,
    },
    /// The host did not load a component, because its signature or its digest is not the required one.
    Refused {
        /// What is wrong, and what to do.
        problem: &'a str,
    },
}

impl<'a> AuditLine<'a> {
    /// Returns the line for a component that was refused because of its signature or digest, and `None` for other
    /// errors. `export` is `load` or `pull`.
    pub fn refusal(error: &'a LoadError, export: &'a str) -> Option<Self> {
        let (path, problem, digest) = match error {
            LoadError::Signature { path, problem } => (path, problem.as_str(), ""),
            LoadError::Digest { path, found, .. } => {
                (path, "its sha256 is not the pinned one", found.as_str())
            }
            _ => return None,
        };
        let component = path.to_str().unwrap_or("a file whose name is not UTF-8");
        Some(Self { event: AuditEvent::Refused { problem }, component, digest, export, runs: &[] })
    }
}

impl fmt::Display for AuditLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        // JSON escapes the control characters up to U+001F only.
        for c in json.chars() {
            match c.is_control() {
                true => write!(f, "\\u{:04x}", u32::from(c))?,
                false => fmt::Write::write_char(f, c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_without_control_characters() {
        let event = AuditEvent::Denied { capability: "http", target: "a\n\u{9b}1m\"", grant: "g" };
        let runs = ["r".to_owned()];
        let line = AuditLine { event, component: "c", digest: "00", export: "launcher.plan", runs: &runs };
        let text = line.to_string();
        assert!(!text.contains(char::is_control), "{text:?}");
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "event": "denied", "capability": "http", "target": "a\n\u{9b}1m\"", "grant": "g",
            "component": "c", "digest": "00", "export": "launcher.plan", "runs": ["r"],
        });
        assert_eq!(read, expected);
    }
}
