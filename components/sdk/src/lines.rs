//! Splits a job's output into lines.

/// Splits chunks of output into whole lines, as [`ProgressListener::output`] takes them.
///
/// [`ProgressListener::output`]: crate::progress::ProgressListener::output
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// The length in bytes at which a line is delivered in parts. A part has to fit into the component's
    /// memory and into one host call.
    pub const MAX_BYTES: usize = 8 << 20;

    /// Adds a chunk and returns the lines that it completes, without line terminators.
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
        // The last byte stays, so that a line terminator that arrives next ends this line instead of an
        // empty one. This also holds if the stream breaks here and resumes at the reached position.
        if self.partial.len() >= Self::MAX_BYTES
            && let Some(last) = self.partial.pop()
        {
            lines.push(std::mem::replace(&mut self.partial, vec![last]));
        }
        lines
    }

    /// Returns the number of bytes after the last line terminator. They are not delivered yet, so a stream
    /// that breaks resumes before them.
    #[must_use]
    pub const fn waiting(&self) -> u64 {
        self.partial.len() as u64
    }

    /// Returns the unterminated last line, or `None` if there is none.
    #[must_use]
    pub fn finish(self) -> Option<Vec<u8>> {
        (!self.partial.is_empty()).then_some(self.partial)
    }
}
