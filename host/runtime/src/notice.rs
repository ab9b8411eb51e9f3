//! What a call tells its caller while it goes on.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// A report of a call under way. As JSON, it is an object with a `kind`.
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
    /// How far the call has come.
    Progress {
        /// A sentence for a person.
        message: String,
    },
    /// Something structured.
    Event {
        /// What it is.
        event: String,
        /// Its JSON document.
        body: String,
    },
    /// Lines of a job's output.
    Output {
        /// `stdout` or `stderr`.
        channel: &'static str,
        /// Whole lines, each with its end. As JSON, bytes that are not UTF-8 are replaced.
        #[serde(serialize_with = "replaced")]
        text: Vec<u8>,
    },
}

impl Notice {
    /// What it costs of the room for reports: an empty line has its price, too.
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

/// A text without the characters that a terminal obeys: a component must not move the cursor of who
/// reads its log.
pub(crate) fn plain(text: String) -> String {
    let is_order = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(is_order) {
        return text;
    }
    text.replace(is_order, "\u{fffd}")
}

/// Bytes that a report costs beside its text.
const FRAME: usize = 16;
/// Bytes of output that may wait for a slow caller.
const OUTPUT_WAITING: usize = 4 << 20;
/// Notices that may wait for a slow caller. A component that reports more is held back.
const WAITING: usize = 256;

/// A notice that nobody has taken yet, with the room that it takes.
pub(crate) type Waiting = (Notice, Option<OwnedSemaphorePermit>);

/// Where a call's notices go, and how much room is left for them.
pub(crate) struct Reports {
    sender: mpsc::Sender<Waiting>,
    output: Arc<Semaphore>,
    room: usize,
    dropped: usize,
}

impl Reports {
    /// A channel with no room yet: a component's limits are known once it is loaded.
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Waiting>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender, output: Arc::new(Semaphore::new(OUTPUT_WAITING)), room: 0, dropped: 0 }, receiver)
    }

    pub(crate) fn with_room(mut self, bytes: usize) -> Self {
        self.room = bytes;
        self
    }

    /// The host's own word to the caller, which costs the component nothing.
    pub(crate) async fn warn(&self, message: String) {
        let _ = self.sender.send((Notice::Log { level: "warning", message }, None)).await;
    }

    /// Passes a notice on. What goes beyond the byte limit is dropped: a component must not fill
    /// its caller's log.
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
        // A caller that has gone away listens no more, which is no error of the component.
        let _ = self.sender.send((notice, None)).await;
    }

    /// Passes output on. However much there is, it arrives; the component is held back meanwhile.
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
    fn a_text_gives_a_terminal_no_orders() {
        assert_eq!(
            plain("a\u{1b}[2Jb\rc\u{9b}1m\u{7}\td\n".into()),
            "a\u{fffd}[2Jb\u{fffd}c\u{fffd}1m\u{fffd}\td\n"
        );
        assert_eq!(plain("Grüße, 世界".into()), "Grüße, 世界");
    }
}
