//! Backend for values: keeps values in Ray's object store, owned by an actor that outlives the step.

use dagster_ray_values::backend::Backend;

/// The backend.
pub struct ObjectStore;

impl Backend for ObjectStore {
    const NAME: &str = "object-store";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &str = "Keeps values in Ray's object store, owned by an actor that outlives the step.";
    const STORE: &str = "ray";
}

dagster_ray_values::export_backend!(ObjectStore);
