//! Checks a component file against its manifest before it is compiled.
//!
//! The order is size, signature, digest, parse, contract version, imports against grants, exports against the
//! contract, from cheap to expensive. The first failed check ends the load. The size check bounds
//! how much is read; the digest covers the bytes that are used.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::digest::sha256;
use crate::error::LoadError;
use crate::imports::{self, RequiredGrant, required_grant};
use crate::introspect::{self, Introspection};
use crate::manifest::{Manifest, Restricted, Restriction};
use crate::permissions::{self, Limit, Permission};
use crate::signature::{self, TrustedKeys, signer_id};

/// Maximum size of a component file, in bytes. A Python component has about 18 MB.
pub const MAX_COMPONENT_BYTES: u64 = 64 << 20;

/// The result of [`inspect`].
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The component's name in messages.
    pub name: String,
    /// The file's path.
    pub path: PathBuf,
    /// The file's SHA-256, in hexadecimal.
    pub digest: String,
    /// The file's size in bytes.
    pub size: usize,
    /// The interfaces of the contract that the component exports.
    pub exports: Vec<&'static str>,
    /// The component's imports.
    pub imports: Vec<String>,
    /// The version of the contract that the component was built for.
    pub contract: String,
    /// Each grant of the manifest, with the imports that use it, and each missing grant.
    pub grants: Vec<Permission>,
    /// The component's limits.
    pub limits: Vec<Limit>,
    /// Lines of `[grants]` that the manifest lacks. The component loads only if this is empty.
    pub missing: Vec<&'static str>,
    /// Grants of the manifest that no import uses.
    pub unused: Vec<String>,
    /// The manifest's path. The file may not exist.
    pub manifest: PathBuf,
    /// The manifest's SHA-256, in hexadecimal; none without a manifest.
    pub manifest_digest: Option<String>,
    /// Whether the manifest exists. Without it, the grants are the defaults of [`Manifest::for_component`].
    pub has_manifest: bool,
    /// The digest that the manifest pins.
    pub pinned: Option<String>,
    /// The signature of the manifest.
    pub signature: Option<SignatureStatus>,
}

/// The signature of a manifest.
#[derive(Debug, Clone, Serialize)]
pub struct SignatureStatus {
    /// The id of the key that the signature names. Without `trusted_as`, it is not verified.
    pub key: String,
    /// The name of the key in the policy, if that key made the signature.
    pub trusted_as: Option<String>,
}

/// A component that passed every check and may be compiled.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The file's content.
    pub bytes: Vec<u8>,
    /// The manifest, restricted by the operator.
    pub manifest: Manifest,
    /// The file's SHA-256, in hexadecimal.
    pub digest: String,
    /// The component's imports and exports.
    pub introspection: Introspection,
    /// Warnings for the operator: unused grants, and entries of `backend_grants` without effect.
    pub warnings: Vec<String>,
}

/// Reads a component file and its manifest, and checks both. With `trusted`, one of its keys must have signed them.
///
/// # Errors
/// The first check that fails.
pub fn check(
    path: &Path,
    restriction: &Restriction,
    pinned: Option<&str>,
    trusted: Option<&TrustedKeys>,
) -> Result<Checked, LoadError> {
    open(path, restriction, pinned, trusted)?.check()
}

/// Checks a component whose file and manifest have been read. The path appears in messages.
///
/// # Errors
/// The first check that fails.
pub fn check_bytes(
    path: &Path,
    bytes: Vec<u8>,
    manifest: Manifest,
    restriction: &Restriction,
    pinned: Option<&str>,
) -> Result<Checked, LoadError> {
    open_bytes(path, bytes, manifest, restriction, pinned)?.check()
}

/// A component file and its manifest, whose digests match all pins.
#[derive(Debug)]
pub struct Opened<'r> {
    path: PathBuf,
    bytes: Vec<u8>,
    manifest: Manifest,
    digest: String,
    restriction: &'r Restriction,
}

/// Reads a component file and its manifest, and compares their digests with the pins. With `trusted`, one of its
/// keys must have signed them.
///
/// # Errors
/// If a file cannot be read, is not signed, or has another digest.
pub fn open<'r>(
    path: &Path,
    restriction: &'r Restriction,
    pinned: Option<&str>,
    trusted: Option<&TrustedKeys>,
) -> Result<Opened<'r>, LoadError> {
    let bytes = read(path)?;
    let text = Manifest::read(path)?;
    let manifest = match trusted {
        Some(trusted) => trusted.verify_file(path, text.as_deref())?,
        None => Manifest::from_text(text.as_deref(), path)?,
    };
    open_bytes(path, bytes, manifest, restriction, pinned)
}

fn open_bytes<'r>(
    path: &Path,
    bytes: Vec<u8>,
    manifest: Manifest,
    restriction: &'r Restriction,
    pinned: Option<&str>,
) -> Result<Opened<'r>, LoadError> {
    let digest = digest(path, &bytes, manifest.sha256.as_deref(), pinned)?;
    check_manifest(&manifest, &Manifest::path_of(path), restriction.manifest_sha256.as_deref())?;
    Ok(Opened { path: path.to_owned(), bytes, manifest, digest, restriction })
}

impl Opened<'_> {
    /// Returns the file's SHA-256, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Validates the component, and compares its imports with the grants and its exports with the contract.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn check(self) -> Result<Checked, LoadError> {
        let (introspection, types) = introspect::read_with_types(&self.path, &self.bytes)?;
        let path = self.path.clone();
        let checked = self.grant(introspection)?;
        introspect::compare(&path, &checked.introspection, &types)?;
        Ok(checked)
    }

    /// Compares the imports with the grants. The caller knows the imports and exports from compiled code that it
    /// trusts, so that the file need not be validated again.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn check_compiled(self, imports: Vec<String>, exports: Vec<String>) -> Result<Checked, LoadError> {
        let introspection = introspect::of_names(&self.path, imports, exports)?;
        self.grant(introspection)
    }

    fn grant(self, introspection: Introspection) -> Result<Checked, LoadError> {
        let Self { path, bytes, manifest, digest, restriction } = self;
        grant(&path, bytes, manifest, digest, restriction, introspection)
    }
}

/// Compares the imports of a component with its grants.
fn grant(
    path: &Path,
    bytes: Vec<u8>,
    manifest: Manifest,
    digest: String,
    restriction: &Restriction,
    introspection: Introspection,
) -> Result<Checked, LoadError> {
    let manifest_path = Manifest::path_of(path);
    let requested = manifest.grants.clone();
    let unused = unused(&manifest, &introspection);
    let Restricted { manifest, ineffective } = manifest.restrict(restriction);
    for import in &introspection.imports {
        match required_grant(import, &manifest.grants) {
            RequiredGrant::Satisfied => {}
            RequiredGrant::Missing(grant) => {
                let location = match required_grant(import, &requested) {
                    RequiredGrant::Satisfied => "grants in backend_grants of the configuration".to_owned(),
                    _ => format!("[grants] in {}", manifest_path.display()),
                };
                let (path, import, grant) = (path.to_owned(), import.clone(), grant.to_owned());
                return Err(LoadError::MissingGrant { path, import, location, grant });
            }
            RequiredGrant::Unknown => {
                return Err(LoadError::UnknownImport { path: path.to_owned(), import: import.clone() });
            }
        }
    }
    let unused = unused.into_iter().map(|line| {
        format!(
            "{}: no import of the component uses the grant `{line}`. Remove it from [grants] in {}",
            manifest.id,
            manifest_path.display()
        )
    });
    let ineffective = ineffective.into_iter().map(|what| {
        format!("{}: backend_grants: {what} has no effect: the manifest grants less", manifest.id)
    });
    let warnings = unused.chain(ineffective).collect();
    Ok(Checked { bytes, manifest, digest, introspection, warnings })
}

/// Inspects a component file without compiling it. Missing grants are reported in the result, and whether a key
/// of `trusted` made the signature.
///
/// # Errors
/// If the file could not be loaded with any grants.
pub fn inspect(path: &Path, trusted: Option<&TrustedKeys>) -> Result<Inspection, LoadError> {
    let bytes = read(path)?;
    let text = Manifest::read(path)?;
    let signature = signature::read_signature(path)?.map(|signature| SignatureStatus {
        key: signer_id(&signature).unwrap_or_default(),
        trusted_as: trusted
            .zip(text.as_deref())
            .and_then(|(trusted, text)| trusted.signer(text, &signature))
            .map(str::to_owned),
    });
    let manifest = Manifest::from_text(text.as_deref(), path)?;
    let digest = digest(path, &bytes, manifest.sha256.as_deref(), None)?;
    let (introspection, types) = introspect::read_with_types(path, &bytes)?;
    let mut missing = Vec::new();
    for import in &introspection.imports {
        match required_grant(import, &manifest.grants) {
            RequiredGrant::Missing(line) if !missing.contains(&line) => missing.push(line),
            RequiredGrant::Unknown => {
                return Err(LoadError::UnknownImport { path: path.to_owned(), import: import.clone() });
            }
            RequiredGrant::Missing(_) | RequiredGrant::Satisfied => {}
        }
    }
    introspect::compare(path, &introspection, &types)?;
    let unused = unused(&manifest, &introspection);
    Ok(Inspection {
        grants: permissions::grants(&manifest, &introspection.imports),
        limits: permissions::limits(&manifest, text.as_deref().unwrap_or_default()),
        has_manifest: manifest.is_explicit,
        manifest_digest: manifest.digest,
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
        signature,
    })
}

/// Returns the digest of a file after comparing it with the pins of the manifest and the configuration.
fn digest(
    path: &Path,
    bytes: &[u8],
    manifest_pin: Option<&str>,
    operator_pin: Option<&str>,
) -> Result<String, LoadError> {
    let found = sha256(bytes);
    let pins = [
        (manifest_pin, Manifest::path_of(path).display().to_string()),
        (operator_pin, "the configuration".to_owned()),
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

/// Compares the digest of a manifest with the operator's pin.
fn check_manifest(manifest: &Manifest, path: &Path, pin: Option<&str>) -> Result<(), LoadError> {
    let Some(expected) = pin else { return Ok(()) };
    let problem = match &manifest.digest {
        Some(found) if expected.eq_ignore_ascii_case(found) => return Ok(()),
        Some(found) => format!("its sha256 is {found}"),
        None => "it does not exist".to_owned(),
    };
    Err(LoadError::Manifest {
        path: path.to_owned(),
        problem: format!(
            "{problem}, but manifest_sha256 in backend_grants pins {expected}. Restore the pinned file, or change the pin if you trust this one"
        ),
    })
}

/// Returns the grants of a manifest that no import uses. Default grants are never unused.
fn unused(manifest: &Manifest, read: &Introspection) -> Vec<String> {
    if manifest.is_explicit { imports::unused(&read.imports, &manifest.grants) } else { Vec::new() }
}

/// Reads a regular file of at most [`MAX_COMPONENT_BYTES`] bytes.
fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let unreadable = |problem: String| LoadError::Unreadable { path: path.to_owned(), problem };
    let too_large = |size| LoadError::TooLarge { path: path.to_owned(), size, limit: MAX_COMPONENT_BYTES };
    // Opening a FIFO would block until a writer appears.
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
    if !metadata.is_file() {
        return Err(unreadable("it is not a regular file".into()));
    }
    if metadata.len() > MAX_COMPONENT_BYTES {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    // The file may have grown since its size was read.
    file.take(MAX_COMPONENT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(error.to_string()))?;
    match bytes.len() as u64 {
        size if size > MAX_COMPONENT_BYTES => Err(too_large(size)),
        _ => Ok(bytes),
    }
}
