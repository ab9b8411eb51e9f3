//! From the conditions that `wasi:http` names to those of the contract.

use wasip2::http::types::ErrorCode;

use super::Method;
use crate::Error;

/// What a failed request means.
///
/// A connection that never came to be cannot have carried anything out. One that broke, or an
/// answer that did not come, leaves that open, unless the request changes nothing anyway.
pub(super) fn classify(code: &ErrorCode, method: Method, url: &str) -> Error {
    let label = format!("{} {url}", method.name());
    let unsure = !method.is_safe();
    let never = |what: &str| Error::unavailable(format!("{label}: {what}"), false);
    let lost = |what: &str| Error::unavailable(format!("{label}: {what}"), unsure);
    match code {
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => Error::denied("http", url),

        ErrorCode::ConnectionRefused => never("nothing listens there (connection refused)"),
        ErrorCode::ConnectionTimeout => never("no connection within the time allowed"),
        ErrorCode::DnsTimeout => never("the name server did not answer"),
        ErrorCode::DnsError(dns) => never(&format!(
            "the host name cannot be resolved ({})",
            dns.rcode.as_deref().unwrap_or("no reason given")
        )),
        ErrorCode::DestinationNotFound => never("the host name cannot be resolved"),
        ErrorCode::DestinationUnavailable => never("the host cannot be reached"),
        ErrorCode::DestinationIpUnroutable => never("there is no route to the host"),
        ErrorCode::ConnectionLimitReached => never("too many connections are open"),

        ErrorCode::ConnectionTerminated => lost("the connection broke"),
        ErrorCode::ConnectionReadTimeout => lost("the answer stopped coming"),
        ErrorCode::ConnectionWriteTimeout => lost("the request could not be sent in time"),
        ErrorCode::HttpResponseTimeout => lost("no answer within the time allowed"),
        ErrorCode::HttpResponseIncomplete => lost("the answer broke off"),
        ErrorCode::HttpProtocolError => lost("what answered does not speak HTTP, or broke off"),
        ErrorCode::InternalError(reason) => lost(reason.as_deref().unwrap_or("the connection failed")),

        ErrorCode::TlsProtocolError => {
            Error::backend(0, "TlsProtocolError", format!("{label}: no TLS connection; is the scheme right?"))
        }
        ErrorCode::TlsCertificateError => Error::backend(
            0,
            "TlsCertificateError",
            format!(
                "{label}: the certificate is not trusted; set `verify` to the file of the authority that signed it"
            ),
        ),
        ErrorCode::TlsAlertReceived(alert) => Error::backend(
            0,
            "TlsAlertReceived",
            format!("{label}: {}", alert.alert_message.as_deref().unwrap_or("the service refused TLS")),
        ),
        other => Error::backend(0, "HttpError", format!("{label}: {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_request_that_went_out_may_have_been_carried_out() {
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
