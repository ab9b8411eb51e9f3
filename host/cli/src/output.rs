//! The output of a command: the result on standard output, everything else on standard error.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use dagster_ray_runtime::plain;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// The style of a heading.
pub(crate) const HEADING: Style = Style::new().bold();
/// The style of secondary text.
pub(crate) const FAINT: Style = Style::new().dimmed();
/// The style of a success.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// The style of a warning.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default();
/// The style of an error.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();

/// The output of a command. Colors appear only on a terminal, and not with `NO_COLOR`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Whether the result is printed as JSON.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints one of several results as a JSON document on its own line.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(crate) fn line(self, document: &impl Serialize) -> anyhow::Result<()> {
        let mut out = anstream::stdout().lock();
        writeln!(out, "{}", escaped(&serde_json::to_string(document)?))?;
        out.flush()?;
        Ok(())
    }

    /// Prints the result, as one JSON document with `--json` and otherwise as `text` writes it.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(crate) fn result(
        self,
        document: &impl Serialize,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        let mut out = anstream::stdout().lock();
        if self.json {
            writeln!(out, "{}", escaped(&serde_json::to_string_pretty(document)?))?;
        } else {
            text(&mut out)?;
        }
        out.flush()?;
        Ok(())
    }

    /// Prints a line on standard error, except with `--quiet`.
    pub(crate) fn note(self, line: impl std::fmt::Display) {
        if !self.quiet {
            self.log(line);
        }
    }

    /// Prints a line on standard error, also with `--quiet`.
    pub(crate) fn log(self, line: impl std::fmt::Display) {
        // A closed standard error cannot be reported.
        let _ = writeln!(anstream::stderr(), "{line}");
    }

    /// Prints a warning on standard error, except with `--quiet`.
    pub(crate) fn warn(self, line: impl std::fmt::Display) {
        self.note(format_args!("{WARNING}warning{WARNING:#}: {line}"));
    }

    /// Prints an error with all its causes on standard error.
    pub(crate) fn error(self, error: &anyhow::Error) {
        // The text can come from a component, its manifest or a server.
        self.log(format_args!("{BAD}error{BAD:#}: {}", plain(chain(error))));
    }

    /// Shows a spinner on standard error, only on a terminal and not with `--quiet`.
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

/// A spinner, which disappears when it is dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Sets the spinner's message.
    pub(crate) fn set(&self, what: impl Into<String>) {
        self.0.set_message(what.into());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Escapes the control characters that `serde_json` leaves in strings: U+007F to U+009F, which a terminal
/// obeys. The JSON document stays the same.
pub(crate) fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() && c != '\n' {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}

/// Joins an error's causes, without those that earlier ones already contain.
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

/// Formats rows under headings, in columns as wide as their content.
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

/// Formats a size with a binary unit.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// Returns the first 12 digits of a digest.
pub(crate) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
