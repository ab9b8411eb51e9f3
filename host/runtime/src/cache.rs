//! Compiled code on disk, so that a component is compiled once on a machine.
//!
//! Loading compiled code is as trusting as loading a shared library. So only files are read that
//! this user wrote, that nobody else can write, and whose name says which component and which
//! engine they are of. They begin with a checksum, as damaged code could end the process.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// How many bytes before the code are its checksum.
const CHECKSUM: usize = 32;

/// Where compiled code is kept: `DAGSTER_RAY_CACHE_DIR`, or `dagster-ray` in the user's cache.
pub fn directory() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("DAGSTER_RAY_CACHE_DIR")
        .or_else(|| named("XDG_CACHE_HOME").map(|cache| cache.join("dagster-ray")))
        .or_else(|| named("HOME").map(|home| home.join(".cache").join("dagster-ray")))
}

/// Compiled code that is kept on disk.
#[derive(Debug, Clone)]
pub struct CompiledCode {
    /// Its file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// When it was compiled.
    pub since: SystemTime,
}

/// All compiled code that is kept, of this engine and of others.
pub fn compiled() -> Vec<CompiledCode> {
    let entries = directory().map(std::fs::read_dir).and_then(Result::ok).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "cwasm"))
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            let since = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            Some(CompiledCode { path: entry.path(), size: metadata.len(), since })
        })
        .collect()
}

/// Whether code of that component is kept for this engine.
pub(crate) fn holds(engine: &Engine, digest: &str) -> bool {
    directory().is_some_and(|directory| file(&directory, digest, engine).is_file())
}

fn file(directory: &Path, digest: &str, engine: &Engine) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    directory.join(format!("{digest}-{:016x}.cwasm", hasher.finish()))
}

/// The compiled code of a component, from the cache, or compiled now and kept.
pub(crate) fn component(engine: &Engine, digest: &str, bytes: &[u8]) -> wasmtime::Result<Component> {
    let Some(directory) = directory() else { return Component::from_binary(engine, bytes) };
    let path = file(&directory, digest, engine);
    if let Some(component) = load(engine, digest, &path) {
        return Ok(component);
    }
    let component = Component::from_binary(engine, bytes)?;
    if let Err(error) =
        component.serialize().and_then(|code| Ok(keep(&directory, &path, &checksum(digest, &code), &code)?))
    {
        tracing::debug!(path = %path.display(), "compiled code is not kept: {error:#}");
    }
    Ok(component)
}

fn load(engine: &Engine, digest: &str, path: &Path) -> Option<Component> {
    // Without O_NONBLOCK, opening a pipe would wait for its other end.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    // SAFETY: geteuid takes nothing and cannot fail.
    let own = metadata.uid() == unsafe { libc::geteuid() };
    if !own || !metadata.is_file() || metadata.mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "not loaded: others could have written it");
        return None;
    }
    let mut content = Vec::new();
    file.read_to_end(&mut content).ok()?;
    let (found, code) = content.split_at_checked(CHECKSUM)?;
    if found != checksum(digest, code) {
        tracing::warn!(path = %path.display(), "not loaded: the file is damaged, or of another component");
        return None;
    }
    // SAFETY: the file is this user's own, whole, and readable by no other user; `keep` wrote it.
    match unsafe { Component::deserialize(engine, code) } {
        Ok(component) => Some(component),
        Err(error) => {
            tracing::debug!(path = %path.display(), "compiled anew: {error:#}");
            None
        }
    }
}

/// Binds compiled code to its component.
fn checksum(digest: &str, code: &[u8]) -> [u8; CHECKSUM] {
    Sha256::new().chain_update(digest).chain_update(code).finalize().into()
}

fn keep(directory: &Path, path: &Path, checksum: &[u8], code: &[u8]) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // A temporary file is made with mode 0600, and shown under its name only once it is whole.
    let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
    temporary.write_all(checksum)?;
    temporary.write_all(code)?;
    temporary.persist(path)?;
    Ok(())
}
