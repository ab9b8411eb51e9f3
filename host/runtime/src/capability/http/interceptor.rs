//! Interceptors of HTTP requests, which can inject faults.

use bytes::Bytes;
use http::{Request, StatusCode};

/// Intercepts every allowed request before it is sent, recorded or replayed. For tests of components:
/// which requests they send, and how they handle network faults.
pub trait Interceptor: Send + Sync {
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
