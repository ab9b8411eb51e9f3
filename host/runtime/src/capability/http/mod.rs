//! `wasi:http`: requests to the authorities that are granted, and to no other.
//!
//! The decision is made on the request that is really sent. Credentials are added here, after the
//! component has let go of the request, so that it never sees one.

mod body;
pub mod cassette;
mod client;
mod credentials;
mod door;
pub(crate) mod handler;
mod intercept;

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dagster_ray_policy::Policy;
use dagster_ray_policy::kubernetes::ServiceName;
use http::{HeaderName, Method};
use http_body_util::{BodyExt, Limited};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks,
};

pub(crate) use self::body::{Room, limited};
pub(crate) use self::client::{Clients, explain, tls_error};
pub(crate) use self::door::Door;
use self::door::{Route, answered};
pub use self::intercept::{Fate, Intercept};
use crate::bindings::dagster_ray::host::model::Denial;
use crate::capability::kubernetes::{self, Cluster, Refused, Services};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// Longest wait for an answer to begin, and between its parts. A component can ask for less; one
/// that follows a quiet stream is cut by the call's own deadline before.
const QUIET: Duration = Duration::from_secs(600);

/// How long a component waits for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    connect: Duration,
    first_byte: Duration,
    pub(crate) between_bytes: Duration,
}

impl Waits {
    fn new(asked: Option<RequestOptions>) -> Self {
        let wait = |asked: Option<Duration>, most: Duration| {
            asked.unwrap_or(most).clamp(Duration::from_millis(1), most)
        };
        Self {
            connect: wait(asked.and_then(|asked| asked.connect_timeout), CONNECT),
            first_byte: wait(asked.and_then(|asked| asked.first_byte_timeout), QUIET),
            between_bytes: wait(asked.and_then(|asked| asked.between_bytes_timeout), QUIET),
        }
    }

    /// For the head of an answer, the connection included.
    pub(crate) fn head(&self) -> Duration {
        self.connect.saturating_add(self.first_byte)
    }
}

type Refusal = Result<http::Response<WasiBody>, Error>;
type Answer = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// The door through which every request of one call goes.
pub(crate) struct Egress {
    pub(crate) policy: Arc<Policy>,
    pub(crate) clients: Clients,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) services: Services,
    pub(crate) door: Door,
    pub(crate) response_bytes: u64,
    pub(crate) request_bytes: u64,
    /// Refusals of this call, so that its error can name the missing grant.
    pub(crate) denials: Denials,
}

/// The refusals of one call. Some come only once a name has been resolved.
#[derive(Clone, Default)]
pub(crate) struct Denials(Arc<Mutex<Vec<Denial>>>);

impl Denials {
    pub(super) fn push(&self, denial: Denial) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(denial);
    }

    pub(crate) fn last(&self) -> Option<Denial> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }
}

/// What a component may ask for. `CONNECT` would turn the connection into a tunnel; `TRACE` would have
/// the server show what the host added to the request.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// Header fields that are not a component's to write, beside those that `wasi:http` names: credentials,
/// and what is about the connection or pretends to come from a proxy.
const NOT_THEIRS: [&str; 12] = [
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

impl Egress {
    fn refuse(&mut self, request: &http::Request<WasiBody>) {
        let uri = request.uri();
        let target = uri.to_string();
        let grant = match (uri.scheme_str(), uri.authority()) {
            _ if ServiceName::of(uri).is_some() => "http = [\"cluster-services\"]".to_owned(),
            (Some(scheme), Some(authority)) => format!("http = [\"{scheme}://{authority}\"]"),
            _ => "http = [\"address\"]".to_owned(),
        };
        self.denials.push(Denial { capability: "http".into(), target, grant });
    }
}

impl Egress {
    /// Decides on a request. One that is refused has its answer already.
    fn route(&mut self, request: &http::Request<WasiBody>) -> Result<Route, Box<Refusal>> {
        if kubernetes::is_meant(request.uri()) {
            return match kubernetes::admit(&self.policy.kubernetes, request).map_err(|refused| *refused) {
                Ok(admitted) => Ok(Route::Kubernetes(self.cluster.clone(), admitted)),
                Err(Refused::Malformed(response)) => Err(Box::new(Ok(response))),
                Err(Refused::Denied(denial)) => {
                    self.denials.push(denial);
                    Err(Box::new(Err(Error::HttpRequestDenied)))
                }
            };
        }
        let authority = self.policy.authority(request.uri()).cloned();
        if self.policy.cluster_services && ServiceName::of(request.uri()).is_some() {
            return Ok(Route::Service(self.services.clone(), authority));
        }
        match authority {
            Some(authority) => Ok(Route::Authority(self.clients.clone(), authority, self.denials.clone())),
            None => {
                self.refuse(request);
                Err(Box::new(Err(Error::HttpRequestDenied)))
            }
        }
    }
}

impl WasiHttpHooks for Egress {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        (self.forbidden_header_filter())(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(|name| DEFAULT_FORBIDDEN_HEADERS.contains(name) || NOT_THEIRS.contains(&name.as_str()))
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _written: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Answer, Error>> + Send> {
        let waits = Waits::new(options);
        let limit = self.response_bytes;
        if !METHODS.contains(request.method()) {
            return answered(async { Err(Error::HttpRequestMethodInvalid) });
        }
        // A name and a password before the host would be credentials of the component's own.
        if request.uri().authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return answered(async { Err(Error::HttpRequestUriInvalid) });
        }
        let request_bytes = self.request_bytes;
        let beyond = Arc::new(AtomicBool::new(false));
        let request = request.map(|body| at_most(body, request_bytes, beyond.clone()));
        let route = match self.route(&request) {
            Ok(route) => route,
            Err(refused) => return answered(async move { *refused }),
        };
        let door = self.door.clone();
        answered(async move {
            // The connection breaks with the body, and which of the two is told first is chance.
            door.pass(route, request, waits, limit).await.map_err(|error| {
                let is_beyond = beyond.load(Ordering::Acquire);
                if is_beyond { Error::HttpRequestBodySize(Some(request_bytes)) } else { error }
            })
        })
    }
}

/// A request's body that ends with an error where it is longer than it may be.
/// `beyond` tells afterwards whether it was.
fn at_most(body: WasiBody, bytes: u64, beyond: Arc<AtomicBool>) -> WasiBody {
    let room = usize::try_from(bytes).unwrap_or(usize::MAX);
    Limited::new(body, room)
        .map_err(move |error| match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(_) => {
                beyond.store(true, Ordering::Release);
                Error::HttpRequestBodySize(Some(bytes))
            }
        })
        .boxed_unsync()
}
