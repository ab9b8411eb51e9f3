//! Loads a component file: checks it with `dagster_ray_policy::check`, compiles and links it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dagster_ray_policy::audit::{AuditLine, TARGET};
use dagster_ray_policy::manifest::Manifest;
use dagster_ray_policy::{Checked, Introspection, LoadError, open};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::cache;
use crate::capability::CallState;
use crate::error::engine_error;
use crate::host::Host;
use crate::linker;
use crate::options::BackendOptions;
use crate::precompiled;

/// A component that is ready to be called.
pub(crate) struct Loaded {
    pub(crate) manifest: Manifest,
    pub(crate) digest: String,
    pub(crate) introspection: Introspection,
    pub(crate) instance: InstancePre<CallState>,
    /// Warnings for the operator.
    pub(crate) warnings: Vec<String>,
    /// Whether the warnings have been reported.
    pub(crate) has_warned: AtomicBool,
    /// Whether the operator restricts the grants.
    pub(crate) is_restricted: bool,
}

/// Loads the component file of a configuration.
pub(crate) fn load(host: &Host, options: &BackendOptions) -> Result<Arc<Loaded>, LoadError> {
    let BackendOptions { path, restriction, .. } = options;
    // Installed components are as trusted as the extension module that contains this code.
    let trusted = options.trusted_keys.as_ref().filter(|_| !host.is_installed(path));
    let opened = open(path, restriction, options.sha256.as_deref(), trusted).inspect_err(|error| {
        if let Some(line) = AuditLine::refusal(error, "load") {
            tracing::info!(target: TARGET, "{line}");
        }
    })?;
    let installed = precompiled::load(host.engine(), host.installed(), path, opened.digest());
    let (checked, component) = match installed {
        Some(component) => {
            let (imports, exports) = names(host, &component);
            (opened.check_compiled(imports, exports)?, component)
        }
        None => {
            let checked = opened.check()?;
            let component = cache::component(host.engine(), &checked.digest, &checked.bytes);
            (checked, component.map_err(engine_error)?)
        }
    };
    let Checked { manifest, digest, introspection, warnings, .. } = checked;
    let mut linker = Linker::new(host.engine());
    linker::build(&mut linker, &manifest.grants).map_err(engine_error)?;
    let instance = linker.instantiate_pre(&component).map_err(|error| LoadError::NotAComponent {
        path: path.clone(),
        problem: format!("it does not match the contract: {error:#}"),
    })?;
    tracing::info!(component = manifest.id, digest, "loaded {}", path.display());
    let (has_warned, is_restricted) = (AtomicBool::new(false), restriction.grants.is_some());
    Ok(Arc::new(Loaded { manifest, digest, introspection, instance, warnings, has_warned, is_restricted }))
}

/// Returns the names of a component's imports, and of the instances that it exports.
fn names(host: &Host, component: &Component) -> (Vec<String>, Vec<String>) {
    let types = component.component_type();
    let imports = types.imports(host.engine()).map(|(name, _)| name.to_owned()).collect();
    let exports = types
        .exports(host.engine())
        .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentInstance(_)))
        .map(|(name, _)| name.to_owned())
        .collect();
    (imports, exports)
}
