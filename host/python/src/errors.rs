//! Converts the host's errors to the exceptions of `dagster_ray.errors`.

use dagster_ray_recording::CassetteError;
use dagster_ray_registry::RegistryError;
use dagster_ray_runtime::instance::Refusal;
use dagster_ray_runtime::model::Error;
use dagster_ray_runtime::{CallError, ForwardError, LoadError, plain};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// Creates an exception. The message can come from a component, its manifest or a server, so that its control
/// characters are replaced.
fn raise<'py>(py: Python<'py>, class: &str, message: String, details: &Bound<'py, PyDict>) -> PyErr {
    let message = plain(message);
    let made = py
        .import("dagster_ray.errors")
        .and_then(|module| module.getattr(class))
        .and_then(|class| class.call((message.as_str(),), Some(details)));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        // The Python package does not match this module. Keep the original message.
        Err(error) => PyRuntimeError::new_err(format!("{message} ({class} cannot be raised: {error})")),
    }
}

fn details<'py>(
    py: Python<'py>,
    fill: impl FnOnce(&Bound<'py, PyDict>) -> PyResult<()>,
) -> Bound<'py, PyDict> {
    let details = PyDict::new(py);
    if let Err(error) = fill(&details) {
        error.write_unraisable(py, None);
    }
    details
}

/// Returns the exception for a process that was forked after the host was started.
pub(crate) fn forked(py: Python<'_>) -> PyErr {
    let message = "this process was forked from one that had called a dagster-ray component, and a forked process \
        lacks the host's threads. Start processes with `spawn` instead: for Dagster's multiprocess \
        executor, `start_method: {spawn: {}}`; for multiprocessing, get_context(\"spawn\")";
    raise(py, "ForkedProcessError", message.to_owned(), &PyDict::new(py))
}

/// Returns the exception for an invalid argument or configuration.
pub(crate) fn invalid(py: Python<'_>, path: &str, problem: &str) -> PyErr {
    let details = details(py, |details| {
        let field = PyDict::new(py);
        field.set_item("path", path)?;
        field.set_item("problem", problem)?;
        field.set_item("hint", py.None())?;
        details.set_item("fields", PyList::new(py, [field])?)
    });
    raise(py, "InvalidConfigError", problem.to_owned(), &details)
}

/// Returns the exception for a value that the policy of the instance does not allow.
pub(crate) fn refused(py: Python<'_>, refusal: &Refusal, origin: &str) -> PyErr {
    let details = details(py, |details| {
        details.set_item("capability", "instance policy")?;
        details.set_item("target", &refusal.path)?;
        details.set_item("grant", &refusal.line)
    });
    raise(py, "PermissionDeniedError", format!("{refusal} (the policy is {origin})"), &details)
}

/// Returns the exception for a component that cannot be loaded.
pub(crate) fn load(py: Python<'_>, error: &LoadError) -> PyErr {
    let details =
        details(py, |details| details.set_item("path", error.path().map(|path| path.display().to_string())));
    raise(py, "ComponentLoadError", error.to_string(), &details)
}

/// Returns the exception for a cassette that cannot be recorded to or replayed.
pub(crate) fn cassette(py: Python<'_>, error: &CassetteError) -> PyErr {
    let details = details(py, |details| details.set_item("path", error.path.display().to_string()));
    raise(py, "ComponentLoadError", error.to_string(), &details)
}

/// Returns the exception for a component that cannot be fetched from a registry.
pub(crate) fn registry(py: Python<'_>, error: &RegistryError) -> PyErr {
    let message = error.to_string();
    match error {
        RegistryError::InvalidReference { .. } | RegistryError::NoDigest { .. } => {
            invalid(py, "backend", &message)
        }
        RegistryError::NotFound { .. } => raise(py, "NotFoundError", message, &PyDict::new(py)),
        RegistryError::Unavailable { .. } | RegistryError::Incomplete { .. } => {
            raise(py, "UnavailableError", message, &PyDict::new(py))
        }
        _ => raise(py, "ComponentLoadError", message, &PyDict::new(py)),
    }
}

/// Returns the exception for a failed call.
pub(crate) fn call(py: Python<'_>, error: &CallError) -> PyErr {
    let message = error.to_string();
    let (class, component, export) = match error {
        CallError::Load(error) => return load(py, error),
        CallError::Returned { error: answer, component, export, .. } => {
            let (class, details) = answered(py, answer);
            let added =
                details.set_item("component", component).and_then(|()| details.set_item("export", export));
            if let Err(error) = added {
                error.write_unraisable(py, None);
            }
            return raise(py, class, message, &details);
        }
        CallError::NotOffered { component, export, .. } => ("UnsupportedError", component, export),
        CallError::Arguments { component, export, .. } => ("ComponentError", component, export),
        CallError::Trap { component, export, .. } => ("ComponentTrap", component, export),
        CallError::Deadline { component, export, .. } => ("CallTimeoutError", component, export),
        CallError::Cancelled { component, export } => ("CancelledError", component, export),
    };
    let details = details(py, |details| {
        details.set_item("component", component)?;
        details.set_item("export", export)?;
        match error {
            CallError::Trap { reason, stderr, .. } => {
                details.set_item("reason", reason)?;
                details.set_item("stderr", stderr)
            }
            CallError::Deadline { seconds, .. } => details.set_item("seconds", seconds),
            _ => Ok(()),
        }
    });
    raise(py, class, message, &details)
}

/// Returns the exception for a local port that cannot be opened.
pub(crate) fn forward(py: Python<'_>, error: &ForwardError) -> PyErr {
    let failure = match error {
        ForwardError::Load(error) => return load(py, error),
        ForwardError::Kubernetes(failure) => failure,
    };
    let (class, details) = answered(py, &failure.to_model());
    raise(py, class, failure.to_string(), &details)
}

fn answered<'py>(py: Python<'py>, error: &Error) -> (&'static str, Bound<'py, PyDict>) {
    let class = match error {
        Error::InvalidConfig(_) => "InvalidConfigError",
        Error::NotFound(_) => "NotFoundError",
        Error::Conflict(_) => "ConflictError",
        Error::Denied(_) => "PermissionDeniedError",
        Error::Unavailable(_) => "UnavailableError",
        Error::Timeout(_) => "CallTimeoutError",
        Error::Cancelled => "CancelledError",
        Error::Unsupported(_) => "UnsupportedError",
        Error::Backend(_) => "BackendError",
        Error::Other(_) => "DagsterRayError",
    };
    let details = details(py, |details| match error {
        Error::InvalidConfig(all) => {
            let fields = PyList::empty(py);
            for one in all {
                let field = PyDict::new(py);
                field.set_item("path", &one.path)?;
                field.set_item("problem", &one.problem)?;
                field.set_item("hint", &one.hint)?;
                fields.append(field)?;
            }
            details.set_item("fields", fields)
        }
        Error::Denied(denial) => {
            details.set_item("capability", &denial.capability)?;
            details.set_item("target", &denial.target)?;
            details.set_item("grant", &denial.grant)
        }
        Error::Unavailable(hint) => {
            details.set_item("retry_after", hint.after_ms.map(|ms| ms as f64 / 1000.0))?;
            details.set_item("maybe_applied", hint.maybe_applied)
        }
        Error::Timeout(ms) => details.set_item("seconds", *ms as f64 / 1000.0),
        Error::Backend(api) => {
            details.set_item("status", api.status)?;
            details.set_item("reason", &api.reason)?;
            details.set_item("details", &api.details)
        }
        _ => Ok(()),
    });
    (class, details)
}
