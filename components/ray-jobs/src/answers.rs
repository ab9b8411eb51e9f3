//! What Ray's answers mean.
//!
//! The head passes some requests on to an agent, and wraps the agent's refusal in a 500 of its
//! own whose text is a traceback. A refusal stays a refusal here, although it travelled in a 500.

use dagster_ray_sdk::{
    Error,
    http::{Method, Response},
    json::{self, Map},
    model::{ApiError, RetryHint},
};

/// How much of an error's text is kept.
const TEXT_LIMIT: u64 = 16 * 1024;

/// What the head writes before the status of the agent's answer.
const RELAYED: &str = "Request failed with status code ";

/// Passes a success on, and turns everything else into the error that it means.
///
/// `missing` is the exact text with which Ray says that what was asked for does not exist. Any
/// other 404 comes from something in between, or from a service that is no Ray.
pub(crate) fn accept(
    mut response: Response,
    method: Method,
    label: &str,
    missing: Option<&str>,
) -> Result<Response, Error> {
    let status = response.status;
    if (200..300).contains(&status) {
        return Ok(response);
    }
    let after_ms = response
        .header("retry-after")
        .and_then(|seconds| seconds.trim().parse::<u64>().ok())
        .map(|seconds| seconds.saturating_mul(1_000));
    let text = response.text(TEXT_LIMIT)?;
    let refused = |status: u16, reason: &str, message: String| {
        Error::Backend(ApiError {
            status,
            reason: reason.to_owned(),
            message,
            details: (!text.trim().is_empty()).then(|| body(&text)),
        })
    };
    Err(match status {
        404 if missing.is_some_and(|missing| text.trim() == missing) => {
            Error::NotFound(format!("Ray says: {}", text.trim()))
        }
        404 => refused(
            status,
            "NotRay",
            format!(
                "{label}: this 404 is not from Ray's Jobs API ({}); does the address lead to the head's dashboard?",
                excerpt(&text)
            ),
        ),
        401 | 403 => refused(
            status,
            "Unauthorized",
            format!(
                "{label}: {}; Ray wants its token, see RAY_AUTH_TOKEN and ~/.ray/auth_token",
                excerpt(&text)
            ),
        ),
        300..=399 => refused(
            status,
            "Redirected",
            format!("{label}: the address leads elsewhere; write the one it leads to"),
        ),
        500 if let Some(relayed @ 400..=499) = relayed_status(&text) => {
            refused(relayed, "Refused", format!("{label}: {}", excerpt(&text)))
        }
        429 | 500..=599 => Error::Unavailable(RetryHint {
            reason: format!("{label}: answered {status}: {}", excerpt(&text)),
            after_ms,
            maybe_applied: status != 429 && !method.is_safe(),
        }),
        _ => refused(status, "Refused", format!("{label}: {}", excerpt(&text))),
    })
}

/// What was answered, as the details of an error.
fn body(text: &str) -> String {
    let mut details = Map::new();
    details.insert("body".to_owned(), text.into());
    json::text(&details.into())
}

fn relayed_status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once(RELAYED)?;
    rest.get(..3)?.parse().ok()
}

/// The part of an error's text that says what was wrong: of a traceback the last line, where
/// Python puts it.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 500;

    let text = text.trim();
    let telling = if text.contains("Traceback (most recent call last)") {
        text.lines().rev().find(|line| line.chars().any(char::is_alphanumeric)).unwrap_or(text)
    } else {
        text
    };
    if telling.is_empty() {
        return "no reason given".to_owned();
    }
    match telling.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &telling[..end]),
        None => telling.to_owned(),
    }
}
