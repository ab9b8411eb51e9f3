//! A job's output, line by line, as it comes.
//!
//! `GET /api/v0/logs/stream?submission_id=…&lines=-1&interval=…` sends the driver's whole log
//! from its start and whatever is appended to it, in pieces that end anywhere, and does not end
//! when the job does. The head answers only once there is something in the log. What has ended is
//! read with `GET /api/v0/logs/file?…`, which does end.

use std::io::Read;

use dagster_ray_sdk::{
    Error,
    clock::Clock,
    error,
    http::{Http, Request, Timeouts, url},
};

use crate::{JobsClient, answers::accept};

const LOOK_MS: u64 = 1_000;
const QUIET_MS: u64 = 2_000;
/// A line longer than this is passed on in parts: it has to fit into the component's memory, and
/// into one call of the host.
const LONGEST_LINE: usize = 8 << 20;

/// How to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follow {
    /// How many bytes of the log have been passed on before: [`Followed::position`].
    pub from: u64,
    /// How often Ray looks for more, in milliseconds.
    pub interval_ms: u64,
    /// Whether the job has ended, so that its log is all there.
    pub has_ended: bool,
    /// How long to wait for a log that has nothing in it yet.
    pub first_byte_ms: u64,
}

impl Default for Follow {
    fn default() -> Self {
        Self { from: 0, interval_ms: 100, has_ended: false, first_byte_ms: 2_000 }
    }
}

/// What the caller wants to happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on.
    Go,
    /// The job has ended: take what is left of its output, and return.
    Drain,
    /// Return at once.
    Stop,
}

/// Why following ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// Everything was passed on.
    Complete,
    /// The caller asked for it.
    Stopped,
    /// The connection broke. Follow again from the position.
    Broken(Error),
}

/// What following came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Followed {
    /// How many bytes of the log have been passed on, as whole lines.
    pub position: u64,
    /// Why it ended.
    pub end: End,
}

/// Cuts pieces that end anywhere into whole lines.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes a piece, and returns the lines that are whole with it, without their line ends.
    pub fn push(&mut self, piece: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let mut line = std::mem::take(&mut self.partial);
            line.extend_from_slice(&rest[..end]);
            lines.push(line);
            rest = &rest[end + 1..];
        }
        self.partial.extend_from_slice(rest);
        if self.partial.len() >= LONGEST_LINE {
            lines.push(std::mem::take(&mut self.partial));
        }
        lines
    }

    /// How many bytes stand after the last line end.
    fn waiting(&self) -> u64 {
        self.partial.len() as u64
    }

    /// What stands after the last line end, where there is anything.
    pub fn finish(self) -> Option<Vec<u8>> {
        (!self.partial.is_empty()).then_some(self.partial)
    }
}

/// Follows over one connection: see [`crate::RayJobs::follow_logs`].
pub(crate) fn follow<H: Http, C: Clock, P>(
    client: &JobsClient<H, C, P>,
    submission_id: &str,
    follow: &Follow,
    next: &mut dyn FnMut() -> Next,
    deliver: &mut dyn FnMut(Vec<Vec<u8>>),
) -> Result<Followed, Error> {
    let id = url::encode(submission_id);
    // Ray asks for a node, and then takes the one that the job ran on.
    let query = format!("node_id=any&submission_id={id}&lines=-1");
    let address = &client.address;
    let request = if follow.has_ended {
        Request::get(format!("{address}/api/v0/logs/file?{query}"))
    } else {
        let (seconds, rest) = (follow.interval_ms / 1_000, follow.interval_ms % 1_000);
        Request::get(format!("{address}/api/v0/logs/stream?{query}&interval={seconds}.{rest:03}"))
    }
    // A quiet job sends nothing for as long as it likes.
    .timeouts(Timeouts {
        first_byte_ms: Some(follow.first_byte_ms),
        between_bytes_ms: Some(7 * 24 * 3_600_000),
        ..Timeouts::default()
    });
    let response = client.http.send(request.clone())?;
    let mut body = accept(response, request.method, &request.label(), None)?.body;

    // Ray looks once an interval. An agent that is busy may be late by much more.
    let quiet_ms = follow.interval_ms * 2 + QUIET_MS;
    let mut lines = Lines::default();
    let mut skip = follow.from;
    let mut read = follow.from;
    let mut piece = vec![0; 64 * 1024];
    let mut looked = client.clock.now_ms();
    let mut wish = Next::Go;
    let end = loop {
        let patience = if wish == Next::Drain { quiet_ms } else { LOOK_MS };
        let ready = body.ready_within(patience);
        if !ready && wish == Next::Drain {
            break End::Complete;
        }
        if ready {
            match body.read(&mut piece) {
                // That the job has ended by now does not say that its last lines came before the
                // stream's end: only a stream that was known to be the last is complete.
                Ok(0) if follow.has_ended || wish == Next::Drain => break End::Complete,
                Ok(0) => {
                    break End::Broken(Error::unavailable(
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
                Err(broken) => break End::Broken(error::from_io(broken, "following a job's log")),
            }
        }
        let now = client.clock.now_ms();
        if wish == Next::Go && (!ready || now.saturating_sub(looked) >= LOOK_MS) {
            looked = now;
            wish = next();
        }
        if wish == Next::Stop {
            break End::Stopped;
        }
    };
    // A stream that broke within what was known before has delivered nothing new.
    let mut position = read - lines.waiting();
    if end == End::Complete
        && let Some(tail) = lines.finish()
    {
        position = read;
        deliver(vec![tail]);
    }
    Ok(Followed { position, end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RayJobs as _;
    use dagster_ray_sdk::testing::{Act, ScriptedHttp, VirtualClock};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_are_cut(text in "[ab\n]{0,40}", cuts in prop::collection::vec(0_usize..40, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for pair in cuts.windows(2) {
                got.extend(lines.push(&text.as_bytes()[pair[0]..pair[1]]));
            }
            got.extend(lines.finish());
            let mut want: Vec<Vec<u8>> = text.split('\n').map(|line| line.as_bytes().to_vec()).collect();
            if want.last().is_some_and(Vec::is_empty) {
                want.pop();
            }
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn a_stream_that_ends_before_the_job_was_seen_to_end_is_not_the_whole_log() {
        let http = ScriptedHttp::new([Act::Answer { status: 200, chunks: vec![b"one\n".to_vec()] }]);
        let client = JobsClient::new("http://head:8265", &http, VirtualClock::default()).unwrap();
        let mut got = Vec::new();
        // The job has ended meanwhile, and may have written more.
        let followed = client
            .follow_logs("j", &Follow::default(), &mut || Next::Drain, &mut |lines| got.extend(lines))
            .unwrap();
        assert!(matches!(followed, Followed { position: 4, end: End::Broken(_) }), "{followed:?}");
        assert_eq!(got, [b"one".to_vec()]);
    }

    #[test]
    fn a_broken_stream_goes_on_where_whole_lines_ended() {
        let whole = |parts: &[&str]| parts.iter().map(|part| part.as_bytes().to_vec()).collect::<Vec<_>>();
        let http = ScriptedHttp::new([
            Act::Break {
                status: 200,
                chunks: whole(&["one\ntw"]),
                error: Error::unavailable("reset", false),
            },
            Act::Answer { status: 200, chunks: whole(&["on", "e\ntwo\nthr", "ee"]) },
        ]);
        let client = JobsClient::new("http://head:8265", &http, VirtualClock::default()).unwrap();
        let mut got = Vec::new();
        let first = client
            .follow_logs("j", &Follow::default(), &mut || Next::Go, &mut |lines| got.extend(lines))
            .unwrap();
        assert!(
            matches!(first, Followed { position: 4, end: End::Broken(Error::Unavailable(_)) }),
            "{first:?}"
        );
        let again = Follow { from: first.position, has_ended: true, ..Follow::default() };
        let second =
            client.follow_logs("j", &again, &mut || Next::Drain, &mut |lines| got.extend(lines)).unwrap();
        assert_eq!(second, Followed { position: 13, end: End::Complete });
        assert_eq!(got, whole(&["one", "two", "three"]));
    }
}
