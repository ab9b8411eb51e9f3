//! Atomic file writes, recursive directory listings and digests as text.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Writes a file atomically, unless it already has that content.
///
/// An unchanged file keeps its modification time. A running process may load the file at any moment, so
/// it must never see a partly written one.
pub(crate) fn write_if_changed(file: &Path, content: &[u8]) -> Result<()> {
    if fs::read(file).is_ok_and(|found| found == content) && !file.is_symlink() {
        return Ok(());
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("{} could not be created", folder.display()))?;
    }
    let new = file.with_extension("new");
    fs::write(&new, content)
        .and_then(|()| fs::rename(&new, file))
        .with_context(|| format!("{} could not be written", file.display()))
}

/// Adds all files below a folder to `files`. Symbolic links to directories are not followed.
pub(crate) fn below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("{} could not be listed", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            below(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Returns bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
