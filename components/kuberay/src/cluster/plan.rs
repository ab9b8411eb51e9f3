//! A cluster before its creation, and the wait until its name is free.

use dagster_ray_sdk::{Error, bindings::cluster::Owner, clock::Clock, http::Http};
use serde_json::Value;

use super::{Clusters, Details};
use crate::{
    kubernetes::{Kind, object},
    time::WallClock,
};

/// How long the deletion of an earlier cluster with the same name may take.
const TIMEOUT_MS: u64 = 120_000;
const PAUSE_MS: u64 = 500;

/// A cluster before its creation.
pub(super) struct Plan {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) document: Value,
    pub(super) owner: Owner,
    pub(super) details: Details,
}

impl Plan {
    pub(super) fn label(&self) -> String {
        format!("the {} {}/{}", self.kind.kind, self.namespace, object::name(&self.document))
    }
}

impl<H: Http, C: Clock, W: WallClock> Clusters<H, C, W> {
    /// Returns when [`Self::pause`] gives up, in milliseconds of the clock.
    pub(super) fn deadline(&self) -> u64 {
        self.kubernetes.clock().now_ms().saturating_add(TIMEOUT_MS)
    }

    /// Sleeps for [`PAUSE_MS`] while an earlier cluster with the name still exists.
    ///
    /// # Errors
    /// [`Error::Unavailable`] from `until` on, in milliseconds of the clock.
    pub(super) fn pause(&self, until: u64, plan: &Plan) -> Result<(), Error> {
        if self.kubernetes.clock().now_ms() >= until {
            let reason = format!(
                "{} still exists after {} s, so it cannot be replaced",
                plan.label(),
                TIMEOUT_MS / 1_000
            );
            return Err(Error::unavailable(reason, false));
        }
        self.kubernetes.clock().sleep_ms(PAUSE_MS);
        Ok(())
    }
}
