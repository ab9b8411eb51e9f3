//! The client of Ray that executes steps as tasks, implemented in Python in `dagster_ray.executor`.

use dagster_ray_runtime::capability::tasks::{
    Cause, Reservation, TaskRunner, TaskSpec, TaskState, TaskStatus, WarmSpec, Worker,
};
use dagster_ray_runtime::model::Error;
use pyo3::prelude::*;
use pyo3::types::PyList;
use serde_json::{Value, json};

use crate::objects::error;

/// A runner of tasks that is implemented in Python.
pub(crate) struct PythonTasks(pub(crate) Py<PyAny>);

fn reservation(from: &Reservation) -> Value {
    let amounts: serde_json::Map<String, Value> =
        from.resources.iter().map(|(name, amount)| (name.clone(), json!(amount))).collect();
    let labels: serde_json::Map<String, Value> =
        from.label_selector.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({
        "num_cpus": from.num_cpus,
        "num_gpus": from.num_gpus,
        "memory": from.memory,
        "resources": amounts,
        "label_selector": labels,
    })
}

fn status(found: &Bound<'_, PyAny>) -> PyResult<TaskStatus> {
    let state: String = found.get_item("state")?.extract()?;
    let state = match state.as_str() {
        "pending" => TaskState::Pending,
        "running" => TaskState::Running,
        "finished" => TaskState::Finished,
        "failed" => TaskState::Failed,
        "cancelled" => TaskState::Cancelled,
        _ => TaskState::Missing,
    };
    let cause: Option<String> = found.get_item("cause")?.extract()?;
    Ok(TaskStatus {
        key: found.get_item("key")?.extract()?,
        state,
        ended: !matches!(state, TaskState::Pending | TaskState::Running),
        cause: cause.map(|cause| match cause.as_str() {
            "worker-crashed" => Cause::WorkerCrashed,
            "out-of-memory" => Cause::OutOfMemory,
            "node-died" => Cause::NodeDied,
            "runtime-env" => Cause::RuntimeEnv,
            "unschedulable" => Cause::Unschedulable,
            _ => Cause::Other,
        }),
        message: found.get_item("message")?.extract()?,
    })
}

impl PythonTasks {
    fn with<T>(&self, work: impl for<'py> FnOnce(&Bound<'py, PyAny>) -> PyResult<T>) -> Result<T, Error> {
        Python::attach(|py| work(self.0.bind(py)).map_err(|raised| error(py, &raised)))
    }
}

impl TaskRunner for PythonTasks {
    fn warm(&self, workers: &WarmSpec) -> Result<(), Error> {
        let text = json!({
            "count": workers.count,
            "reservation": reservation(&workers.reservation),
            "runtime_env": workers.runtime_env,
        });
        self.with(|runner| runner.call_method1("warm", (text.to_string(),)).map(drop))
    }

    fn submit(&self, task: &TaskSpec) -> Result<(), Error> {
        let text = json!({
            "key": task.key,
            "run_id": task.run_id,
            "step_key": task.step_key,
            "attempt": task.attempt,
            "fresh": matches!(task.worker, Worker::Fresh),
            "reservation": reservation(&task.reservation),
            "runtime_env": task.runtime_env,
        });
        self.with(|runner| runner.call_method1("submit", (text.to_string(),)).map(drop))
    }

    fn status(&self, keys: &[String]) -> Result<Vec<TaskStatus>, Error> {
        self.with(|runner| {
            let found = runner.call_method1("status", (PyList::new(runner.py(), keys)?,))?;
            found.try_iter()?.map(|one| status(&one?)).collect()
        })
    }

    fn cancel(&self, keys: &[String], grace_ms: u64) -> Result<(), Error> {
        self.with(|runner| {
            runner.call_method1("cancel", (PyList::new(runner.py(), keys)?, grace_ms)).map(drop)
        })
    }
}
