//! Credentials, where `docker login` keeps them.

use std::path::PathBuf;

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential};
use oci_client::secrets::RegistryAuth;

use crate::error::RegistryError;

/// What this user shows to a registry; nothing, where nothing is kept for it.
pub(crate) fn of(registry: &str) -> Result<RegistryAuth, RegistryError> {
    let unusable = |problem: String| RegistryError::Credentials { registry: registry.to_owned(), problem };
    if !configuration().is_some_and(|file| file.exists()) {
        return Ok(RegistryAuth::Anonymous);
    }
    // Some tools keep them under the host, some under its URL.
    for server in [registry.to_owned(), format!("https://{registry}")] {
        match get_credential(&server) {
            Ok(DockerCredential::UsernamePassword(user, password)) => {
                return Ok(RegistryAuth::Basic(user, password));
            }
            Ok(DockerCredential::IdentityToken(_)) => {
                return Err(unusable(
                    "an identity token is kept for it, which is not supported. Log in with a user name and an access token".into(),
                ));
            }
            Err(
                CredentialRetrievalError::ConfigNotFound | CredentialRetrievalError::NoCredentialConfigured,
            ) => {}
            Err(error @ CredentialRetrievalError::HelperFailure { .. }) => {
                // Helpers say so when they keep nothing for a registry.
                tracing::debug!(registry, "{error}");
            }
            Err(error) => return Err(unusable(error.to_string())),
        }
    }
    Ok(RegistryAuth::Anonymous)
}

/// The file that `docker login` writes.
fn configuration() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let folder = named("DOCKER_CONFIG").or_else(|| Some(named("HOME")?.join(".docker")))?;
    Some(folder.join("config.json"))
}
