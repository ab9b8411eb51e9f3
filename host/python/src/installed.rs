//! The folder of the installed components, and their precompilation.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use pyo3::prelude::*;

use crate::errors;

/// Returns the folder of the components that were installed with this extension module.
///
/// Its files are trusted as much as the module. So the folder is derived from the path of the loaded
/// module, not from Python code.
pub(crate) fn folder() -> Option<PathBuf> {
    Some(module()?.parent()?.join("components"))
}

/// Returns the path of the loaded extension module.
pub(crate) fn module() -> Option<PathBuf> {
    let address = (folder as *const ()).cast();
    let mut found = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the address is in this module, and dladdr writes a Dl_info or returns 0.
    let module = unsafe {
        if libc::dladdr(address, found.as_mut_ptr()) == 0 {
            return None;
        }
        let name = found.assume_init().dli_fname;
        if name.is_null() {
            return None;
        }
        CStr::from_ptr(name)
    };
    Some(PathBuf::from(OsStr::from_bytes(module.to_bytes())))
}

/// Compiles the components of a folder for every CPU of this architecture, writes the code beside them,
/// and returns the written files. The build of the wheel calls it.
#[pyfunction]
pub(crate) fn precompile(py: Python<'_>, components: PathBuf, except: Vec<String>) -> PyResult<Vec<PathBuf>> {
    py.detach(|| dagster_ray_runtime::precompile(&components, &except))
        .map_err(|error| errors::load(py, &error))
}
