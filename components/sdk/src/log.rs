//! Log macros. The host passes the lines on to its own log and to Dagster's.
//!
//! Natively they do nothing, so that tests stay quiet.

pub use crate::bindings::logging::Level;
pub use crate::{debug, error, info, warn};

/// What the macros expand to.
pub fn emit(level: Level, context: &str, message: &str) {
    #[cfg(target_family = "wasm")]
    crate::bindings::logging::log(level, context, message);
    #[cfg(not(target_family = "wasm"))]
    let _ = (level, context, message);
}

/// Logs for someone who debugs.
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => {
        $crate::log::emit($crate::log::Level::Debug, module_path!(), &format!($($message)+))
    };
}

/// Logs for someone who watches.
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => {
        $crate::log::emit($crate::log::Level::Info, module_path!(), &format!($($message)+))
    };
}

/// Logs that something is odd, and that the call goes on.
#[macro_export]
macro_rules! warn {
    ($($message:tt)+) => {
        $crate::log::emit($crate::log::Level::Warn, module_path!(), &format!($($message)+))
    };
}

/// Logs that something went wrong.
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => {
        $crate::log::emit($crate::log::Level::Error, module_path!(), &format!($($message)+))
    };
}
