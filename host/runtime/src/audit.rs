//! The audit trail of calls.
//!
//! The call in progress is a task-local value, so that no capability can deny a request without a line. A future
//! that another task polls must be wrapped with [`within`].

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use dagster_ray_policy::audit::{AuditEvent, AuditLine, TARGET};
use serde_json::Value;

use crate::model::Denial;
use crate::usage::UsageCounter;

/// Maximum number of denials of one call that are logged, so that a component cannot flood the log.
const MAX_DENIALS: usize = 64;
/// Maximum number of runs that a line names.
const MAX_RUNS: usize = 16;

tokio::task_local! {
    static CURRENT: Arc<AuditedCall>;
}

/// A call, as its lines name it.
pub(crate) struct AuditedCall {
    component: String,
    digest: String,
    export: String,
    /// The call's arguments, as JSON.
    arguments: Arc<str>,
    runs: OnceLock<Vec<String>>,
    logged: Mutex<Logged>,
    usage: UsageCounter,
}

#[derive(Debug, Default)]
struct Logged {
    denials: usize,
    /// Authorities and credentials.
    credentials: BTreeSet<(String, String)>,
}

impl AuditedCall {
    pub(crate) fn new(
        component: &str,
        digest: &str,
        export: &str,
        arguments: Arc<str>,
        usage: UsageCounter,
    ) -> Self {
        Self {
            component: component.to_owned(),
            digest: digest.to_owned(),
            export: export.to_owned(),
            arguments,
            runs: OnceLock::new(),
            logged: Mutex::default(),
            usage,
        }
    }

    /// Returns what the host does in the name of a component outside of a call, such as a port-forward.
    pub(crate) fn operation(component: &str, digest: &str, name: &str) -> Self {
        Self::new(component, digest, name, "".into(), UsageCounter::default())
    }

    /// Runs a future as part of this call.
    pub(crate) async fn scope<T>(self, future: impl Future<Output = T>) -> T {
        CURRENT.scope(Arc::new(self), future).await
    }

    fn log(&self, event: AuditEvent<'_>) {
        let runs = self.runs.get_or_init(|| runs(&self.arguments));
        let line =
            AuditLine { event, component: &self.component, digest: &self.digest, export: &self.export, runs };
        tracing::info!(target: TARGET, "{line}");
    }

    fn denied(&self, denial: &Denial) {
        self.usage.denied();
        let count = {
            let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
            logged.denials += 1;
            logged.denials
        };
        let Denial { capability, target, grant } = denial;
        match count {
            ..=MAX_DENIALS => self.log(AuditEvent::Denied { capability, target, grant }),
            count if count == MAX_DENIALS + 1 => self.log(AuditEvent::DenialsOmitted),
            _ => {}
        }
    }

    fn credential(&self, authority: &str, credential: &str) {
        let key = (authority.to_owned(), credential.to_owned());
        let is_new = self.logged.lock().unwrap_or_else(PoisonError::into_inner).credentials.insert(key);
        if is_new {
            self.log(AuditEvent::Credential { authority, credential });
        }
    }
}

/// Logs a denied request of the call in progress.
pub(crate) fn denied(denial: &Denial) {
    let _ = CURRENT.try_with(|call| call.denied(denial));
}

/// Logs a credential that the host adds to requests of the call in progress, once for each authority.
pub(crate) fn credential(authority: &str, credential: &str) {
    let _ = CURRENT.try_with(|call| call.credential(authority, credential));
}

/// Returns a future that another task can poll as part of the call in progress.
pub(crate) fn within<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let call = CURRENT.try_with(Arc::clone);
    async move {
        match call {
            Ok(call) => CURRENT.scope(call, future).await,
            Err(_) => future.await,
        }
    }
}

/// Returns the values of the fields `run_id` in a call's arguments.
fn runs(arguments: &str) -> Vec<String> {
    fn collect(value: &Value, runs: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(run)) = fields.get("run_id")
                    && runs.len() < MAX_RUNS
                    && !runs.contains(run)
                {
                    runs.push(run.clone());
                }
                fields.values().for_each(|field| collect(field, runs));
            }
            Value::Array(elements) => elements.iter().for_each(|element| collect(element, runs)),
            _ => {}
        }
    }
    let mut runs = Vec::new();
    collect(&serde_json::from_str(arguments).unwrap_or_default(), &mut runs);
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runs_are_those_that_the_arguments_name() {
        let arguments = r#"{"steps": [{"run_id": "a"}, {"run_id": "b"}, {"run_id": "a"}], "run_id": 1}"#;
        assert_eq!(runs(arguments), ["a", "b"]);
        assert!(runs("no JSON").is_empty());
    }
}
