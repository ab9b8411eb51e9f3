//! `wasi:clocks/monotonic-clock` with a configurable clock speed.

use wasmtime::component::Resource;
use wasmtime_wasi::clocks::WasiClocksView;
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock::{Duration, Host, Instant};

use crate::store::CallState;

/// The speed of the components' monotonic clock, as a multiple of real time. It shortens timeouts and
/// sleeps of components, but not their waits for other services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSpeed(u32);

impl Default for ClockSpeed {
    fn default() -> Self {
        Self::multiple(1)
    }
}

impl ClockSpeed {
    /// Returns a clock that is `faster` times as fast as real time. 0 counts as 1.
    pub const fn multiple(faster: u32) -> Self {
        Self(if faster == 0 { 1 } else { faster })
    }

    /// Converts real nanoseconds to nanoseconds of the component's clock.
    fn to_component(self, real: u64) -> u64 {
        real.saturating_mul(u64::from(self.0))
    }

    /// Converts nanoseconds of the component's clock to real nanoseconds, rounded up.
    fn to_real(self, shown: u64) -> u64 {
        shown.div_ceil(u64::from(self.0))
    }
}

impl Host for CallState {
    fn now(&mut self) -> wasmtime::Result<Instant> {
        Ok(self.clock_speed.to_component(self.clocks().now()?))
    }

    fn resolution(&mut self) -> wasmtime::Result<Duration> {
        Ok(self.clock_speed.to_component(self.clocks().resolution()?))
    }

    fn subscribe_instant(&mut self, when: Instant) -> wasmtime::Result<Resource<DynPollable>> {
        let when = self.clock_speed.to_real(when);
        self.clocks().subscribe_instant(when)
    }

    fn subscribe_duration(&mut self, duration: Duration) -> wasmtime::Result<Resource<DynPollable>> {
        let duration = self.clock_speed.to_real(duration);
        self.clocks().subscribe_duration(duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converted_instants_are_never_early() {
        let clock_speed = ClockSpeed::multiple(20);
        for shown in [0, 1, 19, 20, 21, 1_000_000_007, u64::MAX] {
            assert!(clock_speed.to_component(clock_speed.to_real(shown)) >= shown, "{shown}");
        }
        assert_eq!(ClockSpeed::default().to_component(7), 7);
        assert_eq!(ClockSpeed::default().to_real(7), 7);
    }
}
