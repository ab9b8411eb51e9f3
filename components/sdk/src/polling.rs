//! Waits between the polls of a service.

use crate::clock::Clock;

/// A wait that grows by half with each poll, up to a limit.
#[derive(Clone, Debug)]
pub struct Interval {
    first_ms: u64,
    max_ms: u64,
    next_ms: u64,
}

impl Interval {
    /// Creates an interval from its first and its longest wait, in milliseconds.
    #[must_use]
    pub const fn new(first_ms: u64, max_ms: u64) -> Self {
        Self { first_ms, max_ms, next_ms: first_ms }
    }

    /// Sleeps until the next poll.
    pub fn sleep(&mut self, clock: &impl Clock) {
        clock.sleep_ms(self.next_ms);
        self.next_ms = (self.next_ms * 3 / 2).min(self.max_ms);
    }

    /// Starts again with the first wait.
    pub fn reset(&mut self) {
        self.next_ms = self.first_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::VirtualClock;

    #[test]
    fn waits_grow_by_half_up_to_the_longest_and_start_again_after_a_reset() {
        let clock = VirtualClock::default();
        let mut interval = Interval::new(100, 200);
        for _ in 0..4 {
            interval.sleep(&clock);
        }
        assert_eq!(clock.now_ms(), 100 + 150 + 200 + 200);
        interval.reset();
        interval.sleep(&clock);
        assert_eq!(clock.now_ms(), 750);
    }
}
