//! HTTP responses.

use std::io::{self, Read};

use crate::{
    Error, error,
    json::{self, Value},
};

/// The source of a body's bytes.
pub trait BodySource: Read {
    /// Waits up to `ms` milliseconds until a read would not block, and returns whether that is so.
    ///
    /// The end of the body counts as readable. The default implementation is for sources that never block.
    fn wait_readable(&mut self, ms: u64) -> bool {
        let _ = ms;
        true
    }
}

impl BodySource for io::Cursor<Vec<u8>> {}
impl BodySource for io::Empty {}

/// The body of a response, read while it arrives.
///
/// A broken connection is an [`io::Error`] that carries the contract's error; [`error::from_io`]
/// extracts it.
pub struct Body(Box<dyn BodySource>);

impl Body {
    /// Creates a body from a source.
    pub fn new(source: impl BodySource + 'static) -> Self {
        Self(Box::new(source))
    }

    /// Waits up to `ms` milliseconds until [`Read::read`] would not block, and returns whether that is so.
    pub fn wait_readable(&mut self, ms: u64) -> bool {
        self.0.wait_readable(ms)
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(io::Cursor::new(bytes))
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Body")
    }
}

/// A response with any status.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The header fields, with lowercase names.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
}

impl Response {
    /// Returns the first value of a header field. `name` must be lowercase.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the milliseconds after which the service asks for a retry, if it names a number of seconds
    /// (RFC 9110, `Retry-After`). A date is ignored.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        let seconds: u64 = self.header("retry-after")?.trim().parse().ok()?;
        Some(seconds.saturating_mul(1_000))
    }

    /// Reads the whole body.
    pub fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.body.read_to_end(&mut bytes).map_err(|broken| error::from_io(broken, "reading a response"))?;
        Ok(bytes)
    }

    /// Reads up to `limit` bytes of the body as text. Invalid UTF-8 is replaced.
    pub fn text(&mut self, limit: u64) -> Result<String, Error> {
        let mut bytes = Vec::new();
        self.body
            .by_ref()
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(|broken| error::from_io(broken, "reading a response"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Parses the body as JSON while it arrives.
    ///
    /// Fields named in `skipped_fields` are dropped, so that they use no memory after they were parsed.
    /// `doing` names the request in an error.
    pub fn json(&mut self, doing: &str, skipped_fields: &[&str]) -> Result<Value, Error> {
        json::read(&mut self.body, skipped_fields).map_err(|failure| unreadable(failure, doing))
    }

    /// Parses the body as a JSON list while it arrives, and passes each element to `each`. A long list does not have
    /// to fit into memory.
    pub fn json_elements(
        &mut self,
        doing: &str,
        skipped_fields: &[&str],
        each: &mut dyn FnMut(Value),
    ) -> Result<(), Error> {
        json::read_elements(&mut self.body, skipped_fields, each)
            .map_err(|failure| unreadable(failure, doing))
    }

    /// Reads and discards the rest of the body, so that the connection can be reused.
    pub fn discard(mut self) -> Result<(), Error> {
        io::copy(&mut self.body, &mut io::sink())
            .map(|_| ())
            .map_err(|broken| error::from_io(broken, "reading a response"))
    }
}

fn unreadable(failure: json::Failure, doing: &str) -> Error {
    match failure {
        json::Failure::Source(broken) => error::from_io(broken, doing),
        json::Failure::Malformed(malformed) => error::malformed_response(doing, &malformed.to_string()),
    }
}
