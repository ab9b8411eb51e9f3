//! Finds the component that an argument names.

use dagster_ray_registry::{ComponentFile, Location, Pulled, RegistryError, Transfer, resolve};

use crate::context::Context;
use crate::exit::{Interrupted, Usage};
use crate::interrupt::POLL_INTERVAL;

/// The help text of the argument `COMPONENT`, for all commands.
pub(crate) const COMPONENT_HELP: &str =
    "A built-in name, the path of a .wasm file, or oci://host/name@sha256:…";

/// Finds the component that an argument names, and fetches it if it is not on this machine.
///
/// # Errors
/// If the argument names no component, or the registry does not return it.
pub(crate) fn find(context: &Context, name: &str) -> anyhow::Result<ComponentFile> {
    match resolve(name, &context.installation.components).map_err(|error| Usage(error.to_string()))? {
        Location::File(path) => Ok(ComponentFile { path, sha256: None }),
        Location::Artifact(pinned) => {
            let transfer = Transfer::pull(
                pinned.reference().clone(),
                dagster_ray_runtime::cache_directory(),
                context.trusted_keys()?,
            );
            let pulled: Pulled = wait(context, &format!("fetching {pinned}"), transfer)?;
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
    transfer: Result<Transfer<T>, RegistryError>,
) -> anyhow::Result<T> {
    let transfer = transfer?;
    let _progress = context.output.progress(what);
    loop {
        if let Some(outcome) = transfer.wait(POLL_INTERVAL) {
            return Ok(outcome?);
        }
        if context.interrupt.is_raised() {
            return Err(Interrupted.into());
        }
    }
}
