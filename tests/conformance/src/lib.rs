//! What every backend must satisfy, whoever wrote it: the promises of `wit/`, rule by rule, run on
//! a component's file.
//!
//! A rule is a sentence with a reason and a small function; the rules of an interface stand
//! together in one file under [`rules`]. Rules that need a Ray, or whatever else the component
//! talks to, are run against a real one, or against a cassette of one. The network fails where a
//! rule wants it to: the kit stands at the host's door.
//!
//! ```no_run
//! use dagster_ray_conformance::{Subject, check};
//!
//! let subject = Subject::new("mine.wasm");
//! let report = check(&subject, &mut |finding| eprintln!("{finding}"))?;
//! assert!(report.conforms(), "{report}");
//! # Ok::<(), dagster_ray_runtime::LoadError>(())
//! ```

mod bench;
mod memory_store;
mod network;
mod outcome;
mod report;
mod rules;
mod schema;
mod specs;
mod subject;

pub use outcome::Outcome;
pub use report::{Finding, Report};
pub use subject::Subject;

use dagster_ray_runtime::LoadError;

/// The interfaces that there are rules for.
pub fn interfaces() -> Vec<&'static str> {
    let mut all: Vec<_> = rules::all().iter().map(|rule| rule.interface).collect();
    all.dedup();
    all
}

/// Runs every rule on a component. `watch` hears of each as it is done. Where the subject is stopped,
/// the report ends early.
///
/// # Errors
/// Where the component cannot be loaded. What it does wrong after that is in the report.
pub fn check(subject: &Subject, watch: &mut dyn FnMut(&Finding)) -> Result<Report, LoadError> {
    let bench = bench::Bench::new(subject)?;
    let mut findings = Vec::new();
    for rule in rules::all().into_iter().filter(|rule| subject.asks_for(rule.interface)) {
        if subject.is_stopped() {
            break;
        }
        let outcome = rules::apply(&bench, &rule);
        let finding = Finding { interface: rule.interface, rule: rule.name, reason: rule.reason, outcome };
        watch(&finding);
        findings.push(finding);
    }
    bench.clean_up();
    Ok(Report::new(bench.component(), bench.exported().to_vec(), findings))
}
