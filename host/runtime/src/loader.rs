//! From a file to a component that can be called.
//!
//! Everything that can be checked without an engine is (`dagster_ray_policy::check`), and only then
//! is the component compiled.

use std::path::Path;
use std::sync::Arc;

use dagster_ray_policy::manifest::{Manifest, Narrowing};
use dagster_ray_policy::{Checked, Introspection, LoadError, check};
use wasmtime::component::{InstancePre, Linker};

use crate::cache;
use crate::error::refused;
use crate::host::Host;
use crate::linker;
use crate::store::State;

/// A component that can be called.
pub(crate) struct Loaded {
    pub(crate) manifest: Manifest,
    pub(crate) digest: String,
    pub(crate) introspection: Introspection,
    pub(crate) instance: InstancePre<State>,
}

/// Loads a component file.
pub(crate) fn load(
    host: &Host,
    path: &Path,
    narrowing: &Narrowing,
    pinned: Option<&str>,
) -> Result<Arc<Loaded>, LoadError> {
    let Checked { bytes, manifest, digest, introspection } = check(path, narrowing, pinned)?;
    let component = cache::component(host.engine(), &digest, &bytes).map_err(refused)?;
    let mut linker = Linker::new(host.engine());
    linker::build(&mut linker, &manifest.grants).map_err(refused)?;
    let instance = linker.instantiate_pre(&component).map_err(|error| LoadError::NotAComponent {
        path: path.to_owned(),
        problem: format!("it does not fit the contract: {error:#}"),
    })?;
    tracing::info!(component = manifest.id, digest, "loaded {}", path.display());
    Ok(Arc::new(Loaded { manifest, digest, introspection, instance }))
}
