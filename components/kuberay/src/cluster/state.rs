//! KubeRay's word on a cluster: the status of RayCluster and RayJob, as of KubeRay 1.4 and later.

use dagster_ray_sdk::model::JobState;
use serde_json::Value;

use crate::{
    bindings::cluster::{ClusterState, EndpointSet},
    job::status,
    kubernetes::object,
};

/// KubeRay's condition that the head's pod serves (`HeadPodReady`).
const HEAD_READY: &str = "HeadPodReady";
/// KubeRay's condition that pods cannot be made or removed (`ReplicaFailure`).
const REPLICA_FAILURE: &str = "ReplicaFailure";
/// Ray's own ports, where the status names none.
const CLIENT_PORT: &str = "10001";
const GCS_PORT: &str = "6379";

/// A condition of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its type, such as `HeadPodReady`.
    pub kind: String,
    /// Whether it holds: `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in a word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

impl Condition {
    /// The condition in a sentence.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}={}", self.kind, self.status);
        for part in [&self.reason, &self.message] {
            if !part.is_empty() {
                text.push_str(": ");
                text.push_str(part);
            }
        }
        text
    }
}

/// The conditions of a RayCluster.
pub fn conditions(cluster: &Value) -> impl Iterator<Item = Condition> {
    object::elements(cluster, "/status/conditions").map(|one| {
        let part = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Condition {
            kind: part("type"),
            status: part("status"),
            reason: part("reason"),
            message: part("message"),
        }
    })
}

fn condition(cluster: &Value, kind: &str) -> Option<Condition> {
    conditions(cluster).find(|one| one.kind == kind)
}

/// Where a RayCluster is in its life, and why.
#[must_use]
pub fn of(cluster: &Value) -> (ClusterState, Option<String>) {
    let said = object::text(cluster, "/status/reason").map(str::to_owned);
    if object::is_deleting(cluster) {
        return (ClusterState::Deleting, said);
    }
    if let Some(reason) = failure(cluster) {
        return (ClusterState::Failed, Some(reason));
    }
    match object::text(cluster, "/status/state") {
        Some("suspended") => (ClusterState::Suspended, said),
        Some("ready") if endpoints(cluster).is_some() => (ClusterState::Ready, said),
        _ => {
            let waiting = condition(cluster, HEAD_READY).filter(|one| one.status != "True");
            (ClusterState::Starting, waiting.map(|one| one.text()).or(said))
        }
    }
}

/// Where the cluster that a RayJob makes is in its life, and why.
#[must_use]
pub fn of_job(job: &Value) -> (ClusterState, Option<String>) {
    if object::is_deleting(job) {
        return (ClusterState::Deleting, None);
    }
    let found = status::of_value("", job);
    let state = match object::text(job, "/status/jobDeploymentStatus") {
        Some("Suspended" | "Suspending") => ClusterState::Suspended,
        Some("Waiting" | "Running") => ClusterState::Ready,
        // The cluster goes with the job, sooner or later.
        Some("Complete") => ClusterState::Deleting,
        _ if found.state == JobState::Failed => ClusterState::Failed,
        _ => ClusterState::Starting,
    };
    (state, found.message)
}

/// Why KubeRay says that a RayCluster failed, where it says so.
#[must_use]
pub fn failure(cluster: &Value) -> Option<String> {
    let said = || object::text(cluster, "/status/reason").unwrap_or("KubeRay gives no reason").to_owned();
    (object::text(cluster, "/status/state") == Some("failed")).then(said)
}

/// Why KubeRay cannot make a RayCluster's pods, where that is so: a quota, a missing permission.
#[must_use]
pub fn replica_failure(cluster: &Value) -> Option<String> {
    condition(cluster, REPLICA_FAILURE).filter(|one| one.status == "True").map(|one| one.text())
}

/// Where a RayCluster is reached, once it can be used.
///
/// The head's service has a name in the cluster's DNS; `<service>.<namespace>.svc` is what every
/// cluster resolves, whatever its domain.
#[must_use]
pub fn endpoints(cluster: &Value) -> Option<EndpointSet> {
    if object::text(cluster, "/status/state") != Some("ready") {
        return None;
    }
    // The state stays `ready` while a head that died is made again.
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

/// A RayCluster's state in a sentence.
#[must_use]
pub fn describe(cluster: &Value) -> String {
    if cluster.pointer("/status").and_then(Value::as_object).is_none_or(serde_json::Map::is_empty) {
        return "KubeRay has not looked at it yet; does its operator run?".to_owned();
    }
    let mut parts =
        vec![format!("state {}", object::text(cluster, "/status/state").unwrap_or("not known yet"))];
    parts.extend(object::text(cluster, "/status/reason").map(str::to_owned));
    parts.extend(conditions(cluster).filter(matters).map(|one| one.text()));
    parts.join("; ")
}

/// Whether a condition says that something is not as it should be.
fn matters(condition: &Condition) -> bool {
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
    fn a_ready_cluster_is_reached_by_its_own_service_and_ports() {
        let found = endpoints(&cluster("True")).unwrap();
        assert_eq!(found.host, "my-svc.team-a.svc");
        assert_eq!(found.dashboard_url, "http://my-svc.team-a.svc:8265");
        assert_eq!(found.client_address.as_deref(), Some("ray://my-svc.team-a.svc:10002"));
    }

    #[test]
    fn a_cluster_whose_head_died_is_not_ready_although_its_state_says_so() {
        assert_eq!(endpoints(&cluster("False")), None);
        let (state, reason) = of(&cluster("False"));
        assert_eq!(state, ClusterState::Starting);
        assert!(reason.unwrap().contains("ContainersNotReady"));
    }

    #[test]
    fn an_operator_that_is_down_is_asked_about() {
        assert!(describe(&json!({"metadata": {}})).contains("does its operator run"));
    }
}
