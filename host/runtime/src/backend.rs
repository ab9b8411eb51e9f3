//! A component file with its configuration, reloaded when the file changes.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use dagster_ray_policy::manifest::Manifest;
use dagster_ray_policy::{LoadError, Policy};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use crate::audit::AuditedCall;
use crate::capability::kubernetes::{Failure, Forward, forward, ray_token};
use crate::host::Host;
use crate::loader::{self, Loaded};
use crate::options::BackendOptions;

/// Detects that a file changed since it was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// The component that was loaded last, with the stamps of its files at that time.
struct LastLoad {
    component_stamp: Stamp,
    manifest_stamp: Option<Stamp>,
    loaded: Arc<Loaded>,
    policy: Arc<Policy>,
}

/// A component file with its settings. Clones share one backend.
#[derive(Clone)]
pub struct Backend(Arc<Inner>);

struct Inner {
    host: Host,
    options: BackendOptions,
    last_load: Mutex<Option<LastLoad>>,
    /// Held while the file is read or compiled, so that calls wait for it without a thread each.
    loading: Arc<tokio::sync::Mutex<()>>,
}

impl Backend {
    /// Creates a backend. The first use loads the file.
    pub fn new(host: Host, options: BackendOptions) -> Self {
        Self(Arc::new(Inner { host, options, last_load: Mutex::new(None), loading: Arc::default() }))
    }

    pub(crate) fn host(&self) -> &Host {
        &self.0.host
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.options.path
    }

    pub(crate) fn file_name(&self) -> String {
        self.0.options.path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
    }

    pub(crate) fn options(&self) -> &BackendOptions {
        &self.0.options
    }

    /// Returns whether this process runs in a pod of the Kubernetes cluster of the options.
    pub fn is_inside_cluster(&self) -> bool {
        self.0.options.kubernetes.is_inside()
    }

    /// Returns the authentication token of the RayCluster whose head has a Service of the Kubernetes cluster, or none
    /// if it needs no token. Blocks. The component's grant `cluster_services` must allow the Service's port.
    ///
    /// # Errors
    /// The component cannot be loaded, or the token cannot be read.
    pub fn ray_token(
        &self,
        namespace: &str,
        service: &str,
        port: u16,
    ) -> Result<Option<String>, ForwardError> {
        let (_, services) = self.0.host.shared().clusters.get(&self.0.options.kubernetes);
        self.0.host.runtime().block_on(async {
            let load = self.load().await;
            let (loaded, policy) =
                load.map_err(|error| Failure::Host(format!("the component was not loaded: {error}")))??;
            let audited = AuditedCall::operation(&loaded.manifest.id, &loaded.digest, "ray-token");
            Ok(audited.scope(ray_token(&services, &policy, namespace, service, port)).await?)
        })
    }

    /// Starts to open a local port that forwards to a Service of the Kubernetes cluster. The component's grant
    /// `cluster_services` must allow the Service: a component names the Service in its answers.
    pub fn forward(&self, namespace: &str, service: &str, port: u16) -> PendingForward {
        let (sender, outcome) = oneshot::channel();
        let (cluster, _) = self.0.host.shared().clusters.get(&self.0.options.kubernetes);
        let (namespace, service) = (namespace.to_owned(), service.to_owned());
        let backend = self.clone();
        let task = self.0.host.runtime().spawn(async move {
            let opened = async {
                let (loaded, policy) = backend.load().await.map_err(ended)??;
                let audited = AuditedCall::operation(&loaded.manifest.id, &loaded.digest, "port-forward");
                Ok(audited.scope(forward(cluster, &policy, &namespace, &service, port)).await?)
            };
            let _ = sender.send(opened.await);
        });
        PendingForward { backend: self.clone(), outcome, task }
    }

    /// Returns the component's name, its digest and the names of its exported interfaces.
    ///
    /// # Errors
    /// If the file cannot be loaded.
    pub fn describe(&self) -> Result<(String, String, Vec<&'static str>), LoadError> {
        let (loaded, _) = self.current()?;
        let exports = loaded.introspection.interfaces.iter().map(|interface| interface.name()).collect();
        Ok((loaded.manifest.id.clone(), loaded.digest.clone(), exports))
    }

    /// Returns the component if it is loaded and its files have not changed. Does not block.
    pub(crate) fn unchanged(&self) -> Option<(Arc<Loaded>, Arc<Policy>)> {
        let last_load = self.0.last_load.try_lock().ok()?;
        let last = last_load.as_ref()?;
        let path = &self.0.options.path;
        let is_unchanged = stamp(path).is_ok_and(|found| found == last.component_stamp)
            && stamp(&Manifest::path_of(path)).ok() == last.manifest_stamp;
        is_unchanged.then(|| (last.loaded.clone(), last.policy.clone()))
    }

    /// Returns the component as [`Self::current`] does, from a thread that may block. Dropping the future does
    /// not end a load in progress: a later call uses its result.
    pub(crate) async fn load(&self) -> Result<Result<(Arc<Loaded>, Arc<Policy>), LoadError>, JoinError> {
        let turn = self.0.loading.clone().lock_owned().await;
        let backend = self.clone();
        // Compilation takes a large part of a second and would block other calls on a runtime thread.
        tokio::task::spawn_blocking(move || {
            let loaded = backend.current();
            drop(turn);
            loaded
        })
        .await
    }

    /// Returns the component, and reloads it if its file or manifest changed. Calls in progress finish
    /// with the version that they started with.
    pub(crate) fn current(&self) -> Result<(Arc<Loaded>, Arc<Policy>), LoadError> {
        let options = &self.0.options;
        let mut last_load = self.0.last_load.lock().unwrap_or_else(PoisonError::into_inner);
        let manifest = Manifest::path_of(&options.path);
        let mut tries = 0;
        loop {
            let stamp = stamp(&options.path).map_err(|error| LoadError::Unreadable {
                path: options.path.clone(),
                problem: error.to_string(),
            })?;
            let manifest_stamp = self::stamp(&manifest).ok();
            if let Some(last) = last_load.as_ref()
                && (&last.component_stamp, &last.manifest_stamp) == (&stamp, &manifest_stamp)
            {
                return Ok((last.loaded.clone(), last.policy.clone()));
            }
            match loader::load(&self.0.host, options) {
                Ok(loaded) => {
                    let policy = Arc::new(Policy::new(
                        &loaded.manifest.grants,
                        &options.authorities,
                        &options.directories,
                        &options.programs,
                    ));
                    *last_load = Some(LastLoad {
                        component_stamp: stamp,
                        manifest_stamp,
                        loaded: loaded.clone(),
                        policy: policy.clone(),
                    });
                    return Ok((loaded, policy));
                }
                // A file that was modified recently may be incomplete.
                Err(_) if last_load.is_some() && tries < 10 && is_recent(&stamp) => {
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(200));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Why a local port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The component cannot be loaded, so its grants are unknown.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The grants or the cluster do not allow the port-forward.
    #[error(transparent)]
    Kubernetes(#[from] Failure),
}

/// Converts the error of a task that has ended without a result.
fn ended(error: impl std::fmt::Display) -> ForwardError {
    Failure::Host(format!("the port was not opened: {error}")).into()
}

/// A local port that is being opened. Dropping it cancels the opening.
pub struct PendingForward {
    backend: Backend,
    outcome: oneshot::Receiver<Result<Forward, ForwardError>>,
    task: JoinHandle<()>,
}

impl PendingForward {
    /// Waits for the port. Returns none if it is not open within `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Option<Result<Forward, ForwardError>> {
        self.backend.0.host.runtime().block_on(async {
            let outcome = tokio::time::timeout(timeout, &mut self.outcome).await.ok()?;
            Some(outcome.unwrap_or_else(|error| Err(ended(error))))
        })
    }
}

impl Drop for PendingForward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn stamp(path: &std::path::Path) -> std::io::Result<Stamp> {
    let metadata = std::fs::metadata(path)?;
    Ok(Stamp {
        inode: metadata.ino(),
        size: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    })
}

fn is_recent(stamp: &Stamp) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    now.saturating_sub(stamp.modified.0.cast_unsigned()) < 3
}
