//! Runs the stages of a command, shows their progress, and prints a table of their times.
//!
//! Several threads may run stages at the same time. On a terminal a running stage is a progress bar,
//! elsewhere plain log lines. The output of a stage's programs goes to a log file, whose end is printed if
//! the stage fails.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::project::Project;

/// How many lines of a failed stage's log are printed.
const FAILURE_LINES: usize = 150;
/// How often a running stage prints a line if there is no terminal.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);
/// How many characters of an output line are printed if there is no terminal.
const LINE: usize = 80;
/// How long to wait for output after a program ended. A daemon that it started may keep the pipe open.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

enum Outcome {
    Passed,
    Failed,
    Skipped(String),
}

/// The stages of one command.
pub(crate) struct Stages {
    logs: PathBuf,
    verbose: bool,
    began: Instant,
    bars: MultiProgress,
    done: Mutex<Vec<(String, Outcome, Duration)>>,
}

impl Stages {
    /// Creates the folder of the logs. No stage has run yet.
    pub(crate) fn new(project: &Project, verbose: bool) -> Result<Self> {
        let logs = project.target().join("xtask");
        fs::create_dir_all(&logs).with_context(|| format!("{} could not be created", logs.display()))?;
        Ok(Self { logs, verbose, began: Instant::now(), bars: MultiProgress::new(), done: Mutex::default() })
    }

    /// Runs a stage. Returns whether it passed.
    pub(crate) fn run(&self, name: &str, work: impl FnOnce(&mut Stage) -> Result<()>) -> bool {
        self.output(name, work).is_some()
    }

    /// Runs a stage. Returns its result, or `None` if it failed.
    pub(crate) fn output<T>(&self, name: &str, work: impl FnOnce(&mut Stage) -> Result<T>) -> Option<T> {
        let began = Instant::now();
        let log = self.logs.join(format!("{}.log", name.replace(' ', "-")));
        let result = Stage::begin(name, &log, self.verbose, &self.bars).and_then(|mut stage| {
            let result = work(&mut stage);
            stage.end();
            result
        });
        let time = began.elapsed();
        let (outcome, value) = match result {
            Ok(value) => {
                self.print(&format!("  ok      {name} ({})", seconds(time)));
                (Outcome::Passed, Some(value))
            }
            Err(error) => {
                let mut report = format!("  FAILED  {name} ({})\n", seconds(time));
                if !self.verbose {
                    report.push_str(&last_lines(&log));
                }
                self.print(&format!("{report}{name}: {error:#}"));
                (Outcome::Failed, None)
            }
        };
        self.note(name, outcome, time);
        value
    }

    /// Prints text above the progress bars.
    fn print(&self, text: &str) {
        self.bars.suspend(|| eprintln!("{text}"));
    }

    fn note(&self, name: &str, outcome: Outcome, time: Duration) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.push((name.to_owned(), outcome, time));
    }

    /// Records that a stage did not run, with the reason.
    pub(crate) fn skip(&self, name: &str, reason: &str) {
        self.print(&format!("  skipped {name}: {reason}"));
        self.note(name, Outcome::Skipped(reason.to_owned()), Duration::ZERO);
    }

    /// Ends the progress display, for a command that continues with its own output.
    pub(crate) fn close(&self) {
        eprintln!("  ready   after {}\n", seconds(self.began.elapsed()));
    }

    /// Prints the table of stages. Returns whether no stage failed.
    pub(crate) fn finish(self) -> bool {
        let done = self.done.into_inner().unwrap_or_else(PoisonError::into_inner);
        let width = done.iter().map(|(name, _, _)| name.len()).max().unwrap_or(0);
        let mut failed = Vec::new();
        let mut passed = 0_usize;
        eprintln!();
        for (name, outcome, time) in &done {
            let word = match outcome {
                Outcome::Passed => {
                    passed += 1;
                    "passed".to_owned()
                }
                Outcome::Failed => {
                    failed.push(name.as_str());
                    "FAILED".to_owned()
                }
                Outcome::Skipped(reason) => format!("skipped: {reason}"),
            };
            eprintln!("  {name:<width$}  {:>9}  {word}", seconds(*time));
        }
        eprintln!("  {:<width$}  {:>9}", "total", seconds(self.began.elapsed()));
        if !failed.is_empty() {
            eprintln!("failed: {}", failed.join(", "));
        }
        eprintln!("{passed} passed, {} failed", failed.len());
        failed.is_empty()
    }
}

/// A running stage.
pub(crate) struct Stage {
    name: String,
    bar: Option<ProgressBar>,
    log: File,
    verbose: bool,
    last_progress: Instant,
    began: Instant,
}

impl Stage {
    fn begin(name: &str, log: &Path, verbose: bool, bars: &MultiProgress) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("{} could not be written", log.display()))?;
        let bar = if !verbose && std::io::stderr().is_terminal() {
            let bar = bars.add(ProgressBar::new_spinner());
            bar.set_style(ProgressStyle::with_template("  {spinner} {prefix} [{elapsed}] {wide_msg:.dim}")?);
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            Some(bar)
        } else {
            eprintln!("  begin   {name}");
            None
        };
        Ok(Self {
            name: name.to_owned(),
            bar,
            log: file,
            verbose,
            last_progress: Instant::now(),
            began: Instant::now(),
        })
    }

    fn end(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Writes a line to the stage's log and shows it as progress.
    pub(crate) fn note(&mut self, text: &str) -> Result<()> {
        writeln!(self.log, "{text}").context("the stage's log could not be written")?;
        if let Some(bar) = &self.bar {
            bar.set_message(text.trim().to_owned());
        } else if self.verbose {
            eprintln!("          {text}");
        } else if self.last_progress.elapsed() >= PROGRESS_INTERVAL {
            self.last_progress = Instant::now();
            let short: String = text.trim().chars().take(LINE).collect();
            eprintln!("  still   {} ({}): {short}", self.name, seconds(self.began.elapsed()));
        }
        Ok(())
    }

    /// Runs a program until it ends. Fails if the program fails.
    pub(crate) fn execute(&mut self, command: &mut Command) -> Result<()> {
        let shown = command_line(command);
        self.note(&format!("$ {shown}"))?;
        let (reader, writer) = std::io::pipe().context("no pipe could be made")?;
        command
            .stdin(std::process::Stdio::null())
            .stdout(writer.try_clone().context("no pipe could be made")?)
            .stderr(writer);
        let mut child =
            command.spawn().with_context(|| format!("{} could not be started", program_name(command)))?;
        // The command holds the writing ends of the pipe. The reader sees the end of the output only
        // after they are closed.
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());

        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).split(b'\n') {
                let Ok(line) = line else { break };
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(text).is_err() {
                    break;
                }
            }
        });
        let mut ended: Option<Instant> = None;
        loop {
            match lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => self.note(&line)?,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            if ended.is_none() && child.try_wait()?.is_some() {
                ended = Some(Instant::now());
            }
            if ended.is_some_and(|moment| moment.elapsed() > LAST_OUTPUT) {
                break;
            }
        }
        let status = child.wait()?;
        if !status.success() {
            bail!("`{shown}` failed: {status}");
        }
        Ok(())
    }
}

fn program_name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    std::iter::once(program)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns the last lines of a stage's log, indented.
fn last_lines(log: &Path) -> String {
    let Ok(bytes) = fs::read(log) else {
        return String::new();
    };
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let left_out = lines.len().saturating_sub(FAILURE_LINES);
    let mut end = String::new();
    if left_out > 0 {
        end.push_str(&format!("    (the {left_out} lines before are in {})\n", log.display()));
    }
    for line in &lines[left_out..] {
        end.push_str(&format!("    {line}\n"));
    }
    end
}

fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    if whole >= 60 {
        format!("{} m {:02} s", whole / 60, whole % 60)
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}
