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
    follow: &FollowOptions,
    next: &mut dyn FnMut() -> FollowAction,
    deliver: &mut dyn FnMut(Vec<Vec<u8>>),
) -> Result<FollowResult, Error> {
    let id = url::encode(submission_id);
    // Ray requires a `node_id`, but uses the node that the job ran on.
    let query = format!("node_id=any&submission_id={id}&lines=-1");
    let address = &client.address;
    let request = if follow.has_ended {
        Request::get(format!("{address}/api/v0/logs/file?{query}"))
    } else {
        let (seconds, rest) = (follow.interval_ms / 1_000, follow.interval_ms % 1_000);
        Request::get(format!("{address}/api/v0/logs/stream?{query}&interval={seconds}.{rest:03}"))
    }
    // A job can write nothing for any time.
    .timeouts(Timeouts {
        first_byte_ms: Some(follow.first_byte_ms),
        between_bytes_ms: Some(7 * 24 * 3_600_000),
        ..Timeouts::default()
    });
    let response = client.http.send(request.clone())?;
    let mut body = check_response(response, request.method, &request.label(), None)?.body;

    // Ray checks the log once per interval. A busy agent can be much later.
    let quiet_ms = follow.interval_ms * 2 + QUIET_MS;
    let mut lines = Lines::default();
    let mut skip = follow.from;
    let mut read = follow.from;
    let mut piece = vec![0; 64 * 1024];
    let mut called_at = client.clock.now_ms();
    let mut decision = FollowAction::Continue;
    let end = loop {
        let wait_ms = if decision == FollowAction::Drain { quiet_ms } else { POLL_INTERVAL_MS };
        let ready = body.wait_readable(wait_ms);
        if !ready && decision == FollowAction::Drain {
            break FollowEnd::Complete;
        }
        if ready {
            match body.read(&mut piece) {
                // The end of the stream proves a complete log only if the job was known to have ended
                // before: otherwise the job may have written more lines.
                Ok(0) if follow.has_ended || decision == FollowAction::Drain => break FollowEnd::Complete,
                Ok(0) => {
                    break FollowEnd::Broken(Error::unavailable(
                        "Ray ended the stream of a job's log early",
                        false,
                    ));
                }
                Ok(count) => {
                    let known = usize::try_from(skip).map_or(count, |skip| skip.min(count));
                    skip -= known as u64;
                    read += (count - known) as u64;
                    let whole = lines.push(&piece[known..count]);
                    if !whole.is_empty() {
                        deliver(whole);
                    }
                }
                Err(broken) => break FollowEnd::Broken(error::from_io(broken, "following a job's log")),
            }
        }
        let now = client.clock.now_ms();
        if decision == FollowAction::Continue && (!ready || now.saturating_sub(called_at) >= POLL_INTERVAL_MS)
        {
            called_at = now;
            decision = next();
        }
        if decision == FollowAction::Stop {
            break FollowEnd::Stopped;
        }
    };
    // `read` starts at `follow.from`, so a stream that broke before that position moves nothing.
    let mut position = read - lines.waiting();
    if end == FollowEnd::Complete
        && let Some(tail) = lines.finish()
    {
        position = read;
        deliver(vec![tail]);
    }
    Ok(FollowResult { position, end })
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
