//! Splitting and percent-encoding of URLs.

use crate::Error;

/// The parts of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// Host and port.
    pub authority: &'a str,
    /// Path, query and fragment; may be empty.
    pub path: &'a str,
}

/// Splits an `http://` or `https://` URL. `setting` names the setting in an error.
pub fn split<'a>(url: &'a str, setting: &str) -> Result<Parts<'a>, Error> {
    let hint = Some("write http://host:port or https://host:port");
    let wrong = |problem: &str| Error::invalid(setting, &format!("`{url}` {problem}"), hint);

    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(wrong("has no scheme"));
    };
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        other => return Err(wrong(&format!("has the scheme `{other}`, not http or https"))),
    };
    let (authority, path) = match rest.find(['/', '?', '#']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    if authority.is_empty() {
        return Err(wrong("has no host"));
    }
    if authority.contains('@') {
        return Err(wrong("contains a user name or a password; the host adds credentials to the request"));
    }
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(wrong("contains white space"));
    }
    Ok(Parts { tls, authority, path })
}

/// Percent-encodes a value for one path segment or one query value.
#[must_use]
pub fn encode(value: &str) -> String {
    use std::fmt::Write as _;

    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_urls_are_rejected_with_the_reason_and_the_setting() {
        for (url, part) in [
            ("localhost:8265", "no scheme"),
            ("ray://head:10001", "`ray`"),
            ("http://", "has no host"),
            ("http://user:secret@head:8265", "user name"),
            ("http://head :8265", "white space"),
        ] {
            let error = split(url, "address").unwrap_err().message();
            assert!(error.contains(part) && error.contains("address"), "{url}: {error}");
        }
        let parts = split("https://head:8265/prefix/a?b=c", "address").unwrap();
        assert_eq!(parts, Parts { tls: true, authority: "head:8265", path: "/prefix/a?b=c" });
    }

    #[test]
    fn encoded_ids_stay_in_one_path_segment() {
        assert_eq!(encode("../a b/ü?#%"), "..%2Fa%20b%2F%C3%BC%3F%23%25");
    }
}
