//! `wasi:keyvalue`: persistent buckets, as directories on the host's machine.
//!
//! `wit/deps` has the draft that other hosts implement. This module implements its interfaces `store`
//! and `atomics`. A key is a file. Writes are atomic and take a file lock, so that several processes
//! can share a bucket.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use dagster_ray_policy::capability::Capability;
use dagster_ray_policy::capability::keyvalue::{CAPABILITY, missing_grant};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use wasmtime::component::{Linker, Resource};

use self::bindings::wasi::keyvalue::{
    atomics,
    store::{self, Error, Host, HostBucket, KeyResponse},
};
use super::{CallContext, CallState, Denials, HostCapability, Uses, View, denial};

#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)]
mod bindings {
    crate::wit::generate!(
        r#"
            package dagster-ray:runtime;
            world keyvalue {
                import wasi:keyvalue/store@0.2.0-draft;
                import wasi:keyvalue/atomics@0.2.0-draft;
            }
        "#,
        with: { "wasi:keyvalue/store.bucket": crate::capability::keyvalue::Bucket }
    );
}

/// Maximum length of an encoded key, in bytes. Most file systems allow file names of 255 bytes.
const MAX_KEY_BYTES: usize = 240;
/// Maximum size of a value, in bytes.
const MAX_VALUE_BYTES: u64 = 16 << 20;
/// Maximum number of keys in a bucket.
const MAX_KEYS: usize = 10_000;
/// Maximum size of all values in a bucket, in bytes.
const MAX_BUCKET_BYTES: u64 = 1 << 30;
/// Maximum number of keys in one page of a list.
const PAGE_SIZE: usize = 1_000;
/// The name of the lock file. An encoded key never begins with a dot.
const LOCK_FILE: &str = ".lock";
/// The name prefix of unfinished files.
const TEMPORARY_PREFIX: &str = ".new";
/// Characters of a key that are percent-encoded in the file name.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'=');

/// An opened bucket.
pub struct Bucket(PathBuf);

/// The state of one call.
pub(crate) struct KeyValueState {
    /// The granted buckets, with their directories if configured.
    buckets: BTreeMap<String, Option<PathBuf>>,
    denials: Denials,
}

impl HostCapability for KeyValueState {
    const GRANT: Option<&'static Capability> = Some(&CAPABILITY);

    fn new(context: &CallContext<'_>) -> Self {
        let configured = &context.options.buckets;
        let granted = context.manifest.grants.keyvalue.iter();
        let buckets = granted.map(|name| (name.clone(), configured.get(name).cloned())).collect();
        Self { buckets, denials: context.denials.clone() }
    }

    fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        store::add_to_linker::<CallState, Uses<Self>>(linker, CallState::view)?;
        atomics::add_to_linker::<CallState, Uses<Self>>(linker, CallState::view)
    }
}

fn other_error(what: &str, error: impl std::fmt::Display) -> Error {
    Error::Other(format!("{what}: {error}"))
}

fn file_name(key: &str) -> Result<String, Error> {
    let name = utf8_percent_encode(key, ENCODED).to_string();
    if name.is_empty() || name.len() > MAX_KEY_BYTES {
        return Err(other_error(
            key,
            format!(
                "a key must have 1 to {MAX_KEY_BYTES} bytes; bytes other than letters, digits, `-`, `_` and `=` count as 3"
            ),
        ));
    }
    Ok(name)
}

fn lock(directory: &Path) -> std::io::Result<File> {
    let lock = File::options().create(true).truncate(false).write(true).open(directory.join(LOCK_FILE))?;
    lock.lock()?;
    Ok(lock)
}

fn read(directory: &Path, key: &str) -> Result<Option<Vec<u8>>, Error> {
    let path = directory.join(file_name(key)?);
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.len() > MAX_VALUE_BYTES => {
            return Err(other_error(
                key,
                format!("{} bytes, more than the limit of {MAX_VALUE_BYTES}", metadata.len()),
            ));
        }
        _ => {}
    }
    match std::fs::read(path) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(other_error(key, error)),
    }
}

/// Checks that a bucket has room for a value in the file `path`. The caller must hold the lock.
fn check_room(directory: &Path, path: &Path, key: &str, size: u64) -> Result<(), Error> {
    let replaced = std::fs::metadata(path).ok().map(|metadata| metadata.len());
    // Counting reads the whole directory, and such a value cannot exceed a limit.
    if replaced.is_some_and(|replaced| size <= replaced) {
        return Ok(());
    }
    let (keys, bytes) = count(directory).map_err(|error| other_error(key, error))?;
    if replaced.is_none() && keys >= MAX_KEYS {
        return Err(other_error(
            key,
            format!("the bucket has {MAX_KEYS} keys, its limit; delete some first"),
        ));
    }
    let total = bytes.saturating_sub(replaced.unwrap_or_default()).saturating_add(size);
    if total > MAX_BUCKET_BYTES {
        return Err(other_error(
            key,
            format!(
                "the bucket would have {total} bytes, more than its limit of {MAX_BUCKET_BYTES}; delete some keys first"
            ),
        ));
    }
    Ok(())
}

/// Returns the number of keys in a bucket, and the bytes of all its files, unfinished ones included.
fn count(directory: &Path) -> std::io::Result<(usize, u64)> {
    let (mut keys, mut bytes) = (0, 0_u64);
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            keys += 1;
        }
        bytes = bytes.saturating_add(entry.metadata()?.len());
    }
    Ok((keys, bytes))
}

/// Writes a value atomically. The caller must hold the lock.
fn write(directory: &Path, key: &str, value: &[u8]) -> Result<(), Error> {
    let path = directory.join(file_name(key)?);
    if value.len() as u64 > MAX_VALUE_BYTES {
        return Err(other_error(
            key,
            format!("{} bytes, more than the limit of {MAX_VALUE_BYTES}", value.len()),
        ));
    }
    check_room(directory, &path, key, value.len() as u64)?;
    let put = || {
        let mut file = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(directory)?;
        file.write_all(value)?;
        file.persist(path)?;
        Ok(())
    };
    put().map_err(|error: std::io::Error| other_error(key, error))
}

fn set(directory: &Path, key: &str, value: &[u8]) -> Result<(), Error> {
    let _lock = lock(directory).map_err(|error| other_error(key, error))?;
    write(directory, key, value)
}

fn delete(directory: &Path, key: &str) -> Result<(), Error> {
    let _lock = lock(directory).map_err(|error| other_error(key, error))?;
    match std::fs::remove_file(directory.join(file_name(key)?)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(other_error(key, error)),
        _ => Ok(()),
    }
}

fn increment(directory: &Path, key: &str, delta: u64) -> Result<u64, Error> {
    let _lock = lock(directory).map_err(|error| other_error(key, error))?;
    let known = match read(directory, key)? {
        None => 0,
        Some(value) => std::str::from_utf8(&value)
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok())
            .ok_or_else(|| other_error(key, "the value is not an unsigned 64-bit number"))?,
    };
    let sum = known.checked_add(delta).ok_or_else(|| other_error(key, "the sum exceeds 64 bits"))?;
    write(directory, key, sum.to_string().as_bytes())?;
    Ok(sum)
}

fn list(directory: &Path, cursor: Option<u64>) -> Result<KeyResponse, Error> {
    let entries = std::fs::read_dir(directory).map_err(|error| other_error("the bucket", error))?;
    let mut keys: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .filter_map(|name| Some(percent_decode_str(&name).decode_utf8().ok()?.into_owned()))
        .collect();
    keys.sort();
    let from = cursor.map_or(0, |cursor| usize::try_from(cursor).unwrap_or(usize::MAX)).min(keys.len());
    let to = from.saturating_add(PAGE_SIZE).min(keys.len());
    let cursor = (to < keys.len()).then_some(to as u64);
    Ok(KeyResponse { keys: keys.drain(from..to).collect(), cursor })
}

impl View<'_, KeyValueState> {
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

impl Host for View<'_, KeyValueState> {
    async fn open(&mut self, identifier: String) -> wasmtime::Result<Result<Resource<Bucket>, Error>> {
        let Some(directory) = self.state.buckets.get(&identifier) else {
            // The draft's `access-denied` has no details. The call's error adds this denial.
            let grant = missing_grant(&identifier);
            self.state.denials.push(denial(&CAPABILITY, identifier, grant));
            return Ok(Err(Error::AccessDenied));
        };
        let Some(directory) = directory.clone() else { return Ok(Err(Error::NoSuchStore)) };
        if let Err(error) = std::fs::create_dir_all(&directory) {
            return Ok(Err(other_error(&directory.display().to_string(), error)));
        }
        Ok(Ok(self.table.push(Bucket(directory))?))
    }
}

impl HostBucket for View<'_, KeyValueState> {
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

impl atomics::Host for View<'_, KeyValueState> {
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
        assert!(set(&bucket, "", b"").is_err() && set(&bucket, &"k".repeat(MAX_KEY_BYTES + 1), b"").is_err());
        delete(&bucket, "..").unwrap();
        delete(&bucket, "..").unwrap();
        assert_eq!(read(&bucket, "..").unwrap(), None);
    }

    #[test]
    fn a_full_bucket_accepts_no_new_key_and_no_larger_value() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = folder.path();
        let refusal = |outcome: Result<(), Error>| format!("{:?}", outcome.unwrap_err());
        set(bucket, "a", b"12").unwrap();
        File::create(bucket.join("large")).unwrap().set_len(MAX_BUCKET_BYTES - 2).unwrap();
        set(bucket, "a", b"34").unwrap();
        assert!(refusal(set(bucket, "a", b"345")).contains("more than its limit of 1073741824"));
        assert!(refusal(set(bucket, "b", b"3")).contains("more than its limit of 1073741824"));
        delete(bucket, "large").unwrap();
        set(bucket, "b", b"3").unwrap();
        for key in 2..MAX_KEYS {
            std::fs::write(bucket.join(format!("k{key}")), "").unwrap();
        }
        assert!(refusal(set(bucket, "c", b"4")).contains("the bucket has 10000 keys, its limit"));
        assert!(increment(bucket, "n", 1).is_err());
        set(bucket, "b", b"a longer value").unwrap();
        delete(bucket, "a").unwrap();
        assert_eq!(increment(bucket, "n", 1).unwrap(), 1);
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
        for key in 0..PAGE_SIZE {
            std::fs::write(bucket.path().join(format!("k{key}")), "").unwrap();
        }
        let first = list(bucket.path(), None).unwrap();
        let second = list(bucket.path(), first.cursor).unwrap();
        assert_eq!((first.keys.len(), second.keys.len(), second.cursor), (PAGE_SIZE, 2, None));
    }
}
