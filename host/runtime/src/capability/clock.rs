//! `wasi:clocks/monotonic-clock`, as fast as the host's owner wants time to pass for components.

use wasmtime::component::Resource;
use wasmtime_wasi::clocks::WasiClocksView;
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock::{Duration, Host, Instant};

use crate::store::State;

/// How many times faster than the real one a component's monotonic clock runs. What a component
/// waits for by that clock comes so much sooner; what it waits for of others does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace(u32);

impl Default for Pace {
    fn default() -> Self {
        Self::times(1)
    }
}

impl Pace {
    /// So many times as fast, and at least once.
    pub const fn times(faster: u32) -> Self {
        Self(if faster == 0 { 1 } else { faster })
    }

    /// What the clock shows, when so many real nanoseconds have passed.
    fn shown(self, real: u64) -> u64 {
        real.saturating_mul(u64::from(self.0))
    }

    /// How many real nanoseconds pass, until the clock has gone on so far.
    fn real(self, shown: u64) -> u64 {
        shown.div_ceil(u64::from(self.0))
    }
}

impl Host for State {
    fn now(&mut self) -> wasmtime::Result<Instant> {
        Ok(self.pace.shown(self.clocks().now()?))
    }

    fn resolution(&mut self) -> wasmtime::Result<Duration> {
        Ok(self.pace.shown(self.clocks().resolution()?))
    }

    fn subscribe_instant(&mut self, when: Instant) -> wasmtime::Result<Resource<DynPollable>> {
        let when = self.pace.real(when);
        self.clocks().subscribe_instant(when)
    }

    fn subscribe_duration(&mut self, duration: Duration) -> wasmtime::Result<Resource<DynPollable>> {
        let duration = self.pace.real(duration);
        self.clocks().subscribe_duration(duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_due_before_its_time() {
        let pace = Pace::times(20);
        for shown in [0, 1, 19, 20, 21, 1_000_000_007, u64::MAX] {
            assert!(pace.shown(pace.real(shown)) >= shown, "{shown}");
        }
        assert_eq!(Pace::default().shown(7), 7);
        assert_eq!(Pace::default().real(7), 7);
    }
}
