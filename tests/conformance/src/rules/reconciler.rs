//! Rules of `reconciler`. The jobs that they leave are those of `executor`.

use dagster_ray_recording::InjectedFault;
use http::StatusCode;
use serde_json::{Value as Json, json};

use super::Needs::{Nothing, Service};
use super::{Rule, expect_unavailable, hostile, job_id, status};
use crate::harness::Harness;
use crate::outcome::{Verdict, differs, expect, not_applicable};
use crate::specs::{self, Work};

const RECONCILER: &str = "reconciler";
const EXECUTOR: &str = "executor";
const OTHER_DEPLOYMENT: &str = "another-deployment";

pub(super) const RULES: [Rule; 7] = [
    Rule {
        interface: RECONCILER,
        name: "objects that cannot be listed are an error, not an empty list",
        reason: "a user would believe that nothing runs on",
        needs: Nothing,
        run: away,
    },
    Rule {
        interface: RECONCILER,
        name: "no text in a rule causes a trap",
        reason: "step keys contain mapping keys, which come from users' data",
        needs: Nothing,
        run: texts,
    },
    Rule {
        interface: RECONCILER,
        name: "a dry run reports the job of an ended run, with the reason, and leaves it alone",
        reason: "an operator decides by the dry run",
        needs: Service,
        run: dry_run,
    },
    Rule {
        interface: RECONCILER,
        name: "the job of an ended run is removed, and those of live, recent and unknown runs are kept",
        reason: "a killed run worker cannot stop its steps, and a live run must not lose one",
        needs: Service,
        run: removal,
    },
    Rule {
        interface: RECONCILER,
        name: "the job of an unknown run is removed only after its grace period",
        reason: "a run may be missing from a stale read of Dagster's storage",
        needs: Service,
        run: unknown,
    },
    Rule {
        interface: RECONCILER,
        name: "the job of another deployment is listed and left alone",
        reason: "several deployments share one Ray, and none may remove what belongs to another",
        needs: Service,
        run: deployments,
    },
    Rule {
        interface: RECONCILER,
        name: "a later attempt of a step stops the job that an earlier attempt left",
        reason: "two attempts of a step must not run at the same time",
        needs: Service,
        run: attempts,
    },
];

fn rule(runs: Json) -> Json {
    json!({
        "deployment": specs::DEPLOYMENT,
        "namespaces": [],
        "runs": runs,
        "ended_steps": [],
        "ended_grace_s": 3_600,
        "unknown_grace_s": null,
        "dry_run": false,
    })
}

fn ended(run_id: &str) -> Json {
    json!({"run_id": run_id, "state": "failed", "ended_at": 1_000})
}

fn reconcile(harness: &Harness, rule: &Json) -> Verdict<Vec<Json>> {
    match harness.call("reconciler.reconcile", &json!({"rule": rule})).answer()? {
        Json::Array(found) => Ok(found),
        other => Err(differs("a list", other.to_string())),
    }
}

fn away(harness: &Harness) -> Verdict {
    for fault in [
        InjectedFault::Reset,
        InjectedFault::Respond(StatusCode::INTERNAL_SERVER_ERROR, "out of order".into()),
    ] {
        harness.offline(fault);
        let called = harness.call("reconciler.reconcile", &json!({"rule": rule(json!([]))}));
        if harness.requests().is_empty() && called.result.is_ok() {
            return Err(not_applicable("it sends no request to list objects"));
        }
        expect_unavailable(&called, "objects that cannot be listed")?;
    }
    Ok(())
}

fn texts(harness: &Harness) -> Verdict {
    hostile::texts(harness, "reconciler.reconcile", |text| {
        let mut rule = rule(json!([ended(text)]));
        rule["deployment"] = text.into();
        rule["namespaces"] = json!([text]);
        rule["ended_steps"] =
            json!([{"run_id": text, "step_key": text, "attempt": u32::MAX, "ended_at": u64::MAX}]);
        json!({"rule": rule})
    })
}

/// Launches a long step of a new run, and returns the run id and the step's reference.
fn left(harness: &Harness, deployment: &str) -> Verdict<(String, Json)> {
    if !harness.exports(EXECUTOR) {
        return Err(not_applicable("it does not export executor, whose jobs the rule leaves"));
    }
    let run_id = specs::run_id();
    let mut spec = specs::step(&run_id, "left", Work::Long, &harness.options(EXECUTOR));
    spec["deployment"] = deployment.into();
    let reference = harness.step("executor.launch", &spec).answer()?;
    harness.on_cleanup("executor.terminate", json!({"steps": [reference]}));
    Ok((run_id, reference))
}

fn expect_alive(harness: &Harness, reference: &Json, alive: bool) -> Verdict {
    let found = harness.call("executor.check", &json!({"steps": [reference]})).answer()?;
    let (_, state) = status(&found, 0);
    let expected = if alive { "pending or running" } else { "stopped or missing" };
    let is_alive = matches!(state, "pending" | "running");
    expect(is_alive == alive, expected, || format!("{}: {state}", job_id(reference)))
}

/// Ends the rule unless the only leftover of the run has this outcome.
fn expect_outcome(found: &[Json], run_id: &str, outcome: &str) -> Verdict {
    let of_run: Vec<_> = found.iter().filter(|one| one["run_id"] == run_id).collect();
    let matches = matches!(of_run.as_slice(), [one] if one["outcome"] == outcome && one["reason"] != "");
    expect(matches, &format!("one leftover of the run with the outcome {outcome} and a reason"), || {
        Json::from(found.to_vec()).to_string()
    })
}

fn dry_run(harness: &Harness) -> Verdict {
    let (run_id, reference) = left(harness, specs::DEPLOYMENT)?;
    let mut rule = rule(json!([ended(&run_id)]));
    rule["dry_run"] = true.into();
    expect_outcome(&reconcile(harness, &rule)?, &run_id, "would-remove")?;
    expect_alive(harness, &reference, true)
}

fn removal(harness: &Harness) -> Verdict {
    let (over, over_step) = left(harness, specs::DEPLOYMENT)?;
    let (live, live_step) = left(harness, specs::DEPLOYMENT)?;
    let (recent, recent_step) = left(harness, specs::DEPLOYMENT)?;
    let (unknown, unknown_step) = left(harness, specs::DEPLOYMENT)?;
    let runs = json!([
        ended(&over),
        {"run_id": live, "state": "live", "ended_at": null},
        // A time that no clock has passed yet.
        {"run_id": recent, "state": "succeeded", "ended_at": 4_000_000_000_u64},
    ]);
    let found = reconcile(harness, &rule(runs.clone()))?;
    expect_outcome(&found, &over, "removed")?;
    for kept in [&live, &recent, &unknown] {
        expect(!found.iter().any(|one| one["run_id"] == *kept), "no leftover of a run that is kept", || {
            Json::from(found.clone()).to_string()
        })?;
    }
    expect_alive(harness, &over_step, false)?;
    for kept in [&live_step, &recent_step, &unknown_step] {
        expect_alive(harness, kept, true)?;
    }
    let again = reconcile(harness, &rule(runs))?;
    expect(!again.iter().any(|one| one["run_id"] == over), "no leftover the second time", || {
        Json::from(again.clone()).to_string()
    })
}

fn unknown(harness: &Harness) -> Verdict {
    let (run_id, reference) = left(harness, specs::DEPLOYMENT)?;
    let mut rule = rule(json!([]));
    // A dry run: the jobs of other rules are unknown too.
    rule["dry_run"] = true.into();
    rule["unknown_grace_s"] = 86_400.into();
    let found = reconcile(harness, &rule)?;
    expect(!found.iter().any(|one| one["run_id"] == run_id), "no leftover within the grace period", || {
        Json::from(found.clone()).to_string()
    })?;
    rule["unknown_grace_s"] = 0.into();
    expect_outcome(&reconcile(harness, &rule)?, &run_id, "would-remove")?;
    expect_alive(harness, &reference, true)
}

fn deployments(harness: &Harness) -> Verdict {
    let (run_id, reference) = left(harness, OTHER_DEPLOYMENT)?;
    expect_outcome(&reconcile(harness, &rule(json!([ended(&run_id)])))?, &run_id, "not-owned")?;
    expect_alive(harness, &reference, true)
}

fn attempts(harness: &Harness) -> Verdict {
    let (run_id, first) = left(harness, specs::DEPLOYMENT)?;
    let mut spec = specs::step(&run_id, "left", Work::Long, &harness.options(EXECUTOR));
    spec["attempt"] = 1.into();
    let second = harness.step("executor.launch", &spec).answer()?;
    harness.on_cleanup("executor.terminate", json!({"steps": [second]}));
    expect_alive(harness, &first, false)?;
    expect_alive(harness, &second, true)
}
