//! Runs pulls and pushes on their own thread, so that a caller can check for signals while waiting.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use dagster_ray_policy::TrustedKeys;
use tokio::sync::oneshot;

use crate::error::RegistryError;
use crate::pull::pull;
use crate::push::{Pushed, SignedManifest, push};
use crate::reference::Reference;
use crate::store::{Pulled, Store};

/// A pull or push in progress. Dropping it cancels the operation.
pub struct Transfer<T> {
    outcome: Receiver<Result<T, RegistryError>>,
    _alive: oneshot::Sender<()>,
}

impl Transfer<Pulled> {
    /// Starts a pull into the store in `cache`. With `trusted`, one of its keys must have signed the component.
    ///
    /// # Errors
    /// If `cache` is `None`, or no thread can be started.
    pub fn pull(
        reference: Reference,
        cache: Option<PathBuf>,
        trusted: Option<TrustedKeys>,
    ) -> Result<Self, RegistryError> {
        let store = Store::new(&cache.ok_or(RegistryError::NoCacheDirectory)?);
        Self::begin(async move { pull(&reference, &store, trusted.as_ref()).await })
    }
}

impl Transfer<Pushed> {
    /// Starts a push. `signed` replaces the manifest and the signature beside the file.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn push(
        file: &Path,
        reference: Reference,
        signed: Option<SignedManifest>,
    ) -> Result<Self, RegistryError> {
        let file = file.to_owned();
        Self::begin(async move { push(&file, &reference, signed).await })
    }
}

impl<T: Send + 'static> Transfer<T> {
    fn begin(
        operation: impl Future<Output = Result<T, RegistryError>> + Send + 'static,
    ) -> Result<Self, RegistryError> {
        let (sender, outcome) = channel();
        let (alive, canceled) = oneshot::channel::<()>();
        let failed = |error: std::io::Error| RegistryError::Internal(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        std::thread::Builder::new()
            .name("dagster-ray-registry".into())
            .spawn(move || {
                runtime.block_on(async move {
                    tokio::select! {
                        // Fails only if the `Transfer` was dropped.
                        outcome = operation => { let _ = sender.send(outcome); }
                        _ = canceled => {}
                    }
                });
            })
            .map_err(failed)?;
        Ok(Self { outcome, _alive: alive })
    }

    /// Waits at most `timeout` for the outcome. Returns `None` if there is none yet.
    pub fn wait(&self, timeout: Duration) -> Option<Result<T, RegistryError>> {
        match self.outcome.recv_timeout(timeout) {
            Ok(outcome) => Some(outcome),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                Some(Err(RegistryError::Internal("its thread ended without a result".into())))
            }
        }
    }
}
