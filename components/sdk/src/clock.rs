//! Time, behind a trait: rules that wait are tested without waiting.

/// A clock that can be waited on.
pub trait Clock {
    /// Milliseconds since a moment that does not change while the component lives.
    fn now_ms(&self) -> u64;

    /// Returns after so many milliseconds.
    fn sleep_ms(&self, ms: u64);
}

impl<C: Clock + ?Sized> Clock for &C {
    fn now_ms(&self) -> u64 {
        (**self).now_ms()
    }

    fn sleep_ms(&self, ms: u64) {
        (**self).sleep_ms(ms);
    }
}

/// The host's monotonic clock.
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
