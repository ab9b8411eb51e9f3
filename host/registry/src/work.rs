//! Asking a registry on a thread of its own, so that a caller can look for signals meanwhile.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::RegistryError;
use crate::pull::pull;
use crate::push::{Pushed, push};
use crate::reference::Place;
use crate::store::{Pulled, Store};

/// Something under way. Dropping it gives up.
pub struct Work<T> {
    outcome: Receiver<Result<T, RegistryError>>,
    _alive: oneshot::Sender<()>,
}

impl Work<Pulled> {
    /// Begins to pull. Without a cache there is no place for the component.
    ///
    /// # Errors
    /// Where there is no cache, or no thread can be started.
    pub fn pull(place: Place, cache: Option<PathBuf>) -> Result<Self, RegistryError> {
        let store = Store::new(&cache.ok_or(RegistryError::NoPlace)?);
        Self::begin(async move { pull(&place, &store).await })
    }
}

impl Work<Pushed> {
    /// Begins to push.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn push(file: &Path, place: Place) -> Result<Self, RegistryError> {
        let file = file.to_owned();
        Self::begin(async move { push(&file, &place).await })
    }
}

impl<T: Send + 'static> Work<T> {
    fn begin(
        work: impl Future<Output = Result<T, RegistryError>> + Send + 'static,
    ) -> Result<Self, RegistryError> {
        let (sender, outcome) = channel();
        let (alive, given_up) = oneshot::channel::<()>();
        let failed = |error: std::io::Error| RegistryError::Host(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        std::thread::Builder::new()
            .name("dagster-ray-registry".into())
            .spawn(move || {
                runtime.block_on(async move {
                    tokio::select! {
                        // Nobody listens any more where this fails.
                        outcome = work => { let _ = sender.send(outcome); }
                        _ = given_up => {}
                    }
                });
            })
            .map_err(failed)?;
        Ok(Self { outcome, _alive: alive })
    }

    /// Waits for the end, or `most` to pass.
    pub fn wait(&self, most: Duration) -> Option<Result<T, RegistryError>> {
        match self.outcome.recv_timeout(most) {
            Ok(outcome) => Some(outcome),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                Some(Err(RegistryError::Host("its thread is gone".into())))
            }
        }
    }
}
