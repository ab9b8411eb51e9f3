//! The output of a command: its result on standard output, everything else on standard error.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// The style of a heading.
pub(crate) const HEADING: Style = Style::new().bold();
/// The style of what is less important.
pub(crate) const FAINT: Style = Style::new().dimmed();
/// The style of what went well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// The style of a warning.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default();
/// The style of an error.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();

/// Where a command's words go. Colour appears on a terminal only, and not with `NO_COLOR`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Whether JSON is wanted.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// One of many results of a command that goes on: a JSON document on a line of its own.
    ///
    /// # Errors
    /// Where standard output cannot be written.
    pub(crate) fn line(self, document: &impl Serialize) -> anyhow::Result<()> {
        let mut out = anstream::stdout().lock();
        serde_json::to_writer(&mut out, document)?;
        writeln!(out)?;
        out.flush()?;
        Ok(())
    }

    /// The result: as one JSON document where that was asked for, else as `text` writes it.
    ///
    /// # Errors
    /// Where standard output cannot be written.
    pub(crate) fn result(
        self,
        document: &impl Serialize,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        let mut out = anstream::stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut out, document)?;
            writeln!(out)?;
        } else {
            text(&mut out)?;
        }
        out.flush()?;
        Ok(())
    }

    /// A line for a person, on standard error. Not with `--quiet`.
    pub(crate) fn note(self, line: impl std::fmt::Display) {
        if !self.quiet {
            self.log(line);
        }
    }

    /// A line on standard error, with `--quiet` too.
    pub(crate) fn log(self, line: impl std::fmt::Display) {
        // Where standard error is closed, there is no other way to say so.
        let _ = writeln!(anstream::stderr(), "{line}");
    }

    /// A warning, on standard error. Not with `--quiet`.
    pub(crate) fn warn(self, line: impl std::fmt::Display) {
        self.note(format_args!("{WARNING}warning{WARNING:#}: {line}"));
    }

    /// An error with all its causes, on standard error.
    pub(crate) fn error(self, error: &anyhow::Error) {
        self.log(format_args!("{BAD}error{BAD:#}: {}", chain(error)));
    }

    /// A spinner on standard error while something lasts; on a terminal only, and not with `--quiet`.
    pub(crate) fn progress(self, what: impl Into<String>) -> Progress {
        if self.quiet || !io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
        let bar = ProgressBar::new_spinner()
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
            .with_message(what.into());
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress(bar)
    }
}

/// A spinner. It disappears when this is dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Says what goes on now.
    pub(crate) fn set(&self, what: impl Into<String>) {
        self.0.set_message(what.into());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Causes that repeat what stands before them are left out.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Rows under headings, in columns as wide as their content.
pub(crate) fn table<const N: usize>(
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let rows: Vec<_> = std::iter::once(headings.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A size for a person.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// A digest for a person: its beginning.
pub(crate) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
