//! Finds a ready pod of a Service.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::ListParams;

use super::cluster::Access;
use super::failure::Failure;
use dagster_ray_policy::kubernetes::ServiceName;
use dagster_ray_policy::kubernetes::rbac::{GET_SERVICE, HostRule, LIST_ENDPOINTS};

/// A pod's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) pod: String,
    pub(super) port: u16,
}

/// Returns a ready pod of a Service, with the pod's port for the Service's port.
pub(super) async fn ready(access: &Access, service: &ServiceName, port: u16) -> Result<Endpoint, Failure> {
    let services = Api::<Service>::namespaced(access.client.clone(), &service.namespace);
    let slices = Api::<EndpointSlice>::namespaced(access.client.clone(), &service.namespace);
    // The EndpointSlice controller sets this label on a Service's slices.
    let labels = format!("kubernetes.io/service-name={}", service.name);
    let params = ListParams::default().labels(&labels);
    let (found, slices) = tokio::try_join!(services.get_opt(&service.name), slices.list(&params))
        .map_err(|error| refused(access, &error, &service.namespace, &[GET_SERVICE, LIST_ENDPOINTS]))?;
    let location = || access.location.clone();
    let (name, namespace) = (service.name.clone(), service.namespace.clone());
    let Some(found) = found else {
        return Err(Failure::NoService { location: location(), name, namespace });
    };
    match target(&found, port) {
        Target::Missing(known) => Err(Failure::NoPort { location: location(), name, namespace, port, known }),
        target => pick(&slices.items, &target).ok_or_else(|| Failure::NoPod {
            location: location(),
            name,
            namespace,
        }),
    }
}

/// Converts an error of the API server. For a 403, the failure names the RBAC rule to add.
pub(super) fn refused(access: &Access, error: &kube::Error, namespace: &str, rules: &[HostRule]) -> Failure {
    match error {
        kube::Error::Api(status) if status.code == 403 => Failure::Forbidden {
            location: access.location.clone(),
            message: status.message.clone(),
            namespace: namespace.to_owned(),
            rule: rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        },
        error => access.failure(error),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// The pod's port number.
    Number(u16),
    /// The name of a port in the EndpointSlices.
    Name(String),
    /// The Service does not have the port. The text lists its ports.
    Missing(String),
}

/// Returns the target of a Service's port. A headless Service resolves to its pods, so the port is the
/// pod's. Any other Service maps its ports.
fn target(service: &Service, port: u16) -> Target {
    let Some(spec) = &service.spec else { return Target::Number(port) };
    if spec.cluster_ip.as_deref() == Some("None") {
        return Target::Number(port);
    }
    let ports = spec.ports.as_deref().unwrap_or_default();
    match ports.iter().find(|known| known.port == i32::from(port)) {
        Some(found) => Target::Name(found.name.clone().unwrap_or_default()),
        None => {
            let known: Vec<_> = ports.iter().map(|port| port.port.to_string()).collect();
            Target::Missing(known.join(", "))
        }
    }
}

fn pick(slices: &[EndpointSlice], target: &Target) -> Option<Endpoint> {
    slices.iter().find_map(|slice| {
        let port = match target {
            Target::Number(port) => *port,
            Target::Name(name) => {
                let ports = slice.ports.as_deref().unwrap_or_default();
                let named = ports.iter().find(|port| port.name.as_deref().unwrap_or_default() == name)?;
                u16::try_from(named.port?).ok()?
            }
            Target::Missing(_) => return None,
        };
        let pod = slice.endpoints.iter().find_map(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            // "A nil value should be interpreted as true."
            let is_ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
            let pod = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"))?;
            if is_ready { pod.name.clone() } else { None }
        })?;
        Some(Endpoint { pod, port })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slices(ready: serde_json::Value) -> Vec<EndpointSlice> {
        let slice = json!({
            "addressType": "IPv4",
            "metadata": {},
            "ports": [{ "name": "dashboard", "port": 18265 }],
            "endpoints": [
                { "addresses": ["10.0.0.1"], "conditions": { "ready": false }, "targetRef": { "kind": "Pod", "name": "old" } },
                { "addresses": ["10.0.0.2"], "conditions": ready, "targetRef": { "kind": "Pod", "name": "new" } },
            ],
        });
        vec![serde_json::from_value(slice).unwrap()]
    }

    fn service(spec: serde_json::Value) -> Service {
        serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap()
    }

    #[test]
    fn only_ready_pods_are_picked() {
        let port = Target::Number(8265);
        let new = Some(Endpoint { pod: "new".into(), port: 8265 });
        assert_eq!(pick(&slices(json!({ "ready": true })), &port), new);
        assert_eq!(pick(&slices(json!({})), &port), new);
        assert_eq!(pick(&slices(json!({ "ready": false })), &port), None);
    }

    #[test]
    fn service_ports_are_mapped_unless_the_service_is_headless() {
        let headless = service(json!({ "clusterIP": "None", "ports": [{ "port": 1 }] }));
        assert_eq!(target(&headless, 8265), Target::Number(8265));
        let mapped =
            service(json!({ "clusterIP": "10.43.0.9", "ports": [{ "name": "dashboard", "port": 80 }] }));
        assert_eq!(target(&mapped, 80), Target::Name("dashboard".into()));
        assert_eq!(target(&mapped, 8265), Target::Missing("80".into()));
        let found = pick(&slices(json!({ "ready": true })), &target(&mapped, 80));
        assert_eq!(found, Some(Endpoint { pod: "new".into(), port: 18265 }));
    }
}
