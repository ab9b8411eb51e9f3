//! A cluster before its creation, and the wait until its name is free.

use dagster_ray_sdk::{Error, bindings::cluster::Owner, clock::Clock, http::Http};
use serde_json::Value;

use super::{Clusters, Details};
use crate::kubernetes::{Kind, object};

const PAUSE_MS: u64 = 500;

/// A cluster before its creation.
pub(crate) struct Plan {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(crate) document: Value,
    pub(super) owner: Owner,
    pub(super) details: Details,
}

impl Plan {
    pub(super) fn label(&self) -> String {
        format!("the {} {}/{}", self.kind.kind, self.namespace, object::name(&self.document))
    }
}

/// A wait for an earlier cluster with the name of a plan.
pub(super) struct Pause {
    until_ms: u64,
    timeout_s: u64,
}

impl<H: Http, C: Clock> Clusters<H, C> {
    /// Begins a wait that lasts at most `timeout_s` seconds.
    pub(super) fn begin_pause(&self, timeout_s: u64) -> Pause {
        let timeout_ms = timeout_s.saturating_mul(1_000);
        Pause { until_ms: self.kubernetes.clock().now_ms().saturating_add(timeout_ms), timeout_s }
    }

    /// Sleeps for [`PAUSE_MS`] while an earlier cluster with the name still exists. `state` says why the
    /// cluster can be neither used nor replaced, such as "is being deleted".
    ///
    /// # Errors
    /// [`Error::Unavailable`] at the end of the wait.
    pub(super) fn pause(&self, wait: &Pause, plan: &Plan, state: &str) -> Result<(), Error> {
        if self.kubernetes.clock().now_ms() >= wait.until_ms {
            let reason = format!(
                "{} exists and {state}, so it can be neither used nor replaced after {} s",
                plan.label(),
                wait.timeout_s
            );
            return Err(Error::unavailable(reason, false));
        }
        self.kubernetes.clock().sleep_ms(PAUSE_MS);
        Ok(())
    }
}
