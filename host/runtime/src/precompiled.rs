//! Compiled code that is installed with the package, beside the components that it belongs to.
//!
//! It is as trusted as the extension module in the folder above it: both are native code that was
//! installed together. It may belong to another user than the one who runs it, and is only read.
//! The file name carries the digest of the component, so that a component that was replaced is
//! compiled like any other file.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use dagster_ray_policy::LoadError;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::engine;
use crate::error::refused;

/// How many digits of the digest a file name carries.
const DIGITS: usize = 16;

/// Where the compiled code of a component is, if it is installed with the package.
pub(crate) fn file(installed: Option<&Path>, component: &Path, digest: &str) -> Option<PathBuf> {
    let installed = installed?;
    if component.parent()? != installed {
        return None;
    }
    let file = named(component, digest)?;
    file.is_file().then_some(file)
}

/// Loads the compiled code of a component, if it is installed with the package.
pub(crate) fn load(
    engine: &Engine,
    installed: Option<&Path>,
    component: &Path,
    digest: &str,
) -> Option<Component> {
    let file = file(installed, component, digest)?;
    // SAFETY: the file was installed with the extension module that this code is part of, in the
    // same folder: a user who can change the one can change the other.
    match unsafe { Component::deserialize_file(engine, &file) } {
        Ok(component) => Some(component),
        Err(error) => {
            tracing::warn!(path = %file.display(), "installed compiled code is not used: {error:#}");
            None
        }
    }
}

/// Compiles the components of a folder for every CPU of this architecture, and puts the code beside
/// them. Code that is there and fits is kept; other code is removed. Returns the files.
///
/// # Errors
/// Where a component cannot be compiled, or the folder not be written.
pub fn precompile(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let unwritable = |error: std::io::Error| LoadError::Unreadable {
        path: folder.to_owned(),
        problem: format!("compiled code cannot be written: {error}"),
    };
    let engine = engine::baseline().map_err(refused)?;
    let mut keep = Vec::new();
    let mut others = Vec::new();
    for entry in fs::read_dir(folder).map_err(unwritable)? {
        let path = entry.map_err(unwritable)?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("wasm") => keep.push(one(&engine, &path).map_err(|error| match error {
                Failed::Compile(error) => refused(error),
                Failed::Write(error) => unwritable(error),
            })?),
            Some("cwasm") => others.push(path),
            _ => {}
        }
    }
    for other in others {
        if !keep.contains(&other) {
            fs::remove_file(&other).map_err(unwritable)?;
        }
    }
    keep.sort();
    Ok(keep)
}

enum Failed {
    Compile(wasmtime::Error),
    Write(std::io::Error),
}

fn one(engine: &Engine, component: &Path) -> Result<PathBuf, Failed> {
    let bytes = fs::read(component).map_err(Failed::Write)?;
    let digest = dagster_ray_policy::sha256(&bytes);
    let file = named(component, &digest)
        .ok_or_else(|| Failed::Write(std::io::Error::other("the component has no file name")))?;
    // SAFETY: a build directory holds what its build wrote. Code of another engine is refused.
    if unsafe { Component::deserialize_file(engine, &file) }.is_ok() {
        return Ok(file);
    }
    let code = engine.precompile_component(&bytes).map_err(Failed::Compile)?;
    let folder = component.parent().unwrap_or(Path::new("."));
    let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(Failed::Write)?;
    temporary.write_all(&code).map_err(Failed::Write)?;
    // A temporary file can be read by its owner alone, and this one is to be installed.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    temporary.as_file().set_permissions(readable).map_err(Failed::Write)?;
    temporary.persist(&file).map_err(|error| Failed::Write(error.error))?;
    Ok(file)
}

fn named(component: &Path, digest: &str) -> Option<PathBuf> {
    let stem = component.file_stem()?.to_str()?;
    Some(component.with_file_name(format!("{stem}.{}.cwasm", digest.get(..DIGITS)?)))
}
