//! The clock, behind a trait so that tests of waiting code do not wait.

use crate::random;

/// A monotonic clock that can sleep.
pub trait Clock {
    /// Returns the milliseconds since a fixed but arbitrary time.
    fn now_ms(&self) -> u64;

    /// Blocks for `ms` milliseconds.
    fn sleep_ms(&self, ms: u64);

    /// Returns a random number of milliseconds, from 0 to `max_ms`, to vary a wait.
    fn jitter_ms(&self, max_ms: u64) -> u64 {
        random::up_to(max_ms)
    }
}

impl<C: Clock + ?Sized> Clock for &C {
    fn now_ms(&self) -> u64 {
        (**self).now_ms()
    }

    fn sleep_ms(&self, ms: u64) {
        (**self).sleep_ms(ms);
    }

    fn jitter_ms(&self, max_ms: u64) -> u64 {
        (**self).jitter_ms(max_ms)
    }
}

/// The host's monotonic clock (`wasi:clocks/monotonic-clock`).
#[derive(Clone, Copy, Debug, Default)]
pub struct WasiClock;

const NANOS_PER_MS: u64 = 1_000_000;

impl Clock for WasiClock {
    fn now_ms(&self) -> u64 {
        wasip2::clocks::monotonic_clock::now() / NANOS_PER_MS
    }

    fn sleep_ms(&self, ms: u64) {
        wasip2::clocks::monotonic_clock::subscribe_duration(ms.saturating_mul(NANOS_PER_MS)).block();
    }
}

/// Returns the host's wall-clock time, in seconds since the Unix epoch.
#[cfg(target_family = "wasm")]
#[must_use]
pub fn epoch_s() -> u64 {
    wasip2::clocks::wall_clock::now().seconds
}

/// Returns this machine's wall-clock time, in seconds since the Unix epoch.
#[cfg(not(target_family = "wasm"))]
#[must_use]
pub fn epoch_s() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
