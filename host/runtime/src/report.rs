//! Reports of a call in progress to its caller.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Serialize, Serializer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// A report of a call in progress. It serializes to a JSON object with a `kind`.
#[derive(Debug, Clone, Serialize, PartialEq)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Report {
    /// A log line.
    Log {
        /// `debug`, `info`, `warning` or `error`.
        level: &'static str,
        /// The line.
        message: String,
    },
    /// Progress of the call.
    Progress {
        /// A sentence for the user.
        message: String,
    },
    /// A structured event.
    Event {
        /// The event's kind.
        event: String,
        /// The event's JSON document.
        body: String,
    },
    /// Lines of a job's output.
    Output {
        /// `stdout` or `stderr`.
        channel: &'static str,
        /// Whole lines with their line ends. In JSON, invalid UTF-8 is replaced.
        #[serde(serialize_with = "replaced")]
        text: Vec<u8>,
    },
}

impl Report {
    /// Returns how many bytes the report counts against the limit `log_kib`. Output is not limited.
    fn size(&self) -> usize {
        match self {
            Self::Log { message, .. } | Self::Progress { message } => REPORT_OVERHEAD + message.len(),
            Self::Event { event, body } => REPORT_OVERHEAD + event.len() + body.len(),
            Self::Output { .. } => 0,
        }
    }
}

fn replaced<S: Serializer>(text: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(text))
}

/// Replaces control characters except line feed and tab, so that a component cannot control the
/// terminal of a user who reads its text.
pub fn plain(text: String) -> String {
    let is_control = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(is_control) {
        return text;
    }
    text.replace(is_control, "\u{fffd}")
}

/// Bytes that each report counts in addition to its text, so that empty lines are limited too.
const REPORT_OVERHEAD: usize = 16;
/// Bytes of output that may be queued for a slow caller.
const QUEUED_OUTPUT_BYTES: usize = 4 << 20;
/// Reports that may be queued for a slow caller. A component that reports more is blocked.
const QUEUED_REPORTS: usize = 256;

/// A queued report, with its share of the output limit.
pub(crate) type QueuedReport = (Report, Option<OwnedSemaphorePermit>);

/// Sends a call's reports to the caller, within limits. Clones share the limits.
#[derive(Clone)]
pub(crate) struct ReportSender {
    sender: mpsc::Sender<QueuedReport>,
    output: Arc<Semaphore>,
    budget: Arc<Mutex<Budget>>,
}

/// What is left of the limit `log_kib`.
#[derive(Default)]
struct Budget {
    /// In bytes.
    left: usize,
    has_dropped: bool,
}

/// What happens to a report.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Sent,
    FirstDropped,
    Dropped,
}

impl Budget {
    fn take(&mut self, size: usize) -> Admission {
        match self.left.checked_sub(size) {
            Some(left) => {
                self.left = left;
                Admission::Sent
            }
            None if std::mem::replace(&mut self.has_dropped, true) => Admission::Dropped,
            None => Admission::FirstDropped,
        }
    }
}

impl ReportSender {
    /// Creates a channel whose limit is 0. The component's limit is known once it is loaded; see
    /// [`ReportSender::with_limit`].
    pub(crate) fn channel() -> (Self, mpsc::Receiver<QueuedReport>) {
        let (sender, receiver) = mpsc::channel(QUEUED_REPORTS);
        let output = Arc::new(Semaphore::new(QUEUED_OUTPUT_BYTES));
        (Self { sender, output, budget: Arc::default() }, receiver)
    }

    /// Returns a sender to the same caller, with a limit in bytes.
    pub(crate) fn with_limit(self, bytes: usize) -> Self {
        let budget = Budget { left: bytes, has_dropped: false };
        Self { budget: Arc::new(Mutex::new(budget)), ..self }
    }

    /// Sends a warning of the host, which does not count against the component's limit.
    pub(crate) async fn warn(&self, message: String) {
        let _ = self.sender.send((Report::Log { level: "warning", message }, None)).await;
    }

    /// Sends a report. Reports beyond the limit are dropped, so that a component cannot flood the
    /// caller's log.
    pub(crate) async fn send(&self, report: Report) {
        let admission = self.budget.lock().unwrap_or_else(PoisonError::into_inner).take(report.size());
        match admission {
            Admission::Sent => {}
            Admission::FirstDropped => {
                let text = "the component reports more than its limit `log_kib` allows; the rest is dropped";
                return self.warn(text.into()).await;
            }
            Admission::Dropped => return,
        }
        let report = match report {
            Report::Log { level, message } => Report::Log { level, message: plain(message) },
            Report::Progress { message } => Report::Progress { message: plain(message) },
            other => other,
        };
        // A caller that has dropped the call is not an error of the component.
        let _ = self.sender.send((report, None)).await;
    }

    /// Sends output. Nothing is dropped: the component is blocked while the caller is behind.
    pub(crate) async fn output(&self, channel: &'static str, text: Vec<u8>) {
        let permits = u32::try_from(text.len().min(QUEUED_OUTPUT_BYTES)).unwrap_or(u32::MAX);
        let permit = self.output.clone().acquire_many_owned(permits).await.ok();
        let _ = self.sender.send((Report::Output { channel, text }, permit)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(
            plain("a\u{1b}[2Jb\rc\u{9b}1m\u{7}\td\n".into()),
            "a\u{fffd}[2Jb\u{fffd}c\u{fffd}1m\u{fffd}\td\n"
        );
        assert_eq!(plain("Grüße, 世界".into()), "Grüße, 世界");
    }
}
