//! Calls of the interface `reconciler`.

use serde::Deserialize;
use serde_json::{Value as Json, json};
use wasmtime::Store;
use wasmtime::component::Instance;

use super::life::Life;
use super::{Failure, listener, parse};
use crate::bindings::exports::dagster_ray::backend::reconciler::{
    GuestIndices, Leftover, Outcome, Reconciliation, StepEnd,
};
use crate::capability::CallState;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    deployment: String,
    namespaces: Vec<String>,
    runs: Vec<Life>,
    ended_steps: Vec<StepEnd>,
    ended_grace_s: u64,
    unknown_grace_s: Option<u64>,
    dry_run: bool,
}

impl From<Rule> for Reconciliation {
    fn from(rule: Rule) -> Self {
        Self {
            deployment: rule.deployment,
            namespaces: rule.namespaces,
            runs: rule.runs.into_iter().map(Into::into).collect(),
            ended_steps: rule.ended_steps,
            ended_grace_s: rule.ended_grace_s,
            unknown_grace_s: rule.unknown_grace_s,
            dry_run: rule.dry_run,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reconcile {
    rule: Rule,
}

fn information(found: Leftover) -> Json {
    let outcome = match found.outcome {
        Outcome::Removed => "removed",
        Outcome::WouldRemove => "would-remove",
        Outcome::Failed => "failed",
        Outcome::NotOwned => "not-owned",
        Outcome::Kept => "kept",
    };
    json!({
        "kind": found.kind,
        "name": found.name,
        "namespace": found.namespace,
        "deployment": found.deployment,
        "run_id": found.run_id,
        "step_key": found.step_key,
        "attempt": found.attempt,
        "reason": found.reason,
        "outcome": outcome,
        "problem": found.problem,
    })
}

pub(super) async fn call(
    store: &mut Store<CallState>,
    instance: &Instance,
    function: &str,
    arguments: &str,
) -> Result<Json, Failure> {
    let guest = GuestIndices::new(&instance.instance_pre(&mut *store))?.load(&mut *store, instance)?;
    match function {
        "reconcile" => {
            let rule = parse::<Reconcile>(arguments)?.rule.into();
            let listener = listener(store)?;
            let found = guest.call_reconcile(store, &rule, listener).await??;
            Ok(found.into_iter().map(information).collect())
        }
        _ => Err(Failure::NotOffered),
    }
}
