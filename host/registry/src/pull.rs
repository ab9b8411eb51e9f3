//! Pulls a component from a registry into the store.

use std::time::Duration;

use futures_util::StreamExt;
use oci_client::manifest::{IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciDescriptor};
use oci_client::{Client, RegistryOperation};

use crate::artifact::{Artifact, LAYER};
use crate::client::{causes, connect, explain};
use crate::error::RegistryError;
use crate::reference::Place;
use crate::store::{Pulled, Store, hex_digest};

/// The delays before the retries of a transient error.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// Returns the component that `place` refers to, from the store if `place` has a digest and was pulled
/// before.
///
/// # Errors
/// If the artifact cannot be downloaded or does not match its digest. Nothing is stored then.
pub async fn pull(place: &Place, store: &Store) -> Result<Pulled, RegistryError> {
    if let Some(digest) = place.digest()
        && let Some(pulled) = store.open(&place.pinned(digest))
    {
        return Ok(pulled);
    }
    let mut pauses = PAUSES.iter();
    loop {
        match fetch(place, store).await {
            Err(error) if error.is_passing() => match pauses.next() {
                Some(pause) => {
                    tracing::debug!("{error}; retrying");
                    tokio::time::sleep(*pause).await;
                }
                None => return Err(error),
            },
            outcome => return outcome,
        }
    }
}

async fn fetch(place: &Place, store: &Store) -> Result<Pulled, RegistryError> {
    let client = connect(place, RegistryOperation::Pull).await?;
    let auth = crate::credentials::of(place.registry())?;
    let accepted = [IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE];
    let (manifest, _) = client
        .pull_manifest_raw(place.reference(), &auth, &accepted)
        .await
        .map_err(|error| explain(place, error))?;
    let found = hex_digest(&manifest);
    if let Some(expected) = place.digest()
        && expected != found
    {
        return Err(RegistryError::Digest { reference: place.to_string(), found, expected: expected.into() });
    }
    let artifact = Artifact::read(&place.to_string(), &manifest)?;
    if let Some(pulled) = store.open(&place.pinned(&found)) {
        return Ok(pulled);
    }
    let wasm = layer(&client, place, &artifact).await?;
    store.keep(place, &manifest, &artifact, &wasm)
}

/// Downloads the layer. Stops with an error when it exceeds the size that the manifest announces.
async fn layer(client: &Client, place: &Place, artifact: &Artifact) -> Result<Vec<u8>, RegistryError> {
    let descriptor = OciDescriptor {
        media_type: LAYER.to_owned(),
        digest: format!("sha256:{}", artifact.sha256),
        size: i64::try_from(artifact.size).unwrap_or(i64::MAX),
        ..OciDescriptor::default()
    };
    let cut = |found| RegistryError::Cut { reference: place.to_string(), found, expected: artifact.size };
    let mut stream = client
        .pull_blob_stream(place.reference(), &descriptor)
        .await
        .map_err(|error| explain(place, error))?
        .stream;
    let mut wasm = Vec::new();
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => wasm.extend_from_slice(&chunk),
            // The client's own digest check ends here; the check below gives a better error.
            Err(error) if wasm.len() as u64 == artifact.size => {
                tracing::debug!("{error}");
                break;
            }
            Err(error) => {
                tracing::debug!("{}", causes(&error));
                return Err(cut(wasm.len() as u64));
            }
        }
        if wasm.len() as u64 > artifact.size {
            return Err(cut(wasm.len() as u64));
        }
    }
    if wasm.len() as u64 != artifact.size {
        return Err(cut(wasm.len() as u64));
    }
    let found = hex_digest(&wasm);
    if found != artifact.sha256 {
        let (reference, expected) = (place.to_string(), artifact.sha256.clone());
        return Err(RegistryError::Digest { reference, found, expected });
    }
    Ok(wasm)
}
