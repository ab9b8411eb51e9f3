//! A job's output over connections that pause, break and are opened again: each line is reported once and in
//! order.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use arbitrary::{Arbitrary, Unstructured};
use dagster_ray_jobs::JobsClient;
use dagster_ray_sdk::http::{Body, BodySource, BodyWriter, Http, Request, Response};
use dagster_ray_sdk::retry::Policy;
use dagster_ray_sdk::testing::{RecordingListener, VirtualClock};
use dagster_ray_sdk::{Error, error};
use dagster_ray_submission::follow::{FollowResult, follow};
use dagster_ray_submission::patience::StartLimit;

use crate::structured::{read, structured};

/// Pauses between pieces are shorter than this, in milliseconds. After a longer wait, nothing more comes.
const QUIET_MS: u64 = 2_000;
/// The number of status requests after which the job has ended in any case.
const MAX_STATUS_REQUESTS: u32 = 40;
/// No outage lasts as long as this.
const PATIENCE_MS: u64 = 86_400_000;

/// The behavior of one connection.
#[derive(Debug, Clone)]
struct Connection {
    /// How much of the log exists when the connection opens, in parts of 255.
    written: u8,
    /// The lengths of the pieces, repeated cyclically. A length of 0 is a pause.
    pieces: Vec<u8>,
    /// What happens after the existing part of the log.
    end: End,
    /// Whether the connection is refused.
    refused: bool,
}

structured!(Connection { written, pieces, end; refused });

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Quiet,
    Closed,
    Broken,
}

impl<'a> Arbitrary<'a> for End {
    fn arbitrary(source: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        // As the derive macro of `arbitrary` does it, so that the inputs of the corpus keep their meaning.
        let index = (u64::from(source.arbitrary::<u32>()?) * 3) >> 32;
        Ok(match index {
            0 => Self::Quiet,
            1 => Self::Closed,
            _ => Self::Broken,
        })
    }
}

#[derive(Debug)]
struct Input {
    log: Vec<u8>,
    connections: Vec<Connection>,
    /// The index of the connection with which the job ends.
    ends_at: u8,
    /// How many status requests fail.
    dashboard_fails: u8,
    /// Whether the job has run on a node and has a log to stream.
    has_node: bool,
}

structured!(Input { log, connections, ends_at, dashboard_fails; has_node });

/// Checks the properties for one input. Panics if one is violated.
pub fn check(data: &[u8]) {
    let Some(input) = read::<Input>(data) else { return };
    if input.log.len() > 4_096 || input.connections.len() > 64 {
        return;
    }
    let ray = Ray {
        job: Rc::new(Job {
            log: input.log.clone(),
            ends_at: usize::from(input.ends_at) % 64,
            connections: Cell::new(0),
            status_requests: Cell::new(0),
        }),
        connections: &input.connections,
        dashboard_fails: Cell::new(input.dashboard_fails),
        has_node: input.has_node,
        whole_log_was_requested: Cell::new(false),
        requests: Cell::new(0),
    };
    let client = JobsClient::new("http://head:8265", &ray, VirtualClock::default())
        .expect("an address")
        .with_retry(Policy::ONCE);
    let (clock, listener) = (VirtualClock::default(), RecordingListener::default());
    let patience = Policy::default().with_patience(PATIENCE_MS);
    let reached = follow(&client, &clock, patience, StartLimit::default(), "j", 0, &listener);
    let FollowResult { position, complete } = reached.expect("every failure here can be retried");

    // The whole log is requested as JSON, so its bytes become text.
    let in_text = ray.whole_log_was_requested.get();
    let log = if in_text { String::from_utf8_lossy(&input.log).into_owned().into() } else { input.log };
    let mut expected: Vec<&[u8]> = log.split(|&byte| byte == b'\n').collect();
    expected.pop_if(|last| last.is_empty());
    let got = listener.lines.borrow();
    let common = got.iter().zip(&expected).take_while(|(got, expected)| got == expected).count();
    assert_eq!(common, got.len(), "a line was repeated, partial or out of order: {got:?} of {expected:?}");
    let reports_possible_loss = !listener.logs.borrow().is_empty();
    if complete && !reports_possible_loss {
        assert_eq!(got.len(), expected.len(), "lines are missing: {got:?} of {expected:?}");
        assert_eq!(position, log.len() as u64);
    }
}

/// A Ray cluster behind an unreliable network.
struct Ray<'a> {
    job: Rc<Job>,
    connections: &'a [Connection],
    dashboard_fails: Cell<u8>,
    has_node: bool,
    whole_log_was_requested: Cell<bool>,
    requests: Cell<u32>,
}

struct Job {
    log: Vec<u8>,
    ends_at: usize,
    connections: Cell<usize>,
    status_requests: Cell<u32>,
}

impl Job {
    fn has_ended(&self) -> bool {
        self.connections.get() > self.ends_at || self.status_requests.get() > MAX_STATUS_REQUESTS
    }
}

impl Ray<'_> {
    fn status(&self) -> Result<Response, Error> {
        self.job.status_requests.set(self.job.status_requests.get() + 1);
        if self.dashboard_fails.get() > 0 {
            self.dashboard_fails.set(self.dashboard_fails.get() - 1);
            return Err(Error::unavailable("the dashboard is unreachable", false));
        }
        let status = if self.job.has_ended() { "SUCCEEDED" } else { "RUNNING" };
        let node = self.has_node.then_some("n");
        Ok(json(serde_json::json!({"status": status, "driver_node_id": node})))
    }

    fn stream(&self) -> Result<Response, Error> {
        let at = self.job.connections.get();
        self.job.connections.set(at + 1);
        let default = Connection { written: 255, pieces: Vec::new(), end: End::Quiet, refused: false };
        let Connection { written, mut pieces, end, refused } =
            self.connections.get(at).cloned().unwrap_or(default);
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
        self.requests.set(self.requests.get() + 1);
        assert!(self.requests.get() < 20_000, "following does not end");
        let url = request.url.as_str();
        if url.contains("/logs/stream") || url.contains("/logs/file") {
            self.stream()
        } else if url.ends_with("/logs") {
            self.whole_log_was_requested.set(true);
            Ok(json(serde_json::json!({ "logs": String::from_utf8_lossy(&self.job.log) })))
        } else {
            self.status()
        }
    }

    fn upload(&self, request: Request, _write: &mut BodyWriter<'_>) -> Result<Response, Error> {
        panic!("unexpected upload: {}", request.label());
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
    /// Returns the length of the readable part of the log. A connection that does not break receives the
    /// whole log when the job ends.
    fn available(&self) -> usize {
        let all = self.end != End::Broken && self.job.has_ended();
        if all { self.job.log.len() } else { self.written }
    }
}

impl io::Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.job.log[self.position..self.available()];
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

impl BodySource for Stream {
    fn wait_readable(&mut self, ms: u64) -> bool {
        if self.position == self.available() {
            return self.end != End::Quiet;
        }
        let is_quiet = ms < QUIET_MS && self.pieces[self.next % self.pieces.len()] == 0;
        self.next += usize::from(is_quiet);
        !is_quiet
    }
}
