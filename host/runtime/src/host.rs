//! Process-wide state: the engine, threads, connections and started programs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::Duration;

use dagster_ray_policy::LoadError;
use tokio::runtime::Runtime;
use wasmtime::Engine;

use crate::capability::clock::ClockSpeed;
use crate::capability::http::cassette::{self, CassetteHandle, CassetteMode};
use crate::capability::http::{Clients, EgressPipeline, Interceptor};
use crate::capability::kubernetes::Clusters;
use crate::capability::processes::Programs;
use crate::engine::{EngineHandle, TickGuard};
use crate::error::engine_error;

struct Inner {
    engine: EngineHandle,
    runtime: Runtime,
    clients: Clients,
    pipeline: EgressPipeline,
    clock_speed: ClockSpeed,
    clusters: Clusters,
    programs: Programs,
    installed: Option<PathBuf>,
}

/// Options of a host. By default, nothing is recorded or intercepted.
#[derive(Clone, Default)]
pub struct HostOptions {
    /// Records the HTTP requests of components, or replays a recording.
    pub cassette: Option<CassetteMode>,
    /// Intercepts the HTTP requests of components, and can inject faults.
    pub interceptor: Option<Arc<dyn Interceptor>>,
    /// The speed of the components' monotonic clock.
    pub clock_speed: ClockSpeed,
    /// The directory of the components that are installed with the package. Compiled code in it is
    /// loaded without verification, so the directory must be as trusted as the running program.
    pub installed: Option<PathBuf>,
}

impl HostOptions {
    /// Reads the options from the environment: `DAGSTER_RAY_CASSETTE` selects a cassette.
    ///
    /// # Errors
    /// If the variable is neither `record:<directory>` nor `replay:<file>`.
    pub fn from_env() -> Result<Self, LoadError> {
        let cassette = match std::env::var(cassette::VARIABLE) {
            Ok(text) if !text.is_empty() => {
                let mode = text.parse::<CassetteMode>()?;
                warn_about(&mode);
                Some(mode)
            }
            _ => None,
        };
        Ok(Self { cassette, ..Self::default() })
    }
}

/// Warns once per process that the environment enables recording or replaying, because a stray variable
/// is otherwise hard to notice.
fn warn_about(mode: &CassetteMode) {
    static WARNED: Once = Once::new();
    let (variable, unset) = (cassette::VARIABLE, "If this is not intended, unset it");
    WARNED.call_once(|| match mode {
        CassetteMode::Record(path) => tracing::warn!(
            target: "dagster_ray_runtime",
            "{variable} is set: every HTTP request of a component and its response are recorded in {}. {unset}",
            path.display()
        ),
        CassetteMode::Replay(path) => tracing::warn!(
            target: "dagster_ray_runtime",
            "{variable} is set: HTTP requests of components are replayed from {} and never reach Ray or Kubernetes. {unset}",
            path.display()
        ),
    });
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
    /// As [`Host::start`], or if the cassette cannot be used.
    pub fn start_with(options: HostOptions) -> Result<Self, LoadError> {
        let HostOptions { cassette: mode, interceptor, clock_speed, installed } = options;
        let cassette = mode.as_ref().map(CassetteHandle::open).transpose()?;
        let engine = EngineHandle::start()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("dagster-ray")
            .enable_all()
            .build()
            .map_err(|error| engine_error(error.into()))?;
        Ok(Self(Arc::new(Inner {
            engine,
            runtime,
            clients: Clients::default(),
            pipeline: EgressPipeline { interceptor, cassette },
            clock_speed,
            clusters: Clusters::default(),
            programs: Programs::default(),
            installed,
        })))
    }

    /// Stops all programs that components started, in parallel, and waits until they have ended.
    /// Programs that do not end within `grace` are killed.
    pub fn shutdown(&self, grace: Duration) {
        let programs = self.programs().clone();
        self.0.runtime.block_on(async move { programs.stop_all(grace).await });
    }

    /// Returns whether compiled code of a component exists on this machine.
    pub fn is_compiled(&self, component: &Path, digest: &str) -> bool {
        crate::precompiled::file(self.installed(), component, digest).is_some()
            || crate::cache::contains(self.engine(), digest)
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

    pub(crate) fn clients(&self) -> &Clients {
        &self.0.clients
    }

    pub(crate) fn pipeline(&self) -> &EgressPipeline {
        &self.0.pipeline
    }

    pub(crate) fn clock_speed(&self) -> ClockSpeed {
        self.0.clock_speed
    }

    pub(crate) fn clusters(&self) -> &Clusters {
        &self.0.clusters
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.0.programs
    }
}
