//! The connections of the process: kept open and shared by all calls.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use dagster_ray_policy::Verify;
use dagster_ray_policy::address::is_link_local;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use wasmtime_wasi_http::{Error, WasiBody};

pub(super) type Connector = HttpsConnector<HttpConnector<Guarded>>;

/// How long an unused connection is kept. Ray's dashboard closes one after 75 s.
const IDLE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(30);

/// One client for each way of checking certificates.
#[derive(Clone, Default)]
pub(crate) struct Clients(Arc<Mutex<BTreeMap<Verify, Client<Connector, WasiBody>>>>);

impl Clients {
    pub(super) fn of(&self, verify: &Verify) -> Result<Client<Connector, WasiBody>, Error> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(verify) {
            return Ok(client.clone());
        }
        let mut http = HttpConnector::new_with_resolver(Guarded(GaiResolver::new()));
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT));
        http.set_nodelay(true);
        http.set_keepalive(Some(Duration::from_secs(30)));
        let builder = HttpsConnectorBuilder::new();
        let connector = match verify {
            Verify::Switch(true) => builder.with_webpki_roots(),
            Verify::Switch(false) => builder.with_tls_config(unchecked()?),
            Verify::Bundle(path) => builder.with_tls_config(trusting(path)?),
        }
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        clients.insert(verify.clone(), client.clone());
        Ok(client)
    }
}

fn trusting(path: &std::path::Path) -> Result<ClientConfig, Error> {
    let unreadable =
        |problem: String| Error::InternalError(Some(format!("verify: {}: {problem}", path.display())));
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(error.to_string()))? {
        let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unreadable("holds no certificate".into()));
    }
    Ok(configuration()?.with_root_certificates(roots).with_no_client_auth())
}

fn unchecked() -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(configuration()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
        .with_no_client_auth())
}

fn configuration() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::InternalError(Some(error.to_string())))
}

/// `verify: false`, which the operator has to write.
#[derive(Debug)]
struct Unchecked(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Looks at the addresses that a granted name resolves to: a name must not lead to the metadata
/// service of a cloud, whatever DNS says. An address that the operator wrote as such is not resolved.
#[derive(Clone)]
pub(super) struct Guarded(GaiResolver);

impl tower_service::Service<Name> for Guarded {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        tower_service::Service::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let text = name.to_string();
        let resolving = tower_service::Service::call(&mut self.0, name);
        Box::pin(async move {
            let all: Vec<SocketAddr> = resolving.await?.collect();
            let kept: Vec<_> = all.iter().copied().filter(|address| !is_link_local(address.ip())).collect();
            if kept.is_empty() && !all.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("{text} resolves to a link-local address, which a name may not"),
                ));
            }
            Ok(kept.into_iter())
        })
    }
}

/// The TLS error that an error is, or that hides inside it: an I/O error names the source of what it
/// wraps as its own, and may wrap another one.
pub(crate) fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref() {
        return Some(tls);
    }
    tls_error(error.downcast_ref::<io::Error>()?.get_ref()?)
}

/// What went wrong, in the terms that a component decides on.
pub(crate) fn explain(error: hyper_util::client::legacy::Error) -> Error {
    let connecting = error.is_connect();
    let mut source: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(cause) = source {
        if let Some(tls) = tls_error(cause) {
            return match tls {
                rustls::Error::InvalidCertificate(_) => Error::TlsCertificateError,
                _ => Error::TlsProtocolError,
            };
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            match io.kind() {
                io::ErrorKind::PermissionDenied if connecting => return Error::DestinationIpProhibited,
                io::ErrorKind::ConnectionRefused => return Error::ConnectionRefused,
                io::ErrorKind::TimedOut if connecting => return Error::ConnectionTimeout,
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    return Error::DestinationUnavailable;
                }
                _ => {}
            }
        }
        if let Some(http) = cause.downcast_ref::<hyper::Error>()
            && (http.is_parse() || http.is_user())
        {
            return Error::HttpProtocolError;
        }
        source = cause.source();
    }
    if connecting {
        return Error::DnsError { rcode: Some(format!("{error:#}")), info_code: None };
    }
    Error::ConnectionTerminated
}
