//! The names of `wasi:http` errors in a cassette.

use wasmtime_wasi_http::Error;

use super::format::RecordedError;

/// The kind of a request that the component abandoned before its response.
pub(super) const GIVEN_UP: &str = "given-up";

impl RecordedError {
    pub(super) fn from_error(error: &Error) -> Self {
        let named = |kind: &str| Self { kind: kind.to_owned(), reason: None };
        match error {
            Error::DnsError { rcode, .. } => Self { kind: "dns-error".to_owned(), reason: rcode.clone() },
            Error::InternalError(reason) => {
                Self { kind: "internal-error".to_owned(), reason: reason.clone() }
            }
            Error::DnsTimeout => named("dns-timeout"),
            Error::DestinationUnavailable => named("destination-unavailable"),
            Error::DestinationIpProhibited => named("destination-ip-prohibited"),
            Error::ConnectionRefused => named("connection-refused"),
            Error::ConnectionTimeout => named("connection-timeout"),
            Error::ConnectionReadTimeout => named("connection-read-timeout"),
            Error::ConnectionTerminated => named("connection-terminated"),
            Error::HttpResponseTimeout => named("http-response-timeout"),
            Error::HttpResponseIncomplete => named("http-response-incomplete"),
            Error::HttpProtocolError => named("http-protocol-error"),
            Error::TlsProtocolError => named("tls-protocol-error"),
            Error::TlsCertificateError => named("tls-certificate-error"),
            other => Self { kind: "internal-error".to_owned(), reason: Some(other.to_string()) },
        }
    }

    /// Returns the `wasi:http` error; none for a request without any outcome.
    pub(super) fn to_error(&self) -> Option<Error> {
        Some(match self.kind.as_str() {
            GIVEN_UP => return None,
            "dns-error" => Error::DnsError { rcode: self.reason.clone(), info_code: None },
            "dns-timeout" => Error::DnsTimeout,
            "destination-unavailable" => Error::DestinationUnavailable,
            "destination-ip-prohibited" => Error::DestinationIpProhibited,
            "connection-refused" => Error::ConnectionRefused,
            "connection-timeout" => Error::ConnectionTimeout,
            "connection-read-timeout" => Error::ConnectionReadTimeout,
            "connection-terminated" => Error::ConnectionTerminated,
            "http-response-timeout" => Error::HttpResponseTimeout,
            "http-response-incomplete" => Error::HttpResponseIncomplete,
            "http-protocol-error" => Error::HttpProtocolError,
            "tls-protocol-error" => Error::TlsProtocolError,
            "tls-certificate-error" => Error::TlsCertificateError,
            other => Error::InternalError(Some(self.reason.clone().unwrap_or_else(|| other.to_owned()))),
        })
    }
}
