//! The HTTP client over `wasi:http/outgoing-handler`.
//!
//! WASI resources are children of one another and must be dropped in order: a stream before its body, a
//! body before its response. Otherwise the host resets the connection.

use std::io::{self, Read, Write};

use wasip2::{
    clocks::monotonic_clock::subscribe_duration,
    http::{outgoing_handler, types as wasi},
    io::{
        poll::{Pollable, poll},
        streams::{InputStream, OutputStream, StreamError},
    },
};

use super::{
    Body, BodySource, BodyWriter, Http, MAX_CONCURRENT, Method, Request, Response, failure::classify, url,
};
use crate::{Error, error};

/// The HTTP client that the host provides.
#[derive(Clone, Copy, Debug, Default)]
pub struct WasiHttp;

impl Http for WasiHttp {
    fn send(&self, mut request: Request) -> Result<Response, Error> {
        let body = std::mem::take(&mut request.body);
        if body.is_empty() {
            return Pending::start(request, None)?.wait();
        }
        request.headers.push(("content-length".to_owned(), body.len().to_string()));
        self.upload(request, &mut |writer| {
            writer.write_all(&body).map_err(|broken| error::from_io(broken, "sending a request"))
        })
    }

    fn upload(&self, request: Request, write: &mut BodyWriter<'_>) -> Result<Response, Error> {
        Pending::start(request, Some(write))?.wait()
    }

    fn send_all(&self, requests: Vec<Request>) -> Vec<Result<Response, Error>> {
        let mut responses: Vec<Option<Result<Response, Error>>> = Vec::new();
        responses.resize_with(requests.len(), || None);
        let mut waiting = requests.into_iter().enumerate();
        let mut under_way: Vec<(usize, Pending)> = Vec::new();
        loop {
            while under_way.len() < MAX_CONCURRENT
                && let Some((index, request)) = waiting.next()
            {
                match start_buffered(request) {
                    Ok(pending) => under_way.push((index, pending)),
                    Err(failed) => responses[index] = Some(Err(failed)),
                }
            }
            if under_way.is_empty() {
                break;
            }
            let signals: Vec<&Pollable> = under_way.iter().map(|(_, pending)| &pending.signal).collect();
            let ready = poll(&signals);
            // In reverse order, because `swap_remove` moves only later positions.
            for position in (0..under_way.len()).rev() {
                if ready.iter().any(|&one| one as usize == position) {
                    let (index, pending) = under_way.swap_remove(position);
                    responses[index] = Some(pending.wait().and_then(buffered));
                }
            }
        }
        // Every index has a result: its start failed, or its response was awaited.
        responses.into_iter().flatten().collect()
    }
}

fn start_buffered(mut request: Request) -> Result<Pending, Error> {
    let body = std::mem::take(&mut request.body);
    if body.is_empty() {
        return Pending::start(request, None);
    }
    request.headers.push(("content-length".to_owned(), body.len().to_string()));
    Pending::start(
        request,
        Some(&mut |writer: &mut dyn Write| {
            writer.write_all(&body).map_err(|broken| error::from_io(broken, "sending a request"))
        }),
    )
}

fn buffered(mut response: Response) -> Result<Response, Error> {
    let bytes = response.bytes()?;
    Ok(Response { body: bytes.into(), ..response })
}

/// A request that was sent. The pollable is a child of the future response and must be dropped first.
struct Pending {
    signal: Pollable,
    response: wasi::FutureIncomingResponse,
    method: Method,
    url: String,
}

impl Pending {
    fn start(request: Request, write: Option<&mut BodyWriter<'_>>) -> Result<Self, Error> {
        let Request { method, url, headers, timeouts, .. } = request;
        let outgoing = outgoing(method, &url, &headers)?;
        let options = wasi::RequestOptions::new();
        let nanos = |ms: Option<u64>| ms.map(|ms| ms.saturating_mul(1_000_000));
        // A host may reject a timeout option; its own limits apply then.
        let _ = options.set_connect_timeout(nanos(timeouts.connect_ms));
        let _ = options.set_first_byte_timeout(nanos(timeouts.first_byte_ms));
        let _ = options.set_between_bytes_timeout(nanos(timeouts.between_bytes_ms));

        let body = match &write {
            Some(_) => Some(
                outgoing
                    .body()
                    .map_err(|()| Error::Other("the host returned a request without a body".to_owned()))?,
            ),
            None => None,
        };
        let response = outgoing_handler::handle(outgoing, Some(options))
            .map_err(|code| classify(&code, method, &url))?;
        if let (Some(body), Some(write)) = (body, write) {
            send_body(body, write)?;
        }
        Ok(Self { signal: response.subscribe(), response, method, url })
    }

    fn wait(self) -> Result<Response, Error> {
        let Self { signal, response, method, url } = self;
        signal.block();
        drop(signal);
        let response = match response.get() {
            Some(Ok(Ok(response))) => response,
            Some(Ok(Err(code))) => return Err(classify(&code, method, &url)),
            Some(Err(())) | None => {
                return Err(Error::Other(format!("{} {url}: the host lost the response", method.name())));
            }
        };
        let status = response.status();
        let headers = response
            .headers()
            .entries()
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), String::from_utf8_lossy(&value).into_owned()))
            .collect();
        let lost = |()| {
            Error::Other(format!("{} {url}: the host returned a response without a body", method.name()))
        };
        let body = response.consume().map_err(lost)?;
        let stream = body.stream().map_err(lost)?;
        let source = Incoming { stream, _body: body, _response: response, method, url };
        Ok(Response { status, headers, body: Body::new(source) })
    }
}

fn outgoing(
    method: Method,
    address: &str,
    headers: &[(String, String)],
) -> Result<wasi::OutgoingRequest, Error> {
    let parts = url::split(address, "address")?;
    let fields: Vec<(String, Vec<u8>)> =
        headers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect();
    let fields = wasi::Fields::from_list(&fields).map_err(|refused| {
        Error::Other(format!("{} {address}: the host rejected a header field: {refused:?}", method.name()))
    })?;
    let request = wasi::OutgoingRequest::new(fields);
    let method = match method {
        Method::Get => wasi::Method::Get,
        Method::Post => wasi::Method::Post,
        Method::Put => wasi::Method::Put,
        Method::Delete => wasi::Method::Delete,
        Method::Patch => wasi::Method::Patch,
    };
    let scheme = if parts.tls { wasi::Scheme::Https } else { wasi::Scheme::Http };
    let path = if parts.path.is_empty() { "/" } else { parts.path };
    request
        .set_method(&method)
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(parts.authority)))
        .and_then(|()| request.set_path_with_query(Some(path)))
        .map_err(|()| {
            Error::invalid(
                "address",
                &format!("`{address}` is not a valid URL"),
                Some("write http://host:port or https://host:port"),
            )
        })?;
    Ok(request)
}

/// Sends a body. If the service responds early or closes the connection, this returns no error: the
/// response reports what happened.
fn send_body(body: wasi::OutgoingBody, write: &mut BodyWriter<'_>) -> Result<(), Error> {
    let stream = body
        .write()
        .map_err(|()| Error::Other("the host returned a request body that cannot be written".to_owned()))?;
    let mut outgoing = Outgoing { stream, closed: false };
    let written = write(&mut outgoing);
    let closed = outgoing.closed;
    drop(outgoing);
    match written {
        Ok(()) => {
            let _ = wasi::OutgoingBody::finish(body, None);
            Ok(())
        }
        Err(_) if closed => Ok(()),
        // The writer failed. Without `finish` the host aborts the request.
        Err(error) => Err(error),
    }
}

struct Outgoing {
    stream: OutputStream,
    closed: bool,
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        loop {
            match self.stream.check_write() {
                Ok(0) => self.stream.subscribe().block(),
                Ok(room) => {
                    let count = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
                    return match self.stream.write(&bytes[..count]) {
                        Ok(()) => Ok(count),
                        Err(_) => Err(self.hung_up()),
                    };
                }
                Err(_) => return Err(self.hung_up()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.blocking_flush().map_err(|_| self.hung_up())
    }
}

impl Outgoing {
    fn hung_up(&mut self) -> io::Error {
        self.closed = true;
        io::Error::from(io::ErrorKind::BrokenPipe)
    }
}

/// The body of a response. The fields are dropped in this order.
struct Incoming {
    stream: InputStream,
    _body: wasi::IncomingBody,
    _response: wasi::IncomingResponse,
    method: Method,
    url: String,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.stream.blocking_read(buffer.len() as u64) {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => {
                    buffer[..bytes.len()].copy_from_slice(&bytes);
                    return Ok(bytes.len());
                }
                Err(StreamError::Closed) => return Ok(0),
                Err(StreamError::LastOperationFailed(failed)) => {
                    let broken = match wasi::http_error_code(&failed) {
                        Some(code) => classify(&code, self.method, &self.url),
                        None => Error::unavailable(
                            format!("{} {}: {}", self.method.name(), self.url, failed.to_debug_string()),
                            !self.method.is_safe(),
                        ),
                    };
                    return Err(error::into_io(broken));
                }
            }
        }
    }
}

impl BodySource for Incoming {
    fn wait_readable(&mut self, ms: u64) -> bool {
        let readable = self.stream.subscribe();
        let late = subscribe_duration(ms.saturating_mul(1_000_000));
        poll(&[&readable, &late]).contains(&0)
    }
}
