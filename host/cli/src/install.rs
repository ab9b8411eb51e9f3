//! Installs a component with the files beside it, each file atomically.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use dagster_ray_runtime::signature::signature_path;

/// A component, and the content of the files beside it.
pub(crate) struct Files<'a> {
    pub(crate) wasm: &'a [u8],
    pub(crate) manifest: Option<&'a [u8]>,
    /// The signature of the manifest.
    pub(crate) signature: Option<&'a [u8]>,
    /// The function names, which explain traps.
    pub(crate) names: Option<&'a [u8]>,
}

/// Writes a component to `file`, and its manifest, signature and function names beside it. Without a manifest or
/// signature, an existing one is removed, because it belongs to another component. The host ignores the names of another
/// component, so they stay.
///
/// # Errors
/// If a file cannot be written. A file that cannot be written keeps its content.
pub(crate) fn install(file: &Path, files: &Files<'_>) -> anyhow::Result<()> {
    let beside = [(file.with_extension("toml"), files.manifest), (signature_path(file), files.signature)];
    for (beside, content) in beside {
        match content {
            Some(text) => write(&beside, text)?,
            None if beside.exists() => {
                fs::remove_file(&beside)
                    .with_context(|| format!("{} cannot be removed", beside.display()))?;
            }
            None => {}
        }
    }
    if let Some(text) = files.names {
        write(&file.with_extension("names"), text)?;
    }
    // Write the component last: a running process reloads when this file changes.
    write(file, files.wasm)
}

/// Writes a file atomically, readable by every user.
///
/// # Errors
/// If it cannot be written. It keeps its content then.
pub(crate) fn write(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    if fs::read(file).is_ok_and(|found| found == content) {
        return Ok(());
    }
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let problem = || format!("{} cannot be written", file.display());
    fs::create_dir_all(folder).with_context(problem)?;
    let mut fresh = tempfile::NamedTempFile::new_in(folder).with_context(problem)?;
    fresh.write_all(content).with_context(problem)?;
    // Only their owner can read temporary files, but the daemon may run as another user.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fresh.as_file().set_permissions(mode).with_context(problem)?;
    fresh.persist(file).with_context(problem)?;
    Ok(())
}
