//! Follows a job's output, line by line.
//!
//! `GET /api/v0/logs/stream?submission_id=…&lines=-1&interval=…` sends the driver's log from its start, and
//! then what is appended to it. Chunks can end within a line. The head responds only when the log is not
//! empty, and the stream does not end when the job ends. The log of a job that has ended is read with
//! `GET /api/v0/logs/file?…`, which ends.

use std::io::Read;

pub use dagster_ray_sdk::lines::Lines;
use dagster_ray_sdk::{
    Error,
    clock::Clock,
    error,
    http::{Http, Request, Timeouts, url},
};

use crate::{JobsClient, response::check_response};

/// The time between two calls of `next`.
const POLL_INTERVAL_MS: u64 = 1_000;
/// What Ray 2.40 writes to a stream that has begun, as a chunk of its own, when it cannot read the log further.
/// Other versions break the connection.
const FETCH_ERROR: &[u8] = b"[get_logs] Fetch log error: ";
/// How long a draining stream must send nothing, beyond two intervals, before its log counts as complete.
const QUIET_MS: u64 = 2_000;

/// Options of [`crate::RayJobs::follow_logs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowOptions {
    /// The number of bytes of the log that were delivered before: [`FollowResult::position`].
    pub from: u64,
    /// How often Ray checks the log for new output, in milliseconds.
    pub interval_ms: u64,
    /// Whether the job has ended, so that its log is complete.
    pub has_ended: bool,
    /// How long to wait while the log is empty, in milliseconds.
    pub first_byte_ms: u64,
}

impl Default for FollowOptions {
    fn default() -> Self {
        Self { from: 0, interval_ms: 100, has_ended: false, first_byte_ms: 2_000 }
    }
}

/// The caller's decision on how to continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowAction {
    /// Continue.
    Continue,
    /// The job has ended: deliver the rest of its output, then return.
    Drain,
    /// Return at once.
    Stop,
}

/// Why following ended.
#[derive(Clone, Debug, PartialEq)]
pub enum FollowEnd {
    /// The whole log was delivered.
    Complete,
    /// The caller returned [`FollowAction::Stop`].
    Stopped,
    /// The connection broke. Follow again from the position.
    Broken(Error),
}

/// The result of [`crate::RayJobs::follow_logs`].
#[derive(Clone, Debug, PartialEq)]
pub struct FollowResult {
    /// The number of bytes of the log that were delivered so far, as whole lines.
    pub position: u64,
    /// Why following ended.
    pub end: FollowEnd,
}

/// Implements [`crate::RayJobs::follow_logs`].
pub(crate) fn follow<H: Http, C: Clock, P>(
    client: &JobsClient<H, C, P>,
    submission_id: &str,
    options: &FollowOptions,
    next: &mut dyn FnMut() -> FollowAction,
    deliver: &mut dyn FnMut(Vec<Vec<u8>>),
) -> Result<FollowResult, Error> {
    let request = request(&client.address, submission_id, options);
    let response = client.http.send(request.clone())?;
    let mut body = check_response(response, request.method, &request.label(), None)?.body;
    let mut log = Log::new(options.from);
    let mut called_at = client.clock.now_ms();
    let mut action = FollowAction::Continue;
    let end = loop {
        let drains = action == FollowAction::Drain;
        let ready = body.wait_readable(if drains { quiet_ms(options) } else { POLL_INTERVAL_MS });
        if !ready && drains {
            break FollowEnd::Complete;
        }
        if ready && let Some(end) = log.read(&mut body, options.has_ended || drains, deliver) {
            break end;
        }
        let now = client.clock.now_ms();
        let is_due = !ready || now.saturating_sub(called_at) >= POLL_INTERVAL_MS;
        if action == FollowAction::Continue && is_due {
            called_at = now;
            action = next();
        }
        if action == FollowAction::Stop {
            break FollowEnd::Stopped;
        }
    };
    Ok(log.finish(end, deliver))
}

/// Returns the request for a job's log.
fn request(address: &str, submission_id: &str, options: &FollowOptions) -> Request {
    let id = url::encode(submission_id);
    // Ray requires a `node_id`, but uses the node that the job ran on.
    // Without a format, Ray 2.40 puts a status byte before each chunk (`get_logs` in `state_head.py`).
    let query = format!("node_id=any&submission_id={id}&lines=-1&format=text");
    let request = if options.has_ended {
        Request::get(format!("{address}/api/v0/logs/file?{query}"))
    } else {
        let (seconds, rest) = (options.interval_ms / 1_000, options.interval_ms % 1_000);
        Request::get(format!("{address}/api/v0/logs/stream?{query}&interval={seconds}.{rest:03}"))
    };
    // A job can write nothing for any time.
    request.timeouts(Timeouts {
        first_byte_ms: Some(options.first_byte_ms),
        between_bytes_ms: Some(7 * 24 * 3_600_000),
        ..Timeouts::default()
    })
}

/// Returns how long a draining stream must send nothing before its log counts as complete.
///
/// Ray checks the log once per interval. A busy agent can be much later.
fn quiet_ms(options: &FollowOptions) -> u64 {
    options.interval_ms * 2 + QUIET_MS
}

/// The part of a log that was received.
struct Log {
    lines: Lines,
    /// How many of the next bytes were delivered before.
    skip: u64,
    /// The number of bytes received. It starts at the position to follow from, so a stream that breaks
    /// before that position does not change it.
    received: u64,
    buffer: Vec<u8>,
}

impl Log {
    fn new(from: u64) -> Self {
        Self { lines: Lines::default(), skip: from, received: from, buffer: vec![0; 64 * 1024] }
    }

    /// Reads once and delivers whole lines. Returns why following ended, if it did.
    ///
    /// The end of the stream proves a complete log only if the job was known to have ended before
    /// (`has_ended`): otherwise the job may have written more lines.
    fn read(
        &mut self,
        body: &mut impl Read,
        has_ended: bool,
        deliver: &mut dyn FnMut(Vec<Vec<u8>>),
    ) -> Option<FollowEnd> {
        let count = match body.read(&mut self.buffer) {
            Ok(0) if has_ended => return Some(FollowEnd::Complete),
            Ok(0) => {
                let error = Error::unavailable("Ray ended the stream of a job's log early", false);
                return Some(FollowEnd::Broken(error));
            }
            Ok(count) => count,
            Err(broken) => {
                return Some(FollowEnd::Broken(error::from_io(broken, "following a job's log")));
            }
        };
        if self.buffer[..count].starts_with(FETCH_ERROR) {
            let text = String::from_utf8_lossy(&self.buffer[..count]);
            return Some(FollowEnd::Broken(Error::unavailable(text.trim(), false)));
        }
        let known = usize::try_from(self.skip).map_or(count, |skip| skip.min(count));
        self.skip -= known as u64;
        self.received += (count - known) as u64;
        let whole = self.lines.push(&self.buffer[known..count]);
        if !whole.is_empty() {
            deliver(whole);
        }
        None
    }

    /// Returns the position of the last whole line. Delivers the incomplete line at the end of a complete
    /// log.
    fn finish(self, end: FollowEnd, deliver: &mut dyn FnMut(Vec<Vec<u8>>)) -> FollowResult {
        let mut position = self.received - self.lines.waiting();
        if end == FollowEnd::Complete
            && let Some(tail) = self.lines.finish()
        {
            position = self.received;
            deliver(vec![tail]);
        }
        FollowResult { position, end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RayJobs as _;
    use dagster_ray_sdk::testing::{ScriptedHttp, ScriptedResponse, VirtualClock};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_do_not_depend_on_chunk_boundaries(text in "[ab\n]{0,40}", cuts in prop::collection::vec(0_usize..40, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for pair in cuts.windows(2) {
                got.extend(lines.push(&text.as_bytes()[pair[0]..pair[1]]));
            }
            got.extend(lines.finish());
            let mut expected: Vec<Vec<u8>> = text.split('\n').map(|line| line.as_bytes().to_vec()).collect();
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            prop_assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_line_terminator_after_a_part_of_a_long_line_adds_no_empty_line() {
        let long = vec![b'x'; Lines::MAX_BYTES];
        let mut lines = Lines::default();
        let mut got = lines.push(&long);
        assert_eq!(got.len(), 1);
        got.extend(lines.push(b"\nnext\n"));
        assert!(got.iter().all(|line| !line.is_empty()));
        assert_eq!(got.pop(), Some(b"next".to_vec()));
        assert!(got.concat() == long);
        assert_eq!(lines.finish(), None);
    }

    #[test]
    fn a_stream_that_ends_before_the_job_is_known_to_have_ended_is_broken() {
        let http =
            ScriptedHttp::new([ScriptedResponse::Complete { status: 200, chunks: vec![b"one\n".to_vec()] }]);
        let client = JobsClient::new("http://head:8265", &http, VirtualClock::default()).unwrap();
        let mut got = Vec::new();
        // The job has ended in the meantime, and may have written more lines.
        let followed = client
            .follow_logs("j", &FollowOptions::default(), &mut || FollowAction::Drain, &mut |lines| {
                got.extend(lines)
            })
            .unwrap();
        assert!(matches!(followed, FollowResult { position: 4, end: FollowEnd::Broken(_) }), "{followed:?}");
        assert_eq!(got, [b"one".to_vec()]);
    }

    #[test]
    fn the_error_of_ray_2_40_in_a_stream_is_not_output() {
        let error =
            b"[get_logs] Fetch log error: <AioRpcError of RPC that terminated with:\n\tstatus = 14>".to_vec();
        let http = ScriptedHttp::new([ScriptedResponse::Complete {
            status: 200,
            chunks: vec![b"one\n".to_vec(), error],
        }]);
        let client = JobsClient::new("http://head:8265", &http, VirtualClock::default()).unwrap();
        let mut got = Vec::new();
        let ended = FollowOptions { has_ended: true, ..FollowOptions::default() };
        let followed = client
            .follow_logs("j", &ended, &mut || FollowAction::Continue, &mut |lines| got.extend(lines))
            .unwrap();
        assert!(matches!(followed, FollowResult { position: 4, end: FollowEnd::Broken(_) }), "{followed:?}");
        assert_eq!(got, [b"one".to_vec()]);
        assert!(http.requests()[0].url.ends_with("&format=text"), "{:?}", http.requests());
    }

    #[test]
    fn a_broken_stream_resumes_after_the_last_whole_line() {
        let whole = |parts: &[&str]| parts.iter().map(|part| part.as_bytes().to_vec()).collect::<Vec<_>>();
        let http = ScriptedHttp::new([
            ScriptedResponse::Broken {
                status: 200,
                chunks: whole(&["one\ntw"]),
                error: Error::unavailable("reset", false),
            },
            ScriptedResponse::Complete { status: 200, chunks: whole(&["on", "e\ntwo\nthr", "ee"]) },
        ]);
        let client = JobsClient::new("http://head:8265", &http, VirtualClock::default()).unwrap();
        let mut got = Vec::new();
        let first = client
            .follow_logs("j", &FollowOptions::default(), &mut || FollowAction::Continue, &mut |lines| {
                got.extend(lines)
            })
            .unwrap();
        assert!(
            matches!(first, FollowResult { position: 4, end: FollowEnd::Broken(Error::Unavailable(_)) }),
            "{first:?}"
        );
        let again = FollowOptions { from: first.position, has_ended: true, ..FollowOptions::default() };
        let second = client
            .follow_logs("j", &again, &mut || FollowAction::Drain, &mut |lines| got.extend(lines))
            .unwrap();
        assert_eq!(second, FollowResult { position: 13, end: FollowEnd::Complete });
        assert_eq!(got, whole(&["one", "two", "three"]));
    }
}
