//! `dagster-ray:host/tasks`: Ray tasks in the run's own Ray job.
//!
//! The program that embeds the host submits the tasks, because only Ray's client for its language can. It has a
//! [`TaskRunner`] only while it executes the steps of a run.

use std::sync::Arc;

use dagster_ray_policy::capability::Capability;
use dagster_ray_policy::capability::tasks::CAPABILITY;
use wasmtime::component::Linker;

use self::bindings::dagster_ray::host::tasks::{self, Host};
use super::{CallContext, CallState, HostCapability, Uses, View};
use crate::model::Error;

pub use self::bindings::dagster_ray::host::tasks::{
    Cause, Reservation, TaskSpec, TaskState, TaskStatus, WarmSpec, Worker,
};

#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)]
mod bindings {
    crate::wit::generate!(
        "package dagster-ray:runtime; world tasks { import dagster-ray:host/tasks@0.1.0; }",
        with: { "dagster-ray:host/model": crate::model }
    );
}

/// Maximum number of tasks or keys in one request.
const MAX_TASKS: usize = 100_000;

/// A client of Ray that executes steps as tasks. The methods may block: the host calls them on blocking threads.
pub trait TaskRunner: Send + Sync {
    /// Keeps workers warm.
    ///
    /// # Errors
    /// If Ray's client refuses the reservation or cannot be used.
    fn warm(&self, workers: &WarmSpec) -> Result<(), Error>;

    /// Submits a task, without waiting for its start. A key that was already submitted is ignored.
    ///
    /// # Errors
    /// If Ray's client refuses the task or cannot be used.
    fn submit(&self, task: &TaskSpec) -> Result<(), Error>;

    /// Returns the statuses of tasks, in the order of the keys.
    ///
    /// # Errors
    /// If Ray's client cannot be used.
    fn status(&self, keys: &[String]) -> Result<Vec<TaskStatus>, Error>;

    /// Interrupts tasks, and kills those that have not ended after `grace_ms`. Does not wait.
    ///
    /// # Errors
    /// If Ray's client cannot be used.
    fn cancel(&self, keys: &[String], grace_ms: u64) -> Result<(), Error>;
}

/// The state of one call.
pub(crate) struct TasksState {
    runner: Option<Arc<dyn TaskRunner>>,
}

impl HostCapability for TasksState {
    const GRANT: Option<&'static Capability> = Some(&CAPABILITY);

    fn new(context: &CallContext<'_>) -> Self {
        Self { runner: context.options.tasks.clone() }
    }

    fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        tasks::add_to_linker::<CallState, Uses<Self>>(linker, CallState::view)
    }
}

fn check_count(count: usize) -> Result<(), Error> {
    if count > MAX_TASKS {
        return Err(Error::Other(format!("{count} tasks in one request; at most {MAX_TASKS} are allowed")));
    }
    Ok(())
}

impl View<'_, TasksState> {
    /// Runs blocking work with the runner on a blocking thread.
    async fn with_runner<T: Send + 'static>(
        &mut self,
        function: &str,
        work: impl FnOnce(&dyn TaskRunner) -> Result<T, Error> + Send + 'static,
    ) -> wasmtime::Result<Result<T, Error>> {
        let Some(runner) = self.state.runner.clone() else {
            return Ok(Err(Error::Unsupported(format!(
                "tasks.{function}: the caller of the component executes no steps as Ray tasks; let the component \
                 launch each step as a Ray job of its own"
            ))));
        };
        Ok(tokio::task::spawn_blocking(move || work(runner.as_ref())).await?)
    }
}

impl Host for View<'_, TasksState> {
    async fn warm(&mut self, workers: WarmSpec) -> wasmtime::Result<Result<(), Error>> {
        self.with_runner("warm", move |runner| runner.warm(&workers)).await
    }

    async fn submit(
        &mut self,
        tasks: Vec<TaskSpec>,
    ) -> wasmtime::Result<Result<Vec<Result<(), Error>>, Error>> {
        self.with_runner("submit", move |runner| {
            check_count(tasks.len())?;
            Ok(tasks.iter().map(|task| runner.submit(task)).collect())
        })
        .await
    }

    async fn status(&mut self, keys: Vec<String>) -> wasmtime::Result<Result<Vec<TaskStatus>, Error>> {
        self.with_runner("status", move |runner| {
            check_count(keys.len())?;
            runner.status(&keys)
        })
        .await
    }

    async fn cancel(&mut self, keys: Vec<String>, grace_ms: u64) -> wasmtime::Result<Result<(), Error>> {
        self.with_runner("cancel", move |runner| {
            check_count(keys.len())?;
            runner.cancel(&keys, grace_ms)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use wasmtime::component::ResourceTable;

    use super::*;

    #[tokio::test]
    async fn without_a_runner_every_call_is_unsupported_with_what_to_use_instead() {
        let (mut state, mut table) = (TasksState { runner: None }, ResourceTable::new());
        let mut host = View { state: &mut state, table: &mut table };
        let reservation = Reservation {
            num_cpus: 1.0,
            num_gpus: 0.0,
            memory: None,
            resources: Vec::new(),
            label_selector: Vec::new(),
        };
        let warm = WarmSpec { count: 1, reservation, runtime_env: "{}".to_owned() };
        let refused = [
            host.warm(warm).await.unwrap().unwrap_err(),
            host.submit(Vec::new()).await.unwrap().unwrap_err(),
            host.status(Vec::new()).await.unwrap().unwrap_err(),
            host.cancel(Vec::new(), 0).await.unwrap().unwrap_err(),
        ];
        for error in refused {
            let Error::Unsupported(text) = error else { panic!("{error:?}") };
            assert!(text.contains("as a Ray job of its own"), "{text}");
        }
    }
}
