//! Maps the error codes of `wasi:http` to the contract's errors.

use wasip2::http::types::ErrorCode;

use super::Method;
use crate::Error;

/// Maps an error code to the contract's error.
///
/// If the connection was never established, the service has not applied the request. If it broke or no
/// response arrived, the service may have applied it, unless the method is safe.
pub(super) fn classify(code: &ErrorCode, method: Method, url: &str) -> Error {
    let label = format!("{} {url}", method.name());
    let unsure = !method.is_safe();
    let never = |what: &str| Error::unavailable(format!("{label}: {what}"), false);
    let lost = |what: &str| Error::unavailable(format!("{label}: {what}"), unsure);
    match code {
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => Error::denied("http", url),

        ErrorCode::ConnectionRefused => never("nothing listens there (connection refused)"),
        ErrorCode::ConnectionTimeout => never("the connection timed out"),
        ErrorCode::DnsTimeout => never("the DNS lookup timed out"),
        ErrorCode::DnsError(dns) => never(&format!(
            "the host name cannot be resolved ({})",
            dns.rcode.as_deref().unwrap_or("no reason given")
        )),
        ErrorCode::DestinationNotFound => never("the host name cannot be resolved"),
        ErrorCode::DestinationUnavailable => never("the host cannot be reached"),
        ErrorCode::DestinationIpUnroutable => never("there is no route to the host"),
        ErrorCode::ConnectionLimitReached => never("too many connections are open"),

        ErrorCode::ConnectionTerminated => lost("the connection broke"),
        ErrorCode::ConnectionReadTimeout => lost("the connection timed out while the response was read"),
        ErrorCode::ConnectionWriteTimeout => lost("the connection timed out while the request was sent"),
        ErrorCode::HttpResponseTimeout => lost("timed out while waiting for the response"),
        ErrorCode::HttpResponseIncomplete => lost("the response is incomplete"),
        ErrorCode::HttpProtocolError => lost("the response is not valid HTTP, or the connection broke"),
        ErrorCode::InternalError(reason) => lost(reason.as_deref().unwrap_or("the connection failed")),

        ErrorCode::TlsProtocolError => {
            let message =
                format!("{label}: the TLS handshake failed; write http:// if the service has no TLS");
            Error::backend(0, "TlsProtocolError", message)
        }
        ErrorCode::TlsCertificateError => Error::backend(
            0,
            "TlsCertificateError",
            format!(
                "{label}: the certificate is not trusted; set `verify` to the file of the CA that signed it"
            ),
        ),
        ErrorCode::TlsAlertReceived(alert) => Error::backend(
            0,
            "TlsAlertReceived",
            format!("{label}: {}", alert.alert_message.as_deref().unwrap_or("the service rejected TLS")),
        ),
        other => Error::backend(0, "HttpError", format!("{label}: {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maybe_applied_is_set_only_for_unsafe_requests_that_were_sent() {
        let applied = |code, method| match classify(&code, method, "http://head/") {
            Error::Unavailable(hint) => hint.maybe_applied,
            other => panic!("{other:?}"),
        };
        assert!(!applied(ErrorCode::ConnectionRefused, Method::Post));
        assert!(!applied(ErrorCode::ConnectionTimeout, Method::Post));
        assert!(applied(ErrorCode::ConnectionTerminated, Method::Post));
        assert!(applied(ErrorCode::HttpResponseTimeout, Method::Delete));
        assert!(!applied(ErrorCode::ConnectionTerminated, Method::Get));
    }
}
