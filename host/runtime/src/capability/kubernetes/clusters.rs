//! The Kubernetes clusters of the process, one for each kubeconfig and context.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::cluster::Cluster;
use super::kubeconfig::KubernetesOptions;
use super::services::Services;

type Known = BTreeMap<KubernetesOptions, (Arc<Cluster>, Services)>;

/// The Kubernetes clusters of a host.
#[derive(Clone, Default)]
pub(crate) struct Clusters(Arc<Mutex<Known>>);

impl Clusters {
    /// Returns the cluster of the options. The kubeconfig is read at its first use.
    pub(crate) fn get(&self, options: &KubernetesOptions) -> (Arc<Cluster>, Services) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .entry(options.clone())
            .or_insert_with(|| {
                let cluster = Arc::new(Cluster::new(options.clone()));
                (cluster.clone(), Services::new(cluster))
            })
            .clone()
    }
}
