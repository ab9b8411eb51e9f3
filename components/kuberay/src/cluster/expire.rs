//! Finding what nobody needs any more.
//!
//! Whoever made it can have been killed at any moment, so nothing is needed from it but what it
//! wrote on the object when it made it.

use std::collections::BTreeSet;

use dagster_ray_sdk::{Error, clock::Clock, http::Http, warn};
use serde_json::Value;

use super::{Clusters, Details, create::TTL, created_at};
use crate::{
    bindings::cluster::{ClusterInfo, Expiry},
    kubernetes::{RAY_CLUSTER, RAY_JOB, object},
    labels, leases,
    time::WallClock,
};

impl<H: Http, C: Clock, W: WallClock> Clusters<H, C, W> {
    /// Finds the clusters, and the RayJobs, that nobody needs any more.
    pub fn expired(&self, rule: &Expiry) -> Result<Vec<ClusterInfo>, Error> {
        let live_runs: BTreeSet<String> = rule.live_runs.iter().map(|run| labels::value(run)).collect();
        let details = Details { only_if_unused: true, ..Details::default() };
        let now = self.wall.epoch_s();
        let mut found = Vec::new();
        for kind in [RAY_CLUSTER, RAY_JOB] {
            let documents = match self.documents(kind, &rule.query) {
                Ok(documents) => documents,
                // Who only has clusters may well have no right to look at jobs.
                Err(Error::Backend(api)) if api.status == 403 && kind == RAY_JOB => {
                    warn!("RayJobs are left out: {}", api.message);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let over = documents.iter().filter(|one| is_expired(one, &live_runs, rule.older_than_s, now));
            found.extend(over.map(|document| self.info(kind, document, &details)));
        }
        Ok(found)
    }
}

fn is_expired(document: &Value, live_runs: &BTreeSet<String>, older_than_s: u64, now_s: u64) -> bool {
    let its = object::labels(document);
    // What another object owns goes with that one, and what is not Dagster's is not ours to judge.
    if object::is_deleting(document) || object::is_owned(document) || !labels::is_dagsters(&its) {
        return false;
    }
    if labels::run_id(&its).is_some_and(|run| live_runs.contains(&labels::value(run))) {
        return false;
    }
    if !leases::live(document, now_s).is_empty() {
        return false;
    }
    // Its holders were known, and none is left: their leases have told its age already.
    if its.get(labels::SHARING) == Some(&"true") && leases::any(document) {
        return true;
    }
    let own: Option<u64> = object::annotations(document).get(TTL).and_then(|seconds| seconds.parse().ok());
    let allowed = own.map_or(older_than_s, |own| own.min(older_than_s));
    match created_at(document) {
        0 => false,
        created => now_s.saturating_sub(created) >= allowed,
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

    fn gone(document: &Value, live: &[&str], older_than_s: u64) -> bool {
        is_expired(document, &live.iter().map(|run| (*run).to_owned()).collect(), older_than_s, NOW)
    }

    #[test]
    fn a_live_run_or_a_live_holder_keeps_a_cluster_and_age_alone_does_not_kill_it() {
        let old = cluster(json!({"dagster/run-id": "r"}), None);
        assert!(!gone(&old, &["r"], 0));
        assert!(gone(&old, &["other"], 3_600));
        assert!(!gone(&old, &["other"], 3_601));
        let seed = cluster(json!({"dagster.io/run_id": "r", "dagster.io/deployment": "dev"}), None);
        assert!(!gone(&seed, &["r"], 0) && gone(&seed, &[], 0));
        let held = cluster(json!({"dagster/run-id": "r", "dagster/cluster-sharing": "true"}), Some(59));
        assert!(!gone(&held, &[], 0));
        let lost = cluster(json!({"dagster/run-id": "r", "dagster/cluster-sharing": "true"}), Some(60));
        assert!(gone(&lost, &[], 1_000_000));
        assert!(!gone(&lost, &["r"], 0));
    }

    #[test]
    fn what_is_not_dagsters_or_goes_with_another_object_is_left_alone() {
        assert!(!gone(&cluster(json!({"team": "x"}), None), &[], 0));
        let mut owned = cluster(json!({"dagster/run-id": "r"}), None);
        owned["metadata"]["ownerReferences"] = json!([{"kind": "RayJob"}]);
        assert!(!gone(&owned, &[], 0));
    }

    #[test]
    fn a_cluster_can_ask_to_be_given_up_sooner() {
        let mut brief = cluster(json!({"dagster/run-id": "r"}), None);
        brief["metadata"]["annotations"][TTL] = "600".into();
        assert!(gone(&brief, &[], 14_400));
    }
}
