//! The result of a call, and what rules ask of it.

use dagster_ray_runtime::capability::objects::Value;
use dagster_ray_runtime::model::Error;
use dagster_ray_runtime::{CallError, Report};
use serde_json::Value as Json;

use crate::outcome::{Outcome, Verdict, differs, not_applicable};

/// A call that has ended.
pub(crate) struct CallResult {
    pub(crate) export: String,
    pub(crate) result: Result<Json, CallError>,
    /// The errors of single elements of the result.
    pub(crate) errors: Vec<CallError>,
    pub(crate) values: Vec<Value>,
    pub(crate) reports: Vec<Report>,
    /// The required settings or options that the caller did not give, if the component rejected the call
    /// because of them.
    pub(crate) missing_required: Option<String>,
}

impl CallResult {
    /// Returns the result, or ends the rule if the call failed.
    pub(crate) fn answer(&self) -> Verdict<Json> {
        match &self.result {
            Ok(answer) => Ok(answer.clone()),
            Err(CallError::Returned { error, .. }) if let Error::Unsupported(text) = error.as_ref() => {
                Err(not_applicable(text.clone()))
            }
            Err(error) => {
                self.expect_no_missing_required()?;
                Err(differs(format!("{} succeeds", self.export), error.to_string()))
            }
        }
    }

    /// Ends the rule as blocked if a required setting or option was not given. Only the caller can give it.
    pub(crate) fn expect_no_missing_required(&self) -> Verdict {
        match &self.missing_required {
            Some(reason) => Err(Outcome::Blocked { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Returns the contract's error that the call ended with, or ends the rule if there is none.
    pub(crate) fn error(&self, expected: &str) -> Verdict<Error> {
        match &self.result {
            Err(CallError::Returned { error, .. }) => match error.as_ref() {
                Error::Unsupported(text) => Err(not_applicable(text.clone())),
                error => Ok(error.clone()),
            },
            other => Err(differs(format!("{}: {expected}", self.export), self.describe_result(other))),
        }
    }

    fn describe_result(&self, result: &Result<Json, CallError>) -> String {
        match result {
            Ok(answer) => format!("{} returned {answer}", self.export),
            Err(CallError::Returned { error, .. }) => format!("{}: {}", self.export, describe_error(error)),
            Err(error) => error.to_string(),
        }
    }

    /// Returns the output that the component reported.
    pub(crate) fn output(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for report in &self.reports {
            if let Report::Output { text, .. } = report {
                all.extend_from_slice(text);
            }
        }
        all
    }
}

/// Formats an error with the name of its case.
pub(crate) fn describe_error(error: &Error) -> String {
    match error {
        Error::InvalidConfig(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|field| format!("`{}` {}", field.path, field.problem)).collect();
            format!("invalid-config: {}", fields.join("; "))
        }
        Error::NotFound(text) => format!("not-found: {text}"),
        Error::Conflict(text) => format!("conflict: {text}"),
        Error::Denied(denial) => format!("denied: {} {}", denial.capability, denial.target),
        Error::Unavailable(hint) => format!("unavailable: {}", hint.reason),
        Error::Timeout(ms) => format!("timeout after {ms} ms"),
        Error::Cancelled => "cancelled".to_owned(),
        Error::Unsupported(text) => format!("unsupported: {text}"),
        Error::Backend(api) => format!("backend: {} {}: {}", api.status, api.reason, api.message),
        Error::Other(text) => format!("other: {text}"),
    }
}
