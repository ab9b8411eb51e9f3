//! What a process has once: the engine, the threads, the connections, the started programs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::Duration;

use dagster_ray_policy::LoadError;
use tokio::runtime::Runtime;
use wasmtime::Engine;

use crate::capability::clock::Pace;
use crate::capability::http::cassette::{self, CassetteMode, Tape};
use crate::capability::http::{Clients, Door, Intercept};
use crate::capability::kubernetes::Clusters;
use crate::capability::processes::Programs;
use crate::engine::{Machine, Ticking};
use crate::error::refused;

struct Inner {
    machine: Machine,
    runtime: Runtime,
    clients: Clients,
    door: Door,
    pace: Pace,
    clusters: Clusters,
    programs: Programs,
    installed: Option<PathBuf>,
}

/// What a host does besides running components. Nothing, mostly.
#[derive(Clone, Default)]
pub struct HostOptions {
    /// Records what components ask over HTTP, or answers them from such a record.
    pub cassette: Option<CassetteMode>,
    /// Sees what components ask over HTTP, and can make it fail.
    pub intercept: Option<Arc<dyn Intercept>>,
    /// How fast time passes for components.
    pub pace: Pace,
    /// The folder of the components that are installed with the package. Compiled code beside them
    /// is loaded as it is, so the folder must be as trusted as the running program.
    pub installed: Option<PathBuf>,
}

impl HostOptions {
    /// What the environment asks for: a cassette, by `DAGSTER_RAY_CASSETTE`.
    ///
    /// # Errors
    /// Where the variable says neither to record nor to replay.
    pub fn of_environment() -> Result<Self, LoadError> {
        let cassette = match std::env::var(cassette::VARIABLE) {
            Ok(text) if !text.is_empty() => {
                let mode = text.parse::<CassetteMode>()?;
                warn_of(&mode);
                Some(mode)
            }
            _ => None,
        };
        Ok(Self { cassette, ..Self::default() })
    }
}

/// Warns that the environment has this process record or replay, once: where that is a mistake, nothing
/// else shows it.
fn warn_of(mode: &CassetteMode) {
    static WARNED: Once = Once::new();
    let (variable, unset) = (cassette::VARIABLE, "Unset it where that is not intended");
    WARNED.call_once(|| match mode {
        CassetteMode::Record(path) => tracing::warn!(
            target: "dagster_ray_runtime",
            "{variable} is set: every HTTP request of a component, and its answer, is recorded in {}. {unset}",
            path.display()
        ),
        CassetteMode::Replay(path) => tracing::warn!(
            target: "dagster_ray_runtime",
            "{variable} is set: HTTP requests of components are answered from {}, and nothing reaches Ray or Kubernetes. {unset}",
            path.display()
        ),
    });
}

/// The host of a process. Clones are the same host.
///
/// It starts threads, so it is made on first use and never before a fork: in a forked child its
/// threads are gone, and calls would hang.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

impl Host {
    /// Starts the engine and its threads.
    ///
    /// # Errors
    /// Where the machine does not let it: no memory, no threads.
    pub fn start() -> Result<Self, LoadError> {
        Self::start_with(HostOptions::default())
    }

    /// The same, with somebody at the door.
    ///
    /// # Errors
    /// As [`Host::start`], and where the cassette cannot be used.
    pub fn start_with(options: HostOptions) -> Result<Self, LoadError> {
        let HostOptions { cassette: mode, intercept, pace, installed } = options;
        let tape = mode.as_ref().map(Tape::open).transpose()?;
        let machine = Machine::start()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("dagster-ray")
            .enable_all()
            .build()
            .map_err(|error| refused(error.into()))?;
        Ok(Self(Arc::new(Inner {
            machine,
            runtime,
            clients: Clients::default(),
            door: Door { intercept, tape },
            pace,
            clusters: Clusters::default(),
            programs: Programs::default(),
            installed,
        })))
    }

    /// Stops every program that a component started, at once, and returns when they are gone.
    /// Those that do not end within `grace` are killed.
    pub fn shutdown(&self, grace: Duration) {
        let programs = self.programs().clone();
        self.0.runtime.block_on(async move { programs.stop_all(grace).await });
    }

    /// Whether the component of that file and sha256 need not be compiled any more on this machine.
    pub fn is_compiled(&self, component: &Path, digest: &str) -> bool {
        crate::precompiled::file(self.installed(), component, digest).is_some()
            || crate::cache::holds(self.engine(), digest)
    }

    pub(crate) fn installed(&self) -> Option<&Path> {
        self.0.installed.as_deref()
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.0.machine.engine()
    }

    pub(crate) fn tick(&self) -> Ticking {
        self.0.machine.tick()
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    pub(crate) fn clients(&self) -> &Clients {
        &self.0.clients
    }

    pub(crate) fn door(&self) -> &Door {
        &self.0.door
    }

    pub(crate) fn pace(&self) -> Pace {
        self.0.pace
    }

    pub(crate) fn clusters(&self) -> &Clusters {
        &self.0.clusters
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.0.programs
    }
}
