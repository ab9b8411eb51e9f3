//! HTTP clients, whose connections all calls of the process share.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use dagster_ray_policy::Authority;
use dagster_ray_policy::address::{AllowedNetworks, Network};
use dagster_ray_policy::capability::http::missing_network;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use wasmtime_wasi_http::{Error, WasiBody};

use super::tls::Trust;

pub(super) type Connector = HttpsConnector<HttpConnector<CheckedResolver>>;

/// Idle connections that are kept for each authority.
pub(crate) const MAX_IDLE: usize = 16;
/// How long an idle connection is kept. Ray's dashboard closes idle connections after 75 s.
const IDLE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(30);

/// Maximum size of a response head, in bytes. hyper also limits it to 100 header fields.
const MAX_HEAD_BYTES: usize = 64 << 10;

type Pool = Client<Connector, WasiBody>;

/// One client for each set of trusted certificates and of allowed networks, so that no request uses a connection
/// that was opened under weaker rules.
#[derive(Clone, Default)]
pub(crate) struct Clients(Arc<Mutex<BTreeMap<(Trust, AllowedNetworks), Pool>>>);

impl Clients {
    pub(super) fn get(&self, authority: &Authority) -> Result<Pool, Error> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (Trust::new(authority), authority.allowed_networks.clone());
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let connector = connector_for(&key.0, &key.1)?;
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .build(connector);
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// Returns what opens connections to an authority.
///
/// # Errors
///
/// The certificates to trust cannot be read.
pub(super) fn connector(authority: &Authority) -> Result<Connector, Error> {
    connector_for(&Trust::new(authority), &authority.allowed_networks)
}

fn connector_for(trust: &Trust, allowed_networks: &AllowedNetworks) -> Result<Connector, Error> {
    let mut http = HttpConnector::new_with_resolver(CheckedResolver {
        resolver: GaiResolver::new(),
        allowed_networks: allowed_networks.clone(),
    });
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT));
    http.set_nodelay(true);
    http.set_keepalive(Some(Duration::from_secs(30)));
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(trust.configuration()?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http))
}

/// A resolver that returns only allowed addresses of a granted host name.
///
/// Each connection uses the addresses that were checked, so DNS rebinding has no effect. A literal IP
/// address is not resolved.
#[derive(Clone)]
pub(super) struct CheckedResolver {
    resolver: GaiResolver,
    allowed_networks: AllowedNetworks,
}

/// A host name resolves only to addresses that are not allowed.
#[derive(Debug, thiserror::Error)]
#[error("{name} resolves to {address}, which is not allowed")]
struct AddressNotAllowed {
    name: String,
    address: IpAddr,
    network: Option<Network>,
}

impl tower_service::Service<Name> for CheckedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        tower_service::Service::poll_ready(&mut self.resolver, cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (text, allowed_networks) = (name.to_string(), self.allowed_networks.clone());
        let resolving = tower_service::Service::call(&mut self.resolver, name);
        Box::pin(async move {
            let all: Vec<SocketAddr> = resolving.await?.collect();
            let refused = all
                .iter()
                .find_map(|address| Some((address.ip(), allowed_networks.denied_network(address.ip())?)));
            let kept: Vec<_> =
                all.into_iter().filter(|address| allowed_networks.allows(address.ip())).collect();
            match refused {
                Some((address, network)) if kept.is_empty() => Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    AddressNotAllowed { name: text, address, network },
                )),
                _ => Ok(kept.into_iter()),
            }
        })
    }
}

/// Returns the target and the missing grant, if an error is a denied address that a grant could allow.
pub(super) fn denied_address(error: &hyper_util::client::legacy::Error) -> Option<(String, String)> {
    let mut source: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(cause) = source {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = inner.and_then(|inner| inner.downcast_ref::<AddressNotAllowed>());
        if let Some(AddressNotAllowed { name, address, network: Some(network) }) =
            found.or(cause.downcast_ref())
        {
            return Some((format!("{name} resolves to {address}"), missing_network(*network)));
        }
        source = cause.source();
    }
    None
}

/// Returns the TLS error that an error is or wraps.
///
/// `io::Error::source` skips the wrapped error, so `get_ref` is needed. I/O errors may be nested.
pub(crate) fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref() {
        return Some(tls);
    }
    tls_error(error.downcast_ref::<io::Error>()?.get_ref()?)
}

/// Converts a client error to an error of `wasi:http`.
pub(crate) fn to_wasi_error(error: hyper_util::client::legacy::Error) -> Error {
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
        if let Some(AddressNotAllowed { network: None, .. }) = cause
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
