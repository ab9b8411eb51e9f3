//! The rules: one file for each interface of the contract.

mod cluster;
mod describe;
mod executor;
mod hostile;
mod io;
mod jobs;
mod launcher;
mod options;
mod pipes;
mod reconciler;

use std::time::{Duration, Instant};

use dagster_ray_runtime::model::Error;
use http::StatusCode;
use serde_json::Value as Json;

use crate::harness::{CallResult, Harness, describe_error};
use crate::network::NetworkCondition;
use crate::outcome::{Outcome, Verdict, differs, expect, not_applicable};
use crate::specs;

/// A rule that a component has to satisfy.
pub(crate) struct Rule {
    pub(crate) interface: &'static str,
    /// What the component has to do, as a statement.
    pub(crate) name: &'static str,
    /// What goes wrong if the component does not do it.
    pub(crate) reason: &'static str,
    pub(crate) needs: Needs,
    pub(crate) run: fn(&Harness) -> Verdict,
}

/// The service that a rule needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// None: no request is sent.
    Nothing,
    /// The service that the component uses, or a cassette.
    Service,
}

/// Returns all rules in the order in which they run. Within an interface, rules that stop jobs or delete
/// objects come last.
pub(crate) fn all() -> Vec<Rule> {
    let mut all = Vec::new();
    all.extend(describe::RULES);
    all.extend(launcher::RULES);
    all.extend(executor::RULES);
    all.extend(pipes::RULES);
    all.extend(cluster::RULES);
    all.extend(reconciler::RULES);
    all.extend(io::RULES);
    all
}

/// Runs a rule.
pub(crate) fn apply(harness: &Harness, rule: &Rule) -> Outcome {
    if !harness.exports(rule.interface) {
        return Outcome::NotApplicable { reason: format!("it does not export {}", rule.interface) };
    }
    if rule.needs == Needs::Service && !harness.has_service {
        let reason = "needs a service: give an address, a kubeconfig or a cassette".to_owned();
        return Outcome::Skipped { reason };
    }
    if rule.needs == Needs::Service {
        harness.set_network(NetworkCondition::Normal);
    }
    match (rule.run)(harness) {
        Ok(()) => Outcome::Passed,
        Err(outcome) => outcome,
    }
}

/// Returns whether a job is missing, or counts as missing after a time.
fn is_missing(status: &Json) -> bool {
    status["state"] == "missing" || (status["state"] == "unknown" && status["missing_after_ms"].is_u64())
}

/// Returns the id and the state of the job at a position of an answer, or of the answer itself.
fn status(answer: &Json, at: usize) -> (&str, &str) {
    let field = |key: &str| {
        let status = answer.get(at).unwrap_or(answer);
        status.get(key).and_then(Json::as_str).unwrap_or_default()
    };
    (field("submission_id"), field("state"))
}

/// Returns the submission id in a reference.
fn job_id(reference: &Json) -> &str {
    let job = reference.get("job").unwrap_or(reference);
    job.get("submission_id").and_then(Json::as_str).unwrap_or_default()
}

/// Repeats `ask` until it returns `Ok(Ok(_))`, for at most 240 s: a Ray head may need that long to start.
fn eventually<T>(expected: &str, mut ask: impl FnMut() -> Verdict<Result<T, String>>) -> Verdict<T> {
    let deadline = Instant::now() + Duration::from_secs(240);
    loop {
        match ask()? {
            Ok(found) => return Ok(found),
            Err(seen) if Instant::now() > deadline => {
                return Err(differs(expected, format!("after 240 s: {seen}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(500)),
        }
    }
}

/// Ends the rule if a request was made.
fn expect_no_request(harness: &Harness, what: &str) -> Verdict {
    let requests = harness.requests();
    expect(requests.is_empty(), &format!("{what} without a request"), || {
        let all: Vec<_> = requests.iter().map(|one| format!("{} {}", one.method, one.uri)).collect();
        format!("{} requests: {}", all.len(), all.join(", "))
    })
}

/// Ends the rule unless a request that creates an object contains the deployment of the spec.
fn expect_deployment(harness: &Harness, create: impl FnOnce()) -> Verdict {
    harness.answering(StatusCode::BAD_REQUEST);
    create();
    let requests = harness.requests();
    let creating: Vec<_> = requests.iter().filter(|one| one.method != http::Method::GET).collect();
    let Some(first) = creating.first() else {
        return Err(not_applicable("it creates nothing with a request"));
    };
    let carries = |body: &[u8]| String::from_utf8_lossy(body).contains(specs::DEPLOYMENT);
    expect(
        creating.iter().any(|one| carries(&one.body)),
        &format!("a request with the deployment `{}`", specs::DEPLOYMENT),
        || format!("{} {}: {}", first.method, first.uri, String::from_utf8_lossy(&first.body)),
    )
}

/// Ends the rule if the call trapped or timed out.
fn expect_no_trap(called: &CallResult, what: &str) -> Verdict {
    use dagster_ray_runtime::CallError as E;
    match &called.result {
        Err(error @ (E::Trap { .. } | E::Deadline { .. })) => {
            Err(differs(format!("an answer or an error for {what}"), error.to_string()))
        }
        _ => Ok(()),
    }
}

/// Ends the rule unless the call reports that the service is unavailable.
fn expect_unavailable(called: &CallResult, what: &str) -> Verdict {
    let expected = format!("`unavailable` for {what}");
    match called.error(&expected)? {
        Error::Unavailable(_) => Ok(()),
        Error::Backend(api) if api.status >= 500 => Ok(()),
        // Without permission to start the service, the component cannot know whether it is available.
        Error::Denied(denial) if denial.capability == "processes" => {
            Err(not_applicable("it has no permission to start the service"))
        }
        other => Err(differs(expected, describe_error(&other))),
    }
}

/// Ends the rule if a call of the interface reported a planted secret in an error or a log line.
fn expect_no_leak(harness: &Harness, interface: &str) -> Verdict {
    match harness.find_leak(interface) {
        None => Ok(()),
        Some(leak) => Err(differs("errors and log lines without the values of environment variables", leak)),
    }
}
