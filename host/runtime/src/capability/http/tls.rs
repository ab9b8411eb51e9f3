//! TLS configurations for the option `verify`, and the certificates that are trusted without it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dagster_ray_policy::{Authority, Verify};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_native_certs::load_certs_from_paths;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use wasmtime_wasi_http::Error;

/// Variables of Python's `requests`, which Ray's own client uses. The first one that is set replaces all other
/// certificates.
const BUNDLE_VARIABLES: [&str; 2] = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];
/// Variables of OpenSSL, which replace the certificates of the system.
const FILE_VARIABLE: &str = "SSL_CERT_FILE";
const DIRECTORY_VARIABLE: &str = "SSL_CERT_DIR";

/// Which server certificates a connection trusts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trust {
    /// None, for plain HTTP: no file is read.
    Nothing,
    /// All: `verify: false`.
    Everything,
    /// Those of a PEM file or a directory. The text names the option or variable that chose the path.
    Bundle(&'static str, PathBuf),
    /// Those of the file and the directories of OpenSSL's variables.
    Variables(Option<OsString>, Option<OsString>),
    /// Those of the system and the well-known authorities, because a container may have none of its own.
    System,
}

impl Trust {
    /// Returns what an authority's option `verify` and the variables of this process choose.
    ///
    /// The variables are read for each request: a test or a plugin may set them after the first one.
    pub(super) fn new(authority: &Authority) -> Self {
        if !authority.origin.is_https() {
            return Self::Nothing;
        }
        Self::with(&authority.verify, &|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn with(verify: &Verify, variable: &dyn Fn(&'static str) -> Option<OsString>) -> Self {
        match verify {
            Verify::Switch(false) => return Self::Everything,
            Verify::Bundle(path) => return Self::Bundle("verify", path.clone()),
            Verify::Switch(true) => {}
        }
        for name in BUNDLE_VARIABLES {
            if let Some(path) = variable(name) {
                return Self::Bundle(name, path.into());
            }
        }
        match (variable(FILE_VARIABLE), variable(DIRECTORY_VARIABLE)) {
            (None, None) => Self::System,
            (file, directory) => Self::Variables(file, directory),
        }
    }

    /// Returns the TLS configuration.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or the named files contain no certificate.
    pub(super) fn configuration(&self) -> Result<ClientConfig, Error> {
        let mut roots = RootCertStore::empty();
        let (trusted, named) = match self {
            Self::Everything => return unverified(),
            Self::Nothing => {
                let builder = ClientConfig::builder_with_provider(provider());
                let builder = builder.with_safe_default_protocol_versions().map_err(internal)?;
                return Ok(builder.with_root_certificates(roots).with_no_client_auth());
            }
            Self::Bundle(name, path) => (bundle(name, path)?, Some((*name, path.clone()))),
            Self::Variables(file, directory) => {
                let name = if file.is_some() { FILE_VARIABLE } else { DIRECTORY_VARIABLE };
                let path = file.as_ref().or(directory.as_ref()).map(PathBuf::from).unwrap_or_default();
                let found = rustls_native_certs::load_native_certs();
                let problem = found.errors.first().map(ToString::to_string);
                (not_empty(found.certs, name, &path, problem)?, Some((name, path)))
            }
            Self::System => {
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
                (rustls_native_certs::load_native_certs().certs, None)
            }
        };
        // As OpenSSL does, ignore certificates that cannot be used.
        roots.add_parsable_certificates(trusted.iter().cloned());
        if let Some((name, path)) = named.filter(|_| roots.is_empty()) {
            return Err(unusable(name, &path, "contains no usable certificate"));
        }
        let provider = provider();
        let chains = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()
            .map_err(internal)?;
        with_verifier(provider, TrustedCertificates { chains, trusted })
    }
}

/// Reads a PEM file, or a directory in the format of `openssl rehash`.
fn bundle(name: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    if path.is_dir() {
        let found = load_certs_from_paths(None, Some(path));
        let problem = found.errors.first().map(ToString::to_string);
        return not_empty(found.certs, name, path, problem);
    }
    let mut trusted = Vec::new();
    for certificate in
        CertificateDer::pem_file_iter(path).map_err(|error| unusable(name, path, &error.to_string()))?
    {
        trusted.push(certificate.map_err(|error| unusable(name, path, &error.to_string()))?);
    }
    not_empty(trusted, name, path, None)
}

fn not_empty(
    found: Vec<CertificateDer<'static>>,
    name: &str,
    path: &Path,
    problem: Option<String>,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    if found.is_empty() {
        return Err(unusable(name, path, problem.as_deref().unwrap_or("contains no certificate")));
    }
    Ok(found)
}

fn unusable(name: &str, path: &Path, problem: &str) -> Error {
    // Of the codes that mean "do not repeat the request", this one has a text.
    Error::TlsAlertReceived {
        alert_id: None,
        alert_message: Some(format!("{name}: {}: {problem}", path.display())),
    }
}

/// Returns a configuration that accepts every certificate, for `verify: false`.
fn unverified() -> Result<ClientConfig, Error> {
    let provider = provider();
    with_verifier(provider.clone(), NoVerification(provider))
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::InternalError(Some(error.to_string()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn with_verifier(
    provider: Arc<CryptoProvider>,
    verifier: impl ServerCertVerifier + 'static,
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(internal)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// Trusts certificates as authorities and as servers.
///
/// `openssl req -x509` creates certificates of authorities by default, and servers use them as their own.
/// OpenSSL accepts a server's certificate that its store contains; webpki refuses it with
/// `CaUsedAsEndEntity`.
#[derive(Debug)]
struct TrustedCertificates {
    chains: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for TrustedCertificates {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.chains.verify_server_cert(server, intermediates, name, ocsp, now) {
            // webpki checks the validity period before the basic constraints.
            Err(error) if is_authority_as_server(&error) && self.trusted.contains(server) => {
                rustls::client::verify_server_name(&ParsedCertificate::try_from(server)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Returns whether webpki refused a server's certificate only because it is an authority's.
fn is_authority_as_server(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// Accepts every certificate.
#[derive(Debug)]
struct NoVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust(verify: Verify, variables: &[(&str, &str)]) -> Trust {
        Trust::with(&verify, &|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn verify_precedes_the_variables_of_requests_and_these_precede_those_of_openssl() {
        let all = [("SSL_CERT_FILE", "/f"), ("CURL_CA_BUNDLE", "/c"), ("REQUESTS_CA_BUNDLE", "/r")];
        assert_eq!(trust(Verify::Switch(false), &all), Trust::Everything);
        assert_eq!(trust(Verify::Bundle("/v".into()), &all), Trust::Bundle("verify", "/v".into()));
        let verified = || Verify::Switch(true);
        assert_eq!(trust(verified(), &all), Trust::Bundle("REQUESTS_CA_BUNDLE", "/r".into()));
        assert_eq!(trust(verified(), &all[..2]), Trust::Bundle("CURL_CA_BUNDLE", "/c".into()));
        assert_eq!(trust(verified(), &all[..1]), Trust::Variables(Some("/f".into()), None));
        assert_eq!(trust(verified(), &[]), Trust::System);
    }
}
