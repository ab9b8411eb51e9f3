//! Test doubles for native tests.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io::{self, Read},
};

use crate::{
    Error,
    clock::Clock,
    error,
    http::{Body, BodySource, BodyWriter, Http, Request, Response},
    progress::{Channel, Level, ProgressListener},
};

/// A clock that advances only when a caller sleeps. Its jitter is the longest one, unless a test sets another.
#[derive(Debug)]
pub struct VirtualClock {
    now: Cell<u64>,
    jitter: f64,
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::with_jitter(1.0)
    }
}

impl VirtualClock {
    /// Creates a clock whose jitter is always this fraction of the longest one, from 0 to 1.
    #[must_use]
    pub const fn with_jitter(jitter: f64) -> Self {
        Self { now: Cell::new(0), jitter }
    }

    /// Advances the clock by `ms` milliseconds.
    pub fn advance(&self, ms: u64) {
        self.now.set(self.now.get() + ms);
    }
}

impl Clock for VirtualClock {
    fn now_ms(&self) -> u64 {
        self.now.get()
    }

    fn sleep_ms(&self, ms: u64) {
        self.advance(ms);
    }

    fn jitter_ms(&self, max_ms: u64) -> u64 {
        (max_ms as f64 * self.jitter) as u64
    }
}

/// The response of a [`ScriptedHttp`] to a request.
#[derive(Clone, Debug)]
pub enum ScriptedResponse {
    /// Returns a response.
    Complete {
        /// The HTTP status.
        status: u16,
        /// The body, in the chunks in which it arrives.
        chunks: Vec<Vec<u8>>,
    },
    /// Returns a response whose body fails after the chunks.
    Broken {
        /// The HTTP status.
        status: u16,
        /// The chunks that arrive before the failure.
        chunks: Vec<Vec<u8>>,
        /// The error of the body.
        error: Error,
    },
    /// Returns an error without a response.
    Error(Error),
}

impl ScriptedResponse {
    /// Returns a response with a body of one chunk.
    #[must_use]
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Complete { status, chunks: vec![body.into()] }
    }
}

type Rule = Box<dyn Fn(&Request) -> Option<ScriptedResponse>>;

/// An HTTP double that follows a script and records the requests.
///
/// A rule that returns a response takes precedence over the script.
#[derive(Default)]
pub struct ScriptedHttp {
    script: RefCell<VecDeque<ScriptedResponse>>,
    rule: Option<Rule>,
    headers: Vec<(String, String)>,
    requests: RefCell<Vec<Request>>,
}

impl ScriptedHttp {
    /// Creates a double that returns these responses in order.
    #[must_use]
    pub fn new(script: impl IntoIterator<Item = ScriptedResponse>) -> Self {
        Self { script: RefCell::new(script.into_iter().collect()), ..Self::default() }
    }

    /// Creates a double that chooses the response from the request.
    #[must_use]
    pub fn with_rule(rule: impl Fn(&Request) -> Option<ScriptedResponse> + 'static) -> Self {
        Self { rule: Some(Box::new(rule)), ..Self::default() }
    }

    /// Adds a header field to every response. `name` must be lowercase.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Returns the requests so far, with their bodies.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.requests.borrow().clone()
    }

    fn respond(&self, request: Request) -> Result<Response, Error> {
        let decided = self.rule.as_ref().and_then(|rule| rule(&request));
        let response = decided.or_else(|| self.script.borrow_mut().pop_front());
        let label = request.label();
        self.requests.borrow_mut().push(request);
        let (status, chunks, error) = match response {
            None => return Err(Error::Other(format!("the test's script has no response for {label}"))),
            Some(ScriptedResponse::Error(error)) => return Err(error),
            Some(ScriptedResponse::Complete { status, chunks }) => (status, chunks, None),
            Some(ScriptedResponse::Broken { status, chunks, error }) => (status, chunks, Some(error)),
        };
        let source = Pieces { chunks: chunks.into_iter().filter(|chunk| !chunk.is_empty()).collect(), error };
        Ok(Response { status, headers: self.headers.clone(), body: Body::new(source) })
    }
}

impl Http for ScriptedHttp {
    fn send(&self, request: Request) -> Result<Response, Error> {
        self.respond(request)
    }

    fn upload(&self, mut request: Request, write: &mut BodyWriter<'_>) -> Result<Response, Error> {
        request.body.clear();
        write(&mut request.body)?;
        self.respond(request)
    }

    fn send_all(&self, requests: Vec<Request>) -> Vec<Result<Response, Error>> {
        requests.into_iter().map(|request| self.respond(request)).collect()
    }
}

struct Pieces {
    chunks: VecDeque<Vec<u8>>,
    error: Option<Error>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(mut chunk) = self.chunks.pop_front() else {
            return self.error.take().map_or(Ok(0), |error| Err(error::into_io(error)));
        };
        let count = chunk.len().min(buffer.len());
        buffer[..count].copy_from_slice(&chunk[..count]);
        if count < chunk.len() {
            self.chunks.push_front(chunk.split_off(count));
        }
        Ok(count)
    }
}

impl BodySource for Pieces {}

/// A progress listener that records everything.
#[derive(Debug, Default)]
pub struct RecordingListener {
    /// The progress messages.
    pub progress: RefCell<Vec<String>>,
    /// The log lines.
    pub logs: RefCell<Vec<String>>,
    /// The events, as kind and body.
    pub events: RefCell<Vec<(String, String)>>,
    /// The lines of output.
    pub lines: RefCell<Vec<Vec<u8>>>,
    /// What `cancelled` returns; a test sets it.
    pub cancelled: Cell<bool>,
}

impl ProgressListener for RecordingListener {
    fn progress(&self, message: &str) {
        self.progress.borrow_mut().push(message.to_owned());
    }

    fn log(&self, _level: Level, message: &str) {
        self.logs.borrow_mut().push(message.to_owned());
    }

    fn event(&self, kind: &str, body: &str) {
        self.events.borrow_mut().push((kind.to_owned(), body.to_owned()));
    }

    fn output(&self, _channel: Channel, lines: &[Vec<u8>]) {
        self.lines.borrow_mut().extend_from_slice(lines);
    }

    fn cancelled(&self) -> bool {
        self.cancelled.get()
    }
}

/// Asserts that a generated file is up to date, or writes it if `UPDATE_GENERATED` is set.
///
/// `crate_folder` is the crate's `CARGO_MANIFEST_DIR`, and `file` a path relative to it.
///
/// # Panics
/// The file is out of date, or cannot be written.
pub fn assert_generated(crate_folder: &str, file: &str, content: &str) {
    let path = std::path::Path::new(crate_folder).join(file);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        let written = std::fs::write(&path, content);
        assert!(written.is_ok(), "{}: {written:?}", path.display());
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == content,
        "{} is out of date: run the tests of this crate with UPDATE_GENERATED=1",
        path.display()
    );
}
