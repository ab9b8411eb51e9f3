//! The configuration of a backend.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use dagster_ray_policy::manifest::Restriction;
use dagster_ray_policy::{Authority, TrustedKeys};

use crate::capability::kubernetes::KubernetesOptions;
use crate::capability::objects::ObjectStore;
use crate::capability::tasks::TaskRunner;

/// The configuration of a backend.
#[derive(Clone, Default)]
pub struct BackendOptions {
    /// The component file.
    pub path: PathBuf,
    /// The values of `wasi:config/store`.
    pub settings: BTreeMap<String, String>,
    /// The authorities that the configuration names, with their credentials.
    pub authorities: Vec<Authority>,
    /// The Kubernetes cluster behind `kubernetes.internal`.
    pub kubernetes: KubernetesOptions,
    /// The commands of programs, by the names that a manifest can grant.
    pub programs: BTreeMap<String, Vec<String>>,
    /// The value stores, by the names that a manifest can grant.
    pub stores: BTreeMap<String, Arc<dyn ObjectStore>>,
    /// The client of Ray that executes steps as tasks.
    pub tasks: Option<Arc<dyn TaskRunner>>,
    /// The directories of buckets, by the names that a manifest can grant.
    pub buckets: BTreeMap<String, PathBuf>,
    /// Directories and files that the component may read and upload.
    pub directories: Vec<PathBuf>,
    /// The operator's restriction of the manifest.
    pub restriction: Restriction,
    /// The SHA-256 that the file must have, in hexadecimal.
    pub sha256: Option<String>,
    /// The keys of which one must have signed the component, unless it is installed with the package.
    pub trusted_keys: Option<TrustedKeys>,
}
