//! `dagster_ray._native`: the host as a Python module.
//!
//! The module converts arguments and results, waits without holding the interpreter, checks for signals
//! while it waits, and raises the exceptions of `dagster_ray.errors`.

mod call;
mod cli;
mod component;
mod errors;
mod forward;
mod installed;
mod log;
mod name;
mod objects;
mod policy;
mod process;
mod supervisor;
mod tasks;

use pyo3::prelude::*;

/// The extension module.
#[pymodule]
mod _native {
    /// The build profile. Benchmarks require `release`.
    #[pymodule_export]
    const PROFILE: &str = if cfg!(debug_assertions) { "debug" } else { "release" };
    #[pymodule_export]
    use super::call::Call;
    #[pymodule_export]
    use super::cli::cli;
    #[pymodule_export]
    use super::component::Component;
    #[pymodule_export]
    use super::component::cache_directory;
    #[pymodule_export]
    use super::component::cache_problems;
    #[pymodule_export]
    use super::component::file_schema;
    #[pymodule_export]
    use super::component::inspect;
    #[pymodule_export]
    use super::forward::Forward;
    #[pymodule_export]
    use super::installed::precompile;
    #[pymodule_export]
    use super::log::close_log;
    #[pymodule_export]
    use super::name::named;
    #[pymodule_export]
    use super::policy::check_choices;
    #[pymodule_export]
    use super::policy::policy_text;
    #[pymodule_export]
    use super::policy::value_key_files;
    #[pymodule_export]
    use super::process::shutdown;
    #[pymodule_export]
    use super::supervisor::supervise;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::log::close_at_exit(module)
    }
}
