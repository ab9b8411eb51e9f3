//! A clock that runs faster than real time.

use dagster_ray_runtime::Clock;

/// The speed of the components' monotonic clock, as a multiple of real time. It shortens timeouts and
/// sleeps of components, but not their waits for other services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSpeed(u32);

impl ClockSpeed {
    /// Returns a clock that is `faster` times as fast as real time. 0 counts as 1.
    pub const fn multiple(faster: u32) -> Self {
        Self(if faster == 0 { 1 } else { faster })
    }
}

impl Clock for ClockSpeed {
    fn to_component(&self, real: u64) -> u64 {
        real.saturating_mul(u64::from(self.0))
    }

    fn to_real(&self, shown: u64) -> u64 {
        shown.div_ceil(u64::from(self.0))
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
        assert_eq!(ClockSpeed::multiple(1).to_component(7), 7);
        assert_eq!(ClockSpeed::multiple(0).to_real(7), 7);
    }
}
