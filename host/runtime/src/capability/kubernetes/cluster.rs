//! A Kubernetes cluster, and the client that is connected to it.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use kube::Client;
use tokio::sync::Mutex as AsyncMutex;

use super::client;
use super::failure::Failure;
use super::kubeconfig::{self, KubernetesOptions};
use super::location::ClusterLocation;
use crate::audit;

/// A Kubernetes cluster, connected at its first use.
pub(crate) struct Cluster {
    options: KubernetesOptions,
    /// The context of the first use.
    context: OnceLock<String>,
    access: AsyncMutex<Option<Access>>,
}

/// A client of a cluster, with the cluster's name in messages.
#[derive(Clone)]
pub(crate) struct Access {
    pub(super) client: Client,
    pub(super) location: Arc<ClusterLocation>,
    pub(super) made: Instant,
}

impl Access {
    /// Returns whether this process runs inside the cluster, where Service names can be resolved.
    pub(super) fn is_inside(&self) -> bool {
        self.location.from.is_none() || kubeconfig::is_own_server(&self.location.server)
    }

    /// Logs the use of the credentials in the audit trail.
    pub(super) fn audit(&self) {
        let credential = match &self.location.from {
            Some((_, context)) => format!("kubeconfig context {context}"),
            None => "service account".to_owned(),
        };
        audit::credential(&self.location.server, &credential);
    }

    pub(super) fn failure(&self, error: &kube::Error) -> Failure {
        Failure::from_kube(&self.location, error)
    }
}

impl Cluster {
    pub(super) fn new(options: KubernetesOptions) -> Self {
        Self { options, context: OnceLock::new(), access: AsyncMutex::new(None) }
    }

    /// Returns the client, and connects if there is none.
    pub(super) async fn access(&self) -> Result<Access, Failure> {
        let mut known = self.access.lock().await;
        if let Some(access) = known.as_ref() {
            return Ok(access.clone());
        }
        let access = self.connect().await?;
        *known = Some(access.clone());
        Ok(access)
    }

    /// Drops a client if reading the kubeconfig again could fix its failure. The next use reads it.
    pub(super) async fn forget_if_stale(&self, access: &Access, failure: &Failure) {
        if !failure.is_stale() {
            return;
        }
        let mut known = self.access.lock().await;
        if known.as_ref().is_some_and(|known| Arc::ptr_eq(&known.location, &access.location)) {
            *known = None;
        }
    }

    async fn connect(&self) -> Result<Access, Failure> {
        let found = kubeconfig::find(&self.options, self.context.get().map(String::as_str)).await?;
        if let Some((_, context)) = &found.location.from {
            self.context.get_or_init(|| context.clone());
        }
        let location = Arc::new(found.location);
        // A credential plugin is a program, so creating the client can block.
        let (config, proxy) = (found.config, found.proxy);
        let built = tokio::task::spawn_blocking(move || client::make(&config, proxy))
            .await
            .map_err(|error| Failure::Host(format!("the client could not be created: {error}")))?;
        let client = built.map_err(|error| match Failure::from_kube(&location, &error) {
            // No request was sent yet, so the kubeconfig is the cause.
            Failure::Lost { location, problem } => {
                let file =
                    location.from.as_ref().map_or_else(|| location.to_string(), |(file, _)| file.clone());
                Failure::Kubeconfig { file, problem }
            }
            failure => failure,
        })?;
        tracing::info!("Kubernetes at {location}");
        Ok(Access { client, location, made: Instant::now() })
    }
}
