//! The progress listener of a call, behind a trait.

use crate::{bindings::reports, debug};

pub use crate::bindings::reports::{Channel, Level};

/// Receives progress, log lines, events and job output during one call.
pub trait ProgressListener {
    /// Reports the progress of the call, in a sentence for a person.
    fn progress(&self, message: &str);

    /// Forwards a log line to Dagster's log of the run.
    fn log(&self, level: Level, message: &str);

    /// Reports a structured event. `body` is JSON.
    fn event(&self, kind: &str, body: &str);

    /// Forwards whole lines of a job's output, without line terminators.
    fn output(&self, channel: Channel, lines: &[Vec<u8>]);

    /// Returns whether the caller has canceled the call.
    fn cancelled(&self) -> bool;
}

impl ProgressListener for reports::Listener {
    fn progress(&self, message: &str) {
        reports::Listener::progress(self, message);
    }

    fn log(&self, level: Level, message: &str) {
        reports::Listener::log(self, level, message);
    }

    fn event(&self, kind: &str, body: &str) {
        reports::Listener::event(self, kind, body);
    }

    fn output(&self, channel: Channel, lines: &[Vec<u8>]) {
        reports::Listener::output(self, channel, lines);
    }

    fn cancelled(&self) -> bool {
        reports::Listener::cancelled(self)
    }
}

/// A listener that writes to the debug log, for calls that get no listener from their caller.
#[derive(Clone, Copy, Debug, Default)]
pub struct DebugLog;

impl ProgressListener for DebugLog {
    fn progress(&self, message: &str) {
        debug!("{message}");
    }

    fn log(&self, _level: Level, message: &str) {
        debug!("{message}");
    }

    fn event(&self, _kind: &str, _body: &str) {}

    fn output(&self, _channel: Channel, _lines: &[Vec<u8>]) {}

    fn cancelled(&self) -> bool {
        false
    }
}
