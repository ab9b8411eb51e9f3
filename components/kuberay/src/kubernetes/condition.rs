//! Reads the conditions in an object's status.

use serde_json::Value;

use super::object;

/// KubeRay's condition for a ready head pod.
pub const HEAD_READY: &str = "HeadPodReady";

/// KubeRay's condition for pods that cannot be created or deleted.
pub const REPLICA_FAILURE: &str = "ReplicaFailure";

/// A condition of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The type, such as `HeadPodReady`.
    pub kind: String,
    /// The status: `True`, `False` or `Unknown`.
    pub status: String,
    /// The reason, in one word.
    pub reason: String,
    /// The reason, in a sentence.
    pub message: String,
}

impl Condition {
    /// Returns the condition as one line of text, without the names of pods that could not be created: those
    /// are generated anew for each attempt.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = format!("{}={}", self.kind, self.status);
        for part in [&self.reason, &self.message] {
            if !part.is_empty() {
                text.push_str(": ");
                text.push_str(&without_pod_name(part));
            }
        }
        text
    }
}

/// Removes the name from the API server's message `pods "<name>" is forbidden: …`.
fn without_pod_name(text: &str) -> String {
    const PODS: &str = "pods \"";

    match text.split_once(PODS).and_then(|(before, rest)| Some((before, rest.split_once('"')?.1))) {
        Some((before, after)) => format!("{before}pods{after}"),
        None => text.to_owned(),
    }
}

/// Returns the conditions of an object.
pub fn conditions(document: &Value) -> impl Iterator<Item = Condition> {
    object::elements(document, "/status/conditions").map(|one| {
        let part = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Condition {
            kind: part("type"),
            status: part("status"),
            reason: part("reason"),
            message: part("message"),
        }
    })
}

/// Returns the condition of this type, if the object has it.
#[must_use]
pub fn condition(document: &Value, kind: &str) -> Option<Condition> {
    conditions(document).find(|one| one.kind == kind)
}
