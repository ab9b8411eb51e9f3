//! The HTTP egress pipeline: interceptor and route of an allowed request.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dagster_ray_policy::Authority;
use dagster_ray_policy::capability::http::CAPABILITY;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use wasmtime_wasi_http::{Error, WasiBody};

use super::body::{BodyLimit, incomplete, limited};
use super::client::{Clients, denied_address, to_wasi_error};
use super::credentials;
use super::interceptor::{Interceptor, Next, OutgoingRequest};
use super::timeouts::Timeouts;
use crate::capability::kubernetes::{self, Admitted, Cluster, Services};
use crate::capability::{Denials, denial, user_agent};

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
        if self.is_watch() { BodyLimit::PerLine(response_bytes) } else { BodyLimit::Total(response_bytes) }
    }

    /// Returns whether the response lasts as long as its call.
    pub(super) fn is_watch(&self) -> bool {
        matches!(self, Self::Kubernetes(_, admitted) if admitted.is_watch())
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
                user_agent::add(request.headers_mut());
                services.send(request, timeouts, response_bytes).await
            }
            Self::Authority(clients, authority, denials) => {
                credentials::add(&authority, request.headers_mut());
                user_agent::add(request.headers_mut());
                let client = clients.get(&authority)?;
                let connecting = capture_connection(&mut request);
                let sent = tokio::time::timeout(timeouts.head(), client.request(request));
                let sent = tokio::select! {
                    sent = sent => sent.map_err(|_| Error::HttpResponseTimeout)?,
                    () = not_connected(connecting, timeouts.connect) => return Err(Error::ConnectionTimeout),
                };
                let response = sent.map_err(|error| {
                    if let Some((why, grant)) = denied_address(&error) {
                        let target = format!("{} ({why})", authority.origin);
                        denials.push(denial(&CAPABILITY, target, grant));
                    }
                    to_wasi_error(error)
                })?;
                let body_limit = BodyLimit::Total(response_bytes);
                Ok(response.map(|body| limited(body.map_err(incomplete), body_limit, timeouts.between_bytes)))
            }
        }
    }
}

/// Returns if the request has no connection after this time. A host that drops packets must not use up the time
/// for the response, and a request without a connection was not sent.
async fn not_connected(mut connecting: CaptureConnection, after: Duration) {
    if tokio::time::timeout(after, connecting.wait_for_connection_metadata()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// Sends a request on its route. With an interceptor, the request is read to its end first.
pub(super) async fn send(
    interceptor: Option<Arc<dyn Interceptor>>,
    route: Route,
    request: Request<WasiBody>,
    timeouts: Timeouts,
    response_bytes: u64,
) -> Result<Response<WasiBody>, Error> {
    let Some(interceptor) = interceptor else {
        return route.send(request, timeouts, response_bytes).await;
    };
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts, body.collect().await?.to_bytes());
    let outgoing = OutgoingRequest { request, credentials: route.credentials() };
    let body_limit = route.body_limit(response_bytes);
    let next = Next::new(move |outgoing: OutgoingRequest| {
        route.send(outgoing.request.map(whole), timeouts, response_bytes)
    });
    let response = interceptor.intercept(outgoing, next).await?;
    Ok(response.map(|body| limited(body, body_limit, timeouts.between_bytes)))
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
