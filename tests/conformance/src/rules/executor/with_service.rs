//! Rules of `executor` that need the service which the component uses, or a cassette.

use serde_json::{Value as Json, json};

use super::{EXECUTOR, RUN, plan_step};
use crate::harness::Harness;
use crate::network::NetworkCondition;
use crate::outcome::{Verdict, differs, expect, not_applicable};
use crate::rules::{eventually, is_missing, job_id, jobs, status};
use crate::specs::{self, Work};

pub(super) fn repeated(harness: &Harness) -> Verdict {
    for (spec, reference) in jobs::steps(harness)? {
        let planned = plan_step(harness, &spec)?;
        expect(job_id(&planned) == job_id(&reference), job_id(&planned), || job_id(&reference).to_owned())?;
        let again = harness.step("executor.launch", &spec).answer()?;
        expect(job_id(&again) == job_id(&reference), job_id(&reference), || job_id(&again).to_owned())?;
    }
    Ok(())
}

pub(super) fn lost(harness: &Harness) -> Verdict {
    let spec = specs::step(&specs::run_id(), "step", Work::Long, &harness.options(EXECUTOR));
    let planned = plan_step(harness, &spec)?;
    harness.on_cleanup("executor.terminate", json!({"steps": [planned]}));
    harness.set_network(NetworkCondition::LoseResponse);
    let launched = harness.step("executor.launch", &spec);
    if !harness.requests().iter().any(|one| one.method != http::Method::GET) {
        launched.answer()?;
        return Err(not_applicable("it launches without a request"));
    }
    let reference = match launched.answer() {
        Ok(reference) => reference,
        Err(_) => harness.step("executor.launch", &spec).answer()?,
    };
    expect(job_id(&reference) == job_id(&planned), job_id(&planned), || job_id(&reference).to_owned())
}

fn check_step(harness: &Harness, reference: &Json) -> Verdict<(String, String)> {
    let found = harness.call("executor.check", &json!({"steps": [reference]})).answer()?;
    let (id, state) = status(&found, 0);
    Ok((id.to_owned(), state.to_owned()))
}

pub(super) fn again(harness: &Harness) -> Verdict {
    let run_id = specs::run_id();
    let brief = specs::step(&run_id, "again", Work::Brief, &harness.options(EXECUTOR));
    let first = harness.step("executor.launch", &brief).answer()?;
    harness.on_cleanup("executor.terminate", json!({"steps": [first]}));
    eventually("a brief step succeeds", || {
        let found = harness.call("executor.check", &json!({"steps": [first]})).answer()?;
        let (_, state) = status(&found, 0);
        let message = found[0]["message"].as_str().unwrap_or_default();
        if matches!(state, "failed" | "stopped" | "missing") {
            return Err(differs("succeeded", format!("{state}: {message}")));
        }
        Ok(if state == "succeeded" { Ok(()) } else { Err(format!("{state}: {message}")) })
    })?;
    let long = specs::step(&run_id, "again", Work::Long, &harness.options(EXECUTOR));
    let second = harness.step("executor.launch", &long).answer()?;
    harness.on_cleanup("executor.terminate", json!({"steps": [second]}));
    let (id, state) = check_step(harness, &first)?;
    let alive = matches!(state.as_str(), "pending" | "running");
    expect(id == job_id(&second) && alive, &format!("{} pending or running", job_id(&second)), || {
        format!("{id}, {state}")
    })
}

pub(super) fn order(harness: &Harness) -> Verdict {
    let steps = jobs::steps(harness)?;
    let [(_, one), (_, two)] = steps.as_slice() else { return Ok(()) };
    let spec = specs::step(&specs::run_id(), "never-launched", Work::Brief, &harness.options(EXECUTOR));
    let unlaunched = plan_step(harness, &spec)?;
    let found = harness.call("executor.check", &json!({"steps": [two, unlaunched, one]})).answer()?;
    let all: Vec<(&str, &str)> = (0..3).map(|at| status(&found, at)).collect();
    let alive = |state: &str| matches!(state, "pending" | "running");
    expect(
        alive(all[0].1) && is_missing(&found[1]) && alive(all[2].1),
        "pending or running, missing, pending or running",
        || format!("{}, {}, {}", all[0].1, all[1].1, all[2].1),
    )?;
    let ids = [job_id(two), job_id(one)];
    expect([all[0].0, all[2].0] == ids, &ids.join(", "), || format!("{}, {}", all[0].0, all[2].0))
}

pub(super) fn batch(harness: &Harness) -> Verdict {
    let steps = jobs::steps(harness)?;
    let run_id = steps.first().map_or(RUN, |(spec, _)| spec["run_id"].as_str().unwrap_or_default());
    let plan = |at: usize| {
        let key = format!("never-launched-{at}");
        plan_step(harness, &specs::step(run_id, &key, Work::Brief, &harness.options(EXECUTOR)))
    };
    let unlaunched: Vec<Json> = (steps.len()..20).map(plan).collect::<Verdict<_>>()?;
    let requests = |count: usize| {
        harness.set_network(NetworkCondition::Normal);
        let all = steps.iter().map(|(_, reference)| reference).chain(&unlaunched);
        let checked: Vec<&Json> = all.take(count).collect();
        let found = harness.call("executor.check", &json!({"steps": checked})).answer()?;
        let answered = found.as_array().map_or(0, Vec::len);
        expect(answered == count, &format!("{count} statuses"), || answered.to_string())?;
        Ok(harness.requests().len())
    };
    // Both contain a step that was not launched: a missing job can take one more request.
    let (few, many) = (requests(3)?, requests(20)?);
    expect(many <= few, &format!("{few} requests for 20 steps, as for 3"), || many.to_string())
}

pub(super) fn terminate(harness: &Harness) -> Verdict {
    let steps = jobs::steps(harness)?;
    let references: Vec<&Json> = steps.iter().map(|(_, reference)| reference).collect();
    let arguments = json!({"steps": references});
    let ended = harness.call("executor.terminate", &arguments).answer()?;
    for (at, reference) in references.iter().enumerate() {
        let (id, state) = status(&ended, at);
        expect(id == job_id(reference), job_id(reference), || id.to_owned())?;
        expect(state == "stopped", "stopped", || state.to_owned())?;
    }
    let again = harness.call("executor.terminate", &arguments).answer()?;
    for at in 0..references.len() {
        let (_, state) = status(&again, at);
        expect(matches!(state, "stopped" | "missing"), "stopped or missing", || state.to_owned())?;
    }
    Ok(())
}

pub(super) fn finish(harness: &Harness) -> Verdict {
    let options = Json::Object(harness.options(EXECUTOR)).to_string();
    let run_id = specs::run_id();
    let finished = json!({"run_id": run_id, "options": options, "tags": [[["dagster-ray/config", "{}"]]]});
    for _ in 0..2 {
        harness.call("executor.finish", &finished).answer()?;
    }
    Ok(())
}
