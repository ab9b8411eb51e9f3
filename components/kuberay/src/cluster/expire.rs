//! Finds expired clusters and RayJobs.
//!
//! Their owner can have been killed at any time, so the decision uses only the labels and annotations of the
//! object, the live runs and the clock.

use std::collections::BTreeSet;

use dagster_ray_sdk::{
    Error,
    bindings::cluster::{ClusterInfo, Expiry},
    clock::Clock,
    http::Http,
    warn,
};
use serde_json::Value;

use super::{Clusters, Details, created_at};
use crate::{
    annotations::TTL,
    kubernetes::{RAY_CLUSTER, RAY_JOB, object},
    labels, leases,
    time::WallClock,
};

impl<H: Http, C: Clock, W: WallClock> Clusters<H, C, W> {
    /// Returns the RayClusters and RayJobs that have no live run and no live lease, and are old enough.
    pub fn expired(&self, rule: &Expiry) -> Result<Vec<ClusterInfo>, Error> {
        let live_runs: BTreeSet<String> = rule.live_runs.iter().map(|run| labels::value(run)).collect();
        let details = Details { only_if_unused: true, ..Details::default() };
        let now = self.wall.epoch_s();
        let mut found = Vec::new();
        for kind in [RAY_CLUSTER, RAY_JOB] {
            let documents = match self.list_objects(kind, &rule.query) {
                Ok(documents) => documents,
                // A deployment that uses only RayClusters may have no permission for RayJobs.
                Err(Error::Backend(api)) if api.status == 403 && kind == RAY_JOB => {
                    warn!("skipping RayJobs: {}", api.message);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let expired = documents.iter().filter(|one| is_expired(one, &live_runs, rule.older_than_s, now));
            found.extend(expired.map(|document| self.info(kind, document, &details)));
        }
        Ok(found)
    }
}

fn is_expired(document: &Value, live_runs: &BTreeSet<String>, older_than_s: u64, now_s: u64) -> bool {
    let object_labels = object::labels(document);
    // An owned object is deleted with its owner, and an object without Dagster's labels is never deleted.
    if object::is_deleting(document) || object::is_owned(document) || !labels::is_from_dagster(&object_labels)
    {
        return false;
    }
    if labels::run_id(&object_labels).is_some_and(|run| live_runs.contains(&labels::value(run))) {
        return false;
    }
    if !leases::unexpired(document, now_s).is_empty() {
        return false;
    }
    // All leases of this shared cluster have expired, so its age does not matter.
    if object_labels.get(labels::SHARING) == Some(&"true") && leases::has_any(document) {
        return true;
    }
    let ttl_s: Option<u64> = object::annotations(document).get(TTL).and_then(|seconds| seconds.parse().ok());
    let max_age_s = ttl_s.map_or(older_than_s, |ttl_s| ttl_s.min(older_than_s));
    match created_at(document) {
        0 => false,
        created => now_s.saturating_sub(created) >= max_age_s,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::leases::Lease;

    const NOW: u64 = 1_795_490_590;

    fn cluster(labels: Value, lease_age: Option<u64>) -> Value {
        let mut annotations = serde_json::Map::new();
        annotations.extend(lease_age.map(|age| {
            Lease { holder: "h".to_owned(), renewed_at: NOW - age, ttl_seconds: 60 }.annotation()
        }));
        json!({"metadata": {
            "name": "c", "labels": labels, "annotations": annotations,
            "creationTimestamp": "2026-11-24T02:23:10Z",
        }})
    }

    fn expired(document: &Value, live: &[&str], older_than_s: u64) -> bool {
        is_expired(document, &live.iter().map(|run| (*run).to_owned()).collect(), older_than_s, NOW)
    }

    #[test]
    fn a_cluster_expires_by_age_or_lost_leases_unless_its_run_or_a_lease_is_live() {
        let old = cluster(json!({"dagster/run-id": "r"}), None);
        assert!(!expired(&old, &["r"], 0));
        assert!(expired(&old, &["other"], 3_600));
        assert!(!expired(&old, &["other"], 3_601));
        let seed = cluster(json!({"dagster.io/run_id": "r", "dagster.io/deployment": "dev"}), None);
        assert!(!expired(&seed, &["r"], 0) && expired(&seed, &[], 0));
        let held = cluster(json!({"dagster/run-id": "r", "dagster/cluster-sharing": "true"}), Some(59));
        assert!(!expired(&held, &[], 0));
        let lost = cluster(json!({"dagster/run-id": "r", "dagster/cluster-sharing": "true"}), Some(60));
        assert!(expired(&lost, &[], 1_000_000));
        assert!(!expired(&lost, &["r"], 0));
    }

    #[test]
    fn owned_objects_and_objects_without_dagsters_labels_never_expire() {
        assert!(!expired(&cluster(json!({"team": "x"}), None), &[], 0));
        let mut owned = cluster(json!({"dagster/run-id": "r"}), None);
        owned["metadata"]["ownerReferences"] = json!([{"kind": "RayJob"}]);
        assert!(!expired(&owned, &[], 0));
    }

    #[test]
    fn the_ttl_annotation_shortens_the_age_at_which_a_cluster_expires() {
        let mut brief = cluster(json!({"dagster/run-id": "r"}), None);
        brief["metadata"]["annotations"][TTL] = "600".into();
        assert!(expired(&brief, &[], 14_400));
    }
}
