//! An HTTP client on `wasi:http`.
//!
//! Requests have no token: the host adds it to requests to the configured address.

use crate::bindings::dagster_ray::host::model::{Denial, Error, RetryHint};
use crate::bindings::wasi::{
    clocks::monotonic_clock::subscribe_duration,
    http::{
        outgoing_handler,
        types::{
            ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme,
        },
    },
    io::{
        poll::poll,
        streams::{InputStream, StreamError},
    },
};

/// The most bytes that `blocking-write-and-flush` of `wasi:io` accepts.
const PIECE: usize = 4096;
const READ: u64 = 64 << 10;

/// A response. Its fields are dropped in order, each child resource before its parent.
pub(crate) struct Response {
    pub(crate) status: u16,
    stream: InputStream,
    _body: IncomingBody,
    _response: IncomingResponse,
}

/// The result of waiting for more of a response.
pub(crate) enum More {
    Bytes(Vec<u8>),
    /// No data arrived in time.
    Quiet,
    End,
}

/// Sends a request to `http(s)://authority/path` and waits for the head of the response.
pub(crate) fn send(method: &Method, url: &str, body: &[u8]) -> Result<Response, Error> {
    let (scheme, authority, path) = split(url)?;
    let length = ("content-length".to_owned(), body.len().to_string().into_bytes());
    let headers = Fields::from_list(&[length]).map_err(|error| broken(url, &format!("{error:?}")))?;
    let request = OutgoingRequest::new(headers);
    request
        .set_method(method)
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(path)))
        .map_err(|()| invalid_url(url))?;
    let outgoing = request.body().map_err(|()| broken(url, "the request has no body"))?;
    let pending = outgoing_handler::handle(request, None).map_err(|code| explained(url, &code))?;
    // A server that responds early stops reading. The response contains the reason.
    let _ = write(outgoing, body);
    let ready = pending.subscribe();
    ready.block();
    drop(ready);
    let response = match pending.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(code))) => return Err(explained(url, &code)),
        Some(Err(())) | None => return Err(broken(url, "the response was lost")),
    };
    let body = response.consume().map_err(|()| broken(url, "the response has no body"))?;
    let stream = body.stream().map_err(|()| broken(url, "the response has no body"))?;
    Ok(Response { status: response.status(), stream, _body: body, _response: response })
}

fn write(outgoing: OutgoingBody, body: &[u8]) -> Result<(), StreamError> {
    if let Ok(stream) = outgoing.write() {
        for piece in body.chunks(PIECE) {
            stream.blocking_write_and_flush(piece)?;
        }
    }
    let _ = OutgoingBody::finish(outgoing, None);
    Ok(())
}

impl Response {
    /// Waits up to `within_ms` milliseconds for more bytes.
    pub(crate) fn next(&self, within_ms: u64) -> Result<More, Error> {
        let readable = self.stream.subscribe();
        let late = subscribe_duration(within_ms * 1_000_000);
        if !poll(&[&readable, &late]).contains(&0) {
            return Ok(More::Quiet);
        }
        match self.stream.read(READ) {
            Ok(bytes) if bytes.is_empty() => Ok(More::Quiet),
            Ok(bytes) => Ok(More::Bytes(bytes)),
            Err(StreamError::Closed) => Ok(More::End),
            Err(StreamError::LastOperationFailed(error)) => {
                Err(broken("the response", &error.to_debug_string()))
            }
        }
    }

    /// Reads the whole body.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        loop {
            match self.next(60_000)? {
                More::Bytes(bytes) => all.extend(bytes),
                More::Quiet => return Err(broken("the response", "no data for 60 s")),
                More::End => return Ok(all),
            }
        }
    }
}

fn split(url: &str) -> Result<(Scheme, &str, &str), Error> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("https", rest)) => (Scheme::Https, rest),
        _ => return Err(invalid_url(url)),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.is_empty() {
        return Err(invalid_url(url));
    }
    Ok((scheme, authority, if path.is_empty() { "/" } else { path }))
}

fn invalid_url(url: &str) -> Error {
    crate::options::invalid("address", &format!("`{url}` is not an HTTP URL"), "write http://host:port")
}

/// Returns the error for a broken connection: the request may have been applied.
fn broken(what: &str, how: &str) -> Error {
    Error::Unavailable(RetryHint { reason: format!("{what}: {how}"), after_ms: None, maybe_applied: true })
}

fn explained(url: &str, code: &ErrorCode) -> Error {
    match code {
        // The host fills in the grant that would allow the request.
        ErrorCode::HttpRequestDenied => Error::Denied(Denial {
            capability: "http".to_owned(),
            target: url.to_owned(),
            grant: String::new(),
        }),
        other => broken(url, &format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_separates_scheme_authority_and_path() {
        let (_, authority, path) = split("http://host:1/a/b?c=d").ok().unwrap();
        assert_eq!((authority, path), ("host:1", "/a/b?c=d"));
        assert_eq!(split("https://host").ok().unwrap().2, "/");
        assert!(split("host:8099").is_err() && split("ray://host").is_err() && split("http:///x").is_err());
    }
}
