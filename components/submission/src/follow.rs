//! Streams a job's output across broken connections.

use std::cell::Cell;

use dagster_ray_jobs::{
    Job, RayJobs,
    logs::{FollowAction, FollowEnd, FollowOptions, Lines},
};
use dagster_ray_sdk::{
    Error,
    clock::Clock,
    polling::Interval,
    progress::{Channel, ProgressListener},
    retry::{Policy, Retries},
    warn,
};

use crate::{dead_nodes, patience::StartLimit};

const FIRST_WAIT_MS: u64 = 200;
const MAX_WAIT_MS: u64 = 2_000;
/// Ray's status of a job whose entrypoint does not run yet: the job waits for resources, or its runtime environment
/// is installed.
const PENDING: &str = "PENDING";
/// How many streams in a row may break without new output: of a job that has ended, before its log is read
/// instead; of a live job, before its node is read.
const MAX_FAILED_STREAMS: u32 = 5;

/// How far a job's output was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowResult {
    /// The number of bytes delivered since the start of the log.
    pub position: u64,
    /// Whether the log is complete.
    pub complete: bool,
}

/// Delivers a job's output to the listener, each line once and in order, from a byte position until the
/// job has ended and its log is complete.
///
/// A broken stream is reopened at the reached position. Ray merges a job's standard error into its
/// standard output. If Ray is unreachable for as long as `unreachable` allows, the result is incomplete.
///
/// # Errors
/// [`Error::Timeout`] if the job is pending for longer than `start` allows.
pub fn follow(
    jobs: &impl RayJobs,
    clock: &impl Clock,
    unreachable: Policy,
    start: StartLimit,
    submission_id: &str,
    from: u64,
    listener: &impl ProgressListener,
) -> Result<FollowResult, Error> {
    let mut position = from;
    let mut outage = Retries::new(unreachable);
    let mut interval = Interval::new(FIRST_WAIT_MS, MAX_WAIT_MS);
    let (mut failed_streams, mut failed_while_alive) = (0, 0);
    let mut has_ended = false;
    // Until when the server has asked for a pause (`Retry-After`).
    let quiet_until_ms = Cell::new(0);
    let heed = |error: &Error| {
        if let Some(ms) = error.retry_after_ms() {
            quiet_until_ms.set(clock.now_ms() + ms.min(unreachable.max_retry_after_ms));
        }
    };
    loop {
        let delivered = Cell::new(false);
        let mut next = || {
            if listener.cancelled() {
                return FollowAction::Stop;
            }
            if clock.now_ms() < quiet_until_ms.get() {
                return FollowAction::Continue;
            }
            match jobs.get(submission_id) {
                Ok(job) if !job.has_ended() => FollowAction::Continue,
                Ok(_) | Err(Error::NotFound(_)) => FollowAction::Drain,
                // An unreachable dashboard does not prove that the job has ended.
                Err(error) => {
                    heed(&error);
                    FollowAction::Continue
                }
            }
        };
        let mut deliver = |lines: Vec<Vec<u8>>| {
            delivered.set(true);
            listener.output(Channel::Stdout, &lines);
        };
        let options = FollowOptions { from: position, has_ended, ..FollowOptions::default() };
        let mut is_permanent = false;
        let broken = match jobs.follow_logs(submission_id, &options, &mut next, &mut deliver) {
            Ok(followed) => {
                position = followed.position;
                outage.reset();
                match followed.end {
                    FollowEnd::Complete => return Ok(FollowResult { position, complete: true }),
                    FollowEnd::Stopped => return Err(Error::Cancelled),
                    FollowEnd::Broken(error) => error,
                }
            }
            Err(error) => {
                // The head returns a status of 5xx also for a log that is still empty.
                is_permanent = !is_retried(&error);
                error
            }
        };
        heed(&broken);
        clock.sleep_ms(quiet_until_ms.get().saturating_sub(clock.now_ms()));
        if listener.cancelled() {
            return Err(Error::Cancelled);
        }
        if delivered.get() {
            interval.reset();
            (failed_streams, failed_while_alive) = (0, 0);
        }
        let job = match jobs.get(submission_id) {
            Ok(job) => job,
            Err(Error::NotFound(_)) => return Ok(FollowResult { position, complete: true }),
            Err(error) if !is_outage(&error) => return Err(error),
            Err(error) => match outage.pause(clock, error) {
                Ok(()) => continue,
                Err(_) => return Ok(FollowResult { position, complete: false }),
            },
        };
        outage.reset();
        if is_permanent {
            return Err(broken);
        }
        if job.status == PENDING
            && let Some(limit_ms) = start.exceeded(clock)
        {
            if let Some(reason) = &job.message {
                listener.progress(reason);
            }
            return Err(Error::Timeout(limit_ms));
        }
        has_ended = job.has_ended();
        if has_ended {
            // A job that never started has no log to stream.
            failed_streams += if job.driver_node_id.is_none() { MAX_FAILED_STREAMS } else { 1 };
        } else {
            failed_while_alive += 1;
        }
        // Nothing streams the log of a node whose raylet is gone.
        if failed_streams >= MAX_FAILED_STREAMS
            || failed_while_alive >= MAX_FAILED_STREAMS && dead_nodes::of_job(jobs, &job).is_some()
        {
            return read_last(jobs, &job, submission_id, position, &broken, listener);
        }
        interval.sleep(clock);
    }
}

/// Reads the log of a job that cannot be streamed: the job wrote no output, never started, or its node is gone.
///
/// # Errors
/// [`Error::Unavailable`] if the job has succeeded and its log cannot be read: the messages of a successful script
/// must not be lost silently. The end of another job is an error anyway.
fn read_last(
    jobs: &impl RayJobs,
    job: &Job,
    submission_id: &str,
    position: u64,
    broken: &Error,
    listener: &impl ProgressListener,
) -> Result<FollowResult, Error> {
    if position > 0 {
        let text = format!(
            "the last output of {submission_id} may be missing: its log stream broke after it ended ({})",
            broken.message()
        );
        listener.log(dagster_ray_sdk::progress::Level::Warning, &text);
        return Ok(FollowResult { position, complete: true });
    }
    let text = match jobs.logs(submission_id) {
        Ok(text) => text,
        Err(error) => {
            let text = format!("cannot read the output of the Ray job {submission_id}: {}", error.message());
            if job.status == "SUCCEEDED" {
                return Err(Error::unavailable(text, false));
            }
            warn!("{text}");
            return Ok(FollowResult { position, complete: true });
        }
    };
    let mut lines = Lines::default();
    let mut whole = lines.push(text.as_bytes());
    whole.extend(lines.finish());
    if !whole.is_empty() {
        listener.output(Channel::Stdout, &whole);
    }
    Ok(FollowResult { position: text.len() as u64, complete: true })
}

/// Returns whether an error says nothing about the job: Ray, or a proxy in front of it, is not in order.
#[must_use]
pub fn is_outage(error: &Error) -> bool {
    matches!(error, Error::Unavailable(_) | Error::Backend(_) | Error::Timeout(_) | Error::Other(_))
}

fn is_retried(error: &Error) -> bool {
    match error {
        Error::NotFound(_) => true,
        Error::Backend(api) => api.status >= 500,
        other => other.is_transient(),
    }
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::testing::{RecordingListener, VirtualClock};

    use super::*;
    use crate::{fake::FakeRay, patience::Patience};

    const UNREACHABLE: Policy =
        Policy { patience_ms: 60_000, first_wait_ms: 250, max_wait_ms: 5_000, max_retry_after_ms: 60_000 };

    fn texts(listener: &RecordingListener) -> Vec<String> {
        listener.lines.borrow().iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    }

    #[test]
    fn a_stream_that_breaks_repeatedly_delivers_each_line_once() {
        let ray = FakeRay::default();
        ray.add("j", "SUCCEEDED");
        ray.write_log(&["one\ntw", "o\nth", "", "ree\nfour"]);
        let (clock, listener) = (VirtualClock::default(), RecordingListener::default());
        let reached =
            follow(&ray, &clock, UNREACHABLE, StartLimit::default(), "j", 0, &listener).expect("the end");
        assert_eq!(texts(&listener), ["one", "two", "three", "four"]);
        assert_eq!(reached, FollowResult { position: 18, complete: true });
    }

    #[test]
    fn a_pause_that_the_server_asks_for_is_kept_up_to_the_limit() {
        for (asked_ms, kept_ms) in [(3_000, 3_000), (600_000, 60_000)] {
            let ray = FakeRay::default();
            ray.add("j", "SUCCEEDED");
            ray.write_log(&["one\n"]);
            ray.ask_to_wait(asked_ms);
            let (clock, listener) = (VirtualClock::default(), RecordingListener::default());
            follow(&ray, &clock, UNREACHABLE, StartLimit::default(), "j", 0, &listener).expect("the end");
            assert!((kept_ms..kept_ms + 1_000).contains(&clock.now_ms()), "{}", clock.now_ms());
            assert_eq!(texts(&listener), ["one"]);
        }
    }

    #[test]
    fn a_job_whose_node_is_dead_is_not_followed_for_ever() {
        let ray = FakeRay::default();
        ray.add("j", "RUNNING");
        ray.kill_node();
        let (clock, listener) = (VirtualClock::default(), RecordingListener::default());
        assert!(
            follow(&ray, &clock, UNREACHABLE, StartLimit::default(), "j", 7, &listener)
                .expect("the end")
                .complete
        );
        assert!(clock.now_ms() < 10_000, "{}", clock.now_ms());
    }

    #[test]
    fn an_ended_job_without_a_stream_is_read_at_once_and_split_into_lines_as_a_stream_is() {
        let ray = FakeRay::default();
        ray.add("j", "FAILED");
        let (clock, listener) = (VirtualClock::default(), RecordingListener::default());
        assert!(
            follow(&ray, &clock, UNREACHABLE, StartLimit::default(), "j", 0, &listener)
                .expect("the end")
                .complete
        );
        let texts = texts(&listener);
        assert_eq!((texts.len(), texts[6].as_str(), texts[7].as_str()), (300, "line 7\r", "line 8"));
    }

    #[test]
    fn the_output_of_a_successful_job_is_not_lost_silently() {
        let clock = VirtualClock::default();
        for (status, expected) in [("SUCCEEDED", None), ("FAILED", Some(true))] {
            let ray = FakeRay::default();
            ray.add("j", status);
            ray.fail_logs(true);
            let followed = follow(
                &ray,
                &clock,
                UNREACHABLE,
                StartLimit::default(),
                "j",
                0,
                &RecordingListener::default(),
            );
            assert_eq!(followed.ok().map(|end| end.complete), expected, "{status}");
        }
    }

    #[test]
    fn a_job_that_is_pending_for_too_long_is_a_timeout() {
        let ray = FakeRay::default();
        ray.add("j", "PENDING");
        let (clock, listener) = (VirtualClock::default(), RecordingListener::default());
        let start = Patience { start_seconds: Some(30.0), ..Patience::default() }.start(&clock);
        let late = follow(&ray, &clock, UNREACHABLE, start, "j", 0, &listener);
        assert!(matches!(late, Err(Error::Timeout(30_000))), "{late:?}");
        assert!((30_000..33_000).contains(&clock.now_ms()), "{}", clock.now_ms());
    }

    #[test]
    fn follow_can_be_cancelled_and_gives_up_while_ray_is_unreachable() {
        let ray = FakeRay::default();
        ray.fail_reads(true);
        let listener = RecordingListener::default();
        listener.cancelled.set(true);
        let clock = VirtualClock::default();
        assert!(matches!(
            follow(&ray, &clock, UNREACHABLE, StartLimit::default(), "j", 0, &listener),
            Err(Error::Cancelled)
        ));
        listener.cancelled.set(false);
        let reached =
            follow(&ray, &clock, UNREACHABLE, StartLimit::default(), "j", 7, &listener).expect("a position");
        assert_eq!(reached, FollowResult { position: 7, complete: false });
        assert_eq!(clock.now_ms(), UNREACHABLE.patience_ms);
    }
}
