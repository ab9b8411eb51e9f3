//! A job's output over connections that are cut anywhere, are quiet, break and are made again: each
//! line arrives once and in order.
#![no_main]

use std::cell::{Cell, RefCell};
use std::io;

use dagster_ray_jobs::JobsClient;
use dagster_ray_sdk::http::{Body, BodyWriter, Http, Request, Response, Source};
use dagster_ray_sdk::retry::Policy;
use dagster_ray_sdk::testing::{RecordingListener, VirtualClock};
use dagster_ray_sdk::{Error, error};
use dagster_ray_submission::follow::{Reached, follow};
use libfuzzer_sys::{arbitrary, fuzz_target};

/// One connection, as the network has it.
#[derive(Debug, Clone, arbitrary::Arbitrary)]
struct Connection {
    /// How much of the log has been written when it is made, out of 255 parts.
    written: u8,
    /// The lengths of the pieces, over and over; a length of 0 is a moment in which nothing comes.
    pieces: Vec<u8>,
    /// How the stream ends after what was written.
    end: End,
    /// Whether the request fails before anything comes.
    refused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, arbitrary::Arbitrary)]
enum End {
    Quiet,
    Closed,
    Broken,
}

#[derive(Debug, arbitrary::Arbitrary)]
struct Input {
    log: Vec<u8>,
    connections: Vec<Connection>,
    /// With which connection the job has ended.
    ends_at: u8,
    /// How often the dashboard fails to say how the job is.
    dashboard_fails: u8,
}

fuzz_target!(|input: Input| {
    if input.log.len() > 4_096 || input.connections.len() > 64 {
        return;
    }
    let ray = Ray {
        log: &input.log,
        connections: &input.connections,
        ends_at: usize::from(input.ends_at) % 64,
        made: Cell::new(0),
        looks: Cell::new(0),
        dashboard_fails: Cell::new(input.dashboard_fails),
        whole_log_was_asked: Cell::new(false),
        asked: RefCell::default(),
    };
    let client = JobsClient::new("http://head:8265", &ray, VirtualClock::default())
        .expect("an address")
        .with_retry(Policy::ONCE);
    let (clock, listener) = (VirtualClock::default(), RecordingListener::default());
    let reached = follow(&client, &clock, "j", 0, &listener);

    let mut expected: Vec<&[u8]> = input.log.split(|&byte| byte == b'\n').collect();
    expected.pop_if(|last| last.is_empty());
    let text = String::from_utf8_lossy(&input.log);
    let mut expected_of_text: Vec<&[u8]> = text.as_bytes().split(|&byte| byte == b'\n').collect();
    expected_of_text.pop_if(|last| last.is_empty());

    let got = listener.lines.borrow();
    // The log as a whole is JSON, and so text.
    let expected = if ray.whole_log_was_asked.get() { expected_of_text } else { expected };
    let common = got.iter().zip(&expected).take_while(|(got, expected)| got == expected).count();
    assert_eq!(common, got.len(), "a line came twice, in part or out of order: {got:?} of {expected:?}");
    let Reached { position, complete } = reached.expect("nothing here is beyond repair");
    let says_that_some_may_be_missing = !listener.logs.borrow().is_empty();
    if complete && !says_that_some_may_be_missing {
        assert_eq!(got.len(), expected.len(), "lines are missing: {got:?} of {expected:?}");
        if !ray.whole_log_was_asked.get() {
            assert_eq!(position, input.log.len() as u64);
        }
    }
});

/// A Ray behind a bad network, with one job.
struct Ray<'a> {
    log: &'a [u8],
    connections: &'a [Connection],
    ends_at: usize,
    made: Cell<usize>,
    looks: Cell<usize>,
    dashboard_fails: Cell<u8>,
    whole_log_was_asked: Cell<bool>,
    asked: RefCell<Vec<String>>,
}

impl Ray<'_> {
    fn has_ended(&self) -> bool {
        // Someone who looks long enough sees it end, too.
        self.made.get() > self.ends_at || self.looks.get() > 40
    }

    fn look(&self) -> Result<Response, Error> {
        self.looks.set(self.looks.get() + 1);
        if self.dashboard_fails.get() > 0 {
            self.dashboard_fails.set(self.dashboard_fails.get() - 1);
            return Err(Error::unavailable("the dashboard is away", false));
        }
        let status = if self.has_ended() { "SUCCEEDED" } else { "RUNNING" };
        Ok(answer(
            serde_json::json!({"status": status, "driver_node_id": "n"}).to_string().into_bytes().into(),
        ))
    }

    fn stream(&self) -> Result<Response, Error> {
        let calm = Connection { written: 255, pieces: vec![255], end: End::Quiet, refused: false };
        let at = self.made.get();
        self.made.set(at + 1);
        let connection = self.connections.get(at).unwrap_or(&calm);
        if connection.refused {
            return Err(Error::unavailable("refused", false));
        }
        // What has ended has written all that it will.
        let written = if self.has_ended() {
            self.log.len()
        } else {
            self.log.len() * usize::from(connection.written) / 255
        };
        let pieces = if connection.pieces.iter().any(|&length| length > 0) {
            connection.pieces.clone()
        } else {
            vec![255]
        };
        // A job that has ended is read to an end that says so, or breaks.
        let cut = usize::from(connection.written) * self.log.len() / 255;
        let (rest, end) = match connection.end {
            End::Broken => (self.log[..cut.min(written)].to_vec(), End::Broken),
            end => (self.log[..written].to_vec(), end),
        };
        Ok(answer(Body::new(Stream { rest, pieces, next: 0, end })))
    }
}

impl Http for Ray<'_> {
    fn send(&self, request: Request) -> Result<Response, Error> {
        self.asked.borrow_mut().push(request.url.clone());
        assert!(self.asked.borrow().len() < 20_000, "it never ends");
        let url = request.url.as_str();
        if url.contains("/logs/stream") {
            self.stream()
        } else if url.contains("/logs/file") {
            let mut response = self.stream()?;
            // It ends by itself: there is nothing to be quiet about.
            response.body = match self.connections.get(self.made.get() - 1) {
                Some(Connection { end: End::Broken, .. }) => response.body,
                _ => self.log.to_vec().into(),
            };
            Ok(response)
        } else if url.ends_with("/logs") {
            self.whole_log_was_asked.set(true);
            let logs = String::from_utf8_lossy(self.log);
            Ok(answer(serde_json::json!({ "logs": logs }).to_string().into_bytes().into()))
        } else {
            self.look()
        }
    }

    fn upload(&self, request: Request, _write: &mut BodyWriter<'_>) -> Result<Response, Error> {
        panic!("nothing is uploaded here: {}", request.label());
    }

    fn send_all(&self, requests: Vec<Request>) -> Vec<Result<Response, Error>> {
        requests.into_iter().map(|request| self.send(request)).collect()
    }
}

fn answer(body: Body) -> Response {
    Response { status: 200, headers: Vec::new(), body }
}

struct Stream {
    rest: Vec<u8>,
    pieces: Vec<u8>,
    next: usize,
    end: End,
}

impl io::Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            return match self.end {
                End::Broken => Err(error::into_io(Error::unavailable("reset", false))),
                End::Quiet | End::Closed => Ok(0),
            };
        }
        let mut length = 0;
        while length == 0 {
            length = usize::from(self.pieces[self.next % self.pieces.len()]);
            self.next += 1;
        }
        let length = length.min(self.rest.len()).min(buffer.len());
        buffer[..length].copy_from_slice(&self.rest[..length]);
        self.rest.drain(..length);
        Ok(length)
    }
}

impl Source for Stream {
    fn ready_within(&mut self, _ms: u64) -> bool {
        if self.rest.is_empty() {
            return self.end != End::Quiet;
        }
        let is_quiet = self.pieces[self.next % self.pieces.len()] == 0;
        self.next += usize::from(is_quiet);
        !is_quiet
    }
}
