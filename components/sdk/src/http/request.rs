//! What is asked.

use crate::json::{self, Value};

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Makes or does.
    Post,
    /// Puts in place.
    Put,
    /// Removes.
    Delete,
    /// Changes.
    Patch,
}

impl Method {
    /// Whether the service is left as it was, so that a lost answer loses nothing.
    #[must_use]
    pub fn is_safe(self) -> bool {
        self == Self::Get
    }

    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Patch => "PATCH",
        }
    }
}

/// How long to wait for what, in milliseconds. `None` leaves it to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection.
    pub connect_ms: Option<u64>,
    /// For the answer's first byte, once the request is out.
    pub first_byte_ms: Option<u64>,
    /// For each further piece of the answer.
    pub between_bytes_ms: Option<u64>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_ms: Some(5_000), first_byte_ms: Some(30_000), between_bytes_ms: Some(30_000) }
    }
}

/// A request. It can be cloned, to be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it does.
    pub method: Method,
    /// Where it goes: `http://host:port/path?query`.
    pub url: String,
    /// Its header fields. Credentials are the host's business.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// How long to wait.
    pub timeouts: Timeouts,
}

impl Request {
    /// A request without header fields or body.
    #[must_use]
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self { method, url: url.into(), headers: Vec::new(), body: Vec::new(), timeouts: Timeouts::default() }
    }

    /// A GET request.
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::Get, url)
    }

    /// A POST request.
    #[must_use]
    pub fn post(url: impl Into<String>) -> Self {
        Self::new(Method::Post, url)
    }

    /// A PUT request.
    #[must_use]
    pub fn put(url: impl Into<String>) -> Self {
        Self::new(Method::Put, url)
    }

    /// A DELETE request.
    #[must_use]
    pub fn delete(url: impl Into<String>) -> Self {
        Self::new(Method::Delete, url)
    }

    /// With one more header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// With a JSON document as its body.
    #[must_use]
    pub fn json(self, document: &Value) -> Self {
        self.header("content-type", "application/json").body(json::text(document))
    }

    /// With other timeouts.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// What it asks, for a message: `GET http://…`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {}", self.method.name(), self.url)
    }
}
