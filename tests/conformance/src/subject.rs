//! What is checked, and what it is lent.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use dagster_ray_runtime::BackendOptions;
use dagster_ray_runtime::capability::http::cassette::CassetteMode;
use serde_json::{Map, Value as Json};

/// A component with what it is lent.
#[derive(Clone, Default)]
pub struct Subject {
    /// The component and its connections, as in Dagster's configuration.
    pub backend: BackendOptions,
    /// Whether what the component talks to is there: a Ray, a cluster, or a cassette of one.
    /// Without it, the rules that need it are left out, and every request is refused.
    pub has_service: bool,
    /// The interfaces whose rules are tried. All of them where none is named.
    pub only: Vec<String>,
    /// Options to begin with, by interface: what its specs carry as `options`.
    pub options: BTreeMap<String, Map<String, Json>>,
    /// Records what is asked and answered, or answers from such a record.
    pub cassette: Option<CassetteMode>,
    /// Says whether to stop early. What rules have made is removed then, too.
    pub stop: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

impl Subject {
    /// A component with nothing but its file.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        let backend = BackendOptions { path: file.into(), ..BackendOptions::default() };
        Self { backend, ..Self::default() }
    }

    pub(crate) fn asks_for(&self, interface: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == interface)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop())
    }
}
