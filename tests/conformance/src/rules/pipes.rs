//! Rules of `pipes`.

use std::cell::Cell;

use dagster_ray_recording::InjectedFault;
use dagster_ray_runtime::CallError;
use dagster_ray_runtime::model::Error;
use http::StatusCode;
use serde_json::{Map, Value as Json, json};

use super::Needs::{Nothing, Service};
use super::{
    Rule, expect_deployment, expect_no_leak, expect_no_request, expect_unavailable, hostile, job_id, options,
    status,
};
use crate::harness::Harness;
use crate::network::NetworkCondition;
use crate::outcome::{Verdict, differs, expect, not_applicable};
use crate::specs;

const PIPES: &str = "pipes";
const RUN: &str = "8c1f7a52-0000-4000-8000-000000000004";
const NONCE: &str = "c0ffee123456";
/// The number of lines that the script with long output prints.
const LINES: usize = 200;

pub(super) const RULES: [Rule; 15] = [
    Rule {
        interface: PIPES,
        name: "an unknown option is rejected by name before any request is sent",
        reason: "a misspelled key would be ignored and the script would run without it",
        needs: Nothing,
        run: |harness| {
            options::unknown_key(harness, PIPES, |options| {
                harness.call("pipes.plan", &json!({"script": specs::script(RUN, NONCE, options)}))
            })
        },
    },
    Rule {
        interface: PIPES,
        name: "an option of the wrong type is rejected by name before any request is sent",
        reason: "a script with invalid options must not start",
        needs: Nothing,
        run: |harness| {
            options::wrong_values(harness, PIPES, |options| {
                harness.call("pipes.plan", &json!({"script": specs::script(RUN, NONCE, options)}))
            })
        },
    },
    Rule {
        interface: PIPES,
        name: "planning a script sends no request, and another nonce gives another job",
        reason: "a planned script can be terminated even if the response of its launch was lost",
        needs: Nothing,
        run: plan,
    },
    Rule {
        interface: PIPES,
        name: "a launched job carries the id of its Dagster deployment",
        reason: "several deployments share one Ray, and none may remove what belongs to another",
        needs: Nothing,
        run: deployment,
    },
    Rule {
        interface: PIPES,
        name: "a 500 response is reported as unavailable, not as the end of a script",
        reason: "a script keeps running while Ray's dashboard restarts",
        needs: Nothing,
        run: away,
    },
    Rule {
        interface: PIPES,
        name: "no text in a script spec causes a trap",
        reason: "users write entrypoints, labels and environments",
        needs: Nothing,
        run: texts,
    },
    Rule {
        interface: PIPES,
        name: "no content of options or references causes a trap",
        reason: "a trap is a defect and explains nothing to the user",
        needs: Nothing,
        run: random_content,
    },
    Rule {
        interface: PIPES,
        name: "waiting for a successful script returns succeeded with exit code 0",
        reason: "the asset is materialized when its script succeeds",
        needs: Service,
        run: success,
    },
    Rule {
        interface: PIPES,
        name: "a failing script is reported as failed with its exit code",
        reason: "the asset must fail, and the exit code helps users to find the cause",
        needs: Service,
        run: failure,
    },
    Rule {
        interface: PIPES,
        name: "each line is reported once, in order and byte for byte, including a last line without a newline",
        reason: "Dagster Pipes messages are lines of the output, and none may be lost or repeated",
        needs: Service,
        run: lines,
    },
    Rule {
        interface: PIPES,
        name: "no line is lost or repeated when connections break repeatedly",
        reason: "scripts run for hours, and connections break in that time",
        needs: Service,
        run: cut,
    },
    Rule {
        interface: PIPES,
        name: "following from the returned position repeats no output",
        reason: "a restarted process continues from its last position",
        needs: Service,
        run: resumed,
    },
    Rule {
        interface: PIPES,
        name: "a launch whose response is lost creates one job",
        reason: "a connection can break after the service has applied the request",
        needs: Service,
        run: lost,
    },
    Rule {
        interface: PIPES,
        name: "a terminated script is reported as stopped, and terminating again succeeds",
        reason: "a canceled run must not leave scripts running",
        needs: Service,
        run: terminate,
    },
    Rule {
        interface: PIPES,
        name: "no error or log line contains the values that open a Pipes session",
        reason: "both end up in Dagster's event log, which more people can read",
        needs: Nothing,
        run: |harness| expect_no_leak(harness, PIPES),
    },
];

fn spec(harness: &Harness, run_id: &str, nonce: &str, python: &str) -> Verdict<Json> {
    python_script(harness, run_id, nonce, python)
        .map(|script| json!({"script": script}))
        .ok_or_else(|| not_applicable("its options have no `entrypoint` that the conformance tests know"))
}

/// Returns the spec of a script that runs this Python code, or `None` if the options schema has neither
/// `entrypoint` nor `parameters`.
fn python_script(harness: &Harness, run_id: &str, nonce: &str, python: &str) -> Option<Json> {
    let mut options = harness.options("pipes");
    let entrypoint = format!("python -c \"{python}\"");
    let schema = harness.schema("pipes");
    let has = |key: &str| schema.as_ref().is_some_and(|schema| schema.has(key));
    if has("entrypoint") {
        options.insert("entrypoint".to_owned(), entrypoint.into());
    } else if has("parameters") {
        options.insert("parameters".to_owned(), json!({"entrypoint": entrypoint}));
    } else {
        return None;
    }
    Some(specs::script(run_id, nonce, &options))
}

fn plan(harness: &Harness) -> Verdict {
    harness.offline(InjectedFault::Refuse);
    let one = spec(harness, RUN, NONCE, "print(1)")?;
    let first = harness.call("pipes.plan", &one).answer()?;
    let second = harness.call("pipes.plan", &one).answer()?;
    expect(first == second, "the same plan twice", || format!("{first}, then {second}"))?;
    let other = harness.call("pipes.plan", &spec(harness, RUN, "badcafe12345", "print(1)")?).answer()?;
    expect(job_id(&other) != job_id(&first), "another job", || job_id(&other).to_owned())?;
    expect_no_request(harness, "a script is planned")
}

fn deployment(harness: &Harness) -> Verdict {
    let script = spec(harness, RUN, NONCE, "print(1)")?;
    expect_deployment(harness, || {
        harness.call("pipes.launch", &script);
    })
}

fn away(harness: &Harness) -> Verdict {
    harness.answering(StatusCode::INTERNAL_SERVER_ERROR);
    let job = harness.call("pipes.plan", &spec(harness, RUN, NONCE, "print(1)")?).answer()?;
    let called = harness.call("pipes.wait", &json!({"job": job}));
    if harness.requests().is_empty() && called.result.is_ok() {
        return Err(not_applicable("it sends no request for the status of scripts"));
    }
    match &called.result {
        // The component retries for longer than this rule waits, so the call was canceled.
        Err(CallError::Returned { error, .. }) if matches!(**error, Error::Cancelled) => Ok(()),
        _ => expect_unavailable(&called, "a script that cannot be read"),
    }
}

fn texts(harness: &Harness) -> Verdict {
    for export in ["pipes.plan", "pipes.launch"] {
        hostile::texts(harness, export, |text| {
            let spec = python_script(harness, text, NONCE, text);
            let mut script = spec.unwrap_or_else(|| specs::script(text, NONCE, &harness.options(PIPES)));
            script["step_key"] = text.into();
            script["nonce"] = text.into();
            script["bootstrap"] = json!([[text, text]]);
            script["labels"] = json!([[text, text]]);
            script["image"] = text.into();
            json!({"script": script})
        })?;
    }
    Ok(())
}

fn random_content(harness: &Harness) -> Verdict {
    for export in ["pipes.plan", "pipes.launch"] {
        hostile::random_content(harness, export, |any| {
            let mut script = specs::script(&any.text, &any.text, &Map::new());
            script["options"] = any.options.clone().into();
            json!({"script": script})
        })?;
    }
    let job = |any: &hostile::RandomContent| json!({"submission_id": any.text, "dashboard_url": null, "details": any.details});
    hostile::random_content(harness, "pipes.follow", |any| json!({"job": job(any), "from": any.text}))?;
    hostile::random_content(harness, "pipes.wait", |any| json!({"job": job(any)}))?;
    hostile::random_content(harness, "pipes.terminate", |any| json!({"job": job(any)}))
}

/// Launches a script and waits for its end. Returns the job and its status.
fn finished(harness: &Harness, python: &str) -> Verdict<(Json, Json)> {
    let job =
        harness.call("pipes.launch", &spec(harness, &specs::run_id(), &specs::nonce(), python)?).answer()?;
    harness.on_cleanup("pipes.terminate", json!({"job": job}));
    let status = harness.call("pipes.wait", &json!({"job": job})).answer()?;
    Ok((job, status))
}

fn success(harness: &Harness) -> Verdict {
    let (_, ended) = finished(harness, "print('done')")?;
    expect(
        status(&ended, 0).1 == "succeeded" && ended["exit_code"].as_i64().is_none_or(|code| code == 0),
        "succeeded, with exit code 0",
        || ended.to_string(),
    )
}

fn failure(harness: &Harness) -> Verdict {
    let (_, ended) = finished(harness, "raise SystemExit(3)")?;
    expect(status(&ended, 0).1 == "failed", "failed", || ended.to_string())?;
    match ended["exit_code"].as_i64() {
        Some(3) => Ok(()),
        None => Err(not_applicable("its status of a script has no exit code")),
        Some(other) => Err(differs("exit code 3", other.to_string())),
    }
}

/// Python code that waits up to one second for Ray's own line in the output file.
///
/// Ray opens the output file of a job, starts the job, and only then writes a line of its own
/// (`JobSupervisor._exec_entrypoint`). A fast script would print before that line, and the log would grow
/// after it was read to its end.
const AFTER_RAY: &str = "import os, time; o = '/proc/self/fd/1'; [time.sleep(0.02) for _ in range(50) \
     if os.path.isfile(o) and b'entrypoint' not in open(o, 'rb').read()]";

/// Returns a script with long output, and the lines that it prints.
fn long_output() -> (String, Vec<Vec<u8>>) {
    let python = format!(
        "{AFTER_RAY}; import sys; w = sys.stdout.buffer.write; [w(b'line %d of many\\n' % n) for n in range({LINES})]; \
         w(bytes([255, 254, 10])); w(bytes([10])); w(b'the last one')"
    );
    let mut lines: Vec<Vec<u8>> = (0..LINES).map(|n| format!("line {n} of many").into_bytes()).collect();
    lines.push(vec![255, 254]);
    lines.push(Vec::new());
    lines.push(b"the last one".to_vec());
    (python, lines)
}

/// Returns the lines of the output from the script's first line on. Ray may print lines before it.
fn script_lines(output: &[u8]) -> Vec<Vec<u8>> {
    let text = output.strip_suffix(b"\n").unwrap_or(output);
    let lines: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let first = lines.iter().position(|line| line.starts_with(b"line 0 of")).unwrap_or(0);
    lines[first..].to_vec()
}

/// Describes the first position at which two lists of lines differ.
fn difference(expected: &[Vec<u8>], actual: &[Vec<u8>]) -> Option<String> {
    let show = |line: Option<&Vec<u8>>| match line {
        Some(line) => format!("{:?}", String::from_utf8_lossy(line)),
        None => "nothing".to_owned(),
    };
    let at = (0..expected.len().max(actual.len())).find(|at| expected.get(*at) != actual.get(*at))?;
    Some(format!(
        "{} lines; line {at} is {}, expected {}",
        actual.len(),
        show(actual.get(at)),
        show(expected.get(at))
    ))
}

fn follow_and_compare(harness: &Harness, job: &Json, expected: &[Vec<u8>]) -> Verdict<Json> {
    let called = harness.call("pipes.follow", &json!({"job": job}));
    let reached = called.answer()?;
    expect(reached["complete"] == true, "a complete output", || reached.to_string())?;
    match difference(expected, &script_lines(&called.output())) {
        None => Ok(reached),
        Some(text) => Err(differs(format!("{} lines as the script wrote them", expected.len()), text)),
    }
}

fn lines(harness: &Harness) -> Verdict {
    let (python, expected) = long_output();
    let script = spec(harness, &specs::run_id(), &specs::nonce(), &python)?;
    let job = harness.call("pipes.launch", &script).answer()?;
    harness.on_cleanup("pipes.terminate", json!({"job": job}));
    follow_and_compare(harness, &job, &expected)?;
    Ok(())
}

fn cut(harness: &Harness) -> Verdict {
    let (python, expected) = long_output();
    let (job, _) = finished(harness, &python)?;
    harness.set_network(NetworkCondition::CutResponses { times: 3, after: 1_500 });
    follow_and_compare(harness, &job, &expected)?;
    if harness.requests().is_empty() {
        return Err(not_applicable("it follows without a request"));
    }
    Ok(())
}

fn resumed(harness: &Harness) -> Verdict {
    let (python, expected) = long_output();
    let (job, _) = finished(harness, &python)?;
    let reached = follow_and_compare(harness, &job, &expected)?;
    let again = harness.call("pipes.follow", &json!({"job": job, "from": reached["position"]}));
    again.answer()?;
    let output = again.output();
    expect(output.is_empty(), "no more output", || String::from_utf8_lossy(&output).into_owned())
}

fn lost(harness: &Harness) -> Verdict {
    let script = spec(harness, &specs::run_id(), &specs::nonce(), "import time; time.sleep(600)")?;
    let planned = harness.call("pipes.plan", &script).answer()?;
    harness.on_cleanup("pipes.terminate", json!({"job": planned}));
    harness.set_network(NetworkCondition::LoseResponse);
    let launched = harness.call("pipes.launch", &script);
    let changes = Cell::new(0);
    for request in harness.requests() {
        if request.method != http::Method::GET && request.status.is_some_and(|status| status.is_success()) {
            changes.set(changes.get() + 1);
        }
    }
    if changes.get() == 0 {
        launched.answer()?;
        return Err(not_applicable("it launches without a request"));
    }
    let job = match launched.answer() {
        Ok(job) => job,
        Err(_) => harness.call("pipes.launch", &script).answer()?,
    };
    expect(job_id(&job) == job_id(&planned), job_id(&planned), || job_id(&job).to_owned())
}

fn terminate(harness: &Harness) -> Verdict {
    let script = spec(harness, &specs::run_id(), &specs::nonce(), "import time; time.sleep(600)")?;
    let job = harness.call("pipes.launch", &script).answer()?;
    harness.on_cleanup("pipes.terminate", json!({"job": job}));
    let ended = harness.call("pipes.terminate", &json!({"job": job})).answer()?;
    expect(status(&ended, 0).1 == "stopped", "stopped", || ended.to_string())?;
    let again = harness.call("pipes.terminate", &json!({"job": job})).answer()?;
    let state = status(&again, 0).1;
    expect(matches!(state, "stopped" | "missing"), "stopped or missing", || state.to_owned())
}
