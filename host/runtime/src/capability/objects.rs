//! `dagster-ray:host/objects`: values of the host's language, and the stores that keep them.
//!
//! A component has only handles and keys: a value's bytes never enter the component. The program that
//! embeds the host provides the stores, because only a value's own language can serialize it.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use dagster_ray_policy::capability::Capability;
use dagster_ray_policy::capability::objects::{self as grant, CAPABILITY, missing_grant};
use wasmtime::component::{Linker, Resource};

use self::bindings::dagster_ray::host::objects::{self, Host, HostStore, HostValue};
use super::{CallContext, CallState, HostCapability, Uses, View, denied};
use crate::model::Error;

pub use self::bindings::dagster_ray::host::objects::{Entry, ValueInfo};

#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)]
pub(crate) mod bindings {
    crate::wit::generate!(
        "package dagster-ray:runtime; world objects { import dagster-ray:host/objects@0.1.0; }",
        with: {
            "dagster-ray:host/model": crate::model,
            "dagster-ray:host/objects.value": crate::capability::objects::Value,
            "dagster-ray:host/objects.store": crate::capability::objects::StoreHandle,
        }
    );
}

/// Maximum number of keys in one request.
const MAX_KEYS: usize = 100_000;

/// A value of the host's language, opaque to the host.
#[derive(Clone)]
pub struct Value {
    /// The metadata that a component can read.
    pub info: ValueInfo,
    /// The value, in the form that the embedding program uses.
    pub content: Arc<dyn Any + Send + Sync>,
}

/// A store of values. The methods may block: the host calls them on blocking threads.
pub trait ObjectStore: Send + Sync {
    /// Puts a value under a key, atomically. `keep_until` is in seconds since the Unix epoch.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the key exists and `overwrite` is not set, or any other error of the
    /// store.
    fn put(
        &self,
        key: &str,
        value: &Value,
        overwrite: bool,
        keep_until: Option<u64>,
        attributes: &[(String, String)],
    ) -> Result<Entry, Error>;

    /// Loads a value.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the key does not exist.
    fn get(&self, key: &str) -> Result<Value, Error>;

    /// Returns entries in the order of the keys. An absent key gives none.
    ///
    /// # Errors
    /// If the store cannot be reached.
    fn stat(&self, keys: &[String]) -> Result<Vec<Option<Entry>>, Error>;

    /// Returns the entries whose keys begin with a prefix, sorted by key.
    ///
    /// # Errors
    /// If the store cannot be reached.
    fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error>;

    /// Deletes entries and ignores absent keys. Returns the number of deleted entries.
    ///
    /// # Errors
    /// If the store cannot be reached.
    fn delete(&self, keys: &[String]) -> Result<u32, Error>;
}

/// A store that a component has opened.
pub struct StoreHandle(Arc<dyn ObjectStore>);

/// The state of one call.
pub(crate) struct ObjectsState {
    /// The granted stores, by name.
    stores: BTreeMap<String, Arc<dyn ObjectStore>>,
}

impl HostCapability for ObjectsState {
    const GRANT: Option<&'static Capability> = Some(&CAPABILITY);

    fn new(context: &CallContext<'_>) -> Self {
        let configured = &context.options.stores;
        let granted = context.manifest.grants.objects.iter();
        let stores = granted.filter_map(|name| Some((name.clone(), configured.get(name)?.clone()))).collect();
        Self { stores }
    }

    fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        objects::add_to_linker::<CallState, Uses<Self>>(linker, CallState::view)
    }
}

fn check_key(key: &str) -> Result<(), Error> {
    grant::check_key(key).map_err(Error::Other)
}

fn check_keys(keys: &[String]) -> Result<(), Error> {
    if keys.len() > MAX_KEYS {
        return Err(Error::Other(format!(
            "{} keys in one request; at most {MAX_KEYS} are allowed",
            keys.len()
        )));
    }
    keys.iter().try_for_each(|key| check_key(key))
}

impl View<'_, ObjectsState> {
    /// Runs blocking work with a store on a blocking thread.
    async fn with_store<T: Send + 'static>(
        &mut self,
        store: &Resource<StoreHandle>,
        work: impl FnOnce(&dyn ObjectStore) -> Result<T, Error> + Send + 'static,
    ) -> wasmtime::Result<Result<T, Error>> {
        let store = self.table.get(store)?.0.clone();
        Ok(tokio::task::spawn_blocking(move || work(store.as_ref())).await?)
    }
}

impl Host for View<'_, ObjectsState> {}

impl HostValue for View<'_, ObjectsState> {
    async fn info(&mut self, value: Resource<Value>) -> wasmtime::Result<ValueInfo> {
        Ok(self.table.get(&value)?.info.clone())
    }

    async fn drop(&mut self, value: Resource<Value>) -> wasmtime::Result<()> {
        self.table.delete(value)?;
        Ok(())
    }
}

impl HostStore for View<'_, ObjectsState> {
    async fn open(&mut self, name: String) -> wasmtime::Result<Result<Resource<StoreHandle>, Error>> {
        let Some(store) = self.state.stores.get(&name).cloned() else {
            return Ok(Err(denied(&CAPABILITY, name.clone(), missing_grant(&name))));
        };
        Ok(Ok(self.table.push(StoreHandle(store))?))
    }

    async fn put(
        &mut self,
        store: Resource<StoreHandle>,
        key: String,
        value: Resource<Value>,
        overwrite: bool,
        keep_until: Option<u64>,
        attributes: Vec<(String, String)>,
    ) -> wasmtime::Result<Result<Entry, Error>> {
        let value = self.table.get(&value)?.clone();
        self.with_store(&store, move |store| {
            check_key(&key)?;
            store.put(&key, &value, overwrite, keep_until, &attributes)
        })
        .await
    }

    async fn get(
        &mut self,
        store: Resource<StoreHandle>,
        key: String,
    ) -> wasmtime::Result<Result<Resource<Value>, Error>> {
        let found = self
            .with_store(&store, move |store| {
                check_key(&key)?;
                store.get(&key)
            })
            .await?;
        match found {
            Ok(value) => Ok(Ok(self.table.push(value)?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn stat(
        &mut self,
        store: Resource<StoreHandle>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<Option<Entry>>, Error>> {
        self.with_store(&store, move |store| {
            check_keys(&keys)?;
            store.stat(&keys)
        })
        .await
    }

    async fn list(
        &mut self,
        store: Resource<StoreHandle>,
        prefix: String,
    ) -> wasmtime::Result<Result<Vec<Entry>, Error>> {
        self.with_store(&store, move |store| {
            grant::check_prefix(&prefix).map_err(Error::Other)?;
            store.list(&prefix)
        })
        .await
    }

    async fn delete(
        &mut self,
        store: Resource<StoreHandle>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<u32, Error>> {
        self.with_store(&store, move |store| {
            check_keys(&keys)?;
            store.delete(&keys)
        })
        .await
    }

    async fn drop(&mut self, store: Resource<StoreHandle>) -> wasmtime::Result<()> {
        self.table.delete(store)?;
        Ok(())
    }
}
