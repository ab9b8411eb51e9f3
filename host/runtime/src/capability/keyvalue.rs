//! `wasi:keyvalue`: persistent buckets, as directories on the host's machine.
//!
//! `wit/deps` has the draft that other hosts implement. This module implements its interfaces `store`
//! and `atomics`. A key is a file. Writes are atomic and take a file lock, so that several processes
//! can share a bucket.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use wasmtime::component::Resource;

use crate::bindings::dagster_ray::host::model::Denial;
use crate::bindings::wasi::keyvalue::{
    atomics,
    store::{Error, Host, HostBucket, KeyResponse},
};
use crate::store::State;

/// Maximum length of an encoded key, in bytes. Most file systems allow file names of 255 bytes.
const KEY: usize = 240;
/// Maximum size of a value, in bytes.
const VALUE: u64 = 16 << 20;
/// Maximum number of keys in one page of a list.
const PAGE: usize = 1_000;
/// The name of the lock file. An encoded key never begins with a dot.
const LOCK: &str = ".lock";
/// The name prefix of unfinished files.
const UNFINISHED: &str = ".new";
/// Characters of a key that are percent-encoded in the file name.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'=');

/// An opened bucket.
pub struct Bucket(PathBuf);

fn broken(what: &str, error: impl std::fmt::Display) -> Error {
    Error::Other(format!("{what}: {error}"))
}

fn file_name(key: &str) -> Result<String, Error> {
    let name = utf8_percent_encode(key, PLAIN).to_string();
    if name.is_empty() || name.len() > KEY {
        return Err(broken(
            key,
            format!(
                "a key must have 1 to {KEY} bytes; bytes other than letters, digits, `-`, `_` and `=` count as 3"
            ),
        ));
    }
    Ok(name)
}

fn lock(directory: &Path) -> std::io::Result<File> {
    let lock = File::options().create(true).truncate(false).write(true).open(directory.join(LOCK))?;
    lock.lock()?;
    Ok(lock)
}

fn read(directory: &Path, key: &str) -> Result<Option<Vec<u8>>, Error> {
    let path = directory.join(file_name(key)?);
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.len() > VALUE => {
            return Err(broken(key, format!("{} bytes, more than the limit of {VALUE}", metadata.len())));
        }
        _ => {}
    }
    match std::fs::read(path) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(broken(key, error)),
    }
}

/// Writes a value atomically. The caller must hold the lock.
fn write(directory: &Path, key: &str, value: &[u8]) -> Result<(), Error> {
    let path = directory.join(file_name(key)?);
    if value.len() as u64 > VALUE {
        return Err(broken(key, format!("{} bytes, more than the limit of {VALUE}", value.len())));
    }
    let put = || {
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(directory)?;
        file.write_all(value)?;
        file.persist(path)?;
        Ok(())
    };
    put().map_err(|error: std::io::Error| broken(key, error))
}

fn set(directory: &Path, key: &str, value: &[u8]) -> Result<(), Error> {
    let _lock = lock(directory).map_err(|error| broken(key, error))?;
    write(directory, key, value)
}

fn delete(directory: &Path, key: &str) -> Result<(), Error> {
    let _lock = lock(directory).map_err(|error| broken(key, error))?;
    match std::fs::remove_file(directory.join(file_name(key)?)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(broken(key, error)),
        _ => Ok(()),
    }
}

fn increment(directory: &Path, key: &str, delta: u64) -> Result<u64, Error> {
    let _lock = lock(directory).map_err(|error| broken(key, error))?;
    let known = match read(directory, key)? {
        None => 0,
        Some(value) => std::str::from_utf8(&value)
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok())
            .ok_or_else(|| broken(key, "the value is not an unsigned 64-bit number"))?,
    };
    let sum = known.checked_add(delta).ok_or_else(|| broken(key, "the sum exceeds 64 bits"))?;
    write(directory, key, sum.to_string().as_bytes())?;
    Ok(sum)
}

fn list(directory: &Path, cursor: Option<u64>) -> Result<KeyResponse, Error> {
    let entries = std::fs::read_dir(directory).map_err(|error| broken("the bucket", error))?;
    let mut keys: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .filter_map(|name| Some(percent_decode_str(&name).decode_utf8().ok()?.into_owned()))
        .collect();
    keys.sort();
    let from = cursor.map_or(0, |cursor| usize::try_from(cursor).unwrap_or(usize::MAX)).min(keys.len());
    let to = from.saturating_add(PAGE).min(keys.len());
    let cursor = (to < keys.len()).then_some(to as u64);
    Ok(KeyResponse { keys: keys.drain(from..to).collect(), cursor })
}

impl State {
    /// Runs blocking work in a bucket's directory on a blocking thread.
    async fn in_bucket<T: Send + 'static>(
        &mut self,
        bucket: &Resource<Bucket>,
        work: impl FnOnce(&Path) -> Result<T, Error> + Send + 'static,
    ) -> wasmtime::Result<Result<T, Error>> {
        let directory = self.table.get(bucket)?.0.clone();
        Ok(tokio::task::spawn_blocking(move || work(&directory)).await?)
    }
}

impl Host for State {
    async fn open(&mut self, identifier: String) -> wasmtime::Result<Result<Resource<Bucket>, Error>> {
        let Some(directory) = self.buckets.get(&identifier) else {
            // The draft's `access-denied` has no details. The call's error adds this denial.
            self.egress.denials.push(Denial {
                capability: "keyvalue".to_owned(),
                grant: format!("keyvalue = [{identifier:?}]"),
                target: identifier,
            });
            return Ok(Err(Error::AccessDenied));
        };
        let Some(directory) = directory.clone() else { return Ok(Err(Error::NoSuchStore)) };
        if let Err(error) = std::fs::create_dir_all(&directory) {
            return Ok(Err(broken(&directory.display().to_string(), error)));
        }
        Ok(Ok(self.table.push(Bucket(directory))?))
    }
}

impl HostBucket for State {
    async fn get(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        self.in_bucket(&bucket, move |directory| read(directory, &key)).await
    }

    async fn set(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.in_bucket(&bucket, move |directory| set(directory, &key, &value)).await
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> wasmtime::Result<Result<(), Error>> {
        self.in_bucket(&bucket, move |directory| delete(directory, &key)).await
    }

    async fn exists(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Result<bool, Error>> {
        self.in_bucket(&bucket, move |directory| Ok(directory.join(file_name(&key)?).exists())).await
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> wasmtime::Result<Result<KeyResponse, Error>> {
        self.in_bucket(&bucket, move |directory| list(directory, cursor)).await
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for State {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: u64,
    ) -> wasmtime::Result<Result<u64, Error>> {
        self.in_bucket(&bucket, move |directory| increment(directory, &key, delta)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_inside_the_bucket_and_do_not_collide() {
        let root = tempfile::tempdir().unwrap();
        let bucket = root.path().join("bucket");
        std::fs::create_dir(&bucket).unwrap();
        let keys = ["../out", "..", ".lock", "a/b", "a%2Fb", "a", "A", "ä", "/etc/passwd"];
        for key in keys {
            set(&bucket, key, key.as_bytes()).unwrap();
        }
        for key in keys {
            assert_eq!(read(&bucket, key).unwrap().as_deref(), Some(key.as_bytes()));
        }
        let mut listed = list(&bucket, None).unwrap().keys;
        listed.sort();
        let mut expected = keys.map(str::to_owned).to_vec();
        expected.sort();
        assert_eq!(listed, expected);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
        assert!(set(&bucket, "", b"").is_err() && set(&bucket, &"k".repeat(KEY + 1), b"").is_err());
        delete(&bucket, "..").unwrap();
        delete(&bucket, "..").unwrap();
        assert_eq!(read(&bucket, "..").unwrap(), None);
    }

    #[test]
    fn concurrent_counters_lose_no_increment_and_lists_are_paged() {
        let bucket = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|_| assert!(increment(bucket.path(), "n", 2).unwrap() > 0)));
            }
        });
        assert_eq!(increment(bucket.path(), "n", 0).unwrap(), 400);
        set(bucket.path(), "text", b"x").unwrap();
        assert!(increment(bucket.path(), "text", 1).is_err());
        for key in 0..PAGE {
            std::fs::write(bucket.path().join(format!("k{key}")), "").unwrap();
        }
        let first = list(bucket.path(), None).unwrap();
        let second = list(bucket.path(), first.cursor).unwrap();
        assert_eq!((first.keys.len(), second.keys.len(), second.cursor), (PAGE, 2, None));
    }
}
