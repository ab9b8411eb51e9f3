//! The host's log lines, in Python's `logging` under the logger `dagster_ray`.
//!
//! A line can come from any thread: one of the host's, one that holds the interpreter, or one that
//! holds a lock which the holder of the interpreter waits for. So the thread that logs never waits for
//! the interpreter. It puts the line into a queue of limited length, and one thread of this module
//! attaches to the interpreter and passes the lines on. Callers wait for a moment until the lines of
//! their call have been passed on.
//!
//! Lines that no Python logger wants never reach the queue: the least level that one wants is kept,
//! and read again at each call of a component.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use dagster_ray_cli::log::{Level, Line, Logger, Sink, install};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};

/// The logger that all others are children of.
const ROOT: &str = "dagster_ray";
/// Lines that may wait. Further ones are dropped, and their number is logged.
const WAITING: usize = 256;
/// How long a call waits for its lines to be passed on. A handler may be slow, or wait for the caller.
const CALL_WAITS: Duration = Duration::from_millis(50);
/// The same at the end of the process.
const EXIT_WAITS: Duration = Duration::from_secs(1);
/// How long the levels of child loggers are believed.
const LEVELS_HOLD: Duration = Duration::from_secs(1);

/// The least level that a Python logger wants, in Python's numbers.
static LEAST: AtomicI32 = AtomicI32::new(i32::MAX);
static QUEUE: Queue = Queue {
    state: Mutex::new(State {
        lines: VecDeque::new(),
        dropped: 0,
        is_passing_on: false,
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
    /// Whether lines have been taken out that have not reached their loggers yet.
    is_passing_on: bool,
    /// The process and the thread that pass lines on. A forked process has no such thread.
    consumer: Option<(u32, ThreadId)>,
    is_closed: bool,
}

/// The number of a level in Python.
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
        number(level) >= LEAST.load(Ordering::Relaxed)
    }

    fn write(&self, line: Line) {
        QUEUE.push(line);
    }
}

impl Queue {
    /// The state. It is held for moments only, and never while waiting for the interpreter.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&'static self, line: Line) {
        let mut state = self.lock();
        if state.is_closed {
            return;
        }
        if state.lines.len() >= WAITING {
            state.dropped += 1;
            return;
        }
        let process = std::process::id();
        if state.consumer.is_none_or(|(of, _)| of != process) {
            // What waits was logged by the parent process, which passes it on itself.
            state.lines.clear();
            state.is_passing_on = false;
            let consumer = std::thread::Builder::new().name("dagster-ray-log".into());
            let Ok(thread) = consumer.spawn(|| self.pass_on()) else { return };
            state.consumer = Some((process, thread.thread().id()));
        }
        state.lines.push_back(line);
        drop(state);
        self.changed.notify_all();
    }

    /// Passes lines on until the queue is closed.
    fn pass_on(&self) {
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
                state.is_passing_on = true;
                (std::mem::take(&mut state.lines), std::mem::take(&mut state.dropped))
            };
            let attached = Python::try_attach(|py| {
                for line in lines {
                    report(py, pass(py, &line));
                }
                if dropped > 0 {
                    report(py, pass(py, &of_dropped(dropped)));
                }
            });
            let mut state = self.lock();
            state.is_passing_on = false;
            // Without an interpreter there is no logger.
            state.is_closed |= attached.is_none();
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits until every line has been passed on, or so long.
    fn wait(&self, py: Python<'_>, most: Duration) {
        let is_pending = |state: &mut State| {
            let is_own =
                |(process, thread)| process == std::process::id() && thread != std::thread::current().id();
            !state.is_closed
                && (state.is_passing_on || !state.lines.is_empty())
                && state.consumer.is_some_and(is_own)
        };
        if is_pending(&mut self.lock()) {
            py.detach(|| drop(self.changed.wait_timeout_while(self.lock(), most, is_pending)));
        }
    }
}

fn of_dropped(count: usize) -> Line {
    Line {
        level: Level::Warning,
        logger: ROOT.into(),
        text: format!("{count} log lines were dropped, because the handlers of Python's logging are slow"),
        source: None,
    }
}

/// Gives a line to its Python logger, if that wants it.
fn pass(py: Python<'_>, line: &Line) -> PyResult<()> {
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

/// Logs a component's line at once, where the caller holds the interpreter anyway.
pub(crate) fn write(py: Python<'_>, level: &str, text: String) -> PyResult<()> {
    let level = match level {
        "error" => Level::Error,
        "warning" => Level::Warning,
        "debug" => Level::Debug,
        _ => Level::Info,
    };
    pass(py, &Line { level, logger: ROOT.into(), text, source: None })
}

/// Reports an exception of a logger or a handler as Python does where no caller can receive it.
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

/// Sends the host's log lines to Python from now on, with the levels that its loggers have now.
pub(crate) fn refresh(py: Python<'_>) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // Where the command `dagster-ray` runs, its lines go to standard error and stay there.
        install(ToPython);
    });
    match least(py) {
        Ok(least) => LEAST.store(least, Ordering::Relaxed),
        Err(error) => error.write_unraisable(py, None),
    }
}

/// The least level that the logger `dagster_ray`, or one below it, wants.
fn least(py: Python<'_>) -> PyResult<i32> {
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
        Some((read, least)) if read.elapsed() < LEVELS_HOLD => least,
        _ => {
            let least = children(&manager)?;
            *CHILDREN.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), least));
            least
        }
    };
    Ok(own.min(children).max(disabled.saturating_add(1)))
}

/// The least level that is set on a logger below `dagster_ray`.
fn children(manager: &Bound<'_, PyAny>) -> PyResult<i32> {
    let mut least = i32::MAX;
    // A copy, because another thread may make a logger meanwhile.
    let loggers = manager.getattr("loggerDict")?.cast_into::<PyDict>()?.copy()?;
    for (name, logger) in loggers {
        let name = name.cast_into::<PyString>()?;
        let is_child = name.to_str()?.strip_prefix(ROOT).is_some_and(|rest| rest.starts_with('.'));
        // What only stands for a logger between has no level.
        if is_child && let Ok(level) = logger.getattr("level") {
            match level.extract()? {
                0 => {}
                level => least = least.min(level),
            }
        }
    }
    Ok(least)
}

/// Waits for a moment until the lines that have been logged so far are passed on.
pub(crate) fn flush(py: Python<'_>) {
    QUEUE.wait(py, CALL_WAITS);
}

/// Passes on what waits, and drops every later line. Python calls it when the process ends.
#[pyfunction]
pub(crate) fn close_log(py: Python<'_>) {
    QUEUE.wait(py, EXIT_WAITS);
    QUEUE.lock().is_closed = true;
    QUEUE.changed.notify_all();
}

/// Has Python call [`close_log`] when the process ends, after all that is registered later.
pub(crate) fn close_at_exit(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let close = module.getattr("close_log")?;
    module.py().import("atexit")?.call_method1("register", (close,))?;
    Ok(())
}
