//! What a rule comes to.

use serde::Serialize;

/// What a rule comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The component satisfies it.
    Passed,
    /// It does not.
    Differs {
        /// What the contract promises.
        expected: String,
        /// What came instead.
        came: String,
    },
    /// It is about something that the component does not do.
    NotApplicable {
        /// What that is.
        reason: String,
    },
    /// It was not tried, because it needs a service and the caller named none.
    Skipped {
        /// What it needs.
        reason: String,
    },
    /// It could not be tried, although it should have been: the component requires something that the
    /// caller can give and did not. Unlike [`Outcome::Skipped`], it counts against conformance.
    Blocked {
        /// What to give.
        reason: String,
    },
}

/// How a rule ends: with `?`, wherever it is decided.
pub(crate) type Verdict<T = ()> = Result<T, Outcome>;

pub(crate) fn differs(expected: impl Into<String>, came: impl Into<String>) -> Outcome {
    Outcome::Differs { expected: expected.into(), came: came.into() }
}

pub(crate) fn not_applicable(reason: impl Into<String>) -> Outcome {
    Outcome::NotApplicable { reason: reason.into() }
}

/// Passes where `holds`.
pub(crate) fn expect(holds: bool, expected: &str, came: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(differs(expected, came())) }
}
