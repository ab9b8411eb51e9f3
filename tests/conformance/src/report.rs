//! The report of a check, as text and as JSON.

use std::fmt;

use serde::Serialize;

use crate::outcome::Outcome;

/// The outcome of one rule.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The interface that the rule belongs to.
    pub interface: &'static str,
    /// The name of the rule.
    pub rule: &'static str,
    /// Why the rule exists. The JSON key is `why`, because an outcome has a `reason` of its own.
    #[serde(rename = "why")]
    pub reason: &'static str,
    /// The outcome.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, rule, .. } = self;
        match &self.outcome {
            Outcome::Passed => write!(f, "passed   {interface}: {rule}"),
            Outcome::Differs { expected, actual } => {
                write!(
                    f,
                    "DIFFERS  {interface}: {rule}\n           expected: {expected}\n           actual:   {actual}"
                )?;
                write!(f, "\n           why:      {}", self.reason)
            }
            Outcome::NotApplicable { reason } => write!(f, "n/a      {interface}: {rule} ({reason})"),
            Outcome::Skipped { reason } => write!(f, "skipped  {interface}: {rule} ({reason})"),
            Outcome::Blocked { reason } => write!(f, "BLOCKED  {interface}: {rule} ({reason})"),
        }
    }
}

/// The outcomes of all rules.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The component's name.
    pub component: String,
    /// The interfaces that it exports.
    pub exports: Vec<&'static str>,
    /// Whether no rule differs and none is blocked.
    pub conforms: bool,
    /// The outcome of each rule, in the order in which they ran.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn new(component: String, exports: Vec<&'static str>, findings: Vec<Finding>) -> Self {
        let counts_against =
            |one: &Finding| matches!(one.outcome, Outcome::Differs { .. } | Outcome::Blocked { .. });
        let conforms = !findings.iter().any(counts_against);
        Self { component, exports, conforms, findings }
    }

    /// Whether no rule differs and none is blocked.
    pub fn conforms(&self) -> bool {
        self.conforms
    }

    /// Returns the numbers of rules that passed, differ, do not apply, were skipped, and were blocked.
    pub fn counts(&self) -> [usize; 5] {
        let mut counts = [0; 5];
        for finding in &self.findings {
            counts[match finding.outcome {
                Outcome::Passed => 0,
                Outcome::Differs { .. } => 1,
                Outcome::NotApplicable { .. } => 2,
                Outcome::Skipped { .. } => 3,
                Outcome::Blocked { .. } => 4,
            }] += 1;
        }
        counts
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let [passed, differ, inapplicable, skipped, blocked] = self.counts();
        write!(
            f,
            "{}: {passed} passed, {differ} differ, {inapplicable} do not apply, {skipped} skipped, {blocked} blocked",
            self.component
        )
    }
}
