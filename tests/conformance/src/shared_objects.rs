//! A run, steps and a cluster that are created once and shared by several rules.

use std::cell::OnceCell;

use serde_json::Value as Json;

use crate::outcome::Outcome;

/// The shared run, steps and cluster, each created when a rule first needs it.
#[derive(Default)]
pub(crate) struct SharedObjects {
    pub(crate) run: OnceCell<Result<(Json, Json), Outcome>>,
    pub(crate) steps: OnceCell<Result<Vec<(Json, Json)>, Outcome>>,
    /// The id of the run that the cluster was created for, and the cluster reference.
    pub(crate) cluster: OnceCell<Result<(String, Json), Outcome>>,
}
