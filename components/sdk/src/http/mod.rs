//! Blocking HTTP, several requests at once, bodies as streams.
//!
//! A service's answer is a [`Response`], whatever its status says. An [`Error`] means that there
//! is no answer: the host refused the request, or the connection failed.

mod answer;
mod failure;
mod request;
pub mod url;
mod wasi;

pub use answer::{Body, Response, Source};
pub use request::{Method, Request, Timeouts};
pub use wasi::WasiHttp;

use std::io::Write;

use crate::Error;

/// How many requests [`Http::send_all`] has under way at once.
pub const AT_ONCE: usize = 16;

/// Writes a request's body as it is sent, so that it need not fit into memory.
pub type BodyWriter<'a> = dyn FnMut(&mut dyn Write) -> Result<(), Error> + 'a;

/// Something that carries requests out.
pub trait Http {
    /// Sends a request and returns once the head of its answer is there.
    fn send(&self, request: Request) -> Result<Response, Error>;

    /// Sends a request whose body is written while it goes out. The request's own body is left
    /// out of account. A `content-length` header, where the length is known, spares the service
    /// a chunked body.
    fn upload(&self, request: Request, write: &mut BodyWriter<'_>) -> Result<Response, Error>;

    /// Sends many requests, up to [`AT_ONCE`] at a time, and returns their answers in their
    /// order. The answers are read to their end before that, so that none holds a connection
    /// that the next one needs.
    fn send_all(&self, requests: Vec<Request>) -> Vec<Result<Response, Error>>;
}

impl<H: Http + ?Sized> Http for &H {
    fn send(&self, request: Request) -> Result<Response, Error> {
        (**self).send(request)
    }

    fn upload(&self, request: Request, write: &mut BodyWriter<'_>) -> Result<Response, Error> {
        (**self).upload(request, write)
    }

    fn send_all(&self, requests: Vec<Request>) -> Vec<Result<Response, Error>> {
        (**self).send_all(requests)
    }
}
