//! The log levels on standard error: `-v`, `-q`, and the variable `DAGSTER_RAY_LOG`.

use crate::exit::Usage;
use crate::log::{Level, Line, Logger, Sink};
use crate::output::{BAD, FAINT, Output, WARNING};

/// The variable that sets the log levels without `-v` and `-q`.
pub(crate) const VARIABLE: &str = "DAGSTER_RAY_LOG";

/// The help text of the variable.
pub(crate) const VARIABLE_HELP: &str = "\
Environment:
  DAGSTER_RAY_LOG  The log level on standard error without -v and -q: error, warning (the default),
                   info, debug, trace or off; optionally followed by levels of single loggers, such
                   as info,host.loader=debug,registry=trace";

const LEVELS: &str = "off, error, warning, info, debug or trace";

/// The lowest level that is logged, by default and for single loggers. `None` logs nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    level: Option<Level>,
    /// The names of loggers without `dagster_ray.`, longer ones first.
    loggers: Vec<(String, Option<Level>)>,
}

impl Filter {
    /// Returns the filter of the options, or of the variable without options.
    ///
    /// # Errors
    /// If the variable is invalid.
    pub(crate) fn new(verbose: u8, quiet: bool, variable: Option<&str>) -> Result<Self, Usage> {
        let level = match (quiet, verbose) {
            (true, _) => Level::Error,
            (false, 0) => return Self::parse(variable.unwrap_or_default()),
            (false, 1) => Level::Info,
            (false, 2) => Level::Debug,
            (false, _) => Level::Trace,
        };
        Ok(Self { level: Some(level), loggers: Vec::new() })
    }

    fn parse(text: &str) -> Result<Self, Usage> {
        let mut filter = Self { level: Some(Level::Warning), loggers: Vec::new() };
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (logger, word) =
                part.split_once('=').map_or((None, part), |(logger, word)| (Some(logger), word));
            let level = level(word).ok_or_else(|| {
                Usage(format!(
                    "{VARIABLE}={text}: {word:?} is not a level; write {LEVELS}, or LOGGER=LEVEL, separated by commas"
                ))
            })?;
            match logger {
                None => filter.level = level,
                Some(logger) => {
                    let name = logger.trim();
                    filter
                        .loggers
                        .push((name.strip_prefix("dagster_ray.").unwrap_or(name).to_owned(), level));
                }
            }
        }
        filter.loggers.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Ok(filter)
    }

    fn allows(&self, level: Level, logger: Logger<'_>) -> bool {
        let mut lowest = self.level;
        if !self.loggers.is_empty() {
            let name = logger.name();
            let name = name.strip_prefix("dagster_ray.").unwrap_or_default();
            let is_under = |parent: &str| {
                name.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            if let Some((_, own)) = self.loggers.iter().find(|(parent, _)| is_under(parent)) {
                lowest = *own;
            }
        }
        lowest.is_some_and(|lowest| level >= lowest)
    }
}

/// Parses a level. The inner `None` stands for `off`.
#[allow(clippy::option_option, reason = "`off` differs from an unknown word")]
fn level(word: &str) -> Option<Option<Level>> {
    Some(match word.trim().to_ascii_lowercase().as_str() {
        "off" => None,
        "error" => Some(Level::Error),
        "warning" | "warn" => Some(Level::Warning),
        "info" => Some(Level::Info),
        "debug" => Some(Level::Debug),
        "trace" => Some(Level::Trace),
        _ => return None,
    })
}

/// Writes log lines to standard error.
pub(crate) struct StandardError {
    pub(crate) filter: Filter,
    pub(crate) output: Output,
}

impl Sink for StandardError {
    fn is_enabled(&self, level: Level, logger: Logger<'_>) -> bool {
        self.filter.allows(level, logger)
    }

    fn write(&self, line: Line) {
        let style = match line.level {
            Level::Error => BAD,
            Level::Warning => WARNING,
            _ => FAINT,
        };
        // A line may contain a service's response, which must not control the terminal.
        let text = line.text.replace(|c: char| c.is_control() && c != '\t', "\u{fffd}");
        self.output.log(format_args!(
            "{style}{}{style:#} {FAINT}{}{FAINT:#}: {text}",
            line.level.name(),
            line.logger
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(filter: &Filter, level: Level, target: &str) -> bool {
        filter.allows(level, Logger::from_target(target))
    }

    #[test]
    fn options_override_the_variable_and_the_default_is_warning() {
        let host = "dagster_ray_runtime::loader";
        for (verbose, quiet, variable, least) in [
            (0, false, None, Level::Warning),
            (0, false, Some(""), Level::Warning),
            (0, false, Some("debug"), Level::Debug),
            (1, false, Some("error"), Level::Info),
            (2, false, None, Level::Debug),
            (5, false, None, Level::Trace),
            (0, true, Some("trace"), Level::Error),
        ] {
            let filter = Filter::new(verbose, quiet, variable).unwrap();
            let all = [Level::Trace, Level::Debug, Level::Info, Level::Warning, Level::Error];
            let allowed: Vec<_> = all.into_iter().filter(|level| allows(&filter, *level, host)).collect();
            assert_eq!(allowed.first(), Some(&least), "{verbose} {quiet} {variable:?}");
        }
    }

    #[test]
    fn logger_level_applies_to_the_logger_and_its_children() {
        let text = "off, host.loader=debug, dagster_ray.host=info,registry=trace";
        let filter = Filter::new(0, false, Some(text)).unwrap();
        assert!(allows(&filter, Level::Debug, "dagster_ray_runtime::loader"));
        assert!(allows(&filter, Level::Debug, "dagster_ray_runtime::loader::part"));
        assert!(!allows(&filter, Level::Debug, "dagster_ray_runtime::loaders"));
        assert!(allows(&filter, Level::Info, "dagster_ray_runtime::loaders"));
        assert!(allows(&filter, Level::Trace, "dagster_ray_registry::pull"));
        assert!(!allows(&filter, Level::Error, "dagster_ray_policy::check"));
    }

    #[test]
    fn unknown_level_is_rejected_with_the_valid_levels() {
        for text in ["loud", "info,host=", "host"] {
            let error = Filter::new(0, false, Some(text)).unwrap_err().to_string();
            assert!(error.contains(text) && error.contains(LEVELS), "{error}");
        }
    }
}
