//! What outlives a call: a bucket of the host, shared by every process of a simulation.

use dagster_ray_sdk::{Error, bindings::keyvalue};

/// The name of the bucket in the manifest.
pub const BUCKET: &str = "simulation";

/// Keys with values, behind a trait, so that the rules are tested natively.
pub trait Keys {
    /// The value under a key.
    ///
    /// # Errors
    /// Where the bucket cannot be read.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Puts a value under a key.
    ///
    /// # Errors
    /// Where the bucket cannot be written.
    fn set(&self, key: &str, value: &[u8]) -> Result<(), Error>;

    /// Removes a key. One that is not there is no error.
    ///
    /// # Errors
    /// Where the bucket cannot be written.
    fn delete(&self, key: &str) -> Result<(), Error>;

    /// All keys that begin with a prefix, in order.
    ///
    /// # Errors
    /// Where the bucket cannot be read.
    fn below(&self, prefix: &str) -> Result<Vec<String>, Error>;

    /// Adds to a number, atomically, and returns the sum. What is not there counts as 0.
    ///
    /// # Errors
    /// Where the bucket cannot be written, or the key holds no number.
    fn add(&self, key: &str, delta: u64) -> Result<u64, Error>;

    /// The number under a key; 0 where there is none.
    ///
    /// # Errors
    /// Where the bucket cannot be read, or the key holds no number.
    fn number(&self, key: &str) -> Result<u64, Error> {
        let Some(bytes) = self.get(key)? else { return Ok(0) };
        let text = String::from_utf8_lossy(&bytes);
        text.trim().parse().map_err(|_| Error::Other(format!("the key {key} holds `{text}`, not a number")))
    }

    /// Whether this is the first time that anybody says this.
    ///
    /// # Errors
    /// Where the bucket cannot be written.
    fn first(&self, key: &str) -> Result<bool, Error> {
        Ok(self.add(key, 1)? == 1)
    }
}

/// The host's bucket.
pub struct HostKeys(keyvalue::store::Bucket);

impl HostKeys {
    /// Opens it.
    ///
    /// # Errors
    /// Where the manifest does not grant it, or the configuration names no directory.
    pub fn open() -> Result<Self, Error> {
        keyvalue::store::open(BUCKET).map(Self).map_err(|error| match error {
            keyvalue::store::Error::AccessDenied => Error::denied("keyvalue", BUCKET),
            other => failed(other),
        })
    }
}

fn failed(error: keyvalue::store::Error) -> Error {
    let problem = match error {
        keyvalue::store::Error::NoSuchStore => "there is none of that name".to_owned(),
        keyvalue::store::Error::AccessDenied => "the host does not allow it".to_owned(),
        keyvalue::store::Error::Other(problem) => problem,
    };
    Error::Other(format!("the simulation's bucket `{BUCKET}`: {problem}"))
}

impl Keys for HostKeys {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(key).map_err(failed)
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.0.set(key, value).map_err(failed)
    }

    fn delete(&self, key: &str) -> Result<(), Error> {
        self.0.delete(key).map_err(failed)
    }

    fn below(&self, prefix: &str) -> Result<Vec<String>, Error> {
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
