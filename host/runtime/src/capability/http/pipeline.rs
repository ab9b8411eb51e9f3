//! The HTTP egress pipeline: interceptor, cassette and route of an allowed request.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use dagster_ray_policy::Authority;
use dagster_ray_policy::capability::http::CAPABILITY;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use wasmtime_wasi_http::{Error, WasiBody};

use super::body::{BodyLimit, limited, truncate};
use super::cassette::CassetteHandle;
use super::client::{Clients, denied_address, to_wasi_error};
use super::interceptor::{InjectedFault, Interceptor};
use super::{Timeouts, credentials};
use crate::capability::kubernetes::{self, Admitted, Cluster, Services};
use crate::capability::{Denials, denial};

/// The egress pipeline. Without interceptor and cassette, requests are streamed directly.
#[derive(Clone, Default)]
pub(crate) struct EgressPipeline {
    pub(crate) interceptor: Option<Arc<dyn Interceptor>>,
    pub(crate) cassette: Option<CassetteHandle>,
}

/// The destination of a request.
pub(super) enum Route {
    Kubernetes(Arc<Cluster>, Admitted),
    Service(Services, Option<Authority>),
    Authority(Clients, Authority, Denials),
}

impl Route {
    /// Returns the credentials that are added to the request and must not be recorded.
    fn credentials(&self) -> Vec<String> {
        match self {
            Self::Kubernetes(..) | Self::Service(_, None) => Vec::new(),
            Self::Service(_, Some(authority)) | Self::Authority(_, authority, _) => {
                credentials::values(authority)
            }
        }
    }

    /// Returns the limit of the response body. A watch lasts as long as its call, and each event is one
    /// line.
    fn body_limit(&self, response_bytes: u64) -> BodyLimit {
        match self {
            Self::Kubernetes(_, admitted) if admitted.is_watch() => BodyLimit::PerLine(response_bytes),
            _ => BodyLimit::Total(response_bytes),
        }
    }

    async fn send(
        self,
        mut request: Request<WasiBody>,
        timeouts: Timeouts,
        response_bytes: u64,
    ) -> Result<Response<WasiBody>, Error> {
        match self {
            Self::Kubernetes(cluster, admitted) => {
                kubernetes::send(&cluster, admitted, request, timeouts, response_bytes).await
            }
            Self::Service(services, authority) => {
                if let Some(authority) = authority {
                    credentials::add(&authority, request.headers_mut());
                }
                services.send(request, timeouts, response_bytes).await
            }
            Self::Authority(clients, authority, denials) => {
                credentials::add(&authority, request.headers_mut());
                let client = clients.get(&authority)?;
                let sent = tokio::time::timeout(timeouts.head(), client.request(request));
                let response = sent.await.map_err(|_| Error::HttpResponseTimeout)?.map_err(|error| {
                    if let Some((why, grant)) = denied_address(&error) {
                        let target = format!("{} ({why})", authority.origin);
                        denials.push(denial(&CAPABILITY, target, grant));
                    }
                    to_wasi_error(error)
                })?;
                let body_limit = BodyLimit::Total(response_bytes);
                Ok(response.map(|incoming| limited(incoming, body_limit, timeouts.between_bytes)))
            }
        }
    }
}

impl EgressPipeline {
    /// Sends a request through the interceptor and the cassette.
    pub(super) async fn send(
        self,
        route: Route,
        request: Request<WasiBody>,
        timeouts: Timeouts,
        response_bytes: u64,
    ) -> Result<Response<WasiBody>, Error> {
        let Self { interceptor, cassette } = self;
        if interceptor.is_none() && cassette.is_none() {
            return route.send(request, timeouts, response_bytes).await;
        }
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, body.collect().await?.to_bytes());
        let fault =
            interceptor.as_ref().map_or(InjectedFault::None, |interceptor| interceptor.decide(&request));
        match &fault {
            InjectedFault::None | InjectedFault::LoseResponse | InjectedFault::TruncateResponse(_) => {}
            InjectedFault::Refuse => return Err(Error::ConnectionRefused),
            InjectedFault::Reset => return Err(Error::ConnectionTerminated),
            InjectedFault::Respond(status, text) => {
                let mut response = Response::new(whole(text.clone().into()));
                *response.status_mut() = *status;
                let plain = HeaderValue::from_static("text/plain; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, plain);
                return Ok(response);
            }
        }
        let seen = interceptor.map(|interceptor| (interceptor, request.clone()));
        let credentials = route.credentials();
        let is_replayed = matches!(cassette, Some(CassetteHandle::Replaying(_)));
        let body_limit = route.body_limit(response_bytes);
        let send = |request: Request<Bytes>| route.send(request.map(whole), timeouts, response_bytes);
        let outcome = match cassette {
            Some(cassette) => cassette.send(request, credentials, send).await,
            None => send(request).await,
        };
        if let Some((interceptor, request)) = seen {
            interceptor.on_response(&request, outcome.as_ref().ok().map(Response::status));
        }
        let response = outcome?;
        if fault == InjectedFault::LoseResponse {
            // Read the response to its end, so that the server has certainly applied the request.
            response.into_body().collect().await?;
            return Err(Error::ConnectionTerminated);
        }
        let response = if is_replayed {
            response.map(|body| limited(body, body_limit, timeouts.between_bytes))
        } else {
            response
        };
        Ok(match fault {
            InjectedFault::TruncateResponse(after) => response.map(|body| truncate(body, after)),
            _ => response,
        })
    }
}

fn whole(bytes: Bytes) -> WasiBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// Converts a future response to the type that wasmtime expects, without further connection work.
pub(super) fn into_pending_response(
    response: impl Future<Output = Result<Response<WasiBody>, Error>> + Send + 'static,
) -> Box<dyn Future<Output = Result<super::ResponseWithIo, Error>> + Send> {
    Box::new(async move {
        let io: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async { Ok(()) });
        Ok((response.await?, io))
    })
}
