//! The grant `tasks`: Ray tasks in the run's own Ray job.
//!
//! ```toml
//! [grants]
//! tasks = true
//! ```

use serde_json::Value;

use super::{Capability, Entry, Grants, no_problem};

/// The grant `tasks`.
pub type Grant = bool;

/// Ray tasks that execute steps of the caller's run.
pub static CAPABILITY: Capability = Capability {
    name: "tasks",
    example: "tasks = true",
    interfaces: &["dagster-ray:host/tasks"],
    entries: |grants| grants.tasks.then(|| Entry::new("tasks", Value::Bool(true))).into_iter().collect(),
    is_granted: |grants| grants.tasks,
    problem: no_problem,
    restrict,
};

fn restrict(grants: &mut Grants, by: &Grants) -> Vec<String> {
    let is_ineffective = by.tasks && !grants.tasks;
    grants.tasks &= by.tasks;
    is_ineffective.then(|| "grants.tasks: true".to_owned()).into_iter().collect()
}
