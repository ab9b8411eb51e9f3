//! When a value is given up.
//!
//! A value that is not an asset's goes when its run has succeeded, a while after it failed, or when
//! Dagster no longer knows the run. An asset's value goes by age. Every value has a bound that the
//! store keeps by itself, so that nothing stays for ever because nobody asked.

use crate::bindings::io::{Address, RunLife, RunState};
use crate::options::Options;

/// Until when the store keeps a value that is stored now, in seconds since the Unix epoch.
#[must_use]
pub fn bound(address: &Address, options: &Options, now: u64) -> Option<u64> {
    let seconds = match address.asset {
        Some(_) => options.asset_value_seconds?,
        None => options.run_value_seconds,
    };
    Some(now.saturating_add(seconds))
}

/// Whether the values of a run are given up, given the runs that Dagster knows.
#[must_use]
pub fn is_over(run_id: &str, known: &[RunLife], options: &Options, now: u64) -> bool {
    let Some(run) = known.iter().find(|run| run.run_id == run_id) else { return true };
    match run.state {
        RunState::Live => false,
        RunState::Succeeded => true,
        RunState::Failed => {
            run.ended_at.is_some_and(|ended| now.saturating_sub(ended) >= options.failed_run_seconds)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(run_id: &str, state: RunState, ended_at: Option<u64>) -> RunLife {
        RunLife { run_id: run_id.into(), state, ended_at }
    }

    #[test]
    fn what_a_run_left_goes_with_it_and_a_failed_one_can_be_taken_up_again() {
        let options = Options::default();
        let known = [
            run("live", RunState::Live, None),
            run("done", RunState::Succeeded, Some(1_000_000)),
            run("broke", RunState::Failed, Some(1_000_000)),
            run("broke-long-ago", RunState::Failed, Some(10)),
        ];
        let over = |id| is_over(id, &known, &options, 1_000_100);
        assert!(!over("live"));
        assert!(over("done"));
        assert!(!over("broke"));
        assert!(over("broke-long-ago"));
        assert!(over("gone"));
    }
}
