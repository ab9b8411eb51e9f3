//! The component that an argument names.

use dagster_ray_registry::Found;

use crate::context::Context;
use crate::exit::Usage;

/// What the argument of that name stands for, in every command.
pub(crate) const COMPONENT_HELP: &str = "A built-in name, or the path of a .wasm file";

/// The component that an argument names.
///
/// # Errors
/// Where it names none.
pub(crate) fn find(context: &Context, name: &str) -> anyhow::Result<Found> {
    dagster_ray_registry::find(name, &context.installation.components)
        .map_err(|error| Usage(error.to_string()).into())
}
