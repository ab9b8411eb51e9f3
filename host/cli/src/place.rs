//! Installs a component and its manifest, each file atomically.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Context as _;

/// Writes a component to `file` and its manifest beside it. Without a manifest, an existing one is removed,
/// because it belongs to another component.
///
/// # Errors
/// If a file cannot be written. A file that cannot be written keeps its content.
pub(crate) fn put(file: &Path, wasm: &[u8], manifest: Option<&[u8]>) -> anyhow::Result<()> {
    let beside = file.with_extension("toml");
    match manifest {
        Some(text) => write(&beside, text)?,
        None if beside.exists() => {
            fs::remove_file(&beside).with_context(|| format!("{} cannot be removed", beside.display()))?;
        }
        None => {}
    }
    // Write the component last: a running process reloads when this file changes.
    write(file, wasm)
}

fn write(file: &Path, content: &[u8]) -> anyhow::Result<()> {
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
