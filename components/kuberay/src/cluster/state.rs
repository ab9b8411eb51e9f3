//! Reads the state of a cluster from the status of a RayCluster or RayJob (KubeRay 1.4 and later).

use dagster_ray_sdk::bindings::cluster::{ClusterState, EndpointSet};
use serde_json::Value;

use super::service;
use crate::{
    job::status,
    kubernetes::{
        Kind, RAY_JOB, RAY_SERVICE,
        condition::{Condition, HEAD_READY, REPLICA_FAILURE, condition, conditions},
        object,
    },
    labels,
};

/// KubeRay's condition for a cluster whose pods have all been ready once since it was created or resumed.
const PROVISIONED: &str = "RayClusterProvisioned";
/// Part of the API server's message if a pod would exceed a ResourceQuota (Kubernetes, "Resource Quotas").
const EXCEEDED_QUOTA: &str = "exceeded quota";
/// Ray's default ports, used if the status names none.
const CLIENT_PORT: &str = "10001";
const GCS_PORT: &str = "6379";

/// Returns the state of an object of this kind, a RayCluster, a RayJob or a RayService, and its reason.
#[must_use]
pub fn of(kind: Kind, document: &Value) -> (ClusterState, Option<String>) {
    match kind {
        RAY_JOB => job_cluster_state(document),
        RAY_SERVICE => service::state::of(document),
        _ => cluster_state(document),
    }
}

/// Returns the state of a RayCluster and its reason.
#[must_use]
pub fn cluster_state(cluster: &Value) -> (ClusterState, Option<String>) {
    let reason = object::text(cluster, "/status/reason").map(str::to_owned);
    if object::is_deleting(cluster) {
        return (ClusterState::Deleting, reason);
    }
    if let Some(reason) = failure(cluster) {
        return (ClusterState::Failed, Some(reason));
    }
    match object::text(cluster, "/status/state") {
        Some("suspended") => (ClusterState::Suspended, waits_for(cluster).or(reason)),
        Some("ready") if endpoints(cluster).is_some() => (ClusterState::Ready, reason),
        _ => {
            let waiting = condition(cluster, HEAD_READY).filter(|one| one.status != "True");
            (ClusterState::Starting, waiting.map(|one| one.summary()).or(reason))
        }
    }
}

/// Returns the state of a RayJob's cluster and its reason.
#[must_use]
pub fn job_cluster_state(job: &Value) -> (ClusterState, Option<String>) {
    if object::is_deleting(job) {
        return (ClusterState::Deleting, None);
    }
    let found = status::from_manifest("", job);
    let state = match object::text(job, "/status/jobDeploymentStatus") {
        Some("Suspended" | "Suspending") => ClusterState::Suspended,
        Some("Waiting" | "Running") => ClusterState::Ready,
        // The cluster is deleted after the job has ended.
        Some("Complete") => ClusterState::Deleting,
        Some("Failed" | "ValidationFailed") => ClusterState::Failed,
        _ => ClusterState::Starting,
    };
    (state, found.message)
}

/// Returns the reason of a failure that KubeRay reports in a RayCluster's state.
#[must_use]
pub fn failure(cluster: &Value) -> Option<String> {
    let reason = || object::text(cluster, "/status/reason").unwrap_or("KubeRay gives no reason").to_owned();
    (object::text(cluster, "/status/state") == Some("failed")).then(reason)
}

/// Returns why KubeRay cannot create or delete a RayCluster's pods, such as a quota or a missing permission.
#[must_use]
pub fn replica_failure(cluster: &Value) -> Option<String> {
    condition(cluster, REPLICA_FAILURE).filter(|one| one.status == "True").map(|one| one.summary())
}

/// Returns what a RayCluster waits for that only others can give it, as a predicate: it is suspended, or its
/// pods would exceed a quota. Such a cluster has not failed, and can wait for any time.
#[must_use]
pub fn waits_for(cluster: &Value) -> Option<String> {
    let is_suspended = object::text(cluster, "/status/state") == Some("suspended")
        || cluster.pointer("/spec/suspend") == Some(&Value::Bool(true));
    if is_suspended {
        return Some(status::suspended(labels::queue(cluster)));
    }
    let refused = replica_failure(cluster).filter(|reason| reason.contains(EXCEEDED_QUOTA))?;
    Some(format!("waits for quota ({refused})"))
}

/// Returns whether a RayCluster has not been ready since it was created or resumed, so that no job of it runs.
#[must_use]
pub fn was_never_ready(cluster: &Value) -> bool {
    let provisioned = condition(cluster, PROVISIONED).is_some_and(|one| one.status == "True");
    !provisioned && endpoints(cluster).is_none()
}

/// Returns the endpoints of a RayCluster, or `None` if it is not ready.
///
/// The host is `<service>.<namespace>.svc`, which every Kubernetes cluster resolves, whatever its DNS domain.
#[must_use]
pub fn endpoints(cluster: &Value) -> Option<EndpointSet> {
    if object::text(cluster, "/status/state") != Some("ready") {
        return None;
    }
    // The state stays `ready` while KubeRay replaces a head that died.
    if condition(cluster, HEAD_READY).is_some_and(|one| one.status != "True") {
        return None;
    }
    let service = object::text(cluster, "/status/head/serviceName")?;
    let host = format!("{service}.{}.svc", object::namespace(cluster));
    let dashboard = object::text(cluster, "/status/endpoints/dashboard")?;
    let port = |name: &str, otherwise: &'static str| {
        object::text(cluster, &format!("/status/endpoints/{name}")).unwrap_or(otherwise).to_owned()
    };
    Some(EndpointSet {
        dashboard_url: format!("http://{host}:{dashboard}"),
        client_address: Some(format!("ray://{host}:{}", port("client", CLIENT_PORT))),
        gcs_address: Some(format!("{host}:{}", port("gcs-server", GCS_PORT))),
        host,
    })
}

/// Returns a RayCluster's state, reason and failing conditions as one line of text.
#[must_use]
pub fn describe(cluster: &Value) -> String {
    if cluster.pointer("/status").and_then(Value::as_object).is_none_or(serde_json::Map::is_empty) {
        return "KubeRay has not set its status; is the KubeRay operator running?".to_owned();
    }
    let mut parts =
        vec![format!("state {}", object::text(cluster, "/status/state").unwrap_or("not known yet"))];
    parts.extend(object::text(cluster, "/status/reason").map(str::to_owned));
    parts.extend(conditions(cluster).filter(is_problem).map(|one| one.summary()));
    parts.join("; ")
}

/// Returns whether a condition reports a problem.
fn is_problem(condition: &Condition) -> bool {
    match condition.kind.as_str() {
        HEAD_READY | "RayClusterProvisioned" => condition.status != "True",
        _ => condition.status == "True",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(head_ready: &str) -> Value {
        json!({
            "metadata": {"name": "c", "namespace": "team-a"},
            "status": {
                "state": "ready",
                "head": {"serviceName": "my-svc"},
                "endpoints": {"dashboard": "8265", "client": "10002", "gcs-server": "6379"},
                "conditions": [{"type": "HeadPodReady", "status": head_ready, "reason": "ContainersNotReady"}],
            },
        })
    }

    #[test]
    fn endpoints_use_the_service_and_ports_of_the_status() {
        let found = endpoints(&cluster("True")).unwrap();
        assert_eq!(found.host, "my-svc.team-a.svc");
        assert_eq!(found.dashboard_url, "http://my-svc.team-a.svc:8265");
        assert_eq!(found.client_address.as_deref(), Some("ray://my-svc.team-a.svc:10002"));
    }

    #[test]
    fn a_cluster_whose_head_is_not_ready_is_starting_although_its_state_is_ready() {
        assert_eq!(endpoints(&cluster("False")), None);
        let (state, reason) = cluster_state(&cluster("False"));
        assert_eq!(state, ClusterState::Starting);
        assert!(reason.unwrap().contains("ContainersNotReady"));
    }

    #[test]
    fn kuberays_status_of_a_job_decides_the_state_of_its_cluster() {
        for (deployment, job, expected) in [
            ("", "", ClusterState::Starting),
            ("Initializing", "", ClusterState::Starting),
            ("Retrying", "FAILED", ClusterState::Starting),
            ("Suspended", "", ClusterState::Suspended),
            ("Waiting", "", ClusterState::Ready),
            ("Running", "FAILED", ClusterState::Ready),
            ("Complete", "SUCCEEDED", ClusterState::Deleting),
            ("ValidationFailed", "", ClusterState::Failed),
            ("Failed", "STOPPED", ClusterState::Failed),
        ] {
            let document = json!({"status": {"jobDeploymentStatus": deployment, "jobStatus": job}});
            assert_eq!(job_cluster_state(&document).0, expected, "{deployment} {job}");
        }
    }

    #[test]
    fn a_missing_status_suggests_that_the_operator_is_not_running() {
        assert!(describe(&json!({"metadata": {}})).contains("is the KubeRay operator running"));
    }
}
