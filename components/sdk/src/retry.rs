//! When to try again.
//!
//! Only what [`Error::is_transient`] says is tried again; the text of an error decides nothing.
//! There is no jitter: one process sends few requests, and a test can count the waits.

use crate::{Error, clock::Clock};

/// How often to try, and how long to wait in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How many tries there are in all. 1 means no second one.
    pub attempts: u32,
    /// The wait before the second try. Each further one is twice as long.
    pub first_wait_ms: u64,
    /// The longest wait.
    pub longest_wait_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { attempts: 4, first_wait_ms: 200, longest_wait_ms: 3_000 }
    }
}

impl Policy {
    /// No second try.
    pub const ONCE: Self = Self { attempts: 1, first_wait_ms: 0, longest_wait_ms: 0 };

    /// How long to wait after a failed try (the first is number 1), or `None` where it was the
    /// last one or another would be of no use.
    #[must_use]
    pub fn wait_after(&self, attempt: u32, error: &Error) -> Option<u64> {
        if attempt >= self.attempts || !error.is_transient() {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(32);
        let own = self.first_wait_ms.saturating_mul(1 << doublings).min(self.longest_wait_ms);
        Some(match error {
            // A service that names a moment knows better, within reason.
            Error::Unavailable(hint) => {
                hint.after_ms.map_or(own, |asked| asked.min(self.longest_wait_ms).max(own))
            }
            _ => own,
        })
    }

    /// Does something until it succeeds, fails for good, or the tries are used up.
    pub fn run<T>(
        &self,
        clock: &impl Clock,
        mut operation: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut attempt = 1;
        loop {
            match operation() {
                Ok(value) => return Ok(value),
                Err(error) => self.pause(clock, attempt, error)?,
            }
            attempt += 1;
        }
    }

    /// Waits before another try, or returns the error where there is none.
    fn pause(&self, clock: &dyn Clock, attempt: u32, error: Error) -> Result<(), Error> {
        let Some(wait) = self.wait_after(attempt, &error) else { return Err(error) };
        crate::debug!("try {attempt} failed: {}; next in {wait} ms", error.text());
        clock.sleep_ms(wait);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::VirtualClock;

    fn tries(policy: Policy, error: &Error) -> (u32, u64) {
        let clock = VirtualClock::default();
        let mut count = 0;
        let result: Result<(), Error> = policy.run(&clock, || {
            count += 1;
            Err(error.clone())
        });
        assert!(result.is_err());
        (count, clock.now_ms())
    }

    #[test]
    fn waits_double_up_to_the_longest_and_only_for_what_can_pass() {
        let policy = Policy { attempts: 5, first_wait_ms: 100, longest_wait_ms: 300 };
        assert_eq!(tries(policy, &Error::unavailable("gone", true)), (5, 100 + 200 + 300 + 300));
        assert_eq!(tries(policy, &Error::backend(503, "Busy", "")), (5, 900));
        assert_eq!(tries(policy, &Error::backend(400, "Bad", "")), (1, 0));
        assert_eq!(tries(policy, &Error::NotFound("job".into())), (1, 0));
        assert_eq!(tries(Policy::ONCE, &Error::unavailable("gone", true)), (1, 0));
    }
}
