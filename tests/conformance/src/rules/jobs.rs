//! The run and the steps that several rules look at, launched once.

use std::cell::OnceCell;

use serde_json::{Value as Json, json};

use crate::bench::Bench;
use crate::outcome::{Outcome, Verdict};
use crate::specs::{self, Work};

/// What is launched once, when the first rule needs it.
#[derive(Default)]
pub(crate) struct Live {
    run: OnceCell<Result<(Json, Json), Outcome>>,
    steps: OnceCell<Result<Vec<(Json, Json)>, Outcome>>,
    /// A cluster, with the run that it was made for.
    pub(super) cluster: OnceCell<Result<(String, Json), Outcome>>,
}

/// A run that goes on for minutes: its spec, and its reference.
pub(super) fn run(bench: &Bench) -> Verdict<(Json, Json)> {
    let launch = || {
        let spec = specs::run(&specs::run_id(), 0, Work::Long, &bench.options("launcher"));
        let reference = bench.call("launcher.launch", &json!({"run": spec})).answer()?;
        bench.leave("launcher.terminate", json!({"run": reference}));
        Ok((spec, reference))
    };
    bench.live.run.get_or_init(launch).clone()
}

/// Two steps of one run that go on for minutes.
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
