//! The host's own log lines: from `tracing` to a sink, such as standard error or Python's `logging`.
//!
//! Only events of this project's crates are passed on. What a component logs is not among them: the
//! caller of the component receives those lines as reports.

use std::fmt::{Debug, Write};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

/// How important a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Details of the smallest steps.
    Trace,
    /// Details for whoever looks for a mistake.
    Debug,
    /// What happens.
    Info,
    /// What an operator should change.
    Warning,
    /// What has failed.
    Error,
}

impl Level {
    /// The level in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl From<&tracing::Level> for Level {
    fn from(level: &tracing::Level) -> Self {
        match *level {
            tracing::Level::TRACE => Self::Trace,
            tracing::Level::DEBUG => Self::Debug,
            tracing::Level::INFO => Self::Info,
            tracing::Level::WARN => Self::Warning,
            tracing::Level::ERROR => Self::Error,
        }
    }
}

/// A log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How important it is.
    pub level: Level,
    /// The logger's name, such as `dagster_ray.host.loader`.
    pub logger: String,
    /// The message, with the event's fields behind it.
    pub text: String,
    /// The source file that logged it, and the line there.
    pub source: Option<(&'static str, u32)>,
}

/// Takes log lines.
pub trait Sink: Send + Sync + 'static {
    /// Whether a line of this level and logger is wanted. Called for every event, so it must be cheap.
    fn is_enabled(&self, level: Level, logger: Logger<'_>) -> bool;

    /// Takes a line that is wanted. It must not wait: any thread of the host may call it.
    fn write(&self, line: Line);
}

/// The logger that an event belongs to, named only when its name is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Logger<'a> {
    target: &'a str,
}

impl<'a> Logger<'a> {
    /// That of the events of a module.
    pub fn of(target: &'a str) -> Self {
        Self { target }
    }

    /// Its name: `dagster_ray.host.loader` for the module `dagster_ray_runtime::loader`.
    pub fn name(self) -> String {
        let (package, module) = self.target.split_once("::").unwrap_or((self.target, ""));
        let package = match package.trim_start_matches(OURS) {
            "_runtime" => "host",
            other => other.trim_start_matches('_'),
        };
        let parts = std::iter::once(package).chain(module.split("::")).filter(|part| !part.is_empty());
        parts.fold(OURS.to_owned(), |name, part| format!("{name}.{part}"))
    }
}

/// What the names of this project's crates begin with.
const OURS: &str = "dagster_ray";
/// The module that also logs what components log.
const REPORTED: &str = "dagster_ray_runtime::capability::logging";

/// Sends the log lines of this process to a sink. Returns whether they are: a process has one sink, and
/// the first one stays.
pub fn install(sink: impl Sink) -> bool {
    tracing::subscriber::set_global_default(Bridge(sink)).is_ok()
}

struct Bridge<S>(S);

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && metadata.target().starts_with(OURS) && metadata.target() != REPORTED
}

impl<S: Sink> Subscriber for Bridge<S> {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // What the sink wants may change, so it is asked each time.
        if is_ours(metadata) { Interest::sometimes() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_ours(metadata) && self.0.is_enabled(metadata.level().into(), Logger::of(metadata.target()))
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut text = Text::default();
        event.record(&mut text);
        self.0.write(Line {
            level: metadata.level().into(),
            logger: Logger::of(metadata.target()).name(),
            text: text.message + &text.fields,
            source: metadata.file().zip(metadata.line()),
        });
    }

    // No span is enabled, so these are never called with one.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event as text: its message, and ` name=value` for each other field.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<Line>>>);

    impl Sink for Kept {
        fn is_enabled(&self, level: Level, logger: Logger<'_>) -> bool {
            level >= Level::Info || logger.name() == "dagster_ray.host.verbose"
        }

        fn write(&self, line: Line) {
            self.0.lock().unwrap().push(line);
        }
    }

    fn lines(log: impl FnOnce()) -> Vec<(Level, String, String)> {
        let kept = Kept::default();
        tracing::subscriber::with_default(Bridge(kept.clone()), log);
        let lines = std::mem::take(&mut *kept.0.lock().unwrap());
        lines.into_iter().map(|line| (line.level, line.logger, line.text)).collect()
    }

    #[test]
    fn an_event_is_a_line_of_its_modules_logger_with_its_fields() {
        let lines = lines(|| {
            let (name, count) = ("echo", 3);
            tracing::warn!(target: "dagster_ray_runtime::cache", name, count, path = %"a b", "not 100 % {}", "kept");
            tracing::info!(target: "dagster_ray_registry::pull", "trying again");
            tracing::error!(target: "dagster_ray_runtime", "no module");
        });
        assert_eq!(
            lines,
            [
                (
                    Level::Warning,
                    "dagster_ray.host.cache".to_owned(),
                    "not 100 % kept name=echo count=3 path=a b".to_owned()
                ),
                (Level::Info, "dagster_ray.registry.pull".to_owned(), "trying again".to_owned()),
                (Level::Error, "dagster_ray.host".to_owned(), "no module".to_owned()),
            ]
        );
    }

    #[test]
    fn what_is_not_wanted_not_ours_or_reported_to_the_caller_is_left_out() {
        let lines = lines(|| {
            tracing::debug!(target: "dagster_ray_runtime::cache", "not wanted");
            tracing::error!(target: "kube_client::client", "not ours");
            tracing::error!(target: REPORTED, component = "echo", "reported");
            let _span = tracing::error_span!(target: "dagster_ray_runtime", "span").entered();
            tracing::trace!(target: "dagster_ray_runtime::verbose", "wanted");
        });
        let texts: Vec<_> = lines.into_iter().map(|(_, _, text)| text).collect();
        assert_eq!(texts, ["wanted"]);
    }
}
