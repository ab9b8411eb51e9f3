//! When a value expires.
//!
//! The value of an output that is not an asset expires when its run has succeeded, or some time after the run
//! has failed. A run that Dagster does not know counts as one that failed when the value was stored: it was
//! probably deleted, but its absence does not prove that. The value of an asset expires by age. The store
//! itself enforces an expiry time, so that values are removed even if no cleanup runs.

use crate::options::Options;
use dagster_ray_sdk::bindings::{
    io::Address,
    model::{RunLife, RunState},
};

/// Returns the expiry time of a value that is stored now, in seconds since the Unix epoch. `None` means that
/// it does not expire.
#[must_use]
pub fn expires_at(address: &Address, options: &Options, now: u64) -> Option<u64> {
    let seconds = match address.asset {
        Some(_) => options.asset_value_seconds?,
        None => options.run_value_seconds,
    };
    Some(now.saturating_add(seconds))
}

/// Returns whether a run's value that was stored at `stored_at` has expired. `known` are the runs that Dagster
/// knows. Times are in seconds since the Unix epoch.
#[must_use]
pub fn is_expired(run_id: &str, stored_at: u64, known: &[RunLife], options: &Options, now: u64) -> bool {
    let is_over = |ended: u64| now.saturating_sub(ended) >= options.failed_run_seconds;
    match known.iter().find(|run| run.run_id == run_id) {
        None => is_over(stored_at),
        Some(run) => match run.state {
            RunState::Live => false,
            RunState::Succeeded => true,
            RunState::Failed => run.ended_at.is_some_and(is_over),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(run_id: &str, state: RunState, ended_at: Option<u64>) -> RunLife {
        RunLife { run_id: run_id.into(), state, ended_at }
    }

    #[test]
    fn values_expire_when_their_run_succeeds_and_later_when_it_fails_or_is_unknown() {
        let options = Options::default();
        let known = [
            run("live", RunState::Live, None),
            run("done", RunState::Succeeded, Some(1_000_000)),
            run("broke", RunState::Failed, Some(1_000_000)),
            run("broke-long-ago", RunState::Failed, Some(10)),
        ];
        let stored = |id, stored_at| is_expired(id, stored_at, &known, &options, 1_000_100);
        let expired = |id| stored(id, 10);
        assert!(!expired("live"));
        assert!(expired("done"));
        assert!(!expired("broke"));
        assert!(expired("broke-long-ago"));
        assert!(expired("unknown"));
        assert!(!stored("unknown", 1_000_000));
    }
}
