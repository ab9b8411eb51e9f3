//! Connects to a registry and converts the errors of its client.

use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::{Client, RegistryOperation};

use crate::credentials;
use crate::error::RegistryError;
use crate::reference::Reference;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns a client that has authenticated with the registry of `reference`.
pub(crate) async fn connect(
    reference: &Reference,
    operation: RegistryOperation,
) -> Result<Client, RegistryError> {
    // Fails if the process has installed a provider before. Any provider works.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let credentials = credentials::for_registry(reference.registry())?;
    let config = ClientConfig {
        protocol: if reference.is_loopback() { ClientProtocol::Http } else { ClientProtocol::Https },
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        user_agent: concat!("dagster-ray/", env!("CARGO_PKG_VERSION")),
        platform_resolver: None,
        ..ClientConfig::default()
    };
    let client = Client::try_from(config).map_err(|error| explain(reference, error))?;
    client
        .auth(reference.as_oci(), &credentials, operation)
        .await
        .map_err(|error| explain(reference, error))?;
    Ok(client)
}

/// Converts an error of the client.
pub(crate) fn explain(reference: &Reference, error: OciDistributionError) -> RegistryError {
    use OciDistributionError as E;
    let registry = reference.registry().to_owned();
    let reference = reference.to_string();
    let refused = |problem: String| RegistryError::Refused {
        reference: reference.clone(),
        registry: registry.clone(),
        problem,
    };
    match error {
        E::ImageManifestNotFoundError(_) => RegistryError::NotFound { reference },
        E::UnauthorizedError { .. } => refused("the credentials are not accepted".into()),
        E::AuthenticationFailure(problem) => refused(problem),
        E::ServerError { code: 404, .. } => RegistryError::NotFound { reference },
        E::ServerError { code, message, .. } => {
            RegistryError::Unavailable { reference, problem: format!("HTTP {code}: {}", message.trim()) }
        }
        E::RegistryError { envelope, .. } => {
            let is = |code: &OciErrorCode| envelope.errors.iter().any(|error| error.code == *code);
            if is(&OciErrorCode::Unauthorized) || is(&OciErrorCode::Denied) {
                refused(envelope.to_string())
            } else if is(&OciErrorCode::ManifestUnknown)
                || is(&OciErrorCode::NameUnknown)
                || is(&OciErrorCode::BlobUnknown)
            {
                RegistryError::NotFound { reference }
            } else {
                RegistryError::Unavailable { reference, problem: envelope.to_string() }
            }
        }
        E::DigestError(oci_client::errors::DigestError::VerificationError { expected, actual }) => {
            let hex = |digest: String| digest.trim_start_matches("sha256:").to_owned();
            RegistryError::Digest { reference, found: hex(actual), expected: hex(expected) }
        }
        E::RequestError(error) => RegistryError::Unavailable { reference, problem: root_cause(&error) },
        other => RegistryError::Unavailable { reference, problem: other.to_string() },
    }
}

/// Returns the text of the innermost cause. The errors around it only repeat the URL.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
