//! The host of this process, started on first use.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dagster_ray_recording::CassetteError;
use dagster_ray_runtime::capability::processes::SharedProgramOptions;
use dagster_ray_runtime::{Host, HostOptions, LoadError};
use pyo3::prelude::*;

use crate::errors;
use crate::installed;
use crate::supervisor;

struct ProcessHost {
    pid: u32,
    host: Host,
}

static HOST: Mutex<Option<ProcessHost>> = Mutex::new(None);

/// How long programs of components may take to end when the process ends.
const GRACE: Duration = Duration::from_secs(15);

/// Returns the host of this process. A host of a parent process is an error.
pub(crate) fn host(py: Python<'_>) -> PyResult<Host> {
    let shared_programs = supervisor::options(py);
    let made = py.detach(|| {
        let mut own = HOST.lock().unwrap_or_else(PoisonError::into_inner);
        match own.as_ref() {
            Some(own) if own.pid == std::process::id() => Ok(Some(own.host.clone())),
            Some(_) => Ok(None),
            None => start(shared_programs).map(|host| {
                *own = Some(ProcessHost { pid: std::process::id(), host: host.clone() });
                Some(host)
            }),
        }
    });
    match made {
        Ok(Some(host)) => Ok(host),
        Ok(None) => Err(errors::forked(py)),
        Err(StartError::Load(error)) => Err(errors::load(py, &error)),
        Err(StartError::Cassette(error)) => Err(errors::cassette(py, &error)),
    }
}

/// Why the host cannot be started.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Cassette(#[from] CassetteError),
}

/// Starts a host that records or replays requests if the environment asks for it.
fn start(shared_programs: Option<SharedProgramOptions>) -> Result<Host, StartError> {
    let interceptor = dagster_ray_recording::from_environment()?;
    Ok(Host::start_with(HostOptions {
        interceptor,
        installed: installed::folder(),
        shared_programs,
        ..HostOptions::default()
    })?)
}

/// Whether the host was started by a parent process.
pub(crate) fn is_forked() -> bool {
    let own = HOST.lock().unwrap_or_else(PoisonError::into_inner);
    own.as_ref().is_some_and(|own| own.pid != std::process::id())
}

/// Stops all programs that components started. Does nothing in a forked child or without a host.
#[pyfunction]
pub(crate) fn shutdown(py: Python<'_>) {
    py.detach(|| {
        let host = {
            let own = HOST.lock().unwrap_or_else(PoisonError::into_inner);
            own.as_ref().filter(|own| own.pid == std::process::id()).map(|own| own.host.clone())
        };
        if let Some(host) = host {
            host.shutdown(GRACE);
        }
    });
}
