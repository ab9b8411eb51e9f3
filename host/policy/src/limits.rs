//! How much of everything a component may use.

use std::time::Duration;

use serde::Deserialize;

/// A component's limits. Each has a default; a manifest or the operator can lower or raise it.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Linear memory, in MiB.
    pub memory_mib: u32,
    /// Elements of all tables together.
    pub table_elements: u32,
    /// Core instances, memories and tables, each.
    pub instances: u32,
    /// Handles that the component holds at one time.
    pub handles: u32,
    /// Bytes that one host call may move out of the component, in MiB.
    pub transfer_mib: u32,
    /// Wall clock of one call, in seconds. A caller may ask for less.
    pub call_seconds: f64,
    /// Wall clock of one call that goes on for as long as a script does, in seconds.
    pub follow_seconds: f64,
    /// Bytes of an HTTP response's body, in MiB.
    pub response_mib: u32,
    /// Bytes of log lines and reports of one call, in KiB; what goes beyond is dropped and counted.
    pub log_kib: u32,
    /// Bytes of standard error that are kept, in KiB.
    pub stderr_kib: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mib: 128,
            table_elements: 20_000,
            instances: 100,
            handles: 1_024,
            transfer_mib: 16,
            call_seconds: 600.0,
            follow_seconds: 7.0 * 86_400.0,
            response_mib: 256,
            log_kib: 1_024,
            stderr_kib: 16,
        }
    }
}

impl Limits {
    /// The lower of each.
    pub fn narrowed(&self, by: &Self) -> Self {
        Self {
            memory_mib: self.memory_mib.min(by.memory_mib),
            table_elements: self.table_elements.min(by.table_elements),
            instances: self.instances.min(by.instances),
            handles: self.handles.min(by.handles),
            transfer_mib: self.transfer_mib.min(by.transfer_mib),
            call_seconds: self.call_seconds.min(by.call_seconds),
            follow_seconds: self.follow_seconds.min(by.follow_seconds),
            response_mib: self.response_mib.min(by.response_mib),
            log_kib: self.log_kib.min(by.log_kib),
            stderr_kib: self.stderr_kib.min(by.stderr_kib),
        }
    }

    /// The longest that a call may take; one that `follows` goes on for as long as a script does.
    pub fn wall_clock(&self, follows: bool) -> Duration {
        let seconds = if follows { self.follow_seconds } else { self.call_seconds };
        Duration::from_secs_f64(seconds.clamp(0.001, 1e9))
    }
}
