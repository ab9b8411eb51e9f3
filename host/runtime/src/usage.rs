//! What a call asks of the host, as counts for metrics.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, StatusCode, Uri};

/// What one call asked of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The number of HTTP requests that were sent.
    pub requests: u64,
    /// The number of requests that repeated a failed one: the same method and URL, after no response or after
    /// status 429 or 5xx.
    pub retries: u64,
    /// The number of requests that the policy denied, to any capability.
    pub denials: u64,
}

/// Counts during a call. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct UsageCounter(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    usage: Usage,
    failed: HashSet<Endpoint>,
}

/// The method and URL of a request.
pub(crate) type Endpoint = (Method, Uri);

impl UsageCounter {
    /// Returns the counts so far.
    pub(crate) fn usage(&self) -> Usage {
        self.lock().usage
    }

    /// Counts a request that is about to be sent.
    pub(crate) fn sends(&self, request: &Endpoint) {
        let mut counts = self.lock();
        counts.usage.requests += 1;
        if counts.failed.remove(request) {
            counts.usage.retries += 1;
        }
    }

    /// Notes the status of a response, or `None` if none came.
    pub(crate) fn received(&self, request: Endpoint, status: Option<StatusCode>) {
        let has_failed =
            status.is_none_or(|status| status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error());
        if has_failed {
            self.lock().failed.insert(request);
        }
    }

    /// Counts a denied request.
    pub(crate) fn denied(&self) {
        self.lock().usage.denials += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_retry_if_the_same_one_failed_before() {
        let counter = UsageCounter::default();
        let endpoint = |path: &'static str| (Method::GET, Uri::from_static(path));
        for (path, status) in [
            ("/a", None),
            ("/a", Some(503)),
            ("/b", Some(404)),
            ("/a", Some(200)),
            ("/b", Some(200)),
            ("/a", None),
        ] {
            counter.sends(&endpoint(path));
            let status = status.map(|code| StatusCode::from_u16(code).unwrap());
            counter.received(endpoint(path), status);
        }
        assert_eq!(counter.usage(), Usage { requests: 6, retries: 2, denials: 0 });
    }
}
