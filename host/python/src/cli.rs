//! The command `dagster-ray`, as the package's console script calls it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};

use dagster_ray_cli::{Exit, Installation, Interrupt};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::call::LOOK;
use crate::installed;

/// Runs a command, the name of the program first, and gives its exit code.
#[pyfunction]
#[pyo3(signature = (arguments, *, components, programs))]
pub(crate) fn cli(
    py: Python<'_>,
    arguments: Vec<String>,
    components: PathBuf,
    programs: BTreeMap<String, Vec<String>>,
) -> PyResult<u8> {
    let interrupt = Interrupt::default();
    let (sender, ended) = channel();
    let (installation, told) =
        (Installation { components, programs, installed: installed::folder() }, interrupt.clone());
    // Signals reach Python's main thread alone, which therefore only waits.
    std::thread::Builder::new().name("dagster-ray-command".into()).spawn(move || {
        // A caller that has left listens no more.
        let _ = sender.send(dagster_ray_cli::run(arguments, installation, told));
    })?;
    let ended = Mutex::new(ended);
    let mut interrupted = false;
    loop {
        let end = py.detach(|| ended.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(LOOK));
        match end {
            Ok(exit) => return Ok(exit.code()),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("the command ended without an exit code"));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if py.check_signals().is_err() {
            if interrupted {
                return Ok(Exit::Interrupted.code());
            }
            interrupted = true;
            interrupt.raise();
        }
    }
}
