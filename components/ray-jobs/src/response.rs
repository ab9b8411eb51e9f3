//! Maps Ray's HTTP responses to the contract's errors.
//!
//! The head forwards some requests to an agent. If the agent responds with a 4xx, the head responds with a
//! 500 whose text is a traceback; such a response is treated as the 4xx that it contains.

use dagster_ray_sdk::{
    Error,
    http::{Method, Response},
    json::{self, Map},
    model::{ApiError, RetryHint},
};

/// The number of bytes of an error body that are read.
const TEXT_LIMIT: u64 = 16 * 1024;

/// The text that the head writes before the status of the agent's response.
const RELAYED: &str = "Request failed with status code ";

/// Returns a successful response, and turns any other into the contract's error.
///
/// `missing` is the exact text of Ray's 404 for an object that does not exist. Any other 404 comes from a
/// proxy or from a service that is not Ray.
pub(crate) fn check_response(
    mut response: Response,
    method: Method,
    label: &str,
    missing: Option<&str>,
) -> Result<Response, Error> {
    let status = response.status;
    if (200..300).contains(&status) {
        return Ok(response);
    }
    let after_ms = response.retry_after_ms();
    let text = response.text(TEXT_LIMIT)?;
    let refused = |status: u16, reason: &str, message: String| {
        Error::Backend(ApiError {
            status,
            reason: reason.to_owned(),
            message,
            details: (!text.trim().is_empty()).then(|| details(&text)),
        })
    };
    Err(match status {
        404 if missing.is_some_and(|missing| text.trim() == missing) => {
            Error::NotFound(format!("Ray responded: {}", text.trim()))
        }
        404 => refused(
            status,
            "NotRay",
            format!(
                "{label}: this 404 is not from Ray's Jobs API ({}); check that the address is that of the head's dashboard",
                excerpt(&text)
            ),
        ),
        401 | 403 => refused(
            status,
            "Unauthorized",
            format!(
                "{label}: {}; set RAY_AUTH_TOKEN or write Ray's token to ~/.ray/auth_token",
                excerpt(&text)
            ),
        ),
        300..=399 => refused(
            status,
            "Redirected",
            format!("{label}: the response is a redirect ({status}); write the address that it redirects to"),
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

/// Returns a response body as the JSON details of an error.
fn details(text: &str) -> String {
    let mut details = Map::new();
    details.insert("body".to_owned(), text.into());
    json::text(&details.into())
}

fn relayed_status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once(RELAYED)?;
    rest.get(..3)?.parse().ok()
}

/// Returns the relevant part of an error body. For a traceback that is the last line, which contains the
/// exception.
fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 500;

    let text = text.trim();
    let relevant = if text.contains("Traceback (most recent call last)") {
        text.lines().rev().find(|line| line.chars().any(char::is_alphanumeric)).unwrap_or(text)
    } else {
        text
    };
    if relevant.is_empty() {
        return "no reason given".to_owned();
    }
    match relevant.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &relevant[..end]),
        None => relevant.to_owned(),
    }
}
