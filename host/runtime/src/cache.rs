//! Cache of compiled code on disk, so that a component is compiled once per machine.
//!
//! Compiled code is native code and must be trusted like a shared library. The cache therefore reads
//! only files that belong to this user and that no other user can access. The file name identifies
//! component and engine. A checksum detects damaged code, which could crash the process.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Length of the checksum that precedes the code, in bytes.
const CHECKSUM: usize = 32;

/// Returns the cache directory: `DAGSTER_RAY_CACHE_DIR`, or `dagster-ray` in the user's cache directory.
pub fn directory() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("DAGSTER_RAY_CACHE_DIR")
        .or_else(|| named("XDG_CACHE_HOME").map(|cache| cache.join("dagster-ray")))
        .or_else(|| named("HOME").map(|home| home.join(".cache").join("dagster-ray")))
}

/// A file of compiled code in the cache.
#[derive(Debug, Clone)]
pub struct CompiledCode {
    /// The file's path.
    pub path: PathBuf,
    /// The file's size in bytes.
    pub size: u64,
    /// When the code was compiled.
    pub since: SystemTime,
}

/// Returns all compiled code in the cache, of every engine.
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

/// Returns what is wrong with the cache: a directory that cannot be written, and files that are not loaded.
pub fn check() -> Vec<String> {
    let Some(directory) = directory() else {
        return vec!["none of DAGSTER_RAY_CACHE_DIR, XDG_CACHE_HOME and HOME is set".to_owned()];
    };
    let written = make(&directory).and_then(|()| tempfile::NamedTempFile::new_in(&directory));
    if let Err(error) = written {
        return vec![format!("{} cannot be written: {error}", directory.display())];
    }
    compiled().iter().filter_map(|code| refusal(&code.path)).collect()
}

/// Returns why a file of compiled code is not loaded, or none.
fn refusal(path: &Path) -> Option<String> {
    let name = path.file_stem()?.to_str()?;
    let (digest, _) = name.rsplit_once('-')?;
    match read(digest, path) {
        Ok(_) => None,
        Err(problem) => Some(format!("{} is not used: {problem}", path.display())),
    }
}

fn make(directory: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Returns whether the cache has code of a component for this engine.
pub(crate) fn contains(engine: &Engine, digest: &str) -> bool {
    directory().is_some_and(|directory| file(&directory, digest, engine).is_file())
}

fn file(directory: &Path, digest: &str, engine: &Engine) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    directory.join(format!("{digest}-{:016x}.cwasm", hasher.finish()))
}

/// Returns the compiled component from the cache, or compiles and caches it.
pub(crate) fn component(engine: &Engine, digest: &str, bytes: &[u8]) -> wasmtime::Result<Component> {
    let Some(directory) = directory() else { return Component::from_binary(engine, bytes) };
    let path = file(&directory, digest, engine);
    if let Some(component) = load(engine, digest, &path) {
        return Ok(component);
    }
    let component = Component::from_binary(engine, bytes)?;
    if let Err(error) =
        component.serialize().and_then(|code| Ok(save(&directory, &path, &checksum(digest, &code), &code)?))
    {
        tracing::debug!(path = %path.display(), "compiled code is not cached: {error:#}");
    }
    Ok(component)
}

/// Reads the code of a component, after the checks that make it as trusted as this program.
fn read(digest: &str, path: &Path) -> Result<Vec<u8>, String> {
    // Without O_NONBLOCK, opening a FIFO would block until a writer appears.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let unreadable = |error: std::io::Error| error.to_string();
    let mut file =
        std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let own = metadata.uid() == crate::user::effective();
    if !own || !metadata.is_file() || metadata.mode() & 0o077 != 0 {
        return Err("only this user may have access to the file".to_owned());
    }
    let mut content = Vec::new();
    file.read_to_end(&mut content).map_err(unreadable)?;
    match content.split_at_checked(CHECKSUM) {
        Some((found, code)) if found == checksum(digest, code) => Ok(content.split_off(CHECKSUM)),
        _ => Err("the file is damaged or belongs to another component".to_owned()),
    }
}

fn load(engine: &Engine, digest: &str, path: &Path) -> Option<Component> {
    if !path.exists() {
        return None;
    }
    let code = match read(digest, path) {
        Ok(code) => code,
        Err(problem) => {
            tracing::warn!(path = %path.display(), "cached code not loaded: {problem}");
            return None;
        }
    };
    // SAFETY: the file belongs to this user, no other user can access it, and its checksum matches the
    // code that `save` wrote.
    match unsafe { Component::deserialize(engine, &code) } {
        Ok(component) => Some(component),
        Err(error) => {
            tracing::debug!(path = %path.display(), "cached code not loaded, compiling again: {error:#}");
            None
        }
    }
}

/// Computes a checksum that binds compiled code to its component.
fn checksum(digest: &str, code: &[u8]) -> [u8; CHECKSUM] {
    Sha256::new().chain_update(digest).chain_update(code).finalize().into()
}

fn save(directory: &Path, path: &Path, checksum: &[u8], code: &[u8]) -> std::io::Result<()> {
    make(directory)?;
    // A temporary file has mode 0600. Renaming it publishes the complete file atomically.
    let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
    temporary.write_all(checksum)?;
    temporary.write_all(code)?;
    temporary.persist(path)?;
    Ok(())
}
