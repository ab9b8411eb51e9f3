//! Reads the credentials that `docker login` stores.

use std::path::PathBuf;

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential};
use oci_client::secrets::RegistryAuth;

use crate::error::RegistryError;

/// Returns the user's credentials for a registry, or anonymous access if none are stored.
pub(crate) fn for_registry(registry: &str) -> Result<RegistryAuth, RegistryError> {
    let unusable = |problem: String| RegistryError::Credentials { registry: registry.to_owned(), problem };
    if !config_file().is_some_and(|file| file.exists()) {
        return Ok(RegistryAuth::Anonymous);
    }
    // Some tools store credentials under the host, others under its URL.
    for server in [registry.to_owned(), format!("https://{registry}")] {
        match get_credential(&server) {
            Ok(DockerCredential::UsernamePassword(user, password)) => {
                return Ok(RegistryAuth::Basic(user, password));
            }
            Ok(DockerCredential::IdentityToken(_)) => {
                return Err(unusable(
                    "identity tokens are not supported. Log in with a user name and an access token".into(),
                ));
            }
            Err(
                CredentialRetrievalError::ConfigNotFound | CredentialRetrievalError::NoCredentialConfigured,
            ) => {}
            Err(error @ CredentialRetrievalError::HelperFailure { .. }) => {
                // A credential helper also fails if it has no credentials for the registry.
                tracing::debug!(registry, "{error}");
            }
            Err(error) => return Err(unusable(error.to_string())),
        }
    }
    Ok(RegistryAuth::Anonymous)
}

/// Returns the path of the file that `docker login` writes.
fn config_file() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let folder = variable("DOCKER_CONFIG").or_else(|| Some(variable("HOME")?.join(".docker")))?;
    Some(folder.join("config.json"))
}
