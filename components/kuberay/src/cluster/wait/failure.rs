//! Explains why a cluster did not become ready.

use dagster_ray_sdk::{Error, clock::Clock, http::Http, json, model::ApiError, progress::Level};
use serde_json::{Value, json};

use super::Wait;
use crate::{
    cluster::{head, state},
    kubernetes::{EVENT, Kind, RAY_JOB, Selection, object},
};

/// The lines of a container's log that are logged.
const LOG_LINES: u32 = 200;
/// The lines of a container's log that are part of the error.
const ERROR_LINES: usize = 30;

impl<H: Http, C: Clock> Wait<'_, H, C> {
    /// Returns whether KubeRay has not set the object's status yet.
    pub(super) fn has_no_status(&self) -> bool {
        let seen = if self.target.kind == RAY_JOB { &self.job } else { &self.cluster };
        seen.as_ref().is_none_or(|document| {
            document.get("status").and_then(Value::as_object).is_none_or(serde_json::Map::is_empty)
        })
    }

    /// Returns why KubeRay's operator rejected the manifest. The operator reports this only in an event and
    /// leaves the status empty.
    pub(super) fn rejection(&self) -> Option<String> {
        let which = format!("involvedObject.name={},type=Warning", self.target.name);
        let listed: Value = self
            .clusters
            .kubernetes
            .list(EVENT, &self.target.namespace, &Selection::Fields(which), &[])
            .ok()?;
        object::elements(&listed, "/items")
            .filter(|event| is_of_kind(event, self.target.kind))
            .find(|event| object::text(event, "/reason").is_some_and(|reason| reason.starts_with("Invalid")))
            .and_then(|event| object::text(event, "/message"))
            .map(str::to_owned)
    }

    /// Builds the error that ends the wait, with all known reasons and the end of the head's log.
    pub(super) fn failed(&self, reason: &str, what: &str, why: Option<String>) -> Error {
        let mut message = format!("{} {what}", self.target.label());
        let mut parts: Vec<String> = why.into_iter().collect();
        parts.extend(self.cluster.as_ref().and_then(state::waits_for));
        parts.extend(self.cluster.as_ref().map(state::describe));
        parts.extend(self.head_failures.iter().cloned());
        if self.cluster.is_none() && self.has_no_status() {
            parts.push("KubeRay has not set its status; is the KubeRay operator running?".to_owned());
        }
        for part in parts {
            message.push_str("; ");
            message.push_str(&part);
        }
        let output = self
            .cluster_name()
            .map(|name| head::log_tails(&self.clusters.kubernetes, &self.target.namespace, &name, LOG_LINES));
        if let Some(Ok(output)) = output {
            for (container, text) in output {
                self.listener.log(Level::Error, &format!("the last lines of {container}:\n{text}"));
                let lines: Vec<&str> = text.lines().collect();
                let last = &lines[lines.len().saturating_sub(ERROR_LINES)..];
                message.push_str(&format!("\nthe last lines of {container}:\n{}", last.join("\n")));
            }
        }
        let details = json!({
            "conditions": self.cluster.as_ref().map(|cluster| cluster.pointer("/status/conditions").cloned()),
            "head": self.head_failures,
        });
        Error::Backend(ApiError {
            status: 0,
            reason: reason.to_owned(),
            message,
            details: Some(json::text(&details)),
        })
    }
}

fn is_of_kind(event: &Value, kind: Kind) -> bool {
    object::text(event, "/involvedObject/kind") == Some(kind.kind)
}
