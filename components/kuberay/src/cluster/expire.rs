//! Finds expired clusters and RayJobs.
//!
//! Their owner can have been killed at any time, so the decision uses only the labels and annotations of the
//! object, the live runs and the API server's time.

use std::collections::BTreeSet;

use dagster_ray_sdk::{
    Error,
    bindings::cluster::{Expirations, Expiry},
    clock::Clock,
    http::Http,
    warn,
};
use serde_json::Value;

use super::{Clusters, Details, created_at};
use crate::{
    annotations::TTL,
    kubernetes::{LONG_FIELDS, RAY_CLUSTER, RAY_JOB, object},
    labels, leases, pool,
};

impl<H: Http, C: Clock> Clusters<H, C> {
    /// Returns the RayClusters and RayJobs of a deployment that have no live run and no live lease, and are old
    /// enough. Returns those that other deployments or earlier versions created, too.
    pub fn expired(&self, rule: &Expiry) -> Result<Expirations, Error> {
        let live_runs: BTreeSet<String> = rule.live_runs.iter().map(|run| labels::value(run)).collect();
        let details = Details { only_if_unused: true, ..Details::default() };
        let mut found = Expirations { expired: Vec::new(), not_owned: Vec::new() };
        for kind in [RAY_CLUSTER, RAY_JOB] {
            let listed = self.each_object(kind, &rule.query, &LONG_FIELDS, &mut |document| {
                let now = self.kubernetes.now_s()?;
                if is_expired(&document, &rule.deployment, &live_runs, rule.older_than_s, now) {
                    found.expired.push(self.info(kind, &document, &details)?);
                } else if is_not_owned(&document, &rule.deployment) {
                    found.not_owned.push(self.info(kind, &document, &details)?);
                }
                Ok(())
            });
            match listed {
                // A deployment that uses only RayClusters may have no permission for RayJobs.
                Err(Error::Backend(api)) if api.status == 403 && kind == RAY_JOB => {
                    warn!("skipping RayJobs: {}", api.message);
                }
                listed => listed?,
            }
        }
        Ok(found)
    }
}

fn is_expired(
    document: &Value,
    deployment: &str,
    live_runs: &BTreeSet<String>,
    older_than_s: u64,
    now_s: u64,
) -> bool {
    let object_labels = object::labels(document);
    // An object with an owner in Kubernetes is deleted with that owner.
    if object::is_deleting(document) || object::is_owned(document) {
        return false;
    }
    // The runs of the pool decide, and the reconciliation of its deployment.
    if pool::reconcile::is_of_pool(document) {
        return false;
    }
    // The live runs are those of this deployment, so they say nothing about the clusters of another one.
    if !labels::is_owned(&object_labels, deployment) {
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

/// Returns whether Dagster created an object for another deployment, or for an unknown one.
fn is_not_owned(document: &Value, deployment: &str) -> bool {
    let object_labels = object::labels(document);
    let is_separate = !object::is_deleting(document) && !object::is_owned(document);
    is_separate && labels::is_from_dagster(&object_labels) && !labels::is_owned(&object_labels, deployment)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::leases::Lease;

    const NOW: u64 = 1_795_490_590;

    /// Returns a cluster of the deployment `d`.
    fn cluster(mut labels: Value, lease_age: Option<u64>) -> Value {
        labels[labels::DEPLOYMENT_ID] = "d".into();
        let mut annotations = serde_json::Map::new();
        annotations.extend(lease_age.map(|age| {
            let (holder, renewed_at) = ("h".to_owned(), NOW - age);
            Lease { holder, renewed_at, ttl_seconds: 60, renew_seconds: None }.annotation()
        }));
        json!({"metadata": {
            "name": "c", "labels": labels, "annotations": annotations,
            "creationTimestamp": "2026-11-24T02:23:10Z",
        }})
    }

    fn expired(document: &Value, live: &[&str], older_than_s: u64) -> bool {
        is_expired(document, "d", &live.iter().map(|run| (*run).to_owned()).collect(), older_than_s, NOW)
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
    fn only_the_clusters_of_the_rules_deployment_expire() {
        let ended = json!({"dagster/run-id": "r", "dagster/cluster-sharing": "true"});
        for owner in [Value::Null, "".into(), "other".into()] {
            let mut kept = cluster(ended.clone(), Some(60));
            kept["metadata"]["labels"][labels::DEPLOYMENT_ID] = owner.clone();
            for deployment in ["d", ""] {
                assert!(is_not_owned(&kept, deployment), "{owner} {deployment}");
                assert!(!is_expired(&kept, deployment, &BTreeSet::new(), 0, NOW), "{owner} {deployment}");
            }
        }
        let named = "my team/etl@prod";
        let mut ours = cluster(ended, None);
        ours["metadata"]["labels"][labels::DEPLOYMENT_ID] = labels::value(named).into();
        assert!(is_expired(&ours, named, &BTreeSet::new(), 0, NOW) && !is_not_owned(&ours, named));
        let not_of_dagster = json!({"metadata": {"name": "c", "labels": {"team": "x"}}});
        assert!(!is_not_owned(&not_of_dagster, "d"));
    }

    #[test]
    fn an_object_that_another_object_owns_never_expires() {
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
