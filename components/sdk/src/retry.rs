//! Retry policy for requests: exponential backoff with jitter, for a limited time.
//!
//! Only errors for which [`Error::is_transient`] is true are retried; error texts are never matched.

use crate::{Error, clock::Clock};

/// How long transient failures are retried, and the waits between the attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// For how long failed attempts are repeated, in milliseconds, counted from the first failure. 0 means one
    /// attempt.
    pub patience_ms: u64,
    /// The longest wait before the second attempt, in milliseconds. It doubles for each later one.
    pub first_wait_ms: u64,
    /// The upper bound of a wait, in milliseconds.
    pub max_wait_ms: u64,
    /// The longest wait that a service can ask for (`Retry-After`), in milliseconds.
    pub max_retry_after_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { patience_ms: 30_000, first_wait_ms: 250, max_wait_ms: 5_000, max_retry_after_ms: 60_000 }
    }
}

impl Policy {
    /// One attempt, without a retry.
    pub const ONCE: Self = Self { patience_ms: 0, first_wait_ms: 0, max_wait_ms: 0, max_retry_after_ms: 0 };

    /// Returns the policy with another patience, in milliseconds.
    #[must_use]
    pub const fn with_patience(self, patience_ms: u64) -> Self {
        Self { patience_ms, ..self }
    }

    /// Runs an operation until it succeeds, fails permanently, or the patience is over.
    pub fn retry<T>(
        &self,
        clock: &impl Clock,
        operation: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        Retries::new(*self).run(clock, operation)
    }
}

/// The failures of one operation in a row.
///
/// [`Policy::retry`] suffices for one request. A caller that polls uses this type, and calls
/// [`Retries::reset`] after each success.
#[derive(Clone, Debug)]
pub struct Retries {
    policy: Policy,
    failures: u32,
    first_at_ms: Option<u64>,
}

impl Retries {
    /// Creates an instance without failures.
    #[must_use]
    pub const fn new(policy: Policy) -> Self {
        Self { policy, failures: 0, first_at_ms: None }
    }

    /// Creates an instance whose patience counts from now, for an operation that waits within an attempt.
    #[must_use]
    pub fn from_now(policy: Policy, clock: &impl Clock) -> Self {
        Self { policy, failures: 0, first_at_ms: Some(clock.now_ms()) }
    }

    /// Runs an operation as [`Policy::retry`] does.
    ///
    /// # Errors
    /// The operation's first permanent error, or its last transient one.
    pub fn run<T>(
        mut self,
        clock: &impl Clock,
        mut operation: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            match operation() {
                Ok(value) => return Ok(value),
                Err(error) if error.is_transient() => self.pause(clock, error)?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Forgets the failures: the operation has succeeded.
    pub const fn reset(&mut self) {
        self.failures = 0;
        self.first_at_ms = None;
    }

    /// Records a failure, and returns the milliseconds to wait before the next attempt.
    ///
    /// `after_ms` is the wait that the service asks for. Half of a wait is random, so that many clients do not
    /// return at the same moment. `None` means that the patience is over. The last attempt is made when the
    /// patience ends, or later if the service asks for it.
    #[must_use]
    pub fn wait_after(&mut self, clock: &impl Clock, after_ms: Option<u64>) -> Option<u64> {
        let policy = &self.policy;
        let now = clock.now_ms();
        let elapsed = now.saturating_sub(*self.first_at_ms.get_or_insert(now));
        let left = policy.patience_ms.checked_sub(elapsed).filter(|&left| left > 0)?;
        let longest =
            policy.first_wait_ms.saturating_mul(1 << self.failures.min(32)).min(policy.max_wait_ms).min(left);
        self.failures = self.failures.saturating_add(1);
        let fixed = if longest == left { longest } else { longest / 2 };
        let shortest = fixed.max(after_ms.unwrap_or_default().min(policy.max_retry_after_ms));
        Some(shortest + clock.jitter_ms(longest - fixed))
    }

    /// Waits before the next attempt, or returns the error if the patience is over.
    ///
    /// # Errors
    /// The given error.
    pub fn pause(&mut self, clock: &impl Clock, error: Error) -> Result<(), Error> {
        let Some(wait) = self.wait_after(clock, error.retry_after_ms()) else { return Err(error) };
        crate::debug!("attempt {} failed: {}; retrying in {wait} ms", self.failures, error.message());
        clock.sleep_ms(wait);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::RetryHint, testing::VirtualClock};

    /// Returns the number of attempts and the milliseconds waited.
    fn run_failing(policy: Policy, clock: &VirtualClock, error: &Error) -> (u32, u64) {
        let mut count = 0;
        let result: Result<(), Error> = policy.retry(clock, || {
            count += 1;
            Err(error.clone())
        });
        assert!(result.is_err());
        (count, clock.now_ms())
    }

    fn asking_for(after_ms: u64) -> Error {
        Error::Unavailable(RetryHint {
            reason: "busy".to_owned(),
            after_ms: Some(after_ms),
            maybe_applied: false,
        })
    }

    const POLICY: Policy =
        Policy { patience_ms: 1_000, first_wait_ms: 100, max_wait_ms: 300, max_retry_after_ms: 5_000 };

    #[test]
    fn transient_errors_are_retried_with_doubling_waits_until_the_patience_is_over() {
        let run = |error: Error| run_failing(POLICY, &VirtualClock::default(), &error);
        assert_eq!(run(Error::unavailable("gone", true)), (6, 100 + 200 + 300 + 300 + 100));
        assert_eq!(run(Error::backend(503, "Busy", "")).1, 1_000);
        assert_eq!(run(Error::backend(400, "Bad", "")), (1, 0));
        assert_eq!(run(Error::NotFound("job".into())), (1, 0));
        let once = run_failing(Policy::ONCE, &VirtualClock::default(), &asking_for(1_000));
        assert_eq!(once, (1, 0));
    }

    #[test]
    fn half_of_each_wait_is_random() {
        let clock = VirtualClock::with_jitter(0.0);
        assert_eq!(run_failing(POLICY, &clock, &Error::unavailable("gone", true)).1, 1_000);
        let mut retries = Retries::new(POLICY);
        let first: Vec<_> = (0..3).map(|_| retries.wait_after(&clock, None)).collect();
        assert_eq!(first, [Some(50), Some(100), Some(150)]);
        retries.reset();
        assert_eq!(retries.wait_after(&VirtualClock::with_jitter(0.5), None), Some(75));
    }

    #[test]
    fn the_services_retry_after_is_honored_up_to_the_limit() {
        let clock = VirtualClock::with_jitter(0.0);
        assert_eq!(run_failing(POLICY, &clock, &asking_for(600)), (3, 1_200));
        let clock = VirtualClock::with_jitter(0.0);
        assert_eq!(run_failing(POLICY, &clock, &asking_for(3_600_000)), (2, 5_000));
    }
}
