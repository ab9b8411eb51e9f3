//! Kubernetes: its API under the virtual authority `kubernetes.internal`, and the services of the
//! cluster by their names.
//!
//! A component sends plain HTTP. Which cluster that is, where it lies and who the user is, the
//! configuration says; credentials and TLS are the host's business. Each request to the API is
//! decided on as the API server's own authorizer would, by verb, group, resource and namespace.

mod api;
mod client;
mod cluster;
mod endpoints;
mod failure;
mod forward;
mod kubeconfig;
mod services;
mod stream;

use std::sync::Arc;

use dagster_ray_policy::kubernetes::ServiceName;
pub use dagster_ray_policy::kubernetes::{Resource, Rule, Verb};

pub use self::failure::Failure;
pub use self::forward::Forward;
pub use self::kubeconfig::{KubernetesOptions, Place};

pub(crate) use self::api::{Admitted, Refused, admit, is_meant, send};
pub(crate) use self::cluster::{Cluster, Clusters};
pub(crate) use self::services::Services;

/// Opens a local port that leads to a service of the cluster.
pub(crate) async fn forward(
    cluster: Arc<Cluster>,
    namespace: &str,
    service: &str,
    port: u16,
) -> Result<Forward, Failure> {
    let name = ServiceName::new(service, namespace)
        .ok_or_else(|| Failure::Name { name: service.to_owned(), namespace: namespace.to_owned() })?;
    forward::open(cluster, name, port).await
}
