//! The client of a registry, and what its errors mean.

use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::{Client, RegistryOperation};

use crate::credentials;
use crate::error::RegistryError;
use crate::reference::Place;

const CONNECT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(60);

/// A client that has shown its credentials.
pub(crate) async fn connect(place: &Place, operation: RegistryOperation) -> Result<Client, RegistryError> {
    // Another part of the process may have chosen a provider already; any will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let credentials = credentials::of(place.registry())?;
    let config = ClientConfig {
        protocol: if place.is_loopback() { ClientProtocol::Http } else { ClientProtocol::Https },
        connect_timeout: Some(CONNECT),
        read_timeout: Some(SILENCE),
        user_agent: concat!("dagster-ray/", env!("CARGO_PKG_VERSION")),
        platform_resolver: None,
        ..ClientConfig::default()
    };
    let client = Client::try_from(config).map_err(|error| explain(place, error))?;
    client.auth(place.reference(), &credentials, operation).await.map_err(|error| explain(place, error))?;
    Ok(client)
}

/// What an error of the client means to its user.
pub(crate) fn explain(place: &Place, error: OciDistributionError) -> RegistryError {
    use OciDistributionError as E;
    let reference = place.to_string();
    let refused = |problem: String| RegistryError::Refused {
        reference: place.to_string(),
        registry: place.registry().to_owned(),
        problem,
    };
    match error {
        E::ImageManifestNotFoundError(_) => RegistryError::NotFound { reference },
        E::UnauthorizedError { .. } => refused("it asks for other credentials".into()),
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
        E::RequestError(error) => RegistryError::Unavailable { reference, problem: causes(&error) },
        other => RegistryError::Unavailable { reference, problem: other.to_string() },
    }
}

/// The last cause says most: what stands before it repeats the URL.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
