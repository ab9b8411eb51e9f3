//! Log macros. The host forwards the lines to its own log and to Dagster's.
//!
//! In a native build they do nothing, so that tests print no log lines.

pub use crate::bindings::logging::Level;
pub use crate::{debug, error, info, warn};

/// Sends one line to `wasi:logging`. The log macros expand to this call.
pub fn emit(level: Level, context: &str, message: &str) {
    #[cfg(target_family = "wasm")]
    crate::bindings::logging::log(level, context, message);
    #[cfg(not(target_family = "wasm"))]
    let _ = (level, context, message);
}

/// Logs at debug level.
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => {
        $crate::log::emit($crate::log::Level::Debug, module_path!(), &format!($($message)+))
    };
}

/// Logs at info level.
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => {
        $crate::log::emit($crate::log::Level::Info, module_path!(), &format!($($message)+))
    };
}

/// Logs at warning level: something is unexpected, and the call continues.
#[macro_export]
macro_rules! warn {
    ($($message:tt)+) => {
        $crate::log::emit($crate::log::Level::Warn, module_path!(), &format!($($message)+))
    };
}

/// Logs at error level.
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => {
        $crate::log::emit($crate::log::Level::Error, module_path!(), &format!($($message)+))
    };
}
