//! Interceptors of HTTP requests.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use wasmtime_wasi_http::{Error, WasiBody};

/// A request that passed the policy check.
pub struct OutgoingRequest {
    /// The request with its whole body, as the component sent it.
    pub request: Request<Bytes>,
    /// The credentials that the host adds when it sends the request. They must not be recorded.
    pub credentials: Vec<String>,
}

/// A response that is being waited for.
pub type PendingResponse = Pin<Box<dyn Future<Output = Result<Response<WasiBody>, Error>> + Send>>;

/// Intercepts every allowed request before the host adds credentials and sends it. An interceptor can
/// observe, delay, change or answer requests. For tests of components.
///
/// The host limits the size of each response, also of those that an interceptor made.
pub trait Interceptor: Send + Sync {
    /// Returns the response to a request: that of `next`, or one of its own.
    fn intercept(self: Arc<Self>, request: OutgoingRequest, next: Next) -> PendingResponse;
}

/// Sends an intercepted request.
pub struct Next(Box<dyn FnOnce(OutgoingRequest) -> PendingResponse + Send>);

impl Next {
    /// Creates a sender from a function.
    pub fn new<F>(send: impl FnOnce(OutgoingRequest) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<Response<WasiBody>, Error>> + Send + 'static,
    {
        Self(Box::new(|request| Box::pin(send(request))))
    }

    /// Sends the request.
    pub fn send(self, request: OutgoingRequest) -> PendingResponse {
        (self.0)(request)
    }
}
