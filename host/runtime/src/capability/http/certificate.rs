//! Reads how long the certificate of a TLS server is valid.

use std::time::Duration;

use dagster_ray_policy::Authority;
use hyper_rustls::MaybeHttpsStream;
use tower_service::Service;

use super::client;

/// Maximum time for the connection and the TLS handshake.
const CONNECT: Duration = Duration::from_secs(15);
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Connects to an authority and returns the end of the validity of its certificate, as `2030-01-31T23:59:59Z`. None
/// without TLS. No request is sent.
///
/// # Errors
///
/// The text says why there is no connection, or why the certificate is not trusted.
pub(crate) async fn valid_until(authority: &Authority) -> Result<Option<String>, String> {
    if !authority.origin.is_https() {
        return Ok(None);
    }
    let url =
        authority.origin.to_string().parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let mut connector = client::connector(authority).map_err(|error| error.to_string())?;
    let connected = tokio::time::timeout(CONNECT, connector.call(url))
        .await
        .map_err(|_| format!("no connection within {} s", CONNECT.as_secs()))?;
    let stream = connected.map_err(|error| match client::tls_error(&*error) {
        Some(problem) => problem.to_string(),
        None => error.to_string(),
    })?;
    let MaybeHttpsStream::Https(stream) = stream else { return Ok(None) };
    let certificates = stream.inner().get_ref().1.peer_certificates();
    Ok(certificates.and_then(|chain| chain.first()).and_then(|own| not_after(own)))
}

/// Returns the end of the validity of a certificate in DER (RFC 5280, section 4.1).
fn not_after(certificate: &[u8]) -> Option<String> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    if fields.first() == Some(&VERSION) {
        fields = element(fields)?.2;
    }
    // The serial number, the signature algorithm and the issuer precede the validity.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (tag, validity, _) = element(fields)?;
    let (_, _, rest) = element(validity)?;
    let (kind, time, _) = element(rest)?;
    if tag != SEQUENCE { None } else { written(kind, std::str::from_utf8(time).ok()?) }
}

/// Splits a DER element into its tag, its content, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        (digits.iter().fold(0, |length, &digit| (length << 8) | usize::from(digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Writes a time of a certificate in the format of RFC 3339.
fn written(kind: u8, time: &str) -> Option<String> {
    if !time.is_ascii() {
        return None;
    }
    let (year, rest) = match kind {
        // Two digits stand for 1950 to 2049.
        UTC_TIME => {
            let (year, rest) = time.split_at_checked(2)?;
            let century = if year.parse::<u8>().ok()? < 50 { "20" } else { "19" };
            (format!("{century}{year}"), rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = time.split_at_checked(4)?;
            (year.to_owned(), rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    Some(format!("{year}-{}-{}T{}:{}:{}Z", part(0)?, part(2)?, part(4)?, part(6)?, part(8)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82, length[0], length[1]], content].concat()
    }

    fn certificate(kind: u8, end: &str) -> Vec<u8> {
        let validity = [der(UTC_TIME, b"200101000000Z"), der(kind, end.as_bytes())].concat();
        let fields = [
            der(VERSION, &[2, 1, 2]),
            der(2, &[7]),
            der(SEQUENCE, b"algorithm"),
            der(SEQUENCE, &[0; 300]),
            der(SEQUENCE, &validity),
        ];
        der(SEQUENCE, &der(SEQUENCE, &fields.concat()))
    }

    #[test]
    fn the_end_of_the_validity_is_read_in_both_forms() {
        let end = not_after(&certificate(UTC_TIME, "300131235959Z"));
        assert_eq!(end.as_deref(), Some("2030-01-31T23:59:59Z"));
        let end = not_after(&certificate(GENERALIZED_TIME, "20510131235959Z"));
        assert_eq!(end.as_deref(), Some("2051-01-31T23:59:59Z"));
    }

    #[test]
    fn a_damaged_certificate_has_no_end() {
        let whole = certificate(UTC_TIME, "300131235959Z");
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None);
        }
        assert_eq!(not_after(&certificate(UTC_TIME, "30013")), None);
        assert_eq!(not_after(&certificate(0x02, "300131235959Z")), None);
        assert_eq!(not_after(&[SEQUENCE, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
