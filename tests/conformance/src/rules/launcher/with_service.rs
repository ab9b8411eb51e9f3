//! Rules of `launcher` that need a service.

use serde_json::{Value as Json, json};

use super::{LAUNCHER, plan_run};
use crate::harness::Harness;
use crate::network::NetworkCondition;
use crate::outcome::{Verdict, expect};
use crate::rules::{is_missing, job_id, jobs, status};
use crate::specs::{self, Work};

pub(super) fn planned(harness: &Harness) -> Verdict {
    let (spec, reference) = jobs::run(harness)?;
    let run_id = spec["run_id"].as_str().unwrap_or_default();
    let planned = plan_run(harness, run_id, 0)?;
    expect(job_id(&planned) == job_id(&reference), job_id(&planned), || job_id(&reference).to_owned())
}

pub(super) fn repeated(harness: &Harness) -> Verdict {
    let (spec, reference) = jobs::run(harness)?;
    let again = harness.call("launcher.launch", &json!({"run": spec})).answer()?;
    expect(job_id(&again) == job_id(&reference), job_id(&reference), || job_id(&again).to_owned())
}

pub(super) fn lost(harness: &Harness) -> Verdict {
    let spec = specs::run(&specs::run_id(), 0, Work::Long, &harness.options(LAUNCHER));
    let planned = plan_run(harness, spec["run_id"].as_str().unwrap_or_default(), 0)?;
    harness.on_cleanup("launcher.terminate", json!({"run": planned}));
    harness.set_network(NetworkCondition::LoseResponse);
    let launched = harness.call("launcher.launch", &json!({"run": spec}));
    if !harness.requests().iter().any(|one| one.method != http::Method::GET) {
        launched.answer()?;
        return Err(crate::outcome::not_applicable("it launches without a request"));
    }
    // The component may report that the outcome is unknown. The caller then launches again.
    let reference = match launched.answer() {
        Ok(reference) => reference,
        Err(_) => harness.call("launcher.launch", &json!({"run": spec})).answer()?,
    };
    expect(job_id(&reference) == job_id(&planned), job_id(&planned), || job_id(&reference).to_owned())?;
    let found = harness.call("launcher.check", &json!({"runs": [reference]})).answer()?;
    let (_, state) = status(&found, 0);
    expect(matches!(state, "pending" | "running"), "one pending or running job", || state.to_owned())
}

pub(super) fn resume(harness: &Harness) -> Verdict {
    let (spec, reference) = jobs::run(harness)?;
    let mut again = spec.clone();
    again["attempt"] = 1.into();
    let resumed = harness.call("launcher.resume", &json!({"run": again})).answer()?;
    harness.on_cleanup("launcher.terminate", json!({"run": resumed}));
    expect(job_id(&resumed) != job_id(&reference), "another job", || job_id(&resumed).to_owned())?;
    let planned = plan_run(harness, spec["run_id"].as_str().unwrap_or_default(), 1)?;
    expect(job_id(&planned) == job_id(&resumed), job_id(&planned), || job_id(&resumed).to_owned())
}

pub(super) fn order(harness: &Harness) -> Verdict {
    let (_, reference) = jobs::run(harness)?;
    let unlaunched = plan_run(harness, &specs::run_id(), 0)?;
    let found =
        harness.call("launcher.check", &json!({"runs": [unlaunched, reference, unlaunched]})).answer()?;
    let states: Vec<&str> = (0..3).map(|at| status(&found, at).1).collect();
    let alive = matches!(states[1], "pending" | "running");
    expect(
        is_missing(&found[0]) && alive && is_missing(&found[2]),
        "missing, pending or running, missing",
        || states.join(", "),
    )?;
    let ids: Vec<&str> = (0..3).map(|at| status(&found, at).0).collect();
    expect(ids[1] == job_id(&reference), "the id of each job at its position", || ids.join(", "))?;
    let alone = harness.call("launcher.check", &json!({"runs": [unlaunched]})).answer()?;
    expect(is_missing(&alone[0]), "missing", || status(&alone, 0).1.to_owned())
}

pub(super) fn batch(harness: &Harness) -> Verdict {
    let (_, reference) = jobs::run(harness)?;
    let unlaunched: Vec<Json> =
        (1..20).map(|_| plan_run(harness, &specs::run_id(), 0)).collect::<Verdict<_>>()?;
    let requests = |count: usize| {
        harness.set_network(NetworkCondition::Normal);
        let runs: Vec<&Json> = std::iter::once(&reference).chain(&unlaunched).take(count).collect();
        let found = harness.call("launcher.check", &json!({"runs": runs})).answer()?;
        let answered = found.as_array().map_or(0, Vec::len);
        expect(answered == count, &format!("{count} statuses"), || answered.to_string())?;
        Ok(harness.requests().len())
    };
    let (few, many) = (requests(2)?, requests(20)?);
    expect(many <= few, &format!("{few} requests for 20 runs, as for 2"), || many.to_string())
}

pub(super) fn terminate(harness: &Harness) -> Verdict {
    let (_, reference) = jobs::run(harness)?;
    let end = |run: &Json| harness.call("launcher.terminate", &json!({"run": run})).answer();
    let first = end(&reference)?;
    expect(first == "stopped", "stopped", || first.to_string())?;
    let found = harness.call("launcher.check", &json!({"runs": [reference]})).answer()?;
    let (_, state) = status(&found, 0);
    // The objects of the run are deleted, which may include the record of the job.
    expect(matches!(state, "stopped" | "missing"), "stopped", || state.to_owned())?;
    let second = end(&reference)?;
    expect(second == "already-ended" || second == "missing", "already-ended", || second.to_string())?;
    let never = end(&plan_run(harness, &specs::run_id(), 0)?)?;
    expect(never == "missing", "missing for a run that was never launched", || never.to_string())
}
