//! Resolves the option `backend` to a component file or a registry reference.

use std::path::{Path, PathBuf};

use dagster_ray_registry::{ComponentFile, Location, PinnedReference, Transfer};
use dagster_ray_runtime::TrustedKeys;
use pyo3::prelude::*;

use crate::call::LOOK;
use crate::{errors, log};

/// Returns the path of a component, or its reference in a registry. Nothing is fetched.
#[pyfunction]
pub(crate) fn named(py: Python<'_>, name: &str, components: PathBuf) -> PyResult<String> {
    match dagster_ray_registry::resolve(name, &components) {
        Ok(Location::File(path)) => Ok(path.display().to_string()),
        Ok(Location::Artifact(reference)) => Ok(reference.to_string()),
        Err(error) => Err(errors::invalid(py, "backend", &format!("backend: {error}"))),
    }
}

/// Parses a registry reference. Returns `None` for the path of a file.
pub(crate) fn parse(py: Python<'_>, wasm: &Path) -> PyResult<Option<PinnedReference>> {
    match wasm.to_str() {
        Some(text) if text.starts_with(dagster_ray_registry::SCHEME) => {
            PinnedReference::parse(text).map(Some).map_err(|error| errors::registry(py, &error))
        }
        _ => Ok(None),
    }
}

/// Fetches the file of a reference into the machine's cache, unless it is there. With `trusted`, one of its keys
/// must have signed it.
pub(crate) fn fetch(
    py: Python<'_>,
    reference: &PinnedReference,
    trusted: Option<TrustedKeys>,
) -> PyResult<ComponentFile> {
    log::refresh(py);
    let cache = dagster_ray_runtime::cache_directory();
    let transfer = Transfer::pull(reference.reference().clone(), cache, trusted)
        .map_err(|error| errors::registry(py, &error))?;
    let transfer = std::sync::Mutex::new(transfer);
    loop {
        let outcome =
            py.detach(|| transfer.lock().unwrap_or_else(std::sync::PoisonError::into_inner).wait(LOOK));
        match outcome {
            Some(Ok(pulled)) => return Ok(pulled.component),
            Some(Err(error)) => return Err(errors::registry(py, &error)),
            None => py.check_signals()?,
        }
    }
}
