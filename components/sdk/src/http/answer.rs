//! What is answered.

use std::io::{self, Read};

use crate::{
    Error, error,
    json::{self, Value},
};

/// Where a body's bytes come from.
pub trait Source: Read {
    /// Waits up to so many milliseconds until something can be read, be it the end. A source that
    /// is never waited for is always ready.
    fn ready_within(&mut self, ms: u64) -> bool {
        let _ = ms;
        true
    }
}

impl Source for io::Cursor<Vec<u8>> {}
impl Source for io::Empty {}

/// The body of an answer, read as it arrives.
///
/// A connection that breaks is an [`io::Error`] that carries the contract's error:
/// [`error::from_io`] and [`error::from_json`] take it out again.
pub struct Body(Box<dyn Source>);

impl Body {
    /// A body out of any source.
    pub fn new(source: impl Source + 'static) -> Self {
        Self(Box::new(source))
    }

    /// Waits up to so many milliseconds until [`Read::read`] would not block.
    pub fn ready_within(&mut self, ms: u64) -> bool {
        self.0.ready_within(ms)
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

/// An answer, whatever its status says.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The header fields, with their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
}

impl Response {
    /// The first value of a header field. The name is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The whole body.
    pub fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.body.read_to_end(&mut bytes).map_err(|broken| error::from_io(broken, "reading an answer"))?;
        Ok(bytes)
    }

    /// The body as text, or its first `limit` bytes. What is no UTF-8 is replaced.
    pub fn text(&mut self, limit: u64) -> Result<String, Error> {
        let mut bytes = Vec::new();
        self.body
            .by_ref()
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(|broken| error::from_io(broken, "reading an answer"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The body as a JSON document, parsed as it arrives. Fields whose names are `left_out` take no
    /// memory, however long they are.
    pub fn json(&mut self, doing: &str, left_out: &[&str]) -> Result<Value, Error> {
        json::read(&mut self.body, left_out).map_err(|failure| match failure {
            json::Failure::Source(broken) => error::from_io(broken, doing),
            json::Failure::Malformed(malformed) => error::malformed(doing, &malformed.to_string()),
        })
    }

    /// Reads the rest of the body and throws it away, so that the connection can be used again.
    pub fn discard(mut self) -> Result<(), Error> {
        io::copy(&mut self.body, &mut io::sink())
            .map(|_| ())
            .map_err(|broken| error::from_io(broken, "reading an answer"))
    }
}
