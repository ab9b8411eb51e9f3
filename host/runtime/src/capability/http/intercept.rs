//! Interceptors of HTTP requests, which can inject faults.

use bytes::Bytes;
use http::{Request, StatusCode};

/// Intercepts every allowed request before it is sent, recorded or replayed. For tests of components:
/// which requests they send, and how they handle network faults.
pub trait Intercept: Send + Sync {
    /// Chooses whether a request passes or which fault is injected.
    fn decide(&self, request: &Request<Bytes>) -> Fate;

    /// Called with the status of the response to a request that was sent; none without a response.
    fn answered(&self, request: &Request<Bytes>, status: Option<StatusCode>) {
        let _ = (request, status);
    }
}

/// The injected fault of a request, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The request is sent unchanged.
    Pass,
    /// The request is not sent. The response has this status and text.
    Answer(StatusCode, String),
    /// The connection is refused.
    Refuse,
    /// The connection breaks before the request is sent. The component cannot know whether it arrived.
    Reset,
    /// The request is applied, but the connection breaks before the response arrives.
    LoseAnswer,
    /// The request is applied, but the connection breaks after this many bytes of the response body.
    CutAnswer(u64),
}
