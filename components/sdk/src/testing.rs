//! Doubles for tests that run natively.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io::{self, Read},
};

use crate::{
    Error,
    clock::Clock,
    error,
    http::{Body, BodyWriter, Http, Request, Response, Source},
    sink::{Channel, Level, Listener},
};

/// A clock that moves only when someone sleeps.
#[derive(Debug, Default)]
pub struct VirtualClock {
    now: Cell<u64>,
}

impl VirtualClock {
    /// Lets so many milliseconds pass.
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
}

/// What a [`ScriptedHttp`] does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// It answers.
    Answer {
        /// The status.
        status: u16,
        /// The body, in the pieces in which it arrives.
        chunks: Vec<Vec<u8>>,
    },
    /// It answers, and the connection breaks after the pieces.
    Break {
        /// The status.
        status: u16,
        /// What arrives before.
        chunks: Vec<Vec<u8>>,
        /// How it breaks.
        error: Error,
    },
    /// There is no answer.
    Fault(Error),
}

impl Act {
    /// An answer in one piece.
    #[must_use]
    pub fn answer(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Answer { status, chunks: vec![body.into()] }
    }
}

type Rule = Box<dyn Fn(&Request) -> Option<Act>>;

/// HTTP that follows a script and keeps what it was asked.
///
/// A rule, where there is one and it has an answer, goes before the script.
#[derive(Default)]
pub struct ScriptedHttp {
    script: RefCell<VecDeque<Act>>,
    rule: Option<Rule>,
    requests: RefCell<Vec<Request>>,
}

impl ScriptedHttp {
    /// One that follows these acts in order.
    #[must_use]
    pub fn new(script: impl IntoIterator<Item = Act>) -> Self {
        Self { script: RefCell::new(script.into_iter().collect()), ..Self::default() }
    }

    /// One that decides by the request.
    #[must_use]
    pub fn deciding(rule: impl Fn(&Request) -> Option<Act> + 'static) -> Self {
        Self { rule: Some(Box::new(rule)), ..Self::default() }
    }

    /// What was asked so far, with the bodies that were sent.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.requests.borrow().clone()
    }

    fn act(&self, request: Request) -> Result<Response, Error> {
        let decided = self.rule.as_ref().and_then(|rule| rule(&request));
        let act = decided.or_else(|| self.script.borrow_mut().pop_front());
        let label = request.label();
        self.requests.borrow_mut().push(request);
        let (status, chunks, error) = match act {
            None => return Err(Error::Other(format!("the script has no act for {label}"))),
            Some(Act::Fault(error)) => return Err(error),
            Some(Act::Answer { status, chunks }) => (status, chunks, None),
            Some(Act::Break { status, chunks, error }) => (status, chunks, Some(error)),
        };
        let source = Pieces { chunks: chunks.into_iter().filter(|chunk| !chunk.is_empty()).collect(), error };
        Ok(Response { status, headers: Vec::new(), body: Body::new(source) })
    }
}

impl Http for ScriptedHttp {
    fn send(&self, request: Request) -> Result<Response, Error> {
        self.act(request)
    }

    fn upload(&self, mut request: Request, write: &mut BodyWriter<'_>) -> Result<Response, Error> {
        request.body.clear();
        write(&mut request.body)?;
        self.act(request)
    }

    fn send_all(&self, requests: Vec<Request>) -> Vec<Result<Response, Error>> {
        requests.into_iter().map(|request| self.act(request)).collect()
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

impl Source for Pieces {}

/// A listener that keeps what it hears, and gives up when told so.
#[derive(Debug, Default)]
pub struct RecordingListener {
    /// The sentences of progress.
    pub progress: RefCell<Vec<String>>,
    /// The log lines.
    pub logs: RefCell<Vec<String>>,
    /// The events, with their bodies.
    pub events: RefCell<Vec<(String, String)>>,
    /// The lines of output.
    pub lines: RefCell<Vec<Vec<u8>>>,
    /// Whether the caller has given up.
    pub cancelled: Cell<bool>,
}

impl Listener for RecordingListener {
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

/// Compares a generated file of a crate with what would be generated now, or writes it where
/// `UPDATE_GENERATED` is set. `file` is a path below the crate's folder, `crate_folder` its
/// `CARGO_MANIFEST_DIR`.
///
/// # Panics
/// Where the file is not up to date, or cannot be written.
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
