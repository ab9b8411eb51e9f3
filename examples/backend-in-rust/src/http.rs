//! Requests, as `wasi:http` has them.
//!
//! No header for the token: the host adds it, to requests to the address that it belongs to.

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

/// What a stream takes at once.
const PIECE: usize = 4096;
const READ: u64 = 64 << 10;

/// An answer. The fields are dropped in their order: a child before what it came from.
pub(crate) struct Response {
    pub(crate) status: u16,
    stream: InputStream,
    _body: IncomingBody,
    _response: IncomingResponse,
}

/// What came of waiting for more of an answer.
pub(crate) enum More {
    Bytes(Vec<u8>),
    /// Nothing came in time.
    Quiet,
    End,
}

/// Sends a request to `http(s)://authority/path`, and waits for the answer to begin.
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
        .map_err(|()| no_url(url))?;
    let outgoing = request.body().map_err(|()| broken(url, "it has no body"))?;
    let answer = outgoing_handler::handle(request, None).map_err(|code| explained(url, &code))?;
    // A service that answers early stops reading. What it says is in the answer.
    let _ = write(outgoing, body);
    let signal = answer.subscribe();
    signal.block();
    drop(signal);
    let response = match answer.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(code))) => return Err(explained(url, &code)),
        Some(Err(())) | None => return Err(broken(url, "the answer was lost")),
    };
    let body = response.consume().map_err(|()| broken(url, "the answer has no body"))?;
    let stream = body.stream().map_err(|()| broken(url, "the answer has no body"))?;
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
    /// The next bytes, if some come within so many milliseconds.
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
                Err(broken("the answer", &error.to_debug_string()))
            }
        }
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        loop {
            match self.next(60_000)? {
                More::Bytes(bytes) => all.extend(bytes),
                More::Quiet => return Err(broken("the answer", "it stopped in the middle")),
                More::End => return Ok(all),
            }
        }
    }
}

fn split(url: &str) -> Result<(Scheme, &str, &str), Error> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("https", rest)) => (Scheme::Https, rest),
        _ => return Err(no_url(url)),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.is_empty() {
        return Err(no_url(url));
    }
    Ok((scheme, authority, if path.is_empty() { "/" } else { path }))
}

fn no_url(url: &str) -> Error {
    crate::options::invalid("address", &format!("`{url}` is no URL"), "write http://host:port")
}

/// The connection broke, and with it what could be known.
fn broken(what: &str, how: &str) -> Error {
    Error::Unavailable(RetryHint { reason: format!("{what}: {how}"), after_ms: None, maybe_applied: true })
}

fn explained(url: &str, code: &ErrorCode) -> Error {
    match code {
        // The host knows the line that grants it, and puts it into the error.
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
    fn an_address_is_a_scheme_an_authority_and_a_path() {
        let (_, authority, path) = split("http://host:1/a/b?c=d").ok().unwrap();
        assert_eq!((authority, path), ("host:1", "/a/b?c=d"));
        assert_eq!(split("https://host").ok().unwrap().2, "/");
        assert!(split("host:8099").is_err() && split("ray://host").is_err() && split("http:///x").is_err());
    }
}
