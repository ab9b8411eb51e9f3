//! Process-wide state: the engine, threads, connections and started programs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dagster_ray_policy::LoadError;
use tokio::runtime::Runtime;
use wasmtime::Engine;

use crate::capability::Shared;
use crate::capability::clock::Clock;
use crate::capability::http::Interceptor;
use crate::capability::processes::{ProcessPrograms, SharedProgramOptions};
use crate::engine::{EngineHandle, TickGuard};
use crate::error::engine_error;

struct Inner {
    engine: EngineHandle,
    runtime: Runtime,
    shared: Shared,
    installed: Option<PathBuf>,
}

/// Options of a host. By default, no request is intercepted, and components see real time.
#[derive(Clone, Default)]
pub struct HostOptions {
    /// Intercepts the HTTP requests of components.
    pub interceptor: Option<Arc<dyn Interceptor>>,
    /// The monotonic clock of components.
    pub clock: Option<Arc<dyn Clock>>,
    /// The directory of the components that are installed with the package. Compiled code in it is
    /// loaded without verification, so the directory must be as trusted as the running program.
    pub installed: Option<PathBuf>,
    /// How to run programs that outlive this process. Without it, components cannot share programs.
    pub shared_programs: Option<SharedProgramOptions>,
}

/// The host of a process. Clones share one host.
///
/// The host starts threads, which do not survive a fork: in a forked child, calls would hang. Create it
/// on first use, never before a fork.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

impl Host {
    /// Starts the engine and its threads.
    ///
    /// # Errors
    /// If memory or threads cannot be allocated.
    pub fn start() -> Result<Self, LoadError> {
        Self::start_with(HostOptions::default())
    }

    /// Starts the engine and its threads with options.
    ///
    /// # Errors
    /// As [`Host::start`].
    pub fn start_with(options: HostOptions) -> Result<Self, LoadError> {
        let HostOptions { interceptor, clock, installed, shared_programs } = options;
        let engine = EngineHandle::start()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("dagster-ray")
            .enable_all()
            .build()
            .map_err(|error| engine_error(error.into()))?;
        let programs = ProcessPrograms::new(shared_programs);
        let shared = Shared { interceptor, clock, programs, ..Shared::default() };
        Ok(Self(Arc::new(Inner { engine, runtime, shared, installed })))
    }

    /// Stops all programs that components started, in parallel, and waits until they have ended.
    /// Programs that do not end within `grace` are killed. Shared programs run on while others use them.
    pub fn shutdown(&self, grace: Duration) {
        let programs = self.shared().programs.clone();
        self.0.runtime.block_on(async move { programs.stop_all(grace).await });
    }

    /// Returns whether compiled code of a component exists on this machine.
    pub fn is_compiled(&self, component: &Path, digest: &str) -> bool {
        crate::precompiled::file(self.installed(), component, digest).is_some()
            || crate::cache::contains(self.engine(), digest)
    }

    /// Returns whether a component is in the directory of the installed components.
    pub(crate) fn is_installed(&self, component: &Path) -> bool {
        component.parent().is_some_and(|parent| self.installed() == Some(parent))
    }

    pub(crate) fn installed(&self) -> Option<&Path> {
        self.0.installed.as_deref()
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.0.engine.engine()
    }

    pub(crate) fn tick_guard(&self) -> TickGuard {
        self.0.engine.tick_guard()
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
    }
}
