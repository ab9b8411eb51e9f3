//! Rules of `executor`. Those that need a service are in `with_service.rs`.

mod with_service;

use dagster_ray_recording::InjectedFault;
use http::StatusCode;
use serde_json::{Map, Value as Json, json};

use super::Needs::{Nothing, Service};
use super::{
    Rule, expect_deployment, expect_no_leak, expect_no_request, expect_unavailable, hostile, job_id, options,
};
use crate::harness::{CallResult, Harness};
use crate::outcome::{Verdict, expect, not_applicable};
use crate::specs::{self, TAG, Work};

const EXECUTOR: &str = "executor";
const RUN: &str = "8c1f7a52-0000-4000-8000-000000000002";

pub(super) const RULES: [Rule; 21] = [
    Rule {
        interface: EXECUTOR,
        name: "an unknown option is rejected by name before any request is sent",
        reason: "a misspelled key would be ignored and the step would get fewer resources than requested",
        needs: Nothing,
        run: |harness| options::unknown_key(harness, EXECUTOR, |options| plan(harness, options)),
    },
    Rule {
        interface: EXECUTOR,
        name: "an option of the wrong type is rejected by name before any request is sent",
        reason: "Dagster plans a step before the step starts",
        needs: Nothing,
        run: |harness| options::wrong_values(harness, EXECUTOR, |options| plan(harness, options)),
    },
    Rule {
        interface: EXECUTOR,
        name: "the tag dagster-ray/config overrides the options field by field, including with 0",
        reason: "one op can turn off what the other ops need",
        needs: Nothing,
        run: |harness| options::tag(harness, EXECUTOR, |options, tag| launch(harness, options, tag)),
    },
    Rule {
        interface: EXECUTOR,
        name: "planning a step sends no request and is deterministic",
        reason: "a step is planned before each launch, and again after a crash",
        needs: Nothing,
        run: planned,
    },
    Rule {
        interface: EXECUTOR,
        name: "a step with `enabled: false` is local, and nothing is submitted for it",
        reason: "the run worker executes such a step, which must not run on Ray too",
        needs: Nothing,
        run: local,
    },
    Rule {
        interface: EXECUTOR,
        name: "an invalid step does not fail the other steps of the call",
        reason: "one wrong tag must fail one step, not the run",
        needs: Nothing,
        run: isolated,
    },
    Rule {
        interface: EXECUTOR,
        name: "each step, attempt and run has its own job name",
        reason: "keys of mapped steps differ by a few characters, and each step has to execute",
        needs: Nothing,
        run: names,
    },
    Rule {
        interface: EXECUTOR,
        name: "checking or terminating an empty list of steps sends no request",
        reason: "Dagster checks every few seconds",
        needs: Nothing,
        run: none,
    },
    Rule {
        interface: EXECUTOR,
        name: "a launched job carries the id of its Dagster deployment",
        reason: "several deployments share one Ray, and none may remove what belongs to another",
        needs: Nothing,
        run: deployment,
    },
    Rule {
        interface: EXECUTOR,
        name: "a 500 response is not reported as a missing step",
        reason: "Dagster fails a step whose job is missing",
        needs: Nothing,
        run: |harness| {
            away(harness, InjectedFault::Respond(StatusCode::INTERNAL_SERVER_ERROR, "out of order".into()))
        },
    },
    Rule {
        interface: EXECUTOR,
        name: "a broken connection is not reported as a missing step",
        reason: "Dagster fails a step whose job is missing",
        needs: Nothing,
        run: |harness| away(harness, InjectedFault::Reset),
    },
    Rule {
        interface: EXECUTOR,
        name: "no text in a step spec causes a trap",
        reason: "step keys contain mapping keys, which come from users' data",
        needs: Nothing,
        run: texts,
    },
    Rule {
        interface: EXECUTOR,
        name: "no content of options or references causes a trap",
        reason: "a trap is a defect and explains nothing to the user",
        needs: Nothing,
        run: random_content,
    },
    Rule {
        interface: EXECUTOR,
        name: "a launch creates the planned job, and a repeated launch returns it",
        reason: "a run worker may restart, and a step must not execute twice",
        needs: Service,
        run: with_service::repeated,
    },
    Rule {
        interface: EXECUTOR,
        name: "a launch whose response is lost creates one job",
        reason: "a connection can break after the service has applied the request",
        needs: Service,
        run: with_service::lost,
    },
    Rule {
        interface: EXECUTOR,
        name: "a step whose job has ended gets a new job, and the old reference resolves to it",
        reason: "the ended job belongs to an earlier run worker",
        needs: Service,
        run: with_service::again,
    },
    Rule {
        interface: EXECUTOR,
        name: "statuses have the order of the steps, and a step without a job is missing",
        reason: "Dagster matches statuses to steps by position",
        needs: Service,
        run: with_service::order,
    },
    Rule {
        interface: EXECUTOR,
        name: "the number of requests does not grow with the number of steps",
        reason: "a run checks hundreds of steps at once",
        needs: Service,
        run: with_service::batch,
    },
    Rule {
        interface: EXECUTOR,
        name: "terminated steps stop, statuses keep their order, and terminating again succeeds",
        reason: "an interrupted run terminates all of its steps and waits for them",
        needs: Service,
        run: with_service::terminate,
    },
    Rule {
        interface: EXECUTOR,
        name: "finishing a run succeeds twice, and for a run without jobs",
        reason: "more than one process may report the end of a run",
        needs: Service,
        run: with_service::finish,
    },
    Rule {
        interface: EXECUTOR,
        name: "no error or log line contains values of a step's environment",
        reason: "both end up in Dagster's event log, which more people can read",
        needs: Nothing,
        run: |harness| expect_no_leak(harness, EXECUTOR),
    },
];

fn plan(harness: &Harness, options: &Map<String, Json>) -> CallResult {
    harness.step("executor.plan", &specs::step(RUN, "step", Work::Brief, options))
}

fn launch(harness: &Harness, options: &Map<String, Json>, tag: Option<&Json>) -> CallResult {
    let mut spec = specs::step(RUN, "step", Work::Brief, options);
    if let Some(tag) = tag {
        spec["tags"] = json!([["team", "conformance"], [TAG, tag.to_string()]]);
    }
    harness.step("executor.launch", &spec)
}

fn deployment(harness: &Harness) -> Verdict {
    expect_deployment(harness, || {
        launch(harness, &harness.options(EXECUTOR), None);
    })
}

fn plan_step(harness: &Harness, spec: &Json) -> Verdict<Json> {
    harness.step("executor.plan", spec).answer()
}

fn local(harness: &Harness) -> Verdict {
    if !harness.schema(EXECUTOR).is_some_and(|schema| schema.has("enabled")) {
        return Err(not_applicable("its options have no `enabled`"));
    }
    harness.offline(InjectedFault::Refuse);
    let mut spec = specs::step(RUN, "step", Work::Brief, &harness.options(EXECUTOR));
    spec["tags"] = json!([[TAG, json!({"enabled": false}).to_string()]]);
    for export in ["executor.plan", "executor.launch"] {
        let placement = harness.step(export, &spec).answer()?;
        expect(placement == "local", "local", || placement.to_string())?;
    }
    expect_no_request(harness, "a local step is planned and launched")
}

fn isolated(harness: &Harness) -> Verdict {
    harness.offline(InjectedFault::Refuse);
    let options = harness.options(EXECUTOR);
    let valid = |key: &str| specs::step(RUN, key, Work::Brief, &options);
    plan_step(harness, &valid("one"))?;
    let mut invalid = valid("invalid");
    invalid["tags"] = json!([[TAG, "not JSON"]]);
    let called = harness.call("executor.plan", &json!({"steps": [valid("one"), invalid, valid("two")]}));
    let placements = called.answer()?;
    if called.errors.is_empty() {
        return Err(not_applicable("it accepts any tag"));
    }
    let has_error = |at: usize| placements[at].get("error").is_some();
    let found: Vec<bool> = (0..3).map(has_error).collect();
    expect(found == [false, true, false], "one error, for the second of three steps", || {
        placements.to_string()
    })
}

fn planned(harness: &Harness) -> Verdict {
    harness.offline(InjectedFault::Refuse);
    let spec = specs::step(RUN, "load[2026-01-01]", Work::Brief, &harness.options(EXECUTOR));
    let (first, second) = (plan_step(harness, &spec)?, plan_step(harness, &spec)?);
    expect(first == second, "the same plan twice", || format!("{first}, then {second}"))?;
    expect_no_request(harness, "a step is planned")
}

fn names(harness: &Harness) -> Verdict {
    harness.offline(InjectedFault::Refuse);
    let options = harness.options(EXECUTOR);
    let (long, longer) = (format!("{}a", "k".repeat(300)), format!("{}b", "k".repeat(300)));
    let mut ids = Vec::new();
    for key in ["load", "load[a]", "load[b]", "load_a", "load.a", &long, &longer] {
        for (run, attempt) in [(RUN, 0), (RUN, 1), ("8c1f7a52-0000-4000-8000-000000000003", 0)] {
            let mut spec = specs::step(run, key, Work::Brief, &options);
            spec["attempt"] = attempt.into();
            ids.push(job_id(&plan_step(harness, &spec)?).to_owned());
        }
    }
    ids.sort_unstable();
    let repeated: Vec<_> =
        ids.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].as_str()).collect();
    expect(repeated.is_empty(), "a different name for each", || format!("repeated: {}", repeated.join(", ")))
}

fn none(harness: &Harness) -> Verdict {
    harness.offline(InjectedFault::Refuse);
    for export in ["executor.check", "executor.terminate"] {
        let answer = harness.call(export, &json!({"steps": []})).answer()?;
        expect(answer == json!([]), "no status", || answer.to_string())?;
    }
    expect_no_request(harness, "an empty list is checked and terminated")
}

fn away(harness: &Harness, fault: InjectedFault) -> Verdict {
    harness.offline(fault);
    let options = harness.options(EXECUTOR);
    let one = plan_step(harness, &specs::step(RUN, "one", Work::Brief, &options))?;
    let two = plan_step(harness, &specs::step(RUN, "two", Work::Brief, &options))?;
    for steps in [json!([one]), json!([one, two])] {
        let called = harness.call("executor.check", &json!({"steps": steps}));
        if harness.requests().is_empty() && called.result.is_ok() {
            return Err(not_applicable("it sends no request for the status of steps"));
        }
        expect_unavailable(&called, "a status that cannot be read")?;
    }
    Ok(())
}

fn texts(harness: &Harness) -> Verdict {
    for export in ["executor.plan", "executor.launch"] {
        hostile::texts(harness, export, |text| {
            let mut step = specs::step(text, text, Work::Brief, &harness.options(EXECUTOR));
            step["job_name"] = text.into();
            step["tags"] = json!([[text, text]]);
            step["command"]["argv"] = json!([text, text]);
            step["command"]["env"] = json!([[text, text]]);
            json!({"steps": [step]})
        })?;
    }
    hostile::texts(
        harness,
        "executor.finish",
        |text| json!({"run_id": text, "options": "{}", "tags": [[[text, text]]]}),
    )
}

fn random_content(harness: &Harness) -> Verdict {
    for export in ["executor.plan", "executor.launch"] {
        hostile::random_content(harness, export, |any| {
            let mut step = specs::step(&any.text, &any.text, Work::Brief, &Map::new());
            step["options"] = any.options.clone().into();
            step["tags"] = any.tags.clone();
            json!({"steps": [step]})
        })?;
    }
    let reference = |any: &hostile::RandomContent| {
        let job = json!({"submission_id": any.text, "dashboard_url": any.text, "details": any.details});
        json!({"run_id": any.text, "step_key": any.text, "attempt": 3, "job": job})
    };
    for export in ["executor.check", "executor.terminate"] {
        hostile::random_content(harness, export, |any| json!({"steps": [reference(any), reference(any)]}))?;
    }
    hostile::random_content(
        harness,
        "executor.finish",
        |any| json!({"run_id": any.text, "options": any.options, "tags": [any.tags]}),
    )
}
