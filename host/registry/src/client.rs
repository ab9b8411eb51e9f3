//! Connects to a registry and converts the errors of its client.

use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::{Client, RegistryOperation};

use crate::credentials;
use crate::error::RegistryError;
use crate::reference::Reference;

pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a registry may take to authenticate a client or to return a manifest. The read timeout does not
/// end a response that arrives byte by byte, and the client keeps the whole response in memory.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a pull or a push may take, with retries.
pub(crate) const TRANSFER_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Maximum number of characters of a registry's message in an error.
const MAX_MESSAGE_CHARS: usize = 500;

/// The header `User-Agent` of every request.
pub(crate) const USER_AGENT: &str = concat!("dagster-ray/", env!("CARGO_PKG_VERSION"));

/// Returns a client for a push that has authenticated with the registry of `reference`.
pub(crate) async fn connect(reference: &Reference) -> Result<Client, RegistryError> {
    // Fails if the process has installed a provider before. Any provider works.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let credentials = credentials::for_registry(reference.registry())?;
    let config = ClientConfig {
        protocol: if reference.is_loopback() { ClientProtocol::Http } else { ClientProtocol::Https },
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        user_agent: USER_AGENT,
        platform_resolver: None,
        ..ClientConfig::default()
    };
    let client = Client::try_from(config).map_err(|error| explain(reference, error))?;
    let token = client.auth(reference.as_oci(), &credentials, RegistryOperation::Push);
    let token = async { token.await.map_err(|error| explain(reference, error)) };
    within(RESPONSE_TIMEOUT, reference, token).await?;
    Ok(client)
}

/// Waits for an operation, at most for `limit`.
pub(crate) async fn within<T>(
    limit: Duration,
    reference: &Reference,
    operation: impl Future<Output = Result<T, RegistryError>>,
) -> Result<T, RegistryError> {
    tokio::time::timeout(limit, operation).await.unwrap_or_else(|_| {
        let problem = format!("the registry has not finished its response within {limit:?}");
        Err(RegistryError::Unavailable { reference: reference.to_string(), problem })
    })
}

/// Converts an error of the client.
pub(crate) fn explain(reference: &Reference, error: OciDistributionError) -> RegistryError {
    use OciDistributionError as E;
    let registry = reference.registry().to_owned();
    let reference = reference.to_string();
    let refused = |problem: String| RegistryError::Refused {
        reference: reference.clone(),
        registry: registry.clone(),
        problem: excerpt(&problem),
    };
    let unavailable = |problem: String| RegistryError::Unavailable {
        reference: reference.clone(),
        problem: excerpt(&problem),
    };
    match error {
        E::ImageManifestNotFoundError(_) => RegistryError::NotFound { reference: reference.clone() },
        E::UnauthorizedError { .. } => refused("the credentials are not accepted".into()),
        E::AuthenticationFailure(problem) => refused(problem),
        E::ServerError { code: 404, .. } => RegistryError::NotFound { reference: reference.clone() },
        E::ServerError { code, message, .. } => unavailable(format!("HTTP {code}: {}", message.trim())),
        E::RegistryError { envelope, .. } => {
            let is = |code: &OciErrorCode| envelope.errors.iter().any(|error| error.code == *code);
            if is(&OciErrorCode::Unauthorized) || is(&OciErrorCode::Denied) {
                refused(envelope.to_string())
            } else if is(&OciErrorCode::ManifestUnknown)
                || is(&OciErrorCode::NameUnknown)
                || is(&OciErrorCode::BlobUnknown)
            {
                RegistryError::NotFound { reference: reference.clone() }
            } else {
                unavailable(envelope.to_string())
            }
        }
        E::DigestError(oci_client::errors::DigestError::VerificationError { expected, actual }) => {
            let hex = |digest: String| digest.trim_start_matches("sha256:").to_owned();
            RegistryError::Digest {
                reference: reference.clone(),
                found: hex(actual),
                expected: hex(expected),
            }
        }
        E::RequestError(error) => unavailable(root_cause(&error)),
        other => unavailable(other.to_string()),
    }
}

/// Returns the beginning of a registry's message, with its control characters replaced.
fn excerpt(message: &str) -> String {
    let mut chars = message.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c });
    let mut text: String = chars.by_ref().take(MAX_MESSAGE_CHARS).collect();
    if chars.next().is_some() {
        text.push('…');
    }
    text
}

/// Returns the text of the innermost cause. The errors around it only repeat the URL.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_that_does_not_end_is_unavailable() {
        let reference = Reference::parse("oci://ghcr.io/team/backend:1").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let operation = std::future::pending::<Result<(), RegistryError>>();
        let error = runtime.block_on(within(Duration::from_millis(10), &reference, operation)).unwrap_err();
        assert!(error.to_string().ends_with("has not finished its response within 10ms"), "{error}");
    }

    #[test]
    fn a_message_of_a_registry_is_shortened_and_cannot_control_the_terminal() {
        assert_eq!(excerpt("denied"), "denied");
        assert_eq!(excerpt("\u{1b}[2Jdenied"), "\u{fffd}[2Jdenied");
        assert_eq!(excerpt(&"ä".repeat(MAX_MESSAGE_CHARS)).chars().count(), MAX_MESSAGE_CHARS);
        assert_eq!(excerpt(&"ä".repeat(1 << 20)), "ä".repeat(MAX_MESSAGE_CHARS) + "…");
    }
}
