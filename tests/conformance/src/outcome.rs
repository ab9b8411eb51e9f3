//! The outcome of a rule.

use serde::Serialize;

/// The outcome of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The component satisfies the rule.
    Passed,
    /// The component does not satisfy the rule.
    Differs {
        /// What the contract promises.
        expected: String,
        /// What the component did instead.
        actual: String,
    },
    /// The rule concerns something that the component does not do.
    NotApplicable {
        /// Why the rule does not apply.
        reason: String,
    },
    /// The rule was not run, because it needs a service and the caller named none.
    Skipped {
        /// What the rule needs.
        reason: String,
    },
    /// The rule could not be run, because the component requires a setting or an option that the caller
    /// did not give. Unlike [`Outcome::Skipped`], it counts against conformance.
    Blocked {
        /// What the caller has to give.
        reason: String,
    },
}

/// The result of a rule or of a part of it: `Err` ends the rule with an outcome.
pub(crate) type Verdict<T = ()> = Result<T, Outcome>;

pub(crate) fn differs(expected: impl Into<String>, actual: impl Into<String>) -> Outcome {
    Outcome::Differs { expected: expected.into(), actual: actual.into() }
}

pub(crate) fn not_applicable(reason: impl Into<String>) -> Outcome {
    Outcome::NotApplicable { reason: reason.into() }
}

/// Ends the rule with [`Outcome::Differs`] unless `holds`.
pub(crate) fn expect(holds: bool, expected: &str, actual: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(differs(expected, actual())) }
}
