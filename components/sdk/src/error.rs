//! How the contract's error is made and put into words.
//!
//! The generated type brings a `Display` of its own, which prints the Rust value. [`Error::text`]
//! is the one for people.

use std::io;

use crate::bindings::model::{ApiError, Denial, Error, FieldError, RetryHint};

impl Error {
    /// One mistake in a configuration.
    #[must_use]
    pub fn invalid(path: &str, problem: &str, hint: Option<&str>) -> Self {
        Self::InvalidConfig(vec![FieldError {
            path: path.to_owned(),
            problem: problem.to_owned(),
            hint: hint.map(str::to_owned),
        }])
    }

    /// A service that did not answer. `maybe_applied` says whether the request may have been
    /// carried out all the same.
    #[must_use]
    pub fn unavailable(reason: impl Into<String>, maybe_applied: bool) -> Self {
        Self::Unavailable(RetryHint { reason: reason.into(), after_ms: None, maybe_applied })
    }

    /// A service that refused or failed. The status is 0 where there is none.
    #[must_use]
    pub fn backend(status: u16, reason: &str, message: impl Into<String>) -> Self {
        Self::Backend(ApiError { status, reason: reason.to_owned(), message: message.into(), details: None })
    }

    /// A refusal by the host. The host itself adds the grant that would allow it.
    #[must_use]
    pub fn denied(capability: &str, target: &str) -> Self {
        Self::Denied(Denial {
            capability: capability.to_owned(),
            target: target.to_owned(),
            grant: String::new(),
        })
    }

    /// Whether the same request can succeed later without anything else being changed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Backend(api) => api.status == 429 || (500..600).contains(&api.status),
            _ => false,
        }
    }

    /// Whether the request may have been carried out although it failed.
    #[must_use]
    pub fn maybe_applied(&self) -> bool {
        match self {
            Self::Unavailable(hint) => hint.maybe_applied,
            Self::Backend(api) => (500..600).contains(&api.status),
            Self::Timeout(_) => true,
            _ => false,
        }
    }

    /// The error in a sentence, for a person.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::InvalidConfig(fields) => {
                let mistakes: Vec<String> = fields.iter().map(field_text).collect();
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

fn field_text(field: &FieldError) -> String {
    match &field.hint {
        Some(hint) => format!("`{}`: {} ({hint})", field.path, field.problem),
        None => format!("`{}`: {}", field.path, field.problem),
    }
}

/// Carries a contract error through [`std::io`], so that a body can be read with any reader and
/// the typed condition still arrives.
#[derive(Debug)]
struct Carried(Error);

impl std::fmt::Display for Carried {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0.text())
    }
}

impl std::error::Error for Carried {}

/// Wraps a contract error for a reader or a writer to return.
#[must_use]
pub fn into_io(error: Error) -> io::Error {
    io::Error::other(Carried(error))
}

/// Takes the contract error out of what a reader or a writer returned. `doing` says what was
/// going on, for the errors that std itself made.
#[must_use]
pub fn from_io(error: io::Error, doing: &str) -> Error {
    match error.downcast::<Carried>() {
        Ok(Carried(inner)) => inner,
        Err(other) => Error::Other(format!("{doing}: {other}")),
    }
}

/// An answer that is not what it should be. `problem` says what is wrong with it.
#[must_use]
pub fn malformed(doing: &str, problem: &str) -> Error {
    // A problem names fields of the answer, which can be of any length.
    const LONGEST: usize = 500;

    let (problem, more) = match problem.char_indices().nth(LONGEST) {
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
    fn an_answer_of_another_kind_is_not_cited_at_full_length() {
        let name = "ü".repeat(10_000);
        let answer = parse(format!("{{\"m\": {{\"{name}\": 1}}}}").as_bytes()).unwrap();
        let problem = Fields::of(&answer).unwrap().texts("m").unwrap_err();
        let text = malformed("GET http://head/api/version: the answer is not Ray's", &problem).text();
        assert!(text.contains("GET http://head") && text.contains("`m.ü"), "{text}");
        assert!(text.len() < 2_000, "{} bytes", text.len());
    }
}
