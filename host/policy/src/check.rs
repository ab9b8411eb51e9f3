//! A component file against its manifest, before anything of it is compiled.
//!
//! The order is size, digest, whole parse, contract version, imports against grants, exports against
//! the contract: each check is cheaper than the next, and nothing of a file that fails one is used.
//! The size is looked at first only so that no endless file is read; the digest is of the very bytes
//! that are used.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::LoadError;
use crate::imports::{self, Need, need};
use crate::introspect::{self, Introspection};
use crate::manifest::{Manifest, Narrowed, Narrowing};
use crate::permissions::{self, Limit, Permission};

/// Largest component file, in bytes. One made of Python is about 18 MB.
pub const LARGEST: u64 = 64 << 20;

/// What can be known of a component file without compiling it.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Its name in messages.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Its sha256, in hexadecimal.
    pub digest: String,
    /// Its size in bytes.
    pub size: usize,
    /// The interfaces of the contract that it exports.
    pub exports: Vec<&'static str>,
    /// All that it imports.
    pub imports: Vec<String>,
    /// The version of the contract that it was built for.
    pub contract: String,
    /// Each grant of its manifest, with the imports that use it, and each grant that is missing.
    pub grants: Vec<Permission>,
    /// Its limits.
    pub limits: Vec<Limit>,
    /// Lines of `[grants]` that its manifest lacks. With any, it cannot be loaded.
    pub missing: Vec<&'static str>,
    /// The grants of its manifest that none of its imports could use.
    pub unused: Vec<String>,
    /// Its manifest, or where one would lie.
    pub manifest: PathBuf,
    /// Whether there is that manifest. Without it, the grants are those of [`Manifest::of`].
    pub has_manifest: bool,
    /// The digest that its manifest pins.
    pub pinned: Option<String>,
}

/// A component that may be compiled.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The file.
    pub bytes: Vec<u8>,
    /// Its manifest, narrowed by the operator.
    pub manifest: Manifest,
    /// Its sha256, in hexadecimal.
    pub digest: String,
    /// What it imports and exports.
    pub introspection: Introspection,
    /// What the operator should know: grants that nothing uses, and what of the operator's own part
    /// is without effect.
    pub warnings: Vec<String>,
}

/// Reads a component file with its manifest, and checks both.
///
/// # Errors
/// Where a check fails, as [`LoadError`] tells.
pub fn check(path: &Path, narrowing: &Narrowing, pinned: Option<&str>) -> Result<Checked, LoadError> {
    let bytes = read(path)?;
    check_bytes(path, bytes, Manifest::of(path)?, narrowing, pinned)
}

/// Checks a component whose file and manifest have been read. The path is for messages.
///
/// # Errors
/// Where a check fails, as [`LoadError`] tells.
pub fn check_bytes(
    path: &Path,
    bytes: Vec<u8>,
    manifest: Manifest,
    narrowing: &Narrowing,
    pinned: Option<&str>,
) -> Result<Checked, LoadError> {
    let manifest_path = Manifest::path_of(path);
    let digest = digest(path, &bytes, manifest.sha256.as_deref(), pinned)?;
    let (introspection, types) = introspect::read_with_types(path, &bytes)?;
    let asked = manifest.grants.clone();
    let unused = unused(&manifest, &introspection);
    let Narrowed { manifest, without_effect } = manifest.narrow(narrowing);
    for import in &introspection.imports {
        match need(import, &manifest.grants) {
            Need::Free => {}
            Need::Grant(grant) => {
                let place = match need(import, &asked) {
                    Need::Free => "grants in backend_grants of the configuration".to_owned(),
                    _ => format!("[grants] in {}", manifest_path.display()),
                };
                let (path, import, grant) = (path.to_owned(), import.clone(), grant.to_owned());
                return Err(LoadError::Ungranted { path, import, place, grant });
            }
            Need::Unknown => {
                return Err(LoadError::Unknown { path: path.to_owned(), import: import.clone() });
            }
        }
    }
    introspect::compare(path, &introspection, &types)?;
    let unused = unused.into_iter().map(|line| {
        format!(
            "{}: the component uses nothing of `{line}`. Remove it from [grants] in {}",
            manifest.id,
            manifest_path.display()
        )
    });
    let without_effect = without_effect.into_iter().map(|what| {
        format!(
            "{}: backend_grants: {what} is without effect: the manifest does not grant as much",
            manifest.id
        )
    });
    let warnings = unused.chain(without_effect).collect();
    Ok(Checked { bytes, manifest, digest, introspection, warnings })
}

/// Looks at a component file without compiling it. Grants may be missing: it tells which.
///
/// # Errors
/// Where the file could not be loaded with any grants.
pub fn inspect(path: &Path) -> Result<Inspection, LoadError> {
    let bytes = read(path)?;
    let text = Manifest::read(path)?;
    let manifest = Manifest::from_text(text.as_deref(), path)?;
    let digest = digest(path, &bytes, manifest.sha256.as_deref(), None)?;
    let (introspection, types) = introspect::read_with_types(path, &bytes)?;
    let mut missing = Vec::new();
    for import in &introspection.imports {
        match need(import, &manifest.grants) {
            Need::Grant(line) if !missing.contains(&line) => missing.push(line),
            Need::Unknown => {
                return Err(LoadError::Unknown { path: path.to_owned(), import: import.clone() });
            }
            Need::Grant(_) | Need::Free => {}
        }
    }
    introspect::compare(path, &introspection, &types)?;
    let unused = unused(&manifest, &introspection);
    Ok(Inspection {
        grants: permissions::of(&manifest, &introspection.imports),
        limits: permissions::limits(&manifest, text.as_deref().unwrap_or_default()),
        has_manifest: manifest.is_written,
        name: manifest.id,
        path: path.to_owned(),
        digest,
        size: bytes.len(),
        exports: introspection.interfaces.iter().map(|interface| interface.name()).collect(),
        imports: introspection.imports,
        contract: introspection.contract,
        missing,
        unused,
        manifest: Manifest::path_of(path),
        pinned: manifest.sha256,
    })
}

/// The digest of a file, if it is the one that the manifest and the configuration pin.
fn digest(
    path: &Path,
    bytes: &[u8],
    manifests: Option<&str>,
    operators: Option<&str>,
) -> Result<String, LoadError> {
    let found = sha256(bytes);
    let pins = [
        (manifests, Manifest::path_of(path).display().to_string()),
        (operators, "the configuration".to_owned()),
    ];
    for (expected, pinned_by) in pins {
        if let Some(expected) = expected
            && !expected.eq_ignore_ascii_case(&found)
        {
            let (path, expected) = (path.to_owned(), expected.to_owned());
            return Err(LoadError::Digest { path, found, expected, pinned_by });
        }
    }
    Ok(found)
}

/// The grants of a manifest that nothing in the component could use. One that was not written has none.
fn unused(manifest: &Manifest, read: &Introspection) -> Vec<String> {
    if manifest.is_written { imports::unused(&read.imports, &manifest.grants) } else { Vec::new() }
}

/// A whole file, if it is a file and no larger than a component may be.
fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let unreadable = |problem: String| LoadError::Unreadable { path: path.to_owned(), problem };
    let too_large = |size| LoadError::TooLarge { path: path.to_owned(), size, limit: LARGEST };
    // Opening a pipe would wait for its other end.
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
    if !metadata.is_file() {
        return Err(unreadable("this is no file".into()));
    }
    if metadata.len() > LARGEST {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    // It may have grown since.
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    match bytes.len() as u64 {
        size if size > LARGEST => Err(too_large(size)),
        _ => Ok(bytes),
    }
}

/// The sha256 of bytes, in lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
