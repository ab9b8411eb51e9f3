//! A job's output over connections that are cut anywhere, are quiet, break and are made again: each
//! line arrives once and in order.
#![no_main]

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use dagster_ray_jobs::JobsClient;
use dagster_ray_sdk::http::{Body, BodyWriter, Http, Request, Response, Source};
use dagster_ray_sdk::retry::Policy;
use dagster_ray_sdk::testing::{RecordingListener, VirtualClock};
use dagster_ray_sdk::{Error, error};
use dagster_ray_submission::follow::{Reached, follow};
use libfuzzer_sys::{arbitrary, fuzz_target};

/// A wait this long means that nothing more will come, in milliseconds. No network here is that slow.
const QUIET_MS: u64 = 2_000;
/// Someone who looks this often sees the job end, whatever else.
const LOOKS: u32 = 40;

/// One connection, as the network has it.
#[derive(Debug, Clone, arbitrary::Arbitrary)]
struct Connection {
    /// How much of the log has been written when it is made, in parts of 255.
    written: u8,
    /// The lengths of the pieces, over and over; a length of 0 is a moment in which nothing comes.
    pieces: Vec<u8>,
    /// What happens after what was written.
    end: End,
    /// Whether there is no answer at all.
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
    /// Whether the job has run on a node, and so has a log to stream.
    has_node: bool,
}

fuzz_target!(|input: Input| {
    if input.log.len() > 4_096 || input.connections.len() > 64 {
        return;
    }
    let ray = Ray {
        job: Rc::new(Job {
            log: input.log.clone(),
            ends_at: usize::from(input.ends_at) % 64,
            made: Cell::new(0),
            looks: Cell::new(0),
        }),
        connections: &input.connections,
        dashboard_fails: Cell::new(input.dashboard_fails),
        has_node: input.has_node,
        whole_log_was_asked: Cell::new(false),
        asked: Cell::new(0),
    };
    let client = JobsClient::new("http://head:8265", &ray, VirtualClock::default())
        .expect("an address")
        .with_retry(Policy::ONCE);
    let (clock, listener) = (VirtualClock::default(), RecordingListener::default());
    let reached = follow(&client, &clock, "j", 0, &listener);
    let Reached { position, complete } = reached.expect("nothing here is beyond repair");

    // The log as a whole is JSON, and so text.
    let in_text = ray.whole_log_was_asked.get();
    let log = if in_text { String::from_utf8_lossy(&input.log).into_owned().into() } else { input.log };
    let mut expected: Vec<&[u8]> = log.split(|&byte| byte == b'\n').collect();
    expected.pop_if(|last| last.is_empty());
    let got = listener.lines.borrow();
    let common = got.iter().zip(&expected).take_while(|(got, expected)| got == expected).count();
    assert_eq!(common, got.len(), "a line came twice, in part or out of order: {got:?} of {expected:?}");
    let says_that_some_may_be_missing = !listener.logs.borrow().is_empty();
    if complete && !says_that_some_may_be_missing {
        assert_eq!(got.len(), expected.len(), "lines are missing: {got:?} of {expected:?}");
        assert_eq!(position, log.len() as u64);
    }
});

/// A Ray behind a bad network.
struct Ray<'a> {
    job: Rc<Job>,
    connections: &'a [Connection],
    dashboard_fails: Cell<u8>,
    has_node: bool,
    whole_log_was_asked: Cell<bool>,
    asked: Cell<u32>,
}

struct Job {
    log: Vec<u8>,
    ends_at: usize,
    made: Cell<usize>,
    looks: Cell<u32>,
}

impl Job {
    fn has_ended(&self) -> bool {
        self.made.get() > self.ends_at || self.looks.get() > LOOKS
    }
}

impl Ray<'_> {
    fn look(&self) -> Result<Response, Error> {
        self.job.looks.set(self.job.looks.get() + 1);
        if self.dashboard_fails.get() > 0 {
            self.dashboard_fails.set(self.dashboard_fails.get() - 1);
            return Err(Error::unavailable("the dashboard is away", false));
        }
        let status = if self.job.has_ended() { "SUCCEEDED" } else { "RUNNING" };
        let node = self.has_node.then_some("n");
        Ok(json(serde_json::json!({"status": status, "driver_node_id": node})))
    }

    fn stream(&self) -> Result<Response, Error> {
        let at = self.job.made.get();
        self.job.made.set(at + 1);
        let calm = Connection { written: 255, pieces: Vec::new(), end: End::Quiet, refused: false };
        let Connection { written, mut pieces, end, refused } =
            self.connections.get(at).cloned().unwrap_or(calm);
        if refused {
            return Err(Error::unavailable("refused", false));
        }
        if pieces.iter().all(|&length| length == 0) {
            pieces.push(255);
        }
        let written = self.job.log.len() * usize::from(written) / 255;
        let stream = Stream { job: Rc::clone(&self.job), position: 0, written, pieces, next: 0, end };
        Ok(answer(Body::new(stream)))
    }
}

impl Http for Ray<'_> {
    fn send(&self, request: Request) -> Result<Response, Error> {
        self.asked.set(self.asked.get() + 1);
        assert!(self.asked.get() < 20_000, "it never ends");
        let url = request.url.as_str();
        if url.contains("/logs/stream") || url.contains("/logs/file") {
            self.stream()
        } else if url.ends_with("/logs") {
            self.whole_log_was_asked.set(true);
            Ok(json(serde_json::json!({ "logs": String::from_utf8_lossy(&self.job.log) })))
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

fn json(document: serde_json::Value) -> Response {
    answer(document.to_string().into_bytes().into())
}

fn answer(body: Body) -> Response {
    Response { status: 200, headers: Vec::new(), body }
}

struct Stream {
    job: Rc<Job>,
    position: usize,
    written: usize,
    pieces: Vec<u8>,
    next: usize,
    end: End,
}

impl Stream {
    /// What is there to be read. A connection that does not break sees what a job writes until it
    /// ends.
    fn there(&self) -> usize {
        let all = self.end != End::Broken && self.job.has_ended();
        if all { self.job.log.len() } else { self.written }
    }
}

impl io::Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.job.log[self.position..self.there()];
        if rest.is_empty() {
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
        let length = length.min(rest.len()).min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.position += length;
        Ok(length)
    }
}

impl Source for Stream {
    fn ready_within(&mut self, ms: u64) -> bool {
        if self.position == self.there() {
            return self.end != End::Quiet;
        }
        let is_quiet = ms < QUIET_MS && self.pieces[self.next % self.pieces.len()] == 0;
        self.next += usize::from(is_quiet);
        !is_quiet
    }
}
