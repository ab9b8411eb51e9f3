//! Pulls a component from a registry into the store.

use std::time::Duration;

use dagster_ray_policy::sha256;
use futures_util::StreamExt;
use oci_client::manifest::{IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciDescriptor};
use oci_client::{Client, RegistryOperation};

use crate::artifact::{Artifact, Blob};
use crate::client::{TRANSFER_TIMEOUT, connect, explain, respond, root_cause, within};
use crate::error::RegistryError;
use crate::reference::Reference;
use crate::store::{Pulled, Store};

/// The delays before the retries of a transient error.
const RETRY_DELAYS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// Returns the component that `reference` refers to. With a digest, the store is read first.
///
/// # Errors
/// If the artifact cannot be downloaded within 15 minutes or does not match its digest. Nothing is stored then.
pub async fn pull(reference: &Reference, store: &Store) -> Result<Pulled, RegistryError> {
    if let Some(digest) = reference.digest()
        && let Some(pulled) = store.open(&reference.pinned(digest))
    {
        return Ok(pulled);
    }
    within(TRANSFER_TIMEOUT, reference, fetch_with_retries(reference, store)).await
}

async fn fetch_with_retries(reference: &Reference, store: &Store) -> Result<Pulled, RegistryError> {
    let mut delays = RETRY_DELAYS.iter();
    loop {
        match fetch(reference, store).await {
            Err(error) if error.is_transient() => match delays.next() {
                Some(delay) => {
                    tracing::debug!("{error}; retrying");
                    tokio::time::sleep(*delay).await;
                }
                None => return Err(error),
            },
            outcome => return outcome,
        }
    }
}

async fn fetch(reference: &Reference, store: &Store) -> Result<Pulled, RegistryError> {
    let client = connect(reference, RegistryOperation::Pull).await?;
    let auth = crate::credentials::for_registry(reference.registry())?;
    let accepted = [IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE];
    let (manifest, _) =
        respond(reference, client.pull_manifest_raw(reference.as_oci(), &auth, &accepted)).await?;
    let found = sha256(&manifest);
    if let Some(expected) = reference.digest()
        && expected != found
    {
        return Err(RegistryError::Digest {
            reference: reference.to_string(),
            found,
            expected: expected.into(),
        });
    }
    let artifact = Artifact::read(&reference.to_string(), &manifest)?;
    if let Some(pulled) = store.open(&reference.pinned(&found)) {
        return Ok(pulled);
    }
    let wasm = download(&client, reference, &artifact.component).await?;
    let names = match &artifact.names {
        Some(names) => {
            let config = download(&client, reference, &names.config).await?;
            Some(names.read(&reference.to_string(), &config)?)
        }
        None => None,
    };
    store.store(reference, &manifest, &artifact, &wasm, names.as_deref())
}

/// Downloads a blob. Stops with an error when it exceeds the size that the manifest announces.
async fn download(client: &Client, reference: &Reference, blob: &Blob) -> Result<Vec<u8>, RegistryError> {
    let descriptor = OciDescriptor {
        media_type: blob.media_type.to_owned(),
        digest: format!("sha256:{}", blob.sha256),
        size: i64::try_from(blob.size).unwrap_or(i64::MAX),
        ..OciDescriptor::default()
    };
    let incomplete =
        |found| RegistryError::Incomplete { reference: reference.to_string(), found, expected: blob.size };
    let mut stream = client
        .pull_blob_stream(reference.as_oci(), &descriptor)
        .await
        .map_err(|error| explain(reference, error))?
        .stream;
    let mut content = Vec::new();
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => content.extend_from_slice(&chunk),
            // The client's own digest check ends here; the check below gives a better error.
            Err(error) if content.len() as u64 == blob.size => {
                tracing::debug!("{error}");
                break;
            }
            Err(error) => {
                tracing::debug!("{}", root_cause(&error));
                return Err(incomplete(content.len() as u64));
            }
        }
        if content.len() as u64 > blob.size {
            return Err(incomplete(content.len() as u64));
        }
    }
    if content.len() as u64 != blob.size {
        return Err(incomplete(content.len() as u64));
    }
    let found = sha256(&content);
    if found != blob.sha256 {
        let expected = blob.sha256.clone();
        return Err(RegistryError::Digest { reference: reference.to_string(), found, expected });
    }
    Ok(content)
}
