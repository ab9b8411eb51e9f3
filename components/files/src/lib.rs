//! Backend for values: keeps values as files of a directory.

use dagster_ray_values::backend::Backend;

/// The backend.
pub struct Files;

impl Backend for Files {
    const NAME: &str = "files";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &str = "Keeps values as files of a directory.";
    const STORE: &str = "directory";
}

dagster_ray_values::export_backend!(Files);
