//! Conformance tests: check a component file against the contract in `wit/`, rule by rule.
//!
//! A rule has a name, a reason and a function; each interface has one file of rules under [`rules`].
//! Rules that need a service, such as Ray, run against a real one or against a cassette. An interceptor
//! in the host's HTTP pipeline counts requests and injects faults.
//!
//! ```no_run
//! use dagster_ray_conformance::{Subject, check};
//!
//! let subject = Subject::new("mine.wasm");
//! let report = check(&subject, &mut |finding| eprintln!("{finding}"))?;
//! assert!(report.conforms(), "{report}");
//! # Ok::<(), dagster_ray_runtime::LoadError>(())
//! ```

mod harness;
mod memory_store;
mod network;
mod outcome;
mod report;
mod rules;
mod schema;
mod shared_objects;
mod specs;
mod subject;

pub use outcome::Outcome;
pub use report::{Finding, Report};
pub use subject::Subject;

use dagster_ray_runtime::LoadError;

/// Returns the interfaces that have rules.
pub fn interfaces() -> Vec<&'static str> {
    let mut all: Vec<_> = rules::all().iter().map(|rule| rule.interface).collect();
    all.dedup();
    all
}

/// Runs the subject's rules and calls `watch` after each of them. Ends early if the subject is stopped.
///
/// # Errors
/// If the component cannot be loaded. Everything that fails later is in the report.
pub fn check(subject: &Subject, watch: &mut dyn FnMut(&Finding)) -> Result<Report, LoadError> {
    let harness = harness::Harness::new(subject)?;
    let mut findings = Vec::new();
    for rule in rules::all().into_iter().filter(|rule| subject.includes(rule.interface)) {
        if subject.is_stopped() {
            break;
        }
        let outcome = rules::apply(&harness, &rule);
        let finding = Finding { interface: rule.interface, rule: rule.name, reason: rule.reason, outcome };
        watch(&finding);
        findings.push(finding);
    }
    harness.clean_up();
    Ok(Report::new(harness.component(), harness.exported().to_vec(), findings))
}
