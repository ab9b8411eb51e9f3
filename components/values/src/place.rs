//! The store behind a trait.

use dagster_ray_sdk::Error;
use dagster_ray_sdk::bindings::objects::{self, Entry, Value};

/// A place that keeps values of type `V`.
pub trait Place<V> {
    /// Keeps a value.
    ///
    /// # Errors
    /// Where the store refuses it.
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
    /// Where there is none, or the store cannot be reached.
    fn get(&self, key: &str) -> Result<V, Error>;

    /// Looks at entries, in the order of the keys.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    fn stat(&self, keys: &[String]) -> Result<Vec<Option<Entry>>, Error>;

    /// The entries whose keys begin with a prefix.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error>;

    /// Removes entries.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    fn delete(&self, keys: &[String]) -> Result<u32, Error>;
}

/// A store that the host lends.
pub struct Lent(objects::Store);

impl Lent {
    /// Opens it.
    ///
    /// # Errors
    /// Where the manifest does not grant it.
    pub fn open(name: &str) -> Result<Self, Error> {
        objects::Store::open(name).map(Self)
    }
}

/// A value that is saved is borrowed from the call, one that is loaded is owned; both are this.
pub enum Handle<'a> {
    /// Of the call.
    Borrowed(&'a Value),
    /// Loaded.
    Owned(Value),
}

impl Place<Handle<'_>> for Lent {
    fn put(
        &self,
        key: &str,
        value: &Handle<'_>,
        overwrite: bool,
        keep_until: Option<u64>,
        attributes: &[(String, String)],
    ) -> Result<Entry, Error> {
        let value = match value {
            Handle::Borrowed(value) => value,
            Handle::Owned(value) => value,
        };
        self.0.put(key, value, overwrite, keep_until, attributes)
    }

    fn get(&self, key: &str) -> Result<Handle<'static>, Error> {
        self.0.get(key).map(Handle::Owned)
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
