//! Finds the component that an argument names.

use dagster_ray_registry::{Found, Named, Pulled, RegistryError, Work, named};

use crate::context::Context;
use crate::exit::{Interrupted, Usage};
use crate::interrupt::LOOK;

/// The help text of the argument `COMPONENT`, for all commands.
pub(crate) const COMPONENT_HELP: &str =
    "A built-in name, the path of a .wasm file, or oci://host/name@sha256:…";

/// Finds the component that an argument names, and fetches it if it is not on this machine.
///
/// # Errors
/// If the argument names no component, or the registry does not return it.
pub(crate) fn find(context: &Context, name: &str) -> anyhow::Result<Found> {
    match named(name, &context.installation.components).map_err(|error| Usage(error.to_string()))? {
        Named::File(path) => Ok(Found { path, sha256: None }),
        Named::Artifact(pinned) => {
            let work = Work::pull(pinned.place().clone(), dagster_ray_runtime::cache_directory());
            let pulled: Pulled = wait(context, &format!("fetching {pinned}"), work)?;
            Ok(pulled.component)
        }
    }
}

/// Waits for an operation of a registry, and shows a progress indicator.
///
/// # Errors
/// If the operation fails, or the user interrupts it.
pub(crate) fn wait<T: Send + 'static>(
    context: &Context,
    what: &str,
    work: Result<Work<T>, RegistryError>,
) -> anyhow::Result<T> {
    let work = work?;
    let _progress = context.output.progress(what);
    loop {
        if let Some(outcome) = work.wait(LOOK) {
            return Ok(outcome?);
        }
        if context.interrupt.is_raised() {
            return Err(Interrupted.into());
        }
    }
}
