//! The component to check, with its connections.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use dagster_ray_runtime::{BackendOptions, Interceptor};
use serde_json::{Map, Value as Json};

/// A component to check, with its connections and the choice of rules.
#[derive(Clone, Default)]
pub struct Subject {
    /// The component and its connections, as in Dagster's configuration.
    pub backend: BackendOptions,
    /// Whether there is a service that the component uses: a Ray, a Kubernetes cluster, or a cassette.
    /// Without one, the rules that need it are skipped, and no request is sent.
    pub has_service: bool,
    /// The interfaces whose rules are run. Empty means all interfaces.
    pub only: Vec<String>,
    /// The options that the specs of each interface start from.
    pub options: BTreeMap<String, Map<String, Json>>,
    /// Intercepts the requests that no rule injects a fault into: records them, or replays a cassette.
    pub interceptor: Option<Arc<dyn Interceptor>>,
    /// Whether the interceptor responds to every request. The component's clock runs faster then.
    pub is_replayed: bool,
    /// Returns whether to stop early. Objects that rules have created are removed in any case.
    pub stop: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

impl Subject {
    /// Creates a subject without connections, settings or options.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        let backend = BackendOptions { path: file.into(), ..BackendOptions::default() };
        Self { backend, ..Self::default() }
    }

    pub(crate) fn includes(&self, interface: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == interface)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop())
    }
}
