//! Requests to Services of the cluster by name, `http://<service>.<namespace>.svc:<port>`.
//!
//! Inside the cluster, the name is resolved by DNS. Outside, a connection is a port-forward through the
//! API server to a ready pod of the Service. hyper pools both kinds of connections; a broken one is
//! replaced by a new connection after a new pod look-up.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use dagster_ray_policy::kubernetes::ServiceName;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use wasmtime_wasi_http::{Error, WasiBody};

use super::cluster::Cluster;
use super::failure::Failure;
use super::ray_tokens::RayTokens;
use super::stream::{self, Stream};
use crate::audit;
use crate::capability::http::body::{BodyLimit, incomplete, limited};
use crate::capability::http::client::{MAX_IDLE, to_wasi_error};
use crate::capability::http::timeouts::Timeouts;

/// How long an idle stream is kept. It is shorter than the idle timeouts of Ray's dashboard (75 s) and
/// of common load balancers (60 s), because the end of a forwarded connection is noticed late.
const IDLE: Duration = Duration::from_secs(30);

/// The port of a Service in a URI without a port: that of HTTP, the only scheme of Services.
pub(crate) const DEFAULT_PORT: u16 = 80;

/// The connections to the services of one cluster.
#[derive(Clone)]
pub(crate) struct Services {
    client: Client<Connector, WasiBody>,
    cluster: Arc<Cluster>,
    tokens: RayTokens,
}

impl Services {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .pool_timer(TokioTimer::new())
            .build(Connector(cluster.clone()));
        Self { client, cluster, tokens: RayTokens::default() }
    }

    /// Returns the authentication token of the RayCluster whose head has this Service, if it needs one.
    pub(super) async fn ray_token(&self, service: &ServiceName) -> Result<Option<String>, Failure> {
        self.tokens.get(&self.cluster, service).await
    }

    /// Adds the authentication token of the RayCluster to a request, unless it has other credentials.
    async fn authenticate(&self, service: &ServiceName, headers: &mut HeaderMap) -> Result<bool, Failure> {
        if headers.contains_key(AUTHORIZATION) {
            return Ok(false);
        }
        let Some(token) = self.ray_token(service).await? else { return Ok(false) };
        let Ok(mut value) = HeaderValue::try_from(format!("Bearer {token}")) else { return Ok(false) };
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        audit::credential(&service.host(), "the RayCluster's authentication token");
        Ok(true)
    }

    /// Sends a request to a service.
    pub(crate) async fn send(
        &self,
        mut request: Request<WasiBody>,
        timeouts: Timeouts,
        response_bytes: u64,
    ) -> Result<Response<WasiBody>, Error> {
        let service = ServiceName::from_uri(request.uri());
        let mut is_authenticated = false;
        if let Some(service) = &service {
            let adding = self.authenticate(service, request.headers_mut());
            match tokio::time::timeout(timeouts.head(), adding).await {
                Err(_) => return Err(Error::HttpResponseTimeout),
                Ok(Ok(added)) => is_authenticated = added,
                Ok(Err(failure)) => return Ok(failure.to_response()),
            }
        }
        let sent = tokio::time::timeout(timeouts.head(), self.client.request(request));
        let error = match sent.await.map_err(|_| Error::HttpResponseTimeout)? {
            Ok(response) => {
                let is_refused = response.status() == StatusCode::UNAUTHORIZED;
                if let Some(service) = service.filter(|_| is_refused && is_authenticated) {
                    self.tokens.forget(&service).await;
                }
                let limit = BodyLimit::Total(response_bytes);
                return Ok(
                    response.map(|body| limited(body.map_err(incomplete), limit, timeouts.between_bytes))
                );
            }
            Err(error) => error,
        };
        match failure(&error) {
            // Use the errors of the cluster's own DNS and network.
            Some(absent @ (Failure::NoService { .. } | Failure::NoPort { .. } | Failure::NoPod { .. })) => {
                Err(Error::DnsError { rcode: Some(absent.to_string()), info_code: None })
            }
            Some(Failure::NotListening { .. }) => Err(Error::ConnectionRefused),
            Some(failure) => Ok(failure.to_response()),
            None => Err(to_wasi_error(error)),
        }
    }
}

fn failure(error: &hyper_util::client::legacy::Error) -> Option<&Failure> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return Some(failure);
        }
        source = cause.source();
    }
    None
}

/// Opens a stream for each connection of hyper's pool.
#[derive(Clone)]
struct Connector(Arc<Cluster>);

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let cluster = self.0.clone();
        Box::pin(async move {
            let service = ServiceName::from_uri(&uri)
                .ok_or_else(|| Failure::Host(format!("{uri} does not name a service of the cluster")))?;
            let port = uri.port_u16().unwrap_or(DEFAULT_PORT);
            Ok(TokioIo::new(stream::open(&cluster, &service, port).await?))
        })
    }
}
