//! A run and steps that are launched once and shared by several rules.

use std::cell::OnceCell;

use serde_json::{Value as Json, json};

use crate::bench::Bench;
use crate::outcome::{Outcome, Verdict};
use crate::specs::{self, Work};

/// The shared run, steps and cluster, each created when a rule first needs it.
#[derive(Default)]
pub(crate) struct Live {
    run: OnceCell<Result<(Json, Json), Outcome>>,
    steps: OnceCell<Result<Vec<(Json, Json)>, Outcome>>,
    /// The id of the run that the cluster was created for, and the cluster reference.
    pub(super) cluster: OnceCell<Result<(String, Json), Outcome>>,
}

/// Returns the spec and the reference of a run that lasts for minutes.
pub(super) fn run(bench: &Bench) -> Verdict<(Json, Json)> {
    let launch = || {
        let spec = specs::run(&specs::run_id(), 0, Work::Long, &bench.options("launcher"));
        let reference = bench.call("launcher.launch", &json!({"run": spec})).answer()?;
        bench.leave("launcher.terminate", json!({"run": reference}));
        Ok((spec, reference))
    };
    bench.live.run.get_or_init(launch).clone()
}

/// Returns the specs and references of two steps of one run that last for minutes.
pub(super) fn steps(bench: &Bench) -> Verdict<Vec<(Json, Json)>> {
    let launch = || {
        let run_id = specs::run_id();
        let mut steps = Vec::new();
        for key in ["first", "second[it's]"] {
            let spec = specs::step(&run_id, key, Work::Long, &bench.options("executor"));
            let reference = bench.call("executor.launch", &json!({"step": spec})).answer()?;
            bench.leave("executor.terminate", json!({"steps": [reference]}));
            steps.push((spec, reference));
        }
        Ok(steps)
    };
    bench.live.steps.get_or_init(launch).clone()
}
