//! `wasi:http`: requests to granted authorities.
//!
//! The policy check uses the request that is sent. The host adds credentials after the component has
//! handed over the request, so the component never sees them.

pub(crate) mod body;
pub(crate) mod certificate;
pub(crate) mod client;
mod credentials;
mod handler;
mod interceptor;
mod pipeline;
pub(crate) mod timeouts;
mod tls;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dagster_ray_policy::Policy;
use dagster_ray_policy::capability::{Capability, cluster_services, http as grant};
use dagster_ray_policy::kubernetes::ServiceName;
use http::{HeaderName, Method, Uri};
use http_body_util::{BodyExt, Limited};
use wasmtime::component::Linker;
use wasmtime_wasi_http::p2::bindings::http::types;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx,
    WasiHttpCtxView, WasiHttpHooks,
};

pub(crate) use self::client::Clients;
pub use self::interceptor::{Interceptor, Next, OutgoingRequest, PendingResponse};
use self::pipeline::{Route, into_pending_response};
use self::timeouts::Timeouts;
use super::{CallContext, CallState, Denials, HostCapability, View, denial};
use crate::audit;
use crate::capability::kubernetes::{self, Cluster, DEFAULT_PORT, Rejection, Services};
use crate::lanes::{Slot, Turns};
use crate::usage::UsageCounter;

/// Maximum size of the headers of one HTTP message, in bytes.
const MAX_HEADER_BYTES: usize = 64 << 10;

type RejectedResponse = Result<http::Response<WasiBody>, Error>;
type ResponseWithIo = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// The state of one call.
pub(crate) struct HttpState {
    egress: HttpEgress,
    context: WasiHttpCtx,
}

impl HostCapability for HttpState {
    const GRANT: Option<&'static Capability> = Some(&grant::CAPABILITY);

    fn new(context: &CallContext<'_>) -> Self {
        let (shared, limits) = (context.shared, &context.manifest.limits);
        let (cluster, services) = shared.clusters.get(&context.options.kubernetes);
        let egress = HttpEgress {
            policy: context.policy.clone(),
            clients: shared.clients.clone(),
            cluster,
            services,
            interceptor: shared.interceptor.clone(),
            response_bytes: u64::from(limits.response_mib) << 20,
            request_bytes: u64::from(limits.request_mib) << 20,
            denials: context.denials.clone(),
            slot: context.slot.clone(),
            usage: context.usage.clone(),
        };
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(MAX_HEADER_BYTES);
        Self { egress, context }
    }

    fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        let options = types::LinkOptions::default();
        types::add_to_linker::<CallState, WasiHttp>(linker, &options, |call| wasi_view(call.view()))?;
        handler::link(linker)
    }
}

/// Returns the view that `wasmtime-wasi-http` uses.
fn wasi_view(view: View<'_, HttpState>) -> WasiHttpCtxView<'_> {
    let View { state, table } = view;
    WasiHttpCtxView { hooks: &mut state.egress, table, ctx: &mut state.context }
}

/// The HTTP egress of one call: every request passes through it.
struct HttpEgress {
    policy: Arc<Policy>,
    clients: Clients,
    cluster: Arc<Cluster>,
    services: Services,
    interceptor: Option<Arc<dyn Interceptor>>,
    response_bytes: u64,
    request_bytes: u64,
    /// Denials of this call, so that its error can name the missing grant.
    denials: Denials,
    /// The share of this call of the process's limits.
    slot: Slot,
    /// Counts the requests of this call.
    usage: UsageCounter,
}

/// Allowed methods. `CONNECT` would open a tunnel; `TRACE` would make the server echo the credentials
/// that the host added.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// Headers that a component must not set, in addition to wasmtime's: credentials, connection headers and
/// headers of proxies.
const FORBIDDEN_HEADERS: [&str; 9] = [
    "authorization",
    "cookie",
    "expect",
    "forwarded",
    "proxy-authorization",
    "te",
    "trailer",
    "via",
    "x-ray-authorization",
];

/// Beginnings of the names of headers that a component must not set. With these headers, a proxy tells the
/// server behind it who the user is and where the request came from: `x-remote-user` in Kubernetes'
/// [authenticating proxies], `x-forwarded-user` and `x-auth-request-email` in [oauth2-proxy].
///
/// [authenticating proxies]: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#authenticating-proxy
/// [oauth2-proxy]: https://oauth2-proxy.github.io/oauth2-proxy/configuration/overview
const FORBIDDEN_HEADER_PREFIXES: [&str; 3] = ["x-auth-request-", "x-forwarded-", "x-remote-"];

fn is_forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name)
        || FORBIDDEN_HEADERS.contains(&name.as_str())
        || FORBIDDEN_HEADER_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
}

impl HttpEgress {
    fn record_denial(&mut self, request: &http::Request<WasiBody>) {
        let uri = request.uri();
        let denial = match service(uri) {
            Some((name, port)) => denial(
                &cluster_services::CAPABILITY,
                uri.to_string(),
                cluster_services::missing_grant(&name, port),
            ),
            None => denial(&grant::CAPABILITY, uri.to_string(), grant::missing_grant(uri)),
        };
        self.denials.push(denial);
    }

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
        if service(request.uri()).is_some_and(|(name, port)| self.policy.allows_service(&name, port)) {
            let credentials = authority.or_else(|| self.policy.service_credentials.clone());
            return Ok(Route::Service(self.services.clone(), credentials));
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

impl HttpEgress {
    /// Returns the limits of a request. A watch has none: it lasts as long as its call.
    fn turns(&self, route: &Route) -> Option<Turns> {
        if route.is_watch() {
            self.slot.park();
            return None;
        }
        Some(self.slot.turns())
    }
}

impl WasiHttpHooks for HttpEgress {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(is_forbidden)
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
        let interceptor = self.interceptor.clone();
        let turns = self.turns(&route);
        let usage = self.usage.clone();
        let endpoint = (request.method().clone(), request.uri().clone());
        into_pending_response(audit::within(async move {
            let turn = match turns {
                Some(turns) => Some(turns.next().await),
                None => None,
            };
            usage.sends(&endpoint);
            let sent = pipeline::send(interceptor, route, request, timeouts, limit).await;
            usage.received(endpoint, sent.as_ref().ok().map(http::Response::status));
            // A body that fails also breaks the connection, and either error may arrive first.
            let response = sent.map_err(|error| {
                let is_too_large = is_too_large.load(Ordering::Acquire);
                if is_too_large { Error::HttpRequestBodySize(Some(request_bytes)) } else { error }
            })?;
            Ok(response.map(|body| body::until_read(body, turn)))
        }))
    }
}

/// Returns the Service of the cluster and its port that a request addresses.
fn service(uri: &Uri) -> Option<(ServiceName, u16)> {
    Some((ServiceName::from_uri(uri)?, uri.port_u16().unwrap_or(DEFAULT_PORT)))
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
