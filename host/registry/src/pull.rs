//! Pulls a component from a registry into the store.

use std::time::Duration;

use dagster_ray_policy::audit::{AuditLine, TARGET};
use dagster_ray_policy::{TrustedKeys, sha256};
use oci_client::manifest::{IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE};

use crate::artifact::{Artifact, Blob};
use crate::client::{TRANSFER_TIMEOUT, within};
use crate::error::RegistryError;
use crate::reference::Reference;
use crate::session::Session;
use crate::store::{Pulled, Store};

/// The delays before the retries of a transient error.
const RETRY_DELAYS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// Returns the component that `reference` refers to. With a digest, the store is read first. With `trusted`, one of
/// its keys must have signed the component.
///
/// # Errors
/// If the artifact cannot be downloaded within 15 minutes, does not match its digest, or lacks the signature.
/// Nothing is stored then.
pub async fn pull(
    reference: &Reference,
    store: &Store,
    trusted: Option<&TrustedKeys>,
) -> Result<Pulled, RegistryError> {
    if let Some(digest) = reference.digest()
        && let Some(pulled) = store.open(&reference.pinned(digest))
    {
        verify(reference, &pulled.artifact, trusted)?;
        return Ok(pulled);
    }
    within(TRANSFER_TIMEOUT, reference, fetch_with_retries(reference, store, trusted)).await
}

async fn fetch_with_retries(
    reference: &Reference,
    store: &Store,
    trusted: Option<&TrustedKeys>,
) -> Result<Pulled, RegistryError> {
    let mut delays = RETRY_DELAYS.iter();
    loop {
        match fetch(reference, store, trusted).await {
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

async fn fetch(
    reference: &Reference,
    store: &Store,
    trusted: Option<&TrustedKeys>,
) -> Result<Pulled, RegistryError> {
    let session = Session::open(reference).await?;
    let manifest = session.manifest(&[IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE]).await?;
    let found = sha256(&manifest);
    if let Some(expected) = reference.digest() {
        check(reference, found.clone(), expected)?;
    }
    let artifact = Artifact::read(&reference.to_string(), &manifest)?;
    verify(reference, &artifact, trusted)?;
    if let Some(pulled) = store.open(&reference.pinned(&found)) {
        return Ok(pulled);
    }
    let wasm = download(&session, reference, &artifact.component).await?;
    let names = match &artifact.names {
        Some(names) => {
            let config = download(&session, reference, &names.config).await?;
            Some(names.read(&reference.to_string(), &config)?)
        }
        None => None,
    };
    store.store(reference, &manifest, &artifact, &wasm, names.as_deref())
}

/// Verifies the signature that the policy requires.
fn verify(
    reference: &Reference,
    artifact: &Artifact,
    trusted: Option<&TrustedKeys>,
) -> Result<(), RegistryError> {
    let Some(trusted) = trusted else { return Ok(()) };
    Ok(artifact.verify(&reference.to_string(), trusted).inspect_err(|error| {
        if let Some(line) = AuditLine::refusal(error, "pull") {
            tracing::info!(target: TARGET, "{line}");
        }
    })?)
}

/// Downloads a blob and checks its digest.
async fn download(
    session: &Session<'_>,
    reference: &Reference,
    blob: &Blob,
) -> Result<Vec<u8>, RegistryError> {
    let content = session.blob(blob).await?;
    check(reference, sha256(&content), &blob.sha256)?;
    Ok(content)
}

fn check(reference: &Reference, found: String, expected: &str) -> Result<(), RegistryError> {
    if found == expected {
        return Ok(());
    }
    Err(RegistryError::Digest { reference: reference.to_string(), found, expected: expected.to_owned() })
}
