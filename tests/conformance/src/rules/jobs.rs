//! Launches the run and the steps that several rules share.

use serde_json::{Value as Json, json};

use crate::harness::Harness;
use crate::outcome::Verdict;
use crate::specs::{self, Work};

/// Returns the spec and the reference of a run that lasts for minutes.
pub(super) fn run(harness: &Harness) -> Verdict<(Json, Json)> {
    let launch = || {
        let spec = specs::run(&specs::run_id(), 0, Work::Long, &harness.options("launcher"));
        let reference = harness.call("launcher.launch", &json!({"run": spec})).answer()?;
        harness.on_cleanup("launcher.terminate", json!({"run": reference}));
        Ok((spec, reference))
    };
    harness.shared.run.get_or_init(launch).clone()
}

/// Returns the specs and references of two steps of one run that last for minutes.
pub(super) fn steps(harness: &Harness) -> Verdict<Vec<(Json, Json)>> {
    let launch = || {
        let run_id = specs::run_id();
        let mut steps = Vec::new();
        for key in ["first", "second[it's]"] {
            let spec = specs::step(&run_id, key, Work::Long, &harness.options("executor"));
            let reference = harness.step("executor.launch", &spec).answer()?;
            harness.on_cleanup("executor.terminate", json!({"steps": [reference]}));
            steps.push((spec, reference));
        }
        Ok(steps)
    };
    harness.shared.steps.get_or_init(launch).clone()
}
