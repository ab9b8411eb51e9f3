//! The key-value bucket that stores the simulation's state between calls, shared by all its processes.

use dagster_ray_sdk::{Error, bindings::keyvalue};

/// The name of the bucket in the manifest.
pub const BUCKET: &str = "simulation";

/// A key-value bucket, behind a trait so that the rules can be tested natively.
pub trait KeyValueStore {
    /// Returns the value of a key.
    ///
    /// # Errors
    /// The bucket cannot be read.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Sets the value of a key.
    ///
    /// # Errors
    /// The bucket cannot be written.
    fn set(&self, key: &str, value: &[u8]) -> Result<(), Error>;

    /// Removes a key. A missing key is not an error.
    ///
    /// # Errors
    /// The bucket cannot be written.
    fn delete(&self, key: &str) -> Result<(), Error>;

    /// Returns all keys that start with a prefix, sorted.
    ///
    /// # Errors
    /// The bucket cannot be read.
    fn keys_with_prefix(&self, prefix: &str) -> Result<Vec<String>, Error>;

    /// Adds to a number atomically, and returns the sum. A missing key counts as 0.
    ///
    /// # Errors
    /// The bucket cannot be written, or the value is not a number.
    fn add(&self, key: &str, delta: u64) -> Result<u64, Error>;

    /// Returns the number of a key; 0 if the key is missing.
    ///
    /// # Errors
    /// The bucket cannot be read, or the value is not a number.
    fn number(&self, key: &str) -> Result<u64, Error> {
        let Some(bytes) = self.get(key)? else { return Ok(0) };
        let text = String::from_utf8_lossy(&bytes);
        text.trim()
            .parse()
            .map_err(|_| Error::Other(format!("the value of the key `{key}` is `{text}`, not a number")))
    }

    /// Claims a key, and returns whether this call is the first to claim it in the whole simulation.
    ///
    /// # Errors
    /// The bucket cannot be written.
    fn claim(&self, key: &str) -> Result<bool, Error> {
        Ok(self.add(key, 1)? == 1)
    }
}

/// A bucket of the host (`wasi:keyvalue/store`).
pub struct HostStore(keyvalue::store::Bucket);

impl HostStore {
    /// Opens the bucket.
    ///
    /// # Errors
    /// The manifest does not grant the bucket, or the configuration names no directory.
    pub fn open() -> Result<Self, Error> {
        keyvalue::store::open(BUCKET).map(Self).map_err(|error| match error {
            keyvalue::store::Error::AccessDenied => Error::denied("keyvalue", BUCKET),
            other => failed(other),
        })
    }
}

fn failed(error: keyvalue::store::Error) -> Error {
    let problem = match error {
        keyvalue::store::Error::NoSuchStore => "it does not exist".to_owned(),
        keyvalue::store::Error::AccessDenied => "the host denied access".to_owned(),
        keyvalue::store::Error::Other(problem) => problem,
    };
    Error::Other(format!("the simulation's bucket `{BUCKET}`: {problem}"))
}

impl KeyValueStore for HostStore {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(key).map_err(failed)
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.0.set(key, value).map_err(failed)
    }

    fn delete(&self, key: &str) -> Result<(), Error> {
        self.0.delete(key).map_err(failed)
    }

    fn keys_with_prefix(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.0.list_keys(cursor).map_err(failed)?;
            found.extend(page.keys.into_iter().filter(|key| key.starts_with(prefix)));
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        found.sort();
        Ok(found)
    }

    fn add(&self, key: &str, delta: u64) -> Result<u64, Error> {
        keyvalue::atomics::increment(&self.0, key, delta).map_err(failed)
    }
}
