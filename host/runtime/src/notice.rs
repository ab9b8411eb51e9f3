//! Reports of a call in progress to its caller.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// A report of a call in progress. It serializes to a JSON object with a `kind`.
#[derive(Debug, Clone, Serialize, PartialEq)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Notice {
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

impl Notice {
    /// Returns how many bytes the report counts against the limit `log_kib`. Output is not limited.
    fn size(&self) -> usize {
        match self {
            Self::Log { message, .. } | Self::Progress { message } => FRAME + message.len(),
            Self::Event { event, body } => FRAME + event.len() + body.len(),
            Self::Output { .. } => 0,
        }
    }
}

fn replaced<S: Serializer>(text: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(text))
}

/// Replaces control characters except line feed and tab, so that a component cannot control the
/// terminal of a user who reads its log.
pub(crate) fn plain(text: String) -> String {
    let is_control = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(is_control) {
        return text;
    }
    text.replace(is_control, "\u{fffd}")
}

/// Bytes that each report counts in addition to its text, so that empty lines are limited too.
const FRAME: usize = 16;
/// Bytes of output that may be queued for a slow caller.
const OUTPUT_WAITING: usize = 4 << 20;
/// Reports that may be queued for a slow caller. A component that reports more is blocked.
const WAITING: usize = 256;

/// A queued report, with its share of the output limit.
pub(crate) type Waiting = (Notice, Option<OwnedSemaphorePermit>);

/// Sends a call's reports to the caller, within limits.
pub(crate) struct Reports {
    sender: mpsc::Sender<Waiting>,
    output: Arc<Semaphore>,
    room: usize,
    dropped: usize,
}

impl Reports {
    /// Creates a channel whose limit is 0. The component's limit is known once it is loaded; see
    /// [`Reports::with_room`].
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Waiting>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender, output: Arc::new(Semaphore::new(OUTPUT_WAITING)), room: 0, dropped: 0 }, receiver)
    }

    pub(crate) fn with_room(mut self, bytes: usize) -> Self {
        self.room = bytes;
        self
    }

    /// Sends a warning of the host, which does not count against the component's limit.
    pub(crate) async fn warn(&self, message: String) {
        let _ = self.sender.send((Notice::Log { level: "warning", message }, None)).await;
    }

    /// Sends a report. Reports beyond the limit are dropped, so that a component cannot flood the
    /// caller's log.
    pub(crate) async fn send(&mut self, notice: Notice) {
        let size = notice.size();
        if size > self.room {
            self.dropped += 1;
            if self.dropped == 1 {
                self.warn(
                    "the component reports more than its limit `log_kib` allows; the rest is dropped".into(),
                )
                .await;
            }
            return;
        }
        self.room -= size;
        let notice = match notice {
            Notice::Log { level, message } => Notice::Log { level, message: plain(message) },
            Notice::Progress { message } => Notice::Progress { message: plain(message) },
            other => other,
        };
        // A caller that has dropped the call is not an error of the component.
        let _ = self.sender.send((notice, None)).await;
    }

    /// Sends output. Nothing is dropped: the component is blocked while the caller is behind.
    pub(crate) async fn output(&mut self, channel: &'static str, text: Vec<u8>) {
        let room = u32::try_from(text.len().min(OUTPUT_WAITING)).unwrap_or(u32::MAX);
        let permit = self.output.clone().acquire_many_owned(room).await.ok();
        let _ = self.sender.send((Notice::Output { channel, text }, permit)).await;
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
