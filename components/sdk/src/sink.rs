//! The caller's ear, behind a trait.

use crate::bindings::sink;

pub use crate::bindings::sink::{Channel, Level};

/// Where a long call reports what it sees.
pub trait Listener {
    /// Reports how far the call has come, in a sentence.
    fn progress(&self, message: &str);

    /// Passes a log line on to Dagster's log of the run.
    fn log(&self, level: Level, message: &str);

    /// Reports something structured, as JSON.
    fn event(&self, kind: &str, body: &str);

    /// Passes on whole lines of a job's output, without their line ends.
    fn output(&self, channel: Channel, lines: &[Vec<u8>]);

    /// Whether the caller has given up.
    fn cancelled(&self) -> bool;
}

impl Listener for sink::Listener {
    fn progress(&self, message: &str) {
        sink::Listener::progress(self, message);
    }

    fn log(&self, level: Level, message: &str) {
        sink::Listener::log(self, level, message);
    }

    fn event(&self, kind: &str, body: &str) {
        sink::Listener::event(self, kind, body);
    }

    fn output(&self, channel: Channel, lines: &[Vec<u8>]) {
        sink::Listener::output(self, channel, lines);
    }

    fn cancelled(&self) -> bool {
        sink::Listener::cancelled(self)
    }
}
