//! The `User-Agent` of requests whose component sets none.

use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue};

const AGENT: HeaderValue = HeaderValue::from_static(concat!("dagster-ray/", env!("CARGO_PKG_VERSION")));

/// Adds the header, unless it is set.
///
/// The dashboard of Ray 2.40 responds 500 to a request without it (`browsers_no_post_put_middleware` in
/// `dashboard/http_server_head.py`).
pub(crate) fn add(headers: &mut HeaderMap) {
    headers.entry(USER_AGENT).or_insert(AGENT);
}
