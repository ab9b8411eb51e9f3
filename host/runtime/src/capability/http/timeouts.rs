//! The timeouts of a request.

use std::time::Duration;

use wasmtime_wasi_http::RequestOptions;

/// Maximum time to wait for a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// Maximum time to wait for the start of a response and between its parts. A component can request
/// shorter timeouts.
const RESPONSE: Duration = Duration::from_secs(600);

/// The timeouts of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    pub(super) connect: Duration,
    first_byte: Duration,
    pub(crate) between_bytes: Duration,
}

impl Timeouts {
    /// Returns the timeouts that a component requests, within the maximum.
    pub(super) fn new(requested: Option<RequestOptions>) -> Self {
        let wait = |requested: Option<Duration>, most: Duration| {
            requested.unwrap_or(most).clamp(Duration::from_millis(1), most)
        };
        Self {
            connect: wait(requested.and_then(|options| options.connect_timeout), CONNECT),
            first_byte: wait(requested.and_then(|options| options.first_byte_timeout), RESPONSE),
            between_bytes: wait(requested.and_then(|options| options.between_bytes_timeout), RESPONSE),
        }
    }

    /// Returns the timeout for the response head, connection included.
    pub(crate) fn head(&self) -> Duration {
        self.connect.saturating_add(self.first_byte)
    }
}
