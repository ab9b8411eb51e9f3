//! A call in progress, as a Python object.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dagster_ray_runtime::{Backend, Call as RuntimeCall, CallError, CallResult, Progress, Report, Usage};
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::{errors, log, objects};

/// How often a waiting caller checks for signals such as Ctrl-C.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

enum State {
    Running(RuntimeCall),
    Done(Result<CallResult, Arc<CallError>>),
}

/// A call in progress. The listener receives reports while a thread waits for the call, and at the latest
/// with the result. Without a listener, log lines go to the logger `dagster_ray`.
#[pyclass(module = "dagster_ray._native", frozen)]
pub(crate) struct Call {
    backend: Backend,
    listener: Option<Py<PyAny>>,
    state: Mutex<State>,
    /// What an ended call asked of the host.
    usage: Mutex<Usage>,
}

impl Call {
    pub(crate) fn new(call: RuntimeCall, backend: Backend, listener: Option<Py<PyAny>>) -> Self {
        Self { backend, listener, state: Mutex::new(State::Running(call)), usage: Mutex::default() }
    }

    /// Waits at most `timeout`, and returns the received reports and whether the call has ended.
    ///
    /// The caller passes the reports to the listener, because Python code must not run while the state
    /// is locked.
    fn poll(&self, py: Python<'_>, timeout: Duration) -> (Vec<Report>, bool) {
        py.detach(|| {
            let deadline = Instant::now() + timeout;
            let mut reports = Vec::new();
            let mut state = self.lock();
            loop {
                let State::Running(call) = &mut *state else { return (reports, true) };
                let left = deadline.saturating_duration_since(Instant::now());
                match call.wait(&self.backend, left) {
                    Progress::Report(report) => reports.push(report),
                    Progress::Pending => return (reports, false),
                    Progress::Ended(outcome) => {
                        *self.usage.lock().unwrap_or_else(PoisonError::into_inner) = call.usage();
                        *state = State::Done(outcome.map_err(Arc::new));
                    }
                }
                if reports.len() >= 64 {
                    return (reports, false);
                }
            }
        })
    }

    fn report(&self, py: Python<'_>, reports: Vec<Report>) -> PyResult<()> {
        for report in reports {
            let Some(listener) = &self.listener else {
                // Warnings must not be lost if the caller has no listener.
                if let Report::Log { level, message } = report {
                    log::write(py, level, message)?;
                }
                continue;
            };
            match report {
                Report::Output { channel, text } => {
                    listener.call1(py, (channel, PyBytes::new(py, &text)))?;
                }
                other => {
                    let text = serde_json::to_string(&other).unwrap_or_default();
                    listener.call1(py, (text,))?;
                }
            }
        }
        Ok(())
    }

    /// Locks the state. A thread must detach from the interpreter first, because another thread may hold
    /// the lock while it waits for the call.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outcome(&self, py: Python<'_>) -> PyResult<String> {
        let outcome = py.detach(|| match &*self.lock() {
            State::Done(outcome) => Some(outcome.clone()),
            State::Running(_) => None,
        });
        match outcome {
            Some(Ok(answer)) => Ok(answer.json.to_string()),
            Some(Err(error)) => Err(errors::call(py, &error)),
            None => Err(PyTimeoutError::new_err("the call has not ended")),
        }
    }
}

#[pymethods]
impl Call {
    /// Whether the call has ended. Passes received reports to the listener.
    fn done(&self, py: Python<'_>) -> PyResult<bool> {
        let (reports, ended) = self.poll(py, Duration::ZERO);
        self.report(py, reports)?;
        if ended {
            log::flush(py);
        }
        Ok(ended)
    }

    /// Waits for the call, and returns its result or raises its error. After `timeout` seconds it raises
    /// `TimeoutError`, and the call continues. An interrupt cancels the call.
    #[pyo3(signature = (timeout=None))]
    pub(crate) fn result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<String> {
        let deadline =
            timeout.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds.clamp(0.0, 1e9)));
        loop {
            let left = deadline
                .map_or(LOOK, |deadline| deadline.saturating_duration_since(Instant::now()).min(LOOK));
            let (reports, ended) = self.poll(py, left);
            let outcome = self.report(py, reports).and_then(|()| py.check_signals());
            if let Err(interrupt) = outcome {
                self.cancel(py);
                return Err(interrupt);
            }
            if ended {
                log::flush(py);
                return self.outcome(py);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return self.outcome(py);
            }
        }
    }

    /// The values of the result, which refers to them by index.
    fn values(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let values = py.detach(|| match &*self.lock() {
            State::Done(Ok(answer)) => answer.values.clone(),
            State::Done(Err(_)) | State::Running(_) => Vec::new(),
        });
        values.iter().filter_map(|value| objects::object(py, value)).collect()
    }

    /// The exceptions for the errors of single elements of the result, which refers to them by index.
    fn errors(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let errors = py.detach(|| match &*self.lock() {
            State::Done(Ok(answer)) => answer.errors.clone(),
            State::Done(Err(_)) | State::Running(_) => Vec::new(),
        });
        errors.iter().map(|error| errors::call(py, error).into_value(py).into_any()).collect()
    }

    /// The numbers of requests, of repeated requests and of denied requests of the call, which has ended.
    fn usage(&self) -> (u64, u64, u64) {
        let Usage { requests, retries, denials } = *self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        (requests, retries, denials)
    }

    /// Cancels the call. A component that checks for cancellation cleans up first.
    fn cancel(&self, py: Python<'_>) {
        py.detach(|| {
            if let State::Running(call) = &mut *self.lock() {
                call.cancel();
            }
        });
    }
}
