//! A kube client whose connections use TCP_NODELAY.
//!
//! kube's own builder leaves Nagle's algorithm on. With the peer's delayed acknowledgments, each request
//! on a reused connection and each small message of a port-forward then takes 40 ms longer. This module
//! builds the same stack, without kube's retries.

use std::time::Duration;

use http::uri::Scheme;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::{Client, Config, Error};
use tower::util::option_layer;
use tower::{BoxError, ServiceBuilder};
use tower_service::Service;

use super::kubeconfig::Proxy;
use crate::capability::http::client::MAX_IDLE;

/// Maximum time to connect to an API server.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept. Cloud load balancers close idle connections after a minute or
/// more.
const IDLE: Duration = Duration::from_secs(50);

/// Creates a client. It may run a credential plugin, so it can block for a while. It must be called
/// inside the tokio runtime.
pub(super) fn make(config: &Config, proxy: Option<Proxy>) -> Result<Client, Error> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT));
    http.set_nodelay(true);
    http.set_keepalive(Some(Duration::from_secs(30)));
    match proxy {
        None => over(config, http),
        Some(proxy) if proxy.uri.scheme() == Some(&Scheme::HTTP) => {
            let mut tunnel = Tunnel::new(proxy.uri, http);
            if let Some(value) = proxy.authorization {
                tunnel = tunnel.with_auth(value);
            }
            over(config, tunnel)
        }
        Some(proxy) => Err(Error::ProxyProtocolUnsupported { proxy_url: Box::new(proxy.uri) }),
    }
}

fn over<C>(config: &Config, connector: C) -> Result<Client, Error>
where
    C: Service<http::Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + hyper::rt::Read + hyper::rt::Write + Send + Unpin,
    C::Future: Send,
    C::Error: std::error::Error + Send + Sync,
{
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let client: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MAX_IDLE)
        .pool_timer(TokioTimer::new())
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(option_layer(config.auth_layer()?))
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(Client::new(service, config.default_namespace.clone()))
}
