//! Value stores that are implemented in Python, in `dagster_ray.io`.

use std::sync::Arc;

use dagster_ray_runtime::capability::objects::{Entry, ObjectStore, Value, ValueInfo};
use dagster_ray_runtime::model::{ApiError, Error, RetryHint};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// Converts a Python object with the attributes `type_name` and `size` to a value.
pub(crate) fn value(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    Ok(Value {
        info: ValueInfo {
            type_name: object.getattr("type_name")?.extract()?,
            size: object.getattr("size")?.extract()?,
        },
        content: Arc::new(object.clone().unbind()),
    })
}

/// Returns the Python object of a value.
pub(crate) fn object(py: Python<'_>, value: &Value) -> Option<Py<PyAny>> {
    value.content.downcast_ref::<Py<PyAny>>().map(|object| object.clone_ref(py))
}

/// A value store that is implemented in Python.
pub(crate) struct PythonStore(pub(crate) Py<PyAny>);

/// Converts the exception of a store or a runner of tasks to an error of the WIT contract, by its class and not by its text.
pub(crate) fn error(py: Python<'_>, raised: &PyErr) -> Error {
    let instance = raised.value(py);
    let text = || instance.str().map_or_else(|_| raised.to_string(), |text| text.to_string());
    let class = |name: &str| {
        py.import("dagster_ray.errors")
            .and_then(|module| module.getattr(name))
            .and_then(|class| instance.is_instance(&class))
            .unwrap_or(false)
    };
    if class("NotFoundError") {
        Error::NotFound(text())
    } else if class("ConflictError") {
        Error::Conflict(text())
    } else if class("UnavailableError") {
        Error::Unavailable(RetryHint { reason: text(), after_ms: None, maybe_applied: true })
    } else if class("BackendError") {
        Error::Backend(ApiError {
            status: 0,
            reason: instance
                .getattr("reason")
                .and_then(|reason| reason.extract())
                .unwrap_or_else(|_| "StoreFailed".into()),
            message: text(),
            details: None,
        })
    } else {
        Error::Other(raised.to_string())
    }
}

fn entry(found: &Bound<'_, PyAny>) -> PyResult<Entry> {
    let field = |name: &str| found.get_item(name);
    Ok(Entry {
        key: field("key")?.extract()?,
        info: ValueInfo { type_name: field("type_name")?.extract()?, size: field("size")?.extract()? },
        stored_at: field("stored_at")?.extract()?,
        keep_until: field("keep_until")?.extract()?,
        node: field("node")?.extract()?,
        attributes: field("attributes")?
            .cast::<PyDict>()?
            .iter()
            .map(|(name, value)| Ok((name.extract()?, value.extract()?)))
            .collect::<PyResult<_>>()?,
    })
}

impl PythonStore {
    fn with<T>(&self, work: impl for<'py> FnOnce(&Bound<'py, PyAny>) -> PyResult<T>) -> Result<T, Error> {
        Python::attach(|py| work(self.0.bind(py)).map_err(|raised| error(py, &raised)))
    }
}

impl ObjectStore for PythonStore {
    fn put(
        &self,
        key: &str,
        value: &Value,
        overwrite: bool,
        keep_until: Option<u64>,
        attributes: &[(String, String)],
    ) -> Result<Entry, Error> {
        self.with(|store| {
            let py = store.py();
            let named = PyDict::new(py);
            for (name, value) in attributes {
                named.set_item(name, value)?;
            }
            let content = object(py, value);
            entry(&store.call_method1("put", (key, content, overwrite, keep_until, named))?)
        })
    }

    fn get(&self, key: &str) -> Result<Value, Error> {
        self.with(|store| value(&store.call_method1("get", (key,))?))
    }

    fn stat(&self, keys: &[String]) -> Result<Vec<Option<Entry>>, Error> {
        self.with(|store| {
            let found = store.call_method1("stat", (PyList::new(store.py(), keys)?,))?;
            found
                .try_iter()?
                .map(|one| {
                    let one = one?;
                    if one.is_none() { Ok(None) } else { entry(&one).map(Some) }
                })
                .collect()
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        self.with(|store| {
            store.call_method1("find", (prefix,))?.try_iter()?.map(|one| entry(&one?)).collect()
        })
    }

    fn delete(&self, keys: &[String]) -> Result<u32, Error> {
        self.with(|store| store.call_method1("delete", (PyList::new(store.py(), keys)?,))?.extract())
    }
}
