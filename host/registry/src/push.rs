//! Pushes a component to a registry.

use std::path::Path;

use dagster_ray_policy::manifest::{Manifest, Narrowing};
use http::HeaderValue;
use oci_client::RegistryOperation;
use oci_client::manifest::OCI_IMAGE_MEDIA_TYPE;

use crate::artifact::{self, Config};
use crate::client::{connect, explain};
use crate::error::RegistryError;
use crate::reference::{Pinned, Place};
use crate::store::hex_digest;

/// A component that was pushed.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// The reference with the digest of the artifact.
    pub reference: Pinned,
    /// The sha256 of the component, in hexadecimal.
    pub sha256: String,
    /// Size of the component in bytes.
    pub size: u64,
    /// Whether a manifest was pushed with the component.
    pub with_manifest: bool,
}

/// Pushes a component file, and the manifest beside it if there is one.
///
/// The digest depends only on the files, not on the registry or the time.
///
/// # Errors
/// If the file is not a loadable component, or the registry rejects it.
pub async fn push(file: &Path, place: &Place) -> Result<Pushed, RegistryError> {
    if place.digest().is_some() {
        return Err(RegistryError::Reference {
            text: place.to_string(),
            problem: "a digest is the result of a push and cannot be chosen".into(),
        });
    }
    let checked = dagster_ray_policy::check(file, &Narrowing::default(), None)?;
    let path = Manifest::path_of(file);
    let toml = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(RegistryError::File { path, source }),
    };
    let internal = |error: serde_json::Error| RegistryError::Host(error.to_string());
    let names = &checked.introspection;
    let config = Config::new(&checked.digest, &names.exports, &names.imports);
    let config = serde_json::to_vec(&config).map_err(internal)?;
    let stem = file.file_stem().map_or_else(|| place.name().into(), |stem| stem.to_string_lossy());
    let manifest = artifact::manifest(&stem, &checked.bytes, &config, toml.as_deref());
    let manifest_bytes = serde_json::to_vec(&manifest).map_err(internal)?;

    let client = connect(place, RegistryOperation::Push).await?;
    let reference = place.reference();
    let size = checked.bytes.len() as u64;
    for (content, descriptor) in [(checked.bytes, &manifest.layers[0]), (config, &manifest.config)] {
        // Skip a blob that the registry already has.
        if !client.blob_exists(reference, &descriptor.digest).await.unwrap_or(false) {
            client
                .push_blob(reference, content, &descriptor.digest)
                .await
                .map_err(|error| explain(place, error))?;
        }
    }
    let digest = hex_digest(&manifest_bytes);
    client
        .push_manifest_raw(reference, manifest_bytes, HeaderValue::from_static(OCI_IMAGE_MEDIA_TYPE))
        .await
        .map_err(|error| explain(place, error))?;
    Ok(Pushed {
        reference: place.pinned(&digest),
        sha256: checked.digest,
        size,
        with_manifest: toml.is_some(),
    })
}
