//! Leases on a shared cluster. Each holder has its own annotation, so holders never overwrite each other.
//!
//! A lease expires unless it is renewed, because a holder can be killed at any time. All times are the API
//! server's, so the clocks of holders are not compared.

use std::collections::BTreeMap;

use dagster_ray_sdk::json;
use dagster_ray_submission::ids;
use serde_json::{Value, json};

use crate::kubernetes::object;

/// The prefix of a lease's annotation. A digest of the holder follows.
pub const PREFIX: &str = "dagster-ray/holder-";

/// Renewals that a holder may miss before it counts as dead.
const MISSED_RENEWALS: u64 = 3;

/// A holder's lease on a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The holder's id.
    pub holder: String,
    /// The API server's time at the last renewal, in seconds since the Unix epoch.
    pub renewed_at: u64,
    /// Seconds after the last renewal at which the lease expires.
    pub ttl_seconds: u64,
    /// Seconds between two renewals, if the holder renews its lease regularly.
    pub renew_seconds: Option<u64>,
}

impl Lease {
    /// Returns whether the lease has not expired at `now_s`, in seconds since the Unix epoch.
    #[must_use]
    pub fn is_live(&self, now_s: u64) -> bool {
        self.renewed_at.saturating_add(self.ttl_seconds) > now_s
    }

    /// Returns whether the holder has renewed its lease on time, which shows earlier than [`Self::is_live`] that
    /// a holder is dead. A holder without regular renewals is alive until its lease expires.
    #[must_use]
    pub fn is_renewed(&self, now_s: u64) -> bool {
        let patience_s = self.renew_seconds.map_or(self.ttl_seconds, |interval_s| {
            interval_s.max(1).saturating_mul(MISSED_RENEWALS).min(self.ttl_seconds)
        });
        self.renewed_at.saturating_add(patience_s) > now_s
    }

    /// Parses an annotation's value.
    fn read(text: &str) -> Option<Self> {
        let lease = json::parse(text.as_bytes()).ok()?;
        Some(Self {
            holder: lease.get("holder")?.as_str()?.to_owned(),
            renewed_at: lease.get("renewed_at")?.as_u64()?,
            ttl_seconds: lease.get("ttl_seconds")?.as_u64()?,
            renew_seconds: lease.get("renew_seconds").and_then(Value::as_u64),
        })
    }

    /// Returns the annotation's key and value.
    #[must_use]
    pub fn annotation(&self) -> (String, Value) {
        let text = json!({
            "holder": self.holder,
            "renewed_at": self.renewed_at,
            "ttl_seconds": self.ttl_seconds,
            "renew_seconds": self.renew_seconds,
        });
        (key(&self.holder), json::text(&text).into())
    }
}

/// Returns the annotation key of a holder.
#[must_use]
pub fn key(holder: &str) -> String {
    format!("{PREFIX}{}", ids::digest(holder))
}

/// Returns the leases on a cluster, expired or not. Annotations that are not leases are ignored.
#[must_use]
pub fn of(document: &Value) -> Vec<Lease> {
    all(&object::annotations(document))
}

/// Returns the leases on a cluster that have not expired. Annotations that are not leases are ignored.
#[must_use]
pub fn unexpired(document: &Value, now_s: u64) -> Vec<Lease> {
    of(document).into_iter().filter(|lease| lease.is_live(now_s)).collect()
}

/// Returns the annotation keys of the leases on a cluster that have expired.
#[must_use]
pub fn expired_keys(document: &Value, now_s: u64) -> Vec<String> {
    let all = all(&object::annotations(document)).into_iter();
    all.filter(|lease| !lease.is_live(now_s)).map(|lease| key(&lease.holder)).collect()
}

/// Returns whether a holder of a cluster is alive, as far as its renewals show.
#[must_use]
pub fn has_living_holder(document: &Value, now_s: u64) -> bool {
    unexpired(document, now_s).iter().any(|lease| lease.is_renewed(now_s))
}

fn all(annotations: &BTreeMap<&str, &str>) -> Vec<Lease> {
    annotations
        .iter()
        .filter(|(name, _)| name.starts_with(PREFIX))
        .filter_map(|(_, text)| Lease::read(text))
        .collect()
}

/// Returns whether a cluster has any lease, expired or not. A released lease is removed.
#[must_use]
pub fn has_any(document: &Value) -> bool {
    !of(document).is_empty()
}
