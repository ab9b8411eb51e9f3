//! Reads the health of a RayService from its status (KubeRay 1.4 and later).

use dagster_ray_sdk::{
    Error,
    bindings::cluster::{ClusterState, EndpointSet},
    json::Value,
};

use crate::kubernetes::{condition::condition, object};

/// KubeRay's condition for a service with endpoints.
const READY: &str = "Ready";
/// KubeRay's condition for a service with two clusters.
const UPGRADING: &str = "UpgradeInProgress";
/// The reasons of the condition `Ready` after which KubeRay does not try again.
const FINAL_REASONS: [&str; 2] = ["ValidationFailed", "InitializingTimeout"];
/// Serve's status of a healthy application.
const RUNNING: &str = "RUNNING";
/// Serve's status of an application that it could not deploy, and does not try again.
const DEPLOY_FAILED: &str = "DEPLOY_FAILED";
const DASHBOARD_PORT: u16 = 8_265;

/// The health of the specification that was deployed last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Its cluster has the traffic, and all its applications are healthy.
    Healthy,
    /// It is being deployed, as this sentence says.
    Pending(String),
    /// It cannot be deployed, for this reason.
    Failed(String),
}

/// Returns the health of the specification that was deployed last.
#[must_use]
pub fn health(service: &Value) -> Health {
    let ready = condition(service, READY);
    if let Some(ready) = &ready
        && ready.status != "True"
        && FINAL_REASONS.contains(&ready.reason.as_str())
    {
        return Health::Failed(ready.summary());
    }
    let number = |pointer| service.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    if number("/status/observedGeneration") < number("/metadata/generation") {
        return Health::Pending("KubeRay has not processed the new specification yet".to_owned());
    }
    let part = if cluster(service, PENDING).is_some() { PENDING } else { ACTIVE };
    let all = applications(service, part);
    if let Some(failed) = all.iter().find(|one| one.status == DEPLOY_FAILED) {
        return Health::Failed(failed.describe());
    }
    let open: Vec<String> =
        all.iter().filter(|one| one.status != RUNNING).map(Application::describe).collect();
    let Some(name) = cluster(service, part) else {
        return Health::Pending("KubeRay has not created a cluster yet".to_owned());
    };
    if !open.is_empty() {
        return Health::Pending(open.join("; "));
    }
    if all.is_empty() {
        return Health::Pending(format!("the cluster {name} is starting"));
    }
    if part == PENDING || condition(service, UPGRADING).is_some_and(|one| one.status == "True") {
        return Health::Pending(format!("the cluster {name} is about to get the traffic"));
    }
    match ready {
        Some(ready) if ready.status == "True" => Health::Healthy,
        Some(ready) => Health::Pending(ready.summary()),
        None => Health::Pending("KubeRay has not set its status yet".to_owned()),
    }
}

/// The part of the status with the cluster that has the traffic.
pub const ACTIVE: &str = "activeServiceStatus";
/// The part of the status with the cluster of a new version.
pub const PENDING: &str = "pendingServiceStatus";

/// Returns the name of the RayCluster in a part of the status.
#[must_use]
pub fn cluster<'s>(service: &'s Value, part: &str) -> Option<&'s str> {
    object::text(service, &format!("/status/{part}/rayClusterName"))
}

struct Application {
    name: String,
    status: String,
    messages: Vec<String>,
}

impl Application {
    fn describe(&self) -> String {
        let mut text = format!("the application {} is {}", self.name, self.status);
        for message in &self.messages {
            text.push_str(": ");
            text.push_str(message);
        }
        text
    }
}

fn applications(service: &Value, part: &str) -> Vec<Application> {
    let all = service.pointer(&format!("/status/{part}/applicationStatuses")).and_then(Value::as_object);
    all.into_iter()
        .flatten()
        .map(|(name, one)| {
            let own = object::text(one, "/message").map(str::to_owned);
            let deployments = one.get("serveDeploymentStatuses").and_then(Value::as_object);
            let of_deployments = deployments.into_iter().flatten().filter_map(|(name, deployment)| {
                let is_healthy = object::text(deployment, "/status") == Some("HEALTHY");
                let message = object::text(deployment, "/message").filter(|_| !is_healthy)?;
                Some(format!("{name}: {message}"))
            });
            Application {
                name: name.clone(),
                status: object::text(one, "/status").unwrap_or("NOT_STARTED").to_owned(),
                messages: own.into_iter().chain(of_deployments).collect(),
            }
        })
        .collect()
}

/// Returns the state of a service as that of a cluster, and its reason.
#[must_use]
pub fn of(service: &Value) -> (ClusterState, Option<String>) {
    if object::is_deleting(service) {
        return (ClusterState::Deleting, None);
    }
    match health(service) {
        Health::Healthy => (ClusterState::Ready, None),
        Health::Pending(reason) => (ClusterState::Starting, Some(reason)),
        Health::Failed(reason) => (ClusterState::Failed, Some(reason)),
    }
}

/// Returns the addresses of a service, whether or not it is healthy. The host is that of the Kubernetes Service of
/// Serve's proxies.
#[must_use]
pub fn endpoints(service: &Value) -> EndpointSet {
    let (namespace, name) = (object::namespace(service), object::name(service));
    let own = object::text(service, "/spec/serveService/metadata/name");
    let serve = own.map_or_else(|| format!("{name}-serve-svc"), str::to_owned);
    EndpointSet {
        host: format!("{serve}.{namespace}.svc"),
        dashboard_url: format!("http://{name}-head-svc.{namespace}.svc:{DASHBOARD_PORT}"),
        client_address: None,
        gcs_address: None,
    }
}

/// Returns the addresses of a healthy service. `label` names it.
///
/// # Errors
/// [`Error::Unavailable`] if it is not healthy.
pub fn endpoints_if_healthy(service: &Value, label: &str) -> Result<EndpointSet, Error> {
    match health(service) {
        Health::Healthy => Ok(endpoints(service)),
        Health::Pending(reason) | Health::Failed(reason) => {
            Err(Error::unavailable(format!("{label} is not healthy: {reason}"), false))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(status: Value) -> Value {
        json!({"metadata": {"name": "s", "namespace": "ray", "generation": 2}, "status": status})
    }

    fn part(cluster: &str, application: &str) -> Value {
        let statuses = json!({"default": {"status": application, "message": "why", "serveDeploymentStatuses": {
            "Model": {"status": "UNHEALTHY", "message": "no module named torch"},
        }}});
        json!({"rayClusterName": cluster, "applicationStatuses": statuses})
    }

    fn conditions(ready: &str, upgrading: &str) -> Value {
        json!([
            {"type": "Ready", "status": ready, "reason": "NonZeroServeEndpoints"},
            {"type": "UpgradeInProgress", "status": upgrading, "reason": "R"},
        ])
    }

    fn kind(status: Value) -> &'static str {
        match health(&service(status)) {
            Health::Healthy => "healthy",
            Health::Pending(_) => "pending",
            Health::Failed(_) => "failed",
        }
    }

    #[test]
    fn a_service_is_healthy_when_the_new_cluster_has_the_traffic_and_runs_its_applications() {
        let done = json!({
            "observedGeneration": 2, ACTIVE: part("new", "RUNNING"), "conditions": conditions("True", "False"),
        });
        assert_eq!(kind(done.clone()), "healthy");
        let with = |field: &str, value: Value| {
            let mut changed = done.clone();
            changed[field] = value;
            kind(changed)
        };
        assert_eq!(with("observedGeneration", json!(1)), "pending");
        assert_eq!(with(ACTIVE, part("new", "DEPLOYING")), "pending");
        assert_eq!(with(ACTIVE, json!({})), "pending");
        assert_eq!(with("conditions", conditions("False", "False")), "pending");
        // The old cluster serves while the new one starts.
        assert_eq!(with(PENDING, json!({"rayClusterName": "newer"})), "pending");
        assert_eq!(with(PENDING, part("newer", "RUNNING")), "pending");
        assert_eq!(with(PENDING, part("newer", "DEPLOY_FAILED")), "failed");
        assert_eq!(with(ACTIVE, part("new", "DEPLOY_FAILED")), "failed");
    }

    #[test]
    fn the_reason_of_a_failed_deployment_is_that_of_serve_or_of_kuberay() {
        let failing = json!({"observedGeneration": 2, PENDING: part("newer", "DEPLOY_FAILED")});
        let Health::Failed(reason) = health(&service(failing)) else { panic!() };
        assert_eq!(reason, "the application default is DEPLOY_FAILED: why: Model: no module named torch");
        let invalid = json!({"conditions": [
            {"type": "Ready", "status": "False", "reason": "ValidationFailed", "message": "no"},
        ]});
        let Health::Failed(reason) = health(&service(invalid)) else { panic!() };
        assert!(reason.contains("ValidationFailed: no"), "{reason}");
    }
}
