//! From a file to a component that can be called.
//!
//! The order is digest, size, whole parse, contract version, imports against grants, and only then
//! compiling: each check is cheaper than the next, and nothing of a file that fails one is used.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};
use wasmtime::component::{InstancePre, Linker};

use crate::cache;
use crate::error::LoadError;
use crate::host::Host;
use crate::introspect::{self, Introspection};
use crate::linker::{self, Need};
use crate::manifest::{Manifest, Narrowing};
use crate::store::State;

/// Largest component file. One made of Python is about 18 MB.
const LARGEST: u64 = 64 << 20;

/// A component that can be called.
pub(crate) struct Loaded {
    pub(crate) manifest: Manifest,
    pub(crate) digest: String,
    pub(crate) introspection: Introspection,
    pub(crate) instance: InstancePre<State>,
}

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
    /// Its manifest, or where none was found.
    pub manifest: PathBuf,
}

struct Checked {
    bytes: Vec<u8>,
    manifest: Manifest,
    digest: String,
    introspection: Introspection,
}

fn check(path: &Path, narrowing: &Narrowing, pinned: Option<&str>) -> Result<Checked, LoadError> {
    let unreadable =
        |error: std::io::Error| LoadError::Unreadable { path: path.to_owned(), problem: error.to_string() };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > LARGEST {
        return Err(LoadError::TooLarge { path: path.to_owned(), size, limit: LARGEST });
    }
    let manifest = Manifest::of(path)?.narrowed(narrowing);
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let digest = hex(&Sha256::digest(&bytes));
    let manifest_path = Manifest::path_of(path);
    let pins = [
        (manifest.sha256.as_deref(), manifest_path.display().to_string()),
        (pinned, "the configuration".to_owned()),
    ];
    for (expected, pinned_by) in pins {
        if let Some(expected) = expected
            && !expected.eq_ignore_ascii_case(&digest)
        {
            let (path, expected) = (path.to_owned(), expected.to_owned());
            return Err(LoadError::Digest { path, found: digest, expected, pinned_by });
        }
    }
    let introspection = introspect::read(path, &bytes)?;
    for import in &introspection.imports {
        match linker::need(import, &manifest.grants) {
            Need::Free => {}
            Need::Grant(grant) => {
                return Err(LoadError::Ungranted {
                    path: path.to_owned(),
                    import: import.clone(),
                    manifest: manifest_path,
                    grant: grant.to_owned(),
                });
            }
            Need::Unknown => {
                return Err(LoadError::Unknown { path: path.to_owned(), import: import.clone() });
            }
        }
    }
    Ok(Checked { bytes, manifest, digest, introspection })
}

/// Loads a component file.
pub(crate) fn load(
    host: &Host,
    path: &Path,
    narrowing: &Narrowing,
    pinned: Option<&str>,
) -> Result<Arc<Loaded>, LoadError> {
    let Checked { bytes, manifest, digest, introspection } = check(path, narrowing, pinned)?;
    let component = cache::component(host.engine(), &digest, &bytes).map_err(LoadError::engine)?;
    let mut linker = Linker::new(host.engine());
    linker::build(&mut linker, &manifest.grants).map_err(LoadError::engine)?;
    let instance = linker.instantiate_pre(&component).map_err(|error| LoadError::NotAComponent {
        path: path.to_owned(),
        problem: format!("it does not fit the contract: {error:#}"),
    })?;
    tracing::info!(component = manifest.id, digest, "loaded {}", path.display());
    Ok(Arc::new(Loaded { manifest, digest, introspection, instance }))
}

/// Looks at a component file without compiling it.
///
/// # Errors
/// Where the file could not be loaded either.
pub fn inspect(path: &Path) -> Result<Inspection, LoadError> {
    let Checked { bytes, manifest, digest, introspection } = check(path, &Narrowing::default(), None)?;
    Ok(Inspection {
        name: manifest.id,
        path: path.to_owned(),
        digest,
        size: bytes.len(),
        exports: introspection.interfaces.iter().map(|interface| interface.name()).collect(),
        imports: introspection.imports,
        manifest: Manifest::path_of(path),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
