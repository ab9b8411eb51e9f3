//! The supervisor of programs that host processes share.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;

use dagster_ray_runtime::capability::processes::{SharedProgramOptions, supervise as supervise_program};
use pyo3::prelude::*;

use crate::installed;

/// The script beside this module that calls [`supervise`].
const SCRIPT: &str = "program_supervisor.py";

/// Returns how to start supervisors with this Python, or `None` if it is embedded in another program.
pub(crate) fn options(py: Python<'_>) -> Option<SharedProgramOptions> {
    let python: String = py.import("sys").ok()?.getattr("executable").ok()?.extract().ok()?;
    let module = installed::module()?;
    let script = module.with_file_name(SCRIPT);
    // Without `site`, Python starts quickly and uses little memory, and runs no code of the environment.
    let supervisor = [python.as_str(), "-I", "-S", script.to_str()?, module.to_str()?];
    (!python.is_empty() && script.exists()).then(|| SharedProgramOptions {
        supervisor: supervisor.map(str::to_owned).to_vec(),
        folder: SharedProgramOptions::default_folder(),
    })
}

/// Runs the program that standard input requests until nothing uses it.
#[pyfunction]
pub(crate) fn supervise(py: Python<'_>) -> PyResult<()> {
    let nothing = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let input = std::io::stdin();
    let output = duplicate(libc::STDOUT_FILENO, &nothing)?;
    py.detach(|| Ok(supervise_program(input.lock(), output)?))
}

/// Returns a copy of a descriptor, which becomes one of `/dev/null`: the caller of the supervisor sees the end
/// of the output when the copy is closed.
fn duplicate(descriptor: i32, nothing: &File) -> std::io::Result<File> {
    // SAFETY: both descriptors are open.
    let copy = unsafe {
        let copy = std::os::fd::BorrowedFd::borrow_raw(descriptor).try_clone_to_owned()?;
        if libc::dup2(nothing.as_raw_fd(), descriptor) < 0 {
            return Err(std::io::Error::last_os_error());
        }
        copy
    };
    Ok(copy.into())
}
