//! `dagster-ray:host/tasks`: Ray tasks in the run's own Ray job.
//!
//! This version of the host submits no tasks. The interface is part of the contract, so that components that
//! use it can be built and loaded; every call is an `unsupported` error.

use dagster_ray_policy::capability::Capability;
use dagster_ray_policy::capability::tasks::CAPABILITY;
use wasmtime::component::Linker;

use self::bindings::dagster_ray::host::tasks::{self, Host, TaskSpec, TaskStatus, WarmSpec};
use super::{CallContext, CallState, HostCapability, Uses, View};
use crate::model::Error;

#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)]
mod bindings {
    crate::wit::generate!(
        "package dagster-ray:runtime; world tasks { import dagster-ray:host/tasks@0.1.0; }",
        with: { "dagster-ray:host/model": crate::model }
    );
}

/// The state of one call: none.
pub(crate) struct TasksState;

impl HostCapability for TasksState {
    const GRANT: Option<&'static Capability> = Some(&CAPABILITY);

    fn new(_: &CallContext<'_>) -> Self {
        Self
    }

    fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        tasks::add_to_linker::<CallState, Uses<Self>>(linker, CallState::view)
    }
}

fn unsupported<T>(function: &str) -> wasmtime::Result<Result<T, Error>> {
    Ok(Err(Error::Unsupported(format!(
        "tasks.{function}: this version of dagster-ray submits no Ray tasks; let the component launch each step as \
         a Ray job of its own"
    ))))
}

impl Host for View<'_, TasksState> {
    async fn warm(&mut self, _workers: WarmSpec) -> wasmtime::Result<Result<(), Error>> {
        unsupported("warm")
    }

    async fn submit(
        &mut self,
        _tasks: Vec<TaskSpec>,
    ) -> wasmtime::Result<Result<Vec<Result<(), Error>>, Error>> {
        unsupported("submit")
    }

    async fn status(&mut self, _keys: Vec<String>) -> wasmtime::Result<Result<Vec<TaskStatus>, Error>> {
        unsupported("status")
    }

    async fn cancel(&mut self, _keys: Vec<String>, _grace_ms: u64) -> wasmtime::Result<Result<(), Error>> {
        unsupported("cancel")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use wasmtime::component::ResourceTable;

    use super::bindings::dagster_ray::host::tasks::Reservation;
    use super::*;

    #[tokio::test]
    async fn every_call_is_refused_as_unsupported_with_what_to_use_instead() {
        let (mut state, mut table) = (TasksState, ResourceTable::new());
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
