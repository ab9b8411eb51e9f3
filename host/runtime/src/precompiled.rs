//! Compiled code that is installed with the package, next to its components.
//!
//! This code is as trusted as the extension module in the parent directory: both are native code that
//! was installed together. It may belong to another user and is only read. The file name has the
//! component's digest, so that a replaced component is compiled like any other file.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use dagster_ray_policy::LoadError;
use object::{Object as _, ObjectSection as _};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::engine;
use crate::error::engine_error;

/// Number of hexadecimal digits of the digest in a file name.
const DIGITS: usize = 16;

/// Returns the path of a component's installed compiled code, if it exists.
pub(crate) fn file(installed: Option<&Path>, component: &Path, digest: &str) -> Option<PathBuf> {
    let installed = installed?;
    if component.parent()? != installed {
        return None;
    }
    let file = code_path(component, digest)?;
    file.is_file().then_some(file)
}

/// Loads a component's installed compiled code, if it exists.
pub(crate) fn load(
    engine: &Engine,
    installed: Option<&Path>,
    component: &Path,
    digest: &str,
) -> Option<Component> {
    let file = file(installed, component, digest)?;
    // SAFETY: the file was installed together with the extension module that contains this code. A
    // user who can change one can change the other.
    match unsafe { Component::deserialize_file(engine, &file) } {
        Ok(component) => Some(component),
        Err(error) => {
            tracing::warn!(path = %file.display(), "installed compiled code not loaded: {error:#}");
            None
        }
    }
}

/// Compiles the components of a directory for every CPU of this architecture, and writes the code next
/// to them, except of those with the names `except`. Up-to-date code is kept; other code is deleted. Returns the files
/// of compiled code.
///
/// # Errors
/// If a component cannot be compiled or the directory cannot be written.
pub fn precompile(folder: &Path, except: &[String]) -> Result<Vec<PathBuf>, LoadError> {
    let unwritable = |error: std::io::Error| LoadError::Unreadable {
        path: folder.to_owned(),
        problem: format!("compiled code cannot be written: {error}"),
    };
    let engine = engine::baseline().map_err(engine_error)?;
    let mut keep = Vec::new();
    let mut others = Vec::new();
    for entry in fs::read_dir(folder).map_err(unwritable)? {
        let path = entry.map_err(unwritable)?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("wasm") if is_named(&path, except) => {}
            Some("wasm") => keep.push(compile(&engine, &path).map_err(|error| match error {
                Failed::Compile(error) => engine_error(error),
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

fn is_named(component: &Path, names: &[String]) -> bool {
    component.file_stem().is_some_and(|stem| names.iter().any(|name| stem == name.as_str()))
}

enum Failed {
    Compile(wasmtime::Error),
    Write(std::io::Error),
}

fn compile(engine: &Engine, component: &Path) -> Result<PathBuf, Failed> {
    let bytes = fs::read(component).map_err(Failed::Write)?;
    let digest = dagster_ray_policy::sha256(&bytes);
    let file = code_path(component, &digest)
        .ok_or_else(|| Failed::Write(std::io::Error::other("the component has no file name")))?;
    // SAFETY: only the build writes to its directory. wasmtime rejects code of another engine.
    if unsafe { Component::deserialize_file(engine, &file) }.is_ok() {
        return Ok(file);
    }
    let mut code = engine.precompile_component(&bytes).map_err(Failed::Compile)?;
    clear_symbols(&mut code);
    let folder = component.parent().unwrap_or(Path::new("."));
    let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(Failed::Write)?;
    temporary.write_all(&code).map_err(Failed::Write)?;
    // A temporary file has mode 0600, but an installed file must be readable by every user.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    temporary.as_file().set_permissions(readable).map_err(Failed::Write)?;
    temporary.persist(&file).map_err(|error| Failed::Write(error.error))?;
    Ok(file)
}

/// Overwrites the symbols of compiled code with zeros, which the wheel stores in almost no space.
///
/// Only native profilers read them. The sections stay, because wasmtime checks the layout of the file.
fn clear_symbols(code: &mut [u8]) {
    let Ok(file) = object::File::parse(&*code) else { return };
    let ranges: Vec<_> = [".symtab", ".strtab"]
        .into_iter()
        .filter_map(|name| file.section_by_name(name)?.file_range())
        .filter_map(|(start, length)| {
            let start = usize::try_from(start).ok()?;
            Some(start..start.checked_add(usize::try_from(length).ok()?)?)
        })
        .collect();
    for range in ranges {
        if let Some(bytes) = code.get_mut(range) {
            bytes.fill(0);
        }
    }
}

fn code_path(component: &Path, digest: &str) -> Option<PathBuf> {
    let stem = component.file_stem()?.to_str()?;
    Some(component.with_file_name(format!("{stem}.{}.cwasm", digest.get(..DIGITS)?)))
}
