//! The state of a run as JSON, for the interfaces that decide by it.

use serde::Deserialize;

use crate::model::{RunLife, RunState};

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum LifeState {
    Live,
    Succeeded,
    Failed,
}

/// A run that exists in Dagster's run storage.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Life {
    run_id: String,
    state: LifeState,
    ended_at: Option<u64>,
}

impl From<Life> for RunLife {
    fn from(life: Life) -> Self {
        let state = match life.state {
            LifeState::Live => RunState::Live,
            LifeState::Succeeded => RunState::Succeeded,
            LifeState::Failed => RunState::Failed,
        };
        Self { run_id: life.run_id, state, ended_at: life.ended_at }
    }
}
