//! Retry policy for requests.
//!
//! Only errors for which [`Error::is_transient`] is true are retried; error texts are never matched.
//! There is no jitter: one process sends few requests, and tests can count the waits.

use crate::{Error, clock::Clock};

/// The number of attempts and the exponential backoff between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The total number of attempts. 1 means no retry.
    pub attempts: u32,
    /// The wait before the second attempt, in milliseconds. Each later wait is twice as long.
    pub first_wait_ms: u64,
    /// The upper bound of a wait, in milliseconds.
    pub max_wait_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { attempts: 4, first_wait_ms: 200, max_wait_ms: 3_000 }
    }
}

impl Policy {
    /// One attempt, without a retry.
    pub const ONCE: Self = Self { attempts: 1, first_wait_ms: 0, max_wait_ms: 0 };

    /// Returns the milliseconds to wait after a failed attempt (the first is number 1).
    ///
    /// `None` means that it was the last attempt or that the error is permanent.
    #[must_use]
    pub fn backoff_after(&self, attempt: u32, error: &Error) -> Option<u64> {
        if attempt >= self.attempts || !error.is_transient() {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(32);
        let backoff = self.first_wait_ms.saturating_mul(1 << doublings).min(self.max_wait_ms);
        Some(match error {
            // Honor the service's retry-after up to the longest wait.
            Error::Unavailable(hint) => {
                hint.after_ms.map_or(backoff, |after| after.min(self.max_wait_ms).max(backoff))
            }
            _ => backoff,
        })
    }

    /// Runs an operation until it succeeds, fails permanently, or the attempts are used up.
    pub fn retry<T>(
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

    /// Waits before the next attempt, or returns the error if there is none.
    fn pause(&self, clock: &dyn Clock, attempt: u32, error: Error) -> Result<(), Error> {
        let Some(wait) = self.backoff_after(attempt, &error) else { return Err(error) };
        crate::debug!("attempt {attempt} failed: {}; retrying in {wait} ms", error.message());
        clock.sleep_ms(wait);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::VirtualClock;

    /// Returns the number of attempts and the milliseconds waited.
    fn run_failing(policy: Policy, error: &Error) -> (u32, u64) {
        let clock = VirtualClock::default();
        let mut count = 0;
        let result: Result<(), Error> = policy.retry(&clock, || {
            count += 1;
            Err(error.clone())
        });
        assert!(result.is_err());
        (count, clock.now_ms())
    }

    #[test]
    fn only_transient_errors_are_retried_with_doubling_waits_up_to_the_longest() {
        let policy = Policy { attempts: 5, first_wait_ms: 100, max_wait_ms: 300 };
        assert_eq!(run_failing(policy, &Error::unavailable("gone", true)), (5, 100 + 200 + 300 + 300));
        assert_eq!(run_failing(policy, &Error::backend(503, "Busy", "")), (5, 900));
        assert_eq!(run_failing(policy, &Error::backend(400, "Bad", "")), (1, 0));
        assert_eq!(run_failing(policy, &Error::NotFound("job".into())), (1, 0));
        assert_eq!(run_failing(Policy::ONCE, &Error::unavailable("gone", true)), (1, 0));
    }
}
