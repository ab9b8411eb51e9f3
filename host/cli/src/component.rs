//! The component that an argument names.

use dagster_ray_registry::{Found, Named, Pulled, RegistryError, Work, named};

use crate::context::Context;
use crate::exit::{Interrupted, Usage};
use crate::interrupt::LOOK;

/// What the argument of that name stands for, in every command.
pub(crate) const COMPONENT_HELP: &str =
    "A built-in name, the path of a .wasm file, or oci://host/name@sha256:…";

/// The component that an argument names, fetched where it is not on this machine yet.
///
/// # Errors
/// Where it names none, or a registry does not give it.
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

/// Waits for a registry, with a sign of life.
///
/// # Errors
/// Where it fails, or the user gives up.
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
