//! I/O backend that stores values as files in a directory.

use dagster_ray_values::backend::Backend;

/// The I/O backend `files`.
pub struct Files;

impl Backend for Files {
    const NAME: &str = "files";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &str = "Stores values as files in a directory.";
    const STORE: &str = "directory";
}

dagster_ray_values::export_backend!(Files);
