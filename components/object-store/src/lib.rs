//! I/O backend that stores values in Ray's object store. An actor that outlives the step owns them.

use dagster_ray_values::backend::Backend;

/// The I/O backend `object-store`.
pub struct ObjectStore;

impl Backend for ObjectStore {
    const NAME: &str = "object-store";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &str = "Stores values in Ray's object store, owned by an actor that outlives the step.";
    const STORE: &str = "ray";
}

dagster_ray_values::export_backend!(ObjectStore);
