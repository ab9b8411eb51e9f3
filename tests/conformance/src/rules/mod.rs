//! The rules, one file for each interface of the contract.

mod cluster;
mod describe;
mod executor;
mod hostile;
mod io;
mod jobs;
mod launcher;
mod options;
mod pipes;

use std::time::{Duration, Instant};

use dagster_ray_runtime::model::Error;
use serde_json::Value as Json;

use crate::bench::{Bench, Called, describe as in_words};
use crate::network::Weather;
use crate::outcome::{Outcome, Verdict, differs, expect};

pub(crate) use self::jobs::Live;

/// A rule that a component has to satisfy.
pub(crate) struct Rule {
    pub(crate) interface: &'static str,
    /// The rule, as a sentence about the component.
    pub(crate) name: &'static str,
    /// What breaks where it does not hold.
    pub(crate) reason: &'static str,
    pub(crate) needs: Needs,
    pub(crate) run: fn(&Bench) -> Verdict,
}

/// What a rule needs besides the component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: no request goes out.
    Nothing,
    /// What the component talks to, or a cassette of it.
    Service,
}

/// All rules, in the order in which they are applied. Those that stop things come last.
pub(crate) fn all() -> Vec<Rule> {
    let mut all = Vec::new();
    all.extend(describe::RULES);
    all.extend(launcher::RULES);
    all.extend(executor::RULES);
    all.extend(pipes::RULES);
    all.extend(cluster::RULES);
    all.extend(io::RULES);
    all
}

/// Applies a rule.
pub(crate) fn apply(bench: &Bench, rule: &Rule) -> Outcome {
    if !bench.exports(rule.interface) {
        return Outcome::NotApplicable { reason: format!("it does not export {}", rule.interface) };
    }
    if rule.needs == Needs::Service && !bench.has_service {
        let reason = "needs a service: give an address, a kubeconfig or a cassette".to_owned();
        return Outcome::Skipped { reason };
    }
    if rule.needs == Needs::Service {
        bench.weather(Weather::Fair);
    }
    match (rule.run)(bench) {
        Ok(()) => Outcome::Passed,
        Err(outcome) => outcome,
    }
}

/// What an answer says of a job: its id and its state.
fn status(answer: &Json, at: usize) -> (&str, &str) {
    let of = |key: &str| {
        let status = answer.get(at).unwrap_or(answer);
        status.get(key).and_then(Json::as_str).unwrap_or_default()
    };
    (of("submission_id"), of("state"))
}

/// The id of the job that a reference names.
fn job_id(reference: &Json) -> &str {
    let job = reference.get("job").unwrap_or(reference);
    job.get("submission_id").and_then(Json::as_str).unwrap_or_default()
}

/// Asks again and again until there is an answer, for as long as a head may take to start.
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

/// No request went out.
fn expect_no_request(bench: &Bench, of: &str) -> Verdict {
    let seen = bench.seen();
    expect(seen.is_empty(), &format!("{of} without a request"), || {
        let all: Vec<_> = seen.iter().map(|one| format!("{} {}", one.method, one.uri)).collect();
        format!("{} requests: {}", all.len(), all.join(", "))
    })
}

/// The call did not trap, whatever else it came to.
fn expect_no_trap(called: &Called, what: &str) -> Verdict {
    use dagster_ray_runtime::CallError as E;
    match &called.result {
        Err(error @ (E::Trap { .. } | E::Deadline { .. })) => {
            Err(differs(format!("an answer or an error for {what}"), error.to_string()))
        }
        _ => Ok(()),
    }
}

/// The error says that the service cannot be had now.
fn expect_unavailable(called: &Called, of: &str) -> Verdict {
    let expected = format!("`unavailable` for {of}");
    match called.error(&expected)? {
        Error::Unavailable(_) => Ok(()),
        Error::Backend(api) if api.status >= 500 => Ok(()),
        // What cannot be reached because it may not be started is another matter.
        Error::Denied(denial) if denial.capability == "processes" => {
            Err(crate::outcome::not_applicable("it may not start what it would ask"))
        }
        other => Err(differs(expected, in_words(&other))),
    }
}

/// No call of the interface said a secret that was planted in what it was given.
fn expect_no_leak(bench: &Bench, interface: &str) -> Verdict {
    match bench.leak_of(interface) {
        None => Ok(()),
        Some(leak) => Err(differs("errors and log lines without the values of environment variables", leak)),
    }
}
