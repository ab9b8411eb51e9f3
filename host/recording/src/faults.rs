//! Injects network faults, to test how components handle them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use dagster_ray_runtime::{Interceptor, Next, OutgoingRequest, PendingResponse};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use wasmtime_wasi_http::{Error, WasiBody};

/// Chooses the fault of each request, and observes the responses.
pub trait Faults: Send + Sync {
    /// Chooses whether a request passes or which fault is injected.
    fn decide(&self, request: &Request<Bytes>) -> InjectedFault;

    /// Called with the status of the response to a request that was sent; none without a response.
    fn on_response(&self, request: &Request<Bytes>, status: Option<StatusCode>) {
        let _ = (request, status);
    }
}

/// The injected fault of a request, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InjectedFault {
    /// No fault: the request is sent unchanged.
    None,
    /// The request is not sent. The response has this status and text.
    Respond(StatusCode, String),
    /// The connection is refused.
    Refuse,
    /// The connection breaks before the request is sent. The component cannot know whether it arrived.
    Reset,
    /// The request is applied, but the connection breaks before the response arrives.
    LoseResponse,
    /// The request is applied, but the connection breaks after this many bytes of the response body.
    TruncateResponse(u64),
}

/// Injects faults into requests. Requests without a fault pass to another interceptor, or are sent.
pub struct FaultInjector {
    faults: Arc<dyn Faults>,
    inner: Option<Arc<dyn Interceptor>>,
}

impl FaultInjector {
    /// Creates an injector in front of another interceptor, such as a recorder.
    pub fn new(faults: Arc<dyn Faults>, inner: Option<Arc<dyn Interceptor>>) -> Self {
        Self { faults, inner }
    }

    async fn inject(&self, outgoing: OutgoingRequest, next: Next) -> Result<Response<WasiBody>, Error> {
        let fault = self.faults.decide(&outgoing.request);
        match &fault {
            InjectedFault::None | InjectedFault::LoseResponse | InjectedFault::TruncateResponse(_) => {}
            InjectedFault::Refuse => return Err(Error::ConnectionRefused),
            InjectedFault::Reset => return Err(Error::ConnectionTerminated),
            InjectedFault::Respond(status, text) => return Ok(plain_response(*status, text)),
        }
        let request = outgoing.request.clone();
        let pending = match &self.inner {
            Some(inner) => inner.clone().intercept(outgoing, next),
            None => next.send(outgoing),
        };
        let outcome = pending.await;
        self.faults.on_response(&request, outcome.as_ref().ok().map(Response::status));
        let response = outcome?;
        match fault {
            InjectedFault::LoseResponse => {
                // Read the response to its end, so that the server has certainly applied the request.
                response.into_body().collect().await?;
                Err(Error::ConnectionTerminated)
            }
            InjectedFault::TruncateResponse(after) => Ok(response.map(|body| truncate(body, after))),
            _ => Ok(response),
        }
    }
}

impl Interceptor for FaultInjector {
    fn intercept(self: Arc<Self>, request: OutgoingRequest, next: Next) -> PendingResponse {
        Box::pin(async move { self.inject(request, next).await })
    }
}

fn plain_response(status: StatusCode, text: &str) -> Response<WasiBody> {
    let body = Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

struct Truncated {
    incoming: WasiBody,
    left: u64,
}

/// Returns a body that fails after `after` bytes as if the connection broke.
fn truncate(incoming: WasiBody, after: u64) -> WasiBody {
    Truncated { incoming, left: after }.boxed_unsync()
}

impl Body for Truncated {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.left == 0 {
            return Poll::Ready(Some(Err(Error::HttpResponseIncomplete)));
        }
        let frame = std::task::ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Err(trailers) => trailers,
            Ok(mut data) => {
                data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= data.len() as u64;
                Frame::data(data)
            }
        })))
    }
}
