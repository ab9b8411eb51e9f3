//! Blocking HTTP with concurrent requests and streamed bodies.
//!
//! [`Client`] is for one service: it retries, and returns an error for an unsuccessful response. Below it,
//! [`Http`] returns every response as a [`Response`], whatever its status. There, an [`Error`] means that
//! there is no response: the host denied the request, or the connection failed.

mod client;
mod failure;
mod request;
mod response;
pub mod url;
mod wasi;

pub use client::Client;
pub use request::{Method, Request, Timeouts};
pub use response::{Body, BodySource, Response};
pub use wasi::WasiHttp;

use std::io::Write;

use crate::Error;

/// The number of requests that [`Http::send_all`] sends concurrently.
pub const MAX_CONCURRENT: usize = 16;

/// Writes a request's body while it is sent, so that it need not fit into memory.
pub type BodyWriter<'a> = dyn FnMut(&mut dyn Write) -> Result<(), Error> + 'a;

/// An HTTP client.
pub trait Http {
    /// Sends a request and returns when the response's status and headers have arrived.
    fn send(&self, request: Request) -> Result<Response, Error>;

    /// Sends a request with a streamed body, which `write` produces.
    ///
    /// `request.body` is ignored. Set a `content-length` header if the length is known; otherwise the
    /// body is sent chunked.
    fn upload(&self, request: Request, write: &mut BodyWriter<'_>) -> Result<Response, Error>;

    /// Sends many requests, [`MAX_CONCURRENT`] at a time, and returns the responses in the order of the
    /// requests.
    ///
    /// Each response body is read completely, so that it does not occupy a connection that another
    /// request needs.
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
