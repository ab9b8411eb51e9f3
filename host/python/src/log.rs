//! Forwards the host's log lines to Python's `logging`, under the logger `dagster_ray`.
//!
//! Any thread can log, also one that holds a lock for which the holder of the interpreter waits. So a
//! logging thread must not wait for the interpreter. It adds the line to a bounded queue, and one thread
//! attaches to the interpreter and forwards the lines. A call waits briefly until its lines are forwarded.
//!
//! Lines below the lowest level that is enabled in Python are not queued. That level is read again at
//! each call of a component.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use dagster_ray_cli::log::{Level, Line, Logger, Sink, install};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};

/// The name of the parent logger.
const ROOT: &str = "dagster_ray";
/// The capacity of the queue. Further lines are dropped, and their number is logged.
const CAPACITY: usize = 256;
/// How long a call waits for its lines. A handler may be slow, or wait for the caller.
const CALL_WAITS: Duration = Duration::from_millis(50);
/// How long the end of the process waits for queued lines.
const EXIT_WAITS: Duration = Duration::from_secs(1);
/// How long the levels of child loggers are cached.
const LEVELS_HOLD: Duration = Duration::from_secs(1);

/// The lowest level that is enabled on a Python logger, as Python's number.
static LOWEST_LEVEL: AtomicI32 = AtomicI32::new(i32::MAX);
static QUEUE: Queue = Queue {
    state: Mutex::new(State {
        lines: VecDeque::new(),
        dropped: 0,
        is_forwarding: false,
        consumer: None,
        is_closed: false,
    }),
    changed: Condvar::new(),
};

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    lines: VecDeque<Line>,
    dropped: usize,
    /// Whether lines that were taken from the queue have not reached their loggers yet.
    is_forwarding: bool,
    /// The process and thread that forward lines. A forked process has no such thread.
    consumer: Option<(u32, ThreadId)>,
    is_closed: bool,
}

/// Returns Python's number of a level.
fn number(level: Level) -> i32 {
    match level {
        Level::Trace => 5,
        Level::Debug => 10,
        Level::Info => 20,
        Level::Warning => 30,
        Level::Error => 40,
    }
}

struct ToPython;

impl Sink for ToPython {
    fn is_enabled(&self, level: Level, _: Logger<'_>) -> bool {
        number(level) >= LOWEST_LEVEL.load(Ordering::Relaxed)
    }

    fn write(&self, line: Line) {
        QUEUE.push(line);
    }
}

impl Queue {
    /// Locks the state. A thread must not wait for the interpreter while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&'static self, line: Line) {
        let mut state = self.lock();
        if state.is_closed {
            return;
        }
        if state.lines.len() >= CAPACITY {
            state.dropped += 1;
            return;
        }
        let process = std::process::id();
        if state.consumer.is_none_or(|(pid, _)| pid != process) {
            // The parent process logged the queued lines and forwards them itself.
            state.lines.clear();
            state.is_forwarding = false;
            let consumer = std::thread::Builder::new().name("dagster-ray-log".into());
            let Ok(thread) = consumer.spawn(|| self.forward_all()) else { return };
            state.consumer = Some((process, thread.thread().id()));
        }
        state.lines.push_back(line);
        drop(state);
        self.changed.notify_all();
    }

    /// Forwards lines until the queue is closed.
    fn forward_all(&self) {
        loop {
            let (lines, dropped) = {
                let state = self.lock();
                let idle = |state: &mut State| state.lines.is_empty() && !state.is_closed;
                let mut state = self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
                if state.is_closed {
                    state.lines.clear();
                    drop(state);
                    self.changed.notify_all();
                    return;
                }
                state.is_forwarding = true;
                (std::mem::take(&mut state.lines), std::mem::take(&mut state.dropped))
            };
            let attached = Python::try_attach(|py| {
                for line in lines {
                    report(py, forward(py, &line));
                }
                if dropped > 0 {
                    report(py, forward(py, &dropped_lines(dropped)));
                }
            });
            let mut state = self.lock();
            state.is_forwarding = false;
            // The interpreter has ended, and with it the loggers.
            state.is_closed |= attached.is_none();
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits at most `timeout` until all lines are forwarded.
    fn wait(&self, py: Python<'_>, timeout: Duration) {
        let is_pending = |state: &mut State| {
            let is_own =
                |(process, thread)| process == std::process::id() && thread != std::thread::current().id();
            !state.is_closed
                && (state.is_forwarding || !state.lines.is_empty())
                && state.consumer.is_some_and(is_own)
        };
        if is_pending(&mut self.lock()) {
            py.detach(|| drop(self.changed.wait_timeout_while(self.lock(), timeout, is_pending)));
        }
    }
}

fn dropped_lines(count: usize) -> Line {
    Line {
        level: Level::Warning,
        logger: ROOT.into(),
        text: format!("{count} log lines were dropped, because the handlers of Python's logging are slow"),
        source: None,
    }
}

/// Forwards a line to its Python logger if the level is enabled.
fn forward(py: Python<'_>, line: &Line) -> PyResult<()> {
    let logger = logging(py)?.call_method1("getLogger", (&line.logger,))?;
    let level = number(line.level);
    if !logger.call_method1("isEnabledFor", (level,))?.is_truthy()? {
        return Ok(());
    }
    let (file, number) = line.source.unwrap_or(("(unknown file)", 0));
    let record = logger.call_method1(
        "makeRecord",
        (&line.logger, level, file, number, &line.text, PyTuple::empty(py), py.None()),
    )?;
    logger.call_method1("handle", (record,))?;
    Ok(())
}

/// Logs a component's line directly. The caller holds the interpreter.
pub(crate) fn write(py: Python<'_>, level: &str, text: String) -> PyResult<()> {
    let level = match level {
        "error" => Level::Error,
        "warning" => Level::Warning,
        "debug" => Level::Debug,
        _ => Level::Info,
    };
    forward(py, &Line { level, logger: ROOT.into(), text, source: None })
}

/// Reports an exception of a logger or handler as unraisable, because no caller can receive it.
fn report(py: Python<'_>, outcome: PyResult<()>) {
    if let Err(error) = outcome {
        error.write_unraisable(py, None);
    }
}

fn logging(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static LOGGING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let logging = LOGGING.get_or_try_init(py, || Ok::<_, PyErr>(py.import("logging")?.into_any().unbind()));
    Ok(logging?.bind(py))
}

/// Installs the log sink on first use, and reads the levels of the Python loggers.
pub(crate) fn refresh(py: Python<'_>) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // This has no effect in the command `dagster-ray`, whose lines go to standard error.
        install(ToPython);
    });
    match lowest_level(py) {
        Ok(level) => LOWEST_LEVEL.store(level, Ordering::Relaxed),
        Err(error) => error.write_unraisable(py, None),
    }
}

/// Returns the lowest level that is enabled on the logger `dagster_ray` or its children.
fn lowest_level(py: Python<'_>) -> PyResult<i32> {
    static ROOT_LOGGER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static CHILDREN: Mutex<Option<(Instant, i32)>> = Mutex::new(None);
    let root = ROOT_LOGGER
        .get_or_try_init(py, || Ok::<_, PyErr>(logging(py)?.call_method1("getLogger", (ROOT,))?.unbind()))?;
    let root = root.bind(py);
    let manager = root.getattr("manager")?;
    let own: i32 = root.call_method0("getEffectiveLevel")?.extract()?;
    let disabled: i32 = manager.getattr("disable")?.extract()?;
    let known = *CHILDREN.lock().unwrap_or_else(PoisonError::into_inner);
    let children = match known {
        Some((read, level)) if read.elapsed() < LEVELS_HOLD => level,
        _ => {
            let level = lowest_child_level(&manager)?;
            *CHILDREN.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), level));
            level
        }
    };
    Ok(own.min(children).max(disabled.saturating_add(1)))
}

/// Returns the lowest level that is set on a child of the logger `dagster_ray`.
fn lowest_child_level(manager: &Bound<'_, PyAny>) -> PyResult<i32> {
    let mut lowest = i32::MAX;
    // Copy the dictionary, because another thread may add a logger.
    let loggers = manager.getattr("loggerDict")?.cast_into::<PyDict>()?.copy()?;
    for (name, logger) in loggers {
        let name = name.cast_into::<PyString>()?;
        let is_child = name.to_str()?.strip_prefix(ROOT).is_some_and(|rest| rest.starts_with('.'));
        // A `PlaceHolder` has no level.
        if is_child && let Ok(level) = logger.getattr("level") {
            match level.extract()? {
                0 => {}
                level => lowest = lowest.min(level),
            }
        }
    }
    Ok(lowest)
}

/// Waits briefly until the lines that have been logged so far are forwarded.
pub(crate) fn flush(py: Python<'_>) {
    QUEUE.wait(py, CALL_WAITS);
}

/// Forwards the queued lines, and drops all later ones. Python calls it when the process ends.
#[pyfunction]
pub(crate) fn close_log(py: Python<'_>) {
    QUEUE.wait(py, EXIT_WAITS);
    QUEUE.lock().is_closed = true;
    QUEUE.changed.notify_all();
}

/// Registers [`close_log`] with `atexit`, which calls it after all functions that are registered later.
pub(crate) fn close_at_exit(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let close = module.getattr("close_log")?;
    module.py().import("atexit")?.call_method1("register", (close,))?;
    Ok(())
}
