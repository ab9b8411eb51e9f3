//! A component put in its place, so that nobody ever sees half of it.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Context as _;

/// Puts a component and its manifest under a name; without a manifest, one that is there is
/// removed, for it is of another component.
///
/// # Errors
/// Where a file cannot be written. Then what was there is still there.
pub(crate) fn put(file: &Path, wasm: &[u8], manifest: Option<&[u8]>) -> anyhow::Result<()> {
    let beside = file.with_extension("toml");
    match manifest {
        Some(text) => write(&beside, text)?,
        None if beside.exists() => {
            fs::remove_file(&beside).with_context(|| format!("{} cannot be removed", beside.display()))?;
        }
        None => {}
    }
    // Last, for a process that runs looks at this file.
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
    // Temporary files are their owner's alone; the daemon that reads this one may be another user.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fresh.as_file().set_permissions(mode).with_context(problem)?;
    fresh.persist(file).with_context(problem)?;
    Ok(())
}
