//! Who holds a shared cluster: one annotation each, so that holders never write over one another.
//!
//! A lease that is not renewed runs out by itself: its holder can be killed at any time.

use std::collections::BTreeMap;

use dagster_ray_sdk::json;
use serde_json::{Value, json};

use crate::{kubernetes::object, names};

/// What a lease's annotation begins with. A digest of the holder follows.
pub const PREFIX: &str = "dagster-ray/holder-";

/// A claim on a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// Reads what an annotation holds.
    fn read(text: &str) -> Option<Self> {
        let lease = json::parse(text.as_bytes()).ok()?;
        Some(Self {
            holder: lease.get("holder")?.as_str()?.to_owned(),
            renewed_at: lease.get("renewed_at")?.as_u64()?,
            ttl_seconds: lease.get("ttl_seconds")?.as_u64()?,
        })
    }

    /// The annotation that holds it.
    #[must_use]
    pub fn annotation(&self) -> (String, Value) {
        let text =
            json!({"holder": self.holder, "renewed_at": self.renewed_at, "ttl_seconds": self.ttl_seconds});
        (key(&self.holder), json::text(&text).into())
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
        .filter_map(|(_, text)| Lease::read(text))
        .collect()
}

/// Whether anyone ever claimed a cluster and has not let go.
#[must_use]
pub fn any(document: &Value) -> bool {
    !all(&object::annotations(document)).is_empty()
}
