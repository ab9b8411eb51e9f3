//! Kubernetes: the API at the virtual authority `kubernetes.internal`, and Services of the cluster by
//! name.
//!
//! A component sends plain HTTP. The configuration selects cluster and user; the host adds credentials
//! and TLS. Each API request is authorized by verb, group, resource and namespace, like the API server's
//! own authorizers do.

mod api;
mod client;
mod cluster;
mod clusters;
mod endpoints;
mod failure;
mod forward;
mod kubeconfig;
mod location;
mod peer;
mod ray_tokens;
mod review;
mod services;
mod stream;

use std::sync::Arc;

use dagster_ray_policy::Policy;
use dagster_ray_policy::capability::cluster_services::{CAPABILITY, missing_grant};
use dagster_ray_policy::kubernetes::ServiceName;
pub use dagster_ray_policy::kubernetes::{Resource, Rule, Verb};

pub use self::failure::Failure;
pub use self::forward::Forward;
pub use self::kubeconfig::KubernetesOptions;
pub use self::location::ClusterLocation;
pub use self::review::{Group, Review};

pub use self::api::is_kubernetes_api;
pub(crate) use self::api::{Admitted, Rejection, admit, send};
pub(crate) use self::cluster::Cluster;
pub(crate) use self::clusters::Clusters;
pub(crate) use self::review::review;
pub(crate) use self::services::{DEFAULT_PORT, Services};
use super::denial;

/// Returns the authentication token of the RayCluster whose head has a Service, if the grant `cluster_services` allows
/// the Service. None if the cluster needs no token.
pub(crate) async fn ray_token(
    services: &Services,
    policy: &Policy,
    namespace: &str,
    service: &str,
    port: u16,
) -> Result<Option<String>, Failure> {
    let name = ServiceName::new(service, namespace)
        .ok_or_else(|| Failure::Name { name: service.to_owned(), namespace: namespace.to_owned() })?;
    if !policy.allows_service(&name, port) {
        let denial = denial(&CAPABILITY, format!("{name}:{port}"), missing_grant(&name, port));
        return Err(Failure::Denied { target: denial.target, grant: denial.grant });
    }
    services.ray_token(&name).await
}

/// Opens a local port that forwards to a Service of the cluster, if the grant `cluster_services` allows it.
pub(crate) async fn forward(
    cluster: Arc<Cluster>,
    policy: &Policy,
    namespace: &str,
    service: &str,
    port: u16,
) -> Result<Forward, Failure> {
    let name = ServiceName::new(service, namespace)
        .ok_or_else(|| Failure::Name { name: service.to_owned(), namespace: namespace.to_owned() })?;
    if !policy.allows_service(&name, port) {
        let denial = denial(&CAPABILITY, format!("{name}:{port}"), missing_grant(&name, port));
        return Err(Failure::Denied { target: denial.target, grant: denial.grant });
    }
    forward::open(cluster, name, port).await
}
