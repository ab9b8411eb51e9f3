//! A component with its configuration, as a Python object.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dagster_ray_registry::PinnedReference;
use dagster_ray_runtime::capability::objects::ObjectStore;
use dagster_ray_runtime::capability::tasks::TaskRunner;
use dagster_ray_runtime::instance::InstancePolicy;
use dagster_ray_runtime::manifest::{Manifest, Restriction};
use dagster_ray_runtime::{
    Authority, AuthorityOptions, Backend, BackendOptions, Call as RuntimeCall, CallOptions,
};
use pyo3::prelude::*;

use crate::call::Call;
use crate::forward::Forward;
use crate::objects::{self, PythonStore};
use crate::tasks::PythonTasks;
use crate::{errors, log, name, policy, process};

/// A component with its settings and host capabilities, from a file or a registry reference. It is fetched
/// and read on first use.
#[pyclass(module = "dagster_ray._native", frozen)]
pub(crate) struct Component {
    options: BackendOptions,
    /// The registry reference of the file, if it has to be fetched.
    reference: Option<PinnedReference>,
    backend: std::sync::Mutex<Option<Backend>>,
}

impl Component {
    fn backend(&self, py: Python<'_>) -> PyResult<Backend> {
        log::refresh(py);
        if process::is_forked() {
            return Err(errors::forked(py));
        }
        if let Some(backend) = self.lock().as_ref() {
            return Ok(backend.clone());
        }
        let host = process::host(py)?;
        let mut options = self.options.clone();
        if let Some(reference) = &self.reference {
            let found = name::fetch(py, reference, options.trusted_keys.clone())?;
            options.path = found.path;
            options.sha256 = options.sha256.or(found.sha256);
        }
        Ok(self.lock().get_or_insert_with(|| Backend::new(host, options)).clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Backend>> {
        self.backend.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn described(&self, py: Python<'_>) -> PyResult<(String, String, Vec<&'static str>)> {
        let backend = self.backend(py)?;
        let described = py.detach(|| backend.describe());
        log::flush(py);
        described.map_err(|error| errors::load(py, &error))
    }

    #[allow(clippy::too_many_arguments)]
    fn begin(
        &self,
        py: Python<'_>,
        export: &str,
        arguments: &str,
        listener: Option<Py<PyAny>>,
        timeout: Option<f64>,
        values: Vec<Bound<'_, PyAny>>,
        here: bool,
    ) -> PyResult<Call> {
        let backend = self.backend(py)?;
        let timeout = timeout.map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, 1e9)));
        let values = values.iter().map(objects::value).collect::<PyResult<_>>()?;
        let options = CallOptions { timeout, values };
        let begin = if here { RuntimeCall::begin_here } else { RuntimeCall::begin };
        let call = begin(&backend, export, arguments, options);
        Ok(Call::new(call, backend, listener))
    }
}

#[pymethods]
impl Component {
    #[new]
    #[pyo3(signature = (wasm, *, settings=None, authorities=None, kubernetes=None, programs=None, directories=None, stores=None, tasks=None, buckets=None, grants=None, sha256=None, policy_root=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        wasm: PathBuf,
        settings: Option<BTreeMap<String, String>>,
        authorities: Option<Vec<String>>,
        kubernetes: Option<&str>,
        programs: Option<HashMap<String, Vec<String>>>,
        directories: Option<Vec<PathBuf>>,
        stores: Option<HashMap<String, Py<PyAny>>>,
        tasks: Option<Py<PyAny>>,
        buckets: Option<HashMap<String, PathBuf>>,
        grants: Option<&str>,
        sha256: Option<String>,
        policy_root: Option<PathBuf>,
    ) -> PyResult<Self> {
        let authorities = authorities
            .unwrap_or_default()
            .iter()
            .map(|text| {
                let options: AuthorityOptions = serde_json::from_str(text)
                    .map_err(|error| errors::invalid(py, "authorities", &error.to_string()))?;
                Authority::new(options).map_err(|error| errors::invalid(py, "address", &error.to_string()))
            })
            .collect::<PyResult<_>>()?;
        let restriction = match grants {
            Some(text) => Restriction::from_json(text)
                .map_err(|error| errors::invalid(py, "backend_grants", &error.to_string()))?,
            None => Restriction::default(),
        };
        let kubernetes = kubernetes
            .map(serde_json::from_str)
            .transpose()
            .map_err(|error| errors::invalid(py, "kubernetes", &error.to_string()))?
            .unwrap_or_default();
        let reference = name::parse(py, &wasm)?;
        let options = BackendOptions {
            path: wasm,
            settings: settings.unwrap_or_default(),
            authorities,
            kubernetes,
            programs: programs.unwrap_or_default().into_iter().collect(),
            directories: directories.unwrap_or_default(),
            stores: stores
                .unwrap_or_default()
                .into_iter()
                .map(|(name, store)| (name, Arc::new(PythonStore(store)) as Arc<dyn ObjectStore>))
                .collect(),
            tasks: tasks.map(|runner| Arc::new(PythonTasks(runner)) as Arc<dyn TaskRunner>),
            buckets: buckets.unwrap_or_default().into_iter().collect(),
            restriction,
            sha256,
            trusted_keys: policy::find(py, policy_root.as_deref())?.0.trusted_keys().cloned(),
        };
        Ok(Self { options, reference, backend: std::sync::Mutex::new(None) })
    }

    /// The component's name in messages.
    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.described(py)?.0)
    }

    /// The sha256 of the file's current content.
    #[getter]
    fn digest(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.described(py)?.1)
    }

    /// The interfaces of the WIT contract that the component exports.
    #[getter]
    fn exports(&self, py: Python<'_>) -> PyResult<Vec<&'static str>> {
        Ok(self.described(py)?.2)
    }

    /// Calls `interface.function` with arguments as a JSON object, and returns its result as JSON.
    #[pyo3(signature = (export, arguments="{}", listener=None, timeout=None))]
    fn call(
        &self,
        py: Python<'_>,
        export: &str,
        arguments: &str,
        listener: Option<Py<PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<String> {
        self.begin(py, export, arguments, listener, timeout, Vec::new(), true)?.result(py, None)
    }

    /// Starts a call without waiting for its result. The arguments refer to `values` by index.
    ///
    /// With `here`, the call makes progress only while a thread waits for its result, on that thread.
    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (export, arguments="{}", listener=None, timeout=None, values=None, here=false))]
    fn start(
        &self,
        py: Python<'_>,
        export: &str,
        arguments: &str,
        listener: Option<Py<PyAny>>,
        timeout: Option<f64>,
        values: Option<Vec<Bound<'_, PyAny>>>,
        here: bool,
    ) -> PyResult<Call> {
        self.begin(py, export, arguments, listener, timeout, values.unwrap_or_default(), here)
    }

    /// Whether this process runs in a pod of the component's Kubernetes cluster.
    fn is_inside_cluster(&self, py: Python<'_>) -> PyResult<bool> {
        let backend = self.backend(py)?;
        Ok(py.detach(|| backend.is_inside_cluster()))
    }

    /// The authentication token of the RayCluster behind a Kubernetes service, or `None` if it needs none.
    fn ray_token(
        &self,
        py: Python<'_>,
        namespace: &str,
        service: &str,
        port: u16,
    ) -> PyResult<Option<String>> {
        let backend = self.backend(py)?;
        py.detach(|| backend.ray_token(namespace, service, port)).map_err(|error| errors::forward(py, &error))
    }

    /// What the Kubernetes account may do in a namespace, compared with what the component needs, as JSON.
    ///
    /// With `tokens`, the clusters have tokens. `outside` is for an account that is used outside the cluster.
    #[pyo3(signature = (namespace, *, tokens=false, outside=None))]
    fn review(
        &self,
        py: Python<'_>,
        namespace: &str,
        tokens: bool,
        outside: Option<bool>,
    ) -> PyResult<String> {
        let backend = self.backend(py)?;
        let review = py
            .detach(|| backend.review(namespace, tokens, outside))
            .map_err(|error| errors::forward(py, &error))?;
        json(py, &review)
    }

    /// The certificates of the authorities that use TLS, as a JSON list.
    fn certificates(&self, py: Python<'_>) -> PyResult<String> {
        let backend = self.backend(py)?;
        let certificates = py.detach(|| backend.certificates());
        json(py, &certificates)
    }

    /// Opens a local port that is forwarded to a Kubernetes service.
    fn forward(&self, py: Python<'_>, namespace: &str, service: &str, port: u16) -> PyResult<Forward> {
        Forward::open(py, &self.backend(py)?, namespace, service, port)
    }
}

fn json(py: Python<'_>, document: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(document).map_err(|error| errors::invalid(py, "result", &error.to_string()))
}

/// Returns what is wrong with the cache of compiled code.
#[pyfunction]
pub(crate) fn cache_problems(py: Python<'_>) -> Vec<String> {
    py.detach(dagster_ray_runtime::check_cache)
}

/// Returns the directory of the cache of compiled code, or `None` if no variable names one.
#[pyfunction]
pub(crate) fn cache_directory() -> Option<PathBuf> {
    dagster_ray_runtime::cache_directory()
}

/// Returns the JSON schema of a component's manifest, or of an instance's policy.
#[pyfunction]
pub(crate) fn file_schema(py: Python<'_>, name: &str) -> PyResult<String> {
    let schema = match name {
        "manifest" => Manifest::schema(),
        "policy" => InstancePolicy::schema(),
        other => return Err(errors::invalid(py, "name", &format!("{other:?} is not manifest or policy"))),
    };
    json(py, &schema)
}

/// Inspects a component file without running it, and returns the result as JSON.
#[pyfunction]
pub(crate) fn inspect(py: Python<'_>, wasm: PathBuf) -> PyResult<String> {
    log::refresh(py);
    let path: &Path = &wasm;
    let inspection =
        py.detach(|| dagster_ray_runtime::inspect(path, None)).map_err(|error| errors::load(py, &error))?;
    json(py, &inspection)
}
