//! A local port that is forwarded to a Kubernetes service, as a Python object.

use std::sync::{Mutex, PoisonError};

use dagster_ray_runtime::Backend;
use dagster_ray_runtime::capability::kubernetes;
use pyo3::prelude::*;

use crate::call::LOOK;
use crate::errors;

/// A forwarded local port. It is closed by `close`, or when the object is collected.
#[pyclass(module = "dagster_ray._native", frozen)]
pub(crate) struct Forward {
    port: u16,
    open: Mutex<Option<kubernetes::Forward>>,
}

impl Forward {
    pub(crate) fn open(
        py: Python<'_>,
        backend: &Backend,
        namespace: &str,
        service: &str,
        port: u16,
    ) -> PyResult<Self> {
        let mut opening = backend.forward(namespace, service, port);
        loop {
            match py.detach(|| opening.wait(LOOK)) {
                Some(Ok(forward)) => {
                    return Ok(Self { port: forward.port(), open: Mutex::new(Some(forward)) });
                }
                Some(Err(failure)) => return Err(errors::forward(py, &failure)),
                None => py.check_signals()?,
            }
        }
    }
}

#[pymethods]
impl Forward {
    /// The port on 127.0.0.1.
    #[getter]
    fn port(&self) -> u16 {
        self.port
    }

    /// Closes the port and its connections.
    fn close(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
