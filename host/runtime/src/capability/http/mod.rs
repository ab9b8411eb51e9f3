//! `wasi:http`: requests to the authorities that are granted, and to no other.
//!
//! The decision is made on the request that is really sent. Credentials are added here, after the
//! component has let go of the request, so that it never sees one.

mod body;
pub mod cassette;
mod client;
mod credentials;
mod door;
mod intercept;

use std::future::Future;
use std::time::Duration;

use dagster_ray_policy::Policy;
use dagster_ray_policy::kubernetes::ServiceName;
use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
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
    pub(crate) policy: std::sync::Arc<Policy>,
    pub(crate) clients: Clients,
    pub(crate) cluster: std::sync::Arc<Cluster>,
    pub(crate) services: Services,
    pub(crate) door: Door,
    pub(crate) response_bytes: u64,
    /// Refusals of this call, so that its error can name the missing grant.
    pub(crate) denials: Vec<Denial>,
}

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
            Some(authority) => Ok(Route::Authority(self.clients.clone(), authority)),
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
        std::sync::Arc::new(|name| {
            DEFAULT_FORBIDDEN_HEADERS.contains(name)
                || [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION].contains(name)
                || name.as_str() == "x-ray-authorization"
        })
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _written: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Answer, Error>> + Send> {
        let waits = Waits::new(options);
        let limit = self.response_bytes;
        let route = match self.route(&request) {
            Ok(route) => route,
            Err(refused) => return answered(async move { *refused }),
        };
        let door = self.door.clone();
        answered(async move { door.pass(route, request, waits, limit).await })
    }
}
