//! The connections of the process: kept open and shared by all calls.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use dagster_ray_policy::address::{Network, Reach};
use dagster_ray_policy::{Authority, Verify};
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

/// Bytes of an answer's head. hyper takes a hundred fields at the most, too.
const HEAD: usize = 64 << 10;

type Pool = Client<Connector, WasiBody>;

/// One client for each way of checking certificates and addresses: a connection that was made under
/// a wider rule serves no request that a narrower one holds for.
#[derive(Clone, Default)]
pub(crate) struct Clients(Arc<Mutex<BTreeMap<(Verify, Reach), Pool>>>);

impl Clients {
    pub(super) fn of(&self, authority: &Authority) -> Result<Pool, Error> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (authority.verify.clone(), authority.reach.clone());
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let mut http =
            HttpConnector::new_with_resolver(Guarded { resolver: GaiResolver::new(), reach: key.1.clone() });
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT));
        http.set_nodelay(true);
        http.set_keepalive(Some(Duration::from_secs(30)));
        let builder = HttpsConnectorBuilder::new();
        let connector = match &key.0 {
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
            .http1_max_buf_size(HEAD)
            .build(connector);
        clients.insert(key, client.clone());
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

/// Looks at the addresses that a granted name resolves to, for each connection anew: those that were
/// looked at are those that are connected to, whatever DNS says a moment later. An address that is
/// written as such is not resolved.
#[derive(Clone)]
pub(super) struct Guarded {
    resolver: GaiResolver,
    reach: Reach,
}

/// A name resolves to nothing that it may.
#[derive(Debug, thiserror::Error)]
#[error("{name} resolves to {address}, which it may not")]
struct Prohibited {
    name: String,
    address: IpAddr,
    network: Option<Network>,
}

impl tower_service::Service<Name> for Guarded {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        tower_service::Service::poll_ready(&mut self.resolver, cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (text, reach) = (name.to_string(), self.reach.clone());
        let resolving = tower_service::Service::call(&mut self.resolver, name);
        Box::pin(async move {
            let all: Vec<SocketAddr> = resolving.await?.collect();
            let refused = all.iter().find_map(|address| Some((address.ip(), reach.refuses(address.ip())?)));
            let kept: Vec<_> = all.into_iter().filter(|address| reach.covers(address.ip())).collect();
            match refused {
                Some((address, network)) if kept.is_empty() => Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    Prohibited { name: text, address, network },
                )),
                _ => Ok(kept.into_iter()),
            }
        })
    }
}

/// What of an error is a refusal to connect to an address: what it was, and the grant for it.
pub(super) fn prohibited(error: &hyper_util::client::legacy::Error) -> Option<(String, String)> {
    let mut source: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(cause) = source {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = inner.and_then(|inner| inner.downcast_ref::<Prohibited>());
        if let Some(Prohibited { name, address, network: Some(network) }) = found.or(cause.downcast_ref()) {
            return Some((format!("{name} resolves to {address}"), format!("networks = [\"{network}\"]")));
        }
        source = cause.source();
    }
    None
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
        if let Some(Error::HttpRequestBodySize(size)) = cause.downcast_ref::<Error>() {
            return Error::HttpRequestBodySize(*size);
        }
        if let Some(Prohibited { network: None, .. }) = cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .and_then(|inner| inner.downcast_ref())
        {
            return Error::DestinationIpUnroutable;
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
