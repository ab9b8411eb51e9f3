//! `wasi:http`: requests to granted authorities.
//!
//! The policy check uses the request that is sent. The host adds credentials after the component has
//! handed over the request, so the component never sees them.

mod body;
pub mod cassette;
mod client;
mod credentials;
mod handler;
mod interceptor;
mod pipeline;
mod tls;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dagster_ray_policy::Policy;
use dagster_ray_policy::capability::http as grant;
use dagster_ray_policy::kubernetes::ServiceName;
use http::{HeaderName, Method};
use http_body_util::{BodyExt, Limited};
use wasmtime::component::Linker;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks,
};

pub(crate) use self::body::{BodyLimit, limited};
pub(crate) use self::client::{Clients, tls_error, to_wasi_error};
pub use self::interceptor::{InjectedFault, Interceptor};
pub(crate) use self::pipeline::EgressPipeline;
use self::pipeline::{Route, into_pending_response};
use super::{Denials, denial};
use crate::capability::kubernetes::{self, Cluster, Rejection, Services};
use crate::store::CallState;

/// Maximum time to wait for a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// Maximum time to wait for the start of a response and between its parts. A component can request
/// shorter timeouts.
const RESPONSE: Duration = Duration::from_secs(600);

/// The timeouts of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    connect: Duration,
    first_byte: Duration,
    pub(crate) between_bytes: Duration,
}

impl Timeouts {
    fn new(requested: Option<RequestOptions>) -> Self {
        let wait = |requested: Option<Duration>, most: Duration| {
            requested.unwrap_or(most).clamp(Duration::from_millis(1), most)
        };
        Self {
            connect: wait(requested.and_then(|options| options.connect_timeout), CONNECT),
            first_byte: wait(requested.and_then(|options| options.first_byte_timeout), RESPONSE),
            between_bytes: wait(requested.and_then(|options| options.between_bytes_timeout), RESPONSE),
        }
    }

    /// Returns the timeout for the response head, connection included.
    pub(crate) fn head(&self) -> Duration {
        self.connect.saturating_add(self.first_byte)
    }
}

type RejectedResponse = Result<http::Response<WasiBody>, Error>;
type ResponseWithIo = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// Links `wasi:http`.
pub(super) fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    handler::link(linker)
}

/// The HTTP egress of one call: every request passes through it.
pub(crate) struct HttpEgress {
    pub(crate) policy: Arc<Policy>,
    pub(crate) clients: Clients,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) services: Services,
    pub(crate) pipeline: EgressPipeline,
    pub(crate) response_bytes: u64,
    pub(crate) request_bytes: u64,
    /// Denials of this call, so that its error can name the missing grant.
    pub(crate) denials: Denials,
}

/// Allowed methods. `CONNECT` would open a tunnel; `TRACE` would make the server echo the credentials
/// that the host added.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// Headers that a component must not set, in addition to wasmtime's: credentials, connection headers and
/// headers of proxies.
const FORBIDDEN_HEADERS: [&str; 12] = [
    "authorization",
    "cookie",
    "expect",
    "forwarded",
    "proxy-authorization",
    "te",
    "trailer",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-ray-authorization",
];

impl HttpEgress {
    fn record_denial(&mut self, request: &http::Request<WasiBody>) {
        let uri = request.uri();
        self.denials.push(denial(&grant::CAPABILITY, uri.to_string(), grant::missing_grant(uri)));
    }
}

impl HttpEgress {
    /// Checks a request against the policy. Returns its route, or the response to a denied request.
    fn route(&mut self, request: &http::Request<WasiBody>) -> Result<Route, Box<RejectedResponse>> {
        if kubernetes::is_kubernetes_api(request.uri()) {
            return match kubernetes::admit(&self.policy.kubernetes, request).map_err(|refused| *refused) {
                Ok(admitted) => Ok(Route::Kubernetes(self.cluster.clone(), admitted)),
                Err(Rejection::Malformed(response)) => Err(Box::new(Ok(response))),
                Err(Rejection::Denied(denial)) => {
                    self.denials.push(denial);
                    Err(Box::new(Err(Error::HttpRequestDenied)))
                }
            };
        }
        let authority = self.policy.authority(request.uri()).cloned();
        if self.policy.cluster_services && ServiceName::from_uri(request.uri()).is_some() {
            return Ok(Route::Service(self.services.clone(), authority));
        }
        match authority {
            Some(authority) => Ok(Route::Authority(self.clients.clone(), authority, self.denials.clone())),
            None => {
                self.record_denial(request);
                Err(Box::new(Err(Error::HttpRequestDenied)))
            }
        }
    }
}

impl WasiHttpHooks for HttpEgress {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        (self.forbidden_header_filter())(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(|name| {
            DEFAULT_FORBIDDEN_HEADERS.contains(name) || FORBIDDEN_HEADERS.contains(&name.as_str())
        })
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _written: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<ResponseWithIo, Error>> + Send> {
        let timeouts = Timeouts::new(options);
        let limit = self.response_bytes;
        if !METHODS.contains(request.method()) {
            return into_pending_response(async { Err(Error::HttpRequestMethodInvalid) });
        }
        // User information in the URL would be credentials of the component's own.
        if request.uri().authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return into_pending_response(async { Err(Error::HttpRequestUriInvalid) });
        }
        let request_bytes = self.request_bytes;
        let is_too_large = Arc::new(AtomicBool::new(false));
        let request = request.map(|body| limit_request(body, request_bytes, is_too_large.clone()));
        let route = match self.route(&request) {
            Ok(route) => route,
            Err(refused) => return into_pending_response(async move { *refused }),
        };
        let pipeline = self.pipeline.clone();
        into_pending_response(async move {
            // A body that fails also breaks the connection, and either error may arrive first.
            pipeline.send(route, request, timeouts, limit).await.map_err(|error| {
                let is_too_large = is_too_large.load(Ordering::Acquire);
                if is_too_large { Error::HttpRequestBodySize(Some(request_bytes)) } else { error }
            })
        })
    }
}

/// Limits a request body to `bytes`. A longer body fails and sets `is_too_large`.
fn limit_request(body: WasiBody, bytes: u64, is_too_large: Arc<AtomicBool>) -> WasiBody {
    let limit = usize::try_from(bytes).unwrap_or(usize::MAX);
    Limited::new(body, limit)
        .map_err(move |error| match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(_) => {
                is_too_large.store(true, Ordering::Release);
                Error::HttpRequestBodySize(Some(bytes))
            }
        })
        .boxed_unsync()
}
