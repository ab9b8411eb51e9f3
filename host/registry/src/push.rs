//! Pushes a component to a registry.

use std::path::Path;

use dagster_ray_policy::manifest::{Manifest, Restriction};
use dagster_ray_policy::sha256;
use dagster_ray_policy::signature::read_signature;
use http::HeaderValue;
use oci_client::manifest::OCI_IMAGE_MEDIA_TYPE;

use crate::artifact::{self, Config, LARGEST_NAMES, Texts};
use crate::client::{TRANSFER_TIMEOUT, connect, explain, within};
use crate::error::RegistryError;
use crate::reference::{PinnedReference, Reference};

/// A component that was pushed.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// The reference with the digest of the artifact.
    pub reference: PinnedReference,
    /// The sha256 of the component, in hexadecimal.
    pub sha256: String,
    /// Size of the component in bytes.
    pub size: u64,
    /// Whether a manifest was pushed with the component.
    pub with_manifest: bool,
    /// Whether a signature was pushed with the component.
    pub with_signature: bool,
}

/// The manifest of a component with its signature.
#[derive(Debug, Clone)]
pub struct SignedManifest {
    /// The manifest as TOML, which pins the component.
    pub manifest: String,
    /// The signature of the manifest, in the format of minisign.
    pub signature: String,
}

/// Pushes a component file, with the manifest, its signature and the function names beside it if there are any.
/// `signed` replaces the manifest and the signature.
///
/// The digest depends only on the files, not on the registry or the time.
///
/// # Errors
/// If `reference` has a digest, the file is not a loadable component, or the registry rejects it or takes
/// longer than 15 minutes.
pub async fn push(
    file: &Path,
    reference: &Reference,
    signed: Option<SignedManifest>,
) -> Result<Pushed, RegistryError> {
    if reference.digest().is_some() {
        return Err(RegistryError::DigestInPush { text: reference.to_string() });
    }
    within(TRANSFER_TIMEOUT, reference, upload(file, reference, signed)).await
}

async fn upload(
    file: &Path,
    reference: &Reference,
    signed: Option<SignedManifest>,
) -> Result<Pushed, RegistryError> {
    let checked = dagster_ray_policy::check(file, &Restriction::default(), None, None)?;
    let (toml, signature) = match signed {
        Some(SignedManifest { manifest, signature }) => (Some(manifest), Some(signature)),
        None => (read_manifest(file)?, read_signature(file)?),
    };
    let internal = |error: serde_json::Error| RegistryError::Internal(error.to_string());
    let names = read_names(file, &checked.digest)?;
    let interfaces = &checked.introspection;
    let config = Config::new(&checked.digest, &interfaces.exports, &interfaces.imports, names.as_deref());
    let config = serde_json::to_vec(&config).map_err(internal)?;
    let stem = file.file_stem().map_or_else(|| reference.name().into(), |stem| stem.to_string_lossy());
    let texts = Texts { manifest: toml.as_deref(), signature: signature.as_deref(), names: names.as_deref() };
    let manifest = artifact::manifest(&stem, &checked.bytes, &config, texts);
    let manifest_bytes = serde_json::to_vec(&manifest).map_err(internal)?;

    let client = connect(reference).await?;
    let oci = reference.as_oci();
    let size = checked.bytes.len() as u64;
    for (content, descriptor) in [(checked.bytes, &manifest.layers[0]), (config, &manifest.config)] {
        // Skip a blob that the registry already has.
        if !client.blob_exists(oci, &descriptor.digest).await.unwrap_or(false) {
            client
                .push_blob(oci, content, &descriptor.digest)
                .await
                .map_err(|error| explain(reference, error))?;
        }
    }
    let digest = sha256(&manifest_bytes);
    client
        .push_manifest_raw(oci, manifest_bytes, HeaderValue::from_static(OCI_IMAGE_MEDIA_TYPE))
        .await
        .map_err(|error| explain(reference, error))?;
    Ok(Pushed {
        reference: reference.pinned(&digest),
        sha256: checked.digest,
        size,
        with_manifest: toml.is_some(),
        with_signature: signature.is_some(),
    })
}

/// Reads the manifest beside a component.
fn read_manifest(file: &Path) -> Result<Option<String>, RegistryError> {
    let path = Manifest::path_of(file);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RegistryError::File { path, source }),
    }
}

/// Reads the function names beside a component. Returns `None` without the file, and for a file that the host
/// ignores: the names of another build, or more than [`LARGEST_NAMES`] bytes.
fn read_names(file: &Path, digest: &str) -> Result<Option<String>, RegistryError> {
    let path = file.with_extension("names");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let is_of_component = text.lines().next() == Some(format!("sha256 {digest}").as_str());
            Ok(Some(text).filter(|text| is_of_component && text.len() as u64 <= LARGEST_NAMES))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RegistryError::File { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_function_names_of_the_component_are_pushed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.wasm");
        assert_eq!(read_names(&file, "00").unwrap(), None);
        let names = "sha256 00\nmodule a\n0 f\n";
        std::fs::write(file.with_extension("names"), names).unwrap();
        assert_eq!(read_names(&file, "00").unwrap().as_deref(), Some(names));
        assert_eq!(read_names(&file, "01").unwrap(), None);
    }

    #[test]
    fn a_push_to_a_digest_is_refused_and_only_a_tag_is_suggested() {
        let reference = format!("oci://ghcr.io/team/backend@sha256:{}", "0".repeat(64));
        let reference = Reference::parse(&reference).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error =
            runtime.block_on(push(Path::new("nowhere.wasm"), &reference, None)).unwrap_err().to_string();
        assert!(error.starts_with(&reference.to_string()), "{error}");
        assert!(error.contains("write oci://host/name:tag"), "{error}");
        assert!(!error.contains("name@sha256"), "{error}");
    }
}
