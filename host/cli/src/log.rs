//! Forwards the host's `tracing` events to a sink, such as standard error or Python's `logging`.
//!
//! Only events of this project's crates are forwarded. The caller of a component receives the component's
//! log lines as reports instead.

use std::fmt::{Debug, Write};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

/// The level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every single operation.
    Trace,
    /// Details for debugging.
    Debug,
    /// Normal operation.
    Info,
    /// A problem that an operator should fix.
    Warning,
    /// A failure.
    Error,
}

impl Level {
    /// Returns the level's name.
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
    /// The level.
    pub level: Level,
    /// The logger's name, such as `dagster_ray.host.loader`.
    pub logger: String,
    /// The message, followed by the event's fields.
    pub text: String,
    /// The source file and line of the event.
    pub source: Option<(&'static str, u32)>,
}

/// Receives log lines.
pub trait Sink: Send + Sync + 'static {
    /// Whether lines of this level and logger are enabled. Called for every event, so it must be cheap.
    fn is_enabled(&self, level: Level, logger: Logger<'_>) -> bool;

    /// Receives an enabled line. It must not block, because any thread of the host may call it.
    fn write(&self, line: Line);
}

/// The logger of an event. Its name is computed only on demand.
#[derive(Debug, Clone, Copy)]
pub struct Logger<'a> {
    target: &'a str,
}

impl<'a> Logger<'a> {
    /// Returns the logger of a module's events.
    pub fn from_target(target: &'a str) -> Self {
        Self { target }
    }

    /// Returns the name: `dagster_ray.host.loader` for the module `dagster_ray_runtime::loader`.
    pub fn name(self) -> String {
        let (package, module) = self.target.split_once("::").unwrap_or((self.target, ""));
        let package = match package.trim_start_matches(CRATE_PREFIX) {
            "_runtime" => "host",
            other => other.trim_start_matches('_'),
        };
        let parts = std::iter::once(package).chain(module.split("::")).filter(|part| !part.is_empty());
        parts.fold(CRATE_PREFIX.to_owned(), |name, part| format!("{name}.{part}"))
    }
}

/// The common prefix of the names of this project's crates.
const CRATE_PREFIX: &str = "dagster_ray";
/// The module that also logs the lines of components.
const REPORTED: &str = "dagster_ray_runtime::capability::logging";

/// Installs the sink for the log lines of this process. Returns false if a sink is already installed, which
/// is kept.
pub fn install(sink: impl Sink) -> bool {
    tracing::subscriber::set_global_default(Bridge(sink)).is_ok()
}

struct Bridge<S>(S);

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && metadata.target().starts_with(CRATE_PREFIX) && metadata.target() != REPORTED
}

impl<S: Sink> Subscriber for Bridge<S> {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // The sink's levels may change, so check them for each event.
        if is_ours(metadata) { Interest::sometimes() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_ours(metadata)
            && self.0.is_enabled(metadata.level().into(), Logger::from_target(metadata.target()))
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut text = Text::default();
        event.record(&mut text);
        self.0.write(Line {
            level: metadata.level().into(),
            logger: Logger::from_target(metadata.target()).name(),
            text: text.message + &text.fields,
            source: metadata.file().zip(metadata.line()),
        });
    }

    // Spans are not enabled, so these methods are never called.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Formats an event as its message, followed by ` name=value` for each other field.
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
    struct RecordingSink(Arc<Mutex<Vec<Line>>>);

    impl Sink for RecordingSink {
        fn is_enabled(&self, level: Level, logger: Logger<'_>) -> bool {
            level >= Level::Info || logger.name() == "dagster_ray.host.verbose"
        }

        fn write(&self, line: Line) {
            self.0.lock().unwrap().push(line);
        }
    }

    fn lines(log: impl FnOnce()) -> Vec<(Level, String, String)> {
        let kept = RecordingSink::default();
        tracing::subscriber::with_default(Bridge(kept.clone()), log);
        let lines = std::mem::take(&mut *kept.0.lock().unwrap());
        lines.into_iter().map(|line| (line.level, line.logger, line.text)).collect()
    }

    #[test]
    fn events_become_lines_of_their_modules_logger_with_fields() {
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
    fn disabled_third_party_and_reported_events_are_dropped() {
        let lines = lines(|| {
            tracing::debug!(target: "dagster_ray_runtime::cache", "disabled");
            tracing::error!(target: "kube_client::client", "third-party");
            tracing::error!(target: REPORTED, component = "echo", "reported");
            let _span = tracing::error_span!(target: "dagster_ray_runtime", "span").entered();
            tracing::trace!(target: "dagster_ray_runtime::verbose", "enabled");
        });
        let texts: Vec<_> = lines.into_iter().map(|(_, _, text)| text).collect();
        assert_eq!(texts, ["enabled"]);
    }
}
