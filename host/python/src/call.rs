//! A call under way, as a Python object.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dagster_ray_runtime::{Answer, Backend, Call as RuntimeCall, CallError, Notice, Progress};
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::{errors, log, objects};

/// How often a waiting caller looks for signals such as Ctrl-C.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

enum State {
    Running(RuntimeCall),
    Done(Result<Answer, Arc<CallError>>),
}

/// A call under way. Reports reach the listener while a thread waits for the call, and at the latest
/// with the result. Without a listener, log lines reach the logger `dagster_ray`.
#[pyclass(module = "dagster_ray._native", frozen)]
pub(crate) struct Call {
    backend: Backend,
    listener: Option<Py<PyAny>>,
    state: Mutex<State>,
}

impl Call {
    pub(crate) fn new(call: RuntimeCall, backend: Backend, listener: Option<Py<PyAny>>) -> Self {
        Self { backend, listener, state: Mutex::new(State::Running(call)) }
    }

    /// Waits at most so long for the end. The notices met on the way come back with it, because
    /// the listener is Python and must not run while the state is locked.
    fn step(&self, py: Python<'_>, most: Duration) -> (Vec<Notice>, bool) {
        py.detach(|| {
            let deadline = Instant::now() + most;
            let mut notices = Vec::new();
            let mut state = self.lock();
            loop {
                let State::Running(call) = &mut *state else { return (notices, true) };
                let left = deadline.saturating_duration_since(Instant::now());
                match call.wait(&self.backend, left) {
                    Progress::Notice(notice) => notices.push(notice),
                    Progress::Quiet => return (notices, false),
                    Progress::Ended(outcome) => {
                        *state = State::Done(outcome.map_err(Arc::new));
                    }
                }
                if notices.len() >= 64 {
                    return (notices, false);
                }
            }
        })
    }

    fn tell(&self, py: Python<'_>, notices: Vec<Notice>) -> PyResult<()> {
        for notice in notices {
            let Some(listener) = &self.listener else {
                // A warning must not be lost because the caller did not ask for reports.
                if let Notice::Log { level, message } = notice {
                    log::write(py, level, message)?;
                }
                continue;
            };
            match notice {
                Notice::Output { channel, text } => {
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

    /// The state, which another thread may hold while it waits: never to be locked by a thread
    /// that holds the interpreter.
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
    /// Whether the call has ended. Reports that have come in reach the listener.
    fn done(&self, py: Python<'_>) -> PyResult<bool> {
        let (notices, ended) = self.step(py, Duration::ZERO);
        self.tell(py, notices)?;
        if ended {
            log::flush(py);
        }
        Ok(ended)
    }

    /// Waits for the result, and raises the call's error. After `timeout` seconds without an end it
    /// raises `TimeoutError`, and the call goes on. An interrupt cancels the call.
    #[pyo3(signature = (timeout=None))]
    pub(crate) fn result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<String> {
        let deadline =
            timeout.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds.clamp(0.0, 1e9)));
        loop {
            let left = deadline
                .map_or(LOOK, |deadline| deadline.saturating_duration_since(Instant::now()).min(LOOK));
            let (notices, ended) = self.step(py, left);
            let heard = self.tell(py, notices).and_then(|()| py.check_signals());
            if let Err(interrupt) = heard {
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

    /// The values that the result speaks of by their place in the list.
    fn values(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let values = py.detach(|| match &*self.lock() {
            State::Done(Ok(answer)) => answer.values.clone(),
            State::Done(Err(_)) | State::Running(_) => Vec::new(),
        });
        values.iter().filter_map(|value| objects::object(py, value)).collect()
    }

    /// Tells the call to stop. A call that listens cleans up first.
    fn cancel(&self, py: Python<'_>) {
        py.detach(|| {
            if let State::Running(call) = &*self.lock() {
                call.cancel();
            }
        });
    }
}
