//! The value store, behind a trait.

use dagster_ray_sdk::Error;
use dagster_ray_sdk::bindings::objects::{self, Entry, Value};

/// A store for values of type `V`.
pub trait ValueStore<V> {
    /// Stores a value. `keep_until` is its expiry time in seconds since the Unix epoch.
    ///
    /// # Errors
    /// The store rejects the value. Without `overwrite`, an existing entry is a `conflict`.
    fn put(
        &self,
        key: &str,
        value: &V,
        overwrite: bool,
        keep_until: Option<u64>,
        attributes: &[(String, String)],
    ) -> Result<Entry, Error>;

    /// Loads a value.
    ///
    /// # Errors
    /// The key does not exist (`not-found`), or the store is unavailable.
    fn get(&self, key: &str) -> Result<V, Error>;

    /// Returns the entries of keys, in the order of the keys, without loading the values.
    ///
    /// # Errors
    /// The store is unavailable.
    fn stat(&self, keys: &[String]) -> Result<Vec<Option<Entry>>, Error>;

    /// Returns the entries whose keys start with a prefix.
    ///
    /// # Errors
    /// The store is unavailable.
    fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error>;

    /// Removes entries, and returns how many were removed.
    ///
    /// # Errors
    /// The store is unavailable.
    fn delete(&self, keys: &[String]) -> Result<u32, Error>;
}

/// A store of the host, granted by the manifest.
pub struct HostStore(objects::Store);

impl HostStore {
    /// Opens the store of this name.
    ///
    /// # Errors
    /// The manifest does not grant the store.
    pub fn open(name: &str) -> Result<Self, Error> {
        objects::Store::open(name).map(Self)
    }
}

/// A value of the host.
pub enum ValueHandle<'a> {
    /// A value to save, borrowed from the call.
    Borrowed(&'a Value),
    /// A value that was loaded.
    Owned(Value),
}

impl ValueStore<ValueHandle<'_>> for HostStore {
    fn put(
        &self,
        key: &str,
        value: &ValueHandle<'_>,
        overwrite: bool,
        keep_until: Option<u64>,
        attributes: &[(String, String)],
    ) -> Result<Entry, Error> {
        let value = match value {
            ValueHandle::Borrowed(value) => value,
            ValueHandle::Owned(value) => value,
        };
        self.0.put(key, value, overwrite, keep_until, attributes)
    }

    fn get(&self, key: &str) -> Result<ValueHandle<'static>, Error> {
        self.0.get(key).map(ValueHandle::Owned)
    }

    fn stat(&self, keys: &[String]) -> Result<Vec<Option<Entry>>, Error> {
        self.0.stat(keys)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        self.0.list(prefix)
    }

    fn delete(&self, keys: &[String]) -> Result<u32, Error> {
        self.0.delete(keys)
    }
}
