//! Rules of `launcher`. Those that need a service are in `with_service.rs`.

mod with_service;

use dagster_ray_recording::InjectedFault;
use http::StatusCode;
use serde_json::{Map, Value as Json, json};

use super::Needs::{Nothing, Service};
use super::{
    Rule, expect_deployment, expect_no_leak, expect_no_request, expect_unavailable, hostile, job_id, options,
};
use crate::harness::{CallResult, Harness};
use crate::outcome::{Verdict, expect};
use crate::specs::{self, TAG, Work};

const LAUNCHER: &str = "launcher";

pub(super) const RULES: [Rule; 21] = [
    Rule {
        interface: LAUNCHER,
        name: "an unknown option is rejected by name before any request is sent",
        reason: "a misspelled key would be ignored and the run would get fewer resources than requested",
        needs: Nothing,
        run: |harness| options::unknown_key(harness, LAUNCHER, |options| launch(harness, options, None)),
    },
    Rule {
        interface: LAUNCHER,
        name: "an option of the wrong type is rejected by name before any request is sent",
        reason: "a run with invalid options must not start",
        needs: Nothing,
        run: |harness| options::wrong_values(harness, LAUNCHER, |options| launch(harness, options, None)),
    },
    Rule {
        interface: LAUNCHER,
        name: "the tag dagster-ray/config overrides the options field by field, including with 0",
        reason: "users can turn off a default for one run",
        needs: Nothing,
        run: |harness| options::tag(harness, LAUNCHER, |options, tag| launch(harness, options, tag)),
    },
    Rule {
        interface: LAUNCHER,
        name: "a plan sends no request, and repeating it names the same job",
        reason: "the caller keeps the planned reference before the launch, and restores a lost one",
        needs: Nothing,
        run: plan,
    },
    Rule {
        interface: LAUNCHER,
        name: "a plan rejects invalid options by name",
        reason: "a mistake is found before the run's reference is stored and its launch reported",
        needs: Nothing,
        run: plan_invalid,
    },
    Rule {
        interface: LAUNCHER,
        name: "enabled: false in the options or the tag places a run in Dagster's default run launcher",
        reason: "the caller obeys the component's decision",
        needs: Nothing,
        run: local,
    },
    Rule {
        interface: LAUNCHER,
        name: "each run and each attempt has its own job name",
        reason: "a resumed run must not be confused with the run worker that died",
        needs: Nothing,
        run: names,
    },
    Rule {
        interface: LAUNCHER,
        name: "checking an empty list of runs sends no request",
        reason: "Dagster's run monitoring checks every few seconds",
        needs: Nothing,
        run: check_none,
    },
    Rule {
        interface: LAUNCHER,
        name: "a launched job carries the id of its Dagster deployment",
        reason: "several deployments share one Ray, and none may remove what belongs to another",
        needs: Nothing,
        run: deployment,
    },
    Rule {
        interface: LAUNCHER,
        name: "a 500 response is not reported as a missing run",
        reason: "Dagster fails a run whose job is missing",
        needs: Nothing,
        run: |harness| {
            away(harness, InjectedFault::Respond(StatusCode::INTERNAL_SERVER_ERROR, "out of order".into()))
        },
    },
    Rule {
        interface: LAUNCHER,
        name: "a broken connection is not reported as a missing run",
        reason: "Dagster fails a run whose job is missing",
        needs: Nothing,
        run: |harness| away(harness, InjectedFault::Reset),
    },
    Rule {
        interface: LAUNCHER,
        name: "no text in a run spec causes a trap",
        reason: "users write job names, tags and paths",
        needs: Nothing,
        run: texts,
    },
    Rule {
        interface: LAUNCHER,
        name: "no content of options or references causes a trap",
        reason: "a trap is a defect and explains nothing to the user",
        needs: Nothing,
        run: random_content,
    },
    Rule {
        interface: LAUNCHER,
        name: "a launch creates the planned job",
        reason: "a launch whose response was lost can still be terminated",
        needs: Service,
        run: with_service::planned,
    },
    Rule {
        interface: LAUNCHER,
        name: "a repeated launch returns the existing job",
        reason: "the daemon may restart, and a run must not execute twice",
        needs: Service,
        run: with_service::repeated,
    },
    Rule {
        interface: LAUNCHER,
        name: "a launch whose response is lost creates one job",
        reason: "a connection can break after the service has applied the request",
        needs: Service,
        run: with_service::lost,
    },
    Rule {
        interface: LAUNCHER,
        name: "a resumed run gets a new job",
        reason: "the job that died keeps its name and its logs",
        needs: Service,
        run: with_service::resume,
    },
    Rule {
        interface: LAUNCHER,
        name: "statuses have the order of the runs, and a run without a job is missing",
        reason: "Dagster matches statuses to runs by position",
        needs: Service,
        run: with_service::order,
    },
    Rule {
        interface: LAUNCHER,
        name: "the number of requests does not grow with the number of runs",
        reason: "a deployment checks hundreds of runs at once",
        needs: Service,
        run: with_service::batch,
    },
    Rule {
        interface: LAUNCHER,
        name: "a terminated run is reported as stopped, and terminating again succeeds",
        reason: "Dagster waits for the end, and users may terminate twice",
        needs: Service,
        run: with_service::terminate,
    },
    Rule {
        interface: LAUNCHER,
        name: "no error or log line contains values of a run's environment",
        reason: "both end up in Dagster's event log, which more people can read",
        needs: Nothing,
        run: |harness| expect_no_leak(harness, LAUNCHER),
    },
];

fn launch(harness: &Harness, options: &Map<String, Json>, tag: Option<&Json>) -> CallResult {
    let mut spec = specs::run("8c1f7a52-0000-4000-8000-000000000001", 0, Work::Brief, options);
    if let Some(tag) = tag {
        spec["tags"] = json!([["team", "conformance"], [TAG, tag.to_string()]]);
    }
    harness.call("launcher.launch", &json!({"run": spec}))
}

fn deployment(harness: &Harness) -> Verdict {
    expect_deployment(harness, || {
        launch(harness, &harness.options(LAUNCHER), None);
    })
}

/// Plans a run, and returns the reference to its job.
fn plan_run(harness: &Harness, run_id: &str, attempt: u32) -> Verdict<Json> {
    let spec = specs::run(run_id, attempt, Work::Brief, &harness.options(LAUNCHER));
    let placement = harness.call("launcher.plan", &json!({"run": spec})).answer()?;
    expect(placement["job"].is_object(), "a job", || placement.to_string())?;
    Ok(placement["job"].clone())
}

fn plan(harness: &Harness) -> Verdict {
    harness.offline(InjectedFault::Refuse);
    let run_id = specs::run_id();
    let (one, other) = (plan_run(harness, &run_id, 1)?, plan_run(harness, &run_id, 1)?);
    expect(one == other, &one.to_string(), || other.to_string())?;
    let names_run = one["run_id"] == run_id.as_str() && one["attempt"] == 1;
    expect(names_run, "the id and the attempt of the run", || one.to_string())?;
    expect_no_request(harness, "a run is planned")
}

fn plan_invalid(harness: &Harness) -> Verdict {
    let plan = |options: &Map<String, Json>| {
        let spec = specs::run(&specs::run_id(), 0, Work::Brief, options);
        harness.call("launcher.plan", &json!({"run": spec}))
    };
    options::unknown_key(harness, LAUNCHER, plan)?;
    options::wrong_values(harness, LAUNCHER, plan)
}

fn local(harness: &Harness) -> Verdict {
    if !harness.schema(LAUNCHER).is_some_and(|schema| schema.has("enabled")) {
        return Err(crate::outcome::not_applicable("its options have no `enabled`"));
    }
    harness.offline(InjectedFault::Refuse);
    let place = |options: &Map<String, Json>, tag: &Json| {
        let mut spec = specs::run(&specs::run_id(), 0, Work::Brief, options);
        spec["tags"] = json!([[TAG, tag.to_string()]]);
        harness.call("launcher.plan", &json!({"run": spec})).answer()
    };
    let mut off = harness.options(LAUNCHER);
    off.insert("enabled".to_owned(), false.into());
    for (options, tag, is_local) in [
        (&off, json!({}), true),
        (&off, json!({"enabled": true}), false),
        (&harness.options(LAUNCHER), json!({"enabled": false}), true),
    ] {
        let placement = place(options, &tag)?;
        let expected = if is_local { "local" } else { "a job" };
        expect((placement == "local") == is_local, expected, || placement.to_string())?;
    }
    Ok(())
}

fn names(harness: &Harness) -> Verdict {
    harness.offline(InjectedFault::Refuse);
    let (one, other) = (specs::run_id(), specs::run_id());
    let all = [
        plan_run(harness, &one, 0)?,
        plan_run(harness, &one, 1)?,
        plan_run(harness, &one, 2)?,
        plan_run(harness, &other, 0)?,
    ];
    let ids: Vec<&str> = all.iter().map(job_id).collect();
    let distinct = ids.iter().collect::<std::collections::BTreeSet<_>>().len() == ids.len();
    expect(distinct, "four different names", || ids.join(", "))
}

fn check_none(harness: &Harness) -> Verdict {
    harness.offline(InjectedFault::Refuse);
    let answer = harness.call("launcher.check", &json!({"runs": []})).answer()?;
    expect(answer == json!([]), "no status", || answer.to_string())?;
    expect_no_request(harness, "an empty list is checked")
}

fn away(harness: &Harness, fault: InjectedFault) -> Verdict {
    harness.offline(fault);
    let one = plan_run(harness, &specs::run_id(), 0)?;
    let two = plan_run(harness, &specs::run_id(), 0)?;
    for runs in [json!([one]), json!([one, two])] {
        let called = harness.call("launcher.check", &json!({"runs": runs}));
        if harness.requests().is_empty() && called.result.is_ok() {
            return Err(crate::outcome::not_applicable("it sends no request for the status of runs"));
        }
        expect_unavailable(&called, "a status that cannot be read")?;
    }
    Ok(())
}

fn texts(harness: &Harness) -> Verdict {
    hostile::texts(harness, "launcher.launch", |text| {
        let mut run = specs::run(text, 0, Work::Brief, &harness.options(LAUNCHER));
        run["job_name"] = text.into();
        run["code_location"] = text.into();
        run["tags"] = json!([[text, text]]);
        run["command"]["argv"] = json!([text, text]);
        run["command"]["env"] = json!([[text, text]]);
        json!({"run": run})
    })?;
    hostile::texts(
        harness,
        "launcher.plan",
        |text| json!({"run": specs::run(text, u32::MAX, Work::Brief, &harness.options(LAUNCHER))}),
    )
}

fn random_content(harness: &Harness) -> Verdict {
    for export in ["launcher.plan", "launcher.launch", "launcher.resume"] {
        hostile::random_content(harness, export, |any| {
            let mut run = specs::run(&any.text, 1, Work::Brief, &Map::new());
            run["options"] = any.options.clone().into();
            run["tags"] = any.tags.clone();
            json!({"run": run})
        })?;
    }
    let reference = |any: &hostile::RandomContent| {
        let job = json!({"submission_id": any.text, "dashboard_url": any.text, "details": any.details});
        json!({"run_id": any.text, "attempt": 3, "job": job})
    };
    hostile::random_content(
        harness,
        "launcher.check",
        |any| json!({"runs": [reference(any), reference(any)]}),
    )?;
    hostile::random_content(harness, "launcher.debug-info", |any| json!({"run": reference(any)}))?;
    hostile::random_content(harness, "launcher.terminate", |any| json!({"run": reference(any)}))
}
