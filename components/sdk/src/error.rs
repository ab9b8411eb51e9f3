//! Constructors and messages of the contract's error.
//!
//! The generated type has a `Display` implementation that prints the Rust value. Use [`Error::message`] for
//! a message that a person reads.

use std::io;

use crate::bindings::model::{ApiError, Denial, Error, FieldError, RetryHint};

impl Error {
    /// Returns an `invalid-config` error with one mistake.
    #[must_use]
    pub fn invalid(path: &str, problem: &str, hint: Option<&str>) -> Self {
        Self::InvalidConfig(vec![FieldError {
            path: path.to_owned(),
            problem: problem.to_owned(),
            hint: hint.map(str::to_owned),
        }])
    }

    /// Returns the error for a service that did not respond. `maybe_applied` says whether the service
    /// may have applied the request.
    #[must_use]
    pub fn unavailable(reason: impl Into<String>, maybe_applied: bool) -> Self {
        Self::Unavailable(RetryHint { reason: reason.into(), after_ms: None, maybe_applied })
    }

    /// Returns the error for a service that rejected the request or failed. `status` is the HTTP
    /// status, or 0 without one.
    #[must_use]
    pub fn backend(status: u16, reason: &str, message: impl Into<String>) -> Self {
        Self::Backend(ApiError { status, reason: reason.to_owned(), message: message.into(), details: None })
    }

    /// Returns the error for a request that the host denied. The host adds the grant that would allow
    /// it.
    #[must_use]
    pub fn denied(capability: &str, target: &str) -> Self {
        Self::Denied(Denial {
            capability: capability.to_owned(),
            target: target.to_owned(),
            grant: String::new(),
        })
    }

    /// Returns whether a retry of the same request can succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Backend(api) => api.status == 429 || (500..600).contains(&api.status),
            _ => false,
        }
    }

    /// Returns whether the service may have applied the request although it failed.
    #[must_use]
    pub fn maybe_applied(&self) -> bool {
        match self {
            Self::Unavailable(hint) => hint.maybe_applied,
            Self::Backend(api) => (500..600).contains(&api.status),
            Self::Timeout(_) => true,
            _ => false,
        }
    }

    /// Returns the milliseconds after which the service asks for a retry, if it named a time.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Unavailable(hint) => hint.after_ms,
            _ => None,
        }
    }

    /// Returns the error as a sentence for a person.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::InvalidConfig(fields) => {
                let mistakes: Vec<String> = fields.iter().map(field_message).collect();
                format!("the configuration is wrong: {}", mistakes.join("; "))
            }
            Self::NotFound(what) | Self::Conflict(what) | Self::Unsupported(what) | Self::Other(what) => {
                what.clone()
            }
            Self::Denied(denial) if denial.grant.is_empty() => {
                format!("the host does not allow {}: {}", denial.capability, denial.target)
            }
            Self::Denied(denial) => format!(
                "the host does not allow {}: {}; to allow it, add {}",
                denial.capability, denial.target, denial.grant
            ),
            Self::Unavailable(hint) => hint.reason.clone(),
            Self::Timeout(ms) => format!("not finished within {ms} ms"),
            Self::Cancelled => "cancelled".to_owned(),
            Self::Backend(api) if api.status == 0 => format!("{}: {}", api.reason, api.message),
            Self::Backend(api) => {
                format!("answered {} ({}): {}", api.status, api.reason, api.message)
            }
        }
    }
}

fn field_message(field: &FieldError) -> String {
    match &field.hint {
        Some(hint) => format!("`{}`: {} ({hint})", field.path, field.problem),
        None => format!("`{}`: {}", field.path, field.problem),
    }
}

/// Turns [`Error::NotFound`] into `None`.
///
/// # Errors
/// Any other error.
pub fn optional<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Err(Error::NotFound(_)) => Ok(None),
        other => other.map(Some),
    }
}

/// Carries a contract error through [`std::io`], so that its type survives a generic reader or writer.
#[derive(Debug)]
struct Carried(Error);

impl std::fmt::Display for Carried {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0.message())
    }
}

impl std::error::Error for Carried {}

/// Wraps a contract error in an [`io::Error`], for a reader or a writer to return.
#[must_use]
pub fn into_io(error: Error) -> io::Error {
    io::Error::other(Carried(error))
}

/// Extracts the contract error from an error that a reader or a writer returned.
///
/// `doing` names the operation; it is the prefix of errors that the standard library raised.
#[must_use]
pub fn from_io(error: io::Error, doing: &str) -> Error {
    match error.downcast::<Carried>() {
        Ok(Carried(inner)) => inner,
        Err(other) => Error::Other(format!("{doing}: {other}")),
    }
}

/// Returns the error for a response with an unexpected shape. `doing` names the request.
#[must_use]
pub fn malformed_response(doing: &str, problem: &str) -> Error {
    // The problem quotes field names of the response, which can have any length.
    const MAX_CHARS: usize = 500;

    let (problem, more) = match problem.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => (&problem[..end], "…"),
        None => (problem, ""),
    };
    Error::backend(0, "MalformedAnswer", format!("{doing}: {problem}{more}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Fields, parse};

    #[test]
    fn malformed_response_errors_truncate_long_field_names() {
        let name = "ü".repeat(10_000);
        let response = parse(format!("{{\"m\": {{\"{name}\": 1}}}}").as_bytes()).unwrap();
        let problem = Fields::from_value(&response).unwrap().string_map("m").unwrap_err();
        let text = malformed_response("GET http://head/api/version: invalid response", &problem).message();
        assert!(text.contains("GET http://head") && text.contains("`m.ü"), "{text}");
        assert!(text.len() < 2_000, "{} bytes", text.len());
    }
}
