//! A client of one service.

use super::{Http, Method, Request, Response, WasiHttp, url};
use crate::{
    Error,
    clock::{Clock, WasiClock},
    model::{ApiError, RetryHint},
    retry::Policy,
};

/// The number of bytes of an error body that are read.
const TEXT_LIMIT: u64 = 16 * 1024;
/// The number of characters of an error body in an error message.
const EXCERPT_CHARS: usize = 500;

/// A client of one service. It retries transient failures, and turns unsuccessful responses into errors.
///
/// The manifest grants the address: `http = ["address"]` allows the configured one. The host adds the
/// configured credentials to each request, so the component never sees them.
///
/// ```
/// use dagster_ray_sdk::{
///     Error,
///     http::{Client, Http},
///     json::Value,
///     testing::{ScriptedHttp, ScriptedResponse, VirtualClock},
/// };
///
/// fn state<H: Http>(service: &Client<H, VirtualClock>, job: &str) -> Result<Value, Error> {
///     service.get(&format!("/jobs/{job}"))?.json("reading a job", &[])
/// }
///
/// // A component calls `Client::new(&address)`. A native test has no host, so it sets the doubles.
/// let http = ScriptedHttp::new([
///     ScriptedResponse::new(503, "busy"),
///     ScriptedResponse::new(200, r#"{"state": "running"}"#),
/// ]);
/// let service = Client::with("http://service:8099", &http, VirtualClock::default())?;
/// assert_eq!(state(&service, "a")?["state"], "running");
/// assert_eq!(http.requests().len(), 2);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Client<H = WasiHttp, C = WasiClock> {
    address: String,
    http: H,
    clock: C,
    policy: Policy,
}

impl Client {
    /// Creates a client of the service at an address such as `http://service:8099`.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for the setting `address`, if it is not an HTTP URL without a query.
    pub fn new(address: &str) -> Result<Self, Error> {
        Self::with(address, WasiHttp, WasiClock)
    }
}

impl<H: Http, C: Clock> Client<H, C> {
    /// Creates a client that uses this HTTP implementation and this clock.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with(address: &str, http: H, clock: C) -> Result<Self, Error> {
        let address = address.trim().trim_end_matches('/');
        if url::split(address, "address")?.path.contains(['?', '#']) {
            let problem = format!("`{address}` contains a query or a fragment");
            return Err(Error::invalid(
                "address",
                &problem,
                Some("write http://host:port or https://host:port"),
            ));
        }
        Ok(Self { address: address.to_owned(), http, clock, policy: Policy::default() })
    }

    /// Sets the retry policy.
    #[must_use]
    pub fn with_retry(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Returns the clock.
    pub const fn clock(&self) -> &C {
        &self.clock
    }

    /// Returns the URL of a path of the service. The path begins with `/`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    /// Creates a request for a path of the service. The path begins with `/`; encode ids in it with
    /// [`url::encode`].
    #[must_use]
    pub fn request(&self, method: Method, path: &str) -> Request {
        Request::new(method, self.url(path))
    }

    /// Sends a GET request.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn get(&self, path: &str) -> Result<Response, Error> {
        self.send(&self.request(Method::Get, path))
    }

    /// Sends a request and returns a response with a status of 200 to 299.
    ///
    /// A transient failure is retried if that cannot apply the request twice: the method is GET, PUT or
    /// DELETE, or the failed request was not applied. A DELETE whose first response was lost can therefore
    /// end with [`Error::NotFound`].
    ///
    /// # Errors
    /// [`Error::NotFound`] for status 404, [`Error::Conflict`] for 409, [`Error::Unavailable`] for 429, 5xx
    /// or no response, [`Error::Denied`] without a grant, and [`Error::Backend`] for any other status.
    pub fn send(&self, request: &Request) -> Result<Response, Error> {
        self.attempt(request, request.method.is_idempotent())
    }

    /// Sends a request as [`Client::send`] does, and retries every transient failure, because the service
    /// applies a repeated request once.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn send_repeatable(&self, request: &Request) -> Result<Response, Error> {
        self.attempt(request, true)
    }

    fn attempt(&self, request: &Request, is_repeatable: bool) -> Result<Response, Error> {
        self.policy.retry(&self.clock, || {
            match self.http.send(request.clone()).and_then(|response| check(response, request)) {
                Err(error) if error.maybe_applied() && !is_repeatable => Ok(Err(error)),
                other => other.map(Ok),
            }
        })?
    }
}

/// Returns a successful response, and turns any other into an error.
fn check(mut response: Response, request: &Request) -> Result<Response, Error> {
    let status = response.status;
    if (200..300).contains(&status) {
        return Ok(response);
    }
    let after_ms = response.retry_after_ms();
    let text = response.text(TEXT_LIMIT)?;
    let reason = format!("{}: status {status}: {}", request.label(), excerpt(&text));
    Err(match status {
        404 => Error::NotFound(reason),
        409 => Error::Conflict(reason),
        429 | 500..=599 => Error::Unavailable(RetryHint {
            reason,
            after_ms,
            maybe_applied: status != 429 && !request.method.is_safe(),
        }),
        _ => Error::Backend(ApiError {
            status,
            reason: "HttpStatus".to_owned(),
            message: reason,
            details: None,
        }),
    })
}

fn excerpt(text: &str) -> &str {
    let text = text.trim();
    match text.char_indices().nth(EXCERPT_CHARS) {
        _ if text.is_empty() => "no reason given",
        Some((end, _)) => &text[..end],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ScriptedHttp, ScriptedResponse, VirtualClock};

    /// Returns the result, and how many requests were sent.
    fn sent(method: Method, is_repeatable: bool, script: &[ScriptedResponse]) -> (Result<u16, Error>, usize) {
        let http = ScriptedHttp::new(script.iter().cloned());
        let client = Client::with("http://service:1/", &http, VirtualClock::default()).unwrap();
        let request = client.request(method, "/jobs");
        let result = if is_repeatable { client.send_repeatable(&request) } else { client.send(&request) };
        (result.map(|response| response.status), http.requests().len())
    }

    #[test]
    fn only_requests_that_can_be_repeated_are_sent_again_after_a_lost_response() {
        let lost = [
            ScriptedResponse::Error(Error::unavailable("the connection broke", true)),
            ScriptedResponse::new(200, "{}"),
        ];
        assert_eq!(sent(Method::Put, false, &lost), (Ok(200), 2));
        assert_eq!(sent(Method::Post, true, &lost), (Ok(200), 2));
        let (result, count) = sent(Method::Post, false, &lost);
        assert!(matches!(result, Err(Error::Unavailable(hint)) if hint.maybe_applied));
        assert_eq!(count, 1);
        let refused = [
            ScriptedResponse::Error(Error::unavailable("connection refused", false)),
            ScriptedResponse::new(201, ""),
        ];
        assert_eq!(sent(Method::Post, false, &refused), (Ok(201), 2));
    }

    #[test]
    fn a_status_that_is_not_a_success_is_an_error_with_the_services_text() {
        let error = |status| {
            let text = "no such job: a";
            let response = ScriptedResponse::new(status, text);
            let (result, count) = sent(Method::Get, false, &vec![response; 100]);
            let error = result.unwrap_err();
            assert!(error.message().contains(text), "{error:?}");
            (error, count)
        };
        assert!(matches!(error(404), (Error::NotFound(_), 1)));
        assert!(matches!(error(409), (Error::Conflict(_), 1)));
        assert!(matches!(error(503), (Error::Unavailable(_), 5..)));
        assert!(matches!(error(401), (Error::Backend(ApiError { status: 401, .. }), 1)));
    }
}
