//! The command `dagster-ray`, called by the package's console script.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};

use dagster_ray_cli::{Exit, Installation, Interrupt};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::call::LOOK;
use crate::installed;
use crate::supervisor;

/// Runs a command line and returns its exit code. The first argument is the program's name.
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
    let shared_programs = supervisor::options(py);
    let installation = Installation { components, programs, installed: installed::folder(), shared_programs };
    let command_interrupt = interrupt.clone();
    // Python handles signals only in the main thread, so that thread waits and another one runs the command.
    std::thread::Builder::new().name("dagster-ray-command".into()).spawn(move || {
        // Sending fails if the caller returned after a second interrupt.
        let _ = sender.send(dagster_ray_cli::run(arguments, installation, command_interrupt));
    })?;
    let ended = Mutex::new(ended);
    let mut interrupted = false;
    loop {
        let end = py.detach(|| ended.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(LOOK));
        match end {
            Ok(exit) => return Ok(exit.code()),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("the thread of the command ended without an exit code"));
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
