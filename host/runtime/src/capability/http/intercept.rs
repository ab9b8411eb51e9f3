//! Somebody who stands at the door: sees each request, and can make it fail.

use bytes::Bytes;
use http::{Request, StatusCode};

/// Sees every request that a component may send, before it is sent, recorded or replayed. It is
/// meant for tests of components: what they ask for, and what they make of a network that fails.
pub trait Intercept: Send + Sync {
    /// Decides what becomes of a request.
    fn decide(&self, request: &Request<Bytes>) -> Fate;

    /// Hears how a request was answered that went through: none where there was no answer.
    fn answered(&self, request: &Request<Bytes>, status: Option<StatusCode>) {
        let _ = (request, status);
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It goes its way.
    Pass,
    /// It goes nowhere, and this is its answer.
    Answer(StatusCode, String),
    /// Nothing listens where it goes.
    Refuse,
    /// The connection breaks, and nothing tells whether the request arrived.
    Reset,
    /// It arrives, and the connection breaks before its answer does.
    LoseAnswer,
    /// It arrives, and the connection breaks after so many bytes of its answer's body.
    CutAnswer(u64),
}
