//! Who holds a shared cluster: one annotation each, so that holders never write over one another.
//!
//! A lease that is not renewed runs out by itself: its holder can be killed at any time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{kubernetes::object, names};

/// What a lease's annotation begins with. A digest of the holder follows.
pub const PREFIX: &str = "dagster-ray/holder-";

/// A claim on a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who claims it.
    pub holder: String,
    /// When it was last renewed, in seconds since the Unix epoch.
    pub renewed_at: u64,
    /// For how long it then holds.
    pub ttl_seconds: u64,
}

impl Lease {
    /// Whether it still holds.
    #[must_use]
    pub fn is_live(&self, now_s: u64) -> bool {
        self.renewed_at.saturating_add(self.ttl_seconds) > now_s
    }

    /// The annotation that holds it.
    #[must_use]
    pub fn annotation(&self) -> (String, Value) {
        let text =
            json!({"holder": self.holder, "renewed_at": self.renewed_at, "ttl_seconds": self.ttl_seconds});
        (key(&self.holder), text.to_string().into())
    }
}

/// The annotation of a holder.
#[must_use]
pub fn key(holder: &str) -> String {
    format!("{PREFIX}{}", names::digest(holder))
}

/// The claims on a cluster that still hold. One that cannot be read was not written by a holder.
#[must_use]
pub fn live(document: &Value, now_s: u64) -> Vec<Lease> {
    all(&object::annotations(document)).into_iter().filter(|lease| lease.is_live(now_s)).collect()
}

fn all(annotations: &BTreeMap<&str, &str>) -> Vec<Lease> {
    annotations
        .iter()
        .filter(|(name, _)| name.starts_with(PREFIX))
        .filter_map(|(_, text)| serde_json::from_str(text).ok())
        .collect()
}

/// Whether anyone ever claimed a cluster and has not let go.
#[must_use]
pub fn any(document: &Value) -> bool {
    !all(&object::annotations(document)).is_empty()
}
